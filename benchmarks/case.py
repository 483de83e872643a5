"""What is measured: one pipeline, and records for it.

Nine numeric features and a label that follows a noisy linear rule, with its label 1,000 events later. Made up from a
seed, so that no data set is needed; the cost of a pair does not depend on what the numbers say.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.ingest.table import Sample

FEATURES = tuple(f"x{number}" for number in range(1, 10))
METRICS = ("Accuracy", "LogLoss")
MODEL = "StandardScaler() | LogisticRegression()"
PARTITIONS = 4
SHARDS = 1  # what a new pipeline begins with: one model for all partitions
STEP_MS = 10
LABEL_DELAY_MS = 1_000 * STEP_MS


def pipeline(name: str, events: str | None = None, labels: str | None = None) -> Pipeline:
    """The pipeline that Driftline runs.

    Args:
        name: its own topics are called after it, so a fresh name is a fresh start.
        events, labels: input topics to share with others.
    """
    document: dict[str, Any] = {
        "pipeline": name,
        "task": "binary",
        "topics": {"events": events, "labels": labels},
        "event": {"id": "id", "features": dict.fromkeys(FEATURES, "number")},
        "label": {"id": "id", "value": "label", "wait": "1d"},
        "model": MODEL,
        "metrics": list(METRICS),
        "delivery": "exactly_once",
    }
    return parse_pipeline(document)


def samples(count: int, seed: int = 7) -> Iterator[Sample]:
    """Rows of the recent past, one each `STEP_MS`."""
    source = random.Random(seed)
    gauss = source.gauss
    weights = [gauss(0, 1) for _ in FEATURES]
    start_ms = int(time.time() * 1000) - count * STEP_MS - LABEL_DELAY_MS
    for number in range(count):
        values = [round(gauss(5, 2), 4) for _ in FEATURES]
        rule = sum(weight * (value - 5) for weight, value in zip(weights, values, strict=True)) + gauss(0, 1)
        event = {"id": number, **dict(zip(FEATURES, values, strict=True))}
        yield Sample(number, event, int(rule > 0), start_ms + number * STEP_MS)
