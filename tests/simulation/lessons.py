"""What is learned in simulations: which tests of labels are declared, and that each pair ends once.

`Lessons` counts the calls of the model's `learn` from outside, and holds them against what was published and what is
held back: a pair is learned, dropped, withdrawn or held, and nothing is learned while an alert stops it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

from driftline.core.fold.learning import HELD
from driftline.core.guard import distribution, quarantine, suspicion
from driftline.core.model.learner import Learner
from driftline.core.output import Alert, Outcome, Output
from driftline.core.shard.state import Shard
from tests.simulation.sent import Send

LATE = " late"
BESIDE = "second "  # of what the guard's second model learns
SMALL = (
    (suspicion, "BLOCK", 3),
    (suspicion, "BEGIN", 6),
    (suspicion, "ERRORS", 0.0),
    (suspicion, "PRIOR", 1.0),
    (suspicion, "SHARES", (0.3, 0.6, 0.9)),
    (suspicion, "CALM", 3.0),
    (quarantine, "STRIDE", 3),
    (distribution, "SAMPLE", 8),
    (distribution, "STRIDE", 3),
)
"""Bounds of what the guard tests, so small that bursts and shifts are found within a run."""
USUAL, WRONG, AFTER = 24, 8, 12  # pairs before, in and after a burst
FIRST_ID = 200
_STOPPING = ("data_quality", "label_match", "guard", "kpi", "model_failure")


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Two in five pipelines with classes test their labels; now and then an alert stops learning."""
    learning: dict[str, Any] = {}
    if document["task"] in ("binary", "multiclass") and rng.random() < 0.4:
        action = rng.choice(("alert", "hold", "hold"))
        learning["quarantine"] = {"action": action, "wait": rng.choice(("300ms", "1s", "1h")), "error_rate": 0.01}
        if action == "hold":
            learning["quarantine"] |= {"then": rng.choice(("drop", "learn")), "max": rng.choice((3, 10, 1000))}
        if rng.random() < 0.8:
            document["drift"] = "none"  # a model that is replaced is tested anew
    if rng.random() < 0.15 and "recommend" not in document:
        learning["freeze_on"] = rng.sample(_STOPPING, rng.choice((1, 2)))
    if learning:
        document["learning"] = learning


def burst(rng: Random, document: Mapping[str, Any], partitions: int, length_s: float, begun_ms: int) -> Iterator[Send]:
    """Pairs that a model soon knows, then some whose labels are wrong, in one partition."""
    if "quarantine" not in document.get("learning", {}):
        return
    partition, count = rng.randrange(partitions), USUAL + WRONG + AFTER
    delay_s = rng.choice((0.0, 0.05, 0.5))
    for number in range(count):
        at_s = number * length_s / count
        stamp_ms, x = begun_ms + int(at_s * 1000), rng.choice((-1.0, 1.0)) * rng.uniform(1.0, 2.0)
        event_id, wrong = FIRST_ID + number, USUAL <= number < USUAL + WRONG
        value = {"id": event_id, "x": round(x, 3), "z": 0.5} | ({"at": stamp_ms} if "time" in document["event"] else {})
        yield Send(at_s, "event", partition, json.dumps(value), stamp_ms, event_id)
        truth = json.dumps({"id": event_id, "y": int((x > 0) != wrong)})
        yield Send(at_s + delay_s, "label", partition, truth, stamp_ms + int(delay_s * 1000), event_id)


def decisions(rng: Random, document: Mapping[str, Any], length_s: float) -> list[tuple[float, dict[str, Any]]]:
    """When people decide about held pairs: in time, twice, or for nothing."""
    if document.get("learning", {}).get("quarantine", {}).get("action") != "hold":
        return []
    return [
        (rng.random() * (length_s + 1), {"command": rng.choice(("release", "drop"))})
        for _ in range(rng.choice((0, 1, 2, 4)))
    ]


@contextmanager
def overheard() -> Iterator[list[str]]:
    """The outputs whose pairs the model was asked to learn, as they come."""
    calls: list[str] = []

    def learn(self: Learner, values: Any, label: Any, output_id: str, time_ms: int, oracle: Any) -> None:
        calls.append(output_id)
        right(self, values, label, output_id, time_ms, oracle)

    right = Learner.learn
    with patch.object(Learner, "learn", learn):
        yield calls


class Lessons:
    """What one shard learned so far.

    Attributes:
        held: pairs that are held back.
        open: episodes of alerts that stop learning.
    """

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.open: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._learned: set[str] = set()

    def follow(self, shard: Shard, calls: Sequence[str], made: Sequence[Output]) -> Iterator[str]:
        """What is wrong with what one record made.

        Args:
            calls: what was learned meanwhile.
        """
        beside = [one.removeprefix(BESIDE) for one in calls if one.startswith(BESIDE)]
        calls = [one for one in calls if not one.startswith(BESIDE)]
        if shard.second is not None and beside != calls:
            yield f"the second model learned {beside} and the first one {calls}"
        if not shard.terms.supervised or shard.terms.ahead:
            return
        held = {pair.output_id for pair in shard.quarantine.held}
        if len(held) != len(shard.quarantine.held):
            yield "a pair is held twice"
        if twice := [name for name, count in Counter(calls).items() if count > 1]:
            yield f"learned twice: {twice}"
        late = {one.removesuffix(LATE) for one in calls if one.endswith(LATE)}
        at_once = {one for one in calls if not one.endswith(LATE)}
        pairs = [one for one in made if isinstance(one, Outcome) and one.label is not None and one.prediction]
        back = {one.output_id for one in pairs if one.detail == HELD}
        if wrong := at_once - ({one.output_id for one in pairs} - back):
            yield f"learned, and published as no lesson: {sorted(wrong)}"
        for one in made:
            if isinstance(one, Outcome) and one.kind in ("corrected", "retracted") and one.event_time_ms is not None:
                yield from self._withdrawn(shard, one)
        grown = {name: count - self._counts[name] for name, count in shard.counts.items()}
        undone = grown.get("quarantine_undone", 0)
        gone = (self.held | back | (self._learned if undone else set())) - held
        if late - gone:
            yield f"learned late, and not released: {sorted(late - gone)}"
        ended = sum(grown.get(f"quarantine_{how}", 0) for how in ("dropped", "released", "withdrawn"))
        begun = len(back) + undone
        if len(self.held) + begun != len(held) + ended:
            yield f"{len(self.held)} pairs were held, {begun} came, {ended} ended, {len(held)} are held"
        unlearned = grown.get("unlearned", 0)
        lessons = len(pairs) - len(back) + grown.get("quarantine_released", 0)
        if len(calls) + unlearned != lessons:
            yield f"{len(calls)} learned and {unlearned} passed over of {lessons} pairs"
        yield from self._stopped(shard, calls, made)
        self.held, self._counts = held, Counter(shard.counts)
        self._learned |= at_once | late

    def _withdrawn(self, shard: Shard, changed: Outcome) -> Iterator[str]:
        """Pairs that are held though their label was changed since."""
        for pair in shard.quarantine.held:
            if pair.event_id == changed.event_id and pair.output_id != changed.output_id:
                yield f"{pair.output_id} is held, and its label was {changed.kind}"

    def _stopped(self, shard: Shard, calls: Sequence[str], made: Sequence[Output]) -> Iterator[str]:
        before = set(self.open)
        for one in made:
            if isinstance(one, Alert) and one.kind in shard.terms.freeze_on:
                (self.open.discard if one.state == "resolved" else self.open.add)(one.episode)
        if calls and before & self.open:
            yield f"learned {calls} while {sorted(before & self.open)} stop it"
