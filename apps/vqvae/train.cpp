// bin/vqvae train: pictures in, a run directory out.
#include <chrono>
#include <cmath>
#include <filesystem>

#include "apps/run.h"
#include "apps/vqvae/commands.h"
#include "core/error.h"
#include "core/file.h"
#include "core/signals.h"
#include "data/picture_scores.h"
#include "nn/html.h"
#include "nn/run_report.h"

namespace qd {
namespace {

struct TrainOptions {
  std::vector<std::string> data;
  PictureOptions pictures;
  VQVAEConfig model;
  std::string quantizer = "ema", net = "paper";
  double beta = 1, gamma = 0.25, decay = 0.99;
  bool kmeans = false, no_restart = false, no_mirror = false;
  TrainFlags train;
};

int64_t enlargement(int64_t side) { return std::max<int64_t>(1, 96 / side); }   // small pictures can be seen as well

// Originals in one row, reconstructions below.
Picture rows_of(const Kept& kept, int64_t columns) {
  std::vector<Picture> all;
  for (size_t begin = 0; begin < kept.originals.size(); begin += static_cast<size_t>(columns)) {
    const size_t end = std::min(begin + static_cast<size_t>(columns), kept.originals.size());
    for (const auto* row : {&kept.originals, &kept.from_codes, &kept.from_vectors}) {
      if (row->empty()) continue;
      all.insert(all.end(), row->begin() + static_cast<std::ptrdiff_t>(begin), row->begin() + static_cast<std::ptrdiff_t>(end));
      while (std::ssize(all) % columns != 0) all.push_back({all[0].width, all[0].height, std::vector<uint8_t>(all[0].bytes.size(), 255)});
    }
  }
  return enlarged(grid(all, columns), enlargement(all[0].width));
}

// How often each code was chosen, as a square of brightness: the commonest is white, one that nobody chose is red.
Picture usage_of(const std::vector<int64_t>& counts) {
  const auto side = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(counts.size()))));
  const double most = std::log1p(static_cast<double>(*std::max_element(counts.begin(), counts.end())));
  Picture p{side, side, {}};
  for (size_t k = 0; k < static_cast<size_t>(side * side); ++k) {
    const bool is_code = k < counts.size(), used = is_code && counts[k] > 0;
    const auto light = static_cast<uint8_t>(used ? 40 + 215 * std::log1p(static_cast<double>(counts[k])) / std::max(most, 1e-9) : 0);
    for (const uint8_t value : {is_code && !used ? uint8_t{200} : light, light, light}) p.bytes.push_back(value);
  }
  return enlarged(p, 8);
}

