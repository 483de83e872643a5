"""`driftline status` as a person sees it in a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Console

from app.cli.status import _remarks, _tables
from app.engine.status import ShardStatus
from tests.support.small import small


def test_nothing_is_cut_off_in_80_columns() -> None:
    pipeline = small()
    topics = (pipeline.topics.events, pipeline.topics.labels or "", pipeline.topics.control)
    metrics = {"AveragePrecision": 0.123456, "ROCAUC": None, "label_count": 12_345_678}
    note = {
        "version": "3.12345678",
        "loading": (2, 64),
        "watermark_ms": 1_736_351_124_000,
        "pending": 1_000_000,
        "counts": {"learned": 12_345_678},
        "metrics": metrics,
        "window_metrics": metrics,
    }
    positions, lag = dict.fromkeys(topics, 123_456_789), dict.fromkeys(topics, 12_345_678)
    shards = [ShardStatus(123, positions, lag, 99, 1, note), ShardStatus(124, positions, lag, 0, 1, None)]
    console = Console(width=80)
    with console.capture() as shown:
        console.print(*_tables(pipeline, shards))
    lines = shown.get().splitlines()
    assert "…" not in shown.get()
    assert [line.split() for line in lines if line.startswith("   123") and "events" in line] == [
        ["123", "events", "123,456,789", "12,345,678", "1,000,000", "12,345,678", "2025-01-08"]
    ]
    assert ["123", "3", "AveragePrecision", "0.1235", "0.1235"] in [line.split() for line in lines]
    assert ["+2/64", "ROCAUC", "-", "-"] in [line.split() for line in lines]


def test_held_learning_and_open_alerts_are_told() -> None:
    note = {"frozen": True, "episodes": ["p-0-error-l5", "p-0-input-e7"], "acknowledged": ["p-0-input-e7"]}
    idle = {"frozen": False, "episodes": []}
    note["counts"] = {"passed_events_deleted": 1_200, "passed_labels_tombstone": 3, "scored": 9}
    shards = [ShardStatus(0, {}, {}, 9, 1, note), ShardStatus(1, {}, {"p.control": 2}, 9, 1, idle)]
    held, passed, alert, known, unread = _remarks([*shards, ShardStatus(2, {}, {}, 0, 1, None)], "p.control")
    assert held.startswith("shard 0 does not learn")
    assert passed == "shard 0 passed over: 1,200 events deleted, 3 labels tombstone"
    assert alert == "open alert: p-0-error-l5"
    assert known == "open alert: p-0-input-e7 (acknowledged)"
    assert unread.startswith("shard 1: 2 records in p.control are not read yet")
