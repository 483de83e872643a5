"""History features on the fraud and bike sharing sets against an independent computation; skipped without the data."""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftline.core.history.history import History
from driftline.core.pipeline import parse_pipeline
from driftline.core.record import Event
from tests.support.small import source

ROWS = 20_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000


def rows(file: str) -> list[dict[str, str]]:
    data = os.environ.get("DRIFTLINE_DATA")
    if not data:
        pytest.skip(f"set DRIFTLINE_DATA to a folder with {file}")
    with gzip.open(Path(data) / file, "rt") as text:
        return [row for _, row in zip(range(ROWS), csv.DictReader(text), strict=False)]


def in_window(times: list[int], values: list[float], now_ms: int, over_ms: int) -> np.ndarray[Any, Any]:
    """The values of the last 32 buckets of a 32nd of the window."""
    buckets = np.array(times, dtype=np.int64) * 32 // over_ms
    return np.array(values)[buckets > now_ms * 32 // over_ms - 32] if times else np.array([])


def mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else 0.0


def check(
    table: list[dict[str, str]], times: list[int], delay_ms: int, *, key: str, number: str | None, label: str
) -> None:
    features: dict[str, Any] = {"x": "number"}
    for name, over in (("day", "1d"), ("week", "7d")):
        features[f"count_{name}"] = {"history": "count", "by": "key", "over": over}
        features[f"mean_{name}"] = {"history": "mean(x)", "by": "key", "over": over}
        features[f"risk_{name}"] = {"history": "label_mean", "by": "key", "over": over}
    history = History(
        parse_pipeline(
            {
                "pipeline": "p",
                "task": "regression",
                "event": {"id": "id", "context": {"key": "key"}, "features": features},
                "label": {"id": "id", "value": "y", "wait": "30d"},
                "model": "StandardScaler() | LinearRegression()",
            }
        )
    )
    moments = sorted(
        [(time_ms, 1, number) for number, time_ms in enumerate(times)]
        + [(time_ms + delay_ms, 0, number) for number, time_ms in enumerate(times)]
    )
    past: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    known: dict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    keys: dict[int, tuple[bytes | None, ...]] = {}
    for now_ms, is_event, place in moments:
        row = table[place]
        whose = row[key]
        if not is_event:
            history.label(keys[place], float(row[label]), now_ms, now_ms)
            known[whose][0].append(now_ms)
            known[whose][1].append(float(row[label]))
            continue
        x = float(row[number]) if number is not None else 1.0
        event = Event(source("p.events", place), now_ms, now_ms, place, (x, *[None] * 6), context=(whose,))
        made = history.complete(event, now_ms)
        keys[place] = history.label_keys
        history.take(made)
        expected = [x]
        for over_ms in (DAY_MS, 7 * DAY_MS):
            values = in_window(*past[whose], now_ms, over_ms)
            expected += [len(values), mean(values), mean(in_window(*known[whose], now_ms, over_ms))]
        assert list(made.features) == pytest.approx(expected, rel=1e-9, abs=1e-9), place
        past[whose][0].append(now_ms)
        past[whose][1].append(x)


def test_on_the_fraud_set() -> None:
    table = rows("fraud_handbook_2018-06.csv.gz")
    times = [int(datetime.fromisoformat(row["TX_DATETIME"]).replace(tzinfo=UTC).timestamp() * 1000) for row in table]
    check(table, times, DAY_MS, key="CUSTOMER_ID", number="TX_AMOUNT", label="TX_FRAUD")


def test_on_bike_sharing() -> None:
    table = rows("bike_sharing_hour.csv.gz")[:4_000]
    times = [1_293_840_000_000 + HOUR_MS * number for number in range(len(table))]
    check(table, times, HOUR_MS, key="hr", number="temp", label="cnt")