int train(TrainOptions& o, const Command& command) {
  o.train.settle(command);
  const int64_t stride = largest_stride(o.model);
  QD_CHECK(o.pictures.size % stride == 0, "--size", str("expected a multiple of ", stride, ", got ", o.pictures.size));
  o.model.recompute = o.train.recompute > 0;
  o.model.net = o.net == "post" ? PictureNet::post : PictureNet::paper;
  o.model.quantizer.kind = quantizer_named(o.quantizer);
  o.model.quantizer.beta = static_cast<float>(o.beta), o.model.quantizer.gamma = static_cast<float>(o.gamma);
  o.model.quantizer.decay = static_cast<float>(o.decay);
  o.model.quantizer.restart = !o.no_restart, o.model.quantizer.kmeans = o.kmeans ? 10 : 0;
  settle_data(o.data);
  const auto width = static_cast<double>(o.model.width);
  check_memory("--width", width * width * 30 + static_cast<double>(o.model.quantizer.codes * o.model.quantizer.width));
  const auto seed = static_cast<uint64_t>(o.train.seed);
  const auto owner = make_picture_coder(o.model);   // wrong sizes show before any picture is read
  PictureCoder& model = *owner;
  model.initialize(seed);

  const auto set = open_pictures(o.data, o.pictures, faces_drawn, seed);
  const auto val_set = open_val(o.train.val, o.pictures);
  PictureSplit split = split_pictures(set->size(), val_set || o.train.val_fraction == 0 ? 0 : held_out_of(*set, o.train.val_fraction), seed);
  if (val_set) split.held_out = split_pictures(val_set->size(), 0, seed).training;
  const PictureSet& held_out = val_set ? *val_set : *set;
  PictureLoader batches(*set, split.training, {.batch = o.train.batch, .seed = seed, .mirror = !o.no_mirror});

  const auto optimizer = o.train.make_optimizer(model);
  const std::string run = o.train.open_run("vqvae");
  TrainerOptions options = o.train.trainer();
  options.unit = "images", options.units = o.train.batch;
  Trainer trainer(model, *optimizer, options, {.out = run, .parts = {{"loader", &batches}}});
  double waited = 0;   // for pictures, in seconds, since the last evaluation
  int64_t steps = 0;
  trainer.loss = [&] {
    const auto begin = std::chrono::steady_clock::now();
    const Tensor x = batches.next();
    waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), ++steps;
    return model.loss(x);
  };
  PictureScore last;
  if (!split.held_out.empty()) {
    trainer.evaluate = [&] {
      PictureScore now = score(model, held_out, split.held_out);
      if (interrupted()) return Values{};   // of a part of them: dropped
      last = std::move(now);
      const double wait = 1000 * waited / static_cast<double>(std::max<int64_t>(steps, 1));
      waited = 0, steps = 0;
      // As in training, where values are from -1 to 1. The codes' part stands by itself: it says nothing about pictures.
      return Values{{"val_loss", 4 * last.mse}, {"val_codes_loss", last.codes_loss}, {"val_psnr", last.psnr}, {"codes_used", static_cast<double>(last.codes_used())},
                    {"perplexity", last.perplexity()}, {"data_wait_ms", wait}};
    };
  }
  const auto& shown_pictures = split.held_out.empty() ? split.training : split.held_out;
  trainer.picture = [&] {   // the same few at every evaluation
    Kept kept{.most = 8};
    score(model, held_out, shown_pictures, {.keep = &kept, .most = kept.most});
    return kept.from_codes.empty() ? std::string() : png_bytes(enlarged(grid(kept.from_codes, 8), enlargement(o.pictures.size)));
  };
  trainer.report = [&] {
    Kept kept{.most = 32};
    const PictureScore s = score(model, held_out, shown_pictures, {.keep = &kept, .most = kept.most, .vectors = true, .finishes = true});
    const auto pixels = static_cast<double>(o.pictures.size * o.pictures.size);
    const double jpeg = 8 * jpeg_size(kept.originals, s.psnr) / pixels;   // of the same pictures
    for (auto* row : {&kept.originals, &kept.from_codes, &kept.from_vectors}) row->resize(std::min<size_t>(row->size(), 16));
    write_run_report(run, {.loss_unit = "mean squares, values from -1 to 1; training with the codes' distance",
                           .figures = {{"JPEG of the same PSNR", jpeg > 0 ? shown(jpeg) : "none", str("bits per pixel as stb writes it, ", shown(8 * jpeg_head / pixels), " of it the files' heads")},
                                       {"PSNR from codes", shown(s.psnr), str("dB, of ", s.pictures, " pictures")},
                                       {"PSNR from vectors", shown(s.psnr_vectors), "dB, before they are quantised"},
                                       {"parameters", with_commas(model.parameter_count())},
                                       {"bits per pixel", shown(bits_per_pixel(model)), str("a picture is ", with_commas(cells_of(model, o.pictures.size)), " codes")}},
                           .sections = [&](Report& page) {
                             if (kept.originals.empty()) return;
                             page.section("Reconstructions").picture(png_bytes(rows_of(kept, 8)), "Three rows each: the pictures, what their codes give, and what the decoder makes of the vectors before they are quantised.");
                             page.section("Codes").picture(png_bytes(usage_of((last.counts.empty() ? s.counts : last.counts).back())),
                                                           "How often each code of the finest grid is chosen, by its number: the brighter the more often, on a logarithmic scale; red ones never.");
                           }});
  };

  log(str(model.parameter_count(), " parameters, ", split.training.size(), " pictures to learn from, ", split.held_out.size(),
          " held out; the run is in ", run));
  if (o.train.resumes()) {
    trainer.resume();
  } else {
    write_config(run, o.model, o.pictures);
  }
  write_file(run + "/run.json", command.run_file());
  const TrainResult result = trainer();
  note_broken(*set);
  if (val_set) note_broken(*val_set);
  const auto figure = [&](const char* name) { return find(result.best, name) ? *find(result.best, name) : NAN; };
  return finish(o.train, result, "images", run,
                {{"val_psnr", figure("val_psnr")}, {"val_mse", figure("val_loss") / 4}, {"codes_used", figure("codes_used")}, {"perplexity", figure("perplexity")}});
}

}  // namespace

void add_train(App& app) {
  static TrainOptions o;
  static Command* command = nullptr;
  o.train.steps = 10000, o.train.batch = 32, o.train.weight_decay = 0, o.train.beta2 = 0.999;
  o.model.width = 128;
  command = &app.command("train", "Train an auto-encoder with a discrete code on pictures", [] { return train(o, *command); });
  command->option("--data", o.data, "DIR...|faces", "pictures, with all subfolders; faces: drawn ones, as without it")
      .option("--size", o.pictures.size, "N", "side of the squares that the model sees, in pixels; a multiple of 4, of 8 with --levels 2", from_to(4, 1024))
      .option("--crop", o.pictures.crop, "N", "side of the square cut from the middle of a file; 0: the largest", from_to(0, 1 << 14));
  command->group("Model")
      .option("--codes", o.model.quantizer.codes, "K", "how many different codes there are", from_to(2, 1 << 20))
      .option("--dim", o.model.quantizer.width, "D", "numbers in the vector of a code; fsq has log K / log 8 or so, whatever this says", from_to(1, 4096))
      .choice("--quantizer", o.quantizer, {"ema", "vq", "simvq", "fsq"},
              "ema: codes are moving averages; vq: parameters; simvq: a fixed table times a matrix; fsq: rounded numbers, no table")
      .choice("--net", o.net, {"paper", "post"}, "that of the paper's code; that of the post, with batch norms and twice the work")
      .option("--levels", o.model.levels, "1|2", "grids of codes; 2: a coarse one of half the side beside it", from_to(1, 2))
      .option("--width", o.model.width, "N", "channels", from_to(2, 4096));
  o.train.describe(*command);
  command->group("More of the model", true)
      .option("--residual-width", o.model.residual_width, "N", "channels inside a residual block", from_to(1, 4096))
      .option("--residual-blocks", o.model.residual_blocks, "N", "of encoder and decoder each", from_to(0, 64))
      .option("--beta", o.beta, "X", "weight of the codes' distance to the vectors; vq and simvq", at_least(0))
      .option("--gamma", o.gamma, "X", "weight of the vectors' distance to the codes", at_least(0))
      .option("--decay", o.decay, "X", "of the moving averages; ema", fraction())
      .flag("--kmeans", o.kmeans, "codes start as the centres of the first batch; vq and ema")
      .flag("--no-restart", o.no_restart, "codes that nobody chooses stay where they are; ema")
      .flag("--no-mirror", o.no_mirror, "pictures as they are, none mirrored");
}

}  // namespace qd
