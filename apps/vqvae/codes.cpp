// bin/vqvae encode, decode: pictures to a file of codes, and back.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/vqvae/commands.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/log.h"
#include "core/safetensors.h"

namespace qd {
namespace {

struct CodeOptions {
  std::string model, out, codes;
  std::vector<std::string> data;
  bool json = false;
};

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
    for (const int64_t i : readable) names.push_back(std::filesystem::path(set->name(i)).filename().string());
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
  PictureWriter writer(o.out);
  for (int64_t begin = 0; begin < count; begin += 32) {
    const Tensor y = m.model->picture_of(codes_at(begin, std::min(count, begin + 32)));
    for (int64_t i = 0; i < y.dim(0); ++i)
      writer.write(names[static_cast<size_t>(begin + i)].get<std::string>(), to_picture(y, i));
  }
  log(str(count, " pictures in ", o.out));
  if (o.json) print_json({{"pictures", count}});
  return 0;
}

}  // namespace

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
