// What the commands share: models in directories, pictures, scores.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/vqvae/commands.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "core/signals.h"
#include "data/cartoon_faces.h"
#include "data/picture_scores.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

std::string fingerprint_of(PictureCoder& model) {
  State state;
  model.save(state);
  uint64_t hash = 0;
  for (const auto& [name, tensor] : state.tensors) {
    if (name.starts_with("encoder")) continue;
    const std::string_view bytes(reinterpret_cast<const char*>(tensor.data()), static_cast<size_t>(tensor.size()) * sizeof(float));
    hash = (hash ^ stream_of(name) ^ stream_of(bytes)) * 0x9E3779B97F4A7C15;
  }
  return str(std::hex, hash);
}

}  // namespace

void write_config(const std::string& folder, const VQVAEConfig& c, const PictureOptions& pictures) {
  const json config = {{"model_type", "qiudao-vqvae"},
                       {"net", c.net == PictureNet::post ? "post" : "paper"},
                       {"levels", c.levels},
                       {"size", pictures.size},
                       {"crop", pictures.crop},
                       {"width", c.width},
                       {"residual_width", c.residual_width},
                       {"residual_blocks", c.residual_blocks},
                       {"quantizer", name_of(c.quantizer.kind)},
                       {"codes", c.quantizer.codes},
                       {"code_width", c.quantizer.width},
                       {"beta", c.quantizer.beta},
                       {"gamma", c.quantizer.gamma},
                       {"decay", c.quantizer.decay}};
  write_file(folder + "/config.json", config.dump(2) + "\n");
}

PictureModel load_picture_model(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const char* hint = "is it the directory of a run of bin/vqvae train?";
  const json config = read_json_object(path);
  const JsonFields f(config, path, hint);
  QD_CHECK(f.text("model_type") == "qiudao-vqvae", path, "expected 'model_type' to be 'qiudao-vqvae'", hint);
  const std::string net = f.text("net");
  QD_CHECK(net == "paper" || net == "post", path, "expected 'net' to be paper or post, got '" + printable(net.substr(0, 100)) + "'", hint);
  const auto weight = [&](const char* key) { return static_cast<float>(f.real(key)); };
  PictureModel m{.pictures = {.size = f.size("size", 4, 1024), .crop = f.size("crop", 0, 1 << 14)}, .model = nullptr, .fingerprint = {}};
  m.model = make_picture_coder({.net = net == "post" ? PictureNet::post : PictureNet::paper,
                                .levels = f.size("levels", 1, 2),
                                .width = f.size("width", 2, 4096),
                                .residual_width = f.size("residual_width", 1, 4096),
                                .residual_blocks = f.size("residual_blocks", 0, 64),
                                .quantizer = {.kind = quantizer_named(f.text("quantizer")),
                                              .codes = f.size("codes", 2, 1 << 20),
                                              .width = f.size("code_width", 1, 4096),
                                              .beta = weight("beta"),
                                              .gamma = weight("gamma"),
                                              .decay = weight("decay")}});
  const int64_t stride = largest_stride(m.model->c);
  QD_CHECK(m.pictures.size % stride == 0, path, str("expected 'size' to be a multiple of ", stride, ", got ", m.pictures.size), hint);
  m.model->load(read_safetensors(folder + "/model.safetensors"));
  m.model->evaluate();
  m.fingerprint = fingerprint_of(*m.model);
  return m;
}

void settle_data(std::vector<std::string>& data) {
  if (data != std::vector<std::string>{"faces"}) return;
  if (fs::exists("faces")) log("'faces' stands for drawn ones; the folder of that name is ./faces");
  data.clear();
}

int64_t held_out_of(const PictureSet& set, double fraction) {
  return std::max<int64_t>(1, std::llround(fraction * static_cast<double>(set.size())));
}

std::unique_ptr<PictureSet> open_pictures(const std::vector<std::string>& data, const PictureOptions& o, int64_t faces, uint64_t seed) {
  std::vector<std::string> settled = data;
  settle_data(settled);
  if (!settled.empty()) return std::make_unique<PictureFolder>(settled, PictureFolder::Options{.side = o.size, .crop = o.crop});
  log(str("the pictures are drawn: ", faces, " cartoon faces", data.empty() ? "; --data takes others" : ""));
  return std::make_unique<CartoonFaces>(faces, o.size, seed);
}

std::unique_ptr<PictureSet> open_val(const std::vector<std::string>& val, const PictureOptions& o) {
  if (val.empty()) return nullptr;
  QD_CHECK(val != std::vector<std::string>{"faces"}, "--val", "expected a folder of pictures, got faces", "of drawn faces a part is held out; a folder of that name is ./faces");
  return open_pictures(val, o, 0, 0);
}

