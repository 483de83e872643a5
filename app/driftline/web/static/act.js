"use strict";
// What a person may do: acknowledge, silence, decide, and ask why a score is what it is.

function actionsOf(name, one = {}) {
  if (!state.about.actions) return [];
  const hours = make("select", {"aria-label": "How long, in event time"}, ...[["1 hour", 1], ["8 hours", 8], ["1 day", 24], ["7 days", 168]].map(([text, value]) => make("option", {value}, text)));
  return [make("div", {class: "actions"},
    one.acknowledged ? null : make("button", {type: "button", onclick: event => act(event.target, {command: "acknowledge", episode: name})}, "Acknowledge"),
    one.silenced ? null : make("button", {type: "button", onclick: event => act(event.target, {command: "silence", episode: name, for_ms: hours.value * 3600e3})}, "Silence for"),
    one.silenced ? null : hours,
    make("span", {role: "status"}))];
}

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
