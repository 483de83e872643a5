"use strict";
// The page: takes what the worker sends (everything once, then what changed) and shows it. All that comes from topics
// is put in as text, never as markup.

const $ = id => document.getElementById(id);
const LEVELS = {good: "Well", warning: "Attention", bad: "Trouble", waiting: "Wait"};
const GUARD = {served: "as predicted", flagged: "flagged", clipped: "clipped", fallback: "fallback", withheld: "withheld", held: "held for a decision", approved: "approved", edited: "edited", refused: "refused", overdue: "not decided in time"};
const ORDER = {
  everyone: ["metric", "episodes", "reviews", "happened", "scores", "workers"],
  operations: ["workers", "episodes", "happened", "reviews", "metric", "scores"],
  data_science: ["metric", "episodes", "happened", "scores", "reviews", "workers"],
  domain_expert: ["reviews", "metric", "episodes", "scores", "happened"],
};
const state = {about: {}, skew: 0, connected: false, lost: null, heard: null};
const chart = new MetricChart($("chart"), $("readout"), $("legend"));
let source = null;

// -- small parts

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined && child !== ""));
  return node;
}

function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

// Keeps the nodes of items that are the same, so that focus, open parts and typed text stay.
function fill(list, items, key, build) {
  const before = new Map([...list.children].map(node => [node.dataset.key, node]));
  const nodes = items.map(item => {
    const name = key(item), print = JSON.stringify(item), old = before.get(name);
    if (old && (old.print === print || old.contains(document.activeElement) && old.querySelector("input, button"))) return old;
    const node = build(item);
    node.dataset.key = name;
    node.print = print;
    const open = old?.querySelector("details")?.open;
    if (open) node.querySelector("details")?.setAttribute("open", "");
    return node;
  });
  if (nodes.length !== list.children.length || nodes.some((node, at) => list.children[at] !== node)) list.replaceChildren(...nodes);
}

const now = () => Date.now() + state.skew;

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const ago = ms => ms === null || ms === undefined ? "" : `${span(now() - ms)} ago`;
const clock = ms => shownTime(ms).slice(11);
const percent = value => value === null || value === undefined ? "-" : `${(100 * value).toFixed(value > 0 && value < .01 ? 2 : 1)}%`;
const counted = (number, word) => `${number.toLocaleString("en-US")} ${word}${number === 1 ? "" : "s"}`;
const words = text => text.replaceAll("_", " ");

function moment(ms) {  // near ones by their time, others with the day
  if (ms === null || ms === undefined) return "-";
  return Math.abs(now() - ms) < 20 * 3600e3 ? clock(ms) : shownTime(ms);
}

// -- sections

