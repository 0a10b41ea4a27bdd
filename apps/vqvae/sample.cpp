// bin/vqvae sample, interpolate: new pictures.
#include <chrono>
#include <filesystem>

#include "apps/vqvae/commands.h"
#include "apps/vqvae/prior_files.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "nn/html.h"

namespace qd {
namespace {

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
    QD_CHECK(!std::filesystem::is_directory(path), path, "expected a picture, got a folder");
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
