"""Tables of what detectors find and what reactions gain, made by folding streams through a shard.

    python -m tests.support.detectors TABLE [--data FOLDER]

Tables: detectors, alarms, family, reactions. With `--data` (see `driftline` README: data sets are not part of the
repository) the streams from files are in them too. Seeds are fixed here, before any result was looked at.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any

from river import datasets

from app.core.build import build_detector
from app.core.drift import Drift, DriftMonitors
from app.core.pipeline import Pipeline, parse_pipeline
from app.core.record import Event, Label, Source
from app.core.shard import Shard, step

synth: Any = datasets.synth  # River is untyped
Row = tuple[dict[str, float], Any]

SEEDS = range(10)
MODELS = {
    "LR": "StandardScaler() | LogisticRegression()",
    "NB": "GaussianNB()",
    "HT": "HoeffdingTreeClassifier()",
    "HAT": "HoeffdingAdaptiveTreeClassifier(seed=42)",
}
DETECTORS = (
    "ADWIN(delta=0.002)",
    "PageHinkley()",
    "KSWIN()",
    "DDM()",
    "EDDM()",
    "FHDDM()",
    "HDDMA()",
    "HDDMW()",
)
SEA_CHANGES = (12_500, 25_000, 37_500)


# -- streams


def rows_of(folder: Path, name: str, label: str) -> list[Row]:
    """A file of numbers, row by row."""
    with gzip.open(folder / f"{name}.csv.gz", "rt") as lines:
        made = []
        for row in csv.DictReader(lines):
            y = int(float(row.pop(label))) == 1
            made.append(({key: float(value) for key, value in row.items()}, y))
    return made


def sea_switch(seed: int, width: int) -> list[Row]:
    """SEA concepts 0 and 2, 10,000 rows with the change at 5,000; a tenth of the labels are noise."""
    stream = synth.ConceptDriftStream(
        stream=synth.SEA(variant=0, noise=0.1, seed=seed),
        drift_stream=synth.SEA(variant=2, noise=0.1, seed=seed + 100),
        position=5_000,
        width=width,
        seed=seed,
    )
    return _rows(stream.take(10_000))


def sine(seed: int) -> list[Row]:
    """Sine's functions 0, 1, 2: 8,000 rows each."""
    made: list[Row] = []
    for function in range(3):
        made += _rows(synth.Sine(classification_function=function, seed=10 * seed + function).take(8_000))
    return made


def stationary(seed: int, count: int) -> list[Row]:
    """A stream that does not change: SEA, Agrawal's numbers, Sine and random trees in turn."""
    kinds: list[Callable[[], Any]] = [
        lambda: synth.SEA(variant=seed % 4, noise=0.1, seed=seed),
        lambda: synth.Sine(classification_function=seed % 4, seed=seed, has_noise=True),
        lambda: synth.RandomRBF(seed_model=seed, seed_sample=seed, n_classes=2, n_features=5),
        lambda: synth.Mixed(classification_function=seed % 2, seed=seed),
        lambda: synth.Waveform(seed=seed) if False else synth.Hyperplane(seed=seed, n_features=5, mag_change=0.0),
    ]
    return _rows(kinds[seed % len(kinds)]().take(count))


def _rows(stream: Iterable[Any]) -> list[Row]:
    return [({str(key): float(value) for key, value in x.items()}, bool(y)) for x, y in stream]


# -- through a shard


def pipeline_of(names: Sequence[str], model: str, drift: Mapping[str, Any]) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "table",
            "task": "binary",
            "event": {"id": "id", "features": dict.fromkeys(names, "number")},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
            "metrics": ["Accuracy"],
            "drift": dict(drift),
        }
    )


class Run:
    """A stream folded through a shard, each label right after its event.

    Attributes:
        found: every drift, with the number of the label.
        errors: of the served predictions, 1 for wrong.
    """

    def __init__(self, rows: Sequence[Row], model: str, drift: Mapping[str, Any]) -> None:
        self.pipeline = pipeline_of(list(rows[0][0]), model, drift)
        self.shard = Shard(self.pipeline, 0)
        self.found: list[tuple[int, Drift]] = []
        self.errors: list[int] = []
        monitors, number = self.shard.monitors, 0
        watch = monitors.on_label

        def recorded(y_true: Any, prediction: Any) -> Sequence[Drift]:
            changes = watch(y_true, prediction)
            self.errors.append(0 if prediction.label == y_true else 1)
            self.found += [(number, change) for change in changes]
            return changes

        monitors.on_label = recorded  # type: ignore[method-assign]  # to see what is found
        for number, (x, y) in enumerate(rows, 1):
            at = number * 1_000
            source = Source("table.events", 0, number, at, None, None)
            step(self.shard, Event(source, at, at, number, tuple(x.values())))
            source = Source("table.labels", 0, number, at, None, None)
            step(self.shard, Label(source, at, at, number, y))

    @property
    def accuracy(self) -> float:
        return float(self.shard.evaluation.values()["Accuracy"] or 0)

    @property
    def reactions(self) -> int:
        return sum(count for name, count in self.shard.counts.items() if name.startswith("reaction_"))


def by_hand(expression: str, pipeline: Pipeline, errors: Sequence[int]) -> list[int]:
    """Where the detector alone finds a drift; FHDDM reads 1 as right."""
    detector, found = build_detector(expression, pipeline), []
    for number, wrong in enumerate(errors, 1):
        detector.update(1 - wrong if expression.startswith("FHDDM") else wrong)
        if detector.drift_detected:
            found.append(number)
    return found
