#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/utf8.h"
#include "data/bpe.h"
#include "data/bpe_letters.h"
#include "data/pretokenize.h"
#include "tests/root.h"
#include "tests/temp_dir.h"

using namespace qd;
using Ids = std::vector<int32_t>;

namespace {

// Few different words, so that there is something to merge; broken bytes and runs of one letter among them.
std::string random_text(std::mt19937& random, size_t size) {
  const std::string parts[] = {"a",    "b", "aaa", "ab", "the",  " ",    "  ",      "\n",       "'s",     "'re",       "求",
                               "求导", "é", "12",  "!",  "\xFF", "\xE6", "aaaaaaa", "\xB1\x82", "导\xE6", "\U0001F600"};
  std::string text;
  while (text.size() < size) text += parts[random() % std::size(parts)];
  return text;
}

BpeVocabulary trained(std::string_view text, int64_t size) { return train_bpe({&text, 1}, size); }

// The textbook: counts all pairs anew for each merge.
std::vector<std::string> naive_tokens(std::string_view text, size_t merges) {
  const BpeVocabulary bytes = trained("", 257);
  std::map<Ids, int64_t> words;
  for_each_piece(text, [&](std::string_view piece) {
    Ids word;
    for (const char byte : piece) word.push_back(bytes.byte_ids[static_cast<unsigned char>(byte)]);
    ++words[word];
  });
  std::vector<std::string> tokens(bytes.tokens.begin(), bytes.tokens.begin() + 256);
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
    std::map<Ids, int64_t> after;
    for (const auto& [word, count] : words) {
      Ids merged;
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

// GPT-2's encoder as its release has it: the lowest rank of all, its pairs merged from left to right, again.
Ids naive_encode(const BpeVocabulary& v, std::string_view text) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t r = 0; r < v.merges.size(); ++r) ranks[{v.merges[r].left, v.merges[r].right}] = r;
  Ids ids;
  for_each_piece(text, [&](std::string_view piece) {
    Ids word;
    for (const char byte : piece) word.push_back(v.byte_ids[static_cast<unsigned char>(byte)]);
    for (;;) {
      size_t best = v.merges.size();
      for (size_t i = 0; i + 1 < word.size(); ++i)
        if (const auto found = ranks.find({word[i], word[i + 1]}); found != ranks.end()) best = std::min(best, found->second);
      if (best == v.merges.size()) break;
      Ids merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == v.merges[best].left && word[i + 1] == v.merges[best].right;
        merged.push_back(here ? v.merges[best].merged : word[i]);
        i += here;
      }
      word = merged;
    }
    ids.insert(ids.end(), word.begin(), word.end());
  });
  return ids;
}

// Merges of any two tokens in any order, several to the same token: nothing that was learned from a text.
BpeVocabulary made_up(std::mt19937& random, size_t merges) {
  BpeVocabulary v = trained("", 257);
  v.tokens.pop_back();
  v.specials.clear();
  v.end_of_text = -1;
  const std::string bytes = "aab\xE6\xB1\x82\xAF ";
  std::map<std::string, int32_t> ids;
  std::vector<int32_t> known;
  for (const char byte : bytes) known.push_back(v.byte_ids[static_cast<unsigned char>(byte)]);
  std::map<std::pair<int32_t, int32_t>, bool> seen;
  while (v.merges.size() < merges) {
    const int32_t left = known[random() % known.size()], right = known[random() % known.size()];
    const std::string token = v.tokens[static_cast<size_t>(left)] + v.tokens[static_cast<size_t>(right)];
    if (token.size() > 9 || seen[{left, right}]) {
      if (seen.size() > 20 * merges) break;
      seen[{left, right}] = true;
      continue;
    }
    seen[{left, right}] = true;
    const auto [at, is_new] = ids.emplace(token, static_cast<int32_t>(v.tokens.size()));
    if (is_new) v.tokens.push_back(token), known.push_back(at->second);
    v.merges.push_back({left, right, at->second});
  }
  if (random() % 2) std::shuffle(v.merges.begin(), v.merges.end(), random);
  return v;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

nlohmann::json golden() { return nlohmann::json::parse(read_file(test::root() + "/tests/golden/bpe.json")); }

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
      CAPTURE(seed);
      CHECK(trained(text, static_cast<int64_t>(257 + merges)).tokens == expected);
    }
  }
  set_threads(before);
}

TEST_CASE("bpe: counting pieces in parts of a long text gives the same vocabulary on any number of threads") {
  std::mt19937 random(2);
  const std::string text = random_text(random, 5 << 20);
  const int before = threads();
  set_threads(1);
  const auto expected = trained(text, 400).tokens;
  for (const int n : {2, 3}) {
    set_threads(n);
    CHECK(trained(text, 400).tokens == expected);
  }
  set_threads(before);
  const std::string_view parts[] = {text, std::string_view("zq zq zq zq"), std::string_view("")};
  CHECK(train_bpe(parts, 400).tokens.size() == 400);
}

