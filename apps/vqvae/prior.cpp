// bin/vqvae prior: what grids of codes are probable, learned from pictures.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>

#include "apps/run.h"
#include "apps/vqvae/prior_files.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "core/signals.h"
#include "data/grids.h"
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

double mean_bits(const Prior& prior, const Tensor& grids) {
  const NoGrad off;
  double nats = 0;
  for (int64_t begin = 0; begin < grids.dim(0) && !interrupted(); begin += 16) {
    const Tensor some = grids.row_range(begin, std::min(grids.dim(0), begin + 16));
    nats += prior.loss(some).item() * static_cast<double>(some.dim(0));
  }
  return nats / std::numbers::ln2 / static_cast<double>(grids.dim(0));
}

int prior(PriorFlags& o, const Command& command) {
  o.train.settle(command);
  QD_CHECK(!o.model.empty(), "--model", "expected a directory with a model, got none", "bin/vqvae train makes one");
  settle_data(o.data);
  o.model = std::filesystem::absolute(o.model).lexically_normal().string();
  const PictureModel m = load_picture_model(o.model);
  const auto seed = static_cast<uint64_t>(o.train.seed);
  const auto set = open_pictures(o.data, m.pictures, faces_drawn, seed);
  const auto val_set = open_val(o.train.val, m.pictures);
  QD_CHECK(val_set || o.train.val_fraction > 0, "--val-fraction", "expected a number above 0, or --val, got 0", "bits per code are measured on pictures held out");
  PictureSplit split = split_pictures(set->size(), val_set ? 0 : held_out_of(*set, o.train.val_fraction), seed);
  if (val_set) split.held_out = split_pictures(val_set->size(), 0, seed).training;
  const Tensor training = grids_of(m, *set, split.training), held_out = grids_of(m, val_set ? *val_set : *set, split.held_out);
  note_broken(*set);
  if (val_set) note_broken(*val_set);
  const int64_t codes = one_grid(m).codes;
  o.sizes.levels = m.model->c.levels;
  const double histogram = histogram_bits(training, held_out, codes, o.sizes.levels);

  o.sizes.recompute = o.train.recompute;
  o.sizes.codes = codes, o.sizes.rows = training.dim(1), o.sizes.columns = training.dim(2);
  if (o.sizes.kind == "pixelcnn") {   // as far as a cell's grid reaches, with as much work as the transformer
    if (!command.known("--layers")) o.sizes.layers = std::max<int64_t>(2, (training.dim(2) * o.sizes.levels + 1) / 2);
    if (!command.known("--width")) o.sizes.width = 96;
  }
  Prior model(o.sizes);
  model.module().initialize(seed);
  const auto optimizer = o.train.make_optimizer(model.module());
  GridLoader grids(training, o.train.batch, seed, names_of(*set, split.training));
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
  trainer.picture = [&] { return png_bytes(new_pictures(m, model, 16, {.seed = seed})); };   // the first sixteen, none is picked
  trainer.report = [&] {
    write_run_report(run, {.loss_unit = "nats per code",
                           .figures = {{"parameters", with_commas(model.module().parameter_count())}, {"bits per code by how often each occurs", shown(histogram)}}});
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
      .option("--width", o.sizes.width, "N", "channels; pixelcnn: 96", from_to(1, 1 << 14))
      .option("--layers", o.sizes.layers, "N", "blocks; pixelcnn: as many as see the whole grid", from_to(1, 1024))
      .option("--heads", o.sizes.heads, "N", "attention heads; a divisor of --width", from_to(1, 1024))
      .option("--dropout", o.sizes.dropout, "X", "in training", fraction());
  o.train.describe(*command);
}

}  // namespace qd
