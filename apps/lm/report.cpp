// bin/lm report: the page of a run once more. Training writes it as well.
#include <algorithm>

#include "apps/language.h"
#include "apps/lm/commands.h"
#include "core/error.h"
#include "models/generate.h"
#include "nn/html.h"
#include "nn/run_report.h"

namespace qd {
namespace {

struct ReportOptions {
  std::string model;
};

// What the heads look at in the beginning of a sample. Of a deep model some layers, the first and the last among them.
Heatmaps attention_maps(const GPT& model, const Tokenizer& tokenizer, uint64_t seed) {
  constexpr int64_t most_tokens = 32, most_maps = 144;   // 200 KB in the page
  const int64_t n = std::min(most_tokens, model.c.context), heads = std::min(model.c.heads, most_maps);
  std::vector<int32_t> ids = tokenizer.encode("\n");
  const auto more = generate(model, ids, {.tokens = n, .temperature = 0.8, .seed = seed});
  ids.insert(ids.end(), more.begin(), more.end());
  ids.resize(std::min(ids.size(), static_cast<size_t>(n)));
  const auto tokens = std::ssize(ids);
  Heatmaps maps;
  for (const int32_t id : ids) maps.labels.emplace_back(tokenizer.bytes(id));
  const std::vector<Tensor> layers = model.attention_maps(tensor(ids, {1, tokens}));
  const int64_t shown = std::clamp<int64_t>(most_maps / heads, 1, model.c.layers);
  for (int64_t i = 0; i < shown; ++i) {
    const int64_t layer = shown == 1 ? model.c.layers - 1 : i * (model.c.layers - 1) / (shown - 1);
    Heatmaps::Group group{.title = str("layer ", layer + 1, shown < model.c.layers ? str(" of ", model.c.layers) : "")};
    const float* weights = layers[static_cast<size_t>(layer)].data();
    for (int64_t head = 0; head < heads; ++head, weights += tokens * tokens)
      group.maps.push_back({str("head ", head + 1), {weights, weights + tokens * tokens}});
    maps.groups.push_back(std::move(group));
  }
  return maps;
}

int report(const ReportOptions& o) {
  const LanguageModel lm = load_language_model(o.model);
  write_language_report(o.model, *lm.model, *lm.tokenizer, 1);
  print(o.model + "/report.html\n");
  return 0;
}

}  // namespace

void write_language_report(const std::string& run, GPT& model, const Tokenizer& tokenizer, uint64_t seed) {
  const auto sections = [&](Report& page) {
    page.section("Attention").note("What each head looks at while the model reads the beginning of a sample. A row is a token, and shows the weight of every "
                                   "token up to it: the more colour, the more weight (as its square root).");
    page.heatmaps(attention_maps(model, tokenizer, seed));
  };
  write_run_report(run, {.loss_unit = "nats per token",
                         .figures = {{"parameters", with_commas(model.parameter_count())}, {"vocabulary", with_commas(tokenizer.size()), tokenizer.kind() + " ids"}},
                         .sections = sections});
}

void add_report(App& app) {
  static ReportOptions o;
  app.command("report", "Write the report of a run, report.html in its directory, anew", [] { return report(o); })
      .option("--model", o.model, "DIR", model_help);
}

}  // namespace qd
