"""How full a shard is: measured over a minute, reported before it is full, and once."""

from __future__ import annotations

import logging

import pytest

from driftline.engine.fullness import EVERY_S, FULL, SPAN_S, Fullness, FullnessLog


def test_the_share_is_that_of_the_last_minute() -> None:
    one, fold_s = Fullness(), 0.0
    one.look(100.0, fold_s)
    assert one.share is None
    for second in range(1, 61):
        fold_s += 0.25
        one.look(100.0 + second, fold_s)
    assert one.share == pytest.approx(0.25)
    assert one.whole
    for second in range(61, 91):
        fold_s += 1.0
        one.look(100.0 + second, fold_s)
    assert one.share == pytest.approx((30 * 0.25 + 30) / 60, abs=0.05)
    for second in range(91, 200):
        fold_s += 1.5  # no clock is that exact
        one.look(100.0 + second, fold_s)
    assert one.share == 1.0


def test_the_first_minute_is_not_whole() -> None:
    one = Fullness()
    for second in range(int(SPAN_S)):
        one.look(float(second), float(second))
    assert one.share == 1.0
    assert not one.whole


def test_a_full_shard_is_reported_until_it_has_eased(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="driftline.engine.fullness")
    kept = FullnessLog()

    def lines(share: float | None, now_s: float) -> list[str]:
        caplog.clear()
        kept.look({3: share, 4: 0.1}, now_s)
        return [record.getMessage() for record in caplog.records]

    assert lines(None, 0) == lines(FULL - 0.01, 1) == kept.notes() == []
    (line,) = lines(0.93, 2)
    assert line.startswith("shard 3 is 93% full: ")
    assert kept.notes() == [line]
    assert lines(0.9, 3) == lines(0.7, 4) == []
    assert kept.notes()[0].startswith("shard 3 is 70% full")
    assert len(lines(0.9, 2 + EVERY_S)) == 1
    assert lines(0.5, 3 + EVERY_S) == ["shard 3 is 50% full"]
    assert kept.notes() == []
    assert len(lines(0.9, 4 + EVERY_S)) == 1
    kept.look({}, 5 + EVERY_S)
    assert kept.notes() == [], "it is another worker's now"
