#!/bin/sh
# The demo: a free Chinese text (Debian's fortunes-zh: proverbs, poems of Tang and Song), a small language model, and a small auto-encoder for
# drawn faces: about three minutes.
#   DEMO_SECONDS=20 sh apps/demo.sh     trains for a shorter time
#   DEMO_OFFLINE=1 sh apps/demo.sh      fetches nothing: the project's own sources are the text
# Run from the root of the project, after `make bin/lm bin/words bin/vqvae`. What is fetched stays in build/demo.
set -eu

bin=${BIN:-bin}
cache=${BUILD:-build}/demo
text=$cache/text
seconds=${DEMO_SECONDS:-110}

# No root is needed: where the system has no package lists, they go beside the package.
download() { apt-get ${lists:-} download fortunes-zh; }
update() {
  mkdir -p lists/partial cache/archives/partial
  lists="-o Dir::State::lists=$PWD/lists -o Dir::Cache=$PWD/cache"
  apt-get $lists update
}

# The package's text files into $text, without escape sequences, separators and tables.
fetch() {
  [ -z "${DEMO_OFFLINE:-}" ] && command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
  rm -rf "$cache/package" "$cache/new"
  mkdir -p "$cache/package" "$cache/new"
  (cd "$cache/package" && { download || { update && download; }; } > apt.log 2>&1 && dpkg -x fortunes-zh_*.deb .) || return 1
  escape=$(printf '\033')
  for file in "$cache"/package/usr/share/games/fortunes/*; do
    case $file in *.dat | *.u8) continue ;; esac
    [ -f "$file" ] || continue
    sed "s/$escape\[[0-9;]*[A-Za-z]//g; s/$escape//g" "$file" |
      grep -av -e '^%' -e '│' -e '┌' -e '├' -e '└' > "$cache/new/$(basename "$file").txt" || return 1
  done
  rm -rf "$cache/package" "$text"
  mv "$cache/new" "$text"   # whole or not at all
}

if [ -d "$text" ] || fetch; then
  data=$text
  prompt=春
  echo "demo: the text is Debian's fortunes-zh, $(cat "$text"/* | wc -c) bytes in $text"
else
  data="core nn models data apps tests"
  prompt="// "
  echo "demo: fortunes-zh cannot be fetched, is there no network? The text is this project's own source code."
fi

if [ "$prompt" = 春 ]; then
  echo "demo: the commonest words that the text itself shows to be words, found without a dictionary:"
  # $data is a folder
  "$bin/words" discover $data --out "$cache/words.txt"
  grep -E '^[^ ]{2,} ' "$cache/words.txt" | LC_ALL=C grep -E '^.{6,} ' | head -40 | cut -d ' ' -f 1 | paste -s -d ' '
  echo
fi

mkdir -p runs
number=1
while run=runs/demo-$(printf %03d $number) && [ -e "$run" ]; do number=$((number + 1)); done

echo "demo: training for $seconds seconds; a tenth of the text is held out, val_loss is the loss on it"
echo
# $data is a list
"$bin/lm" train --data $data --tokenizer char --layers 4 --heads 4 --width 128 --context 64 --batch 16 --lr 2e-3 --warmup 50 \
  --max-seconds "$seconds" --eval-every 30s --out "$run"
echo
echo "demo: the trained model continues \"$prompt\":"
echo
printf '%s' "$prompt"
"$bin/lm" sample --model "$run" --prompt "$prompt" --tokens 300
echo
echo "demo: the report of the run: $run/report.html (open it in a browser: curves, samples over time, what the attention heads look at)"
echo "demo: more of it:"
echo "  $bin/lm sample --model $run --prompt \"$prompt\" --samples 3"
echo "  $bin/lm train --resume $run --max-seconds $((seconds * 5))"
[ "$prompt" != 春 ] || echo "  echo 春眠不觉晓 | $bin/words segment --dict $cache/words.txt"
echo
number=1
while faces=runs/demo-faces-$(printf %03d $number) && [ -e "$faces" ]; do number=$((number + 1)); done
echo "demo: an auto-encoder learns to draw faces from 64 codes each, for $(((seconds + 1) / 2)) seconds; val_psnr is how near it comes, in dB"
"$bin/vqvae" train --size 32 --width 64 --codes 256 --dim 32 --max-seconds "$(((seconds + 1) / 2))" --eval-every 15s --val-fraction 0.02 --out "$faces"
echo "demo: other faces through it; the decoder has learned to draw from codes, not from what they were rounded from:"
"$bin/vqvae" reconstruct --model "$faces" --data faces --out "$faces/beside.png"
echo "demo: faces and what their codes give: $faces/report.html"
