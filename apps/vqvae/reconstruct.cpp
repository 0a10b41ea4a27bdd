// bin/vqvae reconstruct, encode, decode: pictures to codes and back.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "apps/run.h"
#include "apps/vqvae/commands.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/log.h"
#include "core/safetensors.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

struct CodeOptions {
  std::string model, out, codes;
  std::vector<std::string> data;
  int64_t count = 0;
  bool json = false;
};

// Names for PNG files: those of the pictures, and a number behind one that is taken.
class Names {
 public:
  std::string of(const std::string& name) {
    const std::string stem = fs::path(name).stem().string();
    std::string free = stem;
    for (int n = 2; !taken_.insert(free).second; ++n) free = str(stem, "-", n);
    return free + ".png";
  }

 private:
  std::set<std::string> taken_;
};

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  QD_CHECK(!error && fs::is_directory(path), path, "expected a folder that can be made" + (error ? ": " + error.message() : ""));
}

int reconstruct(const CodeOptions& o) {
  QD_CHECK(!o.out.empty(), "--out", "expected FILE.png or a folder, got none");
  const PictureModel m = load_picture_model(o.model);
  const auto set = open_pictures(o.data, m.pictures, 64, 2);
  std::vector<int64_t> pictures(static_cast<size_t>(o.count > 0 ? std::min(o.count, set->size()) : set->size()));
  std::iota(pictures.begin(), pictures.end(), 0);
  const bool one_file = o.out.ends_with(".png");
  Kept kept{.most = one_file ? 64 : std::ssize(pictures)};
  const PictureScore s = score(*m.model, *set, pictures, &kept, true);
  note_broken(*set);
  if (one_file) {
    std::vector<Picture> pairs;
    for (size_t i = 0; i < kept.originals.size(); ++i) pairs.push_back(kept.originals[i]), pairs.push_back(kept.from_codes[i]);
    write_png(o.out, grid(pairs, 8));
    if (std::ssize(kept.originals) < s.pictures) log(str(o.out, " shows the first ", kept.originals.size(), "; --out FOLDER takes all"));
  } else {
    make_folder(o.out);
    Names names;
    const auto broken = set->broken();
    size_t at = 0;
    for (const int64_t i : pictures) {
      if (set->picture(i).empty()) continue;
      write_png(o.out + "/" + names.of(set->name(i)), kept.from_codes[at++]);
    }
  }
  print(str(s.pictures, " pictures: PSNR ", s.psnr, " dB, SSIM ", s.ssim, ", ", s.codes_used(), " of ", m.model->c.quantizer.codes,
            " codes in use, perplexity ", perplexity(s.counts), "\n"));
  if (o.json)
    print_json({{"psnr", s.psnr},
                {"mse", s.mse},
                {"ssim", s.ssim},
                {"codes_used", s.codes_used()},
                {"perplexity", perplexity(s.counts)},
                {"bits_per_pixel", bits_per_pixel(m.model->c)},
                {"pictures", s.pictures}});
  return 0;
}

