#include "data/pictures.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <new>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/random.h"
#include "data/files.h"

namespace qd {
namespace fs = std::filesystem;
namespace {

constexpr size_t told = 5;   // broken pictures are named when they are met; the first so many

// Streams of random numbers, far from those that dropout uses with the same seed: one for the order of each epoch, one for each sample.
constexpr uint64_t epochs = uint64_t{1} << 62, splits = epochs + (uint64_t{1} << 40), mirrors = splits + 1;

// Fisher and Yates; one number of the stream for each place.
void shuffle(std::vector<int64_t>& values, uint64_t seed, uint64_t stream) {
  Random random(seed, stream);
  for (size_t i = values.size(); i > 1; --i)
    std::swap(values[i - 1], values[static_cast<size_t>(random.uniform() * static_cast<double>(i))]);
}

std::vector<std::string> files_of(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    QD_CHECK(fs::exists(status), path, "expected a picture or a folder of pictures, there is none", "check the path given as --data");
    if (fs::is_directory(status)) {
      std::vector<std::string> below = files_below(path);
      std::move(below.begin(), below.end(), std::back_inserter(files));
    } else {
      files.push_back(path);
    }
  }
  return files;
}

// The first `count` pictures of these bytes, as numbers from -1 to 1.
Tensor values_of(const std::vector<uint8_t>& bytes, int64_t count, int64_t side) {
  Tensor x = empty({count, side, side, 3});
  std::transform(bytes.begin(), bytes.begin() + x.size(), x.mutable_data(), [](uint8_t byte) { return picture_value(byte); });
  return x;
}

}  // namespace

int64_t names_of(const PictureSet& set, const std::vector<int64_t>& pictures) {
  uint64_t hash = static_cast<uint64_t>(std::ssize(pictures));
  for (const int64_t i : pictures) hash = (hash ^ stream_of(fs::path(set.name(i)).filename().string())) * 0x9E3779B97F4A7C15;
  return static_cast<int64_t>(hash >> 1);
}

PictureSet::PictureSet(int64_t size, int64_t side, int64_t cache_bytes)
    : size_(size), side_(side),
      cache_(size <= cache_bytes / std::max<int64_t>(1, side * side * 3) ? new (std::nothrow) uint8_t[static_cast<size_t>(size * side * side * 3)] : nullptr) {
  QD_CHECK(side > 0 && side <= 4096, "--size", str("expected 1 to 4096 pixels, got ", side));
  known_.resize(static_cast<size_t>(size));
}

bool PictureSet::read(int64_t i, std::span<uint8_t> to) const {
  const size_t at = static_cast<size_t>(i), bytes = static_cast<size_t>(side_ * side_ * 3);
  QD_CHECK(i >= 0 && i < size_ && to.size() == bytes, "pictures", str("expected one of ", size_, " pictures of ", bytes, " bytes, got ", i));
  {
    const std::lock_guard lock(mutex_);
    if (known_[at] == bad) return false;
    if (known_[at] == here && cache_) {
      std::memcpy(to.data(), cache_.get() + at * bytes, bytes);
      return true;
    }
  }
  std::string why;
  try {
    const Picture made = make(i);
    std::memcpy(to.data(), made.bytes.data(), bytes);
  } catch (const Error& error) {
    why = error.what();
  }
  const std::lock_guard lock(mutex_);
  if (!why.empty()) {
    if (known_[at] != bad) {
      broken_.push_back(why);
      if (broken_.size() <= told) warn("skipped: " + why);
      if (broken_.size() == told) warn("more such files are counted, and not named");
    }
    known_[at] = bad;
    return false;
  }
  if (cache_ && known_[at] == nothing) std::memcpy(cache_.get() + at * bytes, to.data(), bytes);
  known_[at] = here;
  return true;
}

Picture PictureSet::picture(int64_t i) const {
  Picture p{side_, side_, std::vector<uint8_t>(static_cast<size_t>(side_ * side_ * 3))};
  return read(i, p.bytes) ? p : Picture{};
}

std::vector<std::string> PictureSet::broken() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> sorted = broken_;
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

PictureFolder::PictureFolder(const std::vector<std::string>& paths, const Options& options)
    : PictureFolder(files_of(paths), paths, options) {}

PictureFolder::PictureFolder(std::vector<std::string> files, const std::vector<std::string>& paths, const Options& options)
    : PictureSet(std::ssize(files), options.side, options.cache_bytes < 0 ? std::min(int64_t{4} << 30, static_cast<int64_t>(memory_bytes() / 4)) : options.cache_bytes), files_(std::move(files)), crop_(options.crop) {
  const std::string where = paths.empty() ? "--data" : paths[0];
  int64_t first = 0;
  while (first < size() && picture(first).empty()) ++first;
  if (first < size()) return;
  std::string why = size() == 0 ? "expected pictures, found no file" : str("expected pictures, none of ", size(), " files can be read: ");
  if (size() > 0) why += broken()[0];
  QD_CHECK(false, where, why, "JPEG, PNG, BMP, TGA and binary PGM and PPM are read, in subfolders too");
}

