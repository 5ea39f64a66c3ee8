"use strict";
// The pictures of one page of gradient flow. The numbers are those of the element #flow, as JSON; nothing else is read, nothing is loaded.
// Every text goes in as text (textContent), never as markup.

const flow = JSON.parse(document.getElementById("flow").textContent);
const { adjoint, verdict, lags } = flow;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "text", "circle", "linearGradient", "stop", "defs", "clipPath"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// ---- numbers in words

const number = (x) => (x === "inf" ? Infinity : x === "-inf" ? -Infinity : x); // JSON knows no infinity
const numbers = (xs) => xs.map(number);
const finite = (x) => typeof x === "number" && Number.isFinite(x);

function short(x, digits = 3) {
  x = number(x);
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const text = x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? x.toExponential(digits - 1).replace("e+", "e") : String(+x.toPrecision(digits));
  return text.replaceAll("-", "−");
}
const shown = (symbol) => ({ "\n": "↵", " ": "␣", "\t": "⇥", "": "∅" })[symbol] ?? symbol;
const quoted = (symbol) => `“${shown(symbol)}”`;
const steps = (n) => `${n} step${n === 1 ? "" : "s"}`;

// ---- what follows the pointer

function tip(event, text) {
  const box = $("tip");
  box.hidden = text === null;
  if (text === null) return;
  box.textContent = text;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
  box.style.top = `${event.clientY - height - 12 < 4 ? event.clientY + 18 : event.clientY - height - 12}px`;
}

// ---- scales: from a number to a place, and the round numbers between

function linear(low, high, from, to) {
  const at = (x) => from + ((x - low) / (high - low || 1)) * (to - from);
  at.invert = (p) => low + ((p - from) / (to - from)) * (high - low);
  at.ticks = (most, whole = false) => {
    const raw = Math.max((high - low) / most || 1, whole ? 1 : 0), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, ...(whole ? [] : [2.5]), 5, 10].find((s) => s * power >= raw * (1 - 1e-9)) * power, ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(+(i * step).toPrecision(12));
    return ticks;
  };
  return at;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const at = (x) => inner(Math.log10(x));
  at.invert = (p) => 10 ** inner.invert(p);
  at.ticks = (most) => {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9), ticks = [];
    const every = Math.max(1, Math.ceil((last - first + 1) / most));
    for (let e = first; e <= last; e += every) ticks.push(10 ** e);
    return ticks.length > 1 ? ticks : [low, high];
  };
  return at;
}

const power = (x) => {
  const e = Math.log10(x), round = Math.abs(e - Math.round(e)) < 1e-9;
  return round && (e < -2 || e > 3) ? "10" + [...String(Math.round(e))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("") : short(x, 2);
};

// ---- a chart of lines

/** chart(host, {title, hint, x, y, lines, bands, marks, points}): every line is {name, x, y, colour, dash}; draws anew when its width changes. */
function chart(host, options) {
  if (!options.lines.some((line) => line.y.some((v) => finite(v) && (!options.y.log || v > 0)))) {
    host.append(make("h2", {}, options.title), make("p", { class: "hint" }, options.nothing ?? "Every number is 0: there is nothing to draw."));
    return;
  }
  const plot = make("div", { class: "plot" });
  host.append(make("h2", {}, options.title), make("p", { class: "hint" }, options.hint), plot, legend(options.lines), table(options));
  const draw = () => drawChart(plot, options, plot.clientWidth);
  new ResizeObserver(draw).observe(plot);
  addEventListener("beforeprint", () => drawChart(plot, options, 360)); // two charts side by side on paper
  addEventListener("afterprint", draw);
  draw();
}

function legend(lines) {
  const swatch = ({ colour, dash = "", width = 2 }) =>
    make("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, make("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: `var(--c${colour})`, "stroke-dasharray": dash, "stroke-width": width }));
  return make("ul", { class: "legend" }, ...lines.map((line) => make("li", {}, swatch(line), line.name)));
}

function table({ x, lines }) {
  const all = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
  const at = lines.map((line) => new Map(line.x.map((v, i) => [v, line.y[i]])));
  const body = make("table");
  const box = make("details", {}, make("summary", {}, "numbers"), make("div", { class: "scroll", tabindex: "0" }, body));
  box.addEventListener("toggle", () => {
    if (body.children.length) return;
    const row = (tag, cells) => make("tr", {}, ...cells.map((c) => make(tag, {}, c)));
    body.append(row("th", [x.label, ...lines.map((line) => line.name)]), ...all.map((v) => row("td", [short(v, 5), ...at.map((m) => (m.has(v) ? short(m.get(v), 5) : ""))])));
  });
  return box;
}

