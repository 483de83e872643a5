"""Labels that are corrected and retracted in simulations: what the pipeline says of them, and what users send."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from msgspec import structs

from tests.simulation.sent import Send

DROPPED = "the label was still held for its event"


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Half of the pipelines with labels let them be corrected or retracted, some for a short time or of few events."""
    label = document.get("label")
    if label is None or "recommend" in document or rng.random() < 0.5:
        return
    rules: dict[str, Any] = {}
    if rng.random() < 0.8:
        rules["second"] = "correct"
    if rng.random() < 0.5:
        rules["retract"] = True
    if "missing" in label and rng.random() < 0.7:
        rules["late"] = "correct"
    if rules:
        label |= rules | {
            "correct_for": rng.choice(("1h", "1h", "500ms")),
            "correct_max": rng.choice((2, 100, 100, 100)),
        }


def changed(rng: Random, sends: Sequence[Send], document: Mapping[str, Any]) -> list[Send]:
    """With labels that come again: with another value, the same one, or none any more."""
    rules = document.get("label", {})
    if not rules.keys() & {"second", "retract", "late"}:
        return list(sends)
    made = list(sends)
    for one in sends:
        if one.kind != "label" or not one.good or one.value is None or one.event_id >= 50_000 or rng.random() < 0.5:
            continue
        at_s, value = one.at_s, json.loads(one.value)
        for _ in range(rng.choice((1, 1, 2))):
            at_s += rng.random() * rng.choice((0.2, 1.5))
            truth = value["y"]
            again = round(truth + rng.choice((0, 1, -2)), 3) if document["task"] == "regression" else rng.choice((0, 1))
            value["y"] = None if rules.get("retract") and rng.random() < 0.3 else again
            stamp_ms = one.stamp_ms + round((at_s - one.at_s) * 1000)
            made.append(structs.replace(one, at_s=at_s, value=json.dumps(value), stamp_ms=stamp_ms, transaction=0))
            value["y"] = truth
    return made


def told(outcomes: Sequence[Mapping[str, Any]], *, ends: Sequence[str], unjoined: Sequence[str]) -> int:
    """How many labels these outcomes speak of: a label that was dropped while it was held has none of its own."""
    return sum(
        (one["kind"] in unjoined or (one["kind"] in ends and "label_time_ms" in one))
        + (one["kind"] in ("corrected", "retracted", "unretracted"))
        + (one.get("detail") == DROPPED)
        for one in outcomes
    )