Picture PictureFolder::make(int64_t i) const {
  const std::string& path = files_[static_cast<size_t>(i)];
  return resize(center_crop(read_picture(path), crop_, path), side(), side());
}

PictureSplit split_pictures(int64_t size, int64_t held_out, uint64_t seed) {
  QD_CHECK(held_out >= 0 && held_out < size, "--data",
           str("expected more pictures than the ", held_out, " that are held out, got ", size), "give more pictures or a smaller --val-fraction");
  std::vector<int64_t> all(static_cast<size_t>(size));
  std::iota(all.begin(), all.end(), 0);
  shuffle(all, seed, splits);
  PictureSplit split{{all.begin() + held_out, all.end()}, {all.begin(), all.begin() + held_out}};
  std::sort(split.training.begin(), split.training.end());
  std::sort(split.held_out.begin(), split.held_out.end());
  return split;
}

Tensor picture_batch(const PictureSet& set, std::span<const int64_t> pictures, std::vector<int64_t>* readable) {
  const int64_t side = set.side(), bytes = side * side * 3;
  std::vector<uint8_t> read(static_cast<size_t>(bytes * std::ssize(pictures)));
  if (readable) readable->clear();
  int64_t count = 0;
  for (const int64_t i : pictures) {
    if (!set.read(i, std::span(read).subspan(static_cast<size_t>(count * bytes), static_cast<size_t>(bytes)))) continue;
    ++count;
    if (readable) readable->push_back(i);
  }
  return count > 0 ? values_of(read, count, side) : Tensor();
}

Picture to_picture(const Tensor& x, int64_t i) {
  QD_CHECK(x.rank() == 4 && x.dim(3) == 3 && i >= 0 && i < x.dim(0), "pictures",
           str("expected (B, H, W, 3) and a picture of it, got ", x.shape().str(), " and ", i));
  Picture p{x.dim(2), x.dim(1), {}};
  p.bytes.resize(static_cast<size_t>(p.width * p.height * 3));
  const float* from = x.data() + i * std::ssize(p.bytes);
  for (uint8_t& byte : p.bytes) {
    const float value = (*from++ + 1) * 127.5f;
    byte = static_cast<uint8_t>(std::lround(value > 0 ? std::min(value, 255.0f) : 0.0f));   // NaN is black
  }
  return p;
}

PictureLoader::PictureLoader(const PictureSet& set, std::vector<int64_t> pictures, const Options& options)
    : set_(set), pictures_(std::move(pictures)), options_(options), names_(names_of(set_, pictures_)), prefetch_([this](int64_t i) { return make(i); }, 4) {
  QD_CHECK(!pictures_.empty() && options.batch > 0, "--data", str("expected pictures, got ", pictures_.size()));
}

Tensor PictureLoader::next() {
  return values_of(prefetch_.next(), options_.batch, set_.side());
}

int64_t PictureLoader::picture_at(int64_t sample) {
  const int64_t epoch = sample / std::ssize(pictures_);
  if (epoch != epoch_) {
    order_ = pictures_;
    shuffle(order_, options_.seed, epochs + static_cast<uint64_t>(epoch));
    epoch_ = epoch;
  }
  return order_[static_cast<size_t>(sample % std::ssize(pictures_))];
}

std::vector<uint8_t> PictureLoader::make(int64_t batch) {
  const int64_t side = set_.side(), bytes = side * side * 3;
  std::vector<uint8_t> made(static_cast<size_t>(bytes * options_.batch));
  for (int64_t row = 0; row < options_.batch; ++row) {
    const int64_t sample = batch * options_.batch + row;
    const std::span<uint8_t> to = std::span(made).subspan(static_cast<size_t>(row * bytes), static_cast<size_t>(bytes));
    if (!set_.read(picture_at(sample), to)) {
      const auto place = std::lower_bound(pictures_.begin(), pictures_.end(), picture_at(sample)) - pictures_.begin();
      int64_t next = 1;
      while (next < std::ssize(pictures_) && !set_.read(pictures_[static_cast<size_t>((place + next) % std::ssize(pictures_))], to)) ++next;
      QD_CHECK(next < std::ssize(pictures_), "--data", str("expected pictures, none of the ", pictures_.size(), " to train on can be read"));
    }
    if (options_.mirror && Random(options_.seed, mirrors + static_cast<uint64_t>(sample)).next() % 2 == 1)
      for (int64_t y = 0; y < side; ++y)
        for (int64_t left = 0, right = side - 1; left < right; ++left, --right)
          std::swap_ranges(to.begin() + (y * side + left) * 3, to.begin() + (y * side + left) * 3 + 3, to.begin() + (y * side + right) * 3);
  }
  return made;
}

void PictureLoader::save(State& to, const std::string& prefix) const {
  to.put(prefix + "batch", prefetch_.position());
  to.put(prefix + "names", names_);
}

void PictureLoader::load(const State& from, const std::string& prefix) {
  QD_CHECK(from.integer(prefix + "names") == names_, "--data",
           str("expected the pictures that the run began with, got ", pictures_.size(), " of which some are others"), "give the same --data");
  prefetch_.seek(from.integer(prefix + "batch"));
}

}  // namespace qd
