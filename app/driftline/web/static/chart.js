"use strict";
// Curves over event time, with marks of what happened: drawn by uPlot (MIT, beside this file).

const MARKS = {alert: "Alert", drift: "Drift", model: "Model change", guard: "Guard", resolved: "Resolved"};
const LETTERS = {alert: "A", drift: "D", model: "M", guard: "G", resolved: "R"};
const POINTS_MAX = 8000;
const FLAG = 15;  // side of a mark's flag
const ROWS = 4;  // of flags, one for each kind that stands above the curve
const time = {points: [], names: new Set(), marks: [], range: "all"};  // what all curves share; a point is [shard, time, wall, {window}, {total}, {more}]

function takePoints(packed, anew) {
  if (anew) [time.points, time.names] = [[], new Set()];
  const named = (names, values) => Object.fromEntries(names.map((name, at) => [name, values[at]]).filter(pair => pair[1] !== null));
  for (const one of packed.rows) time.points.push([one[0], one[1], one[2], named(packed.names, one[3]), named(packed.names, one[4]), named(packed.more, one[5])]);
  packed.names.forEach((name, at) => { if (packed.rows.some(one => one[3][at] !== null || one[4][at] !== null)) time.names.add(name); });
  if (time.points.length > POINTS_MAX) {
    const half = time.points.length >> 1;
    time.points = time.points.filter((_, at) => at >= half || at % 2);
  }
}

// A line for each shard: {label, values by time}.
function linesByShard(valueOf) {
  const shards = new Map();
  for (const point of time.points) {
    const value = valueOf(point);
    if (value === undefined) continue;
    if (!shards.has(point[0])) shards.set(point[0], new Map());
    shards.get(point[0]).set(point[1], value);
  }
  const numbers = [...shards.keys()].sort((a, b) => a - b).slice(0, 12);
  return numbers.map((number, at) => ({label: `shard ${number}`, values: shards.get(number), hue: numbers.length === 1 ? null : at}));
}

// The sum over shards of what each had last.
function summedLine(label, valueOf, style) {
  const last = new Map(), values = new Map();
  for (const point of [...time.points].sort((a, b) => a[1] - b[1])) {
    const value = valueOf(point);
    if (value === undefined) continue;
    last.set(point[0], value);
    values.set(point[1], [...last.values()].reduce((sum, one) => sum + one, 0));
  }
  return {label, values, ...style};
}

