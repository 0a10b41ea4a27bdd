#!/usr/bin/python3
"""Compares the ids of bin/tok with those of GPT-2's encoder.py on whole files, and what decode makes of them with the file.

    python3 tests/peers/gpt2_encoding.py DIR FILE...      DIR: the folder with vocab.json and merges.txt

The encoder is that of tests/golden/make_bpe_golden.py with a memory for words, as encoder.py has one. Needs python3-regex.
"""
import functools
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/golden"))
import make_bpe_golden as golden  # noqa: E402


def main():
    folder, files = pathlib.Path(sys.argv[1]), sys.argv[2:]
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    ranks = {tuple(line.split()): i for i, line in enumerate(lines)}
    encode_word = functools.lru_cache(maxsize=None)(lambda piece: golden.encode_piece(piece, ids, ranks))
    for path in files:
        data = pathlib.Path(path).read_bytes()
        with tempfile.TemporaryDirectory() as temp:
            written = pathlib.Path(temp) / "ids"
            with written.open("wb") as out:
                tok = [str(ROOT / "bin/tok"), "encode", "--whole", "--model", str(folder), path]
                subprocess.run(tok, check=True, stdout=out, stderr=subprocess.DEVNULL)
            back = subprocess.run([tok[0], "decode", *tok[2:-1], str(written)], check=True, capture_output=True).stdout
            ours = [int(word) for word in written.read_text().split()]
        if back != data:
            sys.exit(f"{path}: decode(encode(x)) differs from x")
        at = bytes_before = 0
        for found in golden.PIECES.finditer(data.decode("utf-8", "surrogateescape")):
            piece = found.group().encode("utf-8", "surrogateescape")
            theirs = encode_word(piece)
            if ours[at:at + len(theirs)] != theirs:
                sys.exit(f"{path}: at byte {bytes_before}, {piece!r}: expected {theirs}, got {ours[at:at + len(theirs)]}")
            at += len(theirs)
            bytes_before += len(piece)
        if at != len(ours) or bytes_before != len(data):
            sys.exit(f"{path}: expected {at} ids, got {len(ours)}")
        print(f"{path}: {len(data)} bytes, {at} ids, all the same", flush=True)


if __name__ == "__main__":
    main()
