// Hugging Face's tokenizer files: written and read back, the variants that exist, and what must be refused.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "data/bpe.h"
#include "data/bpe_letters.h"
#include "tests/errors.h"
#include "tests/temp_dir.h"

using namespace qd;
using test::has;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// The files of a small tokenizer: the bytes, "ab" 256, "abab" 257, <|endoftext|> 258.
struct Files {
  json vocab, config, special, fast;
  std::string merges;

  Files() {
    const test::TempDir folder;
    const std::string_view text = "abab abab abab";
    write_bpe(folder / "", train_bpe({&text, 1}, 259));
    vocab = json::parse(read_file(folder / "vocab.json"));
    config = json::parse(read_file(folder / "tokenizer_config.json"));
    special = json::parse(read_file(folder / "special_tokens_map.json"));
    merges = read_file(folder / "merges.txt");
    fast = {{"version", "1.0"},
            {"truncation", nullptr},
            {"padding", nullptr},
            {"added_tokens", {{{"id", 258}, {"content", "<|endoftext|>"}, {"lstrip", false}, {"special", true}}}},
            {"normalizer", nullptr},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
            {"post_processor", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", ""},
              {"vocab", vocab},
              {"merges", {"a b", "ab ab"}}}}};
  }
  void write(const std::string& folder) const {   // without waiting for the disk, as write_file does
    std::ofstream(folder + "vocab.json") << vocab.dump();
    std::ofstream(folder + "merges.txt") << merges;
    std::ofstream(folder + "tokenizer_config.json") << config.dump();
    std::ofstream(folder + "special_tokens_map.json") << special.dump();
  }
};

std::string failure(const std::string& folder) {
  return test::message_of([&] { load_tokenizer(folder); });
}

const std::string text = "abab <|endoftext|>ababab<|pad|>\xFF";

}  // namespace

TEST_CASE("bpe files: what is written is what Hugging Face reads, and comes back") {
  const test::TempDir folder;
  const std::string_view some = "求导 求导 it's it's\n\n\n\"quoted\\\" \"quoted\\\"\x01\x01\x01\x01";
  const BpeVocabulary v = train_bpe({&some, 1}, 290);
  const BpeTokenizer tokenizer(v);
  tokenizer.save(folder / "");
  const auto again = load_tokenizer(folder / "");
  CHECK(again->kind() == "bpe");
  CHECK(again->size() == tokenizer.size());
  CHECK(again->end_of_text() == tokenizer.size() - 1);
  CHECK(again->encode(some) == tokenizer.encode(some));
  again->save(folder / "");
  CHECK(load_tokenizer(folder / "")->encode(some) == tokenizer.encode(some));

  const json vocab = json::parse(read_file(folder / "vocab.json"));
  CHECK(vocab.size() == v.tokens.size());
  CHECK(vocab["!"] == 0);
  CHECK(vocab["\u0120"] == 220);
  CHECK(vocab["<|endoftext|>"] == v.tokens.size() - 1);
  CHECK(read_file(folder / "merges.txt").starts_with("#version: 0.2\n"));
  CHECK(json::parse(read_file(folder / "tokenizer_config.json"))["tokenizer_class"] == "GPT2Tokenizer");
  CHECK(json::parse(read_file(folder / "special_tokens_map.json"))["eos_token"] == "<|endoftext|>");
  CHECK(!fs::exists(folder / "added_tokens.json"));
}

TEST_CASE("bpe files: letters of bytes") {
  CHECK(letters_of(" ") == "\u0120");
  CHECK(letters_of("\n") == "\u010A");
  CHECK(letters_of("a\xFF") == "a\u00FF");
  CHECK(letters_of("\xAD") == "\u0143");
  std::string all;
  for (int id = 0; id < 256; ++id) all += static_cast<char>(byte_in_gpt2_order(id));
  CHECK(all.starts_with("!\"#"));
  CHECK(bytes_of_letters(letters_of(all)) == all);
  for (const char* wrong : {" ", "\n", "\u0144", "\u00AD", "求", "\xFF", "\x80"}) CHECK(!bytes_of_letters(wrong));
}