function range(values, { log, low, high }) {
  let good = values.filter((v) => finite(v) && (!log || v > 0));
  if (!good.length) good = [log ? 0.1 : 0, 1];
  let [least, most] = [Math.min(...good), Math.max(...good)];
  if (log) least = Math.max(least, most * 1e-14); // below it, rounding
  if (least === most) [least, most] = log ? [least / 3, most * 3] : [least - 0.5, most + 0.5];
  return [low ?? least, high ?? most];
}

function drawChart(plot, { x, y, lines, bands = [], marks = [], points = [] }, available) {
  const width = Math.max(240, available || 520), height = Math.round(Math.min(300, Math.max(210, width * 0.56)));
  const [right, top, bottom] = [12, 10, 38];
  const sy = (y.log ? logarithmic : linear)(...range([...lines.flatMap((l) => l.y), ...bands.flatMap((b) => [...b.low, ...b.high]), ...points.map((p) => p.y)], y), height - bottom, top);
  const yTicks = sy.ticks(5).map((v) => [v, y.log ? power(v) : short(v)]);
  const left = Math.max(54, 30 + 6.2 * Math.max(...yTicks.map(([, text]) => text.length))); // the axis' own name stands beside the widest
  const sx = (x.log ? logarithmic : linear)(...range(lines.flatMap((l) => l.x), x), left, width - right);
  const inside = (v) => finite(v) && (!y.log || v > 0);
  const place = (v) => Math.min(Math.max(sy(v), top), height - bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const [v, text] of yTicks)
    svg.append(make("line", { class: "grid", x1: left, x2: width - right, y1: sy(v), y2: sy(v) }), make("text", { class: "axis", x: left - 7, y: sy(v) + 4, "text-anchor": "end" }, text));
  for (const v of sx.ticks(Math.max(3, Math.floor(width / 90)), x.whole))
    svg.append(make("text", { class: "axis", x: sx(v), y: height - bottom + 16, "text-anchor": "middle" }, x.log ? power(v) : short(v)));
  svg.append(make("text", { class: "label", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, x.label));
  svg.append(make("text", { class: "label", x: 12, y: (top + height - bottom) / 2, transform: `rotate(-90 12 ${(top + height - bottom) / 2})`, "text-anchor": "middle" }, y.label));
  for (const band of bands) {
    const there = band.x.map((_, i) => i).filter((i) => inside(band.high[i]));
    const floor = (v) => (inside(v) ? place(v) : height - bottom);
    const edge = [...there.map((i) => [sx(band.x[i]), place(band.high[i])]), ...there.reverse().map((i) => [sx(band.x[i]), floor(band.low[i])])];
    if (edge.length) svg.append(make("path", { class: "band", d: `M${edge.map((p) => p.map((c) => c.toFixed(2)).join(",")).join("L")}Z`, fill: `var(--c${band.colour})`, "fill-opacity": band.opacity }));
  }
  for (const line of lines) {
    const visible = (v) => inside(v) && v >= sy.invert(height - bottom) * (1 - 1e-9) - (y.log ? 0 : 1e-9);
    let d = "", pen = "M";
    line.y.forEach((v, i) => {
      if (!visible(v)) return void (pen = "M");
      d += `${pen}${sx(line.x[i]).toFixed(2)},${place(v).toFixed(2)}`;
      if (pen === "M" && !visible(line.y[i + 1])) svg.append(make("circle", { cx: sx(line.x[i]), cy: place(v), r: 3, fill: `var(--c${line.colour})` })); // stands alone
      pen = "L";
    });
    svg.append(make("path", { class: "line", "data-name": line.name, d, stroke: `var(--c${line.colour})`, "stroke-dasharray": line.dash ?? "", "stroke-width": line.width ?? 1.8 }));
  }
  marks.forEach(({ at, label }) => {
    if (!(at >= sx.invert(left) - 1e-9 && at <= sx.invert(width - right) + 1e-9)) return;
    const end = sx(at) > width * 0.7;
    svg.append(make("line", { class: "mark", x1: sx(at), x2: sx(at), y1: top, y2: height - bottom }), make("text", { class: "mark-label", x: sx(at) + (end ? -4 : 4), y: height - bottom - 8, "text-anchor": end ? "end" : "start" }, label));
  });
  for (const { x: px, y: py, label, colour } of points)
    if (inside(py) && py >= sy.invert(height - bottom)) svg.append(make("circle", { cx: sx(px), cy: place(py), r: 4, fill: `var(--c${colour})` }), make("text", { class: "mark-label", x: sx(px) + (sx(px) > width * 0.8 ? -8 : 7), y: place(py) - (sx(px) > width * 0.8 ? 8 : 5), "text-anchor": sx(px) > width * 0.8 ? "end" : "start" }, label));
  const guide = make("line", { class: "guide", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(make("line", { class: "frame", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }), guide);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), wanted = sx.invert(((event.clientX - box.left) / box.width) * width);
    const near = lines[0].x.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    for (const name of ["x1", "x2"]) guide.setAttribute(name, sx(near));
    guide.setAttribute("visibility", "visible");
    const rows = lines.map((l) => [l.name, l.y[l.x.indexOf(near)]]).filter(([, v]) => v !== undefined && v !== null);
    tip(event, [`${x.label}: ${short(near, 4)}`, ...rows.map(([name, v]) => `${name}: ${short(v)}`)].join("\n"));
  });
  svg.addEventListener("pointerleave", (event) => (guide.setAttribute("visibility", "hidden"), tip(event, null)));
  plot.replaceChildren(svg);
}

