"use strict";
// The page: takes what the worker sends (everything once, then what changed) and shows it to one of its roles.

const ORDER = {
  everyone: ["metric", "episodes", "kpi", "reviews", "happened", "models", "labels", "scores", "workers"],
  operations: ["workers", "episodes", "labels", "happened", "reviews", "models", "scores", "metric"],
  data_science: ["metric", "models", "labels", "kpi", "episodes", "happened", "scores", "reviews"],
  domain_expert: ["kpi", "reviews", "metric", "episodes", "scores", "happened"],
};
const NEEDED = {reviews: "holds", kpi: "priced"};  // sections that some pipelines have
let source = null;

// -- curves

function draw() {
  const {metric, kpi, labels} = charts, points = time.points;
  options($("metric-name"), [...time.names].slice(-40));  // whether or not a label came lately
  const name = $("metric-name").value;
  const place = $("metric-span").value === "window" && points.some(point => name in point[3]) ? 3 : 4;
  time.range = $("range").value;
  const better = state.about.better?.[name];
  setText($("metric-title"), `How good the predictions are${name ? `: ${name}${better ? ` (${better} is better)` : ""}` : ""}`);
  metric.draw(name || (state.about.labelled ? "the metric" : ""), linesByShard(point => point[place][name]), shownNumber, {times: points.map(point => point[1])});
  const load = Object.keys(LOAD).filter(one => points.some(point => one in point[5]));
  options($("labels-name"), load, one => LOAD[one][0]);
  const shown = LOAD[$("labels-name").value];
  labels.draw(shown ? shown[0] : "", linesByShard(point => point[5][$("labels-name").value]), shown?.[1], {bounds: shown?.[2], ticks: shown?.[2] ? value => `${Math.round(100 * value)}%` : shown?.[1]});
  if (state.about.priced) {
    const kpi_name = $("kpi-name").value, unit = state.kpis?.find(one => one.name === kpi_name)?.unit ?? "";
    const styles = {known: {}, assumed: {color: "mark-model"}, waiting: {color: "estimate", dash: [7, 5]}, expired: {color: "dim", dash: [2, 4]}};
    const lines = Object.keys(PARTS).map(part => summedLine(PARTS[part], point => point[5][`${part} ${kpi_name}`], styles[part]));
    kpi.draw(words(kpi_name), lines.filter(line => line.values.size), value => isThere(value) ? money(value, unit) : "-", {ticks: compact});
  }
  const latest = points.slice(-20).reverse();
  $("values-head").replaceChildren(heads("Event time (UTC)", "Shard", `>${name || "Metric"}, last labels`, ">All labels"));
  if (!$("values").contains(document.activeElement)) $("values").replaceChildren(...latest.map(point => row(shownTime(point[1]), String(point[0]), number(shownNumber(point[3][name])), number(shownNumber(point[4][name])))));
}

const CHOICES = ["metric-name", "metric-span", "range", "kpi-name", "labels-name"];
for (const id of CHOICES) $(id).addEventListener("change", () => { localStorage.setItem(id, $(id).value); if (state.kpis) show.kpis(state.kpis); draw(); });
for (const id of ["metric-span", "range"]) if ([...$(id).options].some(one => one.value === localStorage.getItem(id))) $(id).value = localStorage.getItem(id);

// -- roles

function play(role) {
  state.role = ORDER[role] ? role : "everyone";
  const order = ORDER[state.role];
  for (const card of [...$("cards").children]) card.hidden = !order.includes(card.id) || NEEDED[card.id] && !state.about[NEEDED[card.id]];
  const focused = document.activeElement;
  $("cards").prepend(...order.map($));
  const shown = [...$("cards").children].filter(card => !card.hidden), wide = card => card.classList.contains("wide");
  for (const columns of [2, 3, 4]) {  // the last card fills its row; in two columns a wide one does so anyway
    const last = shown.findLast(card => columns > 2 || !wide(card)), tall = columns === 2 && shown.includes($("kpi"));
    const left = (columns - (shown.length + 1 + Number(tall)) % columns) % columns;
    for (const card of $("cards").children) delete card.dataset[`in${columns}`];
    last.dataset[`in${columns}`] = (Number(wide(last)) + left) % columns + 1;
  }
  focused?.focus?.();
  for (const name of ["verdict", "episodes", "marks", "numbers"]) if (state[name]) show[name](state[name]);
  for (const chart of Object.values(charts)) chart.resize();
}

