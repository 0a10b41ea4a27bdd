"""Makes jieba.json: texts as jieba 0.42.1 cuts them, with a small dictionary and small tables that are in the file as well.
usage: python3 tests/golden/make_jieba_golden.py          (Debian's python3-jieba)
The dictionary has words twice, counts of 0, equal probabilities and words within words; the texts have letters, digits, blanks,
line ends, characters beyond the BMP and characters that no table knows."""
import json
import logging
import os
import random
import tempfile

import jieba
from jieba import finalseg

jieba.setLogLevel(logging.ERROR)
rng = random.Random(7)
letters = "中国人民的一是在不了有和大这"
unknown = "龘鱻㐀𠀀"
other = "，。！·…（）＋１２ａ　\t \r\x1c\x85\u2028\u200bé"
ascii_ = "aZ09+#&._%-x3"

lines, seen = [], []
for i in range(160):
    kind = rng.random()
    length = rng.choice([1, 1, 2, 2, 2, 3, 4])
    word = "".join(rng.choice(letters) for _ in range(length))
    if kind < 0.05:
        word = rng.choice(["AT&T", "c++", "9a", "Z", "0", "A" + word, word + "3"])
    elif kind < 0.10 and seen:
        word = rng.choice(seen)
    seen.append(word)
    count = rng.choice([0, 1, 1, 2, 3, 5, 50, 700])
    lines.append(f"{word} {count}" + rng.choice(["", " n", " nz x"]))
dictionary = "\n".join(lines) + "\n"

probability = lambda: round(-rng.random() * 8, 3)
start = {"B": -0.26, "E": -3.14e100, "M": -3.14e100, "S": -1.4652633398537678}
trans = {"B": {"E": -0.51082562376599, "M": -0.916290731874155}, "E": {"B": -0.5897149736854513, "S": -0.8085250474669937},
         "M": {"E": -0.33344856811948514, "M": -1.2603623820268226}, "S": {"B": -0.7211965654669841, "S": -0.6658631448798212}}
emit = {state: {c: probability() for c in letters if rng.random() < 0.8} for state in "BMES"}
finalseg.start_P, finalseg.trans_P, finalseg.emit_P = start, trans, emit

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "dict.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(dictionary)
    tokenizer = jieba.Tokenizer(path)
    tokenizer.tmp_dir = folder
    tokenizer.initialize()

    texts = ["", "a", "中", "3.14%中国abc.5%x", "v1.2.3", "中国-人民", "AT&T和c++", "..%3", "1" * 40, "龘龘龘", "的" * 30]
    for i in range(150):
        pieces = []
        for _ in range(rng.randrange(1, 14)):
            kind = rng.random()
            pool = letters if kind < 0.6 else ascii_ if kind < 0.8 else other if kind < 0.9 else unknown
            pieces.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 6))))
        texts.append("".join(pieces).replace("\n", ""))
    cut = lambda text, hmm: [word for word in tokenizer.cut(text, HMM=hmm) if not word.isspace()]
    cases = [{"text": text, "dag": " ".join(cut(text, False)), "hmm": " ".join(cut(text, True))} for text in texts]

literal = lambda table: "P=" + repr(table)
golden = {"dictionary": dictionary, "start": literal(start), "trans": literal(trans),
          "emit": "from __future__ import unicode_literals\n\nP=" + ascii(emit), "cases": cases}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "jieba.json"), "w", encoding="utf-8") as file:
    json.dump(golden, file, ensure_ascii=False, indent=0)
    file.write("\n")