void note_broken(const PictureSet& set) {
  if (const auto broken = set.broken(); !broken.empty()) warn(str(broken.size(), " of ", set.size(), " files are no pictures or are damaged: skipped"));
}

int64_t PictureScore::codes_used() const {
  int64_t used = 0;
  for (const auto& grid : counts) used += std::count_if(grid.begin(), grid.end(), [](int64_t n) { return n > 0; });
  return used;
}

double PictureScore::perplexity() const { return counts.empty() ? 0 : qd::perplexity(counts.back()); }

double bits_per_pixel(const PictureCoder& model) {
  double bits = 0;
  for (const int64_t stride : model.strides()) bits += std::ceil(std::log2(static_cast<double>(model.c.quantizer.codes))) / static_cast<double>(stride * stride);
  return bits;
}

int64_t cells_of(const PictureCoder& model, int64_t size) {
  int64_t cells = 0;
  for (const int64_t stride : model.strides()) cells += (size / stride) * (size / stride);
  return cells;
}

int64_t largest_stride(const VQVAEConfig& config) { return config.levels == 2 ? 8 : 4; }

PictureScore score(PictureCoder& model, const PictureSet& set, const std::vector<int64_t>& pictures, const ScoreOptions& o) {
  const NoGrad off;
  PictureScore s;
  std::vector<int64_t> readable;
  s.counts.assign(model.strides().size(), std::vector<int64_t>(static_cast<size_t>(model.c.quantizer.codes)));
  const auto stopped = [&] { return !o.finishes && interrupted(); };
  for (size_t begin = 0, end; begin < pictures.size() && (o.most == 0 || s.pictures < o.most) && !stopped(); begin = end) {
    end = std::min(pictures.size(), begin + static_cast<size_t>(o.most > 0 ? std::min<int64_t>(32, o.most - s.pictures) : 32));
    const auto some = std::span(pictures).subspan(begin, end - begin);
    const Tensor x = picture_batch(set, some, &readable);
    if (!x.defined()) continue;
    const auto [y, codes_loss, codes] = model.pass(x);
    if (codes_loss.defined()) s.codes_loss += codes_loss.item() * static_cast<double>(x.dim(0));
    for (size_t level = 0; level < codes.size(); ++level) {
      const auto counts = code_counts(codes[level], model.c.quantizer.codes);
      for (size_t k = 0; k < counts.size(); ++k) s.counts[level][k] += counts[k];
    }
    const Tensor plain = o.vectors ? model.unquantised(x) : Tensor();
    const int64_t values = x.size() / x.dim(0);
    for (int64_t i = 0; i < x.dim(0); ++i) {
      const auto of = [&](const Tensor& t) { return std::span(t.data() + i * values, static_cast<size_t>(values)); };
      const double mse = picture_mse(of(y), of(x));
      s.mse += mse, s.psnr += psnr(mse), ++s.pictures;
      if (o.vectors) s.psnr_vectors += psnr(picture_mse(of(plain), of(x)));
      const bool kept = o.keep && std::ssize(o.keep->originals) < o.keep->most;
      if (!kept && !o.ssim && !o.each) continue;
      const Picture original = to_picture(x, i), decoded = to_picture(y, i);
      if (o.ssim) s.ssim += ssim(original, decoded);
      if (o.each) o.each(readable[static_cast<size_t>(i)], decoded);
      if (!kept) continue;
      o.keep->originals.push_back(original), o.keep->from_codes.push_back(decoded);
      if (o.vectors) o.keep->from_vectors.push_back(to_picture(plain, i));
    }
  }
  QD_CHECK(s.pictures > 0 || stopped(), "pictures", str("expected some that can be read, none of ", pictures.size(), " can"),
           "of those held out: another --seed takes others, --val its own");
  const auto n = static_cast<double>(std::max<int64_t>(s.pictures, 1));
  s.mse /= n, s.psnr /= n, s.ssim /= n, s.codes_loss /= n, s.psnr_vectors /= n;
  return s;
}

PictureWriter::PictureWriter(std::string folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  QD_CHECK(!error && fs::is_directory(folder_), folder_, "expected a folder that can be made" + (error ? ": " + error.message() : ""));
  QD_CHECK(fs::is_empty(folder_, error), folder_, "expected a new or an empty folder, something lies in it", "nothing there is overwritten: name another folder");
}

void PictureWriter::write(const std::string& name, const Picture& picture) {
  const std::string stem = fs::path(name).stem().string();
  std::string free = stem;
  for (int n = 2; !taken_.insert(free).second; ++n) free = str(stem, "-", n);
  write_png(folder_ + "/" + free + ".png", picture);
}

}  // namespace qd
