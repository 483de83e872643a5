"""Made-up histories and the pipelines that read them."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from math import exp
from pathlib import Path
from typing import Any

import orjson

from driftline.core.pipeline import Pipeline, parse_pipeline

LOGISTIC = "StandardScaler() | LogisticRegression()"
FEATURES = ("x1", "x2", "x3")
START_MS = 1_700_000_000_000


def rows(count: int, seed: int = 3) -> list[tuple[float, float, float, int]]:
    """Three numbers and a label that follows them; the rule turns after two thirds."""
    source = random.Random(seed)
    made = []
    for number in range(count):
        x1, x2, x3 = (round(source.gauss(0, 1), 4), round(source.gauss(5, 2), 3), float(source.randrange(4)))
        turn = 1 if number < count * 2 / 3 else -1
        odds = turn * 2 * x1 + 0.5 * (x2 - 5)
        made.append((x1, x2, x3, int(source.random() < 1 / (1 + exp(-odds)))))
    return made


def table(folder: Path, count: int = 1_500, seed: int = 3, name: str = "data.csv") -> Path:
    """The rows as a CSV file."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*FEATURES, "y"])
        writer.writerows(rows(count, seed))
    return path


def document(name: str = "first", model: str = LOGISTIC, features: Sequence[str] = FEATURES, **more: Any) -> Any:
    """A pipeline over these rows; `more` are put in place of, or beside, its sections."""
    return {
        "pipeline": name,
        "task": "binary",
        "event": {"id": "id", "features": dict.fromkeys(features, "number")},
        "label": {"id": "id", "value": "y", "wait": "1d"},
        "model": model,
        "metrics": ["Accuracy", "LogLoss"],
        **more,
    }


def pipeline(name: str = "first", model: str = LOGISTIC, **more: Any) -> Pipeline:
    return parse_pipeline(document(name, model, **more))


def pipeline_file(folder: Path, name: str = "first", model: str = LOGISTIC, **more: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_bytes(orjson.dumps(document(name, model, **more)))  # JSON is YAML
    return path
