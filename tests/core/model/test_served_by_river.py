"""A shard whose model is walked publishes what one publishes whose model is River's own, whatever happens to the two.

Random pipelines on several partitions, with labels that come late, come twice and are wrong for a while (so that the
quarantine takes learned pairs back), models that raise, copies that take over, and states that are read again.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from driftline.core.error import PipelineError
from driftline.core.fold.step import step
from driftline.core.guard import suspicion
from driftline.core.model import learner
from driftline.core.model.dispatch import Walk
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, frozen_digest, load
from tests.core.model.random_pipelines import KINDS
from tests.core.model.walks import Case, Events, case_of

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, where numbers are as large as they get

NOW_MS = 1_700_000_000_000
TASKS = {"binary": "binary", "classes": "multiclass", "number": "regression"}


class River(Walk):
    """A model as it is."""

    def __init__(self, model: Any, form: Any, *, by_itself: bool = False) -> None:
        super().__init__(model, form, by_itself=by_itself)  # pipelines know their own steps
        self.own = model

    def settle(self) -> None:
        pass

    def ask(self, method: str) -> Any:
        return lambda values: getattr(self.own, method)(self._form.features(values))

    def probability(self) -> None:
        return None

    def learn(self) -> Any:
        return lambda values, label: self.own.learn_one(self._form.features(values), label)


class Plain(Events):
    """Values whose labels are soon learned."""

    def values(self) -> tuple[Any, ...]:
        return tuple(
            [self._source.choice("xyz") if name == "shop" else self._source.gauss(0, 1) for name in self._case.names]
        )

    def label(self, values: tuple[Any, ...]) -> Any:
        return values[0] + 0.2 * self._source.gauss(0, 1) > 0


def _pipeline(case: Case) -> Pipeline:
    types = {"number": "number", "whole": "number", "truth": "boolean", "category": "string", None: "string"}
    missing = {"missing": "omit"} if case.may_omit else {}
    quarantine = {"action": "hold", "wait": "200s", "then": random.Random(case.seed).choice(["learn", "drop"])}
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": TASKS[case.task],
            "event": {
                "id": "id",
                "features": {name: {"type": types[KINDS.get(name)], **missing} for name in case.names},
            },
            "label": {"id": "id", "value": "y", "wait": "1000s", "correct_for": "100s"},
            "model": case.model,
            "learning": {} if case.task == "number" else {"quarantine": quarantine},
        }
    )


def _lived(case: Case, pipeline: Pipeline, burst: range) -> list[str]:
    """What the shards publish, and their states' digests on the way.

    Args:
        burst: of the events, those whose label comes wrong; only one shard lives so long.
    """
    source, told = random.Random(case.seed + 0.75), []
    for partition in range(1 if burst else 4):
        events = Plain(case) if burst else Events(case)
        shard, waiting = Shard(pipeline, partition), deque[tuple[int, Any]]()
        labels = 0
        for number in range(case.steps):
            at = NOW_MS + number * 1_000
            values = events.values()
            origin = Source("p.events", partition, number, at, None, None)
            told += _published(shard, Event(origin, at, at, f"e{number}", values))
            truth = events.label(values)
            if number in burst:
                truth = not truth
            waiting.append((number, truth))
            while waiting and source.random() < (0.9 if len(waiting) > 5 else 0.6):
                of, truth = waiting.popleft()
                origin = Source("p.labels", partition, labels, at, None, None)
                labels += 1
                told += _published(shard, Label(origin, at, at, f"e{of}", truth))
            if source.random() < 2 / case.steps:
                frozen = dump(shard)
                told.append(frozen_digest(pipeline, partition, frozen).hex())
                if source.random() < 0.5:
                    shard = load(pipeline, partition, frozen)
        told.append(frozen_digest(pipeline, partition, dump(shard)).hex())
        told.append(repr(sorted(shard.counts.items())))
    return told


def _published(shard: Shard, record: Event | Label) -> list[str]:
    return [repr(output) for output in step(shard, record, Oracle()).outputs]


def _same(case: Case, pipeline: Pipeline, patch: pytest.MonkeyPatch, burst: range = range(0)) -> list[str]:
    """What both publish."""
    ours = _lived(case, pipeline, burst)
    with patch.context() as river:
        river.setattr(learner, "Walk", River)
        theirs = _lived(case, pipeline, burst)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one == other, (number, case)
    return ours


def _often(patch: pytest.MonkeyPatch) -> None:
    """Copies are made so often that some are needed."""
    patch.setattr(learner, "COPY_EVERY", 16)
    patch.setattr(learner, "SINCE_MIN", 10)
    patch.setattr(learner, "SINCE_MAX", 20)


def _compared(first: int, count: int, patch: pytest.MonkeyPatch) -> None:
    _often(patch)
    scores = 0
    for seed in range(first, first + count):
        made = case_of(seed)
        case = replace(made, model=made.model.replace(", 'nothing'", ""))
        try:
            pipeline = _pipeline(case)
        except PipelineError as error:
            unused = {problem.path for problem in error.problems}
            names = tuple(name for name in case.names if f"event.features.{name}" not in unused)
            if names in ((), case.names):  # the model is not for the task
                continue
            case = replace(case, names=names)
            pipeline = _pipeline(case)
        scores += sum(text.startswith("Score(") for text in _same(case, pipeline, patch))
    assert scores > 50 * count


def test_a_few_pipelines_are_served_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    _compared(5_000, 4, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(5_010, 5_130, 40))
def test_pipelines_are_served_alike(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _compared(first, 40, monkeypatch)


LONG = {
    "one rate": "StandardScaler() | LogisticRegression()",
    "own rates": "StandardScaler() | LogisticRegression(optimizer=optim.AdaGrad(0.1))",
    "tree": "StandardScaler() | HoeffdingTreeClassifier(grace_period=50)",
    "words": "(Select('a', 'b') | StandardScaler()) + (Select('shop') | OneHotEncoder(drop_zeros=True)) | "
    "LogisticRegression(optimizer=optim.AdaGrad(0.1))",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_what_the_quarantine_takes_back_is_taken_back_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicion, "BEGIN", 2_000)
    names = ("a", "b", "shop") if name == "words" else ("a", "b")
    case = Case(77, LONG[name], "binary", names, may_omit=False, calm=True, steps=4_500)
    told = _same(case, _pipeline(case), monkeypatch, burst=range(3_800, 4_200))
    counted = [text for text in told if text.startswith("[('")]
    assert any("quarantine_opened" in text for text in counted), counted
