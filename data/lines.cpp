#include "data/lines.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/file.h"
#include "data/text.h"

namespace qd {

void for_each_block(const std::string& path, const std::function<void(std::string_view)>& f) {
  constexpr size_t most = 4 << 20;   // bytes at once, but for longer lines
  if (path != "-") {
    const MappedFile file(path);
    for (const auto block : cut_text(file.text(), most, after_line)) f(block);
    return;
  }
  std::string waiting;   // the beginning of a line
  for (std::string buffer(most, '\0');;) {
    const ssize_t count = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    QD_CHECK(count >= 0, "standard input", str("expected to read from it: ", std::strerror(errno)));
    if (count == 0) break;
    const std::string_view came(buffer.data(), static_cast<size_t>(count));
    const size_t whole = came.rfind('\n') + 1;
    waiting += came.substr(0, whole);
    if (whole == 0) {
      waiting += came;
      continue;
    }
    f(waiting);
    waiting = came.substr(whole);
  }
  if (!waiting.empty()) f(waiting);
}

}  // namespace qd
