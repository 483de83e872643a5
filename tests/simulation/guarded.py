"""Guards in simulations: which are declared, and what must be true of every score under one.

`faults_of` knows the limits as the pipeline file has them, and nothing of `core.guard`: so a value that must not leave
shows, whoever folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from random import Random
from typing import Any

from msgspec import structs

from driftline.core.output import SECOND, Decided, Forecast, Output, Prediction, Score
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm
from tests.simulation import classes

HOW = ("learns_badly", "scores_badly")
SECOND_MODELS = {
    "binary": ("StandardScaler() | LogisticRegression(l2=0.1)", *(f"tests.support.poisonous:{how}" for how in HOW)),
    "regression": ("StandardScaler() | LinearRegression(l2=0.1)",),
}


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Limits within which many predictions lie, and many do not; any action, any fallbacks."""
    if rng.random() < 0.5:
        return
    if document["task"] == "multiclass":
        document["guard"] = classes.guard(rng)
        return
    numbers = document["task"] == "regression"
    scale = 1.0 if numbers else 0.25
    middle = 0.0 if numbers else 0.5
    guard: dict[str, Any] = {}
    fallbacks: list[Any] = rng.sample(["last_good", "last_value", {"seasonal": "1m"}], rng.choice((1, 2, 3)))
    if rng.random() < 0.5:
        fallbacks.append({"value": middle})
    actions = ("flag", "clip", "last_good", "fallback", "withhold")
    if rng.random() < 0.7:
        action = rng.choice(actions)
        guard["range"] = {"min": middle - scale * rng.random(), "max": middle + scale * rng.random(), "action": action}
    if rng.random() < 0.7:
        guard["step"] = {"difference_max": scale * rng.choice((0.3, 1.0)), "action": rng.choice(actions)}
        if numbers:
            guard["step"]["ratio_max"] = 3
    if rng.random() < 0.5 or not guard:
        guard["untrained"] = {
            "labels_min": rng.choice((1, 5, 20)),
            "action": rng.choice(("flag", "fallback", "withhold")),
        }
    if rng.random() < 0.3:
        guard["unfamiliar"] = {"score_max": rng.choice((0.3, 0.8)), "action": rng.choice(("flag", "fallback"))}
    if rng.random() < 0.3 and not numbers:
        guard["share"] = {"positive_max": 0.5, "window": "1s", "action": rng.choice(("flag", "fallback"))}
    guard["fallback"] = fallbacks
    if "step" in guard or len(fallbacks) > 1:
        guard["keys_max"] = rng.choice((1, 3, 100))
        if any(one == "last_value" or (isinstance(one, dict) and "seasonal" in one) for one in fallbacks):
            guard["by"] = rng.choice(([], ["z"]))
    if rng.random() < 0.4:
        rungs = [one for one in ("range", "step", "untrained") if one in guard]
        guard[rng.choice(rungs)]["action"] = "hold"
        then = rng.choice(("fallback", "withhold", "last_good"))
        guard["hold"] = {"wait": rng.choice(("300ms", "1s", "1h")), "then": then, "max": rng.choice((2, 100))}
    if rng.random() < 0.3:
        fallbacks.insert(rng.choice((0, 0, 1)), {"model": rng.choice(SECOND_MODELS[document["task"]])})
    if rng.random() < 0.2:
        guard["distribution"] = {"distance_max": rng.choice((0.2, 0.6)), "latest": 20, "action": "fallback"}
    document["guard"] = {name: value for name, value in guard.items() if value != []}


