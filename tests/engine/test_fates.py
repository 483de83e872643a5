"""What becomes of labels, in the log."""

from __future__ import annotations

import logging

import pytest

from driftline.core.shard.state import Shard
from driftline.engine.fates import EVERY_S, LabelLog
from tests.support.feedback import Traffic, shard
from tests.support.folding import step


def lines(caplog: pytest.LogCaptureFixture, kept: LabelLog, shards: dict[int, Shard], now_s: float) -> list[str]:
    caplog.clear()
    kept.look(shards, now_s)
    return [record.getMessage() for record in caplog.records]


def fold(here: Shard, traffic: Traffic, begin: int, end: int) -> None:
    for record in traffic.records(begin, end):
        step(here, record)


def test_lost_labels_are_in_the_log_once_a_minute_and_their_trouble_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="driftline.engine.fates")
    kept, shards = LabelLog(), {0: shard(), 1: shard(1)}
    assert lines(caplog, kept, shards, 0) == []
    fold(shards[0], Traffic(), 0, 50)
    assert lines(caplog, kept, shards, 1) == [], "all of them found their events"
    fold(shards[0], Traffic(label_ids=str), 50, 150)
    told, of_one, of_all = lines(caplog, kept, shards, 2)
    assert told.startswith("shard 0: 60 of the last 60 labels of p (100.0%) found no event: ")
    counts = "50 joined, 100 early, 0 orphan, 0 late, 0 duplicate, 0 rejected, 0 expired"
    assert (of_one, of_all) == (f"labels of shard 0: {counts}", f"labels of all 2: {counts}")
    fold(shards[0], Traffic(label_ids=str), 150, 200)
    assert lines(caplog, kept, shards, 3) == []
    assert lines(caplog, kept, shards, 2 + EVERY_S)[0].startswith("labels of shard 0: 50 joined, 150 early")
    assert lines(caplog, kept, shards, 3 + 2 * EVERY_S) == [], "nothing is new"
