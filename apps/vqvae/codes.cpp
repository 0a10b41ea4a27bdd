// bin/vqvae encode, decode: pictures to a file of codes, and back.
#include <algorithm>
#include <bit>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>

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

// A file of codes is safetensors: a tensor `codes.0` of bytes, a row for each picture, with its codes in reading order, ceil(log2 K) bits each, lowest
// bit first, from the lowest bit of a byte on; `codes.1` where there are two grids, the coarse one first. As texts the pictures' names and the
// fingerprint of the model that reads them.
std::string codes_named(size_t level) { return str("codes.", level); }

int64_t bits_of(const PictureModel& m) { return std::bit_width(static_cast<uint64_t>(m.model->c.quantizer.codes - 1)); }
int64_t row_bytes(int64_t cells, int64_t bits) { return (cells * bits + 7) / 8; }

void pack(std::span<const int32_t> ids, int64_t bits, uint8_t* row) {
  std::fill_n(row, row_bytes(std::ssize(ids), bits), uint8_t{0});
  for (int64_t i = 0; i < std::ssize(ids) * bits; ++i)
    if (ids[static_cast<size_t>(i / bits)] >> i % bits & 1) row[i / 8] = static_cast<uint8_t>(row[i / 8] | 1 << i % 8);
}

void unpack(const uint8_t* row, int64_t bits, std::span<int32_t> ids) {
  std::fill(ids.begin(), ids.end(), 0);
  for (int64_t i = 0; i < std::ssize(ids) * bits; ++i)
    if (row[i / 8] >> i % 8 & 1) ids[static_cast<size_t>(i / bits)] |= 1 << i % bits;
}

int encode(const CodeOptions& o) {
  QD_CHECK(!o.out.empty(), "--out", "expected a file for the codes, got none");
  const PictureModel m = load_picture_model(o.model);
  const auto set = open_pictures(o.data, m.pictures, 64, faces_apart);
  const NoGrad off;
  const int64_t bits = bits_of(m);
  std::vector<std::vector<uint8_t>> codes(m.model->strides().size());
  nlohmann::json names = nlohmann::json::array();
  for (int64_t begin = 0; begin < set->size(); begin += 32) {
    std::vector<int64_t> some(static_cast<size_t>(std::min<int64_t>(32, set->size() - begin))), readable;
    std::iota(some.begin(), some.end(), begin);
    const Tensor x = picture_batch(*set, some, &readable);
    if (!x.defined()) continue;
    const Codes grids = m.model->codes_of(x);
    for (size_t level = 0; level < grids.size(); ++level) {
      const auto ids = grids[level].values<int32_t>();
      const auto cells = ids.size() / readable.size();
      std::vector<uint8_t> row(static_cast<size_t>(row_bytes(static_cast<int64_t>(cells), bits)));
      for (size_t i = 0; i < readable.size(); ++i) {
        pack(ids.subspan(i * cells, cells), bits, row.data());
        codes[level].insert(codes[level].end(), row.begin(), row.end());
      }
    }
    for (const int64_t i : readable) names.push_back(std::filesystem::path(set->name(i)).filename().string());
  }
  note_broken(*set);
  State file;
  const auto count = static_cast<int64_t>(names.size());
  int64_t all = 0;
  for (size_t level = 0; level < codes.size(); ++level) {
    Tensor tensor = empty({count, std::ssize(codes[level]) / std::max<int64_t>(count, 1)}, DType::u8);
    std::copy(codes[level].begin(), codes[level].end(), tensor.mutable_data<uint8_t>());
    file.tensors[codes_named(level)] = tensor;
    all += tensor.size();
  }
  file.texts = {{"format", "qiudao-codes"}, {"model", m.fingerprint}, {"names", names.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
  QD_CHECK(count > 0, "--data", str("expected pictures, none of ", set->size(), " can be read"));
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
  const int64_t count = file.tensors.at(codes_named(0)).rank() == 2 ? file.tensors.at(codes_named(0)).dim(0) : 0, bits = bits_of(m);
  for (size_t level = 0; level < strides.size(); ++level) {
    const int64_t side = m.pictures.size / strides[level], bytes = row_bytes(side * side, bits);
    const std::string expected = str("expected ", codes_named(level), " (", count, ", ", bytes, ") of bytes, ");
    QD_CHECK(file.tensors.contains(codes_named(level)), o.codes, expected + "there is none");
    const Tensor& t = file.tensors.at(codes_named(level));
    QD_CHECK(t.dtype() == DType::u8 && t.shape() == Shape({count, bytes}), o.codes, expected + "got " + t.shape().str());
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
      const int64_t side = m.pictures.size / strides[level], cells = side * side;
      Tensor ids = empty({end - begin, side, side}, DType::i32);
      for (int64_t n = 0; n < end - begin; ++n)
        unpack(t.data<uint8_t>() + (begin + n) * t.dim(1), bits, {ids.mutable_data<int32_t>() + n * cells, static_cast<size_t>(cells)});
      for (const int32_t id : ids.values<int32_t>())
        QD_CHECK(id < m.model->c.quantizer.codes, o.codes, str("expected codes below ", m.model->c.quantizer.codes, ", got ", id));
      codes.push_back(ids);
    }
    return codes;
  };
  for (int64_t begin = 0; begin < count; begin += 32) codes_at(begin, std::min(count, begin + 32));
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
