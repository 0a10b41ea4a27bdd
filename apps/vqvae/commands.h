// The commands of bin/vqvae and what they share; codes.cpp has encode and decode, sample.cpp interpolate as well.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "apps/options.h"
#include "data/pictures.h"
#include "models/vqvae.h"

namespace qd {

void add_train(App& app);
void add_reconstruct(App& app);
void add_encode(App& app);
void add_decode(App& app);
void add_prior(App& app);
void add_sample(App& app);
void add_interpolate(App& app);

inline constexpr int64_t faces_drawn = 10'000;   // to train on, where no pictures are given
inline constexpr const char* model_help = "directory of a run: config.json and model.safetensors";

// How pictures come to the size of the model: parts of config.json.
struct PictureOptions {
  int64_t size = 64, crop = 0;
};

// A model with its config.json, in evaluation mode. Throws Error: a missing or damaged file, sizes that do not fit.
struct PictureModel {
  PictureOptions pictures;
  std::unique_ptr<PictureCoder> model;
  std::string fingerprint;   // of the weights that turn codes into pictures
};
void write_config(const std::string& folder, const VQVAEConfig& config, const PictureOptions& pictures);
PictureModel load_picture_model(const std::string& folder);

// Pictures of files and folders; the one word "faces" stands for drawn ones, of which there are `faces`.
std::unique_ptr<PictureSet> open_pictures(const std::vector<std::string>& data, const PictureOptions& options, int64_t faces, uint64_t seed);
// What --val names; null where it names nothing. Throws Error: drawn faces, of which a part is held out anyway.
std::unique_ptr<PictureSet> open_val(const std::vector<std::string>& val, const PictureOptions& options);
// Drawn faces are no path: without it run.json would keep the path of a folder that happens to have that name.
void settle_data(std::vector<std::string>& data);
constexpr uint64_t faces_apart = uint64_t{1} << 40;   // a seed of faces that no training with a seed of its own has seen
int64_t held_out_of(const PictureSet& set, double fraction);   // how many pictures, at least one
void note_broken(const PictureSet& set);   // how many; the first few have been named

// How near reconstructions are to pictures, and which codes they took.
struct PictureScore {
  int64_t pictures = 0;
  double psnr = 0, mse = 0, ssim = 0;   // means over pictures; mse of values from 0 to 1
  double psnr_vectors = 0;              // of what the decoder makes of the vectors before they are quantised
  double codes_loss = 0;                // what the quantisers add to the loss, where values are from -1 to 1
  std::vector<std::vector<int64_t>> counts;   // of the codes of each grid
  int64_t codes_used() const;                 // of all grids
  double perplexity() const;                  // of the finest one
};
struct Kept {
  int64_t most = 0;
  std::vector<Picture> originals = {}, from_codes = {}, from_vectors = {};   // decoded from z_q, and from z without quantisation
};
struct ScoreOptions {
  Kept* keep = nullptr;     // gets the first so many
  int64_t most = 0;         // readable pictures that are looked at; 0: all
  bool ssim = false;
  bool vectors = false;     // decoded as well
  bool finishes = false;    // else a signal that asks to leave (core/signals.h) ends it early
  std::function<void(int64_t number, const Picture& reconstruction)> each = {};
};
// In evaluation mode, of all readable ones among the pictures. Throws Error: there are none.
PictureScore score(PictureCoder& model, const PictureSet& set, const std::vector<int64_t>& pictures, const ScoreOptions& options = {});
// PNG files in a folder, which it makes: with the names of the pictures, and a number behind one that is taken. Throws Error: something lies there.
class PictureWriter {
 public:
  explicit PictureWriter(std::string folder);   // throws Error: it cannot be made
  void write(const std::string& name, const Picture& picture);

 private:
  const std::string folder_;
  std::set<std::string> taken_;
};
double bits_per_pixel(const PictureCoder& model);   // of codes of one length
int64_t cells_of(const PictureCoder& model, int64_t size);   // codes of a picture of size x size
int64_t largest_stride(const VQVAEConfig& config);           // a picture's side is a multiple of it

}  // namespace qd
