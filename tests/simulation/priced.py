"""KPIs in simulations: which are declared, and what they and the metrics must come to.

`Accounts` prices and measures every event from what was published of it: its score, what was decided of it, and the
label that holds in the end. Nothing of `core.metric` is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isclose
from random import Random
from statistics import fmean
from typing import Any

from driftline.core.output import Decided, Outcome, Output, Prediction, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, EventId, Record
from driftline.core.shard.state import Shard

CONFIRMED = "the label arrived after the wait and is the one that was assumed"
_FIELD = {"field": "z", "times": 10, "plus": 1}
_PRICES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "binary": (
        {"costs": {"false_negative": _FIELD, "false_positive": 3}},
        {"costs": {"false_negative": 4}, "values": {"true_positive": _FIELD, "true_negative": 0.5}},
    ),
    "multiclass": ({"costs": {"wrong": _FIELD}}, {"costs": {"wrong": 3}, "values": {"right": 0.5}}),
    "regression": ({"costs": {"over": 2, "under": _FIELD}}, {"costs": {"under": 1.25}}),
    "forecast": ({"costs": {"over": 2, "under": _FIELD}}, {"costs": {"under": 1.25}}),
    "recommend": ({"values": {"reward": 2}},),
}


def declare(rng: Random, document: dict[str, Any]) -> None:
    """One KPI or two, some with a limit that is soon passed."""
    if rng.random() < 0.55:
        return
    made = {}
    for name in ("loss", "waste")[: rng.choice((1, 1, 2))]:
        kpi = {"unit": "EUR", **rng.choice(_PRICES[document["task"]])}
        if rng.random() < 0.4:
            kpi["limit"] = rng.choice((1, 10, 100))
        if document["task"] == "forecast":
            kpi["horizon"] = rng.randint(1, document["forecast"]["horizons"])
        made[name] = {**kpi, "span": "1m"}
    document["kpi"] = made


class Accounts:
    """What the events of one shard came to."""

    def __init__(self) -> None:
        self._served: dict[EventId, tuple[Prediction, bool | None]] = {}
        self._fields: dict[EventId, float | None] = {}
        self._judged: dict[EventId, tuple[Prediction, bool | None]] = {}
        self._known: dict[object, tuple[EventId, Any]] = {}
        self._assumed: dict[object, tuple[EventId, Any]] = {}
        self._ahead: dict[object, dict[int, float | None]] = {}
        self._waiting: set[EventId] = set()
        self._several = False  # classes

    def follow(self, shard: Shard, record: Record, made: Sequence[Output]) -> Iterator[str]:
        """What is wrong once one record was folded."""
        pipeline = shard.pipeline
        self._several = pipeline.task == "multiclass"
        if pipeline.recommend is not None or not shard.terms.supervised:
            return
        for one in made:
            if isinstance(one, Score) and isinstance(record, Event):
                self._score(pipeline, record, one)
            elif isinstance(one, Decided):
                self._served[one.event_id] = (one.prediction, _yes(one.prediction, one.decision))
            elif isinstance(one, Outcome):
                self._outcome(pipeline, record, one)
        yield from self._compared(shard)
        if pipeline.label is not None:
            yield from self._measured(shard)

    def _score(self, pipeline: Pipeline, event: Event, score: Score) -> None:
        self._note(pipeline, event)
        self._served[score.event_id] = (score.prediction, _yes(score.prediction, score.decision))
        if pipeline.label is not None:
            self._waiting.add(score.event_id)

    def _note(self, pipeline: Pipeline, event: Event) -> None:
        place = list(pipeline.event.features).index("z")
        value = event.features[place]
        self._fields[event.event_id] = None if event.missing >> place & 1 else float(value or 0.0)

    def _outcome(self, pipeline: Pipeline, record: Record, one: Outcome) -> None:
        name = one.event_id
        if one.judged is not None and isinstance(record, Event):
            self._note(pipeline, record)
            self._ahead[name] = dict(zip(one.judged.horizons, one.judged.values, strict=True))
            self._known[name] = (name, one.label)
        if one.detail == CONFIRMED:
            self._known[name] = self._assumed.pop(name)
        if one.event_time_ms is None or pipeline.label is None:
            return
        if name in self._waiting:
            self._waiting.discard(name)
            self._judged[name] = self._served[name]
        if one.kind != "expired":
            self._known.pop(name, None)
            self._assumed.pop(name, None)
        if one.label is not None:
            (self._assumed if one.label_time_ms is None else self._known)[name] = (name, one.label)

    def _compared(self, shard: Shard) -> Iterator[str]:
        for kpi, form in shard.pipeline.kpi.items():
            total = shard.kpis.each[kpi].total
            for what, mine, theirs in (("known", self._known, total.known), ("assumed", self._assumed, total.assumed)):
                sums: dict[str, list[float]] = {}
                for name, label in mine.values():
                    kind, size = self._came(form.horizon, name, label)
                    if kind is None:
                        continue
                    cell = sums.setdefault(kind, [0, 0.0, 0.0])
                    amounts = [self._amount(prices.get(kind), name) for prices in (form.costs, form.values)]
                    cell[0] += 1
                    if None not in amounts:
                        cell[1] += (amounts[0] or 0.0) * size
                        cell[2] += (amounts[1] or 0.0) * size
                if not _same(sums, theirs):
                    yield f"{kpi}: {what} are {sums}, not {theirs}"
            if total.waiting[0] != len(self._waiting):
                yield f"{kpi}: {len(self._waiting)} events wait, not {total.waiting[0]}"

    def _measured(self, shard: Shard) -> Iterator[str]:
        """Metrics over all labels that hold, each against what was served of its event then."""
        pairs = [(self._judged[name][0], label) for name, label in (*self._known.values(), *self._assumed.values())]
        found = shard.evaluation.values()
        losses = {
            "MAE": [abs(one.value - label) for one, label in pairs if one.value is not None],
            "Accuracy": [float(one.label == label) for one, label in pairs if one.label is not None],
            "label_count": [float(len(pairs))],
        }
        for name, value in found.items():
            wanted = fmean(losses[name]) if losses[name] else None
            if (value is None) != (wanted is None) or not isclose(
                value or 0.0, wanted or 0.0, rel_tol=1e-6, abs_tol=1e-9
            ):
                yield f"{name} is {value}, not {wanted}"

    def _came(self, horizon: int, name: EventId, label: Any) -> tuple[str | None, float]:
        """The kind of decision, and its size; no kind of what a KPI does not count."""
        if name in self._ahead:
            value = self._ahead[name].get(horizon)
            return (None, 0.0) if value is None else _off(value, label)
        prediction, yes = self._judged[name]
        if self._several:
            return ("none", 0.0) if prediction.label is None else (_named(prediction.label == label), 1.0)
        if isinstance(label, bool) or (prediction.label is not None):
            if yes is None:
                return "none", 0.0
            side = "positive" if yes else "negative"
            return ("true_" if yes == bool(label) else "false_") + side, 1.0
        if prediction.value is None:
            return "none", 0.0
        return _off(prediction.value, label)

    def _amount(self, price: Any, name: EventId) -> float | None:
        """None where the field is missing, or of no use."""
        if price is None:
            return 0.0
        if price.field is None:
            return float(price.plus)
        value = self._fields[name]
        return None if value is None or value < 0 else float(price.times * value + price.plus)


def _named(right: bool) -> str:
    return "right" if right else "wrong"


def _off(value: float, label: Any) -> tuple[str, float]:
    error = value - label
    return ("over", error) if error > 0 else ("under", -error)


def _yes(prediction: Prediction, decision: bool | None) -> bool | None:
    if decision is not None:
        return decision
    return prediction.label if isinstance(prediction.label, bool) else None


def _same(mine: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[int]]) -> bool:
    """Equal counts, and amounts to a millionth an event."""
    if mine.keys() != theirs.keys():
        return False
    return all(
        cell[0] == theirs[kind][0]
        and all(abs(cell[at] * 1e6 - theirs[kind][at]) <= cell[0] + abs(cell[at]) * 1e-6 for at in (1, 2))
        for kind, cell in mine.items()
    )
