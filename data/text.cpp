#include "data/text.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/parallel.h"
#include "data/files.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

constexpr size_t looked_at = 8192;   // bytes in which a NUL marks a binary file

// Smaller files (in bytes) are read instead of mapped: a process may have some 65,000 mappings, and folders have more files.
constexpr uintmax_t worth_mapping = 1 << 16;

bool is_binary(std::string_view text) { return text.substr(0, looked_at).find('\0') != std::string_view::npos; }

class Reader {
 public:
  Reader(Corpus& corpus, double val_fraction) : corpus_(corpus), val_fraction_(val_fraction) {}

  void add(const std::string& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (path != "-") {
      QD_CHECK(fs::exists(status), path,
               "expected a text file or a folder, there is none" + (error ? ": " + error.message() : ""),
               "check the path given as data");
    }
    if (path != "-" && fs::is_directory(status)) return add_folder(path);

    const std::string_view text = open(path);
    QD_CHECK(!text.empty(), path, "expected text, the file is empty");
    if (is_binary(text)) corpus_.notes.push_back(path + ": holds NUL bytes, read all the same because it was named");
    take(path, text);
  }

 private:
  void add_folder(const std::string& folder) {
    const size_t before = corpus_.files.size();
    for (const std::string& path : files_below(folder)) {
      const std::string_view text = open(path);
      if (text.empty() || is_binary(text)) {
        corpus_.notes.push_back(path + (text.empty() ? ": skipped, empty" : ": skipped, not a text file"));
        close();
      } else {
        take(path, text);
      }
    }
    QD_CHECK(corpus_.files.size() > before, folder, "expected a folder with text files, found none",
             "hidden, empty and binary files do not count");
  }

  std::string_view open(const std::string& path) {
    std::error_code error;
    const uintmax_t size = fs::file_size(path, error);
    opened_mapping_ = path != "-" && (error || size >= worth_mapping);
    if (opened_mapping_) return corpus_.mapped.emplace_back(path).text();
    return corpus_.read.emplace_back(read_file(path));
  }

  void close() {   // what was opened last
    if (opened_mapping_) {
      corpus_.mapped.pop_back();
    } else {
      corpus_.read.pop_back();
    }
  }

  void take(const std::string& path, std::string_view text) {
    corpus_.files.push_back(path);
    const size_t cut = utf8_boundary(text, static_cast<size_t>(static_cast<double>(text.size()) * (1 - val_fraction_)));
    if (cut > 0) corpus_.training.push_back(text.substr(0, cut));
    if (cut < text.size()) corpus_.held_out.push_back(text.substr(cut));
  }

  Corpus& corpus_;
  double val_fraction_;
  bool opened_mapping_ = false;
};

}  // namespace

Corpus read_corpus(const std::vector<std::string>& paths, double val_fraction) {
  QD_CHECK(!paths.empty(), "data", "expected at least one file or folder of text, got none");
  QD_CHECK(val_fraction >= 0 && val_fraction < 1, "data",
           str("expected a held-out fraction of at least 0 and below 1, got ", val_fraction));
  Corpus corpus;
  Reader reader(corpus, val_fraction);
  for (const std::string& path : paths) reader.add(path);
  return corpus;
}

int64_t text_bytes(std::span<const std::string_view> parts) {
  size_t bytes = 0;
  for (const std::string_view part : parts) bytes += part.size();
  return static_cast<int64_t>(bytes);
}

int64_t broken_bytes(std::span<const std::string_view> parts) {
  constexpr size_t piece = 1 << 20;
  size_t broken = 0;
  for (const std::string_view part : parts) {
    const auto pieces = cut_text(part, piece);
    std::vector<size_t> counts(pieces.size());
    parallel_tasks(static_cast<int64_t>(pieces.size()), [&](int64_t i) { counts[i] = count_invalid_utf8(pieces[i]); });
    for (const size_t count : counts) broken += count;
  }
  return static_cast<int64_t>(broken);
}

std::vector<std::string_view> cut_text(std::string_view text, size_t size, const Boundary& boundary) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    size_t end = 0;
    for (size_t length = size; end == 0; length *= 2) end = boundary(text, std::min(text.size(), length));
    pieces.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return pieces;
}

}  // namespace qd
