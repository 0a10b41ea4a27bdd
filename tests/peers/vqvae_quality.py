#!/usr/bin/env python3
"""How good the pictures of an auto-encoder are after each minute of training, beside PyTorch: dB of PSNR on pictures held out.

    /usr/bin/python3 tests/peers/vqvae_quality.py FOLDER [--seconds 300] [--side 64] [--precision bf16]

FOLDER has JPEG files; every 24th of them, by name, is held out. First bin/vqvae trains, then PyTorch: the same network (van den Oord et al. 2017, 512 codes
of 64 numbers as moving averages, dead codes begin anew), batch 32, Adam at a constant 1e-3 on values from 0 to 1; ours as the README says. PyTorch's clock
counts its steps alone, ours reading pictures as well. Needs python3-torch and python3-pil, and OpenBLAS (libopenblas0-openmp): with Debian's plain BLAS
PyTorch is ten times slower. Where threads or memory cost the system's time, LD_PRELOAD=libjemalloc.so.2 and GOMP_SPINCOUNT=1000 help PyTorch.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from torch_peers import VQVAE  # noqa: E402

BIN = Path(os.environ.get("QD_BIN") or Path(__file__).resolve().parent.parent.parent / "bin")


def pictures(files, side):
    def square(file):
        picture = Image.open(file).convert("RGB")
        edge = min(picture.size)
        left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
        return np.asarray(picture.crop((left, top, left + edge, top + edge)).resize((side, side), Image.BILINEAR))
    return torch.from_numpy(np.stack([square(f) for f in files])).permute(0, 3, 1, 2)


def begin_anew(model, z):
    """Codes that hardly anybody chooses become vectors of the batch."""
    dead = model.counts < 0.5
    if dead.any():
        flat = z.detach().reshape(-1, z.shape[-1])
        model.sums[dead] = flat[torch.randint(len(flat), (int(dead.sum()),))]
        model.counts[dead] = 1


def torch_minutes(train, held_out, seconds, batch):
    """(seconds, dB, codes in use) after each minute."""
    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    spent, mark, results = 0.0, 60, []
    while spent < seconds:
        start = time.perf_counter()
        x = train[torch.randint(len(train), (batch,))].float() / 255
        z = model.encoder(x).permute(0, 2, 3, 1)
        q, _ = model.quantise(z)
        begin_anew(model, z)
        loss = F.mse_loss(model.decoder((z + (q - z).detach()).permute(0, 3, 1, 2)), x) + 0.25 * F.mse_loss(z, q)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        spent += time.perf_counter() - start
        if spent >= min(mark, seconds):
            decibels, used = [], set()
            model.eval()
            with torch.no_grad():
                for i in range(0, len(held_out), 50):
                    x = held_out[i:i + 50].float() / 255
                    q, ids = model.quantise(model.encoder(x).permute(0, 2, 3, 1))
                    errors = ((model.decoder(q.permute(0, 3, 1, 2)).clamp(0, 1) - x) ** 2).mean((1, 2, 3))
                    decibels += [-10 * math.log10(e) for e in errors.tolist()]
                    used |= set(ids.tolist())
            model.train()
            results.append((spent, float(np.mean(decibels)), len(used)))
            mark += 60
    return results


def our_minutes(folders, options, scratch):
    run = scratch / "run"
    subprocess.run([str(BIN / "vqvae"), "train", "--data", str(folders[0]), "--val", str(folders[1]), "--size", str(options.side), "--max-seconds", str(options.seconds),
                    "--lr", "2e-3", "--eval-every", "60s", "--seed", "1", "--precision", options.precision, "--threads", str(options.threads), "--out", str(run)], check=True)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(v["seconds"], v["val_psnr"], int(v["codes_used"])) for v in lines if "val_psnr" in v]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="ours; PyTorch computes in f32")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    files = sorted(options.folder.glob("**/*.jpg"))
    if len(files) < 48:
        sys.exit(f"[{options.folder}] expected at least 48 JPEG files, got {len(files)}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = scratch / "train", scratch / "held_out"
        for folder in folders:
            folder.mkdir()
        for i, file in enumerate(files):
            (folders[i % 24 == 0] / f"{i:06d}-{file.name}").symlink_to(file.resolve())
        ours = our_minutes(folders, options, scratch)
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        theirs = torch_minutes(*(pictures(sorted(folder.iterdir()), options.side) for folder in folders), options.seconds, options.batch)
    for who, results in (("Qiudao", ours), (f"PyTorch {torch.__version__}", theirs)):
        print(f"| {who} | " + " | ".join(f"{seconds:.0f} s: {decibels:.2f} dB, {used} codes" for seconds, decibels, used in results) + " |")


if __name__ == "__main__":
    main()