// ---- colours of the map: viridis, even to the eye and to every kind of colour vision

const VIRIDIS = "440154 481f70 443983 3b528b 31688e 287c8e 21918c 20a486 35b779 5ec962 90d743 c8e020 fde725".split(" ").map((h) => [0, 2, 4].map((i) => parseInt(h.slice(i, i + 2), 16)));
function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), i = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return VIRIDIS[i].map((c, j) => Math.round(c + (VIRIDIS[i + 1][j] - c) * (at - i)));
}

// ---- the map [t, k]

const maps = adjoint.maps, K = flow.about.max_lag + 1, T = flow.about.T;
const rowOf = new Map(adjoint.steps.map((t, i) => [t, i])); // a large map keeps some of its steps
const nearestStep = (t) => adjoint.steps.reduce((a, b) => (Math.abs(b - t) < Math.abs(a - t) ? b : a));
const pick = { t: adjoint.steps.at(-1), k: null, map: Object.keys(maps)[0] };
const whenPicked = [];


function setPick(t, k) {
  pick.t = nearestStep(Math.min(Math.max(t, 0), T - 1));
  pick.k = k === null ? null : Math.min(Math.max(k, 0), Math.min(pick.t, K - 1));
  for (const tell of whenPicked) tell();
}

const cell = (map, t, k) => maps[map][rowOf.get(t)]?.[k] ?? null;
const symbolAt = (t) => (flow.text ? ` ${quoted(flow.text.inputs[t])}` : "");

function inWords(t, k) {
  const row = maps[pick.map][rowOf.get(t)];
  if (!row) return `step ${t}${symbolAt(t)}: no loss there`;
  if (k === null) return `loss at step ${t}${symbolAt(t)}: ${short(row.filter(finite).reduce((a, b) => a + b, 0))} over all lags`;
  const share = row[k] / row.filter(finite).reduce((a, b) => a + b, 0);
  return `loss at step ${t}${symbolAt(t)} leans on step ${t - k}${symbolAt(t - k)}, ${k} back: ${short(row[k], 4)}${finite(share) ? ` (${short(100 * share, 2)} % of its sum over lags)` : ""}`;
}