class TimeChart {
  constructor(holder, readout, legend) {
    this.holder = holder;
    this.readout = readout;
    this.legend = legend;
    this.lines = [];
    this.name = "";
    this.shown = shownNumber;
    this.form = {times: []};
    this.plot = null;
    this.shape = "";
    new ResizeObserver(() => this.resize()).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw(this.name, this.lines, this.shown, this.form, true));
    holder.addEventListener("keydown", event => this.step(event));
  }

  table() {
    const times = [...new Set([...this.form.times, ...this.lines.flatMap(line => [...line.values.keys()])])].sort((a, b) => a - b);
    const end = times[times.length - 1], from = times.length ? end - (end - times[0]) * ({half: .5, tenth: .1}[time.range] ?? 1) : 0;
    const kept = times.filter(one => one >= from);
    return [kept, ...this.lines.map(line => kept.map(one => line.values.get(one) ?? null))];
  }

  // `lines`: {label, values by time, hue or color, dash}; `shown` writes a value, `ticks` one of the axis; `times`: what the axis spans.
  draw(name, lines, shown = shownNumber, {ticks = shown, bounds = null, times = []} = {}, anew = false) {
    this.name = name;
    this.lines = lines;
    this.shown = shown;
    this.form = {ticks, bounds, times};
    const table = this.table();
    const shape = JSON.stringify([name, lines.map(line => line.label)]);
    if (!lines.some(line => line.values.size)) {
      this.plot?.destroy();
      this.plot = null;
      this.holder.replaceChildren();
      this.readout.textContent = name ? `No data: ${name} has no value yet.` : "No data yet.";
      this.holder.setAttribute("aria-label", "No data");
      this.legend.replaceChildren();
      return;
    }
    if (anew || !this.plot || shape !== this.shape) this.build(table);
    else this.plot.setData(table);
    this.shape = shape;
    this.describe(table);
  }

  build(table) {
    this.plot?.destroy();
    this.holder.replaceChildren();
    this.readout.textContent = "";
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(`--${name}`).trim();
    const ink = color("dim"), grid = {stroke: color("line"), width: 1}, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    this.colors = Object.fromEntries(Object.keys(MARKS).map(kind => [kind, color(`mark-${kind}`)]));
    this.flagInk = color("card");
    this.paint = line => line.color ? color(line.color) : line.hue === null || line.hue === undefined ? color("accent") : `hsl(${(210 + line.hue * 67) % 360} 65% ${dark ? 68 : 38}%)`;
    const font = "13px system-ui, sans-serif";
    this.plot = new uPlot({
      ...this.size(),
      ms: 1,
      tzDate: one => uPlot.tzDate(new Date(one), "Etc/UTC"),
      legend: {show: false},
      cursor: {y: false, points: {size: 7}, drag: {x: false, y: false}, sync: {key: "event time", setSeries: false, scales: ["x", null]}},
      scales: {y: {range: (_, low, high) => this.form.bounds ? this.form.bounds : low === high ? [low - Math.abs(low || 1) * .05, high + Math.abs(high || 1) * .05] : uPlot.rangeNum(low, high, .08, true)}},
      axes: [
        {stroke: ink, grid, ticks: grid, font, space: 70, values: axisTimes},
        {stroke: ink, grid, ticks: grid, font, size: 62, values: (_, ticks) => ticks.map(value => this.form.ticks(value))},
      ],
      series: [{}, ...this.lines.map(line => ({label: line.label, stroke: this.paint(line), width: line.dash ? 1.75 : 2, dash: line.dash, spanGaps: true, points: {show: table[0].length < 3}}))],
      padding: [FLAG + 6, null, null, null],
      hooks: {drawClear: [plot => this.drawMarks(plot)], draw: [plot => this.drawFlags(plot)], setCursor: [plot => this.read(plot)]},
    }, table, this.holder);
  }

  // The marks that are in view, with their place on the canvas.
  placed(plot) {
    const {left, width} = plot.bbox;
    return time.marks.filter(mark => this.colors[mark.kind] && mark.time_ms !== null)
      .map(mark => ({mark, at: plot.valToPos(mark.time_ms, "x", true)}))
      .filter(one => one.at >= left && one.at <= left + width)
      .sort((a, b) => a.at - b.at);
  }

  drawMarks(plot) {
    const {top, height} = plot.bbox, ratio = devicePixelRatio, context = plot.ctx;
    context.save();
    context.globalAlpha = .75;
    for (const {mark, at} of this.placed(plot)) {
      if (isThere(mark.from_ms)) {  // at some time in between
        const from = Math.max(plot.bbox.left, plot.valToPos(mark.from_ms, "x", true));
        context.globalAlpha = .1;
        context.fillStyle = this.colors[mark.kind];
        context.fillRect(from, top, at - from, height);
        context.globalAlpha = .75;
      }
      context.strokeStyle = this.colors[mark.kind];
      context.lineWidth = (mark.kind === "guard" ? 3 : 1.5) * ratio;
      context.setLineDash(mark.kind === "drift" ? [5 * ratio, 4 * ratio] : mark.kind === "resolved" ? [1.5 * ratio, 3 * ratio] : []);
      context.beginPath();
      context.moveTo(at, mark.kind === "guard" ? top + height - 12 * ratio : top);
      context.lineTo(at, top + height);
      context.stroke();
    }
    context.restore();
  }

  drawFlags(plot) {
    const {top, height} = plot.bbox, ratio = devicePixelRatio, context = plot.ctx, side = FLAG * ratio;
    context.save();
    context.font = `bold ${11 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const {mark, at, line, low} of flagsOf(this.placed(plot), side, ratio)) {
      const y = low ? top + height - 12 * ratio - side * (line + 1) : top - side + line * (side + ratio);
      context.fillStyle = this.colors[mark.kind];
      context.fillRect(at - side / 2, y, side, side);
      context.fillStyle = this.flagInk;
      context.fillText(LETTERS[mark.kind], at, y + side / 2 + ratio * .5);
    }
    context.restore();
  }

  valuesAt(table, at) {
    return this.lines.map((line, place) => isThere(table[place + 1][at]) ? `${this.lines.length > 1 ? `${line.label}: ` : ""}${this.shown(table[place + 1][at])}` : null).filter(Boolean).join(", ");
  }

  read(plot) {
    const at = plot.cursor.idx;
    if (at === null || at === undefined || !this.lines.length) return;
    const moment = plot.data[0][at];
    const near = (plot.scales.x.max - plot.scales.x.min) / 80;
    const marks = time.marks.filter(mark => MARKS[mark.kind] && mark.time_ms !== null && Math.abs(mark.time_ms - moment) < near).slice(-3);
    this.readout.textContent = `${shownTime(moment)}  ${this.name} ${this.valuesAt(plot.data, at) || "not measured anew"}` + marks.map(mark => `. ${MARKS[mark.kind]}: ${mark.text}${isThere(mark.from_ms) ? ` (${between(mark)})` : ""}`).join("");
  }

  step(event) {
    const move = {ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9}[event.key];
    if (!move || !this.plot) return;
    event.preventDefault();
    const last = this.plot.data[0].length - 1;
    const at = Math.min(last, Math.max(0, (this.plot.cursor.idx ?? last) + move * (event.shiftKey ? 10 : 1)));
    this.plot.setCursor({left: this.plot.valToPos(this.plot.data[0][at], "x"), top: 10});
  }

  describe(table) {
    const times = table[0], first = times[0], last = times[times.length - 1];
    const ends = this.lines.map((line, place) => {
      const values = table[place + 1].filter(value => value !== null);
      return values.length ? `${line.label} from ${this.shown(values[0])} to ${this.shown(values[values.length - 1])}` : "";
    }).filter(Boolean).join("; ");
    const counts = {};
    for (const mark of time.marks) if (MARKS[mark.kind] && mark.time_ms !== null && mark.time_ms >= first) counts[mark.kind] = (counts[mark.kind] ?? 0) + 1;
    const kinds = Object.keys(MARKS).filter(kind => counts[kind]);
    const marked = kinds.length ? ` Marks: ${kinds.map(kind => `${MARKS[kind]} ${counts[kind]}`).join(", ")}.` : "";
    this.holder.setAttribute("aria-label", `${this.name}, ${shownTime(first)} to ${shownTime(last)}: ${ends}.${marked} Arrow keys move along it.`);
    if (!isThere(this.plot.cursor.idx) || !this.readout.textContent || this.readout.textContent.startsWith("No data")) {
      const latest = this.lines.map((line, place) => `${this.lines.length > 1 ? `${line.label}: ` : ""}${this.shown(table[place + 1].findLast(value => value !== null))}`);
      const valued = Math.max(...this.lines.map((line, place) => table[place + 1].findLastIndex(value => value !== null)));
      this.readout.textContent = `${shownTime(times[valued] ?? last)}  ${this.name} ${latest.join(", ")}`;
    }
    const spans = new Set(time.marks.filter(mark => isThere(mark.from_ms) && mark.time_ms >= first).map(mark => mark.kind));
    const curves = this.lines.length > 1 || this.lines.some(line => line.dash) ? this.lines.map(line => {
      const part = make("i", {class: `line${line.dash ? " dashed" : ""}`});
      part.style.borderTopColor = this.paint(line);
      return make("li", {}, part, line.label);
    }) : [];
    this.legend.replaceChildren(...curves, ...kinds.map(kind => make("li", {}, make("i", {class: kind}, LETTERS[kind]), `${MARKS[kind]} (${counts[kind]})${spans.has(kind) ? ", within the shaded span" : ""}`)));
  }

  size() { return {width: Math.max(this.holder.clientWidth, 200), height: this.holder.clientHeight || 280}; }

  resize() { this.plot?.setSize(this.size()); }
}

// The marks that get a flag, each with its row: of those of a kind that lie close, the first; the others have a line only.
function flagsOf(placed, side, gap) {
  const ends = {};  // by kind and by row, where the last flag ends
  return placed.flatMap(({mark, at}) => {
    const low = mark.kind === "guard", free = name => at - side / 2 >= (ends[name] ?? -1);
    if (!free(mark.kind)) return [];
    const line = [...Array(ROWS).keys()].find(number => free(`${low}${number}`));
    if (line === undefined) return [];
    ends[mark.kind] = ends[`${low}${line}`] = at + side / 2 + gap;
    return [{mark, at, line, low}];
  });
}

function axisTimes(plot, ticks) {
  const length = plot.scales.x.max - plot.scales.x.min;
  return ticks.map(tick => {
    const text = shownTime(tick);
    return length > 3 * 86400e3 ? text.slice(5, 10) : length > 86400e3 ? text.slice(5, 16) : length > 600e3 ? text.slice(11, 16) : text.slice(11);
  });
}
