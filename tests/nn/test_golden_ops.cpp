// Ops, attention, losses and whole blocks against PyTorch: values to 1e-5, losses to 1e-5, every gradient to 1e-4.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <vector>

#include "core/ops.h"
#include "tests/golden.h"

using namespace qd;
using namespace qd::test;

namespace {

using Tensors = std::map<std::string, Tensor>;

void check_value(const char* what, const Tensor& y, const Tensor& expected) {
  CAPTURE(what);
  CHECK(difference(y, expected) < 1e-5);
}

void check_gradient_of(const std::string& what, const Tensor& gradient, const Tensor& expected) {
  CAPTURE(what);
  CHECK(difference(gradient, expected) < 1e-4);
}

// f gets the inputs as leaves; y, and d<input> for each of them, must be those of the file.
template <class F>
void check_case(const Golden& g, const std::vector<std::string>& inputs, F f) {
  CAPTURE(g.prefix);
  Tensors x;
  for (const std::string& name : inputs) x[name] = g.leaf(name);
  const Tensor y = f(x);
  check_value("y", y, g["y"]);
  backward(y, g["dy"]);
  for (const std::string& name : inputs) check_gradient_of("d" + name, x[name].gradient(), g["d" + name]);
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

template <class T>
std::vector<T> list(const Golden& g, const std::string& name) {
  if (!g.has(name)) return {};
  const auto values = g[name].values<T>();
  return {values.begin(), values.end()};
}

AttentionOptions attention_options(const Golden& g) {
  const std::map<std::string, Mask> masks{
      {"bidirectional", Mask::bidirectional}, {"causal", Mask::causal}, {"prefix", Mask::prefix}, {"mixed", Mask::mixed}};
  const auto integer = [&](const char* name) { return g.file.integer(g.prefix + name); };
  AttentionOptions o{.heads = integer("heads"), .kv_heads = integer("kv_heads"), .head_dim = integer("head_dim")};
  o.mask = masks.at(g.file.text(g.prefix + "mask"));
  o.scale = static_cast<float>(g.file.real(g.prefix + "scale"));
  o.query_offset = integer("query_offset");
  o.prefix = list<int32_t>(g, "prefix");
  o.lengths = list<int32_t>(g, "lengths");
  o.slopes = list<float>(g, "slopes");
  if (const int64_t dim = integer("rotary_dim")) o.rotary = rotary_table(64, dim);
  return o;
}

// (B, T, a) (B, T, b) (B, T, c) -> (B, T, a + b + c)
Tensor packed(const std::vector<Tensor>& parts) {
  int64_t width = 0, column = 0;
  for (const Tensor& part : parts) width += part.cols();
  Tensor out = empty({parts[0].dim(0), parts[0].dim(1), width});
  for (const Tensor& part : parts) {
    for (int64_t r = 0; r < part.rows(); ++r)
      std::copy_n(part.data() + r * part.cols(), part.cols(), out.mutable_data() + r * width + column);
    column += part.cols();
  }
  return out;
}

struct BlockStyle {
  bool pre = true, rms = false, gated = false;
  float alpha = 1;
  Activation activation = Activation::gelu;
};

// A GPT block from ops alone, each written as the paper has it: what models/ must agree with.
Tensor block(const Tensors& p, const Tensor& x, int64_t heads, const BlockStyle& s) {
  const auto get = [&](const std::string& name) { return p.contains(name) ? p.at(name) : Tensor(); };
  const auto dense = [&](const std::string& name, const Tensor& h, Activation f = Activation::none) {
    return linear(h, get(name + ".weight"), get(name + ".bias"), Layout::in_out, f);
  };
  const auto ln = [&](const std::string& name, const Tensor& h) {
    return norm(h, get(name + ".weight"), get(name + ".bias"), {.rms = s.rms});
  };
  const auto add_norm = [&](const std::string& name, const Tensor& h, const Tensor& f) {
    return residual_norm(h, s.alpha, f, get(name + ".weight"), get(name + ".bias"), {.rms = s.rms});
  };
  const auto attn = [&](const Tensor& h) {
    const int64_t width = h.cols();
    const Tensor qkv = dense("attn.c_attn", h);
    return dense("attn.c_proj", attention({qkv}, {qkv, width}, {qkv, 2 * width}, {.heads = heads, .head_dim = width / heads}));
  };
  const auto mlp = [&](const Tensor& h) {
    if (s.gated) return dense("mlp.w2", dense("mlp.w1", h, Activation::silu) * dense("mlp.w3", h));
    return dense("mlp.c_proj", dense("mlp.c_fc", h, s.activation));
  };
  if (s.pre) {
    const Tensor h = x + attn(ln("ln_1", x));
    return h + mlp(ln("ln_2", h));
  }
  const Tensor h = add_norm("ln_1", x, attn(x));
  return add_norm("ln_2", h, mlp(h));
}

}  // namespace

TEST_CASE("golden: norms, activations, softmax, linear") {
  const State file = golden("ops");
  const auto alpha = static_cast<float>(file.real("residual_norm.alpha"));
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    check_case({file, "layer_norm."}, {"x", "weight", "bias"}, [](Tensors& t) { return norm(t["x"], t["weight"], t["bias"]); });
    check_case({file, "rms_norm."}, {"x", "weight"}, [](Tensors& t) { return norm(t["x"], t["weight"], {}, {.rms = true}); });
    check_case({file, "residual_norm."}, {"x", "f", "weight", "bias"},
               [&](Tensors& t) { return residual_norm(t["x"], alpha, t["f"], t["weight"], t["bias"]); });
    check_case({file, "softmax."}, {"x"}, [](Tensors& t) { return softmax(t["x"]); });
    check_case({file, "gelu."}, {"x"}, [](Tensors& t) { return gelu(t["x"]); });
    check_case({file, "gelu_erf."}, {"x"}, [](Tensors& t) { return gelu_erf(t["x"]); });
    check_case({file, "silu."}, {"x"}, [](Tensors& t) { return silu(t["x"]); });
    check_case({file, "linear."}, {"x", "weight", "bias"}, [](Tensors& t) { return linear(t["x"], t["weight"], t["bias"]); });
    check_case({file, "linear_in_out_gelu."}, {"x", "weight", "bias"},
               [](Tensors& t) { return linear(t["x"], t["weight"], t["bias"], Layout::in_out, Activation::gelu); });
  });
}

