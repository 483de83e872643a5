"use strict";
// The metric over event time, a curve for each shard, with marks: drawn by uPlot (MIT, beside this file).

const MARKS = {alert: "Alert", drift: "Drift", model: "Model change", guard: "Guard", resolved: "Resolved"};
const POINTS_MAX = 8000;

class MetricChart {
  constructor(holder, readout, legend) {
    this.holder = holder;
    this.readout = readout;
    this.legend = legend;
    this.points = [];  // [shard, time, wall, {window}, {total}]
    this.marks = [];
    this.name = this.span = null;
    this.range = "all";
    this.plot = null;
    this.shape = "";
    new ResizeObserver(() => this.resize()).observe(holder);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw(true));
    holder.addEventListener("keydown", event => this.step(event));
  }

  names() {
    const found = new Set();
    for (const point of this.points.slice(-200)) for (const name of [...Object.keys(point[3]), ...Object.keys(point[4])]) found.add(name);
    return [...found];
  }

  take(packed, anew) {
    if (anew) this.points = [];
    const named = row => Object.fromEntries(packed.names.map((name, at) => [name, row[at]]).filter(pair => pair[1] !== null));
    for (const row of packed.rows) this.points.push([row[0], row[1], row[2], named(row[3]), named(row[4])]);
    if (this.points.length > POINTS_MAX) {
      const half = this.points.length >> 1;
      this.points = this.points.filter((_, at) => at >= half || at % 2);
    }
  }

  column() { return this.span === "total" ? 4 : 3; }

  data() {
    const shards = new Map();
    for (const point of this.points) {
      const value = point[this.column()][this.name];
      if (value === undefined) continue;
      if (!shards.has(point[0])) shards.set(point[0], new Map());
      shards.get(point[0]).set(point[1], value);
    }
    const numbers = [...shards.keys()].sort((a, b) => a - b).slice(0, 12);
    const times = [...new Set(numbers.flatMap(number => [...shards.get(number).keys()]))].sort((a, b) => a - b);
    const from = times.length ? times[times.length - 1] - (times[times.length - 1] - times[0]) * ({half: .5, tenth: .1}[this.range] ?? 1) : 0;
    const kept = times.filter(time => time >= from);
    return {numbers, table: [kept, ...numbers.map(number => kept.map(time => shards.get(number).get(time) ?? null))]};
  }

  redraw(anew = false) {
    const {numbers, table} = this.data();
    const shape = JSON.stringify([numbers, this.name, this.span]);
    if (!table[0].length) {
      this.plot?.destroy();
      this.plot = null;
      this.holder.replaceChildren();
      this.readout.textContent = this.points.length ? `No data: ${this.name ?? "the metric"} has no value yet.` : "No data: no label has been learned yet.";
      this.holder.setAttribute("aria-label", "No data");
      this.describe([]);
      return;
    }
    if (anew || !this.plot || shape !== this.shape) this.build(numbers, table);
    else this.plot.setData(table);
    this.shape = shape;
    this.numbers = numbers;
    this.describe(table);
  }

  build(numbers, table) {
    this.plot?.destroy();
    this.holder.replaceChildren();
    const style = getComputedStyle(document.documentElement);
    const color = name => style.getPropertyValue(`--${name}`).trim();
    const ink = color("dim"), grid = {stroke: color("line"), width: 1};
    this.colors = Object.fromEntries(Object.keys(MARKS).map(kind => [kind, color(`mark-${kind}`)]));
    const hue = this.hue = at => numbers.length === 1 ? color("accent") : `hsl(${(210 + at * 67) % 360} 65% ${matchMedia("(prefers-color-scheme: dark)").matches ? 68 : 38}%)`;
    const font = "13px system-ui, sans-serif";
    this.plot = new uPlot({
      ...this.size(),
      ms: 1,
      tzDate: time => uPlot.tzDate(new Date(time), "Etc/UTC"),
      legend: {show: false},
      cursor: {y: false, points: {size: 7}, drag: {x: false, y: false}},
      scales: {y: {range: (_, low, high) => low === high ? [low - Math.abs(low || 1) * .05, high + Math.abs(high || 1) * .05] : uPlot.rangeNum(low, high, .08, true)}},
      axes: [
        {stroke: ink, grid, ticks: grid, font, space: 70, values: axisTimes},
        {stroke: ink, grid, ticks: grid, font, size: 62, values: (_, ticks) => ticks.map(value => shownNumber(value))},
      ],
      series: [{}, ...numbers.map((number, at) => ({label: `shard ${number}`, stroke: hue(at), width: 2, spanGaps: true, points: {show: table[0].length < 3}}))],
      hooks: {drawClear: [plot => this.drawMarks(plot)], setCursor: [plot => this.read(plot)]},
    }, table, this.holder);
  }

  drawMarks(plot) {
    const {left, top, width, height} = plot.bbox, ratio = devicePixelRatio, context = plot.ctx;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    for (const mark of this.marks) {
      const paint = this.colors[mark.kind];
      if (!paint || mark.time_ms === null) continue;
      const at = plot.valToPos(mark.time_ms, "x", true);
      if (at < left || at > left + width) continue;
      context.strokeStyle = context.fillStyle = paint;
      context.lineWidth = (mark.kind === "guard" ? 3 : 1.5) * ratio;
      context.setLineDash(mark.kind === "drift" ? [5 * ratio, 4 * ratio] : mark.kind === "resolved" ? [1.5 * ratio, 3 * ratio] : []);
      context.globalAlpha = .85;
      context.beginPath();
      context.moveTo(at, mark.kind === "guard" ? top + height - 14 * ratio : top);
      context.lineTo(at, top + height);
      context.stroke();
      if (mark.kind === "alert" || mark.kind === "model") {
        const size = 6 * ratio;
        context.beginPath();
        context.moveTo(at - size, top);
        context.lineTo(at + size, top);
        context.lineTo(at, top + size * 1.6);
        context.fill();
      }
    }
    context.restore();
  }

  read(plot) {
    const at = plot.cursor.idx;
    if (at === null || at === undefined) return;
    const time = plot.data[0][at];
    const values = this.numbers.map((number, place) => plot.data[place + 1][at] === null || plot.data[place + 1][at] === undefined ? null : `${this.numbers.length > 1 ? `shard ${number}: ` : ""}${shownNumber(plot.data[place + 1][at])}`).filter(Boolean);
    const near = (plot.scales.x.max - plot.scales.x.min) / 80;
    const marks = this.marks.filter(mark => MARKS[mark.kind] && mark.time_ms !== null && Math.abs(mark.time_ms - time) < near).slice(-3);
    this.readout.textContent = `${shownTime(time)}  ${this.name} ${values.join(", ")}` + marks.map(mark => `. ${MARKS[mark.kind]}: ${mark.text}`).join("");
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
    const times = table[0] ?? [];
    if (times.length) {
      const ends = this.numbers.map((number, place) => {
        const values = table[place + 1].filter(value => value !== null);
        return values.length ? `shard ${number} from ${shownNumber(values[0])} to ${shownNumber(values[values.length - 1])}` : "";
      }).filter(Boolean).join("; ");
      this.holder.setAttribute("aria-label", `${this.name}, ${shownTime(times[0])} to ${shownTime(times[times.length - 1])}: ${ends}. Arrow keys move along it.`);
      if (this.plot.cursor.idx === null || this.plot.cursor.idx === undefined || this.readout.textContent.startsWith("No data")) {
        const latest = this.numbers.map((number, place) => `${this.numbers.length > 1 ? `shard ${number}: ` : ""}${shownNumber(table[place + 1].findLast(value => value !== null))}`);
        this.readout.textContent = `${shownTime(times[times.length - 1])}  ${this.name} ${latest.join(", ")}`;
      }
    }
    const counts = {};
    for (const mark of this.marks) if (MARKS[mark.kind] && mark.time_ms !== null && mark.time_ms >= (times[0] ?? Infinity)) counts[mark.kind] = (counts[mark.kind] ?? 0) + 1;
    const curves = times.length && this.numbers.length > 1 ? this.numbers.map((number, at) => {
      const item = document.createElement("li"), line = document.createElement("i");
      line.className = "line";
      line.style.background = this.hue(at);
      item.append(line, `shard ${number}`);
      return item;
    }) : [];
    this.legend.replaceChildren(...curves, ...Object.keys(MARKS).filter(kind => counts[kind]).map(kind => {
      const item = document.createElement("li"), box = document.createElement("i");
      box.className = kind;
      item.append(box, `${MARKS[kind]} (${counts[kind]})`);
      return item;
    }));
  }

  size() { return {width: Math.max(this.holder.clientWidth, 200), height: this.holder.clientHeight || 280}; }

  resize() { this.plot?.setSize(this.size()); }
}

function shownNumber(value) {
  if (value === null || value === undefined) return "-";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-4)) return value.toExponential(3);
  return Math.abs(value) >= 1000 ? value.toLocaleString("en-US", {maximumFractionDigits: 0}) : String(Number(value.toPrecision(4)));
}

function shownTime(time) {
  const date = new Date(time);
  return typeof time === "number" && !isNaN(date) ? date.toISOString().slice(0, 19).replace("T", " ") : "-";
}

function axisTimes(plot, ticks) {
  const span = plot.scales.x.max - plot.scales.x.min;
  return ticks.map(tick => {
    const text = shownTime(tick);
    return span > 3 * 86400e3 ? text.slice(5, 10) : span > 86400e3 ? text.slice(5, 16) : span > 600e3 ? text.slice(11, 16) : text.slice(11);
  });
}
