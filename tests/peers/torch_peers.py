"""One row of compare.py in PyTorch, written as a good user of PyTorch would: fused where the version has it, no copies.

    python3 tests/peers/torch_peers.py gpt-12.3M --threads 2 --seconds 3 --precision bf16

Prints one JSON object: rate, unit, seconds (median of a step), process_mib (largest resident set), versions.
"""
import argparse
import json
import math
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

HAS_ATTENTION = hasattr(F, "scaled_dot_product_attention")


def causal_attention(q, k, v, mask):
    """q, k, v (B, H, T, d) -> (B, H, T, d). mask (T, T): 0, or -infinity above the diagonal."""
    if HAS_ATTENTION:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    b, h, t, d = q.shape
    scores = torch.baddbmm(mask.to(q.dtype), q.reshape(b * h, t, d), k.reshape(b * h, t, d).transpose(1, 2), alpha=1 / math.sqrt(d))
    return torch.bmm(F.softmax(scores, -1).to(v.dtype), v.reshape(b * h, t, d)).view(b, h, t, d)


def triangle(t):
    return torch.full((t, t), float("-inf")).triu(1)


def adamw(module, rate=1e-4):
    for options in ({"fused": True}, {"foreach": True}, {}):
        try:
            return torch.optim.AdamW(module.parameters(), rate, **options)
        except (TypeError, RuntimeError):
            continue


