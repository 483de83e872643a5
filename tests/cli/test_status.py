"""`driftline status` as a person sees it in a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from driftline.cli.shards import draw, labels_table, remarks, tables
from driftline.operate.status import ShardStatus
from tests.support.small import small


def test_an_untrained_model_is_reported() -> None:
    notes = ({"known": 0, "counts": {"scored": 3}}, {"known": 0, "counts": {}}, {"known": 5, "counts": {"scored": 9}})
    shards = [ShardStatus(number, {}, {}, 0, 1, note) for number, note in enumerate(notes)]
    assert list(remarks(shards, "p.control")) == [
        "shard 0: the model is untrained, so its predictions mean nothing yet"
    ]


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
        console.print(*tables(pipeline, shards))
    lines = shown.get().splitlines()
    assert "…" not in shown.get()
    assert [line.split() for line in lines if line.startswith("   123") and "events" in line] == [
        ["123", "events", "123,456,789", "12,345,678", "1,000,000", "12,345,678", "2025-01-08"]
    ]
    assert ["123", "3", "AveragePrecision", "0.1235", "0.1235"] in [line.split() for line in lines]
    assert ["+2/64", "ROCAUC", "-", "-"] in [line.split() for line in lines]


def test_what_became_of_labels_is_shown_by_shard_and_in_total() -> None:
    fates = {"early": 283, "joined": 1_234_567, "orphan": 1, "late": 2, "duplicate": 3, "rejected": 4}
    fates["expired"] = 1_000_000
    others = {**fates, "early": 0}
    notes: list[dict[str, Any] | None] = [{"labels": fates, "coverage": 0.5}, {"labels": others}, None]
    console = Console(width=80)
    with console.capture() as shown:
        console.print(labels_table([ShardStatus(at, {}, {}, 0, 1, note) for at, note in enumerate(notes)]))
    rows = [line.split() for line in shown.get().splitlines()]
    assert ["0", "283", "1,234,567", "1", "2", "3", "4", "1,000,000", "0.5"] in rows
    assert ["2", *"0000000", "-"] in rows
    assert ["all", "283", "2,469,134", "2", "4", "6", "8", "2,000,000"] in rows


def test_what_was_rejected_and_what_is_held_is_shown() -> None:
    guard: dict[str, Any] = {"held": 2, "tripped": {}, "instead": {}}
    notes: tuple[dict[str, Any], ...] = (
        {"rejected": {"events": 1_200, "labels": 3}, "guard": guard},
        {"guard": {**guard, "held": 0}},
    )
    shards = [ShardStatus(number, {}, {}, 0, 1, note) for number, note in enumerate(notes)]
    assert list(remarks(shards, "p.control")) == [
        "shard 0: 1,200 events rejected; `driftline tail rejected` shows them",
        "shard 0: 2 held for review; see `driftline review list -p FILE`",
        "shard 1: 0 held for review",
    ]


def test_held_learning_and_open_alerts_are_told() -> None:
    note = {"frozen": True, "episodes": ["p-0-error-l5", "p-0-input-e7"], "acknowledged": ["p-0-input-e7"]}
    idle = {"frozen": False, "episodes": []}
    note["counts"] = {"passed_events_deleted": 1_200, "passed_labels_tombstone": 3, "scored": 9}
    shards = [ShardStatus(0, {}, {}, 9, 1, note), ShardStatus(1, {}, {"p.control": 2}, 9, 1, idle)]
    held, passed, alert, known, unread = remarks([*shards, ShardStatus(2, {}, {}, 0, 1, None)], "p.control")
    assert held.startswith("shard 0 is frozen: it does not learn")
    assert passed == "shard 0 skipped: 1,200 events deleted, 3 labels tombstone"
    assert alert == "open alert: p-0-error-l5"
    assert known == "open alert: p-0-input-e7 (acknowledged)"
    assert unread.startswith("shard 1: 2 records in p.control are still unread")


def test_what_could_not_be_learned_is_named() -> None:
    pipeline = small()
    known = ShardStatus(0, dict.fromkeys((pipeline.topics.events, pipeline.topics.labels or ""), 7), {}, 1, 1, None)
    gone = ShardStatus(1, {}, {}, 0, 0, None, {}, ("shard 1 is not known now: no broker answers",))
    console = Console(width=80)
    with console.capture() as shown:
        console.print(*tables(pipeline, [known, gone]))
    rows = [line.split() for line in shown.get().splitlines()]
    assert ["0", "events", "7", "?", "0", "0", "-"] in rows
    assert ["1", "events", "?", "?", "?", "?", "-"] in rows
    (told,) = remarks([known, gone, gone], pipeline.topics.control)
    assert told == "shard 1 is not known now: no broker answers"


def test_a_note_of_others_commands_no_terminal_and_stops_nothing() -> None:
    """Whoever can write the journal of a deployment without a key can write anything into it."""
    hostile = "[/red][link=http://x]\x1b]0;owned\x07\u202e"
    note: dict[str, Any] = {
        "version": hostile,
        "watermark_ms": 2**62,
        "metrics": {hostile: 0.5},
        "commands": [{"command": hostile, "by": hostile, "time_ms": -(2**62)}],
        "episodes": [hostile],
    }
    shards = [ShardStatus(0, {"events": 1}, {}, 0, 1, note)]
    console = Console(width=200)
    with console.capture() as shown:
        draw(console, small(), shards)
    text = shown.get()
    assert "[/red][link=http://x]\\u001b]0;owned\\u0007\\u202e" in text
    assert f"{2**62} ms" in text
    assert not {"\x1b", "\x07", "\u202e"} & {*text}
