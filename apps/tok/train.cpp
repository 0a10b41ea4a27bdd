// bin/tok train: text in, the files of a tokenizer out.
#include <chrono>
#include <cmath>
#include <filesystem>

#include "apps/language.h"
#include "apps/tok/commands.h"
#include "core/error.h"
#include "core/parallel.h"
#include "data/generated.h"
#include "nn/checkpoint.h"

namespace qd {
namespace {
namespace fs = std::filesystem;

struct TrainOptions {
  std::vector<std::string> data;
  std::string kind = "bpe", out;
  int64_t size = 8000, threads = 0;
  bool json = false;
};

// A folder for the files; those of another tokenizer in it are never mixed with them.
std::string folder_for(const TrainOptions& o) {
  if (o.out.empty()) return next_run_directory("runs", "tok");
  std::error_code error;
  for (const char* name : {"qiudao_tokenizer.json", "vocab.json", "merges.txt", "tokenizer.json"})
    QD_CHECK(!fs::exists(fs::symlink_status(fs::path(o.out) / name, error)), "--out",
             str("expected a folder without a tokenizer, got ", o.out, ", which holds ", name), "choose another folder");
  fs::create_directories(o.out, error);
  QD_CHECK(fs::is_directory(o.out, error), "--out", str("expected a folder that can be made, got ", o.out, ": ", error.message()));
  return o.out;
}

int64_t count_tokens(const Tokenizer& tokenizer, const Corpus& corpus) {
  constexpr size_t piece = 16 << 20;   // of text encoded at once
  int64_t tokens = 0;
  for (const std::string_view part : corpus.training)
    for (const auto text : cut_text(part, piece, [&](std::string_view t, size_t at) { return tokenizer.boundary(t, at); }))
      tokens += std::ssize(tokenizer.encode(text));
  return tokens;
}

int train(const TrainOptions& o, const Command& command) {
  QD_CHECK(o.kind == "bpe" || !command.given("--size"), "--size", "expected no size beside --kind char: every character gets an id");
  if (o.threads > 0) set_threads(static_cast<int>(o.threads));
  const Corpus corpus = o.data.empty() ? generated_corpus(0) : read_corpus(o.data, 0);
  if (o.data.empty()) log("without --data the text is generated: short sentences and sums");
  note_problems(corpus);
  const std::string folder = folder_for(o);
  const auto start = std::chrono::steady_clock::now();
  const auto tokenizer = make_tokenizer(o.kind == "bpe" ? str("bpe:", o.size) : o.kind, corpus.training);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  tokenizer->save(folder);

  const int64_t bytes = text_bytes(corpus.training), tokens = count_tokens(*tokenizer, corpus);
  const double per_token = static_cast<double>(bytes) / static_cast<double>(tokens);
  log(str(tokenizer->size(), " ids learned from ", bytes, " bytes in ", std::round(seconds * 100) / 100, " s; the text has ", tokens, " tokens of ",
          std::round(per_token * 1000) / 1000, " bytes; the tokenizer is in ", folder));
  if (o.json)
    print_json({{"kind", o.kind}, {"size", tokenizer->size()}, {"bytes", bytes}, {"tokens", tokens}, {"bytes_per_token", per_token},
                {"seconds", seconds}, {"out", folder}});
  return 0;
}

}  // namespace

void add_train(App& app) {
  static TrainOptions o;
  static Command* command = nullptr;
  command = &app.command("train", "Learn a tokenizer from text", [] { return train(o, *command); });
  command->option("--data", o.data, "FILE|DIR...", "text to learn from; - is standard input; without it a generated text")
      .choice("--kind", o.kind, {"bpe", "char"}, "pairs of bytes merged as in GPT-2, or characters")
      .option("--size", o.size, "N", "ids of bpe: 256 bytes, the merges, and the end of a text", at_least(257))
      .option("--out", o.out, "DIR", "folder for the tokenizer's files; without it the next free one in runs/")
      .option("--threads", o.threads, "N", "0: all processors", from_to(0, 1024))
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
