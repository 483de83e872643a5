"""History and calendar features in simulations: which are declared, what events carry for them, and what each must be.

`Past` computes them from lists of everything that came, by their definition: nothing of `core.history` is used, so a
fault in there shows, whoever folds.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import cos, isclose, pi, sin
from random import Random
from statistics import fmean, stdev
from typing import Any

from msgspec import Struct, field

from driftline.core.output import Outcome, Output, Score
from driftline.core.pipeline import CalendarFeature, HistoryFeature, Pipeline
from driftline.core.record import Event, EventId, FeatureValue, Record

BUCKETS = 32  # of a window, as docs/history.md says

HISTORIES: Mapping[str, dict[str, Any]] = {
    "seen": {"history": "count", "by": "card", "over": "1s"},
    "mean": {"history": "mean(x)", "by": "card", "over": "700ms"},
    "sum": {"history": "sum(x)", "by": ["card", "shop"]},
    "least": {"history": "min(x)", "by": "shop", "over": "300ms"},
    "most": {"history": "max(z)", "by": "card", "missing": -1},
    "spread": {"history": "std(x)", "by": "card", "over": "2s"},
    "kinds": {"history": "distinct(shop)", "by": "card", "over": "2s"},
    "since": {"history": "since_last", "by": "card", "over": "5s"},
    "last": {"history": "last(x)", "by": "shop"},
    "before": {"history": "lag(z, 2)"},
    "faded": {"history": "decayed_mean(x)", "by": "card", "half_life": "400ms"},
    "risk": {"history": "label_mean", "by": "card", "over": "2s"},
    "known": {"history": "label_count", "by": "shop", "missing": -1},
    "truth": {"history": "label_last", "by": ["card", "shop"], "missing": -1},
    "trend": {"history": "label_lag(2)"},
    "peak": {"history": "label_max", "by": "shop", "over": "1s"},
    "sorts": {"history": "label_distinct", "by": "card"},
    "fame": {"history": "label_decayed_mean", "by": "card", "half_life": "1s"},
}
CALENDARS: Mapping[str, dict[str, Any]] = {
    "minute": {"calendar": "minute", "cyclic": True},
    "hour": {"calendar": "hour", "zone": "+05:30"},
    "weekday": {"calendar": "weekday"},
    "weekend": {"calendar": "weekend", "zone": "-11:00"},
}
KEYS = ("card", "shop")


# -- what is declared, and what events carry


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Some histories, several ways of keeping them, few keys; now and then the time of day."""
    if rng.random() < 0.5:
        return
    names = rng.sample(sorted(HISTORIES), rng.choice((1, 2, 3, 4)))
    event = document["event"]
    event["features"] |= {name: HISTORIES[name] for name in names}
    if rng.random() < 0.3:
        name = rng.choice(sorted(CALENDARS))
        event["features"][name] = CALENDARS[name]
    used = [key for key in KEYS if any(key in str(HISTORIES[name]) for name in names)]
    if used:
        event["context"] = dict.fromkeys(used, "key")
    event["keys_max"] = rng.choice((1, 2, 4, 100))


def with_keys(rng: Random, value: str) -> str:
    """An event with a card and a shop, now and then without; a card is a number or the text of one."""
    document = json.loads(value)
    card = rng.randrange(rng.choice((2, 6)))
    if rng.random() < 0.93:
        document["card"] = rng.choice((card, card, str(card), float(card)))
    if rng.random() < 0.93:
        document["shop"] = rng.choice(("", "a", "b", "c"))
    return json.dumps(document)


# -- what each feature must be


class _Seen(Struct, frozen=True):
    time_ms: int
    values: dict[str, FeatureValue]


class _Own(Struct):
    """The past of one key: events in order, and labels as (when they came, value).

    Attributes:
        amended: a label was taken back: what was the last one before is not kept for ever.
        torn: one that the key had before it was let go was taken back: what it holds since then is not exact.
    """

    events: list[_Seen] = field(default_factory=list)
    labels: list[tuple[int, float]] = field(default_factory=list)
    amended: bool = False
    torn: bool = False


class WrongError(Exception):
    """A feature is not what it is by its definition."""