TEST_CASE("bpe files: a folder with the two main files alone, with Windows line ends, without a last line end") {
  const Files files;
  const test::TempDir folder;
  const auto check = [&] {
    const auto tokenizer = load_tokenizer(folder / "");
    CHECK(tokenizer->size() == 259);
    CHECK(tokenizer->encode("ababab") == std::vector<int32_t>{257, 256});
    CHECK(tokenizer->encode("<|endoftext|>") == std::vector<int32_t>{258});
  };
  files.write(folder / "");
  check();
  fs::remove(folder / "tokenizer_config.json");
  fs::remove(folder / "special_tokens_map.json");
  check();
  write_file(folder / "merges.txt", "#version: 0.2 - Trained by a program\r\na b\r\nab ab\r\n");
  check();
  write_file(folder / "merges.txt", "#version: 0.2\na b\nab ab");
  check();

  json vocab = files.vocab;   // ids need not be in GPT-2's order, and there need be no <|endoftext|>
  vocab.erase("<|endoftext|>");
  vocab["ab"] = 0, vocab["!"] = 256;
  write_file(folder / "vocab.json", vocab.dump());
  const auto tokenizer = load_tokenizer(folder / "");
  CHECK(tokenizer->end_of_text() == -1);
  CHECK(tokenizer->encode("ab!") == std::vector<int32_t>{0, 256});
  CHECK(tokenizer->encode("<|endoftext|>").size() == 13);
}

TEST_CASE("bpe files: added tokens, in each of the three places that have them, and after saving") {
  const Files files;
  for (int place = 0; place < 3; ++place) {
    const test::TempDir folder;
    Files f = files;
    if (place == 1) f.config["added_tokens_decoder"]["259"] = {{"content", "<|pad|>"}, {"lstrip", false}, {"special", true}};
    if (place == 2) f.vocab["<|pad|>"] = 259, f.config["additional_special_tokens"] = {"<|pad|>"};
    f.special["pad_token"] = {{"content", "<|pad|>"}, {"lstrip", false}};
    f.write(folder / "");
    if (place == 0) write_file(folder / "added_tokens.json", R"({"<|pad|>": 259})");
    const auto tokenizer = load_tokenizer(folder / "");
    CHECK(tokenizer->size() == 260);
    CHECK(tokenizer->encode(text) == std::vector<int32_t>{257, 220, 258, 257, 256, 259, 187});
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
    const test::TempDir saved;
    tokenizer->save(saved / "");
    CHECK(load_tokenizer(saved / "")->encode(text) == tokenizer->encode(text));
  }
}

