#include "nn/report_page.h"

namespace qd {
namespace {

const char* const light = R"css(
  --paper: #fff; --ink: #1a1f26; --soft: #59636f; --line: #d9dee4; --panel: #f5f7f9;
  --s1: #1a66d6; --s2: #b4480a; --s3: #5f6b1e; --good: #17692f; --bad: #b3261e; color-scheme: light;
)css";

const char* const dark = R"css(
  --paper: #101419; --ink: #e4e8ed; --soft: #9ba6b2; --line: #2c333b; --panel: #181d24;
  --s1: #74b3ff; --s2: #ffa45c; --s3: #c3d06a; --good: #6bd08a; --bad: #ff8a80; color-scheme: dark;
)css";

const char* const style = R"css(
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
header { position: relative; padding-right: 3.5rem; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .8rem; padding-top: .7rem; border-top: 1px solid var(--line); font-size: 1.1rem; font-weight: 650; }
h3 { margin: 1rem 0 .4rem; font-size: .85rem; font-weight: 600; color: var(--soft); }
p { margin: .5rem 0; max-width: 46rem; color: var(--soft); overflow-wrap: anywhere; }
small { font-size: .8rem; color: var(--soft); font-weight: 400; }
figure { margin: 0; }
pre, .strip { font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace; }
pre { margin: 0; padding: .7rem .9rem; border-radius: 6px; background: var(--panel); white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
pre.command { margin: .4rem 0; user-select: all; }
#theme { position: absolute; top: 0; right: 0; width: 2.5rem; height: 2.5rem; border: 1px solid var(--line); border-radius: 50%; background: none; color: var(--soft); cursor: pointer; }
#theme::after { content: ""; display: block; width: 15px; height: 15px; margin: auto; border: 2px solid; border-radius: 50%; background: linear-gradient(90deg, currentColor 50%, transparent 50%); }
:focus-visible { outline: 2px solid var(--s1); outline-offset: 2px; }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .9rem 1rem; margin: 1.3rem 0; }
.figures dt { font-size: .8rem; color: var(--soft); }
.figures dd { margin: 0; font-size: 1.25rem; line-height: 1.35; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figures small { display: block; white-space: normal; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14.5rem, 100%), 1fr)); gap: 1.6rem 1.5rem; }
.chart { min-width: 0; }
.chart.large { grid-column: 1 / -1; }
.chart figcaption { display: flex; flex-wrap: wrap; align-items: baseline; gap: .5rem; font-size: .9rem; }
.toggle { margin-left: auto; font-size: .8rem; color: var(--soft); cursor: pointer; }
.toggle input { margin: 0 .35rem 0 0; vertical-align: -1px; accent-color: var(--s1); }
.readout { display: flex; flex-wrap: wrap; gap: 0 1.1rem; margin: .1rem 0 .5rem; font-size: .8rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.readout output { color: var(--ink); font-weight: 600; }
.readout .step { margin-left: auto; }
.key { width: 24px; height: 10px; margin-right: .4rem; vertical-align: 0; }
.plot { position: relative; height: 7rem; margin: 0 4px 1.5rem calc(var(--gutter) + .6rem); touch-action: pan-y; cursor: crosshair; font-size: .75rem; font-variant-numeric: tabular-nums; }
.large .plot { height: clamp(13rem, 34vw, 20rem); }
.plot.log, .large:has(.toggle :checked) .linear { display: none; }
.large:has(.toggle :checked) .log { display: block; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
svg path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
path.grid { stroke: var(--line); stroke-width: 1; stroke-linecap: butt; }
path.base { stroke: var(--soft); stroke-width: 1; opacity: .6; }
path.line { stroke-width: 1.5; }
path.pale { stroke-width: 1; opacity: .4; }
path.broken { stroke-width: 2; stroke-dasharray: 1 5; }
path.dots { stroke-width: 7; }
path.s1 { stroke: var(--s1); } path.s2 { stroke: var(--s2); } path.s3 { stroke: var(--s3); }
.plot .x, .plot .y { position: absolute; color: var(--soft); line-height: 1; white-space: nowrap; pointer-events: none; }
.plot .y { right: calc(100% + .5rem); transform: translateY(-50%); }
.plot .x { top: calc(100% + .4rem); transform: translateX(-50%); }
.plot .x.end { transform: translateX(-100%); }
.cross { position: absolute; top: 0; bottom: 0; width: 1px; background: var(--soft); pointer-events: none; }
.mark { position: absolute; width: 9px; height: 9px; margin: -4.5px; border: 2px solid var(--paper); border-radius: 50%; pointer-events: none; }

details { border-bottom: 1px solid var(--line); }
summary { padding: .5rem 0; cursor: pointer; font-variant-numeric: tabular-nums; }
details pre { margin-bottom: .8rem; }

.strip { display: flex; flex-wrap: wrap; gap: 2px; }
.strip span { padding: 0 4px; min-width: 1.1em; text-align: center; border-radius: 3px; background: var(--panel); white-space: pre; unicode-bidi: isolate; }
.strip span.row { outline: 2px solid var(--s2); outline-offset: -2px; }
.looking { position: sticky; top: 0; z-index: 1; padding: .5rem 0; background: var(--paper); }
.said { display: block; margin: .3rem 0 0; min-height: 1.5em; font-size: .85rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.groups { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 0 2rem; }
.group { display: grid; grid-template-columns: repeat(4, 1fr); gap: .6rem; max-width: 40rem; }
canvas { display: block; width: 100%; border: 1px solid var(--line); image-rendering: pixelated; touch-action: pan-y; cursor: crosshair; }
.group figcaption, .picture figcaption { font-size: .75rem; color: var(--soft); }
.picture { margin: .6rem 0; }
.picture img { max-width: 100%; image-rendering: pixelated; }

.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: .5rem 2rem; align-items: start; }
.table { min-width: 0; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .85rem; }
th, td { padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; font-weight: 400; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
thead th, th[scope=row] { color: var(--soft); }
th[scope=row] { width: 1%; padding-right: 1.3rem; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.verdict { font-weight: 650; } .good { color: var(--good); } .bad { color: var(--bad); }
footer { margin-top: 2.5rem; font-size: .8rem; color: var(--soft); }
@media print { #theme, .toggle, .said { display: none; } }
)css";

// Charts: the data of each stand beside it as numbers alone. Maps: bytes in base64, drawn as colour over the paper.
const char* const script = R"js(
"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const shown = v => {
    if (v == null) return "–";
    if (v === 0) return "0";
    const exponent = +v.toExponential(3).split("e")[1];
    if (exponent < -4 || exponent > 14) return (+v.toExponential(3).split("e")[0]).toFixed(2) + "e" + exponent;
    return exponent > 2 ? Math.round(v).toLocaleString("en-US") : v.toFixed(3 - exponent);
  };

  // One plot of a chart: what it shows at a step, and how to go back.
  const plots = all(".plot").map(box => {
    const data = JSON.parse(box.querySelector("script").textContent);   // per line: steps, values
    const [x0, x1] = box.dataset.x.split(" ").map(Number), [y0, y1, logY] = box.dataset.y.split(" ").map(Number);
    const logX = box.classList.contains("log");
    const share = (v, low, high, log) => log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
    const outputs = all(".readout output", box.closest(".chart")), before = outputs.map(o => o.textContent);
    const cross = document.createElement("div");
    const marks = data.map((_, i) => {
      const mark = document.createElement("div");
      mark.className = "mark";
      mark.style.background = `var(--s${i + 1})`;
      return mark;
    });
    cross.className = "cross";
    const steps = [...new Set(data.flatMap(line => line[0]))].sort((a, b) => a - b);
    const lastUpTo = (list, step) => {
      let low = 0, high = list.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (list[middle] <= step) low = middle + 1; else high = middle;
      }
      return low - 1;
    };
    const nearest = step => {
      const i = Math.max(0, lastUpTo(steps, step)), next = Math.min(i + 1, steps.length - 1);
      return step - steps[i] <= steps[next] - step ? i : next;
    };
    const plot = {
      box, steps, nearest,
      show(step) {
        const at = Math.min(Math.max(share(step, x0, x1, logX), 0), 1);
        cross.style.left = 100 * at + "%";
        box.append(cross);
        data.forEach(([xs, ys], i) => {
          const k = lastUpTo(xs, step), value = k < 0 ? null : ys[k];
          outputs[i].textContent = shown(value);
          if (value == null) return marks[i].remove();
          marks[i].style.left = 100 * Math.min(Math.max(share(xs[k], x0, x1, logX), 0), 1) + "%";
          marks[i].style.top = 100 * (1 - share(value, y0, y1, logY)) + "%";
          box.append(marks[i]);
        });
        outputs[data.length].textContent = step.toLocaleString("en-US");
      },
      hide() {
        [cross, ...marks].forEach(part => part.remove());
        outputs.forEach((o, i) => o.textContent = before[i]);
      },
      stepAt(clientX) {
        const r = box.getBoundingClientRect(), u = Math.min(Math.max((clientX - r.left) / r.width, 0), 1);
        return logX ? x0 * Math.pow(x1 / x0, u) : x0 + u * (x1 - x0);
      },
    };
    return plot;
  });
  const visible = () => plots.filter(p => p.box.offsetParent);
  const showAll = step => visible().forEach(p => p.show(step));
  const hideAll = () => plots.forEach(p => p.hide());
  for (const p of plots) {
    if (!p.steps.length) continue;
    let at = p.steps.length - 1;
    const go = i => showAll(p.steps[at = Math.min(Math.max(i, 0), p.steps.length - 1)]);
    const point = event => go(p.nearest(p.stepAt(event.clientX)));
    p.box.addEventListener("pointermove", point);
    p.box.addEventListener("pointerdown", point);
    p.box.addEventListener("pointerleave", event => event.pointerType === "mouse" && hideAll());
    p.box.addEventListener("blur", hideAll);
    p.box.addEventListener("keydown", event => {
      const moves = {ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: p.steps.length - 1};
      if (!(event.key in moves)) return;
      event.preventDefault();
      go(moves[event.key]);
    });
  }
  all(".toggle input").forEach(input => input.addEventListener("change", hideAll));

  const colour = name => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  };
  const maps = all("canvas[data-map]").map(canvas => ({canvas, n: canvas.width, bytes: atob(canvas.dataset.map)}));
  const drawMaps = () => {
    const rgb = colour("--s1");
    for (const {canvas, n, bytes} of maps) {
      const context = canvas.getContext("2d"), picture = context.createImageData(n, n);
      for (let i = 0; i < n * n; ++i) picture.data.set([...rgb, Math.sqrt(bytes.charCodeAt(i) / 255) * 255], 4 * i);
      context.putImageData(picture, 0, 0);
    }
  };
  for (const {canvas, n, bytes} of maps) {
    const block = canvas.closest(".maps"), said = block.querySelector(".said"), labels = all(".strip span", block);
    const point = event => {
      const r = canvas.getBoundingClientRect();
      const index = share => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
      const row = index((event.clientY - r.top) / r.height), column = index((event.clientX - r.left) / r.width);
      const weight = i => bytes.charCodeAt(row * n + i) / 255;
      labels.forEach((label, i) => {
        label.classList.toggle("row", i === row);
        label.style.background = `color-mix(in srgb, var(--s1) ${Math.round(70 * Math.sqrt(weight(i)))}%, var(--panel))`;
      });
      said.textContent = `${canvas.dataset.title}: ${labels[row].textContent} (${row + 1}) looks at ${labels[column].textContent} (${column + 1}): ${weight(column).toFixed(2)}`;
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
  }

  const darkSystem = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement, isDark = root.dataset.theme ? root.dataset.theme === "dark" : darkSystem.matches;
    root.dataset.theme = isDark ? "light" : "dark";
    drawMaps();
  });
  darkSystem.addEventListener("change", drawMaps);
  drawMaps();
})();
)js";

}  // namespace

std::string page_begin(const std::string& escaped_title) {
  return std::string("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n") +
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n"
         "<title>" + escaped_title + "</title>\n<style>\n:root {" + light + "}\n@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) {" + dark +
         "} }\n:root[data-theme=dark] {" + dark + "}" + style + "</style>\n</head>\n<body>\n<header>\n" +
         "<button id=\"theme\" type=\"button\" title=\"light or dark\" aria-label=\"light or dark\"></button>\n";
}

std::string page_end() { return "<script>" + std::string(script) + "</script>\n</body>\n</html>\n"; }

}  // namespace qd
