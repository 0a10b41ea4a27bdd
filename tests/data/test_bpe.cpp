#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "core/error.h"
#include "core/parallel.h"
#include "data/bpe.h"
#include "data/pretokenize.h"
#include "tests/temp_dir.h"

using namespace qd;

namespace {

// Few different words, so that there is something to merge; broken bytes and runs of one letter among them.
std::string random_text(std::mt19937& random, size_t size) {
  const std::string parts[] = {"a",  "b",  "aaa", "ab", "the", " ", "  ", "\n", "'s", "'re", "求", "求导", "é", "12", "!", "\xFF",
                               "\xE6", "aaaaaaa"};
  std::string text;
  while (text.size() < size) text += parts[random() % std::size(parts)];
  return text;
}

// The textbook: counts all pairs anew for each merge.
std::vector<std::string> naive_tokens(std::string_view text, size_t merges) {
  BpeVocabulary v = train_bpe({}, 257);
  std::map<std::vector<int32_t>, int64_t> words;
  for_each_piece(text, [&](std::string_view piece) {
    std::vector<int32_t> word;
    for (const char byte : piece) word.push_back(v.byte_ids[static_cast<unsigned char>(byte)]);
    ++words[word];
  });
  std::vector<std::string> tokens(v.tokens.begin(), v.tokens.begin() + 256);
  while (tokens.size() < 256 + merges) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& [word, count] : words)
      for (size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, count] : counts) {
      const bool is_new = std::find(tokens.begin(), tokens.end(), tokens[pair.first] + tokens[pair.second]) == tokens.end();
      if (count > most && is_new) most = count, best = pair;
    }
    if (most == 1) break;
    std::map<std::vector<int32_t>, int64_t> after;
    for (const auto& [word, count] : words) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
        merged.push_back(here ? static_cast<int32_t>(tokens.size()) : word[i]);
        i += here;
      }
      after[merged] += count;
    }
    words = after;
    tokens.push_back(tokens[best.first] + tokens[best.second]);
  }
  return tokens;
}

}  // namespace

TEST_CASE("bpe: incremental counts learn what counting anew learns, on any number of threads") {
  const int before = threads();
  for (uint32_t seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    const std::string text = random_text(random, 20 + random() % 3000);
    const size_t merges = random() % 60;
    auto expected = naive_tokens(text, merges);
    expected.emplace_back(end_of_text_literal);
    for (const int n : {1, 2, 3}) {
      set_threads(n);
      const std::string_view whole = text;
      CAPTURE(seed);
      CHECK(train_bpe({&whole, 1}, static_cast<int64_t>(257 + merges)).tokens == expected);
    }
  }
  set_threads(before);
}

TEST_CASE("bpe: a text in pieces has the ids of the whole") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text = random_text(random, random() % 300);
    for (int n = 0; n < 3; ++n) text.insert(random() % (text.size() + 1), end_of_text_literal);
    const std::string_view whole = text;
    const BpeTokenizer tokenizer(train_bpe({&whole, 1}, 300));
    const auto ids = tokenizer.encode(text);
    CHECK(tokenizer.decode(ids) == text);
    for (size_t position = 0; position <= text.size(); ++position) {
      const size_t cut = tokenizer.boundary(text, position);
      REQUIRE(cut <= position);
      auto both = tokenizer.encode(whole.substr(0, cut));
      const auto second = tokenizer.encode(whole.substr(cut));
      both.insert(both.end(), second.begin(), second.end());
      CAPTURE(text);
      CAPTURE(cut);
      CHECK(both == ids);
    }
    CHECK(tokenizer.boundary(text, text.size()) == text.size());
  }
}
