#!/usr/bin/python3
"""Makes the golden files of this folder with PyTorch: what the C++ tests compare values, gradients and optimiser steps with.

    python3 tests/golden/make_golden.py            writes tests/golden/*.safetensors
    python3 tests/golden/make_golden.py --check    compares what it would write with the files that are there

Every input is random, rounded to f32 and stored; every reference is computed from those f32 inputs in f64 and rounded to f32
once, at the end, so that a difference in the tests is the error of the code under test. Seeds are fixed, one thread.
Only PyTorch and the standard library are needed (Debian: python3-torch).
"""
import json
import math
import pathlib
import struct
import sys

import torch
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).parent
IGNORED = -100


# --- safetensors: 8 bytes of header length, a JSON header, the numbers ------------------------------------------------

TYPES = {torch.float64: ("F32", torch.float32), torch.float32: ("F32", torch.float32),
         torch.int64: ("I32", torch.int32), torch.int32: ("I32", torch.int32)}
STORED = {"F32": torch.float32, "I32": torch.int32}


def pack(tensors, texts):
    header, blobs, offset = {}, [], 0
    if texts:
        header["__metadata__"] = {key: str(value) for key, value in sorted(texts.items())}
    for name in sorted(tensors):
        x = tensors[name].detach()
        type_name, dtype = TYPES[x.dtype]
        blob = x.to(dtype).contiguous().numpy().astype("<" + ("f4" if type_name == "F32" else "i4")).tobytes()
        header[name] = {"dtype": type_name, "shape": list(x.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blobs)


def unpack(data):
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    texts = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        blob = bytearray(data[8 + size + begin:8 + size + end])
        x = torch.frombuffer(blob, dtype=STORED[entry["dtype"]]) if blob else torch.zeros(0, dtype=STORED[entry["dtype"]])
        tensors[name] = x.reshape(entry["shape"])
    return tensors, texts


# --- random inputs and gradients --------------------------------------------------------------------------------------

class Source:
    """Random tensors whose values are f32 numbers, held in f64; one stream per file: files do not depend on each other."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, deviation=1.0, mean=0.0):
        return (torch.randn(shape, generator=self.generator) * deviation + mean).double()

    def uniform(self, *shape, low, high):
        return (torch.rand(shape, generator=self.generator) * (high - low) + low).double()

    def ids(self, *shape, below):
        return torch.randint(below, shape, generator=self.generator)


def leaf(x):
    return x.clone().requires_grad_(True)


def differentiate(f, dy, /, **inputs):
    """y = f(**inputs), and the gradients of sum(y * dy) by name."""
    leaves = {name: leaf(x) for name, x in inputs.items()}
    y = f(**leaves)
    gradients = torch.autograd.grad(y, list(leaves.values()), dy)
    return y.detach(), {"d" + name: g for name, g in zip(leaves, gradients)}


def prefixed(prefix, tensors):
    return {f"{prefix}.{name}": x for name, x in tensors.items()}


# --- the functions ----------------------------------------------------------------------------------------------------

def gelu_tanh(x):   # "gelu_new", Hendrycks and Gimpel 2016
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def gelu_erf(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def layer_norm(x, weight, bias, epsilon=1e-5):
    return F.layer_norm(x, x.shape[-1:], weight, bias, epsilon)


def rms_norm(x, weight, epsilon=1e-5):   # Zhang and Sennrich 2019
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon)


def rotate(x, dim, base, first=0):
    """RoPE (Su et al. 2021) on x (B, H, T, d): pairs (i, i + dim/2) of the first dim columns, token t at position first + t."""
    half = dim // 2
    t = torch.arange(first, first + x.shape[2], dtype=torch.float64)[:, None]
    angle = t * base ** (-2 * torch.arange(half, dtype=torch.float64) / dim)
    a, b, rest = x[..., :half], x[..., half:dim], x[..., dim:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos(), rest], -1)


def alibi_slopes(heads):
    """Press et al. 2021: a geometric sequence for a power of two; else odd members of the next power's sequence fill up."""
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8 * (h + 1) / heads) for h in range(heads)]
    power = 2 ** math.floor(math.log2(heads))
    return alibi_slopes(power) + alibi_slopes(2 * power)[0::2][:heads - power]


def t5_bucket(key_minus_query, both, buckets, max_distance):
    """Raffel et al. 2020. The logarithm is taken in whole numbers, so that no edge is rounded: the largest k with
    (d/e)^n >= (m/e)^k, where e distances have buckets of their own, n buckets are left and m is the largest distance."""
    first, distance = 0, max(-key_minus_query, 0)
    if both:
        buckets //= 2
        first, distance = (buckets if key_minus_query > 0 else 0), abs(key_minus_query)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    n, k = buckets - exact, 0
    while k < n - 1 and distance ** n * exact ** (k + 1) >= max_distance ** (k + 1) * exact ** n:
        k += 1
    return first + exact + k


