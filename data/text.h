// Corpora: files and folders of text, mapped into memory, with a part of each held out.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "core/utf8.h"

namespace qd {

struct Corpus {
  std::vector<std::string_view> training, held_out;   // per file, empty parts left out. They live as long as the corpus
  std::vector<std::string> files;                     // what was read, in this order
  std::vector<std::string> notes;                     // "path: why it was skipped", for the log

  std::vector<MappedFile> mapped;                     // where the text lies
  std::deque<std::string> read;                       // ... of small files and standard input
};

// Every path is a file, "-" for standard input, or a folder, of which all text files are taken, in the order of their names,
// subfolders included: hidden, empty and binary files (a NUL in the first 8 KiB) are left out. Held out is the end of each file,
// val_fraction of its bytes, cut between characters. Bytes that are not UTF-8 stay as they are.
// Throws Error: missing, empty or unreadable file, folder without text, val_fraction outside [0, 1).
Corpus read_corpus(const std::vector<std::string>& paths, double val_fraction);

int64_t text_bytes(std::span<const std::string_view> parts);
int64_t broken_bytes(std::span<const std::string_view> parts);   // bytes that are not UTF-8

// A text in pieces of about `size` bytes. boundary(text, position) gives the last place <= position where the text may be cut,
// and text.size() from there on; a piece grows until it has such a place. It sees the text from the piece on: one that looks for a rare place
// would else go back to the beginning for every piece.
using Boundary = std::function<size_t(std::string_view text, size_t position)>;
std::vector<std::string_view> cut_text(std::string_view text, size_t size, const Boundary& boundary = utf8_boundary);

}  // namespace qd
