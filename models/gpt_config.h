// The options of a decoder-only transformer (gpt.h), and config.json, the file that keeps them beside the weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/layers.h"
#include "nn/positions.h"

namespace qd {

enum class NormPlace { pre, post, deepnorm };          // GPT-2; the original Transformer; Wang et al. 2022
enum class MLPKind { gelu, gelu_erf, relu, swiglu };   // gelu in its tanh form; swiglu: Shazeer 2020

struct GPTConfig {
  int64_t vocab = 256, context = 64, width = 128, layers = 4, heads = 4;
  int64_t kv_heads = 0;                                // 0: as many as heads
  int64_t hidden = 0;                                  // of the MLP; 0: 4 width (swiglu: 8/3 width, up to a multiple of 8)
  NormPlace norm = NormPlace::pre;
  NormKind norm_kind = NormKind::layer;
  MLPKind activation = MLPKind::gelu;
  PositionKind positions = PositionKind::learned;
  int64_t columns = 0;                                 // of the grid whose cells are the positions; positions = grid
  double rotary = 1;                                   // fraction of each head's dimensions that RoPE turns
  Mask mask = Mask::causal;                            // a language model is causal
  double dropout = 0;
  double epsilon = 1e-5;                               // of the norms
  int64_t recompute = 0;                               // blocks per recomputed segment in training; 0: none. No part of the model
};

// Throws Error naming the option: heads divides width, kv_heads divides heads, RoPE turns an even number of dimensions, ...
void check(const GPTConfig& config);
int64_t hidden_width(const GPTConfig& config);         // `hidden`, or what 0 stands for
int64_t rotary_dims(const GPTConfig& config);          // dimensions of a head that RoPE turns; an even number
double weight_count(const GPTConfig& config);          // numbers in its matrices: to know before memory is taken

// The names on the command line and in config.json: "deepnorm", "rms", "rope", ... Another one throws Error with the list.
const char* name_of(NormPlace norm);
const char* name_of(NormKind kind);
const char* name_of(PositionKind positions);
const char* name_of(MLPKind activation);
const char* name_of(Mask mask);
NormPlace norm_place_named(const std::string& name);
NormKind norm_kind_named(const std::string& name);
PositionKind positions_named(const std::string& name);
MLPKind activation_named(const std::string& name);
Mask mask_named(const std::string& name);

// The options, with their values, that GPT-2's format cannot express: {"--positions rope", "--norm post"}. Empty: it is a GPT-2.
std::vector<std::string> beyond_gpt2(const GPTConfig& config);

// config.json has the keys of Hugging Face's GPT-2, of today and of 2019, and our own for what that format cannot say. Reading throws
// Error naming the file and the key: a missing one, a wrong type or size, every key that changes the mathematics in a way that gpt.h does
// not know, and every key that is known neither to matter nor not to.
void write_config(const std::string& folder, const GPTConfig& config, int32_t end_of_text = -1);   // end_of_text: its id; -1: there is none
GPTConfig read_config(const std::string& folder);

}  // namespace qd