TEST_CASE("golden: attention with every mask, bias and head option") {
  const State file = golden("attention");
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    for (const std::string& name : words(file.text("cases"))) {
      const Golden g{file, name + "."};
      AttentionOptions o = attention_options(g);
      std::vector<std::string> inputs{"q", "k", "v"};
      if (g.has("table")) inputs.push_back("table");
      check_case(g, inputs, [&](Tensors& t) {
        if (g.has("table")) o.table = t["table"];
        return attention({t["q"]}, {t["k"]}, {t["v"]}, o);
      });
    }
  });
}

TEST_CASE("golden: attention on packed rows gives the packed gradient") {
  const State file = golden("attention");
  for (const char* name : {"causal.", "rotary_half.", "grouped.", "mixed_lengths."}) {
    CAPTURE(name);
    const Golden g{file, name};
    const int64_t width = g["q"].cols(), kv_width = g["k"].cols();
    const Tensor gap = full({g["q"].dim(0), g["q"].dim(1), 3}, 0);
    for (const bool with_gap : {false, true}) {   // columns that no head reads get zeros
      const auto join = [&](const char* q, const char* k, const char* v) {
        return with_gap ? packed({g[q], g[k], g[v], gap}) : packed({g[q], g[k], g[v]});
      };
      Tensor x = join("q", "k", "v");
      x.require_gradient();
      const Tensor y = attention({x}, {x, width}, {x, width + kv_width}, attention_options(g));
      check_value("y", y, g["y"]);
      backward(y, g["dy"]);
      check_gradient_of("dx", x.gradient(), join("dq", "dk", "dv"));
    }
  }
}

TEST_CASE("golden: T5 buckets and ALiBi slopes") {
  const State file = golden("positions");
  const auto distances = file.tensors.at("distances").values<int32_t>();
  for (const bool both : {false, true}) {
    const auto buckets = file.tensors.at(both ? "t5.both" : "t5.causal").values<int32_t>();
    for (size_t i = 0; i < distances.size(); ++i) {
      CAPTURE(distances[i]);
      CHECK(t5_bucket(distances[i], both, file.integer("buckets"), file.integer("max_distance")) == buckets[i]);
    }
  }
  for (int64_t heads = 1; heads <= 16; ++heads) {
    CAPTURE(heads);
    CHECK(difference(tensor(alibi_slopes(heads)), file.tensors.at(str("alibi.", heads))) < 1e-7);
  }
}

