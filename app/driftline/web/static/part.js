"use strict";
// Small parts of the page: nodes, numbers, times. What comes from topics is put in as text, never as markup.

const $ = id => document.getElementById(id);
const state = {about: {}, skew: 0, connected: false, lost: null, heard: null};

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

// A row of a table: the first cell is its header.
function row(...cells) {
  return make("tr", {}, ...cells.map((cell, at) => cell instanceof Node ? cell : make(at ? "td" : "th", at ? {} : {scope: "row"}, cell)));
}

function number(...content) { return make("td", {class: "n"}, ...content); }

function heads(...names) { return make("tr", {}, ...names.map(name => make("th", {scope: "col", class: name.startsWith(">") ? "n" : null}, name.replace(/^>/, "")))); }

// Options of a list; what was chosen stays chosen.
function options(select, names, shown = name => name) {
  if (JSON.stringify(names) === select.dataset.names) return;
  const chosen = select.value || localStorage.getItem(select.id);
  select.dataset.names = JSON.stringify(names);
  select.replaceChildren(...names.map(name => make("option", {value: name}, shown(name))));
  select.value = names.includes(chosen) ? chosen : names[0] ?? "";
}

const now = () => Date.now() + state.skew;

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const isThere = value => value !== null && value !== undefined;
const isText = value => isThere(value) && typeof value !== "number";
const ago = ms => isThere(ms) ? `${span(now() - ms)} ago` : "";
const clock = ms => shownTime(ms).slice(11);
const percent = value => isThere(value) ? `${(100 * value).toFixed(value > 0 && value < .01 ? 2 : 1)}%` : "-";
const count = value => value.toLocaleString("en-US");
const counted = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
const words = text => text.replaceAll("_", " ");
const title = text => words(text).replace(/^./, first => first.toUpperCase());
const money = (value, unit = "") => isThere(value) ? `${value.toLocaleString("en-US", {maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0})} ${unit}`.trim() : "no estimate";
const priced = (value, unit) => isThere(value) ? [money(value), unit] : money(value);  // the unit apart, to be shown smaller
const compact = value => value.toLocaleString("en-US", {notation: "compact", maximumFractionDigits: 1});
const known = value => isThere(value) ? value.toLocaleString("en-US", {maximumFractionDigits: value < 10 ? 1 : 0}) : "unknown";

function moment(ms) {  // near ones by their time, others with the day
  if (!isThere(ms)) return "-";
  return Math.abs(now() - ms) < 20 * 3600e3 ? clock(ms) : shownTime(ms);
}

function shownNumber(value) {
  if (!isThere(value)) return "-";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-4)) return value.toExponential(3);
  return Math.abs(value) >= 1000 ? value.toLocaleString("en-US", {maximumFractionDigits: 0}) : String(Number(value.toPrecision(4)));
}

// A probability: as many digits in each row, unless it is tiny.
function shownShare(value) { return value !== 0 && value < .00005 ? value.toExponential(1) : value.toFixed(4); }

// When something happened, or between which times.
function between({from_ms, time_ms}) { return isThere(from_ms) ? `between ${shownTime(from_ms)} and ${shownTime(time_ms)}` : shownTime(time_ms); }

function shownTime(time) {
  const date = new Date(time);
  return typeof time === "number" && !isNaN(date) ? date.toISOString().slice(0, 19).replace("T", " ") : "-";
}