def attend(q, k, v, table=None, *, heads, kv_heads=None, mask="causal", scale=None, offset=0, prefix=None, lengths=None,
           slopes=None, rotary_dim=0, base=10000.0, max_distance=128):
    """softmax(scale q k^T + bias) v. q (B, Tq, H d), k and v (B, Tk, kv_heads d). A row that sees no key gives zeros."""
    kv_heads = kv_heads or heads
    B, Tq, Tk, d = q.shape[0], q.shape[1], k.shape[1], q.shape[2] // heads
    q = q.reshape(B, Tq, heads, d).transpose(1, 2)
    k = k.reshape(B, Tk, kv_heads, d).transpose(1, 2)
    v = v.reshape(B, Tk, kv_heads, d).transpose(1, 2)
    if rotary_dim:
        q, k = rotate(q, rotary_dim, base, offset), rotate(k, rotary_dim, base)
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * (scale or 1 / math.sqrt(d))
    i = torch.arange(offset, offset + Tq)[:, None]   # positions of the queries
    j = torch.arange(Tk)[None, :]                    # and of the keys
    if slopes is not None:
        scores = scores - torch.tensor(slopes, dtype=torch.float64)[:, None, None] * (i - j).abs()
    if table is not None:
        bucket = [[t5_bucket(b - a, mask != "causal", len(table), max_distance) for b in range(Tk)] for a in i[:, 0].tolist()]
        scores = scores + table[torch.tensor(bucket)].permute(2, 0, 1)
    seen = torch.ones(B, heads, Tq, Tk, dtype=torch.bool)
    if mask == "causal":
        seen = seen & (j <= i)
    elif mask == "prefix":
        seen = seen & ((j <= i) | (j < torch.tensor(prefix)[:, None, None, None]))
    elif mask == "mixed":
        forward = torch.arange(heads)[:, None, None] < heads // 2
        seen = seen & torch.where(forward, j <= i, j >= i)
    if lengths is not None:
        seen = seen & (j < torch.tensor(lengths)[:, None, None, None])
    blind = ~seen.any(-1, keepdim=True)
    p = scores.masked_fill(~seen & ~blind, -math.inf).softmax(-1).masked_fill(blind, 0)
    return (p @ v).transpose(1, 2).reshape(B, Tq, heads * d)


# --- models -----------------------------------------------------------------------------------------------------------

def self_attention(p, x, heads):
    q, k, v = (x @ p["c_attn.weight"] + p["c_attn.bias"]).split(x.shape[-1], dim=-1)
    return attend(q, k, v, heads=heads) @ p["c_proj.weight"] + p["c_proj.bias"]


def mlp(p, x, activation):
    if activation == "swiglu":   # Shazeer 2020
        return (F.silu(x @ p["w1.weight"]) * (x @ p["w3.weight"])) @ p["w2.weight"]
    f = {"gelu": gelu_tanh, "gelu-erf": gelu_erf, "relu": torch.relu}[activation]
    return f(x @ p["c_fc.weight"] + p["c_fc.bias"]) @ p["c_proj.weight"] + p["c_proj.bias"]


def under(p, prefix):
    return {name[len(prefix) + 1:]: x for name, x in p.items() if name.startswith(prefix + ".")}


def block(p, x, heads, norm="pre", kind="layer", activation="gelu", alpha=1.0):
    def ln(name, x):
        return layer_norm(x, p[name + ".weight"], p[name + ".bias"]) if kind == "layer" else rms_norm(x, p[name + ".weight"])

    def attn(x):
        return self_attention(under(p, "attn"), x, heads)

    def feed(x):
        return mlp(under(p, "mlp"), x, activation)

    if norm == "pre":
        x = x + attn(ln("ln_1", x))
        return x + feed(ln("ln_2", x))
    x = ln("ln_1", alpha * x + attn(x))   # post-norm; DeepNorm (Wang et al. 2022) with alpha > 1
    return ln("ln_2", alpha * x + feed(x))


def block_parameters(source, width, hidden, deviation, kind="layer", activation="gelu"):
    def norm(name):
        p = {name + ".weight": source.normal(width, deviation=0.2, mean=1)}
        return {**p, name + ".bias": source.normal(width, deviation=0.2)} if kind == "layer" else p

    def dense(name, inputs, outputs, bias=True):   # stored (in, out), as GPT-2's Conv1D
        p = {name + ".weight": source.normal(inputs, outputs, deviation=deviation)}
        return {**p, name + ".bias": source.normal(outputs, deviation=0.1)} if bias else p

    p = {**norm("ln_1"), **dense("attn.c_attn", width, 3 * width), **dense("attn.c_proj", width, width), **norm("ln_2")}
    if activation == "swiglu":
        return {**p, **dense("mlp.w1", width, hidden, False), **dense("mlp.w3", width, hidden, False),
                **dense("mlp.w2", hidden, width, False)}
    return {**p, **dense("mlp.c_fc", width, hidden), **dense("mlp.c_proj", hidden, width)}


