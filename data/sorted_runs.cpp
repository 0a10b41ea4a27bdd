#include "data/sorted_runs.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace qd {
namespace {

constexpr size_t buffer_size = 1 << 16;

// The words of one run, one after another: count, length, bytes.
class RunReader {
 public:
  RunReader(const TemporaryFile& file, uint64_t begin, uint64_t end) : file_(file), at_(begin), end_(end) { next(); }

  bool done() const { return done_; }
  const CountedWord& word() const { return word_; }
  void next() {
    done_ = position_ == buffer_.size() && at_ == end_;
    if (done_) return;
    int64_t head[2];   // count, length
    std::memcpy(head, take(sizeof head), sizeof head);
    const auto length = static_cast<size_t>(head[1]);
    word_ = {std::string_view(take(length), length), head[0]};
  }

 private:
  // The next bytes, in one piece. What was taken before is gone, but for the word.
  const char* take(size_t count) {
    if (buffer_.size() - position_ < count) {
      buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(position_));
      position_ = 0;
      const size_t old = buffer_.size();
      const auto more = static_cast<size_t>(std::min<uint64_t>(end_ - at_, std::max(buffer_size, count - old)));
      buffer_.resize(old + more);
      file_.read(buffer_.data() + old, more, at_);
      at_ += more;
    }
    position_ += count;
    return buffer_.data() + position_ - count;
  }

  const TemporaryFile& file_;
  uint64_t at_, end_;
  std::vector<char> buffer_;
  size_t position_ = 0;
  CountedWord word_{};
  bool done_ = false;
};

}  // namespace

SortedRuns::SortedRuns(WordOrder order)
    : order_(order), file_("", "counts", "set TMPDIR to a folder with more room, or give a greater --memory") {}

void SortedRuns::add(std::vector<CountedWord> run) {
  std::sort(run.begin(), run.end(), order_);
  begins_.push_back(file_.size());
  std::vector<char> buffer;
  for (const auto& [word, count] : run) {
    const int64_t head[2] = {count, static_cast<int64_t>(word.size())};
    buffer.insert(buffer.end(), reinterpret_cast<const char*>(head), reinterpret_cast<const char*>(head) + sizeof head);
    buffer.insert(buffer.end(), word.begin(), word.end());
    if (buffer.size() > (1 << 20)) file_.write(buffer.data(), buffer.size()), buffer.clear();
  }
  file_.write(buffer.data(), buffer.size());
}

void SortedRuns::merge(const std::function<void(const CountedWord&)>& f) const {
  std::vector<std::unique_ptr<RunReader>> readers;
  for (size_t i = 0; i < begins_.size(); ++i) {
    readers.push_back(std::make_unique<RunReader>(file_, begins_[i], i + 1 < begins_.size() ? begins_[i + 1] : file_.size()));
    if (readers.back()->done()) readers.pop_back();
  }
  const auto later = [&](const auto& a, const auto& b) { return order_(b->word(), a->word()); };
  std::make_heap(readers.begin(), readers.end(), later);
  while (!readers.empty()) {
    std::pop_heap(readers.begin(), readers.end(), later);
    f(readers.back()->word());
    readers.back()->next();
    if (readers.back()->done()) {
      readers.pop_back();
    } else {
      std::push_heap(readers.begin(), readers.end(), later);
    }
  }
}

}  // namespace qd