function drawMap() {
  const host = $("heat"), rows = maps[pick.map];
  const flat = rows.flatMap((row) => (row ?? []).filter((v) => finite(v) && v > 0));
  if (!flat.length) return host.replaceChildren(make("p", { class: "hint" }, "Every number of the map is 0: no loss leans on any state."));
  const most = flat.reduce((a, b) => Math.max(a, b), 0), smallest = flat.reduce((a, b) => Math.min(a, b), most);
  const least = Math.max(smallest, most * 1e-10) * 0.999;
  const width = Math.max(240, host.clientWidth), [left, right, top, bottom] = [46, 8, 6, 44];
  const inner = width - left - right, tall = Math.round(Math.min(420, Math.max(180, inner * 0.5)));
  const image = make("canvas", { role: "img", "aria-label": "Heat map of A[t, k]" });
  [image.width, image.height] = [adjoint.steps.length, K];
  const context = image.getContext("2d"), pixels = context.createImageData(image.width, K);
  rows.forEach((row, i) => row?.forEach((v, k) => {
    if (!finite(v)) return;
    const colour = viridis(v > 0 ? Math.log(v / least) / Math.log(most / least) : 0);
    pixels.data.set([...colour, 255], 4 * ((K - 1 - k) * image.width + i)); // lag 0 at the bottom
  }));
  context.putImageData(pixels, 0, 0);
  image.style.height = `${tall}px`;
  const sx = linear(-0.5, image.width - 0.5, 0, inner), sk = linear(-0.5, K - 0.5, tall, 0), st = (i) => adjoint.steps[i];
  const frame = make("svg", { viewBox: `0 0 ${inner} ${tall}` });
  const cross = make("rect", { fill: "none", stroke: "#fff", "stroke-width": 1.6 }), column = make("rect", { fill: "#fff", "fill-opacity": 0.18, stroke: "#fff", "stroke-opacity": 0.75, y: 0, height: tall });
  frame.append(column, cross);
  const heat = make("div", { class: "heat", tabindex: "0", role: "application", "aria-label": "Map of steps and lags; arrow keys move the pick", style: `margin:${top}px ${right}px ${bottom}px ${left}px` }, image, frame);
  const axes = make("svg", { viewBox: `0 0 ${width} ${tall + top + bottom}`, style: "position:absolute;inset:0;pointer-events:none" });
  for (const i of sx.ticks(Math.max(3, Math.floor(width / 90)), true)) if (st(i) !== undefined && i % 1 === 0) axes.append(make("text", { class: "axis", x: left + sx(i), y: top + tall + 15, "text-anchor": "middle" }, String(st(i))));
  for (const k of sk.ticks(6, true)) axes.append(make("text", { class: "axis", x: left - 6, y: top + sk(k) + 4, "text-anchor": "end" }, String(k)));
  axes.append(make("text", { class: "label", x: left + inner / 2, y: top + tall + 32, "text-anchor": "middle" }, "step t of the loss"));
  axes.append(make("text", { class: "label", x: 11, y: top + tall / 2, transform: `rotate(-90 11 ${top + tall / 2})`, "text-anchor": "middle" }, "lag k, steps back"));
  const where = (event) => {
    const box = image.getBoundingClientRect();
    const i = Math.round(sx.invert(((event.clientX - box.left) / box.width) * inner)), k = Math.round(sk.invert(((event.clientY - box.top) / box.height) * tall));
    return [st(Math.min(Math.max(i, 0), image.width - 1)), Math.min(Math.max(k, 0), K - 1)];
  };
  heat.addEventListener("pointermove", (event) => {
    const [t, k] = where(event);
    tip(event, k <= t && cell(pick.map, t, k) !== null ? inWords(t, k) : null);
  });
  heat.addEventListener("pointerleave", (event) => tip(event, null));
  heat.addEventListener("click", (event) => setPick(...where(event)));
  heat.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1, every = T > adjoint.steps.length ? adjoint.steps.at(-1) - adjoint.steps.at(-2) : 1;
    const move = { ArrowLeft: [-every * far, 0], ArrowRight: [every * far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] }[event.key];
    if (!move) return;
    event.preventDefault();
    setPick(pick.t + move[0], (pick.k ?? 0) + move[1]);
  });
  drawMap.mark = () => {
    const i = rowOf.get(pick.t), half = inner / image.width;
    column.setAttribute("x", sx(i) - half / 2), column.setAttribute("width", half);
    cross.setAttribute("visibility", pick.k === null ? "hidden" : "visible");
    for (const [name, value] of Object.entries({ x: sx(i) - Math.max(half, 6) / 2, width: Math.max(half, 6), y: sk(pick.k ?? 0) - Math.max(tall / K, 6) / 2, height: Math.max(tall / K, 6) })) cross.setAttribute(name, value);
  };
  drawMap.mark();
  host.replaceChildren(axes, heat, colourBar(least, most, smallest < least, width, left, right));
}

function colourBar(least, most, clipped, width, left, right) {
  const inner = width - left - right, at = logarithmic(least, most, left, width - right);
  const svg = make("svg", { class: "bar", viewBox: `0 0 ${width} 30`, role: "img", "aria-label": "Colours from small to large" });
  const stops = [...Array(25).keys()].map((i) => make("stop", { offset: `${(100 * i) / 24}%`, "stop-color": `rgb(${viridis(i / 24)})` }));
  svg.append(make("defs", {}, make("linearGradient", { id: "colours" }, ...stops)), make("rect", { x: left, y: 0, width: inner, height: 10, rx: 2, fill: "url(#colours)" }));
  const ticks = at.ticks(Math.max(3, Math.floor(width / 110))).filter((v) => !clipped || at(v) > left + 60);
  for (const v of ticks) svg.append(make("text", { x: at(v), y: 25, "text-anchor": "middle" }, power(v)));
  if (clipped) svg.append(make("text", { x: left, y: 25, "text-anchor": "start" }, `≤ ${power(10 ** Math.round(Math.log10(least)))}`)); // ten decades are told apart
  return svg;
}

