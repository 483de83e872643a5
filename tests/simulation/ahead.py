"""Forecasts in simulations: which are declared, and what must be true of what is published under one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from tests.simulation.past import HISTORIES


def declare(rng: Random, document: dict[str, Any]) -> None:
    """Now and then the pipeline forecasts `x`: in few steps, of one series or several, some of them let go."""
    if rng.random() > 0.12 or "poisonous" in document["model"]:
        return
    del document["label"]
    document.pop("guard", None)
    event = document["event"]
    features: dict[str, Any] = event["features"]
    for name in [one for one in features if "label" in str(HISTORIES.get(one, ""))]:
        del features[name]
    by = rng.choice(([], ["card"], ["card", "shop"]))
    used = {key for key in ("card", "shop") if key in by or any(key in str(features[name]) for name in features)}
    event.pop("context", None)
    if used:
        event["context"] = {key: "key" for key in ("card", "shop") if key in used}
    if not any(name in HISTORIES for name in features):
        event.pop("keys_max", None)
    season = rng.choice((1, 2, 3))
    models = ["StandardScaler() | LinearRegression()", f"SNARIMAX(p=1, d=0, q=1, m={season}, sd=1)"]
    models.append(f"SeasonalRegression(half_life={rng.choice((20, 200))}, mixed={rng.choice((True, False))})")
    document |= {
        "task": "forecast",
        "forecast": {
            "by": by,
            "target": "x",
            "step": rng.choice(("10ms", "50ms", "300ms")),
            "horizons": rng.choice((1, 2, 4)),
            "season": season,
            "window": 50,
            "series_max": rng.choice((1, 3, 100)),
            "transform": rng.choice(("none", "none", "sqrt", "log")),
        },
        "model": rng.choice(models),
        "metrics": ["MAE"],
    }
    cycles = [2] if season == 3 and rng.random() < 0.5 else []
    document["forecast"] |= {"memory": rng.choice((1, 2, 8)), "cycles": cycles}
    if rng.random() < 0.6:
        document["guard"] = _guard(rng)


def _guard(rng: Random) -> dict[str, Any]:
    """Limits that many forecasts pass, and many do not."""
    actions = ("flag", "clip", "last_good", "fallback", "withhold", "hold")
    guard: dict[str, Any] = {}
    if rng.random() < 0.8:
        guard["range"] = {"min": -rng.random(), "max": rng.random(), "action": rng.choice(actions)}
    if rng.random() < 0.4:
        guard["step"] = {"difference_max": rng.choice((0.3, 1.0)), "action": rng.choice(actions)}
    if rng.random() < 0.3 or not guard:
        guard["width"] = {"max": rng.choice((0.5, 2.0)), "action": rng.choice(("flag", "fallback", "withhold"))}
    if rng.random() < 0.3:
        guard["untrained"] = {"labels_min": rng.choice((1, 5)), "action": rng.choice(("flag", "withhold", "hold"))}
    guard["fallback"] = rng.sample(["seasonal", "last_value", "last_good"], rng.choice((1, 2, 3)))
    if rng.random() < 0.5:
        guard["fallback"].append({"value": 0.0})
    if rng.random() < 0.3:
        models = ("SeasonalRegression(half_life=50)", "SeasonalNaive()", "StandardScaler() | LinearRegression(l2=0.1)")
        guard["fallback"].insert(0, {"model": rng.choice(models)})
    if rng.random() < 0.3:
        action = rng.choice(("flag", "fallback"))
        guard["distribution"] = {"distance_max": rng.choice((0.2, 0.6)), "latest": 20, "action": action}
    if any(rung.get("action") == "hold" for rung in guard.values() if isinstance(rung, dict)):
        then = rng.choice(("fallback", "withhold", "last_good"))
        guard["hold"] = {"wait": rng.choice(("300ms", "1s", "1h")), "then": then, "max": rng.choice((2, 100))}
    return guard


def faults_of(
    events: Sequence[Any], bad: int, outcomes: Sequence[Mapping[str, Any]], scores: Counter[Any], rejected: int
) -> Iterator[str]:
    """What is wrong with what came of a shard's observations: each is settled once or rejected, and forecast once at
    most.

    Args:
        events: ids of the good ones, repeats too.
        bad: how many records cannot be read.
    """
    settled = Counter(one["event_id"] for one in outcomes)
    if twice := [name for name, count in settled.items() if count > 1]:
        yield f"settled twice: {twice}"
    if more := settled.keys() - set(events):
        yield f"settled, and never sent: {sorted(more)}"
    if len(outcomes) + rejected != len(events) + bad:
        yield f"{len(outcomes)} settled and {rejected} rejected of {len(events)} events and {bad} bad records"
    if any(count > 1 for count in scores.values()) or scores.keys() - settled.keys():
        yield f"forecast twice, or not settled: {scores}"
    for one in outcomes:
        judged = one.get("forecast")
        if judged is None:
            continue
        if judged["horizons"] != sorted(set(judged["horizons"])):
            yield f"horizons {judged['horizons']} of event {one['event_id']}"
        for low, value, high in zip(judged["lower"], judged["values"], judged["upper"], strict=True):
            if low is not None and not low <= value <= high:
                yield f"event {one['event_id']}: {value} is not within {low} and {high}"