// A file of codes is safetensors: the tensor `codes` (N, h, w, bytes), each code as `bytes` bytes, lowest first; as texts the pictures' names and
// the fingerprint of the model that reads them.
int encode(const CodeOptions& o) {
  QD_CHECK(!o.out.empty(), "--out", "expected a file for the codes, got none");
  const PictureModel m = load_picture_model(o.model);
  const auto set = open_pictures(o.data, m.pictures, 64, 2);
  const NoGrad off;
  const int64_t side = m.pictures.size / VQVAE::stride, bytes = m.model->c.quantizer.codes <= 256 ? 1 : m.model->c.quantizer.codes <= 65536 ? 2 : 3;
  std::vector<uint8_t> codes;
  nlohmann::json names = nlohmann::json::array();
  for (int64_t begin = 0; begin < set->size(); begin += 32) {
    std::vector<int64_t> some(static_cast<size_t>(std::min<int64_t>(32, set->size() - begin))), readable;
    std::iota(some.begin(), some.end(), begin);
    const Tensor x = picture_batch(*set, some, &readable);
    if (!x.defined()) continue;
    const Tensor ids = m.model->encode(x);
    for (const int32_t id : ids.values<int32_t>())
      for (int64_t b = 0; b < bytes; ++b) codes.push_back(static_cast<uint8_t>(id >> 8 * b));
    for (const int64_t i : readable) names.push_back(fs::path(set->name(i)).filename().string());
  }
  note_broken(*set);
  State file;
  const auto count = static_cast<int64_t>(names.size());
  Tensor tensor = empty({count, side, side, bytes}, DType::u8);
  std::copy(codes.begin(), codes.end(), tensor.mutable_data<uint8_t>());
  file.tensors["codes"] = tensor;
  file.texts = {{"format", "qiudao-codes"}, {"model", m.fingerprint}, {"names", names.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
  write_safetensors(o.out, file);
  log(str(count, " pictures as ", side, " x ", side, " codes each in ", o.out, ": ", codes.size(), " bytes"));
  if (o.json) print_json({{"pictures", count}, {"bytes", std::ssize(codes)}, {"bits_per_pixel", bits_per_pixel(m.model->c)}});
  return 0;
}

int decode(const CodeOptions& o) {
  QD_CHECK(!o.codes.empty(), "--codes", "expected a file of codes, got none", "bin/vqvae encode makes one");
  QD_CHECK(!o.out.empty(), "--out", "expected a folder for the pictures, got none");
  const PictureModel m = load_picture_model(o.model);
  const State file = read_safetensors(o.codes);
  const auto text = [&](const char* name) {
    const auto found = file.texts.find(name);
    QD_CHECK(found != file.texts.end(), o.codes, str("expected a file of codes, it has no '", name, "'"), "bin/vqvae encode makes one");
    return found->second;
  };
  QD_CHECK(text("format") == "qiudao-codes" && file.tensors.contains("codes"), o.codes, "expected a file of codes, got another safetensors file",
           "bin/vqvae encode makes one");
  QD_CHECK(text("model") == m.fingerprint, o.codes, str("expected codes of the model in ", o.model, ", these are of another one"),
           "only the model that encoded pictures can decode them; training goes on in the same directory, and then it is another");
  const Tensor& stored = file.tensors.at("codes");
  const int64_t side = m.pictures.size / VQVAE::stride, k = m.model->c.quantizer.codes;
  QD_CHECK(stored.dtype() == DType::u8 && stored.rank() == 4 && stored.dim(1) == side && stored.dim(2) == side && stored.dim(3) >= 1 && stored.dim(3) <= 3, o.codes,
           str("expected codes (N, ", side, ", ", side, ", 1 to 3) of bytes, got ", stored.shape().str()));
  const nlohmann::json names = nlohmann::json::parse(text("names"), nullptr, false);
  QD_CHECK(names.is_array() && static_cast<int64_t>(names.size()) == stored.dim(0) && std::all_of(names.begin(), names.end(), [](const auto& n) { return n.is_string(); }),
           o.codes, str("expected 'names' to be a list of ", stored.dim(0), " texts"));
  const NoGrad off;
  make_folder(o.out);
  Names free;
  const uint8_t* from = stored.data<uint8_t>();
  for (int64_t begin = 0; begin < stored.dim(0); begin += 32) {
    Tensor ids = empty({std::min<int64_t>(32, stored.dim(0) - begin), side, side}, DType::i32);
    for (int64_t i = 0; i < ids.size(); ++i) {
      int32_t id = 0;
      for (int64_t b = 0; b < stored.dim(3); ++b) id |= *from++ << 8 * b;
      QD_CHECK(id < k, o.codes, str("expected codes below ", k, ", got ", id));
      ids.mutable_data<int32_t>()[i] = id;
    }
    const Tensor y = m.model->decode(ids);
    for (int64_t i = 0; i < y.dim(0); ++i)
      write_png(o.out + "/" + free.of(names[static_cast<size_t>(begin + i)].get<std::string>()), to_picture(y, i));
  }
  log(str(stored.dim(0), " pictures in ", o.out));
  if (o.json) print_json({{"pictures", stored.dim(0)}});
  return 0;
}

}  // namespace

void add_reconstruct(App& app) {
  static CodeOptions o;
  app.command("reconstruct", "Pictures beside what their codes give, and how near they are", [] { return reconstruct(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--data", o.data, "DIR...|faces", "pictures")
      .option("--count", o.count, "N", "the first N alone; 0: all", at_least(0))
      .option("--out", o.out, "FILE.png|DIR", "a grid of pairs, or a folder with a file for each reconstruction")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

void add_encode(App& app) {
  static CodeOptions o;
  app.command("encode", "Pictures to a file of codes", [] { return encode(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--data", o.data, "DIR...|faces", "pictures")
      .option("--out", o.out, "FILE", "the codes, as safetensors")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

void add_decode(App& app) {
  static CodeOptions o;
  app.command("decode", "A file of codes to pictures", [] { return decode(o); })
      .option("--model", o.model, "DIR", model_help)
      .option("--codes", o.codes, "FILE", "what encode wrote")
      .option("--out", o.out, "DIR", "a PNG file for each picture")
      .flag("--json", o.json, "the last line on standard output is a JSON object");
}

}  // namespace qd
