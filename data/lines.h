// Lines of files and of standard input, a block of them at a time.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace qd {

// Calls f(block) for whole lines of a file, or of standard input ("-") as soon as they are there; the very last line may lack its end.
// Throws Error: cannot be read.
void for_each_block(const std::string& path, const std::function<void(std::string_view)>& f);

// The last place <= position behind a line end, for cut_text; 0 where there is none.
inline size_t after_line(std::string_view text, size_t position) {
  return position >= text.size() ? text.size() : position == 0 ? 0 : text.rfind('\n', position - 1) + 1;
}

// Calls f(line, ended): without the line end, and whether there was one.
template <class F>
void for_each_line(std::string_view text, F&& f) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const bool ended = end != std::string_view::npos;
    f(text.substr(0, end), ended);
    text.remove_prefix(ended ? end + 1 : text.size());
  }
}

}  // namespace qd