for (const input of document.querySelectorAll("#roles input")) {
  input.checked = input.value === (location.hash.slice(1) || localStorage.getItem("role") || "everyone");
  input.addEventListener("change", () => { localStorage.setItem("role", input.value); history.replaceState(null, "", `#${input.value}`); play(input.value); });
}
if (!document.querySelector("#roles input:checked")) document.querySelector("#roles input").checked = true;

// -- the stream

function tick() {
  showHeard();
  const verdict = state.verdict;
  if (!verdict) return;
  const since = state.lost ?? verdict.since_ms;
  const level = state.lost === null ? verdict.level : "bad";
  setText($("since"), since ? `${level === "good" ? "Since the last alert ended" : "Since"} ${level === "good" ? `at ${moment(since)}` : moment(since)} (${ago(since)}).` : "");
  const heard = state.numbers?.as_of_ms;
  setText($("asof"), state.lost === null
    ? `As of ${clock(now())}${heard ? `; the last record was processed ${ago(heard)}` : ""}.`
    : state.heard ? "What is below is as of then." : "");
}

function take(event, anew) {
  const document = JSON.parse(event.data);
  state.skew = document.now_ms - Date.now();
  state.heard = document.now_ms;
  if (document.points) takePoints(document.points, anew);
  if (document.marks && !Array.isArray(document.marks)) document.marks = [...document.marks.kept.flatMap(([from, to]) => time.marks.slice(from, to)), ...document.marks.more];
  if (document.marks) time.marks = document.marks;
  for (const name of ["shards", "workers", "kpis", "numbers", "episodes", "reviews", "scores", "versions", "marks", "verdict"]) if (document[name]) show[name](document[name]);
  if (document.points || document.marks) draw();
}

function lose() {
  if (state.lost === null) state.lost = now();
  state.verdict ??= {level: "bad", text: "", since_ms: null, also: [], done: [], steps: []};
  fade();
  show.verdict(state.verdict);
  showWorkers();
}

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("open", () => { state.lost = null; fade(); if (state.verdict) show.verdict(state.verdict); showWorkers(); });
  source.addEventListener("error", () => { lose(); if (source.readyState === EventSource.CLOSED) setTimeout(() => document.hidden || connect(), 3000); });
  source.addEventListener("all", event => take(event, true));
  source.addEventListener("change", event => take(event, false));
}

// A tab that no one sees holds no connection: browsers allow six to one host.
document.addEventListener("visibilitychange", () => { if (document.hidden) { source?.close(); source = null; } else if (!source) connect(); });

async function begin() {
  const answer = await fetch("/api/about").catch(() => null);
  if (!answer?.ok) { lose(); setTimeout(begin, 3000); return; }
  state.about = await answer.json();
  setText($("pipeline"), state.about.pipeline);
  setText($("task"), TASKS[state.about.task] ?? words(state.about.task));
  setText($("version"), `Driftline ${state.about.version}.`);
  setText($("token-note"), state.about.actions ? "Actions need the token of DRIFTLINE_WEB_TOKEN." : "Read only: actions need DRIFTLINE_WEB_TOKEN, which is not set.");
  $("token-form").hidden = !state.about.actions;
  $("by").value = sessionStorage.getItem("by") ?? "";
  play(document.querySelector("#roles input:checked").value);
  if (!document.hidden) connect();
}

setInterval(tick, 1000);
begin();
