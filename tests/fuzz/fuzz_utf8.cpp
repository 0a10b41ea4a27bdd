// Any bytes as text: decoding, splitting, counting and finding words. What must hold is checked here, not only that nothing breaks.
#include <cstdlib>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/utf8.h"
#include "data/discover.h"
#include "data/word_counter.h"

using namespace qd;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  set_threads(1);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  size_t invalid = 0;
  std::string whole;
  for (size_t at = 0; at < size;) {
    const Utf8Char c = decode_utf8(text.substr(at));
    if (c.length < 1 || at + static_cast<size_t>(c.length) > size || c.code > 0x10FFFF) std::abort();
    invalid += !c.valid;
    append_utf8(whole, c.code);
    at += static_cast<size_t>(c.length);
  }
  if (invalid != count_invalid_utf8(text) || count_invalid_utf8(whole) != 0 || complete_utf8_prefix(text) > size) std::abort();
  for (size_t at = 0; at <= size; at += 1 + size / 16)
    if (utf8_boundary(text, at) > at || space_boundary(text, at) > size) std::abort();

  WordCounter counter(
      {.strategy = CountStrategy::batched, .batch = 2, .memory = 0, .split = split_at_space, .boundary = space_boundary});
  counter.add(text);
  int64_t sum = 0;
  const auto summary = counter.finish(0, [&](const CountedWord& w) {
    if (w.count < 1 || count_invalid_utf8(w.word) != 0) std::abort();
    sum += w.count;
  });
  if (sum != summary.total || summary.broken_bytes != static_cast<int64_t>(invalid)) std::abort();
  if (size % 32 == 0)   // takes a hundred times as long as the rest
    discover_words({&text, 1}, {.method = size % 64 ? DiscoverMethod::ngram : DiscoverMethod::best, .min_count = 1});
  return 0;
}
