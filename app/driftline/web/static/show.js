"use strict";
// The sections of the page, each made anew of what the worker sends of it.

const LEVELS = {good: "Well", warning: "Attention", bad: "Trouble", waiting: "Wait"};
const GUARD = {served: "as predicted", flagged: "flagged", clipped: "clipped", fallback: "fallback", withheld: "withheld", held: "held for a decision", approved: "approved", edited: "edited", refused: "refused", overdue: "not decided in time"};
const KINDS = {alert: "Alert", resolved: "Over", drift: "Drift", better: "Better", model: "Model", guard: "Guard", command: "Command", worker: "Worker", kafka: "Kafka"};
const CAUSES = {first: "start", unread: "earlier", load: "loaded", reset: "reset", drift: "drift", undone: "gone back", fallback: "fallback", restart: "began anew"};
const TASKS = {binary: "binary classification", multiclass: "classification", anomaly: "anomaly detection", forecast: "forecasts", recommend: "recommendations"};
const LOST = {text: "Open the page of another worker; see whether this one still runs, and what its log says.", section: "", own: {domain_expert: "Tell the operator that the worker behind this page is down."}};
const PARTS = {known: "known", assumed: "assumed", waiting: "estimated, labels may come", expired: "estimated, no label came"};
const BRIEF = {known: "known", assumed: "assumed", waiting: "estimated", expired: "est., none came"};
const LOAD = {
  coverage: ["Label coverage", percent, [0, 1]],
  delay: ["Label delay (median)", span],
  waiting: ["Events that wait for a label", shownNumber],
  full: ["How full each shard is", percent, [0, 1]],
};
const FIGURES = {  // of each role, in order
  everyone: ["events", "labels", "lag", "full", "coverage", "delay", "kpi", "held", "time"],
  operations: ["events", "labels", "lag", "full", "workers", "waiting", "held", "time"],
  data_science: ["events", "labels", "coverage", "delay", "waiting", "model", "kpi", "time"],
  domain_expert: ["kpi", "estimate", "events", "coverage", "delay", "held", "time"],
};
const isOpen = one => one.state === "opened" || one.state === "ongoing";
const wanted = mark => state.role !== "domain_expert" || !["worker", "command"].includes(mark.kind);
const charts = {
  metric: new TimeChart($("chart"), $("readout"), $("legend")),
  kpi: new TimeChart($("kpi-chart"), $("kpi-readout"), $("kpi-legend")),
  labels: new TimeChart($("labels-chart"), $("labels-readout"), $("labels-legend")),
};

