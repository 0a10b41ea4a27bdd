// Auto-encoder with a discrete code. Van den Oord et al. 2017, "Neural Discrete Representation Learning" (VQ-VAE), with the widths of its
// published code, and any quantiser in the middle (quantizer.h; kexue.fm/archives/6760).
//   B = batch, H, W = picture, h, w = H / 4, W / 4, C = hidden width, D = width of a code
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/autograd.h"
#include "models/quantizer.h"
#include "nn/layers.h"

namespace qd {

// paper: two strided convolutions and one more, two residual blocks, as published. post: the network of kexue.fm/archives/6760, batch norms between
// two strided convolutions and three residual blocks, whose codes are as wide as all else; its pictures end in tanh.
enum class PictureNet { paper, post };

struct VQVAEConfig {
  PictureNet net = PictureNet::paper;
  int64_t levels = 1;   // 2: a coarse grid of codes beside the fine one (models/vqvae2.h)
  int64_t channels = 3;
  int64_t width = 128, residual_width = 32, residual_blocks = 2;
  QuantizerConfig quantizer = {};
  bool recompute = false;   // in training: encoder and decoder are run again for their gradients instead of being kept. No part of the model
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

// An encoder or a decoder.
struct Half : Module {
  using Module::Module;
  virtual Tensor operator()(const Tensor& x) = 0;
};

struct Encoder : Half {
  Encoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width)
      : Half(up, std::move(name)), c(c), code_width(code_width) {}
  const VQVAEConfig& c;
  const int64_t code_width;
  Conv2d conv_1{*this, "conv_1", c.channels, c.width / 2, 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d conv_2{*this, "conv_2", c.width / 2, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d conv_3{*this, "conv_3", c.width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  Conv2d conv_4{*this, "conv_4", c.width, code_width, 1};

  // x (B, H, W, channels) -> z (B, h, w, D)
  Tensor operator()(const Tensor& x) override { return vectors(x); }
  Tensor vectors(const Tensor& x) const {
    Tensor y = conv_1(x, {.activation = Activation::relu});     // (B, H/2, W/2, C/2)
    y = conv_2(y, {.activation = Activation::relu});            // (B, h, w, C)
    y = conv_3(y);
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    return conv_4(y, {.relu_input = true});
  }
};

struct Decoder : Half {
  Decoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width)
      : Half(up, std::move(name)), c(c), code_width(code_width) {}
  const VQVAEConfig& c;
  const int64_t code_width;
  Conv2d conv_1{*this, "conv_1", code_width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  ConvTranspose2d conv_2{*this, "conv_2", c.width, c.width / 2, 4, {.shape = {.stride = 2, .padding = 1}}};
  ConvTranspose2d conv_3{*this, "conv_3", c.width / 2, c.channels, 4, {.shape = {.stride = 2, .padding = 1}}};

  // q (B, h, w, D) -> (B, H, W, channels)
  Tensor operator()(const Tensor& q) override { return rest(conv_1(q)); }
  // y (B, h, w, C): what conv_1 gives
  Tensor rest(Tensor y) const {
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    y = conv_2(relu(y), {.activation = Activation::relu});
    return conv_3(y);
  }
};

// x + conv1x1(relu(norm(conv3x3(relu(x)))))
struct NormedResidual : Module {
  NormedResidual(Module& up, std::string name, int64_t width) : Module(up, std::move(name)), width(width) {}
  const int64_t width;
  Conv2d conv_1{*this, "conv_1", width, width, 3, {.shape = {.padding = 1}}};
  BatchNorm norm{*this, "norm", width};
  Conv2d conv_2{*this, "conv_2", width, width, 1};

  Tensor operator()(const Tensor& x) { return conv_2(norm(conv_1(x, {.relu_input = true})), {.relu_input = true, .residual = x}); }
};

struct PostEncoder : Half {
  PostEncoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width)
      : Half(up, std::move(name)), c(c), code_width(code_width) {
    if (code_width != c.width) to_codes.emplace(*this, "to_codes", c.width, code_width, 1);
  }
  const VQVAEConfig& c;
  const int64_t code_width;
  Conv2d conv_1{*this, "conv_1", c.channels, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  BatchNorm norm_1{*this, "norm_1", c.width};
  Conv2d conv_2{*this, "conv_2", c.width, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  BatchNorm norm_2{*this, "norm_2", c.width};
  ModuleList<NormedResidual> residual{*this, "residual", 3, c.width};
  ModuleList<BatchNorm> norm{*this, "norm", 2, c.width};
  std::optional<Conv2d> to_codes;   // where codes are not as wide as all else

  Tensor operator()(const Tensor& x) override {
    Tensor y = norm_2(conv_2(norm_1(conv_1(x)), {.relu_input = true}));
    for (int64_t i = 0; i < 3; ++i) {
      y = residual[i](y);
      if (i < 2) y = norm[i](y);
    }
    return to_codes ? (*to_codes)(y) : y;
  }
};

struct PostDecoder : Half {
  PostDecoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width)
      : Half(up, std::move(name)), c(c), code_width(code_width) {
    if (code_width != c.width) from_codes.emplace(*this, "from_codes", code_width, c.width, 1);
  }
  const VQVAEConfig& c;
  const int64_t code_width;
  std::optional<Conv2d> from_codes;
  ModuleList<BatchNorm> norm{*this, "norm", 3, c.width};
  ModuleList<NormedResidual> residual{*this, "residual", 3, c.width};
  ConvTranspose2d conv_1{*this, "conv_1", c.width, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  BatchNorm norm_1{*this, "norm_1", c.width};
  ConvTranspose2d conv_2{*this, "conv_2", c.width, c.channels, 4, {.shape = {.stride = 2, .padding = 1}}};

  Tensor operator()(const Tensor& q) override {
    Tensor y = from_codes ? (*from_codes)(q) : q;
    for (int64_t i = 0; i < 3; ++i) y = residual[i](norm[i](y));
    return tanh(conv_2(relu(norm_1(conv_1(y)))));
  }
};

// A picture's codes: one grid (B, h, w), or two, the coarse one first.
using Codes = std::vector<Tensor>;

// What turns pictures into codes and back, however many grids there are.
struct PictureCoder : Module {
  explicit PictureCoder(const VQVAEConfig& config) : c(config) {}
  const VQVAEConfig c;

  // x (B, H, W, channels), H and W multiples of the largest stride. In training mode the codebook moves towards the batch.
  struct Pass {
    Tensor picture;      // decoded from the codes, of x's shape
    Tensor codes_loss;   // of the quantisers; undefined where they have none
    Codes codes;
  };
  virtual Pass pass(const Tensor& x) = 0;
  struct Losses {
    Tensor total, picture, codes;   // total = picture + codes; codes may be undefined
    Codes ids;
  };
  Losses losses(const Tensor& x) {
    const Pass p = pass(x);
    const Tensor picture = mse(p.picture, x);
    return {p.codes_loss.defined() ? picture + p.codes_loss : picture, picture, p.codes_loss, p.codes};
  }
  Tensor loss(const Tensor& x) { return losses(x).total; }

  virtual Codes codes_of(const Tensor& x) const = 0;
  virtual Tensor picture_of(const Codes& codes) const = 0;       // (B, H, W, channels)
  virtual Tensor unquantised(const Tensor& x) const = 0;         // what the decoder makes of the vectors themselves
  virtual std::vector<int64_t> strides() const = 0;              // pixels of a code each way, of every grid

 protected:
  // f(inputs); in training with `recompute` nothing in between is kept (Chen et al. 2016)
  Tensor piece(std::function<Tensor(const std::vector<Tensor>&)> f, const std::vector<Tensor>& inputs) const {
    return training() && c.recompute ? checkpoint(std::move(f), inputs) : f(inputs);
  }
};
std::unique_ptr<PictureCoder> make_picture_coder(const VQVAEConfig& config);   // throws Error: impossible sizes

struct VQVAE : PictureCoder {
  explicit VQVAE(const VQVAEConfig& config) : PictureCoder(config) {}
  std::unique_ptr<Quantizer> codebook = make_quantizer(*this, "codebook", c.quantizer);
  std::unique_ptr<Half> encoder = make<Encoder, PostEncoder>("encoder"), decoder = make<Decoder, PostDecoder>("decoder");

  Tensor encode(const Tensor& x) const { return codebook->encode((*encoder)(x)); }         // (B, H, W, channels) -> ids (B, h, w)
  Tensor decode(const Tensor& ids) const { return (*decoder)(codebook->decode(ids)); }     // and back

  Pass pass(const Tensor& x) override {
    const Quantizer::Result r = (*codebook)(piece([this](const auto& in) { return (*encoder)(in[0]); }, {x}));
    return {piece([this](const auto& in) { return (*decoder)(in[0]); }, {r.q}), r.loss, {r.ids}};
  }
  Codes codes_of(const Tensor& x) const override { return {encode(x)}; }
  Tensor picture_of(const Codes& codes) const override { return decode(codes[0]); }
  Tensor unquantised(const Tensor& x) const override { return (*decoder)(codebook->unquantised((*encoder)(x))); }
  std::vector<int64_t> strides() const override { return {4}; }

 private:
  template <class Paper, class Post>
  std::unique_ptr<Half> make(const char* name) {
    if (c.net == PictureNet::paper) return std::make_unique<Paper>(*this, name, c, codebook->width());
    return std::make_unique<Post>(*this, name, c, codebook->width());
  }
};

}  // namespace qd
