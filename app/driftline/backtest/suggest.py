"""Limits for a guard, from history: what was seen, and how often each limit would have tripped.

The history is folded twice: without a guard, to see labels, jumps and intervals, and with the guard that follows from
them, which counts its trips as it would have live. What is proposed lets all labels of the history pass but one in
`ODD`: a person decides whether the others were faults.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from math import inf, isfinite
from typing import Any, Final

from msgspec import Struct

from driftline.author.limits import LABELS_MIN, ODD, PAIRS_MIN, RATIO_MAX, Pasts, Seen, above, around, quantile
from driftline.core.error import InputFileError
from driftline.core.fold.step import step
from driftline.core.guard.kept import Kept
from driftline.core.guard.share import EVEN, EVENTS_MIN
from driftline.core.history.history import key_of
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome, Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.shard.state import Shard
from driftline.core.task import task_of

SEEN_MAX: Final = 2_000_000  # numbers of a kind; later ones are not looked at
WINDOW_MS: Final = 600_000
SURPRISE: Final = 0.99
ODD_TIMES: Final = 10  # as wide as all labels but one in `ODD` allow, before the others are pointed out


class Suggestion(Struct, frozen=True):
    """A guard.

    Args:
        guard: as a pipeline file has it.
        why: by rung, what it was made from.
        trips: by rung, how often it would have tripped.
        scored: predictions, of which.
        notes: what to look at: odd labels, and limits that could not be made.
        second: of the file's second model, `labels`, `error` and `first_error` (means), `served` and `failed`; None
            without one.
    """

    guard: dict[str, Any]
    why: dict[str, str]
    trips: dict[str, int]
    scored: int
    notes: tuple[str, ...] = ()
    second: dict[str, Any] | None = None


class _Seen:
    """What a history shows."""

    def __init__(self, pipeline: Pipeline) -> None:
        task, form = task_of(pipeline.task), pipeline.forecast
        self._numeric = task.labels.numeric
        self._ahead = form is not None
        guard = pipeline.guard
        by = guard.by if guard is not None else ()
        names = list(pipeline.event.names)
        self._places = tuple([names.index(name) for name in by]) if all(name in names for name in by) else ()
        self.series = self._ahead or bool(self._places)
        self.least, self.most = inf, -inf
        self.labels = array("d")
        self.steps, self.widths = Seen(), array("d")
        self._pasts = Pasts()
        self._season = form.season if form is not None else 1
        decision = pipeline.decision
        threshold = None if decision is None else decision.threshold
        self._threshold = EVEN if threshold is None else threshold
        self._crowd = Kept()
        self.crowded = 0.0
        self.asked = 0

    def score(self, score: Score) -> None:
        self.asked += 1
        value = score.prediction.value
        if not self._numeric and value is not None:
            positives, events = self._crowd.crowd(value >= self._threshold, score.time_ms, WINDOW_MS)
            if events >= EVENTS_MIN:
                self.crowded = max(self.crowded, positives / events)
        if score.forecast is not None and len(self.widths) < SEEN_MAX:
            for ahead, low, high in zip(score.forecast.values, score.forecast.lower, score.forecast.upper, strict=True):
                if ahead and low is not None and high is not None:
                    self.widths.append((high - low) / abs(ahead))

    def outcome(self, outcome: Outcome) -> None:
        label = outcome.label
        if outcome.kind != "joined" or not self._numeric or label is None or isinstance(label, str):
            return
        value = float(label)
        self.least, self.most = min(self.least, value), max(self.most, value)
        if len(self.labels) < SEEN_MAX:
            self.labels.append(value)
        if not self.series or len(self.steps.jumps) >= SEEN_MAX:
            return
        slot = 0
        if outcome.judged is not None:
            key: Any = outcome.judged.series
            slot = outcome.judged.time_ms // outcome.judged.step_ms
        else:
            key = key_of(self._places, outcome.features or (), ()) if not self._ahead else None
        if key is not None:
            self.steps.add(value, self._pasts.near(key, value, slot % self._season))


def suggest(pipeline: Pipeline, batches: Callable[[Pipeline], Any]) -> Suggestion:
    """Limits for a pipeline.

    Args:
        batches: opens the history anew for a pipeline, in batches of records.

    Raises:
        InputFileError: nothing was learned from it.
    """
    document = {key: value for key, value in pipeline.resolved().items() if key != "guard"}
    before = parse_pipeline(_without_review(document))
    seen = _Seen(pipeline)
    shard = _fold(before, batches, seen)
    if not shard.counts.get("learned"):
        raise InputFileError("nothing was learned from the history, so no limits can be made of it")
    guard, why = _proposed(pipeline, seen)
    trial = parse_pipeline({**_without_review(document), "guard": guard})
    after = _fold(trial, batches, None)
    trips = {
        rung: sum(count for what, count in after.counts.items() if what.startswith(f"guard_{rung}_")) for rung in guard
    }
    second = None if after.second is None else after.compared(after.second)
    notes = tuple(_notes(pipeline, seen, guard))
    return Suggestion(guard, why, {rung: trips[rung] for rung in why}, after.counts.get("scored", 0), notes, second)


def _without_review(document: dict[str, Any]) -> dict[str, Any]:
    topics = {name: topic for name, topic in document.get("topics", {}).items() if name != "review"}
    return {**document, "topics": topics}


def _fold(pipeline: Pipeline, batches: Callable[[Pipeline], Any], seen: _Seen | None) -> Shard:
    shard = Shard(pipeline, 0)
    for batch in batches(pipeline):
        for record in batch:
            for made in step(shard, record, Oracle()).outputs:
                if seen is not None and isinstance(made, Score):
                    seen.score(made)
                elif seen is not None and isinstance(made, Outcome):
                    seen.outcome(made)
    return shard


def _proposed(pipeline: Pipeline, seen: _Seen) -> tuple[dict[str, Any], dict[str, str]]:
    """A guard, and by rung what it was made from."""
    task = task_of(pipeline.task)
    guard: dict[str, Any] = {}
    why: dict[str, str] = {}
    if pipeline.guard is not None and pipeline.guard.by:
        guard["by"] = list(pipeline.guard.by)
    guard["untrained"] = {"labels_min": LABELS_MIN, "action": "flag"}
    why["untrained"] = f"a model that has learned fewer {task.learns_from}"
    if task.labels.numeric and isfinite(seen.most - seen.least):
        low, high = around(seen.least, seen.most)
        guard["range"] = {"min": low, "max": high, "action": "clip"}
        why["range"] = f"twice as wide as the labels, from {seen.least:.6g} to {seen.most:.6g}"
    found = seen.steps.step()
    if found is not None and found.ratio <= RATIO_MAX:
        guard["step"] = {"ratio_max": found.ratio, "tolerance": found.tolerance, "action": "fallback"}
        why["step"] = found.why
    elif "by" in guard:
        del guard["by"]
    if len(seen.widths) >= PAIRS_MIN:
        guard["width"] = {"ratio_max": above(quantile(seen.widths, 1 - 1 / ODD)), "action": "flag"}
        why["width"] = f"wider than all but one in {ODD:,} of the intervals"
    if not task.slates:
        guard["unfamiliar"] = {"score_max": SURPRISE, "action": "flag"}
        why["unfamiliar"] = "a value less likely than 1 in 100"
    if task.probability and 0 < seen.crowded < 0.9:
        most = min(0.95, above(1.5 * seen.crowded))
        guard["share"] = {"positive_max": most, "window": "10m", "action": "flag"}
        why["share"] = f"1.5 times the greatest share within 10 minutes, {seen.crowded:.1%}"
    fallback: list[Any] = []
    if pipeline.guard is not None and pipeline.guard.second is not None:
        fallback.append({"model": pipeline.guard.second})
    if "step" in guard:
        fallback += ["seasonal", "last_value"] if task.ahead else ["last_value"]
    if fallback:
        guard["fallback"] = fallback
    return guard, why


def _notes(pipeline: Pipeline, seen: _Seen, guard: dict[str, Any]) -> Iterator[str]:
    """What a person should know before pasting it."""
    labels, learned_from = seen.labels, task_of(pipeline.task).learns_from
    if not labels:
        return
    if len(labels) < ODD:
        yield f"made from {len(labels):,} {learned_from} alone: look at it again once there are {ODD:,}"
    low, high = around(quantile(labels, 1 / ODD), quantile(labels, 1 - 1 / ODD))
    if seen.most - seen.least > ODD_TIMES * (high - low):
        odd = sum(not low <= label <= high for label in labels)
        yield (
            f"range: only {odd:,} of {len(labels):,} {learned_from} are not within {low:g} and {high:g}; if those were "
            f"faults, write {{min: {low:g}, max: {high:g}}}"
        )
    if "step" in guard:
        return
    if not seen.series:
        yield "step: name the fields that tell series apart in guard.by, and run it again"
    elif (found := seen.steps.step()) is None:
        yield f"step: fewer than {PAIRS_MIN} {learned_from} follow others of their series"
    else:
        yield f"step: {learned_from} of a series differ {found.ratio:g} times, so no ratio tells a jump"


def share_of(count: int, scored: int) -> str:
    """How often, as text."""
    return f"{count:,} of {scored:,}"
