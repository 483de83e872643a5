"""Metrics of the whole way of a record equal River's own delayed evaluation, on a real stream.

One partition, produced beforehand; the time of a row is its number times a step, and no wait ends before its label.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from river import evaluate, metrics

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Source
from driftline.core.river.building import build_metric, build_model
from driftline.core.shard.state import Shard
from driftline.engine.fold import Folder

DATA = os.environ.get("DRIFTLINE_DATA")
NAMES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
STEP_MS = 1_000
ROWS = 45_312

pytestmark = pytest.mark.skipif(DATA is None, reason="set DRIFTLINE_DATA to a folder with elec2.csv.gz")


@cache
def rows() -> list[tuple[dict[str, float], float]]:
    with gzip.open(Path(DATA or "") / "elec2.csv.gz", "rt") as lines:
        return [({name: float(row[name]) for name in NAMES}, float(row["class"])) for row in csv.DictReader(lines)]


def delays(kind: str) -> list[int]:
    """In milliseconds, one a row."""
    rng = random.Random(11)
    draw: Callable[[], int] = {
        "zero": lambda: 0,
        "constant": lambda: 48 * STEP_MS,
        "random": lambda: rng.randrange(0, 300 * STEP_MS),
    }[kind]
    return [draw() for _ in rows()]


def pipeline(model: str, chosen: list[str], task: str = "binary") -> Pipeline:
    names = NAMES if task == "binary" else NAMES[:-1]
    return parse_pipeline(
        {
            "pipeline": "elec2",
            "task": task,
            "event": {"id": "id", "features": dict.fromkeys(names, "number")},
            "label": {"id": "id", "value": "y", "wait": "1000s"},
            "model": model,
            "metrics": chosen,
            "drift": "none",
        }
    )


def target(x: dict[str, float], y: float, task: str) -> tuple[dict[str, float], Any]:
    """A row for the task: its class, or the last feature as the number to tell."""
    return (x, y == 1) if task == "binary" else ({name: x[name] for name in NAMES[:-1]}, x["transfer"])


def driftline(chosen: Pipeline, late: list[int]) -> dict[str, float | None]:
    """All records fold; the labels lie in their topic in order of time."""
    shard, task = Shard(chosen, 0), chosen.task
    folder = Folder(shard, dict.fromkeys(("elec2.control", "elec2.labels", "elec2.events"), 0))
    events, known = [], []
    for number, ((row, cls), delay_ms) in enumerate(zip(rows(), late, strict=True)):
        x, y = target(row, cls, task)
        events.append((number * STEP_MS, orjson.dumps({"id": number, **x})))
        known.append((number * STEP_MS + delay_ms, orjson.dumps({"id": number, "y": y})))
    known.sort(key=lambda pair: pair[0])
    for topic, records in (("elec2.labels", known), ("elec2.events", events)):
        folder.receive(topic, [Source(topic, 0, at, ms, None, value) for at, (ms, value) in enumerate(records)])
    while folder.waiting:
        folder.fold([True] * 3, 2_000, lambda _: False)
    counts = {name: count for name, count in shard.counts.items() if name != "quarantine_opened"}  # it alerts only
    assert counts == {"scored": ROWS, "joined": ROWS, "learned": ROWS}
    return shard.evaluation.values()


def river(chosen: Pipeline, late: list[int]) -> dict[str, float]:
    """The same by `progressive_val_score`."""
    moments, spans = itertools.count(0, STEP_MS), iter(late)
    together = metrics.base.Metrics([build_metric(expression, chosen) for expression in chosen.metrics])
    evaluate.progressive_val_score(
        _pairs(chosen.task),
        build_model(chosen),
        together,
        moment=lambda x: next(moments),
        delay=lambda x, y: next(spans),
    )
    return {expression: metric.get() for expression, metric in zip(chosen.metrics, together.data, strict=True)}


def _pairs(task: str) -> Any:
    return (target(x, y, task) for x, y in rows())


@pytest.mark.parametrize("kind", ["zero", "constant", "random"])
@pytest.mark.parametrize(
    ("model", "chosen", "task"),
    [
        ("StandardScaler() | LogisticRegression()", ["Accuracy", "F1", "LogLoss", "ROCAUC"], "binary"),
        ("HoeffdingTreeClassifier()", ["Accuracy", "F1", "LogLoss", "ROCAUC"], "binary"),
        ("GaussianNB()", ["Accuracy", "F1", "LogLoss", "ROCAUC"], "binary"),
        ("StandardScaler() | LinearRegression()", ["MAE"], "regression"),
        ("HoeffdingTreeRegressor()", ["MAE"], "regression"),
    ],
)
def test_metrics_equal_those_of_rivers_delayed_evaluation(model: str, chosen: list[str], task: str, kind: str) -> None:
    here = pipeline(model, chosen, task)
    late = delays(kind)
    ours, theirs = driftline(here, late), river(here, late)
    assert {name: ours[name] for name in chosen} == pytest.approx(theirs, abs=5e-7, rel=1e-6)
