"""What a shard still has to read, and when it counts as silent."""

from __future__ import annotations

import pytest

from driftline.web.backlog import SILENT_MAX_MS, SILENT_MS, Backlog, First, Left

AT_MS = 1_000_000


def backlog(position: int = 5, end: int = 9) -> Backlog:
    """One that was heard from when its end was looked at."""
    made = Backlog()
    made.take_positions({"events": position})
    made.take_ends({"events": end}, AT_MS)
    made.hear(AT_MS)
    return made


def test_a_shard_is_silent_when_a_record_waits_and_nothing_is_written() -> None:
    made = backlog()
    assert made.unsure() == {"events": Left(5, 9)}
    assert not made.is_silent(AT_MS + SILENT_MS), "offsets alone do not show that a record waits"
    made.take_firsts({"events": First(5, 7, AT_MS - 100)})
    assert not made.unsure()
    assert not made.is_silent(AT_MS + SILENT_MS - 1)
    assert made.is_silent(AT_MS + SILENT_MS)
    assert (made.silent_ms(AT_MS + 6_000), made.waiting_since_ms()) == (6_000, AT_MS - 100)
    assert made.behind == {"events": 2}
    made.hear(AT_MS + 6_000)
    assert not made.is_silent(AT_MS + 6_001)


def test_markers_of_transactions_are_nothing_to_read() -> None:
    made = backlog()
    made.take_firsts({"events": First(5, 9, None)})
    assert (made.behind, made.since_ms, made.unsure()) == ({"events": 0}, None, {})
    assert not made.is_silent(AT_MS + 10**6)
    made.take_ends({"events": 11}, AT_MS + 10**6)
    assert made.unsure() == {"events": Left(5, 11)}, "something new may be a record"
    made.take_firsts({"events": First(5, 9, AT_MS)})
    assert made.is_silent(AT_MS + 10**6 + SILENT_MS)


def test_an_idle_shard_is_not_silent_when_a_record_comes() -> None:
    """Silence counts from when the record was seen to wait, not from the last one that was written."""
    made = backlog(position=9)
    made.take_ends({"events": 10}, AT_MS + 600_000)
    made.take_firsts({"events": First(9, 9, AT_MS)})
    assert not made.is_silent(AT_MS + 601_000)
    assert made.is_silent(AT_MS + 600_000 + SILENT_MS)
    made.take_positions({"events": 10})
    assert not made.is_silent(AT_MS + 700_000)


def test_a_slow_shard_has_longer() -> None:
    """One that needs six seconds for each slice is at work, though more slowly than most."""
    made = backlog(end=1_000)
    made.take_firsts({"events": First(5, 900, 0)})
    for second in range(0, 60, 6):
        made.hear(AT_MS + second * 1_000)
    last_ms = AT_MS + 54_000
    assert not made.is_silent(last_ms + 11_000)
    assert made.is_silent(last_ms + 12_000)
    made.hear(last_ms + 80_000)
    assert made.is_silent(last_ms + 80_000 + SILENT_MAX_MS), "however slow it was"


@pytest.mark.parametrize("pause_ms", [100, 800])
def test_a_long_pause_is_forgotten(pause_ms: int) -> None:
    made = backlog(end=1_000)
    made.take_firsts({"events": First(5, 900, 0)})
    made.hear(now_ms := AT_MS + 20_000)
    assert not made.is_silent(now_ms + SILENT_MS)
    for _ in range(30):
        made.hear(now_ms := now_ms + pause_ms)
    assert made.is_silent(now_ms + SILENT_MS)
