#!/usr/bin/env python3
"""How fast the project is beside PyTorch, oneDNN and OpenBLAS: a Markdown table of ratios.

    python3 tests/peers/compare.py                      all rows, about ten minutes on two quiet cores
    python3 tests/peers/compare.py gemm gpt-12.3M       rows with one of these in their name
    python3 tests/peers/compare.py --list

Both sides run alternately (A B A B ...), each as a process of its own, in the same minutes with the same threads; the ratio is that of
the medians. Ratios travel between machines, rates do not. The project's side is bin/bench --json. README.md says what is counted.
"""
import argparse
import difflib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BIN = Path(os.environ.get("QD_BIN") or ROOT / "bin")
BUILD = Path(os.environ.get("QD_BUILD") or ROOT / "build") / "peers"
TORCH_HINT = "not installed (apt-get install python3-torch libjemalloc2)"
LIBRARY_HINT = "not installed (apt-get install libopenblas-dev libdnnl-dev)"

GEMMS = [
    "gemm NN 64^3", "gemm NN 256^3", "gemm NN 512^3", "gemm NN 1024^3", "gemm NN 2048^3", "gemm NT qkv 1024x1152x384",
    "gemm NT mlp up 1024x1536x384", "gemm NT mlp down 1024x384x1536", "gemm NT vocabulary 1024x8192x384",
    "gemm TN weight gradient 384x1536x1024", "gemm NN input gradient 1024x384x1536", "gemm NT attention qk 256x256x64",
    "gemm NN attention pv 256x64x256", "gemm batch 48 NN 64^3", "gemm batch 48 NT attention qk 256x256x64",
    "gemm batch 48 NN attention pv 256x64x256", "gemm NN one row 1x1536x384", "gemm NT one row 1x8192x384",
]

SQUARE = "gemm NN 1024^3"                       # whose share of the peak is told as well
SMALL = ["gemm NN 64^3", "gemm NT attention qk 256x256x64", "gemm NN attention pv 256x64x256"] + [g for g in GEMMS if " batch " in g]
LARGE = GEMMS[2:11]                             # from 512^3 up: where rounding to bf16 should pay
GEMM_TARGETS = {name: 1.2 for name in SMALL}    # of the others: 0.85, and 0.95 on average
# key: the rows, our precision, the peer's library (empty: the better one); peers compute in f32
PRODUCTS = {
    "gemm": (GEMMS[:13], "f32", "oneDNN"),
    "gemm-small": (SMALL + GEMMS[-2:], "f32", ""),
    "gemm-bf16": (LARGE, "bf16", "oneDNN"),
}


@dataclass
class Work:
    key: str             # what the command line says
    text: str            # what the table says
    row: str             # of bin/bench
    peers: tuple         # of torch_peers.py: the better one counts
    target: float        # the ratio that the project aims at
    precision: str = "f32"
    slow: bool = False   # left out by --quick
    memory: bool = False # a second line: largest resident sets of the two processes


GPT_SMALL, GPT, GPT2 = "gpt 0.8 M (L4 H4 D128 T64 B12)", "gpt 12.3 M (L6 H6 D384 T256 B8)", "gpt-2 124 M (L12 H12 D768 T64 B4)"
DEEP = "deepnorm 1000 layers (D32 T32 B8)"
THREADS = "threads"   # the key of compare_threads
MODELS = [
    Work("gpt-0.8M", "training step, GPT 0.8 M", GPT_SMALL, ("gpt-0.8M",), 2.2),
    Work("gpt-0.8M-bf16", "training step, GPT 0.8 M, bf16", GPT_SMALL, ("gpt-0.8M",), 1.5, "bf16"),
    Work("gpt-12.3M", "training step, GPT 12.3 M", GPT, ("gpt-12.3M",), 1.4, memory=True),
    Work("gpt-12.3M-bf16", "training step, GPT 12.3 M, bf16", GPT, ("gpt-12.3M",), 1.5, "bf16"),
    Work("gpt-124M", "training step, GPT-2 124 M", GPT2, ("gpt-124M",), 2.5, slow=True),
    Work("gpt-124M-bf16", "training step, GPT-2 124 M, bf16", GPT2, ("gpt-124M",), 1.2, "bf16", slow=True),
    Work("deepnorm-1000", "training step, DeepNorm, 1000 layers", DEEP, ("deepnorm-1000",), 6, slow=True),
    Work("generation-12.3M", "generation, GPT 12.3 M, one sequence", "generation 12.3 M", ("generation-12.3M",), 2),
    Work("attention-4096", "causal attention, 4096 tokens, with gradient", "attention forward, backward 4096", ("attention-4096",), 2, memory=True),
    Work("vqvae", "training step, VQ-VAE 64x64, batch 32", "vq-vae 64x64 (B32)", ("vqvae-nchw", "vqvae-nhwc"), 1.3),
    Work("vqvae-bf16", "training step, VQ-VAE 64x64, batch 32, bf16", "vq-vae 64x64 (B32)", ("vqvae-nchw", "vqvae-nhwc"), 1.5, "bf16"),
    Work("rtf-16384", "RTF layer, length 16384, with gradient", "rtf layer (B8 D64 N16 L16384)", ("rtf-16384",), 8),
    Work("rtf-1024", "RTF layer, length 1024, with gradient", "rtf layer (B8 D64 N16 L1024)", ("rtf-1024",), 3.5),
]


