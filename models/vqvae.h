// Auto-encoder with a discrete code. Van den Oord et al. 2017, "Neural Discrete Representation Learning" (VQ-VAE), with the widths of its
// published code and the codebook as a moving average (its appendix A.1; kexue.fm/archives/6760).
//   B = batch, H, W = picture, h, w = H / 4, W / 4, C = hidden width, D = width of a code, K = codes
#pragma once

#include <string>
#include <utility>

#include "nn/layers.h"

namespace qd {

struct VQVAEConfig {
  int64_t channels = 3;
  int64_t width = 128, residual_width = 32, residual_blocks = 2;
  int64_t codes = 512, code_width = 64;
  float commitment = 0.25f;   // weight of |z - sg[q]|^2, a mean like the error of the picture: the paper's sums count it D times less
  float decay = 0.99f;        // of the moving averages
  float epsilon = 1e-5f;      // Laplace smoothing of the counts
};

// x + conv1x1(relu(conv3x3(relu(x))))
struct ConvResidual : Module {
  ConvResidual(Module& up, std::string name, const VQVAEConfig& c) : Module(up, std::move(name)), c(c) {}
  const VQVAEConfig& c;
  Conv2d conv_1{*this, "conv_1", c.width, c.residual_width, 3, {.shape = {.padding = 1}}};
  Conv2d conv_2{*this, "conv_2", c.residual_width, c.width, 1};

  Tensor operator()(const Tensor& x) const {
    return conv_2(conv_1(x, {.relu_input = true, .activation = Activation::relu}), {.residual = x});
  }
};

struct Encoder : Module {
  Encoder(Module& up, std::string name, const VQVAEConfig& c) : Module(up, std::move(name)), c(c) {}
  const VQVAEConfig& c;
  Conv2d conv_1{*this, "conv_1", c.channels, c.width / 2, 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d conv_2{*this, "conv_2", c.width / 2, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d conv_3{*this, "conv_3", c.width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  Conv2d conv_4{*this, "conv_4", c.width, c.code_width, 1};

  // x (B, H, W, channels) -> z (B, h, w, D)
  Tensor operator()(const Tensor& x) const {
    Tensor y = conv_1(x, {.activation = Activation::relu});     // (B, H/2, W/2, C/2)
    y = conv_2(y, {.activation = Activation::relu});            // (B, h, w, C)
    y = conv_3(y);
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    return conv_4(y, {.relu_input = true});
  }
};

struct Decoder : Module {
  Decoder(Module& up, std::string name, const VQVAEConfig& c) : Module(up, std::move(name)), c(c) {}
  const VQVAEConfig& c;
  Conv2d conv_1{*this, "conv_1", c.code_width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  ConvTranspose2d conv_2{*this, "conv_2", c.width, c.width / 2, 4, {.shape = {.stride = 2, .padding = 1}}};
  ConvTranspose2d conv_3{*this, "conv_3", c.width / 2, c.channels, 4, {.shape = {.stride = 2, .padding = 1}}};

  // q (B, h, w, D) -> (B, H, W, channels)
  Tensor operator()(const Tensor& q) const {
    Tensor y = conv_1(q);
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    y = conv_2(relu(y), {.activation = Activation::relu});
    return conv_3(y);
  }
};

// Codes as means of the vectors that chose them, over a window of about 1 / (1 - decay) batches. They start as if each had been chosen
// once by itself: an average that starts at zero throws unused codes far away.
struct Codebook : Module {
  Codebook(Module& up, std::string name, const VQVAEConfig& c) : Module(up, std::move(name)), c(c) {}
  const VQVAEConfig& c;
  Buffer counts{*this, "counts", {c.codes}, constant(1)};                   // N: how often a code is chosen in a batch
  Buffer sums{*this, "sums", {c.codes, c.code_width}, normal(0.1)};         // M: the sum of the vectors that chose it

  // e = M / N', N' = (N + epsilon) / (sum N + K epsilon) sum N:  (K, D)
  Tensor codes() const;
  // N <- decay N + (1 - decay) n,  M <- decay M + (1 - decay) sum of z by id:  z (B, h, w, D), ids (B, h, w)
  void update(const Tensor& z, const Tensor& ids);
};

struct VQVAE : Module {
  explicit VQVAE(const VQVAEConfig& config) : c(config) {}
  const VQVAEConfig c;
  Encoder encoder{*this, "encoder", c};
  Codebook codebook{*this, "codebook", c};
  Decoder decoder{*this, "decoder", c};

  Tensor encode(const Tensor& x) const { return nearest(encoder(x), codebook.codes()); }                 // (B, H, W, channels) -> ids (B, h, w)
  Tensor decode(const Tensor& ids) const { return decoder(embedding(codebook.codes(), ids)); }           // and back

  struct Losses {
    Tensor total, picture, commitment;   // total = picture + c.commitment * commitment
    Tensor ids;                          // (B, h, w)
  };
  // x (B, H, W, channels); H and W are multiples of 4. In training mode the codebook moves towards the batch.
  Losses losses(const Tensor& x) {
    if (!recomputing()) codes_ = codebook.codes();   // the second run of checkpoint() sees the codes of the first, which has moved them
    const Tensor z = encoder(x), codes = codes_, ids = nearest(z.detach(), codes);
    const Tensor q = embedding(codes, ids);
    const Tensor picture = mse(decoder(straight_through(z, q)), x), distance = mse(z, q);
    if (training() && !recomputing()) codebook.update(z, ids);
    return {picture + distance * c.commitment, picture, distance, ids};
  }

 private:
  Tensor codes_;   // of the last losses()
};

}  // namespace qd
