// bin/tok as its users meet it, and bin/lm with what it made.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/safetensors.h"
#include "data/bpe.h"
#include "data/generated.h"
#include "tests/apps/run_app.h"

using namespace qd;
using nlohmann::json;
using test::Arguments;
using test::Outcome;
using test::Process;
using test::program;
namespace fs = std::filesystem;

namespace {

bool are_built() { return test::is_built("tok") && test::is_built("lm"); }

struct Place : test::Workplace {
  Outcome run(Arguments arguments, const std::string& input = "", const std::string& app = "tok") const {
    arguments.insert(arguments.begin(), app);
    return Workplace::run(arguments, input);
  }
};

}  // namespace

TEST_CASE("tok: learns, encodes line by line as the library does, and decodes to the same bytes") {
  if (!are_built()) return;
  const Place at;
  const std::string learned = generated_text(20000);
  write_file(at / "text.txt", learned);
  const Outcome trained = at.run({"train", "--data", "text.txt", "--size", "400", "--out", "new/tok", "--json"});
  CAPTURE(trained.err);
  REQUIRE(trained.status == 0);
  const json result = json::parse(trained.last_line());
  CHECK(result["kind"] == "bpe");
  CHECK(result["size"] == 400);
  CHECK(result["bytes"] == learned.size());
  CHECK(result["out"] == "new/tok");
  const auto tokenizer = load_tokenizer(at / "new/tok");
  CHECK(result["tokens"] == tokenizer->encode(learned).size());

  std::string noise;
  for (int i = 0; i < 3000; ++i) noise += static_cast<char>(i * i % 256);
  const std::string texts[] = {"",
                               "\n",
                               "\n\n",
                               "one line",
                               "a b\n\n  c\r\nlast",
                               "a b\n",
                               std::string("\0\n\0", 3),
                               noise,
                               learned,
                               learned + "<|endoftext|>\n" + std::string(200000, 'x') + "\n" + noise};
  for (const std::string& text : texts) {
    CAPTURE(text.substr(0, 50));
    write_file(at / "in", text);
    const Outcome ids = at.run({"encode", "--model", "new/tok", "in"});
    CHECK(ids.status == 0);
    std::string expected;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string line;
      for (const int32_t id : tokenizer->encode(text.substr(begin, end - begin))) line += str(line.empty() ? "" : " ", id);
      expected += line + (end < text.size() ? "\n" : "");
      begin = end + 1;
    }
    CHECK(ids.out == expected);
    CHECK(at.run({"encode", "--model", "new/tok"}, text).out == expected);
    CHECK(at.run({"encode", "--model", "new/tok", "--threads", "1", "-"}, text).out == expected);
    const Outcome back = at.run({"decode", "--model", "new/tok"}, ids.out);
    CHECK(back.status == 0);
    CHECK(back.out == text);

    const Outcome whole = at.run({"encode", "--model", "new/tok", "--whole", "in"});
    std::string all;
    for (const int32_t id : tokenizer->encode(text)) all += str(all.empty() ? "" : " ", id);
    CHECK(whole.out == all + "\n");
    CHECK(at.run({"decode", "--model", "new/tok", "--whole", "-"}, whole.out).out == text);
  }
  const Outcome told = at.run({"encode", "--model", "new/tok", "--json"}, "no line end");
  CHECK(told.says("bytes per token"));
  CHECK(json::parse(told.last_line())["bytes"] == 11);
  CHECK(at.run({"decode", "--model", "new/tok"}, " \t64\r\n").out == tokenizer->decode(std::vector<int32_t>{64}) + "\n");
}