class Unavailable(Exception):
    """A side that cannot be measured, and why."""


def note(text):
    print(text, file=sys.stderr, flush=True)


def stop(text, hint):
    note(f"[compare] {text}\nHINT: {hint}")
    sys.exit(1)


def run(command, environment, seconds=600):
    """Standard output of a command; Unavailable with the first line of what it complained about."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"longer than {seconds} s") from None
    except OSError as error:
        raise Unavailable(str(error)) from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(lines[0] if lines else f"exit status {done.returncode}")
    return done.stdout


def cpuinfo(key):
    """What the kernel says of the first processor under a key, or nothing."""
    try:
        for text in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if text.startswith(key):
                return text.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def peer_environment(threads):
    """What a user has who tuned the peers once: no variables of the shell, OpenMP's build of OpenBLAS (its own threads fight PyTorch's),
    OpenBLAS's kernels for AVX-512 where the processor has it (old versions do not know new processors), and an allocator that keeps its
    memory (glibc's gives it back at every step, and page faults cost more than the step in a virtual machine)."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "GOTO_", "ATEN_", "DNNL_", "ONEDNN_", "MKL_", "OMP_", "GOMP_", "KMP_", "MALLOC_", "GLIBC_", "LD_PRELOAD"))}
    environment["OMP_NUM_THREADS"] = str(threads)
    folders = [str(folder) for folder in Path("/usr/lib").glob("*/openblas-openmp")]
    if folders:
        environment["LD_LIBRARY_PATH"] = ":".join(folders + [v for v in [os.environ.get("LD_LIBRARY_PATH")] if v])
    flags = set(cpuinfo("flags").split())
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        environment["OPENBLAS_CORETYPE"] = "Cooperlake" if "avx512_bf16" in flags else "SkylakeX"
    allocators = list(Path("/usr/lib").glob(f"{platform.machine()}-*/libjemalloc.so.2"))
    if not allocators:
        note("warning: without jemalloc PyTorch can be half as fast (apt-get install libjemalloc2)")
    for allocator in allocators:
        environment["LD_PRELOAD"] = str(allocator)
        environment["MALLOC_CONF"] = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
    return environment


def python_with_torch():
    for python in ("/usr/bin/python3", sys.executable):
        if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def build_gemm_peers():
    """The program with both libraries, or with the one that is there."""
    source, program = HERE / "gemm_peers.cpp", BUILD / "gemm_peers"
    sources = [source, ROOT / "apps/bench/shapes.h", ROOT / "apps/bench/timing.h"]
    if program.exists() and program.stat().st_mtime > max(file.stat().st_mtime for file in sources):
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CXX") or "g++"
    if not shutil.which(compiler):
        raise Unavailable(f"no compiler {compiler}")
    for flags in (["-lopenblas", "-ldnnl"], ["-DNO_OPENBLAS", "-ldnnl"], ["-DNO_ONEDNN", "-lopenblas"]):
        if subprocess.run([compiler, "-O2", "-std=c++20", f"-I{ROOT}", str(source), "-o", str(program)] + flags, capture_output=True, check=False).returncode == 0:
            return program
    raise Unavailable(LIBRARY_HINT)


class Sides:
    """The two sides of all rows."""

    def __init__(self, threads):
        self.threads, self.environment = threads, peer_environment(threads)
        self.python = python_with_torch()
        self.versions, self.machine = {}, []

    def bench(self, rows, precision="f32", threads=None):
        """{name: row} of bin/bench."""
        command = [str(BIN / "bench"), *rows, "--json", "--quick", "--threads", str(threads or self.threads)]
        if precision != "f32":
            command += ["--precision", precision]
        try:
            result = json.loads(run(command, None))
        except Unavailable as reason:
            raise Unavailable("bin/bench has no such row yet" if "expected a row's name" in str(reason) else f"bin/bench: {reason}") from None
        if result["precision"] != precision:
            raise Unavailable(f"no {precision} products on this processor")
        if precision == "f32" and not threads:
            self.machine.append(result)
        return {row["name"]: row for row in result["rows"]}

    def torch(self, row, precision):
        if not self.python:
            raise Unavailable(TORCH_HINT)
        command = [self.python, str(HERE / "torch_peers.py"), row, "--threads", str(self.threads), "--seconds", "0.5", "--precision", precision]
        result = json.loads(run(command, self.environment).splitlines()[-1])
        self.versions["PyTorch"] = result["version"]
        return result

    def gemm(self):
        """{name: {library: GFLOP/s}}"""
        lines = [json.loads(line) for line in run([str(build_gemm_peers()), "0.05", str(self.threads)], self.environment).splitlines()]
        for version in lines[0]["versions"]:
            name, number = version.split()[:2]
            self.versions[name] = f"{name} {number}"
        return {line["name"]: {k: v for k, v in line.items() if k != "name"} for line in lines[1:]}


def attempt(measure, *arguments):
    """The result, or the reason why there is none."""
    try:
        return measure(*arguments), ""
    except Unavailable as reason:
        return None, str(reason)


def shown(value, unit):
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def line(work, peer, ours, theirs, ratio, target):
    print(f"| {work} | {peer} | {ours} | {theirs} | {ratio} | {target} |", flush=True)


def result_line(text, peer, ours, theirs, unit, target, problem, larger_is_better=True):
    """ours, theirs: lists of figures, empty where that side is missing."""
    mine = shown(statistics.median(ours), unit) if ours else "-"
    other = shown(statistics.median(theirs), unit) if theirs else "-"
    ratio = ""
    if ours and theirs:
        quotient = statistics.median(ours) / statistics.median(theirs)
        ratio = f"{quotient if larger_is_better else 1 / quotient:.2f}"
    line(text, peer, mine, other, ratio or problem, f"{target:g}")


def compare_gemms(sides, rounds, names, precision, library):
    """Rows of products. `library`: the one peer; empty: the better of them. The last row is the geometric mean of all."""
    ours, theirs, peaks, problem = {name: [] for name in names}, {name: {} for name in names}, [], ""
    label = "gemm" if precision == "f32" else f"gemm-{precision}"
    for number in range(rounds):
        note(f"{label}: round {number + 1} of {rounds}")
        mine, why = attempt(sides.bench, names, precision)
        for name in names if mine else []:
            ours[name].append(mine[name]["rate"])
            if name == SQUARE:
                peaks.append(mine[name]["peak_gflops"])
        other, why_not = attempt(sides.gemm)
        for name in names if other else []:
            for peer, rate in other[name].items():
                theirs[name].setdefault(peer, []).append(rate)
        problem = problem or why or why_not
        if why and why_not:
            break
    ratios, end = [], "" if precision == "f32" else f", {precision}"
    for name in names:
        best = library or max(theirs[name], key=lambda peer: statistics.median(theirs[name][peer]), default="oneDNN, OpenBLAS")
        rates = theirs[name].get(best, [])
        if ours[name] and rates:
            ratios.append(statistics.median(ours[name]) / statistics.median(rates))
        result_line(name + end, best, ours[name], rates, "GFLOP/s", GEMM_TARGETS.get(name, 0.85) if precision == "f32" else 1.7, problem)
    if ratios:
        line(f"the {len(ratios)} products above{end}: geometric mean", library or "the better", "", "", f"{statistics.geometric_mean(ratios):.2f}", "")
    if library and precision == "f32" and ours[SQUARE]:
        result_line(SQUARE + ": share of the peak", "multiply-adds in registers, in turn", ours[SQUARE], peaks, "GFLOP/s", 0.9, problem)


def compare_model(sides, work, rounds):
    ours, theirs, problem = [], {}, ""   # rows of both programs; theirs by peer
    for number in range(rounds):
        note(f"{work.key}: round {number + 1} of {rounds}")
        rows, why = attempt(sides.bench, [work.row], work.precision)
        if rows:
            ours.append(next(iter(rows.values())))
        for peer in work.peers:
            result, why_not = attempt(sides.torch, peer, work.precision)
            if result:
                theirs.setdefault(peer, []).append(result)
            problem = problem or why_not
        problem = problem or why
        if not ours or not theirs:
            break   # no ratio: one figure of the side that is there is enough
    best = max(theirs, key=lambda peer: statistics.median(r["rate"] for r in theirs[peer]), default=None)
    name = "PyTorch" + (" autocast" if work.precision == "bf16" else "")
    if best and len(work.peers) > 1:
        name += f" ({best.rsplit('-', 1)[1]})"
    counted = theirs.get(best, [])
    units = {row["unit"] for row in ours + counted}
    key, unit = ("rate", units.pop()) if len(units) == 1 else ("seconds", "s")   # different units: the time of one step
    result_line(work.text, name, [r[key] for r in ours], [r[key] for r in counted], unit, work.target, problem, key == "rate")
    if any("bandwidth_gbs" in row for row in ours):
        result_line(work.text + ": weights read", "y += a x over memory, in turn", [row["share"] * row["bandwidth_gbs"] for row in ours],
                    [row["bandwidth_gbs"] for row in ours], "GB/s", 0.6, problem)
    if work.memory:
        mine = [row["process_mib"] for row in ours if "process_mib" in row]
        result_line(work.text + ": memory", name, mine, [row["process_mib"] for row in counted], "MiB", 2, problem, False)


def compare_threads(sides, rounds):
    """All threads beside one, on a step of GPT."""
    ours, alone, problem = [], [], ""
    for number in range(rounds):
        note(f"{THREADS}: round {number + 1} of {rounds}")
        for rates, threads in ((ours, None), (alone, 1)):
            rows, why = attempt(sides.bench, [GPT], "f32", threads)
            problem = problem or why
            if rows:
                rates.append(rows[GPT]["rate"])
    result_line(f"training step, GPT 12.3 M, {sides.threads} threads", "one thread", ours, alone, "tokens/s", 1.85, problem)


def chosen(names):
    keys = [*PRODUCTS] + [work.key for work in MODELS] + [THREADS]
    for name in names:
        if not any(name in key for key in keys):
            near = difflib.get_close_matches(name, keys, 1)
            stop(f"expected a row, got '{name}'", f"did you mean {near[0]}?" if near else f"the rows are {', '.join(keys)}")
    wanted = [key for key in keys if not names or key in names or any(name in key for name in names if name not in keys)]
    return [key for key in PRODUCTS if key in wanted], [work for work in MODELS if work.key in wanted], THREADS in wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a row, or a part of its name; without: all")
    parser.add_argument("--rounds", type=int, default=3, help="alternations of each row [3]; products run twice as often")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both sides [all processors]")
    parser.add_argument("--quick", action="store_true", help="one round, without the rows that take long")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 1:
        stop("expected --rounds and --threads of at least 1", "leave them out for the defaults")
    gemms, models, scaling = chosen(options.rows)
    if options.list:
        print("\n".join(gemms + [work.key for work in models] + [THREADS] * scaling))
        return
    if not (BIN / "bench").exists():
        stop(f"expected {BIN / 'bench'}, there is none", "make bin/bench")
    if options.quick:
        options.rounds, models = 1, [work for work in models if not work.slow or work.key in options.rows]
    sides = Sides(options.threads)
    busy = os.getloadavg()[0]
    if busy > 0.5:
        note(f"warning: the load is {busy:.1f}: others use this machine, ratios will be noisy")
    line("work", "peer", "ours", "theirs", "ratio", "target")
    line("---", "---", "---", "---", "---", "---")
    for key in gemms:
        compare_gemms(sides, 1 if options.quick else 2 * options.rounds, *PRODUCTS[key])
    for work in models:
        compare_model(sides, work, options.rounds)
    if scaling and options.threads > 1:
        compare_threads(sides, options.rounds)
    elif scaling:
        note(f"{THREADS}: left out, there is one")
    if sides.machine:
        peaks, bandwidths = ([m[key] for m in sides.machine] for key in ("peak_gflops", "bandwidth_gbs"))
        print(f"\n{cpuinfo('model name') or 'unknown processor'}, {options.threads} threads, {sides.machine[0]['instruction_set']}; "
              f"peak {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s (f32), memory {min(bandwidths):.0f} to {max(bandwidths):.0f} GB/s, load {busy:.1f}.")
    print("Peers: " + (", ".join(sides.versions.values()) or "none") + f". Medians of {options.rounds} alternations (products: {2 * options.rounds}).")


if __name__ == "__main__":
    main()