const show = {
  verdict(verdict) {
    state.verdict = verdict;
    const lost = state.lost !== null;
    const level = lost ? "bad" : verdict.level;
    $("verdict").dataset.level = level;
    setText($("badge"), LEVELS[level] ?? level);
    setText($("sentence"), lost ? "This worker does not answer. What is below is old. Other workers, if there are any, may be fine." : verdict.text);
    say(`${LEVELS[level] ?? level}. ${$("sentence").textContent}`);
    document.title = `${LEVELS[level] ?? level}: ${state.about.pipeline ?? "Driftline"}`;
    fill($("also"), lost ? [] : verdict.also.slice(0, 6), one => one.text, one => make("li", {}, one.text, one.since_ms ? ` (since ${moment(one.since_ms)})` : ""));
    const done = lost ? [] : verdict.done;
    const steps = lost ? [LOST] : level === "good" && !verdict.steps.length ? [{text: "Nothing.", section: ""}] : verdict.steps;
    $("done-part").hidden = !done.length;
    setText($("done-title"), level === "good" ? "Before" : "What was done");
    fill($("done"), done, text => text, text => make("li", {}, text));
    $("steps-part").hidden = !steps.length;
    $("steps").classList.toggle("one", steps.length < 2);
    fill($("steps"), steps, one => `${one.text} ${state.role}`, one => make("li", {}, ...coded(one.own?.[state.role] ?? one.text), one.section ? " " : "", one.section ? make("a", {href: `/runbook#${one.section}`, target: "_blank", "aria-label": `More in the runbook: ${one.section.replaceAll("-", " ")}`}, "More in the runbook") : null));
    tick();
  },

  numbers(numbers) { state.numbers = numbers; fade(); showWorkers(); },

  marks(marks) {
    state.marks = marks;
    const shown = marks.filter(mark => wanted(mark)).sort((a, b) => b.wall_ms - a.wall_ms).slice(0, 120);
    fill($("happened-list"), shown.length ? shown : [null], mark => mark ? `${mark.kind}${mark.wall_ms}${mark.shard}${mark.text}` : "none", mark => mark
      ? make("li", {}, make("time", {title: mark.time_ms === null ? "" : `event time ${between(mark)}`}, moment(mark.wall_ms)), make("span", {}, make("span", {class: `tag ${mark.severity || (mark.kind === "resolved" ? "good" : "over")}`}, KINDS[mark.kind] ?? mark.kind), mark.text, mark.shard === null || (state.shards ?? []).length < 2 ? "" : make("span", {class: "dim"}, ` (shard ${mark.shard})`)))
      : make("li", {class: "dim"}, "Nothing so far."));
  },

  episodes(episodes) {
    state.episodes = episodes;
    const ours = episodes.first.filter(one => state.role === "everyone" || !one.audience.length || one.audience.includes(state.role));
    const others = episodes.first.filter(one => isOpen(one) && !ours.includes(one)).length;
    setText($("episodes-count"), `${episodes.open} open${others ? `, ${others} for others` : ""}`);
    const shown = [...episodes.unread.map(name => ({unread: name})), ...ours];
    fill($("episodes-list"), shown.length ? shown : [null], one => one ? one.episode ?? one.unread : `none ${others}`, one => !one ? make("li", {class: "dim"}, others ? "No alert for this role. The view for everyone has the others." : "No alert so far.")
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
    const cell = scores.some(one => isText(one.prediction)) ? "id" : "n";  // names may be long
    fill($("scores-list"), scores, one => one.output_id + one.guard + cell, one => make("tr", {},
      make("th", {class: "id", scope: "row"}, String(one.event_id)),
      make("td", {class: cell}, isThere(one.probability) ? shownShare(one.probability) : shownNumber(one.prediction), one.decision === true ? " yes" : one.decision === false ? " no" : ""),
      make("td", {}, GUARD[one.guard] ?? one.guard, one.tripped.length ? ` (${one.tripped.map(trip => trip.why).join(", ")})` : ""),
      make("td", {class: "t"}, shownTime(one.time_ms)),
      make("td", {}, make("button", {type: "button", "aria-label": `Explain the score of ${one.event_id}`, onclick: () => explain(one)}, "Explain"))));
    $("score-head").className = cell;
    setText($("score-head"), scores.some(one => isThere(one.probability)) ? "Probability" : "Prediction");
    if (!scores.length) $("scores-list").replaceChildren(make("tr", {}, make("td", {colspan: 5, class: "dim"}, "No data: no score was read yet.")));
  },

  shards(shards) { state.shards = shards; showWorkers(); showServing(); },

  workers(workers) { state.workers = workers; showWorkers(); },

  versions(versions) {
    state.versions = versions;
    $("versions-head").replaceChildren(heads("Generation", "What made it", "Since (event time)"));
    fill($("versions"), versions, one => `${one.shard} ${one.generation} ${one.wall_ms}`, one => row(one.generation, make("td", {class: "made"}, make("span", {class: `tag ${["fallback", "undone", "restart"].includes(one.cause) ? "warning" : "over"}`}, CAUSES[one.cause] ?? one.cause), one.text, make("div", {class: "meta"}, [(state.shards ?? []).length > 1 ? `shard ${one.shard}` : "", one.learned ? `had learned ${counted(one.learned, "label")} by then` : ""].filter(Boolean).join("; "))), make("td", {class: "when"}, `${one.exact ? "" : "before "}${between(one)}`)));
  },

  kpis(kpis) {
    state.kpis = kpis;
    options($("kpi-name"), kpis.map(one => one.name), words);
    const kpi = kpis.find(one => one.name === $("kpi-name").value);
    if (!kpi) return;
    const unit = kpi.unit, parts = Object.keys(PARTS).filter(part => part === "known" || kpi.total[part][0]);
    setText($("kpi-title"), `${title(kpi.name)} in ${unit} (${kpi.better} is better)`);
    fill($("kpi-figures"), parts, part => part + JSON.stringify(kpi.total[part]), part => make("div", {class: part}, make("dt", {}, PARTS[part]), make("dd", {}, money(kpi.total[part][1], unit), make("small", {}, counted(kpi.total[part][0], "event")))));
    const bounds = ["target", "limit"].filter(bound => isThere(kpi.bounds[bound])).map(bound => `${bound} ${money(kpi.bounds[bound], unit)}`);
    setText($("kpi-spans-caption"), `Per ${span(kpi.span_ms)} of event time${bounds.length ? `; ${bounds.join(", ")}${kpi.judged ? "" : " of each shard"}` : ""}`);
    const cells = one => parts.map(part => number(one[part][0] ? money(one[part][1]) : "-"));  // the title has the unit
    $("kpi-spans-head").replaceChildren(heads("From", ...parts.map(part => `>${BRIEF[part]}`), "Labels"));
    fill($("kpi-spans"), [...kpi.spans].reverse(), one => String(one.start_ms), one => row(shownTime(one.start_ms).slice(0, kpi.span_ms % 86400e3 ? 16 : 10), ...cells(one), !one.ended ? "still to come" : one.waiting[0] ? "judged; some still to come" : "all in"));
    $("kpi-by").hidden = !kpi.segments.length;
    setText($("kpi-by-title"), `By ${words(kpi.by)}`);
    $("kpi-segments-head").replaceChildren(heads(words(kpi.by), ...parts.map(part => `>${BRIEF[part]}`), ">Labels"));
    fill($("kpi-segments"), kpi.segments, one => one.name, one => row(one.name, ...cells(one), number(count(one.known[0]))));
  },
};

// Figures that are of before, because the worker or Kafka does not answer, look so; rates and lag are then not known.
function fade() { document.body.classList.toggle("stale", isOld()); }

function isOld() { return state.lost !== null || state.numbers?.events_s === null; }

// What a screen reader hears: the sentence, when it says something else; numbers in it may go on counting.
function say(text) {
  const mute = text.replace(/[\d,.]+/g, "");
  if ($("said").dataset.mute === mute) return;
  $("said").dataset.mute = mute;
  setText($("said"), text);
}

// A text whose parts in back quotes are code.
function coded(text) { return text.split("`").map((part, at) => at % 2 ? make("code", {}, part) : part); }

function showWorkers() {
  const {shards = [], workers = {known: false, whole: true, first: []}} = state;
  const here = workers.first.filter(one => one.gone_ms === null), owner = new Map(here.flatMap(one => one.shards.map(number => [number, one])));
  const names = new Map(workers.first.map((one, at) => [one.name, workers.whole ? `worker ${at + 1}` : "this worker"]));
  setText($("workers-count"), `${counted(shards.length, "shard")}, ${!workers.known ? "workers unknown" : workers.whole ? counted(here.length, "worker") : "this worker and perhaps others: the broker does not name them"}`);
  fill($("shards-list"), shards, one => `${one.number}${isOld()}`, one => {
    const full = isThere(one.full) ? Math.min(1, Math.max(0, one.full)) : null;
    return make("tr", {},
      make("th", {scope: "row"}, String(one.number)),
      make("td", {}, full === null ? "no data" : make("meter", {min: 0, max: 1, high: .8, value: full, "aria-label": `Shard ${one.number} full`}), full === null ? "" : ` ${percent(full)}`),
      number(known(isOld() ? null : one.behind)),
      make("td", {class: "n t"}, known(isOld() ? null : one.events_s)),
      make("td", {class: "n t"}, known(isOld() ? null : one.labels_s)),
      make("td", {class: one.silent_s ? "silent" : null, title: isThere(one.moved_ms) ? shownTime(one.moved_ms) : null, "data-heard": one.moved_ms}, "never"),
      make("td", {"data-owner": one.number}));
  });
  for (const cell of $("shards-list").querySelectorAll("[data-owner]")) {
    const held = owner.get(Number(cell.dataset.owner));
    setText(cell, held ? names.get(held.name) : workers.first.length && workers.whole ? "none" : "unknown");
  }
  const old = isOld(), heard = one => Math.max(0, ...shards.filter(shard => one.shards.includes(shard.number)).map(shard => shard.moved_ms ?? 0));
  const silent = one => Math.max(0, ...shards.filter(shard => one.shards.includes(shard.number)).map(shard => shard.silent_s ?? 0));
  fill($("workers-list"), workers.first.map(one => ({...one, heard: heard(one), silent: silent(one) > 0})), one => `${one.name}${old}`, one => make("li", {class: one.gone_ms === null ? "" : "past"},
    make("span", {class: `tag ${one.gone_ms !== null ? "critical" : old ? "over" : one.silent ? "warning" : "good"}`}, one.gone_ms !== null ? "gone" : old ? "unknown now" : one.silent ? "silent" : "at work"),
    `${names.get(one.name)} on ${one.host}: `, one.gone_ms !== null ? `gone since ${moment(one.gone_ms)}` : one.shards.length ? `shard${one.shards.length > 1 ? "s" : ""} ${one.shards.join(", ")}` : "a standby, without a shard",
    one.heard && one.gone_ms === null ? make("span", {}, "; last wrote ", make("span", {"data-heard": one.heard})) : null,
    make("div", {class: "meta"}, one.name)));
  showHeard();
  if (state.numbers) showFigures();
}

// How long ago each shard and worker wrote, counting on.
function showHeard() { for (const node of document.querySelectorAll("[data-heard]")) setText(node, ago(Number(node.dataset.heard))); }

function showFigures() {
  const {numbers} = state;
  const current = value => isOld() ? null : value, lag = current(numbers.lag), topics = state.about.topics ?? {}, labelled = state.about.labelled, delay = numbers.delay_ms;
  const behind = topic => lag === null ? "unknown" : known(lag[topic] ?? 0);
  const shards = state.shards ?? [], workers = state.workers ?? {known: false, whole: true, first: []}, kpi = (state.kpis ?? [])[0];
  const fullest = shards.filter(one => isThere(one.full)).sort((a, b) => b.full - a.full)[0];
  const here = workers.first.filter(one => one.gone_ms === null).length;
  const generations = [...new Set(shards.filter(one => one.version).map(one => one.version.split(".")[0]))];
  const waiting = kpi ? kpi.total.waiting : null;
  const every = {
    events: ["Events a second", known(current(numbers.events_s)), `${count(numbers.scored)} scored in all`],
    labels: labelled && ["Labels a second", known(current(numbers.labels_s)), `${count(numbers.learned)} learned in all`],
    lag: ["Records to read", lag === null ? "unknown" : known(Object.values(lag).reduce((sum, one) => sum + one, 0)), lag !== null && topics.labels ? `events ${behind(topics.events)}, labels ${behind(topics.labels)}` : ""],
    full: ["Fullest shard", fullest ? percent(fullest.full) : "no data", fullest ? `shard ${fullest.number}; at 100% it falls behind` : "known after 5 seconds"],
    workers: ["Workers", !workers.known ? "unknown" : workers.whole ? String(here) : "1 or more", workers.whole ? `for ${counted(shards.length, "shard")}` : "the broker does not name others"],
    coverage: labelled && ["Label coverage", numbers.coverage === null ? "no data" : percent(numbers.coverage), numbers.coverage === null ? "no wait is over yet" : "of events whose wait is over"],
    delay: labelled && ["Label delay", isThere(delay["0.5"]) ? span(delay["0.5"]) : "no data", delay["0.9"] ? `half are faster; 9 of 10 within ${span(delay["0.9"])}` : ""],
    waiting: labelled && ["Waiting for a label", known(numbers.pending), numbers.early ? `${counted(numbers.early, "label")} wait for an event` : ""],
    model: ["Model generation", generations.join(", ") || "no data", generations.length > 1 ? "shards differ" : ""],
    held: state.about.holds && ["Awaiting a decision", known(numbers.held), ""],
    kpi: kpi && [`${title(kpi.name)}, known`, priced(kpi.total.known[1], kpi.unit), `from ${counted(kpi.total.known[0], "label")}`],
    estimate: kpi && [`${title(kpi.name)}, estimated`, priced(waiting[1], kpi.unit), `for ${counted(waiting[0], "event")} without a label yet`],
    time: ["Event time", numbers.watermark_ms === null ? "no data" : clock(numbers.watermark_ms), numbers.watermark_ms === null ? "" : shownTime(numbers.watermark_ms).slice(0, 10)],
  };
  const figures = FIGURES[state.role ?? "everyone"].map(name => every[name]).filter(Boolean);
  $("figures").dataset.count = figures.length;
  fill($("figures"), figures, one => one[0], ([name, value, more]) => make("div", {}, make("dt", {}, name), make("dd", {}, ...[value].flat().map((part, at) => at ? make("span", {class: "unit"}, ` ${part}`) : part), more ? make("small", {}, more) : null)));
  tick();
}

function showServing() {
  const {shards = []} = state, guarded = shards.some(one => Object.keys(one.instead ?? {}).length), seconded = shards.some(one => one.second);
  const generations = new Set(shards.filter(one => one.version).map(one => one.version.split(".")[0]));
  setText($("models-count"), generations.size > 1 ? "shards serve different generations" : "");
  $("serving-head").replaceChildren(heads("Shard", "Generation", ">Has learned", ...(guarded ? ["Served instead of it"] : []), ...(seconded ? ["Second model"] : []), "State"));
  fill($("serving"), shards, one => String(one.number), one => row(String(one.number), one.version ? one.version.split(".")[0] : "no data", number(isThere(one.known) ? count(one.known) : "-"),
    ...(guarded ? [Object.entries(one.instead ?? {}).map(([name, times]) => `${words(name)} ${count(times)}`).join(", ") || "nothing"] : []),
    ...(seconded ? [one.second ? secondModel(one.second) : "no data"] : []),
    [one.untrained ? "untrained" : "", one.frozen ? "frozen: it does not learn" : one.stopped ? "does not learn while an alert is open" : "", one.held_labels ? `${counted(one.held_labels, "label")} held back` : "", one.loading ? `loading ${one.loading[0]} of ${one.loading[1]}` : ""].filter(Boolean).join(", ") || "learns"));
}

function secondModel({served, failed, labels, error, first_error}) {
  const errors = isThere(error) ? `mean error ${shownNumber(error)}, of the first ${shownNumber(first_error)} (${counted(labels, "label")})` : "no labels to compare yet";
  return [`served ${count(served)} times`, errors, failed ? `failed ${count(failed)} times` : ""].filter(Boolean).join("; ");
}

function episode(one) {
  const open = isOpen(one);
  const tag = open ? one.severity : one.state === "resolved" ? "good" : "over";
  const note = [one.what, `shard ${one.shard}`, `opened ${shownTime(one.opened_ms)} event time`, open ? "" : `${one.state} ${moment(one.wall_ms)}`, one.acknowledged ? `acknowledged${one.acknowledged_by ? ` by ${one.acknowledged_by}` : ""}` : "", one.silenced ? "silenced" : "", one.flapping ? "comes and goes" : ""].filter(Boolean).join(" · ");
  const evidence = Object.entries(one.evidence);
  return make("li", {class: open ? "" : "past"},
    make("span", {class: `tag ${tag}`}, open ? one.severity : one.state), one.opening,
    one.opening === one.sentence ? null : make("div", {}, make("b", {}, open ? "Now: " : "In the end: "), one.sentence),
    make("div", {class: "meta"}, note),
    make("details", {}, make("summary", {}, "Details"),
      make("p", {class: "meta"}, `${one.episode}; for ${one.audience.map(words).join(", ") || "everyone"}; message ${one.update}`),
      link(one.runbook),
      open && !state.about.actions ? make("p", {class: "meta"}, make("code", {}, `driftline control -p FILE acknowledge ${one.episode}`)) : null,
      evidence.length ? make("table", {}, make("tbody", {}, ...evidence.map(([name, value]) => row(words(name), typeof value === "object" ? JSON.stringify(value) : shownNumber(value))))) : null),
    ...(open ? actionsOf(one.episode, one) : []));
}

function link(address) {  // an alert may name any address: only these are followed
  if (/^https?:\/\//.test(address) || /^\/[^/\\]/.test(address)) return make("p", {}, make("a", {href: address, rel: "noreferrer noopener", target: "_blank"}, "Runbook"), ` ${address}`);
  const section = /runbook\.md#([a-z0-9-]+)$/.exec(address);  // the worker serves it
  if (section) return make("p", {}, make("a", {href: `/runbook#${section[1]}`, target: "_blank"}, "What to do (runbook)"));
  return address ? make("p", {class: "meta"}, `Runbook: ${address}`) : null;
}

// What a prediction is beyond; of a rung that measures something else, what that is.
function beyond({rung, limit, excess, feature}) {
  if (feature) return `; ${feature} is unlike anything the model has learned from`;
  if (typeof limit !== "number" || typeof excess !== "number" || !["range", "step"].includes(rung)) return "";
  return `, ${shownNumber(Math.abs(Number(excess.toPrecision(2))))} ${excess < 0 ? "below" : "above"} the limit of ${shownNumber(limit)}`;
}

function review(one) {
  const trip = one.tripped[one.tripped.length - 1] ?? {};
  const value = make("input", {"aria-label": "Another value", placeholder: "another value"}), why = make("input", {"aria-label": "Why", placeholder: "why"});
  const decide = (decision, extra = {}) => event => act(event.target, {command: "review", decision, output_id: one.output_id, why: why.value, ...extra});
  return make("li", {},
    make("span", {class: "tag warning"}, trip.why ?? "held"),
    `${one.event_id}: the model predicts ${shownNumber(one.probability ?? one.prediction)}${beyond(trip)}${one.last_value !== null ? `; last value of its series ${shownNumber(one.last_value)}` : ""}.`,
    make("div", {class: "meta"}, `If no one decides by ${shownTime(one.deadline_ms)} (event time), ${one.at_deadline === null ? "nothing" : shownNumber(one.at_deadline)} is served${one.instead ? ` (${words(one.instead)})` : ""}.`),
    make("details", {}, make("summary", {}, "What the model saw"), make("table", {}, make("tbody", {}, ...Object.entries(one.features).map(([name, seen]) => row(name, shownNumber(seen)))))),
    state.about.actions ? make("div", {class: "actions"},
      make("button", {type: "button", onclick: decide("approve")}, "Approve"),
      make("button", {type: "button", onclick: decide("refuse")}, "Refuse"),
      value, make("button", {type: "button", onclick: event => value.value.trim() ? decide("edit", {value: value.value})(event) : value.focus()}, "Serve this instead"),
      why, make("span", {role: "status"})) : make("div", {class: "meta"}, make("code", {}, `driftline review -p FILE approve ${one.event_id}`)));
}