const show = {
  verdict(verdict) {
    state.verdict = verdict;
    const lost = state.lost !== null;
    const level = lost ? "bad" : verdict.level;
    $("verdict").dataset.level = level;
    setText($("badge"), LEVELS[level] ?? level);
    setText($("sentence"), lost ? "This worker does not answer. What is below is old; other workers may go on." : verdict.text);
    document.title = `${LEVELS[level] ?? level}: ${state.about.pipeline ?? "Driftline"}`;
    fill($("also"), verdict.also.slice(0, 6), one => one.text, one => make("li", {}, one.text, one.since_ms ? ` (since ${moment(one.since_ms)})` : ""));
    tick();
  },

  numbers(numbers) {
    state.numbers = numbers;
    const lag = numbers.lag, topics = state.about.topics ?? {};
    const known = value => value === null || value === undefined ? "unknown" : value.toLocaleString("en-US", {maximumFractionDigits: value < 10 ? 1 : 0});
    const behind = topic => lag === null ? "unknown" : known(lag[topic] ?? 0);
    const delay = numbers.delay_ms;
    const figures = [
      ["Events a second", known(numbers.events_s), `${numbers.scored.toLocaleString("en-US")} scored in all`],
      state.about.labelled && ["Labels a second", known(numbers.labels_s), `${numbers.learned.toLocaleString("en-US")} learned in all`],
      ["Records to read", lag === null ? "unknown" : known(Object.values(lag).reduce((sum, one) => sum + one, 0)), lag !== null && topics.labels ? `events ${behind(topics.events)}, labels ${behind(topics.labels)}` : ""],
      state.about.labelled && ["Label coverage", numbers.coverage === null ? "no data" : percent(numbers.coverage), numbers.coverage === null ? "no wait is over yet" : "of events whose wait is over"],
      state.about.labelled && ["Label delay", delay["0.5"] === null || delay["0.5"] === undefined ? "no data" : span(delay["0.5"]), delay["0.9"] ? `half are faster; 9 of 10 within ${span(delay["0.9"])}` : ""],
      state.about.labelled && ["Waiting for a label", known(numbers.pending), numbers.early ? `${counted(numbers.early, "label")} wait for an event` : ""],
      state.about.holds && ["Held to decide", known(numbers.held), ""],
      ["Event time", numbers.watermark_ms === null ? "no data" : shownTime(numbers.watermark_ms).slice(11), numbers.watermark_ms === null ? "" : shownTime(numbers.watermark_ms).slice(0, 10)],
    ].filter(Boolean);
    fill($("figures"), figures, one => one[0], ([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, more ? make("small", {}, more) : null)));
    tick();
  },

  marks(marks) {
    state.marks = marks;
    chart.marks = marks;
    chart.redraw();
    const kinds = {alert: "Alert", resolved: "Over", drift: "Drift", model: "Model", guard: "Guard", command: "Command", worker: "Worker", kafka: "Kafka"};
    const shown = marks.filter(mark => wanted(mark)).sort((a, b) => b.wall_ms - a.wall_ms).slice(0, 120);
    fill($("happened-list"), shown.length ? shown : [null], mark => mark ? `${mark.kind}${mark.wall_ms}${mark.shard}${mark.text}` : "none", mark => mark
      ? make("li", {}, make("time", {title: mark.time_ms === null ? "" : `event time ${shownTime(mark.time_ms)}`}, moment(mark.wall_ms)), make("span", {}, make("span", {class: `tag ${mark.severity || (mark.kind === "resolved" ? "good" : "over")}`}, kinds[mark.kind] ?? mark.kind), mark.text))
      : make("li", {class: "dim"}, "Nothing so far."));
  },

  episodes(episodes) {
    state.episodes = episodes;
    const ours = episodes.first.filter(one => state.role === "everyone" || !one.audience.length || one.audience.includes(state.role));
    const others = episodes.first.filter(one => isOpen(one) && !ours.includes(one)).length;
    setText($("episodes-count"), `${episodes.open} open${others ? `, ${others} for others` : ""}`);
    const rest = episodes.unread.map(name => ({unread: name}));
    const shown = [...rest, ...ours];
    fill($("episodes-list"), shown.length ? shown : [null], one => one ? one.episode ?? one.unread : "none", one => !one ? make("li", {class: "dim"}, "No alert so far.")
      : one.unread ? make("li", {}, make("span", {class: "tag warning"}, "open"), `${one.unread}: opened before what this page has read.`, ...actionsOf(one.unread))
      : episode(one));
  },

  reviews(reviews) {
    state.reviews = reviews;
    setText($("reviews-count"), `${counted(reviews.waiting, "prediction")} wait${reviews.waiting === 1 ? "s" : ""}${reviews.decided ? `, ${reviews.decided} decided since this page began` : ""}`);
    fill($("reviews-list"), reviews.first.length ? reviews.first : [null], one => one ? one.output_id : "none", one => one ? review(one) : make("li", {class: "dim"}, "Nothing waits for a decision."));
  },

  scores(scores) {
    state.scores = scores;
    if ($("hold").checked || $("scores-list").contains(document.activeElement)) return;
    fill($("scores-list"), scores, one => one.output_id + one.guard, one => make("tr", {},
      make("td", {class: "id"}, one.event_id),
      make("td", {class: "n"}, shownNumber(one.probability ?? one.prediction), one.decision === true ? " yes" : one.decision === false ? " no" : ""),
      make("td", {}, GUARD[one.guard] ?? one.guard, one.tripped.length ? ` (${one.tripped.map(trip => trip.rung).join(", ")})` : ""),
      make("td", {class: "t"}, shownTime(one.time_ms)),
      make("td", {}, make("button", {type: "button", "aria-label": `Explain the score of ${one.event_id}`, onclick: () => explain(one)}, "Explain"))));
    if (!scores.length) $("scores-list").replaceChildren(make("tr", {}, make("td", {colspan: 5, class: "dim"}, "No data: nothing was scored since this page began.")));
  },

  shards(shards) { state.shards = shards; showWorkers(); },
  workers(workers) { state.workers = workers; showWorkers(); },
};

