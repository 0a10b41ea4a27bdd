// What turns vectors into codes, whole numbers below K, and codes back into vectors: the middle of a VQ-VAE, in four kinds.
//   z = what the encoder gives (..., D), q = the nearest of K codes e_k, sg = stop_gradient
//   vq     the codes are parameters; beta |sg[z] - q|^2 + gamma |z - sg[q]|^2 (van den Oord et al. 2017; kexue.fm/archives/6760)
//   ema    the codes are moving averages of the vectors that chose them; gamma |z - sg[q]|^2. Codes that nobody chooses start anew from
//          vectors of the batch (the paper's appendix A.1; restarts: Dhariwal et al. 2020, "Jukebox")
//   simvq  e = C W with fixed random C and a trained matrix W: all codes move together (Zhu et al. 2024; kexue.fm/archives/10519)
//   fsq    no codebook: each of D numbers is rounded to one of L levels, K = L_1 ... L_D (Mentzer et al. 2023; kexue.fm/archives/9826)
// All squares are means over rows and columns, so that beta and gamma weigh them against the mean squared error of a picture.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"

namespace qd {

enum class QuantizerKind { vq, ema, simvq, fsq };
const char* name_of(QuantizerKind kind);
QuantizerKind quantizer_named(const std::string& name);   // throws Error with the list of names

struct QuantizerConfig {
  QuantizerKind kind = QuantizerKind::ema;
  int64_t codes = 512, width = 64;   // K, D; fsq has a width of its own
  float beta = 1, gamma = 0.25f;
  float decay = 0.99f;               // of the moving averages
  float epsilon = 1e-5f;             // Laplace smoothing of their counts
  bool restart = true;               // of codes that are not chosen; ema
  int64_t kmeans = 0;                // rounds of k-means over the first batch, from which the codes start; vq and ema
};

struct Quantizer : Module {
  Quantizer(Module& up, std::string name, const QuantizerConfig& c) : Module(up, std::move(name)), c(c) {}
  const QuantizerConfig c;

  struct Result {
    Tensor q;      // (..., D): the codes forward, the identity backward
    Tensor loss;   // a scalar; undefined where the kind has none
    Tensor ids;    // (...) i32
  };
  // In training mode codebooks that learn by other means than gradients move.
  virtual Result operator()(const Tensor& z) = 0;
  virtual Tensor encode(const Tensor& z) const = 0;     // (..., D) -> ids (...)
  virtual Tensor decode(const Tensor& ids) const = 0;   // and back to codes
  virtual Tensor unquantised(const Tensor& z) const { return z; }   // what of z the nearest code stands for, before it is rounded
  virtual int64_t width() const { return c.width; }     // D
};

std::unique_ptr<Quantizer> make_quantizer(Module& up, std::string name, const QuantizerConfig& config);   // throws Error: impossible sizes

// Codes as means of the vectors that chose them, over a window of about 1 / (1 - decay) batches. Without restarts they begin as if each had
// been chosen once by itself: an average that starts at zero throws unused codes far away.
struct EmaCodebook : Quantizer {
  EmaCodebook(Module& up, std::string name, const QuantizerConfig& c);
  Buffer counts;   // N (K): how often a code is chosen in a batch; 0: it has not begun
  Buffer sums;     // M (K, D): the sum of the vectors that chose it

  Result operator()(const Tensor& z) override;
  Tensor encode(const Tensor& z) const override;
  Tensor decode(const Tensor& ids) const override;
  // e = M / N', N' = (N + epsilon) / (sum N + K epsilon) sum N:  (K, D)
  Tensor codes() const;
  // N <- decay N + (1 - decay) n,  M <- decay M + (1 - decay) sum of z by id; without restarts codes that nobody chose stay as they are
  void update(const Tensor& z, const Tensor& ids);

 private:
  void begin_anew(const Tensor& z);
  Tensor codes_;   // of the last call, which checkpoint() may repeat
};

struct VqCodebook : Quantizer {
  VqCodebook(Module& up, std::string name, const QuantizerConfig& c);
  Parameter codes;   // (K, D)
  Buffer begun;      // (1): 1 after k-means

  Result operator()(const Tensor& z) override;
  Tensor encode(const Tensor& z) const override;
  Tensor decode(const Tensor& ids) const override;
};

struct SimCodebook : Quantizer {
  SimCodebook(Module& up, std::string name, const QuantizerConfig& c);
  Buffer fixed;        // C (K, D)
  Parameter weight;    // W (D, D)

  Result operator()(const Tensor& z) override;
  Tensor encode(const Tensor& z) const override;
  Tensor decode(const Tensor& ids) const override;
  Tensor codes() const;
};

struct ScalarQuantizer : Quantizer {
  ScalarQuantizer(Module& up, std::string name, const QuantizerConfig& c);
  const std::vector<int64_t> levels;   // L_i

  Result operator()(const Tensor& z) override;
  Tensor encode(const Tensor& z) const override;
  Tensor decode(const Tensor& ids) const override;   // numbers from -1 to 1
  Tensor unquantised(const Tensor& z) const override;
  int64_t width() const override { return std::ssize(levels); }
};

// Levels of at least 5 whose product is K, as even as possible (512 = 8 8 8, 1000 = 10 10 10), or one of 2 to 64. Throws Error where there are none.
std::vector<int64_t> levels_for(int64_t codes);

// How often each code occurs in ids: (K).
std::vector<int64_t> code_counts(const Tensor& ids, int64_t codes);
// exp of the entropy of the counts: as if so many codes were used evenly; 0 for no counts.
double perplexity(const std::vector<int64_t>& counts);

}  // namespace qd
