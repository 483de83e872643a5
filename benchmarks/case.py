"""What is measured: three pipelines, and records for them.

Nine numeric features and a label that follows a noisy linear rule, with its label 1,000 events later. Made up from a
seed, so that no data set is needed; the cost of a pair does not depend on what the numbers say. The second pipeline has
six history features more, of 2,000 cards that have an event every 20 s each. The third is of mixed data, with the model
that `init` writes: six numbers, two columns of few values, one of 5,000.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.ingest.table import Sample

FEATURES = tuple(f"x{number}" for number in range(1, 10))
METRICS = ("Accuracy", "LogLoss")
MODEL = "StandardScaler() | LogisticRegression()"
PARTITIONS = 4
SHARDS = 1  # what a new pipeline begins with: one model for all partitions
CARDS = 2_000
HISTORY: dict[str, dict[str, str]] = {
    "count_1m": {"history": "count", "by": "card", "over": "1m"},
    "count_5m": {"history": "count", "by": "card", "over": "5m"},
    "mean_5m": {"history": "mean(x1)", "by": "card", "over": "5m"},
    "mean_15m": {"history": "mean(x1)", "by": "card", "over": "15m"},
    "since": {"history": "since_last", "by": "card"},
    "label_5m": {"history": "label_mean", "by": "card", "over": "5m"},
}
NUMBERS = FEATURES[:6]
COLUMNS = ("shop", "country")
MIXED_MODEL = (
    f"((Select({', '.join(map(repr, NUMBERS))}) | StandardScaler()) + "
    f"(Select({', '.join(map(repr, COLUMNS))}) | OneHotEncoder(drop_zeros=True)) + "
    "(Select('merchant') | FeatureHasher(n_features=1024))) | LogisticRegression(optimizer=AdaGrad(0.1))"
)
RUNGS: dict[str, dict[str, Any]] = {
    "untrained": {"labels_min": 100, "action": "flag"},
    "range": {"min": 1e-9, "max": 0.999999, "action": "clip"},
    "step": {"difference_max": 0.99, "action": "fallback"},
    "unfamiliar": {"score_max": 0.999, "action": "flag"},
    "share": {"positive_max": 0.9, "action": "flag"},
}
"""Five rungs of a guard, of which next to nothing trips once the model has learned."""
Kind: TypeAlias = Literal["numbers", "history", "mixed", "mixed history"]
STEP_MS = 10
LABEL_DELAY_MS = 1_000 * STEP_MS


def pipeline(name: str, events: str | None = None, labels: str | None = None, *, kind: Kind = "numbers") -> Pipeline:
    """The pipeline that Driftline runs.

    Args:
        name: its own topics are called after it, so a fresh name is a fresh start.
        events, labels: input topics to share with others.
        kind: `history` is with features from the past of each card.
    """
    features: dict[str, Any] = dict.fromkeys(FEATURES, "number")
    document: dict[str, Any] = {
        "pipeline": name,
        "task": "binary",
        "topics": {"events": events, "labels": labels},
        "event": {"id": "id", "features": features},
        "label": {"id": "id", "value": "label", "wait": "1d"},
        "model": MODEL,
        "metrics": list(METRICS),
        "delivery": "exactly_once",
    }
    if kind == "mixed":
        strings = dict.fromkeys((*COLUMNS, "merchant"), "string")
        document["event"] = {"id": "id", "features": dict.fromkeys(NUMBERS, "number") | strings}
        document["model"] = MIXED_MODEL
    elif kind == "history":
        document["event"] = {"id": "id", "context": {"card": "key"}, "features": features | HISTORY}
    return parse_pipeline(document)


def samples(count: int, seed: int = 7, *, kind: Kind = "numbers") -> Iterator[Sample]:
    """Rows of the recent past, one each `STEP_MS`.

    Args:
        kind: of the pipeline; a field that it does not declare would cost it the fast reading.
    """
    source = random.Random(seed)
    gauss = source.gauss
    weights = [gauss(0, 1) for _ in FEATURES]
    start_ms = int(time.time() * 1000) - count * STEP_MS - LABEL_DELAY_MS
    for number in range(count):
        values = [round(gauss(5, 2), 4) for _ in FEATURES]
        rule = sum(weight * (value - 5) for weight, value in zip(weights, values, strict=True)) + gauss(0, 1)
        event: dict[str, Any] = {"id": number, **dict(zip(FEATURES, values, strict=True))}
        if kind in ("mixed", "mixed history"):
            event = {"id": number, **dict(zip(NUMBERS, values, strict=False))}
            event |= {"shop": f"s{number % 7}", "country": f"c{number % 29}", "merchant": f"m{number * 7919 % 5_003}"}
        if kind in ("history", "mixed history"):
            event["card"] = number * 7919 % 10_007 % CARDS
        yield Sample(number, event, int(rule > 0), start_ms + number * STEP_MS)