function mapSection() {
  const names = { state: "state, mean over streams", input: "input vector, mean over streams", "state of one stream": `state, stream ${adjoint.stream}`, "input of one stream": `input vector, stream ${adjoint.stream}` };
  $("which").append(...Object.keys(maps).map((name) => make("option", { value: name }, names[name] ?? `state of ${name}, mean over streams`)));
  $("which").addEventListener("change", () => ((pick.map = $("which").value), drawMap(), setPick(pick.t, pick.k)));
  new ResizeObserver(drawMap).observe($("heat"));
  drawMap();
  whenPicked.push(() => (drawMap.mark?.(), ($("readout").textContent = inWords(pick.t, pick.k))));
}

// ---- the text under the map

function textSection() {
  const { text } = flow, source = maps["input of one stream"] ? "input of one stream" : "state of one stream";
  if (!text) return;
  // Where every target is the next input the text is one line of symbols, and symbol i is what the loss at step i − 1 predicts.
  const ahead = text.targets && text.inputs.slice(1).every((symbol, t) => symbol === text.targets[t]) ? 1 : 0;
  const symbols = ahead ? [...text.inputs, text.targets.at(-1)] : text.inputs;
  const host = $("tokens"), lossAt = (i) => i - ahead;
  $("text").hidden = false;
  $("text-hint").textContent = (ahead ? "Pick a symbol: the darker a symbol before it, the more the loss of predicting the picked one leans on it" : "Pick a step: the darker a symbol, the more the loss at that step leans on it") + ` (${source.startsWith("input") ? "‖∂L/∂x‖" : "‖∂L/∂s‖"}, stream ${adjoint.stream}).`;
  host.classList.toggle("wide", !text.spelled || symbols.some((s) => s.length > 1));
  const spans = symbols.map((symbol, i) => {
    const visible = symbol === "\n" ? "↵\n" : symbol;
    return make("span", { id: `symbol-${i}`, role: "option", "data-i": i }, visible);
  });
  host.append(...spans);
  const show = () => {
    const row = maps[source][rowOf.get(pick.t)] ?? [], decades = +$("shade").value;
    const most = row.reduce((a, b) => Math.max(a, b ?? 0), 0);
    spans.forEach((span, i) => {
      const k = pick.t - i, v = k >= 0 ? row[k] : null, share = finite(v) && v > 0 && most > 0 ? v / most : 0;
      const dark = share && (decades ? Math.max(0, 1 + Math.log10(share) / decades) : share);
      span.style.background = dark ? `rgb(var(--shade) / ${(0.06 + 0.62 * dark).toFixed(3)})` : "";
      span.className = i === pick.t + ahead ? "picked" : i > pick.t ? "later" : "";
      span.setAttribute("aria-selected", i === pick.t + ahead);
    });
    host.setAttribute("aria-activedescendant", `symbol-${pick.t + ahead}`);
    const { offsetTop, offsetHeight } = spans[pick.t + ahead]; // the picked symbol is to be seen
    host.scrollTop += Math.min(0, offsetTop - 8 - host.scrollTop) + Math.max(0, offsetTop + offsetHeight + 8 - host.scrollTop - host.clientHeight);
    const leans = row.map((v, k) => [v, k]).filter(([v]) => finite(v) && v > 0).sort((a, b) => b[0] - a[0]).slice(0, 5);
    const loss = text.losses[pick.t];
    const what = ahead ? `${quoted(symbols[pick.t + 1])} after ${quoted(symbols[pick.t])}` : `step ${pick.t}, ${quoted(symbols[pick.t])}${text.targets ? `, target ${quoted(text.targets[pick.t])}` : ""}`;
    $("token-readout").textContent = finite(loss) ? `${what}: loss ${short(loss)}. ${leans.length ? `Leans most on ${leans.map(([v, k]) => `${quoted(symbols[pick.t - k])} ${k} back (${short(v, 2)})`).join(", ")}` : "Leans on no symbol"}.` : `${what}: no loss there.`;
  };
  host.addEventListener("click", (event) => {
    const span = event.target.closest("[data-i]");
    if (span && lossAt(+span.dataset.i) >= 0) setPick(lossAt(+span.dataset.i), pick.k);
  });
  host.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -T, End: T }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const i = rowOf.get(pick.t), next = adjoint.steps[Math.min(Math.max(i + by, 0), adjoint.steps.length - 1)];
    setPick(next, pick.k);
  });
  $("shade").addEventListener("change", show);
  whenPicked.push(show);
}

