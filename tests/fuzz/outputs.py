"""Lets models say anything, and looks at what is served: `python -m tests.fuzz.outputs --inputs 1000000 --seed 7`.

A million predictions that are NaN, infinite, huge, negative, of classes never seen or no numbers at all, through each
task, under guards of every kind. Not one value beyond the limits is served, and every prediction is accounted for:
served, flagged, clipped, replaced, held, withheld, or rejected since the model raised. Ends with 0 and these figures,
or with 1 and the life that broke something; Ctrl-C ends it early, with the figures so far.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import isfinite
from random import Random
from typing import Any

import orjson

from driftline.codec.encode import Encoder
from driftline.core.output import Decided, Outcome, Output, Prediction, Rejected, Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.pipeline.guard import GuardForm
from driftline.core.record import Control, Event, FeatureValue, Label, LabelValue, Record, Ruling, Source
from driftline.core.shard.state import Shard
from driftline.core.slate import reward_text
from driftline.core.state.freeze import dump, load
from driftline.core.task import TASK_NAMES
from tests.simulation.guarded import faults_of
from tests.support.erratic import TEMPERS
from tests.support.folding import step
from tests.support.small import NOW_MS

LIFE = 2_000  # predictions of one pipeline
ITEMS = tuple("abcde")
STEP_MS = 60_000
MODELS = {
    "binary": ("classifier",), "multiclass": ("namer",), "regression": ("regressor",), "anomaly": ("detector",),
    "forecast": ("regressor", "forecaster"), "recommend": ("regressor",),
}  # fmt: skip
_ACTIONS = ("clip", "last_good", "fallback", "withhold", "hold", "flag")
_WITHOUT_CLIP = tuple(one for one in _ACTIONS if one != "clip")


class ServedError(Exception):
    """Something was served that must not be, or is not accounted for."""


def pipeline_of(task: str, rng: Random) -> Pipeline:
    """A pipeline whose model says anything, under a guard that was drawn."""
    model = rng.choice(MODELS[task])
    document: dict[str, Any] = {
        "pipeline": "p",
        "task": task,
        "event": {"id": "id", "features": {"x": "number", "key": "string"}},
        "label": {"id": "id", "value": "y", "wait": "10m"},
        "model": f"tests.support.erratic:{model}",
        "params": {"temper": rng.choice(sorted(TEMPERS))},
        "drift": "none",
        "limits": {"model_error_max": 1_000},
    }
    if task == "forecast":
        del document["label"]
        horizons = rng.choice((1, 3, 6))
        document["forecast"] = {
            "by": "key",
            "target": "x",
            "step": "1m",
            "horizons": horizons,
            "season": 3,
            "window": 50,
        }
    elif task == "recommend":
        policy, size = rng.choice(("epsilon_greedy", "softmax", "thompson")), rng.choice((1, 3))
        policy = "epsilon_greedy" if policy == "thompson" else policy
        document["label"]["item"] = "item"
        document["recommend"] = {"catalogue": list(ITEMS), "slate": size, "policy": policy}
    if task == "anomaly":
        document["event"]["features"] = {"x": "number"}
    if task != "recommend":
        document["guard"] = _guard(task, model, rng)
    return parse_pipeline(document)


def _guard(task: str, model: str, rng: Random) -> dict[str, Any]:
    share = task == "binary"
    low, high = (0.2, 0.8) if share else (rng.choice((-5.0, 0.0)), rng.choice((12.0, 50.0)))
    guard: dict[str, Any] = {}
    if rng.random() < 0.4 or task == "multiclass":
        guard["untrained"] = {"labels_min": rng.choice((1, 20)), "action": rng.choice(_WITHOUT_CLIP)}
    if task != "multiclass":
        guard["range"] = {"min": low, "max": high, "action": rng.choice(_ACTIONS[:-1])}
        if rng.random() < 0.5:
            guard["step"] = {"difference_max": 0.2 if share else 5.0, "action": rng.choice(_ACTIONS)}
        if task == "forecast" and rng.random() < 0.5:
            guard["width"] = {"max": rng.choice((5.0, 50.0)), "action": rng.choice(_WITHOUT_CLIP)}
    if rng.random() < 0.2:
        guard["unfamiliar"] = {"score_max": rng.choice((0.5, 0.9)), "action": rng.choice(_WITHOUT_CLIP)}
    if share and rng.random() < 0.2:
        guard["share"] = {"positive_max": rng.choice((0.1, 0.5)), "action": rng.choice(_WITHOUT_CLIP)}
    if rng.random() < 0.3:
        limits = {"distance_max": rng.choice((0.1, 0.5)), "latest": 20}
        guard["distribution"] = {**limits, "action": rng.choice(_WITHOUT_CLIP)}
    fallbacks: list[Any] = ["last_good"]
    if task not in ("multiclass", "anomaly"):
        fallbacks += ["last_value", "seasonal" if task == "forecast" else {"seasonal": "5m"}]
    if rng.random() < 0.6:
        fallbacks.append({"model": f"tests.support.erratic:second_{model}"})
    fallbacks = rng.sample(fallbacks, rng.randint(1, len(fallbacks)))
    if rng.random() < 0.5:
        fallbacks.append({"value": "a" if task == "multiclass" else 0.5 if share else 11.0})
    guard["fallback"] = fallbacks
    if any(isinstance(rung, dict) and rung.get("action") == "hold" for rung in guard.values()):
        then = rng.choice(("fallback", "withhold", "last_good"))
        guard["hold"] = {"wait": rng.choice(("30s", "5m")), "then": then, "max": rng.choice((3, 1_000))}
    return guard


class Hostile:
    """One shard and its records.

    Attributes:
        made: what became of each prediction, by `guard`; `rejected` where the model raised.
        asked: predictions that were asked for.
    """

    def __init__(self, task: str, seed: int) -> None:
        self._rng = Random(f"{task} {seed}")
        self.pipeline = pipeline_of(task, self._rng)
        self._shard = Shard(self.pipeline, 0)
        self._encoder = Encoder(self.pipeline, 0)
        self._offset = 0
        self._now_ms = NOW_MS
        self.made: Counter[str] = Counter()
        self.decided: Counter[str] = Counter()
        self.asked = 0
        self._steps = Steps(self.pipeline)

    def live(self, count: int) -> None:
        """Ask for so many predictions.

        Raises:
            ServedError: a value beyond the limits was served, or a prediction is not accounted for.
        """
        for number in range(count):
            self._now_ms += STEP_MS if self.pipeline.forecast is not None else self._rng.choice((0, 100, 20_000))
            self._event(number)
            for record in self._others(number):
                self._take(record)
            if number % 500 == 499:
                self._shard = load(self.pipeline, 0, dump(self._shard))
        held = self.made["held"]
        if self.decided.total() + len(self._shard.kept.held) != held:
            raise ServedError(f"{held} were held, {self.decided} decided, {len(self._shard.kept.held)} wait")
        if self.made.total() != self.asked:
            raise ServedError(f"{self.made} of {self.asked} predictions")

    def _event(self, number: int) -> None:
        x = self._rng.gauss(10, 1)
        features: tuple[FeatureValue, ...] = (x, self._rng.choice("ab"), None)[: len(self.pipeline.event.features)]
        made = self._take(Event(self._source("events"), self._now_ms, self._now_ms, number, features))
        self.asked += 1
        scores = [one for one in made if isinstance(one, Score)]
        raised = [one for one in made if isinstance(one, Rejected) and one.reason == "model_error"]
        if len(scores) + len(raised) != 1:
            raise ServedError(f"event {number} made {len(scores)} scores, and was rejected {len(raised)} times")
        self.made[scores[0].guard if scores else "rejected"] += 1

    def _others(self, number: int) -> Iterator[Record]:
        """A label, and a decision of a person, now and then."""
        rng = self._rng
        if self.pipeline.label is not None and rng.random() < 0.6:
            about = max(0, number - rng.choice((0, 1, 5)))
            yield Label(self._source("labels"), self._now_ms, self._now_ms, about, self._truth())
        if self.pipeline.guard is not None and self.pipeline.guard.holds and rng.random() < 0.2:
            decision = rng.choice(("approve", "edit", "refuse"))
            value = rng.choice((0.5, 11.0, 1e9)) if decision == "edit" else None
            ruling = Ruling(decision, max(0, number - rng.choice((0, 1, 3))), value=value)  # type: ignore[arg-type]
            yield Control(self._source("control"), self._now_ms, "review", ruling=ruling)

    def _truth(self) -> LabelValue:
        match self.pipeline.task:
            case "binary" | "anomaly":
                return self._rng.random() < 0.5
            case "multiclass":
                return self._rng.choice("ab")
            case "recommend":
                return reward_text(self._rng.choice(ITEMS), self._rng.random(), 100, 1e9)
        return self._rng.gauss(10, 1)

    def _source(self, topic: str) -> Source:
        self._offset += 1
        return Source(f"p.{topic}", 0, self._offset, self._now_ms, b"k", b"")

    def _take(self, record: Record) -> list[Output]:
        made = step(self._shard, record)
        for fault in faults_of(self.pipeline, made):
            raise ServedError(fault)
        for one in made:
            if isinstance(one, Score | Decided):
                _check(one, self.pipeline)
            self._steps.see(one)
            if isinstance(one, Decided):
                self.decided[one.guard] += 1
            orjson.loads(self._encoder.encode(one).value or b"null")
        return made


def _check(one: Score | Decided, pipeline: Pipeline) -> None:
    """What must be true of every served prediction, whatever its guard."""
    prediction, forecast = one.prediction, one.forecast
    shares = list((prediction.probabilities or {}).values())
    numbers = [prediction.value, *shares]
    if forecast is not None:
        numbers += [*forecast.values, *forecast.lower, *forecast.upper]
    if not all(number is None or isfinite(number) for number in numbers):
        raise ServedError(f"{one.output_id}: {prediction} was served")
    if pipeline.task == "recommend" and isinstance(one, Score):
        items = list(prediction.probabilities or {})
        if not set(items) <= set(ITEMS) or not all(0 < share <= 1 for share in shares):
            raise ServedError(f"{one.output_id}: {prediction} is no slate")
    label = prediction.label
    if label is not None and not isinstance(label, bool | int | float | str):
        raise ServedError(f"{one.output_id}: {label!r} was served, which is no class")
    if one.guard in ("withheld", "held") and forecast is None and prediction != Prediction():
        raise ServedError(f"{one.output_id}: {one.guard}, with {prediction}")
    if isinstance(one, Score) and pipeline.guard is not None:
        for fault in _let_through(one, pipeline.guard):
            raise ServedError(f"{one.output_id}: {fault}")


def _let_through(score: Score, guard: GuardForm) -> Iterator[str]:
    """What a rung should have stopped."""
    stopped = [trip.rung for trip in score.tripped if trip.action not in ("flag", "clip")]
    passed = score.guard in ("served", "flagged", "clipped") and score.prediction != Prediction()
    if stopped and passed:
        yield f"{score.guard}, though {stopped} tripped"
    trained = guard.untrained
    if trained is not None and trained.action != "flag" and passed and score.learned < trained.labels_min:
        yield f"{score.guard}, by a model that has learned {score.learned} labels"
    width, forecast = guard.width, score.forecast
    if width is None or width.max is None or width.action == "flag" or forecast is None:
        return
    for low, high in zip(forecast.lower, forecast.upper, strict=True):
        if low is not None and high is not None and high - low > width.max:
            yield f"an interval from {low} to {high} was served"


class Steps:
    """Whether what a model says is near enough to the last value that was accepted, or to the last label: with one
    series, `difference_max` alone, and no person who accepts anything."""

    def __init__(self, pipeline: Pipeline) -> None:
        guard = pipeline.guard
        rung = None if guard is None or guard.holds or pipeline.forecast is not None else guard.step
        self._most = None if rung is None or rung.action == "flag" else rung.difference_max
        self._numbers = pipeline.task == "regression"
        self._accepted: float | None = None
        self._labelled: float | None = None

    def see(self, one: Output) -> None:
        """One more output.

        Raises:
            ServedError: a step that is too large was served.
        """
        most = self._most
        if most is None:
            return
        if isinstance(one, Outcome) and self._numbers and one.kind in ("joined", "corrected", "failed"):
            self._labelled = one.label  # type: ignore[assignment]  # a number, of this task
        if not isinstance(one, Score) or one.prediction.value is None:
            return
        value = one.prediction.value
        lasts = [last for last in (self._accepted, self._labelled) if last is not None]
        by_model = one.instead in (None, "last_good", "second_model")
        if by_model and lasts and not any(last - most <= value <= last + most for last in lasts):
            raise ServedError(f"{one.output_id}: {value} was served after {lasts}")
        if one.instead is None and all(trip.action == "clip" for trip in one.tripped):
            self._accepted = value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz.outputs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="predictions, over all tasks")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--task", choices=TASK_NAMES, help="one of them; all without")
    asked = parser.parse_args(arguments)
    tasks = [asked.task] if asked.task else list(TASK_NAMES)
    made: dict[str, Counter[str]] = {task: Counter() for task in tasks}
    done, life = 0, 0
    with suppress(KeyboardInterrupt):  # counts what there is
        while done < asked.inputs:
            task, count = tasks[life % len(tasks)], min(LIFE, asked.inputs - done)
            one = Hostile(task, asked.seed * 1_000_003 + life)
            try:
                one.live(count)
            except Exception as error:
                print(f"--seed {asked.seed}: life {life} ({task}): {error!r}\n{one.pipeline.resolved()}")
                raise
            made[task] += one.made
            done, life = done + count, life + 1
    for task, counts in made.items():
        print(
            f"{task:11} {counts.total():9,}  " + ", ".join(f"{count:,} {what}" for what, count in counts.most_common())
        )
    print(f"{done:,} predictions, seed {asked.seed}, {life} lives: none beyond the limits, all accounted for")
    return 0 if done == asked.inputs else 130


if __name__ == "__main__":
    sys.exit(main())