TEST_CASE("bpe: what is learned is GPT-2's order of bytes, merges, and the literal as the last id") {
  const BpeVocabulary v = trained("abab abab<|endoftext|>abab<|endoftext|>", 260);
  CHECK(v.tokens[0] == "!");
  CHECK(v.tokens[v.byte_ids[' ']] == " ");
  CHECK(v.byte_ids[' '] == 220);   // as in GPT-2
  CHECK(std::vector<std::string>(v.tokens.begin() + 256, v.tokens.end()) ==
        std::vector<std::string>{"ab", "abab", "<|endoftext|>"});
  CHECK(v.end_of_text == 258);   // no fourth merge: " abab" occurs once, and the literal is no text to learn from
  CHECK(trained("", 257).tokens.size() == 257);
  CHECK(trained("aaaaaaaa", 300).tokens.size() == 256 + 2 + 1);   // aa, aaaa; the pair of those occurs once
  for (const int64_t size : {INT64_MIN, int64_t{0}, int64_t{100}, int64_t{256}, INT64_MAX})
    CHECK_THROWS_WITH(trained("a", size), doctest::Contains(str("bpe:", size).c_str()));
  for (const char* kind : {"bpe:", "bpe:x", "bpe:4k", "bpe:99999999999999999999", "bpe: 300"})
    CHECK_THROWS_WITH(make_tokenizer(kind, {}), doctest::Contains(kind));
}

TEST_CASE("bpe: encodes as GPT-2's encoder, learned merges and made-up ones in any order") {
  std::mt19937 random(5);
  int out_of_order = 0, made_up_in_order = 0;
  for (int round = 0; round < 60; ++round) {
    const std::string text = random_text(random, 2000);
    const BpeVocabulary v =
        round % 2 ? made_up(random, 1 + random() % 60) : trained(text, 257 + static_cast<int64_t>(random() % 200));
    out_of_order += !in_order(v);
    made_up_in_order += round % 2 && in_order(v);
    const BpeTokenizer tokenizer(v);
    for (int n = 0; n < 20; ++n) {
      std::string some = n % 2 ? random_text(random, random() % 60) : "";
      while (n % 2 == 0 && some.size() < 30 + random() % 100) some += "aab\xE6\xB1\x82\xAF "[random() % 8];
      CAPTURE(round);
      CAPTURE(some);
      const Ids ids = tokenizer.encode(some);
      CHECK(ids == naive_encode(v, some));
      CHECK(tokenizer.encode(some) == ids);   // from the table of words
      CHECK(tokenizer.decode(ids) == some);
    }
  }
  CHECK(out_of_order > 5);
  CHECK(made_up_in_order > 5);
}

TEST_CASE("bpe: all bytes, all characters and noise come back, in parts and on several threads") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  for (uint32_t code = 0; code < 0x110000; code += code < 0x3000 ? 1 : 7)
    if (code < 0xD800 || code >= 0xE000) append_utf8(all, code);
  std::mt19937 random(6);
  for (int i = 0; i < 100000; ++i) all += static_cast<char>(random());
  all += random_text(random, 200000);
  const BpeTokenizer tokenizer(trained(std::string_view(all).substr(all.size() / 2), 2000));
  const int before = threads();
  set_threads(1);
  const Ids one = tokenizer.encode(all);
  set_threads(3);
  CHECK(tokenizer.encode(all) == one);
  set_threads(before);
  CHECK(tokenizer.decode(one) == all);
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("bpe: words without an end are not quadratic") {
  const BpeTokenizer tokenizer(trained(std::string(1000, 'a') + std::string(1000, ' '), 275));
  std::string chinese;
  for (int i = 0; i < 200000; ++i) chinese += i % 3 ? "的" : "求";
  for (const std::string& word : {std::string(1 << 20, 'a'), std::string(1 << 20, ' '), chinese, std::string(100000, '\xFF')}) {
    const Ids ids = tokenizer.encode(word);
    CHECK(tokenizer.decode(ids) == word);
    CHECK(tokenizer.boundary(word, word.size() / 2) == 0);
  }
  CHECK(tokenizer.encode(std::string(1 << 20, 'a')).size() == (1 << 20) / 512);   // 512 is the longest that was learned
}

