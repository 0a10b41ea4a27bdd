// Auto-encoder with two grids of codes, a coarse one for the whole and a fine one for details. Razavi et al. 2019, "Generating Diverse High-Fidelity
// Images with VQ-VAE-2", with the widths of its published reimplementation.
//   B = batch, H, W = picture, h, w = H / 4, W / 4, C = hidden width, D = width of a code
#pragma once

#include "models/vqvae.h"

namespace qd {

// From the fine grid's features to the coarse grid's vectors.
struct UpperEncoder : Module {
  UpperEncoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width) : Module(up, std::move(name)), c(c), code_width(code_width) {}
  const VQVAEConfig& c;
  const int64_t code_width;
  Conv2d conv_1{*this, "conv_1", c.width, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d conv_2{*this, "conv_2", c.width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  Conv2d conv_3{*this, "conv_3", c.width, code_width, 1};

  // x (B, h, w, C) -> (B, h/2, w/2, D)
  Tensor operator()(const Tensor& x) const {
    Tensor y = conv_2(conv_1(x, {.relu_input = true, .activation = Activation::relu}));
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    return conv_3(y, {.relu_input = true});
  }
};

// And back, for the fine grid's encoder to see what the coarse one has already said.
struct UpperDecoder : Module {
  UpperDecoder(Module& up, std::string name, const VQVAEConfig& c, int64_t code_width) : Module(up, std::move(name)), c(c), code_width(code_width) {}
  const VQVAEConfig& c;
  const int64_t code_width;
  Conv2d conv_1{*this, "conv_1", code_width, c.width, 3, {.shape = {.padding = 1}}};
  ModuleList<ConvResidual> residual{*this, "residual", c.residual_blocks, c};
  ConvTranspose2d conv_2{*this, "conv_2", c.width, c.width, 4, {.shape = {.stride = 2, .padding = 1}}};

  // q (B, h/2, w/2, D) -> (B, h, w, C)
  Tensor operator()(const Tensor& q) const {
    Tensor y = conv_1(q);
    for (int64_t i = 0; i < residual.size(); ++i) y = residual[i](y);
    return conv_2(relu(y));
  }
};

// A convolution of two tensors side by side is the sum of a convolution of each.
struct VQVAE2 : PictureCoder {
  explicit VQVAE2(const VQVAEConfig& config) : PictureCoder(config) {}
  std::unique_ptr<Quantizer> coarse = make_quantizer(*this, "coarse", c.quantizer), fine = make_quantizer(*this, "fine", c.quantizer);
  Encoder encoder{*this, "encoder", c, c.width};
  UpperEncoder encoder_upper{*this, "encoder_upper", c, coarse->width()};
  UpperDecoder decoder_upper{*this, "decoder_upper", c, coarse->width()};
  Conv2d from_picture{*this, "from_picture", c.width, fine->width(), 1}, from_upper{*this, "from_upper", c.width, fine->width(), 1};
  ConvTranspose2d enlarge{*this, "enlarge", coarse->width(), coarse->width(), 4, {.shape = {.stride = 2, .padding = 1}}};
  Conv2d from_coarse{*this, "from_coarse", coarse->width(), c.width, 3, {.shape = {.padding = 1}}};
  Decoder decoder{*this, "decoder", c, fine->width()};

  // features (B, h, w, C), coarse codes as vectors (B, h/2, w/2, D) -> vectors of the fine grid (B, h, w, D)
  Tensor fine_vectors(const Tensor& features, const Tensor& q) const {
    return from_picture(features, {.relu_input = true}) + from_upper(decoder_upper(q), {.relu_input = true});
  }
  // (B, h/2, w/2, D), (B, h, w, D) -> (B, H, W, channels)
  Tensor picture(const Tensor& q_coarse, const Tensor& q_fine) const {
    return decoder.rest(decoder.conv_1(q_fine) + from_coarse(enlarge(q_coarse)));
  }

  Pass pass(const Tensor& x) override {
    const Tensor features = piece([this](const auto& in) { return encoder.vectors(in[0]); }, {x});
    const Quantizer::Result top = (*coarse)(piece([this](const auto& in) { return encoder_upper(in[0]); }, {features}));
    const Quantizer::Result bottom = (*fine)(piece([this](const auto& in) { return fine_vectors(in[0], in[1]); }, {features, top.q}));
    return {piece([this](const auto& in) { return picture(in[0], in[1]); }, {top.q, bottom.q}),
            top.loss.defined() ? top.loss + bottom.loss : Tensor(), {top.ids, bottom.ids}};
  }
  Codes codes_of(const Tensor& x) const override {
    const Tensor features = encoder.vectors(x), top = coarse->encode(encoder_upper(features));
    return {top, fine->encode(fine_vectors(features, coarse->decode(top)))};
  }
  Tensor picture_of(const Codes& codes) const override { return picture(coarse->decode(codes[0]), fine->decode(codes[1])); }
  Tensor unquantised(const Tensor& x) const override {
    const Tensor features = encoder.vectors(x), top = coarse->unquantised(encoder_upper(features));
    return picture(top, fine->unquantised(fine_vectors(features, top)));
  }
  std::vector<int64_t> strides() const override { return {8, 4}; }
};

}  // namespace qd
