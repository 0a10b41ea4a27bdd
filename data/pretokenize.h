// GPT-2's splitting of text into the pieces within which byte-pair merges happen. Radford et al. 2019; the regular expression is
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with the classes of data/unicode.h (\s is the property White_Space). A byte that is not UTF-8 counts as a character of the last
// class, neither letter nor number nor white space.
#pragma once

#include <cstddef>
#include <string_view>

namespace qd {

size_t piece_length(std::string_view text);   // bytes of the first piece; text must not be empty

// The last place <= position that is a boundary of pieces whatever stands around it: the parts on both sides, each split for itself,
// give the pieces of the whole. 0 where there is none, text.size() from there on.
size_t piece_boundary(std::string_view text, size_t position);

// Calls f(piece) for all pieces in order.
template <class F>
void for_each_piece(std::string_view text, F&& f) {
  while (!text.empty()) {
    const size_t length = piece_length(text);
    f(text.substr(0, length));
    text.remove_prefix(length);
  }
}

}  // namespace qd