TEST_CASE("golden: cross-entropy") {
  const State file = golden("cross_entropy");
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    const Golden g{file, ""}, fused{file, "linear."};
    const Tensor logits = g.leaf("logits"), loss = cross_entropy(logits, g["targets"]);
    CHECK(loss.item() == doctest::Approx(g["loss"].item()).epsilon(1e-5));
    loss.backward();
    check_gradient_of("dlogits", logits.gradient(), g["dlogits"]);

    const Tensor x = fused.leaf("x"), weight = fused.leaf("weight");
    const Tensor whole = cross_entropy(matmul(x, weight, false, true), fused["targets"]);
    const Tensor chunked = linear_cross_entropy(x, weight, fused["targets"]);
    for (const Tensor& y : {whole, chunked}) {
      CHECK(y.item() == doctest::Approx(fused["loss"].item()).epsilon(1e-5));
      y.backward();
      check_gradient_of("dx", x.gradient(), fused["dx"]);
      check_gradient_of("dweight", weight.gradient(), fused["dweight"]);
      for (Tensor t : {x, weight}) t.clear_gradient();
    }
  });
}

TEST_CASE("golden: a block from ops, in six styles") {
  const State file = golden("block");
  const std::map<std::string, BlockStyle> styles{{"pre", {}},
                                                 {"post", {.pre = false}},
                                                 {"deepnorm", {.pre = false, .alpha = static_cast<float>(file.real("alpha"))}},
                                                 {"gelu_erf", {.activation = Activation::gelu_erf}},
                                                 {"relu", {.activation = Activation::relu}},
                                                 {"rms_swiglu", {.rms = true, .gated = true}}};
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    for (const std::string& variant : words(file.text("variants"))) {
      CAPTURE(variant);
      const Golden own{file, variant + "."};
      const Golden shared{file, styles.at(variant).gated ? variant + ".param." : "param."};
      Tensors p;
      for (const auto& [name, unused] : file.tensors)
        if (name.starts_with(shared.prefix)) p[name.substr(shared.prefix.size())] = Golden{file, ""}.leaf(name);
      const Tensor x = Golden{file, ""}.leaf("x");
      const Tensor y = block(p, x, file.integer("heads"), styles.at(variant));
      check_value("y", y, own["y"]);
      backward(y, file.tensors.at("dy"));
      check_gradient_of("dx", x.gradient(), own["dx"]);
      for (const auto& [name, w] : p) check_gradient_of(name, w.gradient(), own["grad." + name]);
    }
  });
}

TEST_CASE("golden: convolutions") {
  const State file = golden("conv");
  for (const std::string& name : words(file.text("cases"))) {
    const Golden g{file, name + "."};
    const auto axes = [&](const std::string& option) {
      return PerAxis(file.integer(name + "." + option + ".y"), file.integer(name + "." + option + ".x"));
    };
    const ConvOptions o{.stride = axes("stride"), .padding = axes("padding"), .dilation = axes("dilation"), .output_padding = axes("output_padding")};
    const bool transposed = file.integer(name + ".transposed") != 0;
    on_every_table([&](const std::string& table) {
      INFO(table);
      check_case(g, {"x", "weight", "bias"}, [&](Tensors& x) {
        return transposed ? conv_transpose2d(x["x"], x["weight"], x["bias"], o) : conv2d(x["x"], x["weight"], x["bias"], o);
      });
    });
  }
}

TEST_CASE("golden: norms over channels, pooling, upsampling") {
  const State file = golden("picture_ops");
  on_every_table([&](const std::string& table) {
    CAPTURE(table);
    BatchStatistics batch;
    check_case({file, "batch_norm."}, {"x", "weight", "bias"}, [&](Tensors& t) { return batch_norm(t["x"], t["weight"], t["bias"], 1e-5f, batch); });
    for (const int64_t groups : {1, 2, 6})
      check_case({file, str("group_norm.", groups, ".")}, {"x", "weight", "bias"},
                 [&](Tensors& t) { return group_norm(t["x"], groups, t["weight"], t["bias"], 1e-5f); });
    const PoolOptions plain{.window = {2, 3}}, padded{.window = 3, .stride = 2, .padding = 1};
    check_case({file, "max_pool."}, {"x"}, [&](Tensors& t) { return max_pool2d(t["x"], plain); });
    check_case({file, "max_pool_padded."}, {"x"}, [&](Tensors& t) { return max_pool2d(t["x"], padded); });
    check_case({file, "average_pool."}, {"x"}, [&](Tensors& t) { return average_pool2d(t["x"], plain); });
    check_case({file, "average_pool_padded."}, {"x"}, [&](Tensors& t) { return average_pool2d(t["x"], padded); });
    check_case({file, "upsample."}, {"x"}, [](Tensors& t) { return upsample_nearest(t["x"], {2, 3}); });
  });
}