TEST_CASE("bpe files: tokenizer.json where it is GPT-2's pipeline") {
  const Files files;
  const test::TempDir folder, saved;
  json fast = files.fast;
  const auto check = [&] {
    write_file(folder / "tokenizer.json", fast.dump());
    const auto tokenizer = load_tokenizer(folder / "");
    CHECK(tokenizer->size() == 260);
    CHECK(tokenizer->end_of_text() == 258);
    CHECK(tokenizer->encode(text) == std::vector<int32_t>{257, 220, 258, 257, 256, 259, 187});
    tokenizer->save(saved / "");
    CHECK(load_tokenizer(saved / "")->encode(text) == tokenizer->encode(text));
  };
  fast["added_tokens"].push_back({{"id", 259}, {"content", "<|pad|>"}});
  check();
  fast["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "ab"]])");
  fast.erase("post_processor");
  fast["model"]["dropout"] = 0.0;
  check();

  const std::pair<std::function<void(json&)>, const char*> refused[] = {
      {[](json& f) {
         f["normalizer"] = {{"type", "NFC"}};
       },
       "normalizer"},
      {[](json& f) {
         f["truncation"] = {{"max_length", 512}};
       },
       "truncation"},
      {[](json& f) { f["pre_tokenizer"]["add_prefix_space"] = true; }, "add_prefix_space"},
      {[](json& f) { f["pre_tokenizer"]["use_regex"] = false; }, "use_regex"},
      {[](json& f) {
         f["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "pre_tokenizer"},
      {[](json& f) { f["pre_tokenizer"] = nullptr; }, "pre_tokenizer"},
      {[](json& f) {
         f["post_processor"] = {{"type", "TemplateProcessing"}};
       },
       "post_processor"},
      {[](json& f) { f["decoder"] = 7; }, "decoder"},
      {[](json& f) { f["model"]["type"] = "WordPiece"; }, "WordPiece"},
      {[](json& f) { f["model"]["dropout"] = 0.1; }, "dropout"},
      {[](json& f) { f["model"]["byte_fallback"] = true; }, "byte_fallback"},
      {[](json& f) { f["model"]["ignore_merges"] = true; }, "ignore_merges"},
      {[](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
      {[](json& f) { f["model"] = json::array(); }, "model"},
      {[](json& f) { f["model"].erase("vocab"); }, "vocab"},
      {[](json& f) { f["model"]["merges"] = "a b"; }, "merges"},
      {[](json& f) {
         f["model"]["merges"] = {"a b", 7};
       },
       "merge 1"},
      {[](json& f) { f["model"]["merges"] = {"a"}; }, "merge 0"},
      {[](json& f) { f["model"]["merges"] = {"a b ab"}; }, "merge 0"},
      {[](json& f) { f["model"]["merges"] = json::parse(R"([["a", "b", "a"]])"); }, "merge 0"},
      {[](json& f) { f["model"]["merges"] = json::parse(R"([["a", 7]])"); }, "merge 0"},
      {[](json& f) {
         f["model"]["merges"] = {"ab ab", "a b"};
       },
       "before those that use it"},
      {[](json& f) { f["added_tokens"][0]["lstrip"] = true; }, "lstrip"},
      {[](json& f) { f["added_tokens"][0]["id"] = 3; }, "258"},
      {[](json& f) { f["added_tokens"][0].erase("id"); }, "id"},
      {[](json& f) { f["added_tokens"][0] = "<|endoftext|>"; }, "content"},
      {[](json& f) { f["added_tokens"] = "<|endoftext|>"; }, "added_tokens"},
  };
  for (const auto& c : refused) {
    const std::string expected = c.second;
    json wrong = files.fast;
    c.first(wrong);
    std::ofstream(folder / "tokenizer.json") << wrong.dump();
    CAPTURE(expected);
    CHECK_MESSAGE(has(failure(folder / ""), expected), failure(folder / ""));
    CHECK(has(failure(folder / ""), folder / "tokenizer.json"));
  }
}

TEST_CASE("bpe files: hostile and damaged files are refused with their names") {
  const Files files;
  using Change = std::function<void(Files&)>;
  const std::pair<Change, const char*> cases[] = {
      {[](Files& f) { f.vocab = json::array({"a"}); }, "vocab.json] expected a JSON object"},
      {[](Files& f) { f.vocab = f.config = f.special = json::object(); }, "none for byte 0"},
      {[](Files& f) { f.vocab["ab"] = "256"; }, "expected an id of at least 0, got \"256\""},
      {[](Files& f) { f.vocab["ab"] = 256.0; }, "256.0"},
      {[](Files& f) { f.vocab["ab"] = -1; }, "at least 0, got -1"},
      {[](Files& f) { f.vocab["ab"] = nullptr; }, "null"},
      {[](Files& f) { f.vocab["ab"] = json::array({256}); }, "at least 0, got array"},
      {[](Files& f) { f.vocab["ab"] = 257; }, "got 257 for 'abab' and for 'ab'"},
      {[](Files& f) { f.vocab["ab"] = 259; }, "from 0 to 258 without gaps, as there are 259 tokens, got 259 for 'ab'"},
      {[](Files& f) { f.vocab["ab"] = INT32_MAX; }, "2147483647"},
      {[](Files& f) { f.vocab["ab"] = UINT64_MAX; }, "18446744073709551615"},
      {[](Files& f) { f.vocab["ab"] = 4294967552; }, "4294967552"},   // 256 in 32 bits
      {[](Files& f) { f.vocab["求"] = 259; }, "'求'"},
      {[](Files& f) { f.vocab["a b"] = 259; }, "'a b'"},
      {[](Files& f) { f.vocab[""] = 259; }, "empty"},
      {[](Files& f) { f.vocab["<pad>"] = f.vocab["Q"], f.vocab.erase("Q"); }, "none for byte 81, 'Q'"},
      {[](Files& f) { f.vocab["<pad>"] = f.vocab["\u0120"], f.vocab.erase("\u0120"); }, "none for byte 32"},
      {[](Files& f) { f.vocab.erase("abab"), f.vocab["<|endoftext|>"] = 257; },
       "merges.txt: line 3] expected tokens of the vocabulary, it has no 'abab'"},
      {[](Files& f) {
         f.merges = "";
         f.merges += "a b\n";
       },
       "line 1] expected '#version: 0.2', got 'a b'"},
      {[](Files& f) { f.merges = ""; }, "merges.txt] expected merges, got an empty file"},
      {[](Files& f) { f.merges += "a\n"; }, "line 4] expected two tokens with one blank between them, got 'a'"},
      {[](Files& f) { f.merges += "a b a\n"; }, "line 4"},
      {[](Files& f) { f.merges += "a  b\n"; }, "line 4"},
      {[](Files& f) { f.merges += " b\n"; }, "line 4"},
      {[](Files& f) { f.merges += "a \n"; }, "line 4"},
      {[](Files& f) { f.merges += "\n"; }, "line 4"},
      {[](Files& f) { f.merges += "a \xFF\n"; }, "line 4"},
      {[](Files& f) { f.merges += "ab zz\n"; }, "it has no 'zz'"},
      {[](Files& f) { f.merges += "a b\n"; }, "line 4] expected every merge once, got 'a b' again"},
      {[](Files& f) { f.merges += "b a\n"; }, "it has no 'ba'"},
      {[](Files& f) { f.config["tokenizer_class"] = "BertTokenizer"; },
       "tokenizer_config.json: 'tokenizer_class'] expected null or"},
      {[](Files& f) { f.config["add_prefix_space"] = true; }, "add_prefix_space"},
      {[](Files& f) { f.config["add_prefix_space"] = "no"; }, "add_prefix_space"},
      {[](Files& f) { f.config["add_bos_token"] = true; }, "add_bos_token"},
      {[](Files& f) { f.config = json::array(); }, "tokenizer_config.json] expected a JSON object"},
      {[](Files& f) { f.config["pad_token"] = 7; }, "'pad_token'] expected a text, got 7"},
      {[](Files& f) { f.config["pad_token"] = "[PAD]"; }, "'pad_token'] expected a special token of the vocabulary, got '[PAD]'"},
      {[](Files& f) { f.config["pad_token"] = "a"; }, "none for byte 97"},
      {[](Files& f) { f.config["additional_special_tokens"] = "x"; }, "expected a list"},
      {[](Files& f) { f.config["added_tokens_decoder"] = 7; }, "added_tokens_decoder"},
      {[](Files& f) {
         f.config["added_tokens_decoder"]["x"] = {{"content", "<|pad|>"}};
       },
       "added_tokens_decoder/x"},
      {[](Files& f) {
         f.config["added_tokens_decoder"]["300"] = {{"content", "<|pad|>"}};
       },
       "got 300 for '<|pad|>'"},
      {[](Files& f) {
         f.config["added_tokens_decoder"]["259"] = {{"content", "<|pad|>"}, {"rstrip", true}};
       },
       "rstrip"},
      {[](Files& f) {
         f.config["added_tokens_decoder"]["259"] = {{"content", ""}};
       },
       "empty"},
      {[](Files& f) {
         f.special["eos_token"] = {{"text", "x"}};
       },
       "special_tokens_map.json: 'eos_token'] expected an object with 'content'"},
  };
  for (const auto& c : cases) {
    const std::string expected = c.second;
    const test::TempDir folder;
    Files f = files;
    c.first(f);
    f.write(folder / "");
    CAPTURE(expected);
    CHECK_MESSAGE(has(failure(folder / ""), expected), failure(folder / ""));
    CHECK(has(failure(folder / ""), folder / ""));
  }
}

TEST_CASE("bpe files: files that are no JSON, missing, links in a circle, pipes, far too large") {
  const Files files;
  const test::TempDir folder;
  const std::string vocab = folder / "vocab.json", merges = folder / "merges.txt";
  const auto refused = [&](const std::string& part) { CHECK_MESSAGE(has(failure(folder / ""), part), failure(folder / "")); };
  files.write(folder / "");
  for (const std::string& content :
       {std::string(), std::string("{"), std::string("{\"a\xFF\": 1}"), std::string(R"({"\ud800": 1})"), std::string(200000, '['),
        std::string("\0\0", 2), files.vocab.dump() + "x"}) {
    write_file(vocab, content);
    refused("vocab.json] expected JSON");
  }
  write_file(vocab, R"({"a": 0, "a": 1})");
  refused("expected each key once, got 'a' twice");
  fs::remove(vocab);
  refused("vocab.json");
  fs::create_symlink("vocab.json", vocab);
  refused("vocab.json");
  fs::remove(vocab);
  fs::create_directory(vocab);
  refused("vocab.json");
  fs::remove(vocab);
  mkfifo(vocab.c_str(), 0600);   // must not wait for somebody to write
  refused("vocab.json");
  fs::remove(vocab);
  write_file(vocab, "{}");
  fs::resize_file(vocab, (uint64_t{64} << 20) + 1);   // sparse
  refused("at most");

  files.write(folder / "");
  fs::resize_file(merges, uint64_t{1} << 40);
  refused("merges.txt] expected at most");
  fs::remove(merges);
  refused("merges.txt");
  fs::create_symlink("merges.txt", merges);
  refused("merges.txt");

  const test::TempDir circle;
  fs::create_symlink("round", circle / "round");
  CHECK(has(failure(circle / "round"), circle / "round"));
  CHECK_THROWS_WITH(make_tokenizer(circle / "round", {}), doctest::Contains("bpe:SIZE"));
  CHECK(has(failure(circle / ""), "none of"));
}
