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
  print(str(s.pictures, " pictures: PSNR ", s.psnr, " dB, SSIM ", s.ssim, ", ", s.codes_used(), " of ",
            m.model->c.quantizer.codes * m.model->c.levels, " codes in use, perplexity ", s.perplexity(), "\n"));
  if (o.json)
    print_json({{"psnr", s.psnr},
                {"mse", s.mse},
                {"ssim", s.ssim},
                {"codes_used", s.codes_used()},
                {"perplexity", s.perplexity()},
                {"bits_per_pixel", bits_per_pixel(*m.model)},
                {"pictures", s.pictures}});
  return 0;
}

// A file of codes is safetensors: a tensor `codes.0` (N, h, w, bytes), each code as `bytes` bytes, lowest first, and `codes.1` where there are two grids, the
// coarse one first; as texts the pictures' names and the fingerprint of the model that reads them.
std::string codes_named(size_t level) { return str("codes.", level); }

int encode(const CodeOptions& o) {
  QD_CHECK(!o.out.empty(), "--out", "expected a file for the codes, got none");
  const PictureModel m = load_picture_model(o.model);
  const auto set = open_pictures(o.data, m.pictures, 64, 2);
  const NoGrad off;
  const int64_t bytes = m.model->c.quantizer.codes <= 256 ? 1 : m.model->c.quantizer.codes <= 65536 ? 2 : 3;
  std::vector<std::vector<uint8_t>> codes(m.model->strides().size());
  nlohmann::json names = nlohmann::json::array();
  for (int64_t begin = 0; begin < set->size(); begin += 32) {
    std::vector<int64_t> some(static_cast<size_t>(std::min<int64_t>(32, set->size() - begin))), readable;
    std::iota(some.begin(), some.end(), begin);
    const Tensor x = picture_batch(*set, some, &readable);
    if (!x.defined()) continue;
    const Codes grids = m.model->codes_of(x);
    for (size_t level = 0; level < grids.size(); ++level)
      for (const int32_t id : grids[level].values<int32_t>())
        for (int64_t b = 0; b < bytes; ++b) codes[level].push_back(static_cast<uint8_t>(id >> 8 * b));
    for (const int64_t i : readable) names.push_back(fs::path(set->name(i)).filename().string());
  }
  note_broken(*set);
  State file;
  const auto count = static_cast<int64_t>(names.size());
  int64_t all = 0;
  for (size_t level = 0; level < codes.size(); ++level) {
    const int64_t side = m.pictures.size / m.model->strides()[level];
    Tensor tensor = empty({count, side, side, bytes}, DType::u8);
    std::copy(codes[level].begin(), codes[level].end(), tensor.mutable_data<uint8_t>());
    file.tensors[codes_named(level)] = tensor;
    all += tensor.size();
  }
  file.texts = {{"format", "qiudao-codes"}, {"model", m.fingerprint}, {"names", names.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
  write_safetensors(o.out, file);
  log(str(count, " pictures as ", cells_of(*m.model, m.pictures.size), " codes each in ", o.out, ": ", all, " bytes"));
  if (o.json) print_json({{"pictures", count}, {"bytes", all}, {"bits_per_pixel", bits_per_pixel(*m.model)}});
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
  QD_CHECK(text("format") == "qiudao-codes" && file.tensors.contains(codes_named(0)), o.codes, "expected a file of codes, got another safetensors file",
           "bin/vqvae encode makes one");
  QD_CHECK(text("model") == m.fingerprint, o.codes, str("expected codes of the model in ", o.model, ", these are of another one"),
           "only the model that encoded pictures can decode them; training goes on in the same directory, and then it is another");
  const std::vector<int64_t> strides = m.model->strides();
  const int64_t count = file.tensors.at(codes_named(0)).rank() == 4 ? file.tensors.at(codes_named(0)).dim(0) : 0;
  for (size_t level = 0; level < strides.size(); ++level) {
    const int64_t side = m.pictures.size / strides[level];
    const std::string expected = str("expected ", codes_named(level), " (", count, ", ", side, ", ", side, ", 1 to 3) of bytes, ");
    QD_CHECK(file.tensors.contains(codes_named(level)), o.codes, expected + "there is none");
    const Tensor& t = file.tensors.at(codes_named(level));
    QD_CHECK(t.dtype() == DType::u8 && t.rank() == 4 && t.dim(0) == count && t.dim(1) == side && t.dim(2) == side && t.dim(3) >= 1 && t.dim(3) <= 3, o.codes,
             expected + "got " + t.shape().str());
  }
  const nlohmann::json names = nlohmann::json::parse(text("names"), nullptr, false);
  QD_CHECK(names.is_array() && static_cast<int64_t>(names.size()) == count && std::all_of(names.begin(), names.end(), [](const auto& n) { return n.is_string(); }), o.codes,
           str("expected 'names' to be a list of ", count, " texts"));
  const NoGrad off;
  // The codes of pictures begin .. end - 1; throws before any picture is written.
  const auto codes_at = [&](int64_t begin, int64_t end) {
    Codes codes;
    for (size_t level = 0; level < strides.size(); ++level) {
      const Tensor& t = file.tensors.at(codes_named(level));
      const int64_t bytes = t.dim(3), cells = t.dim(1) * t.dim(2);
      const uint8_t* from = t.data<uint8_t>() + begin * cells * bytes;
      Tensor ids = empty({end - begin, t.dim(1), t.dim(2)}, DType::i32);
      for (int64_t i = 0; i < ids.size(); ++i) {
        int32_t id = 0;
        for (int64_t b = 0; b < bytes; ++b) id |= *from++ << 8 * b;
        QD_CHECK(id < m.model->c.quantizer.codes, o.codes, str("expected codes below ", m.model->c.quantizer.codes, ", got ", id));
        ids.mutable_data<int32_t>()[i] = id;
      }
      codes.push_back(ids);
    }
    return codes;
  };
  codes_at(0, count);
  make_folder(o.out);
  Names free;
  for (int64_t begin = 0; begin < count; begin += 32) {
    const Tensor y = m.model->picture_of(codes_at(begin, std::min(count, begin + 32)));
    for (int64_t i = 0; i < y.dim(0); ++i)
      write_png(o.out + "/" + free.of(names[static_cast<size_t>(begin + i)].get<std::string>()), to_picture(y, i));
  }
  log(str(count, " pictures in ", o.out));
  if (o.json) print_json({{"pictures", count}});
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