def decisions(rng: Random, document: dict[str, Any], length_s: float) -> list[tuple[float, dict[str, Any]]]:
    """When people decide about what is held, and how: of events and of rungs, in time, twice, or for nothing."""
    guard = document.get("guard", {})
    if "hold" not in guard:
        return []
    several = document["task"] == "multiclass"
    made = []
    for _ in range(rng.choice((0, 5, 10, 20))):
        decision = rng.choice(("approve", "edit", "refuse"))
        rungs = ("untrained", "distribution") if several else ("range", "step", "untrained")
        about: dict[str, Any] = {"rung": rng.choice(rungs)}
        if rng.random() < 0.7:
            about = {"event_id": rng.randrange(60)}
        value: dict[str, Any] = {"value": round(rng.random(), 3)} if decision == "edit" else {}
        if several and value:
            value = {"value": rng.choice((0, 2, "far", "another", 0.5))}
        made.append((rng.random() * length_s, {"command": "review", "decision": decision, **about, **value}))
    return made


def _decided(made: Prediction, score: Score) -> Prediction:
    """What a model said, with the label that was decided for its event: by a threshold, or by a budget of alarms."""
    return structs.replace(made, label=score.decision) if isinstance(score.decision, bool) else made


def faults_of(pipeline: Pipeline, outputs: Sequence[Output]) -> Iterator[str]:
    """What is wrong with scores under the pipeline's guard."""
    guard = pipeline.guard
    for score in outputs:
        if guard is None or not isinstance(score, Score | Decided):
            continue
        if score.guard != "approved":  # by a person, who may let anything pass
            yield from _beyond(guard, score)
        if isinstance(score.prediction.label, bool) and score.decision not in (None, score.prediction.label):
            yield f"{score.output_id}: {score.prediction.label} was served, and decided as {score.decision}"
        if not isinstance(score, Score):
            continue
        value, forecast = score.prediction.value, score.forecast
        second = [_decided(one.prediction, score) for one in score.unserved if one.name == SECOND]
        if score.instead == "second_model" and forecast is None and second != [score.prediction]:
            yield f"{score.output_id}: {score.prediction} was served, and the second model said {second}"
        if forecast is not None:
            yield from _ahead(score, forecast)
            continue
        trained = guard.untrained
        if (
            trained is not None
            and trained.action == "withhold"
            and score.learned < trained.labels_min
            and score.instead in (None, "last_good")  # a fallback of `finite`, the rung before, is of no model
            and value is not None
        ):
            yield f"{score.output_id}: {value} was served by a model that has learned {score.learned} labels"
        if (score.guard == "served") != (not score.tripped):
            yield f"{score.output_id}: {score.guard}, with {len(score.tripped)} rungs that tripped"
        if (score.guard == "fallback") != (score.instead is not None):
            yield f"{score.output_id}: {score.guard}, with {score.instead} instead"
        if score.guard in ("withheld", "held") and (value is not None or score.prediction.label is not None):
            yield f"{score.output_id}: {score.guard}, with {score.prediction}"


def _beyond(guard: GuardForm, score: Score | Decided) -> Iterator[str]:
    """What was served beyond the range; of a forecast, at every horizon and of its bounds."""
    limits, forecast = guard.range, score.forecast
    if limits is None or limits.action == "flag":
        return
    least = -inf if limits.min is None else limits.min
    most = inf if limits.max is None else limits.max
    values = [score.prediction.value]
    if forecast is not None:
        values += [*forecast.values, *forecast.lower, *forecast.upper]
    for value in values:
        if value is not None and not least <= value <= most:
            yield f"{score.output_id}: {value} was served, which is not between {least} and {most}"


def _ahead(score: Score, forecast: Forecast) -> Iterator[str]:
    """What is wrong with a forecast: its bounds are in order, and each horizon has a value or was withheld."""
    for low, value, high in zip(forecast.lower, forecast.values, forecast.upper, strict=True):
        if low is not None and high is not None and (value is None or not low <= value <= high):
            yield f"{score.output_id}: {value} was served, between {low} and {high}"
    states = forecast.guard or ("served",) * len(forecast.values)
    for state, value, instead in zip(states, forecast.values, forecast.instead or (None,) * len(states), strict=True):
        if (value is None) != (state in ("withheld", "held")):
            yield f"{score.output_id}: {state}, with the value {value}"
        if (state == "fallback") != (instead is not None):
            yield f"{score.output_id}: {state}, with {instead} instead"