class Past:
    """All that a shard has folded, by key, the least recently used one first."""

    def __init__(self, pipeline: Pipeline) -> None:
        event = pipeline.event
        self._histories = {name: one for name, one in event.features.items() if isinstance(one, HistoryFeature)}
        self._calendars = {name: one for name, one in event.features.items() if isinstance(one, CalendarFeature)}
        self._names, self._context = event.names, tuple(event.context)
        self._keys_max = event.keys_max
        self._by: dict[tuple[str, ...], OrderedDict[tuple[str, ...], _Own]] = {
            one.by: OrderedDict() for one in self._histories.values()
        }
        self._keys: dict[EventId, dict[tuple[str, ...], tuple[str, ...] | None]] = {}
        self._came: dict[EventId, int] = {}

    def follow(self, record: Record, outputs: Sequence[Output], now_ms: int) -> None:
        """What one record made.

        Args:
            now_ms: the watermark behind it.

        Raises:
            WrongError: a feature was served with another value.
        """
        if not self._histories and not self._calendars:
            return
        for output in outputs:
            if isinstance(output, Score) and isinstance(record, Event):
                self._score(record, output, now_ms)
            elif isinstance(output, Outcome) and output.event_time_ms is not None:
                self._settle(output, now_ms)

    def _settle(self, outcome: Outcome, now_ms: int) -> None:
        """A label came, in place of another one maybe, or is taken back."""
        came_ms = self._came.setdefault(outcome.event_id, now_ms)  # a correction counts where the first label did
        if outcome.previous_label is not None:
            self._take_back(outcome.event_id, float(outcome.previous_label), came_ms)
        if outcome.label is not None:
            self._label(outcome.event_id, float(outcome.label), came_ms)

    def _score(self, event: Event, score: Score, now_ms: int) -> None:
        time_ms = event.order_ms if event.time_ahead else event.time_ms
        served = dict(zip(self._names, score.features, strict=True))
        values = {**dict(zip(self._context, event.context, strict=True)), **served}
        keys = {by: key_of(values, by) for by in self._by}
        for name, history in self._histories.items():
            key = keys[history.by]
            own = self._by[history.by].get(key) if key is not None else None
            if own is not None and history.past.of_label and _is_unknown(history, own):
                continue
            wanted = defined(history, own, time_ms, now_ms)
            if not _same(served[name], wanted):
                raise WrongError(f"event {event.event_id}: {name} is {served[name]}, not {wanted}")
        for name, calendar in self._calendars.items():
            if not _same(served[name], time_of(calendar, time_ms)):
                raise WrongError(f"event {event.event_id}: {name} is {served[name]} at {time_ms}")
        for by, key in keys.items():
            if key is not None:
                self._of(by, key).events.append(_Seen(time_ms, values))
                self._evict(by)
        self._keys[event.event_id] = keys

    def _take_back(self, event_id: EventId, label: float, came_ms: int) -> None:
        for by in {one.by for one in self._histories.values() if one.past.of_label}:
            key = self._keys[event_id][by]
            if key is None or key not in self._by[by]:
                continue
            own = self._of(by, key)
            own.amended = True
            if (came_ms, label) in own.labels:
                own.labels.remove((came_ms, label))
            else:
                own.torn = True

    def _label(self, event_id: EventId, label: float, now_ms: int) -> None:
        for by in {one.by for one in self._histories.values() if one.past.of_label}:
            key = self._keys[event_id][by]
            if key is not None:
                self._of(by, key).labels.append((now_ms, label))
                self._evict(by)

    def _of(self, by: tuple[str, ...], key: tuple[str, ...]) -> _Own:
        kept = self._by[by]
        own = kept.setdefault(key, _Own())
        kept.move_to_end(key)
        return own

    def _evict(self, by: tuple[str, ...]) -> None:
        while len(self._by[by]) > self._keys_max:
            self._by[by].popitem(last=False)


def key_of(values: Mapping[str, FeatureValue], by: Sequence[str]) -> tuple[str, ...] | None:
    """None where a field is missing."""
    found = [values[name] for name in by]
    if None in found:
        return None
    return tuple(str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in found)


def _is_unknown(form: HistoryFeature, own: _Own) -> bool:
    return own.torn or (own.amended and form.past.name in ("last", "lag"))


def defined(form: HistoryFeature, own: _Own | None, time_ms: int, now_ms: int) -> FeatureValue:
    """A history feature by its definition, from all that is known of its key."""
    past = form.past
    if own is None:
        own = _Own()
    if past.name == "since_last":
        if own.events:
            newest_ms = max(one.time_ms for one in own.events)
            return min(max(0, time_ms - newest_ms), form.over_ms or 2**63) / 1000
        return form.over_ms / 1000 if form.over_ms is not None and form.fill == 0 else form.fill
    if past.of_label:
        at_ms, known = now_ms, [(came_ms, value) for came_ms, value in own.labels]
    else:
        at_ms = max([time_ms, *(one.time_ms for one in own.events)])
        source = past.source
        of = [(one.time_ms, True if source is None else one.values[source]) for one in own.events]
        known = [(at, value) for at, value in of if value is not None]  # type: ignore[misc]  # texts in `distinct` alone
    if (over_ms := form.over_ms) is not None:
        known = [one for one in known if one[0] * BUCKETS // over_ms > at_ms * BUCKETS // over_ms - BUCKETS]
    if past.name in ("last", "lag"):
        return known[-past.lag][1] if len(known) >= past.lag else form.fill
    if not known:
        return form.fill
    values = [value for _, value in known]
    match past.name:
        case "count":
            return len(values)
        case "distinct":
            return len(set(map(str, values)))
        case "sum":
            return sum(values)
        case "mean":
            return fmean(values)
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "std":
            return stdev(values) if len(values) > 1 else 0.0
    half_life_ms = form.half_life_ms or 1
    newest_ms = max(at for at, _ in known)
    weights: list[float] = [2.0 ** (-(newest_ms - at) / half_life_ms) for at, _ in known]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def time_of(form: CalendarFeature, time_ms: int) -> FeatureValue:
    """A calendar feature, by the calendar of Python."""
    hours, minutes = (0, 0) if form.zone == "UTC" else (int(part) for part in form.zone.split(":"))
    shift = timedelta(hours=hours, minutes=-minutes if form.zone.startswith("-") else minutes)
    moment = datetime.fromtimestamp(time_ms / 1000, UTC) + shift
    if form.cyclic is not None:
        share = (moment.minute * 60_000 + moment.second * 1000 + moment.microsecond / 1000) / 3_600_000
        return sin(2 * pi * share) if form.cyclic == "sin" else cos(2 * pi * share)
    match form.calendar:
        case "hour":
            return moment.hour
        case "weekday":
            return moment.weekday()
        case "weekend":
            return moment.weekday() >= 5
    raise NotImplementedError(form.calendar)


def _same(one: FeatureValue, other: FeatureValue) -> bool:
    if isinstance(one, str | None) or isinstance(other, str | None):
        return one == other
    return isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