TEST_CASE("bpe: a text in pieces has the ids of the whole, special texts included") {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text = random_text(random, random() % 200);
    BpeVocabulary v = trained(text, 300);
    const std::vector<std::string> literals = {"<|endoftext|>", "ab a", "a'", "b  ", "the\n", "<|pad|>"};
    for (size_t i = 1; i < literals.size(); ++i) {
      v.specials.push_back({literals[i], static_cast<int32_t>(v.tokens.size())});
      v.tokens.push_back(literals[i]);
    }
    for (int n = 0; n < 4; ++n) text.insert(random() % (text.size() + 1), literals[random() % literals.size()]);
    std::sort(v.specials.begin(), v.specials.end(),
              [](const auto& a, const auto& b) { return a.literal.size() > b.literal.size(); });
    const BpeTokenizer tokenizer(v);
    const std::string_view whole = text;
    const Ids ids = tokenizer.encode(text);
    CHECK(tokenizer.decode(ids) == text);
    for (size_t position = 0; position <= text.size(); ++position) {
      const size_t cut = tokenizer.boundary(text, position);
      REQUIRE(cut <= position);
      Ids both = tokenizer.encode(whole.substr(0, cut));
      const Ids second = tokenizer.encode(whole.substr(cut));
      both.insert(both.end(), second.begin(), second.end());
      CAPTURE(text);
      CAPTURE(cut);
      CHECK(both == ids);
    }
    CHECK(tokenizer.boundary(text, text.size()) == text.size());
  }
}

TEST_CASE("bpe: special texts are taken whole, the leftmost and longest first") {
  BpeVocabulary v = trained("", 257);
  for (const char* literal : {"<|a|>", "<|a|><|b|>", "|><"}) {
    v.specials.push_back({literal, static_cast<int32_t>(v.tokens.size())});
    v.tokens.emplace_back(literal);
  }
  std::sort(v.specials.begin(), v.specials.end(),
            [](const auto& a, const auto& b) { return a.literal.size() > b.literal.size(); });
  const BpeTokenizer tokenizer(v);
  CHECK(tokenizer.end_of_text() == 256);
  CHECK(tokenizer.encode("<|endoftext|>") == Ids{256});
  CHECK(tokenizer.encode("<|endoftext|><|endoftext|>") == Ids{256, 256});
  CHECK(tokenizer.encode("<|endoftext|").size() == 12);
  CHECK(tokenizer.encode("<<|a|>") == Ids{v.byte_ids['<'], 257});
  CHECK(tokenizer.encode("<|a|><|b|>") == Ids{258});
  CHECK(tokenizer.encode("<|a|><|endoftext|>") == Ids{257, 256});
  CHECK(tokenizer.encode("x|><") == Ids{v.byte_ids['x'], 259});
  CHECK(tokenizer.decode(Ids{256, 258}) == "<|endoftext|><|a|><|b|>");
  // A text ends before a special one: all blanks there are one piece.
  const BpeTokenizer blanks(trained("x  <|endoftext|>x  ", 258));
  CHECK(blanks.encode("x  <|endoftext|>") == Ids{blanks.vocabulary().byte_ids['x'], 256, 257});
}

TEST_CASE("bpe: golden texts with the small vocabulary learned in Python") {
  const auto file = golden();
  std::string text;
  for (const auto& c : file["cases"]) text += str(text.empty() ? "" : "\n", from_hex(c["hex"]));
  const BpeVocabulary v = trained(text, 257 + 200);
  REQUIRE(v.merges.size() == file["merges"].size());
  for (size_t i = 0; i < v.merges.size(); ++i) {
    const auto& m = v.merges[i];
    CHECK(letters_of(v.tokens[m.left]) + " " + letters_of(v.tokens[m.right]) == file["merges"][i].get<std::string>());
  }
  const BpeTokenizer tokenizer(v);
  for (const auto& c : file["cases"]) {
    CAPTURE(c["text"].get<std::string>());
    const std::string bytes = from_hex(c["hex"]);
    std::vector<size_t> lengths;
    for_each_piece(bytes, [&](std::string_view piece) { lengths.push_back(piece.size()); });
    CHECK(lengths == c["pieces"].get<std::vector<size_t>>());
    CHECK(tokenizer.encode(bytes) == c["ids"].get<Ids>());
  }
}

TEST_CASE("bpe: golden texts with GPT-2's own vocabulary") {
  const std::string shared = test::root() + "/../shared/data/vocab/gpt2-";
  if (!std::filesystem::exists(shared + "vocab.json")) {
    MESSAGE("skipped: there is no " << shared << "vocab.json");
    return;
  }
  const test::TempDir folder;
  write_file(folder / "vocab.json", read_file(shared + "vocab.json"));
  write_file(folder / "merges.txt", read_file(shared + "merges.txt"));
  const auto tokenizer = load_tokenizer(folder / "");
  CHECK(tokenizer->size() == 50257);
  CHECK(tokenizer->end_of_text() == 50256);
  CHECK(tokenizer->encode("Hello world") == Ids{15496, 995});
  const auto file = golden();
  REQUIRE(file["cases"].size() > 50);
  for (const auto& c : file["cases"]) {
    CAPTURE(c["text"].get<std::string>());
    const std::string bytes = from_hex(c["hex"]);
    const Ids ids = tokenizer->encode(bytes);
    CHECK(ids == c["gpt2"].get<Ids>());
    CHECK(tokenizer->decode(ids) == bytes);
  }
}