def gpt2_logits(p, ids, layers, heads):
    x = p["wte.weight"][ids] + p["wpe.weight"][:ids.shape[1]]
    for i in range(layers):
        x = block(under(p, f"h.{i}"), x, heads)
    return layer_norm(x, p["ln_f.weight"], p["ln_f.bias"]) @ p["wte.weight"].T   # the head is the token embedding


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORED)


# --- pictures: ours are channel-last (B, H, W, C), with weights (out, kh, kw, in) and, transposed, (in, kh, kw, out) ------

def conv(x, weight, bias, **options):
    return F.conv2d(x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias, **options).permute(0, 2, 3, 1)


def conv_transpose(x, weight, bias, **options):
    return F.conv_transpose2d(x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias, **options).permute(0, 2, 3, 1)


def vqvae_layers(channels, width, residual_width, blocks, code_width):
    """Name -> (transposed, in, out, kernel)."""
    def residual(side):
        return {f"{side}.residual.{i}.conv_{j}": (False, *shape) for i in range(blocks)
                for j, shape in ((1, (width, residual_width, 3)), (2, (residual_width, width, 1)))}
    return {"encoder.conv_1": (False, channels, width // 2, 4), "encoder.conv_2": (False, width // 2, width, 4),
            "encoder.conv_3": (False, width, width, 3), **residual("encoder"), "encoder.conv_4": (False, width, code_width, 1),
            "decoder.conv_1": (False, code_width, width, 3), **residual("decoder"),
            "decoder.conv_2": (True, width, width // 2, 4), "decoder.conv_3": (True, width // 2, channels, 4)}


def vqvae(p, x, blocks, commitment):
    """Van den Oord et al. 2017; p holds codebook.counts and codebook.sums as well. Gives losses, ids, z and the codes."""
    def layer(name, x, f=conv, **options):
        return f(x, p[name + ".weight"], p[name + ".bias"], **options)

    def residuals(side, x):
        for i in range(blocks):
            h = torch.relu(layer(f"{side}.residual.{i}.conv_1", torch.relu(x), padding=1))
            x = x + layer(f"{side}.residual.{i}.conv_2", h)
        return x

    y = torch.relu(layer("encoder.conv_1", x, stride=2, padding=1))
    y = torch.relu(layer("encoder.conv_2", y, stride=2, padding=1))
    z = layer("encoder.conv_4", torch.relu(residuals("encoder", layer("encoder.conv_3", y, padding=1))))
    n, m = p["codebook.counts"].detach(), p["codebook.sums"].detach()
    codes = m / ((n + 1e-5) / (n.sum() + len(n) * 1e-5) * n.sum())[:, None]
    distances = ((z.detach()[..., None, :] - codes) ** 2).sum(-1)
    ids = distances.argmin(-1)
    q = codes[ids]
    y = residuals("decoder", layer("decoder.conv_1", z + (q - z).detach(), padding=1))
    y = torch.relu(layer("decoder.conv_2", torch.relu(y), conv_transpose, stride=2, padding=1))
    picture = F.mse_loss(layer("decoder.conv_3", y, conv_transpose, stride=2, padding=1), x)
    distance = F.mse_loss(z, q)
    return picture + commitment * distance, picture, distance, ids, z, codes


def channels_first(f, x, *rest, **options):   # a function of PyTorch's on pictures (B, H, W, C)
    return f(x.permute(0, 3, 1, 2), *rest, **options).permute(0, 2, 3, 1)


def post_layers(channels, width):
    """The network of kexue.fm/archives/6760: name -> (kind, in, out, kernel)."""
    def residuals(side):
        for i in range(3):
            yield f"{side}.residual.{i}.conv_1", ("conv", width, width, 3)
            yield f"{side}.residual.{i}.norm", ("norm", width, width, 1)
            yield f"{side}.residual.{i}.conv_2", ("conv", width, width, 1)
    return {"encoder.conv_1": ("conv", channels, width, 4), "encoder.norm_1": ("norm", width, width, 1),
            "encoder.conv_2": ("conv", width, width, 4), "encoder.norm_2": ("norm", width, width, 1), **dict(residuals("encoder")),
            **{f"encoder.norm.{i}": ("norm", width, width, 1) for i in range(2)},
            **{f"decoder.norm.{i}": ("norm", width, width, 1) for i in range(3)}, **dict(residuals("decoder")),
            "decoder.conv_1": ("transposed", width, width, 4), "decoder.norm_1": ("norm", width, width, 1),
            "decoder.conv_2": ("transposed", width, channels, 4)}


def post_vqvae(p, x, beta, gamma, averages):
    """The post's network with a codebook of SimVQ (Zhu et al. 2024). `averages` receives those that the batch norms keep."""
    def layer(name, x, f=conv, **options):
        return f(x, p[name + ".weight"], p[name + ".bias"], **options)

    def norm(name, x):
        mean, variance = torch.zeros(x.shape[-1]).double(), torch.ones(x.shape[-1]).double()
        y = channels_first(F.batch_norm, x, mean, variance, p[name + ".weight"], p[name + ".bias"], training=True)
        averages[name + ".mean"], averages[name + ".variance"] = mean, variance
        return y

    def residual(name, x):
        h = norm(name + ".norm", layer(name + ".conv_1", torch.relu(x), padding=1))
        return x + layer(name + ".conv_2", torch.relu(h))

    y = norm("encoder.norm_1", layer("encoder.conv_1", x, stride=2, padding=1))
    y = norm("encoder.norm_2", layer("encoder.conv_2", torch.relu(y), stride=2, padding=1))
    for i in range(3):
        y = residual(f"encoder.residual.{i}", y)
        y = norm(f"encoder.norm.{i}", y) if i < 2 else y
    z, codes = y, p["codebook.fixed"].detach() @ p["codebook.weight"]
    ids = ((z.detach()[..., None, :] - codes.detach()) ** 2).sum(-1).argmin(-1)
    q = codes[ids]
    y = z + (q - z).detach()
    for i in range(3):
        y = residual(f"decoder.residual.{i}", norm(f"decoder.norm.{i}", y))
    y = norm("decoder.norm_1", layer("decoder.conv_1", y, conv_transpose, stride=2, padding=1))
    picture = F.mse_loss(torch.tanh(layer("decoder.conv_2", torch.relu(y), conv_transpose, stride=2, padding=1)), x)
    distance = beta * F.mse_loss(z.detach(), q) + gamma * F.mse_loss(z, q.detach())
    return picture + distance, picture, distance, ids, z, codes


# --- the files --------------------------------------------------------------------------------------------------------

def make_ops():
    source, out = Source(1), {}

    def case(name, f, dy_shape, /, **inputs):
        dy = source.normal(*dy_shape)
        y, gradients = differentiate(f, dy, **inputs)
        out.update(prefixed(name, {**inputs, "dy": dy, "y": y, **gradients}))

    x = source.normal(3, 5, 19, deviation=2, mean=0.5)
    weight, bias = source.normal(19, deviation=0.5, mean=1), source.normal(19)
    case("layer_norm", layer_norm, x.shape, x=x, weight=weight, bias=bias)
    case("rms_norm", rms_norm, x.shape, x=x, weight=weight)
    case("residual_norm", lambda x, f, weight, bias: layer_norm(1.7 * x + f, weight, bias), x.shape,
         x=x, f=source.normal(3, 5, 19), weight=weight, bias=bias)
    case("softmax", lambda x: x.softmax(-1), (4, 23), x=source.normal(4, 23, deviation=6))
    wide = torch.cat([source.uniform(4, 27, low=-12, high=12), source.uniform(1, 27, low=-0.01, high=0.01)])
    case("gelu", gelu_tanh, wide.shape, x=wide)
    case("gelu_erf", gelu_erf, wide.shape, x=wide)
    case("silu", lambda x: x * torch.sigmoid(x), wide.shape, x=wide)
    x, bias = source.normal(2, 5, 12), source.normal(21)
    case("linear", lambda x, weight, bias: x @ weight.T + bias, (2, 5, 21), x=x, weight=source.normal(21, 12), bias=bias)
    case("linear_in_out_gelu", lambda x, weight, bias: gelu_tanh(x @ weight + bias), (2, 5, 21),
         x=x, weight=source.normal(12, 21), bias=bias)
    return out, {"residual_norm.alpha": 1.7}


def make_attention():
    source, out, texts = Source(2), {}, {}

    def case(name, B, T, heads, d, Tk=None, kv_heads=None, mask="causal", t5=False, offset=0, rotary_dim=0, **options):
        kv = (kv_heads or heads) * d
        inputs = {"q": source.normal(B, T, heads * d), "k": source.normal(B, Tk or T, kv), "v": source.normal(B, Tk or T, kv)}
        if t5:
            inputs["table"] = source.normal(32, heads)
        dy = source.normal(B, T, heads * d)
        options.update(heads=heads, kv_heads=kv_heads, mask=mask, offset=offset, rotary_dim=rotary_dim)
        y, gradients = differentiate(lambda **x: attend(**x, **options), dy, **inputs)
        out.update(prefixed(name, {**inputs, "dy": dy, "y": y, **gradients}))
        for key in ("prefix", "lengths"):
            if key in options:
                out[f"{name}.{key}"] = torch.tensor(options[key])
        if "slopes" in options:
            out[f"{name}.slopes"] = torch.tensor(options["slopes"], dtype=torch.float64)
        texts.update(prefixed(name, {"heads": heads, "kv_heads": kv_heads or heads, "head_dim": d, "mask": mask,
                                     "query_offset": offset, "rotary_dim": rotary_dim, "scale": options.get("scale", 0.0)}))
        texts["cases"] = (texts.get("cases", "") + " " + name).strip()

    case("causal", 2, 9, 3, 5)
    case("bidirectional", 2, 9, 3, 5, mask="bidirectional", scale=0.7)
    case("rotary_full", 1, 11, 2, 8, rotary_dim=8)
    case("rotary_half", 1, 11, 2, 8, rotary_dim=4)
    case("alibi_4", 1, 13, 4, 4, slopes=alibi_slopes(4))
    case("alibi_6", 1, 13, 6, 4, slopes=alibi_slopes(6))
    case("t5_causal", 1, 40, 2, 4, t5=True)
    case("t5_bidirectional", 1, 40, 2, 4, mask="bidirectional", t5=True)
    case("prefix", 3, 9, 2, 4, mask="prefix", prefix=[4, 0, 9])
    case("mixed", 1, 9, 4, 4, mask="mixed")
    case("lengths", 3, 9, 2, 4, mask="bidirectional", lengths=[5, 9, 0])         # the last sequence sees no key at all
    case("mixed_lengths", 2, 9, 4, 4, mask="mixed", lengths=[5, 9])              # neither do some rows of the backward heads
    case("grouped", 1, 9, 6, 4, kv_heads=2)
    case("offset", 2, 3, 2, 8, Tk=9, offset=6, rotary_dim=8)                     # three new tokens after six cached ones
    case("together", 2, 7, 4, 6, Tk=12, kv_heads=2, mask="prefix", t5=True, offset=5, rotary_dim=4, prefix=[8, 3],
         lengths=[11, 12])
    return out, texts


def make_cross_entropy():
    source = Source(3)
    logits, targets = source.normal(7, 33, deviation=5), source.ids(7, below=33)
    targets[[1, 4]] = IGNORED
    one = torch.tensor(1.0).double()
    loss, d = differentiate(lambda logits: cross_entropy(logits, targets), one, logits=logits)
    x, weight, linear_targets = source.normal(2, 5, 12), source.normal(33, 12, deviation=0.5), source.ids(2, 5, below=33)
    linear_targets[1, 3:] = IGNORED
    linear_loss, dl = differentiate(lambda x, weight: cross_entropy(x @ weight.T, linear_targets), one, x=x, weight=weight)
    return {"logits": logits, "targets": targets, "loss": loss, **d,
            **prefixed("linear", {"x": x, "weight": weight, "targets": linear_targets, "loss": linear_loss, **dl})}, {}


def make_block():
    source = Source(4)
    B, T, width, hidden, heads, layers = 2, 9, 20, 80, 4, 7
    x, dy = source.normal(B, T, width), source.normal(B, T, width)
    plain = block_parameters(source, width, hidden, 0.2)
    gated = block_parameters(source, width, 56, 0.2, kind="rms", activation="swiglu")
    alpha = (2 * layers) ** 0.25
    variants = {"pre": {}, "post": {"norm": "post"}, "deepnorm": {"norm": "deepnorm", "alpha": alpha},
                "gelu_erf": {"activation": "gelu-erf"}, "relu": {"activation": "relu"},
                "rms_swiglu": {"kind": "rms", "activation": "swiglu"}}
    out = {"x": x, "dy": dy, **prefixed("param", plain), **prefixed("rms_swiglu.param", gated)}
    for name, options in variants.items():
        p = gated if name == "rms_swiglu" else plain
        w, input_leaf = {key: leaf(value) for key, value in p.items()}, leaf(x)
        y = block(w, input_leaf, heads, **options)
        y.backward(dy)
        gradients = {key: value.grad for key, value in w.items()}
        out.update({f"{name}.y": y, f"{name}.dx": input_leaf.grad, **prefixed(f"{name}.grad", gradients)})
    return out, {"heads": heads, "layers": layers, "alpha": alpha, "variants": " ".join(variants)}


def make_gpt2():
    source = Source(5)
    V, context, width, heads, layers, B, T = 61, 16, 24, 3, 2, 2, 13
    p = {"wte.weight": source.normal(V, width, deviation=0.3), "wpe.weight": source.normal(context, width, deviation=0.1)}
    for i in range(layers):
        p.update(prefixed(f"h.{i}", block_parameters(source, width, 4 * width, 0.15)))
    p.update({"ln_f.weight": source.normal(width, deviation=0.2, mean=1), "ln_f.bias": source.normal(width, deviation=0.2)})
    ids, targets = source.ids(B, T, below=V), source.ids(B, T, below=V)
    targets[0, 2] = targets[1, 11] = targets[1, 12] = IGNORED
    out = {"ids": ids, "targets": targets, **prefixed("param", p)}

    p = {name: leaf(x) for name, x in p.items()}
    rate, clip = 1e-2, 1.0
    optimizer = torch.optim.AdamW(decay_groups(p, 0.1), lr=rate, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for step in range(10):
        optimizer.zero_grad()
        logits = gpt2_logits(p, ids, layers, heads)
        loss = cross_entropy(logits, targets)
        loss.backward()
        if step == 0:
            out.update({"logits": logits, "loss": loss, **prefixed("grad", {name: x.grad.clone() for name, x in p.items()})})
        norm = torch.sqrt(sum((x.grad ** 2).sum() for x in p.values()))
        for x in p.values():
            x.grad *= min(1.0, clip / norm.item())
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    assert max(norms) > clip, "clipping was never at work"
    out.update({"losses10": torch.tensor(losses).double(), "norms10": torch.tensor(norms).double(), **prefixed("param10", p)})
    return out, {"vocab": V, "context": context, "width": width, "heads": heads, "layers": layers}


def decay_groups(p, decay):
    """Weight decay for tensors of two or more dimensions only."""
    return [{"params": [x for x in p.values() if x.dim() >= 2], "weight_decay": decay},
            {"params": [x for x in p.values() if x.dim() < 2], "weight_decay": 0.0}]


STEPS = 10


def given_gradients(seed):
    """Parameters of several shapes, one zero at the start and one that no gradient ever reaches; the gradients of each step."""
    source = Source(seed)
    p = {"matrix": source.normal(5, 7), "cube": source.normal(2, 3, 4, deviation=0.1), "bias": source.normal(3),
         "zero": torch.zeros(4, 6).double(), "still": source.normal(9)}
    growing = torch.logspace(-2, 1, STEPS)
    gradients = {name: source.normal(STEPS, *x.shape) * growing.reshape(-1, *[1] * x.dim()) for name, x in p.items()}
    gradients = {name: g.float().double() for name, g in gradients.items()}   # f32 numbers again
    gradients["matrix"][:, 2] = 0
    gradients["still"][:] = 0
    return p, gradients


def run_optimizer(p, gradients, step):
    """The parameters after each step."""
    after = {name: [] for name in p}
    for t in range(STEPS):
        for name, x in p.items():
            x.grad = gradients[name][t].clone()
        step(t + 1)
        for name, x in p.items():
            after[name].append(x.detach().clone())
    return {name: torch.stack(values) for name, values in after.items()}


def optimizer_file(seed, rate, make_step, texts):
    start, gradients = given_gradients(seed)
    p = {name: leaf(x) for name, x in start.items()}
    after = run_optimizer(p, gradients, make_step(p))
    return ({**prefixed("param", start), **prefixed("gradients", gradients), **prefixed("after", after)}, {"rate": rate, **texts})


def make_adamw():
    rate, betas, epsilon, decay = 1e-2, (0.9, 0.95), 1e-8, 0.1

    def make_step(p):
        optimizer = torch.optim.AdamW(decay_groups(p, decay), lr=rate, betas=betas, eps=epsilon)
        return lambda t: optimizer.step()
    return optimizer_file(6, rate, make_step, {"beta1": betas[0], "beta2": betas[1], "epsilon": epsilon, "decay": decay})


def make_sgd():
    rate, momentum, decay = 3e-2, 0.9, 0.05

    def make_step(p):
        optimizer = torch.optim.SGD(decay_groups(p, decay), lr=rate, momentum=momentum)
        return lambda t: optimizer.step()
    return optimizer_file(7, rate, make_step, {"beta1": momentum, "decay": decay})


def make_lamb():
    """You et al. 2020, algorithm 2 with phi the identity; PyTorch has none."""
    rate, (beta1, beta2), epsilon, decay = 1e-2, (0.9, 0.99), 1e-6, 0.1

    def make_step(p):
        m = {name: torch.zeros_like(x) for name, x in p.items()}
        v = {name: torch.zeros_like(x) for name, x in p.items()}

        @torch.no_grad()
        def step(t):
            for name, w in p.items():
                m[name] = beta1 * m[name] + (1 - beta1) * w.grad
                v[name] = beta2 * v[name] + (1 - beta2) * w.grad ** 2
                m_hat, v_hat = m[name] / (1 - beta1 ** t), v[name] / (1 - beta2 ** t)
                r = m_hat / (torch.sqrt(v_hat) + epsilon) + (decay if w.dim() >= 2 else 0.0) * w
                w_norm, r_norm = w.norm(), r.norm()
                ratio = w_norm / r_norm if w_norm > 0 and r_norm > 0 else 1.0
                w -= rate * ratio * r
        return step
    return optimizer_file(8, rate, make_step, {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "decay": decay})


def make_positions():
    distances = torch.arange(-200, 201)
    out = {"distances": distances}
    for both, name in ((False, "causal"), (True, "both")):
        out[f"t5.{name}"] = torch.tensor([t5_bucket(d.item(), both, 32, 128) for d in distances])
    for heads in range(1, 17):
        out[f"alibi.{heads}"] = torch.tensor(alibi_slopes(heads), dtype=torch.float64)
    return out, {"buckets": 32, "max_distance": 128}


def make_conv():
    source, out, texts = Source(9), {}, {}

    def case(name, f, x, weight, **options):
        inputs = {"x": source.normal(*x), "weight": source.normal(*weight)}
        inputs["bias"] = source.normal(weight[3] if f is conv_transpose else weight[0])
        dy = source.normal(*f(**inputs, **options).shape)
        y, gradients = differentiate(lambda **x: f(**x, **options), dy, **inputs)
        out.update(prefixed(name, {**inputs, "dy": dy, "y": y, **gradients}))
        for option in ("stride", "padding", "dilation", "output_padding"):
            both = options.get(option, 0 if "padding" in option else 1)
            for axis, value in zip("yx", both if isinstance(both, tuple) else (both, both)):
                texts[f"{name}.{option}.{axis}"] = value
        texts[f"{name}.transposed"] = int(f is conv_transpose)
        texts["cases"] = (texts.get("cases", "") + " " + name).strip()

    case("plain", conv, (2, 6, 5, 3), (4, 3, 3, 3))
    case("strided", conv, (2, 9, 8, 3), (5, 4, 4, 3), stride=2, padding=1)
    case("dilated", conv, (1, 9, 11, 2), (3, 2, 3, 2), stride=(1, 3), padding=(1, 2), dilation=(2, 3))
    case("transposed", conv_transpose, (2, 4, 5, 6), (6, 4, 4, 3), stride=2, padding=1)
    case("output_padding", conv_transpose, (2, 3, 4, 2), (2, 3, 3, 20), stride=(3, 2), padding=1, output_padding=(2, 1))
    case("transposed_dilated", conv_transpose, (1, 4, 4, 3), (3, 3, 2, 5), stride=2, padding=1, dilation=(3, 2), output_padding=(2, 1))
    return out, texts


def make_vqvae():
    source = Source(10)
    sizes = {"channels": 3, "width": 10, "residual_width": 4, "blocks": 2, "code_width": 5}
    codes, commitment, decay = 7, 0.25, 0.99
    p = {}
    for name, (transposed, inputs, outputs, kernel) in vqvae_layers(**sizes).items():
        deviation = 1.4 / math.sqrt(inputs * kernel * kernel / (4 if transposed else 1))
        shape = (inputs, kernel, kernel, outputs) if transposed else (outputs, kernel, kernel, inputs)
        p[name + ".weight"] = source.normal(*shape, deviation=deviation)
        p[name + ".bias"] = source.normal(outputs, deviation=0.1)
    p["codebook.counts"] = source.uniform(codes, low=0.5, high=3)
    x = source.uniform(3, 12, 8, 3, low=0, high=1)
    p["codebook.sums"] = torch.zeros(codes, sizes["code_width"]).double()
    z = vqvae(p, x, sizes["blocks"], commitment)[4].reshape(-1, sizes["code_width"])   # codes near vectors that exist, so that many are chosen
    p["codebook.sums"] = ((z[::2][:codes] + source.normal(codes, sizes["code_width"], deviation=0.1)) * p["codebook.counts"][:, None]).float().double()
    out = {"x": x, **prefixed("param", p)}

    w = {name: leaf(value) for name, value in p.items()}
    total, picture, distance, ids, z, e = vqvae(w, x, sizes["blocks"], commitment)
    total.backward()
    chosen = F.one_hot(ids.flatten(), codes).double()
    assert len(ids.unique()) > 3, "hardly any code is chosen"
    out.update({"total": total, "picture": picture, "distance": distance, "ids": ids, "z": z, "codes": e,
                **prefixed("grad", {name: v.grad for name, v in w.items() if v.grad is not None}),
                # A code that nobody chose stays as it is.
                "after.counts": torch.where(chosen.sum(0) > 0, decay * p["codebook.counts"] + (1 - decay) * chosen.sum(0), p["codebook.counts"]),
                "after.sums": torch.where(chosen.sum(0)[:, None] > 0, decay * p["codebook.sums"] + (1 - decay) * chosen.T @ z.detach().reshape(-1, sizes["code_width"]),
                                          p["codebook.sums"])})
    return out, {**sizes, "codes": codes, "commitment": commitment, "decay": decay}


def make_vqvae_post():
    source = Source(12)
    sizes, codes, beta, gamma, p = {"channels": 3, "width": 6}, 9, 1.0, 0.25, {}
    for name, (kind, inputs, outputs, kernel) in post_layers(**sizes).items():
        if kind == "norm":
            p[name + ".weight"], p[name + ".bias"] = source.normal(outputs, deviation=0.3, mean=1), source.normal(outputs, deviation=0.3)
            continue
        shape = (inputs, kernel, kernel, outputs) if kind == "transposed" else (outputs, kernel, kernel, inputs)
        p[name + ".weight"] = source.normal(*shape, deviation=1.4 / math.sqrt(inputs * kernel * kernel / (4 if kind == "transposed" else 1)))
        p[name + ".bias"] = source.normal(outputs, deviation=0.1)
    p["codebook.fixed"], p["codebook.weight"] = source.normal(codes, sizes["width"]), source.normal(sizes["width"], sizes["width"])
    x = source.uniform(3, 12, 8, 3, low=-1, high=1)
    w, averages = {name: leaf(value) for name, value in p.items()}, {}
    total, picture, distance, ids, z, e = post_vqvae(w, x, beta, gamma, averages)
    total.backward()
    assert len(ids.unique()) > 3, "hardly any code is chosen"
    return {"x": x, **prefixed("param", p), "total": total, "picture": picture, "distance": distance, "ids": ids, "z": z, "codes": e,
            **prefixed("grad", {name: v.grad for name, v in w.items() if v.grad is not None}),
            **prefixed("after", averages)}, {**sizes, "codes": codes, "beta": beta, "gamma": gamma}


def make_picture_ops():
    source, out = Source(11), {}

    def case(name, f, /, **inputs):
        dy = source.normal(*f(**inputs).shape)
        y, gradients = differentiate(f, dy, **inputs)
        out.update(prefixed(name, {**inputs, "dy": dy, "y": y, **gradients}))

    x, affine = source.normal(3, 5, 7, 6, deviation=2, mean=0.5), {"weight": source.normal(6, deviation=0.5, mean=1), "bias": source.normal(6)}
    case("batch_norm", lambda x, weight, bias: channels_first(F.batch_norm, x, None, None, weight, bias, training=True), x=x, **affine)
    for groups in (1, 2, 6):
        case(f"group_norm.{groups}", lambda x, weight, bias: channels_first(F.group_norm, x, groups, weight, bias), x=x, **affine)
    case("max_pool", lambda x: channels_first(F.max_pool2d, x, (2, 3)), x=x)
    case("max_pool_padded", lambda x: channels_first(F.max_pool2d, x, 3, stride=2, padding=1), x=x)
    case("average_pool", lambda x: channels_first(F.avg_pool2d, x, (2, 3)), x=x)
    case("average_pool_padded", lambda x: channels_first(F.avg_pool2d, x, 3, stride=2, padding=1), x=x)
    case("upsample", lambda x: channels_first(F.interpolate, x, scale_factor=(2, 3), mode="nearest"), x=x)
    return out, {}


def rational_transfer(u, a, b, skip):   # Parnichkun et al. 2024 without delay: the kernel from roots of unity of length L, the product on 2L
    length = u.shape[1]
    numerator = torch.fft.rfft(b, n=length)
    denominator = torch.fft.rfft(torch.cat([torch.ones_like(a[:, :1]), a], 1), n=length)
    k = torch.fft.irfft(numerator / denominator, n=length)
    x = u.transpose(1, 2)
    y = torch.fft.irfft(torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(k, n=2 * length), n=2 * length)[..., :length]
    return y.transpose(1, 2) + skip * u


def make_rational_transfer():
    source, out = Source(9), {}
    for name, batch, length, channels, order in (("odd", 3, 63, 5, 4), ("even", 2, 64, 17, 8), ("prime", 1, 37, 3, 6), ("one", 1, 33, 1, 1)):
        inputs = dict(u=source.normal(batch, length, channels), a=source.uniform(channels, order, low=-0.9 / order, high=0.9 / order),
                      b=source.normal(channels, order), skip=source.normal(channels))
        dy = source.normal(batch, length, channels)
        y, gradients = differentiate(rational_transfer, dy, **inputs)
        out.update(prefixed(name, {**inputs, "dy": dy, "y": y, **gradients}))
    return out, {}


FILES = {"ops": make_ops, "attention": make_attention, "positions": make_positions, "cross_entropy": make_cross_entropy,
         "block": make_block, "gpt2": make_gpt2, "adamw": make_adamw, "sgd": make_sgd, "lamb": make_lamb,
         "conv": make_conv, "picture_ops": make_picture_ops, "vqvae": make_vqvae, "vqvae_post": make_vqvae_post,
         "rational_transfer": make_rational_transfer}


def compare(path, data):
    """True when the file on disk holds the same names, shapes and, to f32 rounding, numbers."""
    if not path.exists():
        print(f"{path.name}: missing")
        return False
    (ours, texts), (theirs, their_texts) = unpack(data), unpack(path.read_bytes())
    if texts != their_texts or {k: x.shape for k, x in ours.items()} != {k: x.shape for k, x in theirs.items()}:
        print(f"{path.name}: other names, shapes or options")
        return False
    worst = max(((x.double() - theirs[k].double()).norm() / (theirs[k].double().norm() + 1e-12)).item() for k, x in ours.items())
    print(f"{path.name}: {'the same bytes' if data == path.read_bytes() else f'largest relative difference {worst:.1e}'}")
    return worst < 1e-6


def main():
    torch.set_num_threads(1)
    check, good = "--check" in sys.argv[1:], True
    for name, make in FILES.items():
        path, data = FOLDER / f"{name}.safetensors", pack(*make())
        if check:
            good &= compare(path, data)
        else:
            path.write_bytes(data)
            print(f"{path.name}: {len(data)} bytes")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
