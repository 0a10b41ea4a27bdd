"""Whether bin/words cuts texts as jieba does, line by line: without its model (dag) and with it (--hmm).
usage: python3 tests/peers/jieba_segments.py FILE...        (Debian's python3-jieba 0.42.1; the build in bin/)"""
import logging
import os
import subprocess
import sys

import jieba

jieba.setLogLevel(logging.ERROR)
folder = os.path.dirname(jieba.__file__)
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def compare(path, hmm):
    command = [os.path.join(root, "bin", "words"), "segment", "--dict", os.path.join(folder, "dict.txt"), "--method", "dag", path]
    if hmm:
        command += ["--hmm", os.path.join(folder, "finalseg")]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode("utf-8")
    with open(path, "rb") as file:
        text = file.read().decode("utf-8", errors="replace")
    ours, lines = result.split("\n"), text.split("\n")
    if len(ours) != len(lines):
        print(f"{path}: {len(lines)} lines went in, {len(ours)} came out")
        return False
    different = 0
    for number, (line, our) in enumerate(zip(lines, ours), 1):
        theirs = " ".join(word for word in jieba.cut(line, HMM=hmm) if not word.isspace())
        if theirs != our:
            different += 1
            if different <= 5:
                print(f"{path}, line {number}:\n  jieba {theirs}\n  words {our}")
    print(f"{path}, HMM {hmm}: {different} of {len(lines)} lines differ")
    return different == 0


results = [compare(path, hmm) for path in sys.argv[1:] for hmm in (False, True)]
sys.exit(0 if all(results) else 1)
