// bin/vqvae reconstruct: pictures beside what their codes give.
#include <algorithm>
#include <numeric>
#include <optional>

#include "apps/vqvae/commands.h"
#include "core/error.h"
#include "core/log.h"

namespace qd {
namespace {

struct ReconstructOptions {
  std::string model, out;
  std::vector<std::string> data;
  int64_t count = 0;
  bool json = false;
};

int reconstruct(const ReconstructOptions& o) {
  QD_CHECK(!o.out.empty(), "--out", "expected FILE.png or a folder, got none");
  const PictureModel m = load_picture_model(o.model);
  const auto set = open_pictures(o.data, m.pictures, 64, faces_apart);
  std::vector<int64_t> pictures(static_cast<size_t>(o.count > 0 ? std::min(o.count, set->size()) : set->size()));
  std::iota(pictures.begin(), pictures.end(), 0);
  const bool one_file = o.out.ends_with(".png");
  Kept kept{.most = one_file ? 64 : 0};
  ScoreOptions options{.keep = &kept, .ssim = true, .vectors = true};
  std::optional<PictureWriter> writer;
  if (!one_file) {
    writer.emplace(o.out);
    options.each = [&](int64_t number, const Picture& picture) { writer->write(set->name(number), picture); };
  }
  const PictureScore s = score(*m.model, *set, pictures, options);
  note_broken(*set);
  if (one_file) {
    std::vector<Picture> pairs;
    for (size_t i = 0; i < kept.originals.size(); ++i) pairs.push_back(kept.originals[i]), pairs.push_back(kept.from_codes[i]);
    write_png(o.out, grid(pairs, 8));
    if (std::ssize(kept.originals) < s.pictures) log(str(o.out, " shows the first ", kept.originals.size(), "; --out FOLDER takes all"));
  }
  print(str(s.pictures, " pictures: PSNR ", s.psnr, " dB (from the vectors before they are quantised: ", s.psnr_vectors, "), SSIM ", s.ssim, ", ", s.codes_used(), " of ",
            m.model->c.quantizer.codes * m.model->c.levels, " codes in use, perplexity ", s.perplexity(), "\n"));
  if (o.json)
    print_json({{"psnr", s.psnr},
                {"psnr_vectors", s.psnr_vectors},
                {"mse", s.mse},
                {"ssim", s.ssim},
                {"codes_used", s.codes_used()},
                {"perplexity", s.perplexity()},
                {"bits_per_pixel", bits_per_pixel(*m.model)},
                {"pictures", s.pictures}});
  return 0;
}

}  // namespace

void add_reconstruct(App& app) {
  static ReconstructOptions o;
  app.command("reconstruct", "Pictures beside what their codes give, and how near they are", [] { return reconstruct(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--data", o.data, "DIR...|faces", "pictures")
      .option("--count", o.count, "N", "the first N alone; 0: all", at_least(0))
      .option("--out", o.out, "FILE.png|DIR", "a grid of pairs, or a folder with a file for each reconstruction")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