// ---- the tiles, and the charts

function tiles() {
  const first = flow.jacobians?.exponents?.[0], { bias } = flow, some = adjoint.profile.some((v) => v > 0) && K > 2;
  const percent = (v) => (v < 1e-4 ? "< 0.01 %" : `${short(100 * v, 2)} %`);
  const all = [
    ...(finite(verdict.decay) ? [[`× ${short(verdict.decay)}`, `a step back; fit over lags ${verdict.fit.join("–")}${finite(verdict.r_squared) ? `, R² ${short(verdict.r_squared, 2)}` : ""}`]] : []),
    ...(some ? [[verdict.horizon === null ? `> ${flow.about.max_lag}` : String(verdict.horizon), "steps to the horizon, where 1 % of the greatest is left"]] : []),
    ...(some ? [[String(verdict.half_lag), "lags hold half of the whole"]] : []),
    ...(finite(first) ? [[short(first), "nats a step, the greatest Lyapunov exponent"]] : []),
    ...(bias && flow.about.closes && K > 1 && verdict.state !== "exploding" ? [[bias.least["0.01"] === null ? `> ${bias.windows.length}` : String(bias.least["0.01"]), "lags that every loss must see for a bias of 1 %"]] : []),
    ...(bias?.own && K > 1 && flow.about.closes ? [[percent(bias.own.bias), `missed as it is trained: ${bias.own.words}`]] : []),
    ...(finite(lags.gradient_norm) ? [[short(lags.gradient_norm), "norm of the gradient, before any clip"]] : []),
  ];
  $("tiles").append(...all.map(([value, what]) => make("div", { class: "tile" }, make("b", {}, value), make("span", {}, what))));
}

const count = (n) => [...Array(n).keys()];
const DASH = ["", "6 3", "2 3", "8 3 2 3"];

/** Where the fitted line of ln profile stands at lag 0: it goes through the weighted mean of its points. */
function intercept(fit) {
  const there = fit.filter((k) => adjoint.profile[k] > 0), weight = there.reduce((sum, k) => sum + adjoint.counts[k], 0);
  return Math.exp(there.reduce((sum, k) => sum + (adjoint.counts[k] / weight) * (Math.log(adjoint.profile[k]) - k * Math.log(verdict.decay)), 0));
}

function profileChart() {
  const x = count(K), [first, last] = verdict.fit, q = adjoint.quantiles, levels = adjoint.levels;
  const lines = [{ name: "mean over steps and streams", x, y: adjoint.profile, colour: 0, width: 2.4 }];
  if (finite(verdict.decay)) {
    const fit = count(last - first + 1).map((i) => first + i), start = intercept(fit);
    lines.push({ name: `fit: × ${short(verdict.decay)} a step`, x: fit, y: fit.map((k) => start * verdict.decay ** k), colour: 1, dash: "6 4" });
  }
  if (flow.about.layers > 1) adjoint.layer_profiles.forEach((y, i) => lines.push({ name: `layer ${i}`, x, y, colour: 2 + (i % 4), dash: DASH[1 + (i % 3)], width: 1.2 }));
  if (adjoint.input_profile) lines.push({ name: "to the input vector", x, y: adjoint.input_profile, colour: 6, dash: "2 3" });
  const bands = count(Math.floor(levels.length / 2)).map((i) => ({ x, low: q[i], high: q[levels.length - 1 - i], colour: 0, opacity: 0.13 }));
  const least = adjoint.profile.filter((v) => v > 0).reduce((a, b) => Math.min(a, b), Infinity);
  const marks = verdict.horizon === null ? [] : [{ at: verdict.horizon, label: `horizon ${verdict.horizon}` }];
  chart($("profile"), { title: "How the gradient changes on its way back", hint: `‖∂L/∂s‖ by lag; bands: ${count(bands.length).map((i) => `${100 * levels[i]}–${100 * levels[levels.length - 1 - i]} %`).join(" and ")} of steps.`, x: { label: "lag k, steps", whole: true }, y: { label: "‖∂L(t)/∂s(t−k)‖", log: true, low: Number.isFinite(least) ? least / 3 : undefined }, lines, bands, marks });
}

