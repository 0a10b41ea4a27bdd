#include "apps/language.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numbers>

#include "apps/run.h"
#include "core/allocator.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/signals.h"
#include "core/utf8.h"
#include "data/loader.h"
#include "models/gpt_files.h"

namespace qd {
namespace fs = std::filesystem;

void ModelFlags::describe(Command& c) {
  const auto positive = at_least(1);
  c.group("Model")
      .option("--layers", sizes.layers, "N", "blocks", positive)
      .option("--heads", sizes.heads, "N", "attention heads in a block", positive)
      .option("--width", sizes.width, "N", "numbers per token", positive)
      .option("--context", sizes.context, "N", "tokens that the model sees", positive)
      .option("--dropout", sizes.dropout, "P", "probability of dropping a number in training", fraction());
  c.group("More about the model", true)
      .choice("--positions", positions, {"learned", "sinusoidal", "rope", "alibi", "t5", "none"},
              "how it knows the order of tokens")
      .option("--rotary", sizes.rotary, "X", "part of each head's dimensions that rope turns", share())
      .choice("--norm", norm, {"pre", "post", "deepnorm"}, "where the norms stand")
      .choice("--norm-kind", norm_kind, {"layer", "rms"}, "what they are")
      .choice("--activation", activation, {"gelu", "gelu-erf", "relu", "swiglu"}, "of the feed-forward layers")
      .option("--kv-heads", sizes.kv_heads, "N", "heads of keys and values; 0: as many as --heads", at_least(0))
      .option("--hidden", sizes.hidden, "N", "width of the feed-forward layers; 0: four times --width", at_least(0));
}

GPTConfig ModelFlags::config(int64_t vocabulary) const {
  GPTConfig c = sizes;
  c.vocab = vocabulary;
  c.positions = positions_named(positions);
  c.norm = norm_place_named(norm);
  c.norm_kind = norm_kind_named(norm_kind);
  c.activation = activation_named(activation);
  check(c);
  check_memory("--width", weight_count(c));
  return c;
}

GPTConfig ModelFlags::adopt(GPTConfig c, const Command& command) {
  const auto same = [&](const char* option, const auto& given, const auto& own) {
    QD_CHECK(!command.known(option) || given == own, option, str("expected ", own, ", as the model of --init has it, got ", given),
             "without the option the model stays what it is");
  };
  GPTConfig given = c;
  given.hidden = sizes.hidden;
  same("--layers", sizes.layers, c.layers);
  same("--heads", sizes.heads, c.heads);
  same("--width", sizes.width, c.width);
  same("--hidden", hidden_width(given), hidden_width(c));
  same("--kv-heads", sizes.kv_heads ? sizes.kv_heads : c.heads, c.kv_heads ? c.kv_heads : c.heads);
  same("--positions", positions, std::string(name_of(c.positions)));
  same("--rotary", sizes.rotary, c.rotary);
  same("--norm", norm, std::string(name_of(c.norm)));
  same("--norm-kind", norm_kind, std::string(name_of(c.norm_kind)));
  same("--activation", activation, std::string(name_of(c.activation)));
  QD_CHECK(c.mask == Mask::causal, "--init", str("expected a causal model, got the mask ", name_of(c.mask)));
  const int64_t window = command.known("--context") ? sizes.context : c.context;
  QD_CHECK(window <= c.context || c.positions != PositionKind::learned, "--context",
           str("expected at most ", c.context, ", the positions that the model of --init has learned, got ", window));
  if (c.positions != PositionKind::learned) c.context = window;
  if (command.known("--dropout")) c.dropout = sizes.dropout;
  check_memory("--init", weight_count(c));
  sizes = c;
  sizes.context = window;
  positions = name_of(c.positions), norm = name_of(c.norm), norm_kind = name_of(c.norm_kind), activation = name_of(c.activation);
  return c;
}

double Score::bits_per_byte() const { return nats / std::numbers::ln2 / static_cast<double>(bytes); }

Score score(const GPT& model, const Tokenizer& tokenizer, const TokenStream& text, int64_t context, Progress* line) {
  constexpr int64_t tokens_at_once = 8192;
  const NoGrad off;
  const WindowSequence windows(text, std::max<int64_t>(1, tokens_at_once / context), context);
  int32_t first = 0;
  text.read(0, {&first, 1});
  Score s{.bytes = text.text_bytes() - std::ssize(tokenizer.bytes(first))};
  for (int64_t i = 0; i < windows.size() && !interrupted(); ++i) {
    const auto [inputs, targets] = windows[i];
    s.nats += static_cast<double>(model.loss(inputs, targets).item()) * static_cast<double>(targets.size());
    s.tokens += targets.size();
    if (line) line->update(static_cast<double>(s.tokens) / static_cast<double>(windows.targets()), str("loss ", s.loss()));
  }
  return s;
}

std::unique_ptr<Tokenizer> tokenizer_of(const std::string& folder, const std::string& other, int64_t vocabulary) {
  QD_CHECK(!other.empty() || has_tokenizer(folder), folder, "expected the files of a tokenizer in it, there are none",
           "name another one: --tokenizer byte, or the directory that holds it");
  std::error_code ignored;
  QD_CHECK(other.empty() || other == "byte" || fs::is_directory(other, ignored), "--tokenizer",
           str("expected byte, or the directory of a tokenizer, got '", other, "'"));
  auto tokenizer = other.empty() ? load_tokenizer(folder) : make_tokenizer(other, {});
  QD_CHECK(tokenizer->size() == vocabulary, folder,
           str("expected a tokenizer of ", vocabulary, " ids, as config.json says, got one of ", tokenizer->size()),
           "do the files belong together?");
  return tokenizer;
}

LanguageModel load_language_model(const std::string& folder, int64_t context, const std::string& tokenizer) {
  QD_CHECK(!folder.empty(), "--model", "expected the directory of a model, got none", "--model runs/lm-001");
  GPTConfig config = read_config(folder);
  QD_CHECK(context <= config.context || config.positions != PositionKind::learned, "--context",
           str("expected at most ", config.context, ", the positions that this model has learned, got ", context));
  config.context = std::max(config.context, context);

  LanguageModel lm{nullptr, tokenizer_of(folder, tokenizer, config.vocab)};
  lm.model = load_gpt(folder, config);
  lm.model->evaluate();
  lm.model->pack();   // large pages: small matrices of their own are read at two thirds of the speed
  empty_cache();
  return lm;
}

void note_problems(const Corpus& corpus) {
  for (const std::string& note : corpus.notes) log(note);
  const int64_t broken = broken_bytes(corpus.training) + broken_bytes(corpus.held_out);
  if (broken > 0) warn(str(broken, " bytes of the text are not UTF-8; they are taken as single bytes"));
}

std::string write_text(const GPT& model, const Tokenizer& tokenizer, const std::string& prompt, GenerateOptions options) {
  options.end_of_text = tokenizer.end_of_text();
  const auto ids = generate(model, tokenizer.encode(prompt), options, [](int32_t) { return !interrupted(); });
  const std::string text = tokenizer.decode(ids);
  return text.substr(0, complete_utf8_prefix(text));
}

void TextOutput::add(std::string_view bytes) {
  static const bool terminal = isatty(STDOUT_FILENO) == 1;
  waiting_ += bytes;
  const size_t whole = complete_utf8_prefix(waiting_);
  if (whole == 0) return;
  std::string text;
  for (std::string_view rest = std::string_view(waiting_).substr(0, whole); !rest.empty();) {
    const Utf8Char c = decode_utf8(rest);
    append_utf8(text, c.code);
    rest.remove_prefix(static_cast<size_t>(c.length));
  }
  waiting_.erase(0, whole);
  last_ = text.back();
  print(terminal ? printable(text) : text);
}

void TextOutput::finish() {
  if (last_ != '\n') print("\n");
}

}  // namespace qd
