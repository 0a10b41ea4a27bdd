// bin/vqvae prior: what grids of codes are probable, learned from pictures. sample, interpolate: new pictures.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numbers>

#include "apps/run.h"
#include "apps/vqvae/commands.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "core/signals.h"
#include "data/grids.h"
#include "models/prior.h"
#include "nn/html.h"
#include "nn/run_report.h"

namespace qd {
namespace {

struct PriorFlags {
  std::string model;
  std::vector<std::string> data;
  PriorConfig sizes;
  TrainFlags train;
};

// What a prior sees of a picture: its grid of codes. Of two grids the coarse one stands above the fine one, whose rows are cut in two, and whose
// codes have numbers of their own: so the fine grid depends on all of the coarse one.
struct OneGrid {
  int64_t rows, columns, codes;   // codes: of all grids
};
OneGrid one_grid(const PictureModel& m) {
  const std::vector<int64_t> strides = m.model->strides();
  const int64_t columns = m.pictures.size / strides[0];
  return {cells_of(*m.model, m.pictures.size) / columns, columns, m.model->c.quantizer.codes * std::ssize(strides)};
}

// Such grids of pictures, (N, rows, columns); broken ones are left out.
Tensor grids_of(const PictureModel& m, const PictureSet& set, const std::vector<int64_t>& pictures) {
  const NoGrad off;
  const OneGrid shape = one_grid(m);
  const auto k = static_cast<int32_t>(m.model->c.quantizer.codes);
  std::vector<int32_t> all;
  Progress progress("encoding");
  for (size_t begin = 0; begin < pictures.size(); begin += 32) {
    const Tensor x = picture_batch(set, std::span(pictures).subspan(begin, std::min<size_t>(32, pictures.size() - begin)));
    if (!x.defined()) continue;
    const Codes codes = m.model->codes_of(x);
    for (int64_t n = 0; n < x.dim(0); ++n)
      for (size_t level = 0; level < codes.size(); ++level) {
        const int64_t cells = codes[level].size() / x.dim(0);
        for (int64_t i = 0; i < cells; ++i) all.push_back(codes[level].data<int32_t>()[n * cells + i] + static_cast<int32_t>(level) * k);
      }
    progress.update(static_cast<double>(begin) / static_cast<double>(pictures.size()), "");
  }
  progress.finish();
  QD_CHECK(!all.empty(), "--data", "expected pictures, none of them can be read");
  return tensor(all, {std::ssize(all) / (shape.rows * shape.columns), shape.rows, shape.columns});
}

// And back. A code that a prior draws in the place of another grid's has the same number there.
Codes codes_of_grids(const PictureModel& m, const Tensor& grids) {
  const auto k = static_cast<int32_t>(m.model->c.quantizer.codes);
  const int64_t all = grids.size() / std::max<int64_t>(grids.dim(0), 1);
  Codes codes;
  int64_t first = 0;
  for (const int64_t stride : m.model->strides()) {
    const int64_t side = m.pictures.size / stride;
    Tensor ids = empty({grids.dim(0), side, side}, DType::i32);
    for (int64_t n = 0; n < grids.dim(0); ++n)
      for (int64_t i = 0; i < side * side; ++i) ids.mutable_data<int32_t>()[n * side * side + i] = grids.data<int32_t>()[n * all + first + i] % k;
    codes.push_back(ids);
    first += side * side;
  }
  return codes;
}

// Bits of a code by how often each occurs among the grids to learn from, one more added to each, measured on the others.
double histogram_bits(const Tensor& training, const Tensor& held_out, int64_t codes) {
  const auto counts = code_counts(training, codes);
  const double total = static_cast<double>(training.size() + codes);
  double nats = 0;
  for (const int32_t id : held_out.values<int32_t>()) nats -= std::log(static_cast<double>(counts[static_cast<size_t>(id)] + 1) / total);
  return nats / std::numbers::ln2 / static_cast<double>(held_out.size());
}

double mean_bits(const Prior& prior, const Tensor& grids) {
  const NoGrad off;
  double nats = 0;
  for (int64_t begin = 0; begin < grids.dim(0) && !interrupted(); begin += 16) {
    const Tensor some = grids.row_range(begin, std::min(grids.dim(0), begin + 16));
    nats += prior.loss(some).item() * static_cast<double>(some.dim(0));
  }
  return nats / std::numbers::ln2 / static_cast<double>(grids.dim(0));
}

// prior.json: the kind and the sizes, and whose codes they are.
void write_prior_config(const std::string& folder, const PriorConfig& c, const std::string& fingerprint) {
  const nlohmann::json file = {{"kind", c.kind},   {"codes", c.codes},   {"rows", c.rows},   {"columns", c.columns},      {"width", c.width},
                               {"layers", c.layers}, {"heads", c.heads}, {"dropout", c.dropout}, {"model", fingerprint}};
  write_file(folder + "/prior.json", file.dump(2) + "\n");
}

// Throws Error: none, a damaged one, or one that learned the codes of another model.
PriorConfig read_prior_config(const std::string& folder, const PictureModel& m) {
  QD_CHECK(std::filesystem::exists(folder), folder, "expected a prior, there is none", "bin/vqvae prior trains one");
  const std::string path = folder + "/prior.json";
  const char* hint = "is it what bin/vqvae prior made?";
  const nlohmann::json file = read_json_object(path);
  const JsonFields f(file, path, hint);
  QD_CHECK(f.text("model") == m.fingerprint, folder, "expected a prior of this model's codes, this one learned those of another", "train it again with bin/vqvae prior");
  const PriorConfig c{.kind = f.text("kind"), .codes = f.size("codes", 1, 1 << 20), .rows = f.size("rows", 1, 1024), .columns = f.size("columns", 1, 1024),
                      .width = f.size("width", 1, 1 << 14), .layers = f.size("layers", 1, 1024), .heads = f.size("heads", 1, 1024), .dropout = f.real("dropout")};
  const OneGrid shape = one_grid(m);
  QD_CHECK(c.codes == shape.codes && c.rows == shape.rows && c.columns == shape.columns, path,
           str("expected ", shape.rows, " x ", shape.columns, " codes below ", shape.codes, ", got ", c.rows, " x ", c.columns, " below ", c.codes), hint);
  return c;
}

Picture new_pictures(const PictureModel& m, const Prior& prior, int64_t count, const SampleOptions& o) {
  const NoGrad off;
  const Tensor ids = prior.sample(count, o);
  std::vector<Picture> pictures;
  for (int64_t begin = 0; begin < count; begin += 32) {
    const Tensor y = m.model->picture_of(codes_of_grids(m, ids.row_range(begin, std::min(count, begin + 32))));
    for (int64_t i = 0; i < y.dim(0); ++i) pictures.push_back(to_picture(y, i));
  }
  return grid(pictures, std::max<int64_t>(1, std::llround(std::sqrt(static_cast<double>(count)))));
}

int prior(PriorFlags& o, const Command& command) {
  o.train.settle(command);
  QD_CHECK(!o.model.empty(), "--model", "expected a directory with a model, got none", "bin/vqvae train makes one");
  settle_data(o.data);
  o.model = std::filesystem::absolute(o.model).lexically_normal().string();
  const PictureModel m = load_picture_model(o.model);
  const auto seed = static_cast<uint64_t>(o.train.seed);
  const auto set = open_pictures(o.data, m.pictures, faces_drawn, seed);
  const PictureSplit split = split_pictures(set->size(), held_out_of(*set, o.train.val_fraction), seed);
  QD_CHECK(o.sizes.kind == "attention" || m.model->c.levels == 1, "--kind", "expected attention for a model of two grids, got " + o.sizes.kind,
           "convolutions see one grid");
  const Tensor training = grids_of(m, *set, split.training), held_out = grids_of(m, *set, split.held_out);
  note_broken(*set);
  const int64_t codes = one_grid(m).codes;
  const double histogram = histogram_bits(training, held_out, codes);

  o.sizes.codes = codes, o.sizes.rows = training.dim(1), o.sizes.columns = training.dim(2);
  Prior model(o.sizes);
  model.module().initialize(seed);
  const auto optimizer = o.train.make_optimizer(model.module());
  GridLoader grids(training, o.train.batch, seed);
  if (o.train.resume.empty() && o.train.out.empty()) o.train.out = o.model + "/prior";
  const std::string run = o.train.open_run("prior");
  TrainerOptions options = o.train.trainer();
  options.unit = "images", options.units = o.train.batch;
  Trainer trainer(model.module(), *optimizer, options, {.out = run, .parts = {{"loader", &grids}}});
  trainer.loss = [&] { return model.loss(grids.next()); };
  trainer.evaluate = [&] {
    const double bits = mean_bits(model, held_out);
    return Values{{"val_loss", bits * std::numbers::ln2}, {"val_bits_per_code", bits}};
  };
  trainer.report = [&] {
    write_run_report(run, {.loss_unit = "nats per code",
                           .figures = {{"parameters", with_commas(model.module().parameter_count())}, {"bits per code by how often each occurs", shown(histogram)}},
                           .sections = [&](Report& page) {
                             page.section("New pictures").picture(png_bytes(new_pictures(m, model, 16, {.seed = seed})), "The first sixteen, none is picked.");
                           }});
  };
  log(str(model.module().parameter_count(), " parameters, ", training.dim(0), " pictures to learn from, ", held_out.dim(0), " held out; the histogram of codes takes ",
          shown(histogram), " bits per code; the run is in ", run));
  if (o.train.resumes()) {
    read_prior_config(run, m);
    trainer.resume();
  } else {
    write_prior_config(run, model.c, m.fingerprint);
  }
  write_file(run + "/run.json", command.run_file());
  const TrainResult result = trainer();
  const double* bits = find(result.best, "val_bits_per_code");
  return finish(o.train, result, "images", run, {{"val_bits_per_code", bits ? *bits : NAN}, {"histogram_bits_per_code", histogram}});
}

struct SampleFlags {
  std::string model, prior, out;
  int64_t count = 64, seed = 1, top_k = 0;
  double temperature = 1, top_p = 1;
  bool json = false;
};

int sample(const SampleFlags& o) {
  QD_CHECK(o.out.ends_with(".png"), "--out", str("expected FILE.png, got '", o.out, "'"));
  const auto start = std::chrono::steady_clock::now();
  const PictureModel m = load_picture_model(o.model);
  const std::string folder = o.prior.empty() ? o.model + "/prior" : o.prior;
  Prior prior(read_prior_config(folder, m));
  prior.module().load(read_safetensors(folder + "/model.safetensors"));
  prior.module().evaluate();
  write_png(o.out, new_pictures(m, prior, o.count, {.temperature = o.temperature, .top_p = o.top_p, .top_k = o.top_k, .seed = static_cast<uint64_t>(o.seed)}));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  log(str(o.count, " pictures in ", shown(seconds), " s: ", o.out));
  if (o.json) print_json({{"pictures", o.count}, {"seconds", seconds}});
  return 0;
}

struct InterpolateFlags {
  std::string model, from, to, out;
  int64_t steps = 8;
};

// The encoder's vectors on the straight line between two pictures, quantised and decoded.
int interpolate(const InterpolateFlags& o) {
  QD_CHECK(o.out.ends_with(".png"), "--out", str("expected FILE.png, got '", o.out, "'"));
  QD_CHECK(!o.from.empty() && !o.to.empty(), "interpolate", "expected two pictures, --from and --to");
  const PictureModel m = load_picture_model(o.model);
  const NoGrad off;
  QD_CHECK(m.model->c.levels == 1, "interpolate", "expected a model of one grid, got one of two");
  const auto& model = dynamic_cast<const VQVAE&>(*m.model);
  const auto vectors = [&](const std::string& path) {
    const PictureFolder one({path}, {.side = m.pictures.size, .crop = m.pictures.crop});
    return (*model.encoder)(picture_batch(one, std::vector<int64_t>{0}));
  };
  const Tensor a = vectors(o.from), b = vectors(o.to);
  std::vector<Picture> pictures;
  for (int64_t i = 0; i < o.steps; ++i) {
    const float t = static_cast<float>(i) / static_cast<float>(o.steps - 1);
    pictures.push_back(to_picture(model.decode(model.codebook->encode(a * (1 - t) + b * t)), 0));
  }
  write_png(o.out, grid(pictures, o.steps));
  return 0;
}

}  // namespace

void add_prior(App& app) {
  static PriorFlags o;
  static Command* command = nullptr;
  o.train.steps = 4000, o.train.batch = 16, o.train.weight_decay = 0.01;
  command = &app.command("prior", "Learn what grids of codes are probable, from pictures", [] { return prior(o, *command); });
  command->option("--model", o.model, "DIR", model_help)
      .option("--data", o.data, "DIR...|faces", "the pictures that the model was trained on")
      .choice("--kind", o.sizes.kind, {"attention", "pixelcnn"},
              "a causal transformer with a vector for each row and each column; gated convolutions");
  command->group("Model")
      .option("--width", o.sizes.width, "N", "channels", from_to(1, 1 << 14))
      .option("--layers", o.sizes.layers, "N", "blocks", from_to(1, 1024))
      .option("--heads", o.sizes.heads, "N", "attention heads; a divisor of --width", from_to(1, 1024))
      .option("--dropout", o.sizes.dropout, "X", "in training", fraction());
  o.train.describe(*command);
}

void add_sample(App& app) {
  static SampleFlags o;
  app.command("sample", "New pictures, as probable as the prior says", [] { return sample(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--prior", o.prior, "DIR", "what bin/vqvae prior trained; without it the folder prior in the model's")
      .option("--count", o.count, "N", "how many", from_to(1, 1 << 16))
      .option("--temperature", o.temperature, "X", "below 1: more probable ones", at_least(0))
      .option("--top-k", o.top_k, "N", "only the N most probable codes at each place; 0: all", at_least(0))
      .option("--top-p", o.top_p, "X", "only the most probable codes that together reach this probability", share())
      .option("--seed", o.seed, "N", "of the random numbers", at_least(0))
      .option("--out", o.out, "FILE.png", "a grid of the pictures")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

void add_interpolate(App& app) {
  static InterpolateFlags o;
  app.command("interpolate", "What lies between two pictures", [] { return interpolate(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--from", o.from, "FILE", "a picture")
      .option("--to", o.to, "FILE", "another one")
      .option("--steps", o.steps, "N", "pictures in a row, both ends with them", from_to(2, 64))
      .option("--out", o.out, "FILE.png", "the row");
}

}  // namespace qd