function biasChart() {
  const { bias } = flow;
  if (!bias || !flow.about.closes || K < 2) return;
  const lines = [
    { name: "sliding: every loss sees K lags", x: bias.windows, y: bias.bias, colour: 0, width: 2.4 },
    ...(bias.chunked ? [{ name: "chunks of K", x: bias.chunked.windows, y: bias.chunked.bias, colour: 1, width: 2 }] : []),
    ...(bias.overlapping ? [{ name: "windows of 2K, a new one every K", x: bias.overlapping.windows, y: bias.overlapping.bias, colour: 2, width: 2 }] : []),
    { name: "1 − cosine, sliding", x: bias.windows, y: bias.cosine.map((c) => (c === null ? null : Math.max(1 - c, 0))), colour: 0, dash: "2 3", width: 1.3 },
  ];
  const reached = Object.entries(bias.least).filter(([, w]) => w !== null).map(([level, w]) => [+level, w]).sort(([a], [b]) => b - a);
  const percents = (w) => reached.filter(([, v]) => v === w).map(([level]) => `${+(100 * level).toPrecision(3)} %`).join(", "); // one label where several are met at once
  const points = reached.map(([level, w], i) => ({ x: w, y: level, label: reached.findIndex(([, v]) => v === w) === i ? `${percents(w)}: ${w}` : "", colour: 0 }));
  if (bias.own && bias.own.bias > 1e-9) points.push({ x: Math.min(bias.own.window, K), y: bias.own.bias, label: "as trained", colour: 3 });
  const marks = bias.chosen === null ? [] : [{ at: bias.chosen, label: `K = ${bias.chosen}` }];
  chart($("bias"), { title: "What a window of K steps would miss", hint: "‖ĝ − g‖ / ‖g‖: the gradient that a window finds against the whole one, on this batch, head left out. A chunk's first loss sees one lag alone.", x: { label: "K, steps", log: bias.windows.length > 20, whole: true }, y: { label: "relative", log: true, low: Math.max(1e-9, Math.min(...bias.bias.filter((v) => v > 1e-9), 0.1)) }, lines, marks, points, nothing: "There is one lag only: no window misses anything." });
}

function lagChart() {
  const x = count(lags.total.length);
  if (!x.length || !flow.about.closes) return;
  const entries = Object.entries(lags.norms).map(([name, y]) => [name.replace("recurrence.", ""), y]);
  const near = entries.filter(([, y]) => y.slice(1).every((v) => !(v > 0))); // the head's, which act on a loss without passing through time
  const plain = entries.filter((entry) => !near.includes(entry)).map(([name, y], i) => ({ name, x, y, colour: i % 6, dash: DASH[Math.floor(i / 6) % 4], width: 1.3 }));
  const [there, zero] = [near.filter(([, y]) => y[0] > 0), near.filter(([, y]) => !(y[0] > 0))];
  const alone = (there.length ? ` At lag 0 alone: ${there.map(([name, y]) => `${name} ${short(y[0])}`).join(", ")}.` : "") + (zero.length ? ` 0 at every lag: ${zero.map(([name]) => name).join(", ")}.` : "");
  chart($("lags"), { title: "What each lag adds to the gradient", hint: `‖g(k)‖, the part of dL/dθ that reaches back exactly k steps.${alone}`, x: { label: "lag k, steps", whole: true }, y: { label: "‖g(k)‖", log: true }, lines: [{ name: "all parameters", x, y: lags.total, colour: 6, width: 2.6 }, ...plain] });
}

function spectraChart() {
  const found = flow.jacobians;
  if (!found) return;
  const spectra = [["J, one step", found.singular_values], ...found.spans.filter((p) => p > 1).map((p) => [`product of ${p} steps`, found.span_singular_values[p]])].filter(([, q]) => q.length);
  const rank = (q) => q[2].map((_, i) => i + 1);
  const lines = spectra.map(([name, q], i) => ({ name, x: rank(q), y: q[2], colour: i % 6, dash: DASH[i % 4], width: i ? 1.6 : 2.4 }));
  const bands = spectra.map(([, q], i) => ({ x: rank(q), low: q[1], high: q[3], colour: i % 6, opacity: 0.14 }));
  const radius = found.radius.map((gates, layer) => `layer ${layer}: ${gates.map((r, g) => (gates.length > 1 ? `${flow.gates?.names[g] ?? g} ${short(r)}` : short(r))).join(", ")}`).join("; ");
  const all = spectra.flatMap(([, q]) => q[2]).filter((v) => v > 0), low = Math.max(Math.min(...all), Math.max(...all) * 1e-8);
  chart($("spectra"), { title: "Singular values of ∂s(t)/∂s(t−1) and of products", hint: `Median and quartiles over ${found.samples} samples; above 1 stretches, below 1 shrinks. Spectral radius of R: ${radius}.`, x: { label: "rank", log: lines[0].x.length > 40, whole: true }, y: { label: "singular value", log: true, low: Number.isFinite(low) ? low : undefined }, lines, bands });
}