const isOpen = one => one.state === "opened" || one.state === "ongoing";
const wanted = mark => state.role !== "domain_expert" || !["worker", "command"].includes(mark.kind);

function showWorkers() {
  const {shards = [], workers = []} = state;
  const here = workers.filter(one => one.gone_ms === null), owner = new Map(here.flatMap(one => one.shards.map(number => [number, one])));
  const names = new Map(workers.map((one, at) => [one.name, `worker ${at + 1}`]));
  setText($("workers-count"), `${counted(shards.length, "shard")}, ${counted(here.length, "worker")}`);
  fill($("shards-list"), shards, one => String(one.number), one => {
    const full = one.full === null || one.full === undefined ? null : Math.min(1, Math.max(0, one.full));
    return make("tr", {},
      make("th", {scope: "row"}, String(one.number)),
      make("td", {}, full === null ? "no data" : make("meter", {min: 0, max: 1, high: .8, value: full, "aria-label": `Shard ${one.number} full`}), full === null ? "" : ` ${percent(full)}`),
      make("td", {class: "n"}, one.behind === null ? "unknown" : one.behind.toLocaleString("en-US")),
      make("td", {class: "n"}, shownNumber(Math.round(one.events_s * 10) / 10)),
      make("td", {}, one.version ? `generation ${one.version.split(".")[0]}, learned ${(one.learned ?? 0).toLocaleString("en-US")}` : "no data", one.untrained ? " (untrained)" : "", one.frozen ? " (frozen)" : "", one.loading ? ` (loading ${one.loading[0]} of ${one.loading[1]})` : ""),
      make("td", {"data-owner": one.number}));
  });
  for (const cell of $("shards-list").querySelectorAll("[data-owner]")) {
    const held = owner.get(Number(cell.dataset.owner));
    setText(cell, held ? names.get(held.name) : workers.length ? "none" : "unknown");
  }
  fill($("workers-list"), workers, one => one.name, one => make("li", {class: one.gone_ms === null ? "" : "past"},
    make("span", {class: `tag ${one.gone_ms === null ? "good" : "critical"}`}, one.gone_ms === null ? "at work" : "gone"),
    `${names.get(one.name)} on ${one.host}: `, one.gone_ms !== null ? `gone since ${moment(one.gone_ms)}` : one.shards.length ? `shard${one.shards.length > 1 ? "s" : ""} ${one.shards.join(", ")}` : "a standby, without a shard",
    make("div", {class: "meta"}, one.name)));
}

function episode(one) {
  const open = isOpen(one);
  const tag = open ? one.severity : one.state === "resolved" ? "good" : "over";
  const note = [words(one.kind), `shard ${one.shard}`, `opened ${shownTime(one.opened_ms)} event time`, open ? "" : `${one.state} ${moment(one.wall_ms)}`, one.acknowledged ? `acknowledged${one.acknowledged_by ? ` by ${one.acknowledged_by}` : ""}` : "", one.silenced ? "silenced" : "", one.flapping ? "comes and goes" : ""].filter(Boolean).join(" · ");
  const evidence = Object.entries(one.evidence);
  return make("li", {class: open ? "" : "past"},
    make("span", {class: `tag ${tag}`}, open ? one.severity : one.state), one.opening,
    one.opening === one.sentence ? null : make("div", {}, one.sentence),
    make("div", {class: "meta"}, note),
    make("details", {}, make("summary", {}, "Details"),
      make("p", {class: "meta"}, `${one.episode}; for ${one.audience.map(words).join(", ") || "everyone"}; message ${one.update}`),
      link(one.runbook),
      evidence.length ? make("table", {}, make("tbody", {}, ...evidence.map(([name, value]) => make("tr", {}, make("th", {scope: "row"}, words(name)), make("td", {}, typeof value === "object" ? JSON.stringify(value) : shownNumber(value)))))) : null),
    ...(open ? actionsOf(one.episode, one) : []));
}

