"""Budgets of alarms in simulations: which are declared, and what must be true of every decision under one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from driftline.core.output import Decided, Output, Score
from driftline.core.pipeline import Pipeline


def declare(rng: Random, document: dict[str, Any]) -> None:
    """A budget that is soon used up, over periods of which some end while the simulation lasts."""
    if document["task"] != "binary" or rng.random() < 0.7:
        return
    document["decision"] = {"budget": rng.choice((3, 4, 8)), "per": rng.choice(("300ms", "1s", "1d"))}
    guard = document.get("guard", {})
    guard.pop("share", None)
    if not set(guard) - {"fallback", "keys_max", "by"}:
        document.pop("guard", None)


def deployed(document: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The decision that another deployment makes, where the first one did otherwise."""
    before = document.get("decision", {})
    if "budget" in before and number % 3:
        return {**before, "budget": before["budget"] + number % 2}
    return {"threshold": 0.3 + 0.1 * (number % 5)}


def faults_of(pipeline: Pipeline, number: int, outputs: Sequence[Output]) -> Iterator[str]:
    """What is wrong with decisions of one shard."""
    decision, shards = pipeline.decision, pipeline.shards or 1
    if decision is None or decision.budget is None:
        return
    most = len(range(number, decision.budget, shards))
    for one in outputs:
        if not isinstance(one, Score | Decided) or one.prediction.value is None:
            continue
        spent = one.budget
        if spent is None or one.decision is None or one.prediction.label is not one.decision:
            yield f"{one.output_id}: {one.prediction.label} was served, and decided as {one.decision} with {spent}"
        elif spent.most != most or (one.decision and spent.alarms > most):
            yield f"{one.output_id}: {spent.alarms} alarms of {spent.most}, where {most} may be"
        elif one.decision and spent.threshold is not None and one.prediction.value < spent.threshold:
            yield f"{one.output_id}: {one.prediction.value} is an alarm below {spent.threshold}"