TEST_CASE("tok: characters, the default text, and what is refused") {
  if (!are_built()) return;
  const Place at;
  CHECK(at.run({}).status == 0);
  const Outcome alone = at.run({"train", "--size", "300"});
  CHECK(alone.status == 0);
  CHECK(fs::exists(at / "runs/tok-001/vocab.json"));
  CHECK(at.run({"train", "--kind", "char", "--data", "-"}, "求导").status == 0);
  CHECK(at.run({"encode", "--model", "runs/tok-002"}, "a求").out == "97 257");   // 导 is the lower code point

  write_file(at / "text.txt", "ab ab ab");
  const std::pair<Arguments, Arguments> cases[] = {
      {{"encode"}, {"--model"}},
      {{"encode", "--model", "missing"}, {"missing"}},
      {{"encode", "--model", "runs/tok-001", "missing.txt"}, {"missing.txt"}},
      {{"encode", "--model", "runs/tok-001", "runs"}, {"runs"}},
      {{"decode", "--model", "runs/tok-001", "text.txt"}, {"text.txt: line 1", "'ab'"}},
      {{"train", "--data", "missing.txt"}, {"missing.txt"}},
      {{"train", "--data", "text.txt", "--out", "runs/tok-001"}, {"--out", "vocab.json"}},
      {{"train", "--data", "text.txt", "--out", "runs/tok-002"}, {"--out", "qiudao_tokenizer.json"}},
      {{"train", "--data", "text.txt", "--out", "text.txt/x"}, {"--out"}},
      {{"train", "--data", "text.txt", "--size", "256"}, {"--size", "257"}},
      {{"train", "--data", "text.txt", "--size", "300", "--kind", "char"}, {"--size"}},
      {{"train", "--data", "text.txt", "--kind", "word"}, {"--kind", "bpe or char"}},
      {{"train", "--data", "text.txt", "--sise", "300"}, {"--size"}},
  };
  for (const auto& [arguments, parts] : cases) {
    const Outcome o = at.run(arguments);
    CAPTURE(o.err);
    CHECK(o.status == 1);
    CHECK(o.says("HINT: "));
    for (const std::string& part : parts) CHECK(o.says(part));
  }
  for (const std::string wrong : {"-1", "300", "99999999999999999999", "1,2", "0x1", "1.5", "+1", "\xFF"}) {
    const Outcome o = at.run({"decode", "--model", "runs/tok-001"}, "1 2\n3\n4 " + wrong + "\n");
    CAPTURE(wrong);
    CHECK(o.status == 1);
    CHECK(o.says("line 3"));
  }
  const Outcome few = at.run({"train", "--data", "text.txt", "--size", "500", "--out", "few"});
  CHECK(few.status == 0);
  CHECK(few.says("warning"));
  CHECK(load_tokenizer(at / "few")->size() == 256 + 2 + 1);   // ab, " ab"
  CHECK_FALSE(at.run({"encode", "--model", "few"}, "ab").says("warning"));
  write_file(at / "few/merges.txt", "#version: 0.2\na b\n");   // cut off: the ids are those of other programs, and not those that were meant
  const Outcome cut = at.run({"encode", "--model", "few"}, "ab ab");
  CHECK(cut.status == 0);
  CHECK(cut.says("few/merges.txt: no merge makes 1 of the 259 tokens, the first is '\u0120ab'"));
  if (fs::exists("/dev/full")) {
    Process full({"/bin/sh", "-c", program("tok") + " encode --model runs/tok-001 text.txt > /dev/full"}, at / "");
    const Outcome o = full.wait();
    CHECK(o.status == 1);
    CHECK(o.says("standard output"));
  }
}

TEST_CASE("tok: bin/lm trains with bpe:SIZE or a folder, resumes in bits, evaluates and writes") {
  if (!are_built()) return;
  const Place at;
  write_file(at / "text.txt", generated_text(6000));
  const auto training = [&](const std::string& out, const std::string& tokenizer, const Arguments& more = {}) {
    Arguments all = {"train", "--data",    "text.txt", "--layers", "1",  "--heads",  "2", "--width",     "16",     "--context",
                     "8",     "--batch",   "4",        "--steps",  "20", "--warmup", "2", "--dropout",   "0.1",    "--accumulate",
                     "2",     "--threads", "1",        "--sample", "9",  "--out",    out, "--tokenizer", tokenizer};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const auto weights = [&](const std::string& run) {
    std::map<std::string, std::string> all;
    for (const auto& [name, tensor] : read_safetensors(at / (run + "/last.safetensors")).tensors)
      all[name] = std::string(reinterpret_cast<const char*>(tensor.data()), static_cast<size_t>(tensor.size()) * 4);
    return all;
  };
  const Outcome whole = at.run(training("whole", "bpe:300"), "", "lm");
  CAPTURE(whole.err);
  REQUIRE(whole.status == 0);
  CHECK(load_tokenizer(at / "whole")->size() == 300);
  REQUIRE(at.run(training("same", "whole"), "", "lm").status == 0);   // the tokenizer of another run
  CHECK(weights("whole") == weights("same"));
  CHECK(read_file(at / "whole/vocab.json") == read_file(at / "same/vocab.json"));

  Arguments command = training("parts", "bpe:300", {"--save-every", "12", "--max-seconds", "500"});
  command.insert(command.begin(), program("lm"));
  Process killed(command, at / "");
  test::until_written(killed, at / "parts/last.safetensors");
  killed.send(SIGKILL);
  killed.wait();
  const Outcome rest = at.run({"train", "--resume", "parts", "--threads", "2"}, "", "lm");
  CAPTURE(rest.err);
  CHECK(rest.status == 0);
  CHECK(weights("whole") == weights("parts"));

  const Outcome score = at.run({"eval", "--model", "whole", "--data", "text.txt", "--json"}, "", "lm");
  CHECK(json::parse(score.last_line())["tokens"] == load_tokenizer(at / "whole")->encode(read_file(at / "text.txt")).size() - 1);
  CHECK(at.run({"sample", "--model", "whole", "--tokens", "5"}, "", "lm").status == 0);
  const Outcome wrong = at.run(training("wrong", "bpe:100"), "", "lm");
  CHECK(wrong.status == 1);
  CHECK(wrong.says("--tokenizer bpe:100"));
  CHECK(!fs::exists(at / "wrong"));
}