function link(address) {  // an alert may name any address: only these are followed
  if (/^https?:\/\//.test(address) || /^\/[^/\\]/.test(address)) return make("p", {}, make("a", {href: address, rel: "noreferrer noopener", target: "_blank"}, "Runbook"), ` ${address}`);
  const section = /runbook\.md#([a-z0-9-]+)$/.exec(address);  // the worker serves it
  if (section) return make("p", {}, make("a", {href: `/runbook#${section[1]}`, target: "_blank"}, "What to do (runbook)"));
  return address ? make("p", {class: "meta"}, `Runbook: ${address}`) : null;
}

function actionsOf(name, one = {}) {
  if (!state.about.actions) return [];
  const hours = make("select", {"aria-label": "How long, in event time"}, ...[["1 hour", 1], ["8 hours", 8], ["1 day", 24], ["7 days", 168]].map(([text, value]) => make("option", {value}, text)));
  return [make("div", {class: "actions"},
    one.acknowledged ? null : make("button", {type: "button", onclick: event => act(event.target, {command: "acknowledge", episode: name})}, "Acknowledge"),
    one.silenced ? null : make("button", {type: "button", onclick: event => act(event.target, {command: "silence", episode: name, for_ms: hours.value * 3600e3})}, "Silence for"),
    one.silenced ? null : hours,
    make("span", {role: "status"}))];
}

function review(one) {
  const trip = one.tripped[one.tripped.length - 1] ?? {};
  const beyond = typeof trip.limit === "number" && typeof trip.excess === "number" ? `, ${shownNumber(Math.abs(trip.excess))} ${trip.excess < 0 ? "below" : "above"} ${shownNumber(trip.limit)}` : "";
  const value = make("input", {"aria-label": "Another value", placeholder: "another value"}), why = make("input", {"aria-label": "Why", placeholder: "why"});
  const decide = (decision, extra = {}) => event => act(event.target, {command: "review", decision, output_id: one.output_id, why: why.value, ...extra});
  return make("li", {},
    make("span", {class: "tag warning"}, trip.rung ?? "held"),
    `${one.event_id}: the model predicts ${shownNumber(one.probability ?? one.prediction)}${beyond}${one.last_value !== null ? `; last value of its series ${shownNumber(one.last_value)}` : ""}.`,
    make("div", {class: "meta"}, `If no one decides by ${shownTime(one.deadline_ms)} (event time), ${one.at_deadline === null ? "nothing" : shownNumber(one.at_deadline)} is served${one.instead ? ` (${words(one.instead)})` : ""}.`),
    make("details", {}, make("summary", {}, "What the model saw"), make("table", {}, make("tbody", {}, ...Object.entries(one.features).map(([name, seen]) => make("tr", {}, make("th", {scope: "row"}, name), make("td", {}, shownNumber(seen))))))),
    state.about.actions ? make("div", {class: "actions"},
      make("button", {type: "button", onclick: decide("approve")}, "Approve"),
      make("button", {type: "button", onclick: decide("refuse")}, "Refuse"),
      value, make("button", {type: "button", onclick: event => value.value.trim() ? decide("edit", {value: value.value})(event) : value.focus()}, "Serve this instead"),
      why, make("span", {role: "status"})) : null);
}

// -- the metric

function options(select, names) {
  if (JSON.stringify(names) === select.dataset.names) return;
  const chosen = select.value || localStorage.getItem(select.id);
  select.dataset.names = JSON.stringify(names);
  select.replaceChildren(...names.map(name => make("option", {value: name}, name)));
  select.value = names.includes(chosen) ? chosen : names[0] ?? "";
}

function showPoints(packed, anew) {
  chart.take(packed, anew);
  options($("metric-name"), chart.names());
  choose();
}

function choose() {
  chart.name = $("metric-name").value || null;
  chart.span = $("metric-span").value;
  chart.range = $("metric-range").value;
  if (chart.span === "window" && chart.name && !chart.points.some(point => chart.name in point[3])) chart.span = "total";
  chart.redraw();
  const latest = chart.points.slice(-20).reverse();
  $("values-head").replaceChildren(make("tr", {}, ...["Event time (UTC)", "Shard", `${chart.name ?? "Metric"}, last labels`, "All labels"].map(text => make("th", {scope: "col"}, text))));
  if (!$("values").contains(document.activeElement)) $("values").replaceChildren(...latest.map(point => make("tr", {}, make("td", {}, shownTime(point[1])), make("td", {}, String(point[0])), make("td", {}, shownNumber(point[3][chart.name])), make("td", {}, shownNumber(point[4][chart.name])))));
}

for (const id of ["metric-name", "metric-span", "metric-range"]) {
  $(id).addEventListener("change", () => { localStorage.setItem(id, $(id).value); choose(); });
}
for (const id of ["metric-span", "metric-range"]) if ([...$(id).options].some(one => one.value === localStorage.getItem(id))) $(id).value = localStorage.getItem(id);

// -- roles

function play(role) {
  state.role = ORDER[role] ? role : "everyone";
  const order = ORDER[state.role];
  for (const card of [...$("cards").children]) card.hidden = !order.includes(card.id) || card.id === "reviews" && !state.about.holds;
  $("cards").dataset.count = [...$("cards").children].filter(card => !card.hidden).length;
  const focused = document.activeElement;
  for (const id of order) $("cards").append($(id));
  focused?.focus?.();
  for (const name of ["episodes", "marks"]) if (state[name]) show[name](state[name]);
  chart.resize();
}

for (const input of document.querySelectorAll("#roles input")) {
  input.checked = input.value === (location.hash.slice(1) || localStorage.getItem("role") || "everyone");
  input.addEventListener("change", () => { localStorage.setItem("role", input.value); history.replaceState(null, "", `#${input.value}`); play(input.value); });
}
if (!document.querySelector("#roles input:checked")) document.querySelector("#roles input").checked = true;

// -- actions

function headers() {
  const token = sessionStorage.getItem("token");
  return {"Content-Type": "application/json", ...(token ? {Authorization: `Bearer ${token}`} : {})};
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {method: "POST", headers: headers(), body: JSON.stringify(body)});
    const found = await answer.json().catch(() => ({}));
    return answer.ok ? found : {error: found.error ?? `the worker answered ${answer.status}`};
  } catch {
    return {error: "the worker does not answer"};
  }
}