function exponentsChart() {
  const found = flow.jacobians;
  if (!found || !found.exponents.length) return;
  const gone = "Nothing is left of any direction after a step or two.";
  const there = found.exponents.filter(finite), x = there.map((_, i) => i + 1), spread = found.exponents_spread.map((s) => (finite(s) ? s : 0));
  const bands = [{ x, low: there.map((v, i) => v - spread[i]), high: there.map((v, i) => v + spread[i]), colour: 0, opacity: 0.18 }];
  chart($("exponents"), { title: "Lyapunov exponents", hint: `Nats a step, mean over ${steps(found.exponent_steps)} after a burn-in of ${found.burn_in}; band: standard deviation over streams. Above 0 the gradient explodes, far below it vanishes.${there.length < found.exponents.length ? " The others lose everything at once." : ""}`, x: { label: "index", whole: true }, y: { label: "nats a step" }, lines: [{ name: "exponent", x, y: there, colour: 0, width: 2.4 }, ...(there.length ? [{ name: "0: neither grows nor fades", x: [x[0], x.at(-1)], y: [0, 0], colour: 6, dash: "2 3", width: 1 }] : [])], bands, nothing: gone });
}

function gatesChart() {
  const { gates } = flow;
  if (!gates) return;
  const open = gates.openness.some((layer) => layer.some((g) => g.some(finite))), source = open ? gates.openness : gates.saturation;
  const sorted = (row) => numbers(row).filter(finite).sort((a, b) => a - b);
  const called = (g) => (gates.names[g] === "a" ? "activation" : gates.names[g]);
  const lines = source.flatMap((layer, l) => layer.map((row, g) => ({ name: `${called(g)}${source.length > 1 ? `, layer ${l}` : ""}`, y: sorted(row), colour: g % 6, dash: DASH[l % 4] }))).filter((line) => line.y.length);
  if (!lines.length) return;
  for (const line of lines) line.x = line.y.map((_, i) => (100 * (i + 0.5)) / line.y.length);
  const lives = gates.half_life.flatMap((layer, l) => layer.map((row, s) => [l, s, numbers(row).filter((v) => v !== null).sort((a, b) => a - b)])).filter(([, , row]) => row.some((v) => v > 0));
  const half = lives.map(([l, s, row]) => `${"hcs"[s] ?? s}${gates.half_life.length > 1 ? ` of layer ${l}` : ""} ${Number.isFinite(row[Math.floor(row.length / 2)]) ? short(row[Math.floor(row.length / 2)]) : "for ever"} (longest ${Number.isFinite(row.at(-1)) ? short(row.at(-1)) : "for ever"})`).join(", ");
  const dead = gates.dead.map((d) => `${short(100 * d, 2)} %`).join(", ");
  chart($("gates"), { title: open ? "How open the gates are" : "How saturated the units are", hint: `Units sorted. ${half ? `Median half-life of a memory in steps: ${half}. ` : ""}Units that hardly ever pass a gradient: ${dead}.${open ? "" : " Saturated: at a step where the slope is below 5 % of its greatest; relu: where the unit is off."}`, x: { label: "units, %", low: 0, high: 100 }, y: { label: open ? "mean openness" : "share of steps", low: 0, high: 1 }, lines });
}

// ---- all together

function fromAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1)); // #t=57&k=8 opens the page at a pick
  if (maps[wanted.get("map")]) (pick.map = $("which").value = wanted.get("map")), drawMap();
  setPick(wanted.has("t") ? +wanted.get("t") || 0 : T - 1, wanted.has("k") ? +wanted.get("k") || 0 : null);
}

tiles();
mapSection();
textSection();
for (const draw of [profileChart, biasChart, lagChart, spectraChart, exponentsChart, gatesChart]) draw();
fromAddress();
addEventListener("hashchange", fromAddress);
$("save").href = URL.createObjectURL(new Blob([$("flow").textContent], { type: "application/json" }));
document.documentElement.dataset.ready = "yes";