class Block(nn.Module):
    def __init__(self, width, heads, alpha):
        super().__init__()
        self.heads, self.alpha = heads, alpha
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        if alpha:   # DeepNorm (Wang et al. 2022)
            beta = 0.5 ** 0.5 / alpha   # alpha = (2L)^(1/4), beta = (8L)^(-1/4)
            for weight in (self.qkv.weight[2 * width:], self.out.weight, self.up.weight, self.down.weight):
                nn.init.xavier_normal_(weight.data, beta)

    def attend(self, x, mask, cache=None):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, self.heads, -1).transpose(1, 2) for u in self.qkv(x).split(c, -1))
        if cache is None:
            y = causal_attention(q, k, v, mask)
        else:
            keys, values, at = cache
            keys[:, :, at:at + t], values[:, :, at:at + t] = k, v
            if t > 1:
                y = causal_attention(q, k, v, mask)   # the prompt
            elif HAS_ATTENTION:
                y = F.scaled_dot_product_attention(q, keys[:, :, :at + 1], values[:, :, :at + 1])
            else:
                y = F.softmax(q @ keys[:, :, :at + 1].transpose(2, 3) * (1 / math.sqrt(c // self.heads)), -1) @ values[:, :, :at + 1]
        return self.out(y.transpose(1, 2).reshape(b, t, c))

    def feed(self, x):
        return self.down(F.gelu(self.up(x), approximate="tanh"))

    def forward(self, x, mask, cache=None):
        if self.alpha:
            x = self.norm1(torch.add(self.attend(x, mask), x, alpha=self.alpha))
            return self.norm2(torch.add(self.feed(x), x, alpha=self.alpha))
        x = x + self.attend(self.norm1(x), mask, cache)
        return x + self.feed(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary, deep=False):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, (2 * layers) ** 0.25 if deep else 0) for _ in range(layers))
        self.norm = nn.Identity() if deep else nn.LayerNorm(width)
        self.mask = triangle(context)

    def forward(self, ids, caches=None, at=0):
        t = ids.shape[1]
        x, mask = self.token(ids) + self.position.weight[at:at + t], self.mask[:t, :t]
        for i, block in enumerate(self.blocks):
            x = block(x, mask, caches and (*caches[i], at))
        return F.linear(self.norm(x if caches is None else x[:, -1:]), self.token.weight)


def decoder_step(layers, heads, width, context, batch, vocabulary, deep=False, autocast=False):
    model = Decoder(layers, heads, width, context, vocabulary, deep)
    optimizer = adamw(model)
    ids = torch.randint(vocabulary, (batch, context))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(ids)
        F.cross_entropy(logits.float().view(-1, vocabulary), ids.view(-1)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, batch * context, "tokens/s"


def generation(autocast):
    """One sequence, 16 tokens given, 240 made, keys and values kept."""
    given, made = 16, 240
    model = Decoder(6, 6, 384, 256, 4096).eval()
    prompt = torch.randint(4096, (1, given))

    @torch.inference_mode()
    def generate():
        caches = [(torch.empty(1, 6, 256, 64), torch.empty(1, 6, 256, 64)) for _ in model.blocks]
        ids, at = prompt, 0
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            for _ in range(made):
                logits = model(ids, caches, at)[:, -1]
                at += ids.shape[1]
                ids = torch.multinomial(F.softmax(logits.float(), -1), 1)

    return generate, made, "tokens/s"


def attention_step(autocast):
    """Forward and backward, causal, one sequence of 4096, 6 heads of 64."""
    t, heads, d = 4096, 6, 64
    qkv = torch.randn(1, t, 3 * heads * d, requires_grad=True)
    dy, mask = torch.randn(1, t, heads * d), None if HAS_ATTENTION else triangle(t)

    def step():
        qkv.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            q, k, v = (u.view(1, t, heads, d).transpose(1, 2) for u in qkv.split(heads * d, -1))
            y = causal_attention(q, k, v, mask).transpose(1, 2).reshape(1, t, heads * d)
        y.float().backward(dy)

    return step, 7 * t * t * heads * d / 1e9, "GFLOP/s"


class Residual(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, inner, 3, padding=1), nn.Conv2d(inner, width, 1)

    def forward(self, x):
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class VQVAE(nn.Module):
    """Van den Oord et al. 2017, the codebook as a moving average."""

    def __init__(self, width=128, inner=32, code_width=64, codes=512):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(width // 2, width, 4, 2, 1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1), Residual(width, inner), Residual(width, inner), nn.ReLU(), nn.Conv2d(width, code_width, 1))
        self.decoder = nn.Sequential(
            nn.Conv2d(code_width, width, 3, padding=1), Residual(width, inner), Residual(width, inner), nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU(inplace=True), nn.ConvTranspose2d(width // 2, 3, 4, 2, 1))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", 0.1 * torch.randn(codes, code_width))

    def quantise(self, z):
        """z (B, h, w, C) -> the codes as vectors, the ids; in training mode the averages move."""
        flat = z.reshape(-1, z.shape[-1])
        with torch.no_grad():
            total = self.counts.sum()
            smooth = (self.counts + 1e-5) / (total + len(self.counts) * 1e-5) * total
            codes = self.sums / smooth[:, None]
            ids = torch.addmm((codes * codes).sum(1), flat, codes.t(), alpha=-2).argmin(1)
            if self.training:
                self.counts.mul_(0.99).add_(torch.bincount(ids, minlength=len(codes)).float(), alpha=0.01)
                self.sums.mul_(0.99).add_(torch.zeros_like(codes).index_add_(0, ids, flat), alpha=0.01)
            return F.embedding(ids, codes).view_as(z), ids

    def forward(self, x):
        z = self.encoder(x).float().permute(0, 2, 3, 1)
        q, _ = self.quantise(z)
        straight = (z + (q - z).detach()).permute(0, 3, 1, 2)
        return F.mse_loss(self.decoder(straight).float(), x) + 0.25 * F.mse_loss(z, q)


def vqvae_step(layout, autocast):
    batch, side = 32, 64
    model, x = VQVAE(), torch.rand(batch, 3, side, side)
    if layout == "nhwc":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = adamw(model)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(x)
        loss.backward()
        optimizer.step()

    return step, batch, "images/s"


def rtf_step(length):
    """Rational transfer function layer (Parnichkun et al. 2024), forward and backward: the kernel's spectrum is b / (1 + a) on the roots
    of unity, the causal product lies on twice the length. Batch 8, 64 channels, 16 states."""
    batch, channels, states = 8, 64, 16
    a = torch.zeros(channels, states, requires_grad=True)
    b = torch.randn(channels, states, requires_grad=True)
    direct = torch.randn(channels, 1, requires_grad=True)
    u = torch.randn(batch, channels, length, requires_grad=True)
    dy = torch.randn(batch, channels, length)
    one = torch.ones(channels, 1)

    def step():
        for leaf in (a, b, direct, u):
            leaf.grad = None
        kernel = torch.fft.irfft(torch.fft.rfft(b, n=length) / torch.fft.rfft(torch.cat([one, a], 1), n=length), n=length)
        product = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        y = torch.fft.irfft(product, n=2 * length)[..., :length] + direct * u
        y.backward(dy)

    return step, batch * channels * length / 1e6, "Msample/s"


def row_named(name, precision):
    bf16 = precision == "bf16"
    rows = {
        "gpt-0.8M": lambda: decoder_step(4, 4, 128, 64, 12, 256, autocast=bf16),
        "gpt-12.3M": lambda: decoder_step(6, 6, 384, 256, 8, 4096, autocast=bf16),
        "gpt-124M": lambda: decoder_step(12, 12, 768, 64, 4, 50257, autocast=bf16),
        "deepnorm-1000": lambda: decoder_step(1000, 2, 32, 32, 8, 64, deep=True, autocast=bf16),
        "generation-12.3M": lambda: generation(bf16),
        "attention-4096": lambda: attention_step(bf16),
        "vqvae-nchw": lambda: vqvae_step("nchw", bf16),
        "vqvae-nhwc": lambda: vqvae_step("nhwc", bf16),
        "rtf-16384": lambda: rtf_step(16384),
        "rtf-1024": lambda: rtf_step(1024),
    }
    if name not in rows:
        sys.exit(f"[torch_peers] expected one of {', '.join(rows)}, got '{name}'")
    return rows[name]()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3, help="for the steps that count, at least 3 of them")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step, amount, unit = row_named(options.row, options.precision)
    step()
    times = []
    start = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < options.seconds:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    seconds = statistics.median(times)
    print(json.dumps({
        "row": options.row, "rate": amount / seconds, "unit": unit, "seconds": seconds, "steps": len(times),
        "process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "threads": torch.get_num_threads(),
        "version": f"PyTorch {torch.__version__}"}))


if __name__ == "__main__":
    main()
