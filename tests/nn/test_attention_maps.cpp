// What heads look at, for the maps in a report.
#include <doctest/doctest.h>

#include "core/ops.h"
#include "models/gpt.h"

using namespace qd;

namespace {

GPTConfig tiny(PositionKind positions, NormPlace norm, int64_t kv_heads) {
  GPTConfig c;
  c.vocab = 11, c.context = 8, c.width = 16, c.layers = 3, c.heads = 4, c.kv_heads = kv_heads, c.positions = positions, c.norm = norm;
  return c;
}

}  // namespace

TEST_CASE("attention maps: the weights that attention itself uses, in every block") {
  const Tensor ids = tensor(std::vector<int32_t>{1, 5, 3, 9, 9, 2, 0}, {1, 7});
  for (const PositionKind positions : {PositionKind::learned, PositionKind::rotary, PositionKind::alibi, PositionKind::t5}) {
    for (const NormPlace norm : {NormPlace::pre, NormPlace::post}) {
      GPT model(tiny(positions, norm, positions == PositionKind::rotary ? 2 : 0));
      model.initialize(3);
      for (Parameter* p : model.parameters())   // far from even weights
        for (float& v : std::span(p->value.mutable_data(), static_cast<size_t>(p->value.size()))) v *= p->decays() ? 20 : 1;
      model.evaluate();
      const auto maps = model.attention_maps(ids);
      REQUIRE(maps.size() == 3);
      const NoGrad off;
      Tensor x = model.wpe.add(model.wte(ids));
      for (int64_t layer = 0; layer < 3; ++layer) {
        const Block& block = model.h[layer];
        const Attention& attn = block.attn;
        const Tensor in = norm == NormPlace::pre ? block.ln_1(x) : x, qkv = attn.c_attn(in), p = maps[static_cast<size_t>(layer)];
        REQUIRE(p.shape() == Shape({1, 4, 7, 7}));
        const int64_t d = attn.head_dim, row = qkv.cols(), shared = 4 / (attn.kv_width / d);
        Tensor mixed = empty({1, 7, 16});   // probabilities times values, by hand
        for (int64_t h = 0; h < 4; ++h)
          for (int64_t t = 0; t < 7; ++t) {
            double total = 0;
            for (int64_t s = 0; s < 7; ++s) total += p.data()[(h * 7 + t) * 7 + s];
            CHECK(total == doctest::Approx(1));
            for (int64_t s = t + 1; s < 7; ++s) CHECK(p.data()[(h * 7 + t) * 7 + s] == 0);
            for (int64_t i = 0; i < d; ++i) {
              double sum = 0;
              for (int64_t s = 0; s <= t; ++s)
                sum += static_cast<double>(p.data()[(h * 7 + t) * 7 + s]) * qkv.data()[s * row + 16 + attn.kv_width + h / shared * d + i];
              mixed.mutable_data()[t * 16 + h * d + i] = static_cast<float>(sum);
            }
          }
        const Tensor by_hand = attn.c_proj(mixed), usual = attn(in);
        for (int64_t i = 0; i < usual.size(); ++i) CHECK(by_hand.data()[i] == doctest::Approx(usual.data()[i]).epsilon(1e-4));
        x = block(x);
      }
    }
  }
}