async function act(button, body) {
  const box = button.parentElement, status = box.querySelector("[role=status]");
  const buttons = [...box.querySelectorAll("button")];
  buttons.forEach(one => one.disabled = true);
  status.textContent = "Sent; waiting for the shards ...";
  const found = await post("/api/action", {...body, by: sessionStorage.getItem("by") ?? ""});
  status.textContent = found.error ?? found.text;
  buttons.forEach(one => one.disabled = false);
}

$("token-form").addEventListener("submit", event => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  sessionStorage.setItem("by", $("by").value);
  $("token").value = "";
  $("token-state").textContent = "Kept until this tab is closed.";
});

async function explain(one) {
  const body = $("explain-body"), command = `driftline explain -p FILE --event '${String(one.event_id).replaceAll("'", `'\\''`)}'`;
  setText($("explain-title"), `Why ${one.event_id} was scored so`);
  body.replaceChildren(make("p", {role: "status"}, state.about.explains ? "Replaying the journal up to this event; this may take a while ..." : "In a terminal:"), make("pre", {}, command));
  $("explain").showModal();
  if (!state.about.explains) return;
  const found = await post("/api/explain", {output_id: one.output_id, event_id: one.event_id});
  body.replaceChildren(make("pre", {role: "status"}, found.error ?? found.text), make("p", {class: "meta"}, make("code", {}, command)));
}

$("explain-form").addEventListener("submit", event => {
  event.preventDefault();
  const id = $("explain-id").value.trim();
  if (id) explain({event_id: id});
});

$("explain-close").addEventListener("click", () => $("explain").close());

// -- the stream

function tick() {
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
  const {points} = document;
  for (const name of ["numbers", "shards", "workers", "episodes", "reviews", "scores", "verdict"]) if (document[name]) show[name](document[name]);
  if (document.marks) { chart.marks = document.marks; }
  if (points) showPoints(points, anew);
  if (document.marks) show.marks(document.marks);
}

function lose() {
  if (state.lost === null) state.lost = now();
  document.body.classList.add("stale");
  state.verdict ??= {level: "bad", text: "", since_ms: null, also: []};
  show.verdict(state.verdict);
}

function connect() {
  source?.close();
  source = new EventSource("/api/stream");
  source.addEventListener("open", () => { state.lost = null; document.body.classList.remove("stale"); if (state.verdict) show.verdict(state.verdict); });
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
  setText($("task"), words(state.about.task));
  setText($("version"), `Driftline ${state.about.version}.`);
  setText($("token-note"), state.about.actions ? "Actions need the token of DRIFTLINE_WEB_TOKEN." : "This page shows and changes nothing: no DRIFTLINE_WEB_TOKEN is set.");
  $("token-form").hidden = !state.about.actions;
  $("by").value = sessionStorage.getItem("by") ?? "";
  play(document.querySelector("#roles input:checked").value);
  if (!document.hidden) connect();
}

setInterval(tick, 1000);
begin();
