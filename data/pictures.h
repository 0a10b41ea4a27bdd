// Collections of pictures of one size, a part of them held out, and batches of them.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/state.h"
#include "core/tensor.h"
#include "data/picture.h"
#include "data/prefetch.h"

namespace qd {

// Pictures of side x side. What has been read stays in memory while all of them would fit into `cache_bytes`; reading is safe from any
// thread. A picture that cannot be read is noted, and nothing else happens.
class PictureSet {
 public:
  PictureSet(int64_t size, int64_t side, int64_t cache_bytes);
  virtual ~PictureSet() = default;
  PictureSet(const PictureSet&) = delete;
  PictureSet& operator=(const PictureSet&) = delete;

  int64_t size() const { return size_; }   // broken ones too
  int64_t side() const { return side_; }
  virtual std::string name(int64_t i) const = 0;
  bool read(int64_t i, std::span<uint8_t> to) const;   // (side, side, 3); false: broken
  Picture picture(int64_t i) const;                    // empty: broken
  std::vector<std::string> broken() const;             // "[name] why", of those met so far, sorted; the first few were told when they were met

 private:
  virtual Picture make(int64_t i) const = 0;   // throws Error about one that is broken

  enum Known : uint8_t { nothing, here, bad };
  const int64_t size_, side_;
  mutable std::mutex mutex_;   // guards what follows
  mutable std::vector<uint8_t> known_;
  const std::unique_ptr<uint8_t[]> cache_;   // of all pictures; memory that nobody has written to costs nothing
  mutable std::vector<std::string> broken_;
};

// Files of pictures, and all files below folders: cropped in the middle, resized (data/picture.h). Whatever else lies in a folder is
// as a broken picture.
class PictureFolder final : public PictureSet {
 public:
  struct Options {
    int64_t side = 64;
    int64_t crop = 0;   // of the middle, in pixels of the file; 0: the largest square
    int64_t cache_bytes = -1;   // -1: a quarter of the machine's memory, 4 GiB at most
  };
  // Throws Error: a missing path, a folder without any picture that can be read, side below 1.
  PictureFolder(const std::vector<std::string>& paths, const Options& options);
  std::string name(int64_t i) const override { return files_[static_cast<size_t>(i)]; }

 private:
  PictureFolder(std::vector<std::string> files, const std::vector<std::string>& paths, const Options& options);
  Picture make(int64_t i) const override;
  const std::vector<std::string> files_;
  const int64_t crop_;
};

// Numbers of pictures, ascending.
struct PictureSplit {
  std::vector<int64_t> training, held_out;
};
// A choice fixed by the seed. Throws Error: fewer than one picture on either side, unless held_out is 0.
PictureSplit split_pictures(int64_t size, int64_t held_out, uint64_t seed);

// A number that other pictures, by their names and order, hardly have.
int64_t names_of(const PictureSet& set, const std::vector<int64_t>& pictures);

// Those of the set that can be read, as (B, side, side, 3) from -1 to 1; an undefined tensor if none can. `readable` gets their numbers.
Tensor picture_batch(const PictureSet& set, std::span<const int64_t> pictures, std::vector<int64_t>* readable = nullptr);

inline float picture_value(uint8_t byte) { return static_cast<float>(byte) / 127.5f - 1; }   // -1 to 1
Picture to_picture(const Tensor& x, int64_t i);       // the i-th of (B, H, W, 3), clamped, rounded to the nearest byte

// Endless batches: every picture once in an order of its own, then again in another. Half of them are mirrored. In the place of a broken
// picture stands the next one in order. A thread reads ahead. The saved position is that of the batches consumed.
class PictureLoader final : public Stateful {
 public:
  struct Options {
    int64_t batch = 32;
    uint64_t seed = 1;
    bool mirror = true;
  };
  // Keeps a reference to the set. Throws Error: no pictures.
  PictureLoader(const PictureSet& set, std::vector<int64_t> pictures, const Options& options);
  Tensor next();   // (B, side, side, 3) from -1 to 1; throws Error: all of the pictures are broken

  void save(State& to, const std::string& prefix) const override;
  void load(const State& from, const std::string& prefix) override;   // throws Error: saved with other pictures

 private:
  std::vector<uint8_t> make(int64_t batch);
  int64_t picture_at(int64_t sample);

  const PictureSet& set_;
  const std::vector<int64_t> pictures_;
  const Options options_;
  const int64_t names_;
  std::vector<int64_t> order_;   // of the epoch below; the reading thread's own
  int64_t epoch_ = -1;
  Prefetch<std::vector<uint8_t>> prefetch_;   // last: its thread uses what stands above
};

}  // namespace qd
