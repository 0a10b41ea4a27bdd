#!/usr/bin/python3
"""Makes bpe.json: what GPT-2's algorithm gives for a list of awkward texts, with a small vocabulary learned here and with GPT-2's own.

    python3 tests/golden/make_bpe_golden.py            writes tests/golden/bpe.json
    python3 tests/golden/make_bpe_golden.py --check    compares what it would write with the file that is there

The algorithm is that of encoder.py in GPT-2's release (Radford et al. 2019), in our own words and as slow and plain as possible; learning
counts all pairs anew for each merge. Bytes that are not UTF-8 become lone surrogates (Python's surrogateescape), which are neither letter
nor number nor white space. Needs the module regex (Debian: python3-regex) and GPT-2's two files in ../shared/data/vocab; the vocabulary
itself is not stored, only the ids that it gives.
"""
import collections
import json
import pathlib
import sys

import regex

FOLDER = pathlib.Path(__file__).parent
GPT2 = FOLDER.parent.parent.parent / "shared/data/vocab"
PIECES = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
MERGES = 200

TEXTS = [
    "Hello world", " Hello  world ", "a", " ", "  ", "   ", "\n", "\n\n", "a\n\nb", "a \n b", "a  \n  b", "a\t\tb", "\t", "a\tb", " \t \t x",
    "line one\r\nline two\r\n\r\nline four", "\r", "a\r\rb", "\v\f x", "trailing blanks   ", "trailing newline \n", "   leading",
    "I'm you're he's don't we'll they've I'd it's", "I'M YOU'RE HE'S DON'T WE'LL THEY'VE I'D IT'S", "it\u2019s don\u2019t \u2018quoted\u2019",
    "'s't're've'm'll'd", "''s ''' 's' '", "l'l 'l 'll 'lll 'r 're 'ree 'v 'ves", "rock 'n' roll", "a's5's!'s", " 's 't", "x' y", "x '",
    "1234567890", "3.14159 1,000,000 12% $5 -7", "v2.0b1 x86_64 4x4", "\u0661\u0662\u0663 \u096a\u096b \u4e00\u4e8c\u4e09 \u2160\u2161 \u00bd\u00be \u2460",
    "x\u00b2+y\u00b3 H\u2082O", "!!! ... --- ??? ;;;", "(a)[b]{c}<d>", "a_b-c/d\\e", "#include <vector>\n\tint  main() {\n\t\treturn 0;\n\t}\n",
    "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m", "e\u0301\u0301\u0301 \u0301 a\u0300\u0301\u0302", "\u0915\u094d\u0937\u093f \u0928\u092e\u0938\u094d\u0924\u0947",
    "\u6c42\u5bfc\u6570\u5b66", "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4e2d\u6587\u548cEnglish\u6df7\u5408123\u6587\u5b57", "\u3000\u5168\u89d2\u3000\u7a7a\u683c\u3000\u3000",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u30ab\u30bf\u30ab\u30ca\u3002", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5 \u1112\u1161\u11ab",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5",
    "\U0001F600", "\U0001F600\U0001F601 x\U0001F602", "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466 family", "\U0001F44B\U0001F3FD \U0001F1E8\U0001F1F3 \u2764\ufe0f",
    "\U00020000\U0002A6D6 \U0001D400\U0001D7CE", "a\u00a0b\u00a0\u00a0c", "\u00a0 \u00a0x", "a\u2003b\u2028c\u2029d\u202fe\u205ff", "a\u0085b \u0085 c",
    "a\u001cb\u001dc\u001ed\u001fe", "a\u200bb\u200cc\u200dd\u2060e\ufefff", "\u180e\u180ex", "\u1680x\u1680\u1680y", "\x00\x00a\x00 \x01\x7f",
    "\ufffd\uffff\ue000", "\u01c5\u02b0\u00aa\u00ba\u0e44\u0e17\u0e22", "a" * 30, "ab" * 40, "the" * 25, "x" * 200, " " * 40 + "x", "\n" * 33 + "y", "\u7684" * 50,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis", "https://example.org/a?b=c&d=%20#e", "AAAaaaBBB", "tHiS Is WeIrD",
    "\u02bcs \uff07s '\u017f", " \u0301 a", "1st 2nd 3rd 4th", "12am 5pm's", "the then there their they're the",
    b"\xff", b"a\xffb \xff\xfe c", b"\x80\x80\x80", b"\xe6\xb1 \xe6\xb1x", b"\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80", b"\xe6\xb1\x82\xe5", b" \xe5\xaf", b"\xf0\x9f\x98 \xf0\x9f\x98\x80",
    b"9\xff9\xff 's\xff's", "\u6c42".encode() * 3 + b"\x82\x82" + "\u5bfc".encode(),
]


def byte_letters():
    letters = {b: chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - 188)
    return letters   # in the order of GPT-2's ids


LETTERS = byte_letters()


def pieces(data):
    found = PIECES.findall(data.decode("utf-8", "surrogateescape"))
    return [piece.encode("utf-8", "surrogateescape") for piece in found]


def replace(word, pair):
    out, i = [], 0
    while i < len(word):
        if tuple(word[i:i + 2]) == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def encode(data, ids, ranks):
    out = []
    for piece in pieces(data):
        word = [LETTERS[b] for b in piece]
        while len(word) > 1:
            best = min(zip(word, word[1:]), key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            word = replace(word, best)
        out += [ids[token] for token in word]
    return out


def learn(data, merges):
    ids = {letter: i for i, letter in enumerate(LETTERS.values())}
    words = [([LETTERS[b] for b in piece], count) for piece, count in collections.Counter(pieces(data)).items()]
    learned = []
    while len(learned) < merges:
        counts = collections.Counter()
        for word, count in words:
            for pair in zip(word, word[1:]):
                counts[pair] += count
        counts = {pair: n for pair, n in counts.items() if pair[0] + pair[1] not in ids}
        best = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        if counts[best] < 2:
            break
        ids[best[0] + best[1]] = len(ids)
        learned.append(best)
        words = [(replace(word, best), count) for word, count in words]
    return ids, learned


def main():
    texts = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]
    ids, learned = learn(b"\n".join(texts), MERGES)
    ranks = {pair: i for i, pair in enumerate(learned)}
    gpt2 = json.loads((GPT2 / "gpt2-vocab.json").read_text(encoding="utf-8"))
    lines = (GPT2 / "gpt2-merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    gpt2_ranks = {tuple(line.split()): i for i, line in enumerate(lines)}
    cases = [{"text": ascii(t), "hex": d.hex(), "pieces": [len(p) for p in pieces(d)], "ids": encode(d, ids, ranks),
              "gpt2": encode(d, gpt2, gpt2_ranks)} for t, d in zip(TEXTS, texts)]
    out = '{"merges": ' + json.dumps([" ".join(pair) for pair in learned]) + ',\n "cases": [\n'
    out += ",\n".join(json.dumps(case) for case in cases) + "\n]}\n"
    path = FOLDER / "bpe.json"
    if "--check" in sys.argv:
        same = path.read_text() == out
        print("the same" if same else "bpe.json differs from what this script writes")
        sys.exit(not same)
    path.write_text(out)
    print(f"{path}: {len(cases)} texts, {len(learned)} merges, {len(out)} bytes")


if __name__ == "__main__":
    main()
