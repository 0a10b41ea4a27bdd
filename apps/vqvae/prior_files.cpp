// Priors in directories, what they see of a picture, and the pictures that they give.
#include "apps/vqvae/prior_files.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/autograd.h"
#include "core/error.h"
#include "core/file.h"
#include "core/json_fields.h"
#include "core/json_file.h"
#include "core/log.h"

namespace qd {

OneGrid one_grid(const PictureModel& m) {
  const std::vector<int64_t> strides = m.model->strides();
  const int64_t columns = m.pictures.size / strides[0];
  return {cells_of(*m.model, m.pictures.size) / columns, columns, m.model->c.quantizer.codes * std::ssize(strides)};
}

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

// A code that a prior draws in the place of another grid's has the same number there.
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

void write_prior_config(const std::string& folder, const PriorConfig& c, const std::string& fingerprint) {
  const nlohmann::json file = {{"kind", c.kind},   {"codes", c.codes},   {"rows", c.rows},   {"columns", c.columns},      {"width", c.width},
                               {"layers", c.layers}, {"heads", c.heads}, {"dropout", c.dropout}, {"model", fingerprint}};
  write_file(folder + "/prior.json", file.dump(2) + "\n");
}

PriorConfig read_prior_config(const std::string& folder, const PictureModel& m) {
  QD_CHECK(std::filesystem::exists(folder), folder, "expected a prior, there is none", "bin/vqvae prior trains one");
  const std::string path = folder + "/prior.json";
  const char* hint = "is it what bin/vqvae prior made?";
  const nlohmann::json file = read_json_object(path);
  const JsonFields f(file, path, hint);
  QD_CHECK(f.text("model") == m.fingerprint, folder, "expected a prior of this model's codes, this one learned those of another", "train it again with bin/vqvae prior");
  const PriorConfig c{.kind = f.text("kind"), .codes = f.size("codes", 1, m.model->c.levels << 20), .rows = f.size("rows", 1, 1024), .columns = f.size("columns", 1, 1024), .levels = m.model->c.levels,
                      .width = f.size("width", 1, 1 << 14), .layers = f.size("layers", 1, 1024), .heads = f.size("heads", 1, 1024), .dropout = f.real("dropout")};
  const OneGrid shape = one_grid(m);
  QD_CHECK(c.codes == shape.codes && c.rows == shape.rows && c.columns == shape.columns, path,
           str("expected ", shape.rows, " x ", shape.columns, " codes below ", shape.codes, ", got ", c.rows, " x ", c.columns, " below ", c.codes), hint);
  return c;
}

Picture new_pictures(const PictureModel& m, const Prior& prior, int64_t count, const SampleOptions& o) {
  const NoGrad off;
  const int64_t side = m.pictures.size + 2;   // known to fit before anything is drawn
  QD_CHECK(count >= 1 && (count + 2 * static_cast<int64_t>(std::sqrt(static_cast<double>(count))) + 1) * side * side * 3 < int64_t{1} << 31, "--count",
           str("expected as many pictures of ", m.pictures.size, " x ", m.pictures.size, " as fit into one of 2 GiB, got ", count));
  const Tensor ids = prior.sample(count, o);
  std::vector<Picture> pictures;
  for (int64_t begin = 0; begin < count; begin += 32) {
    const Tensor y = m.model->picture_of(codes_of_grids(m, ids.row_range(begin, std::min(count, begin + 32))));
    for (int64_t i = 0; i < y.dim(0); ++i) pictures.push_back(to_picture(y, i));
  }
  return grid(pictures, std::max<int64_t>(1, std::llround(std::sqrt(static_cast<double>(count)))));
}

}  // namespace qd
