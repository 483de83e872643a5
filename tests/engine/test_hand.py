"""What is in hand of an input is bounded in bytes, not only in records."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from driftline.core.record import Source
from driftline.engine import live
from driftline.engine.fold import TOGETHER_MIN, Folder
from driftline.engine.hand import Hand
from tests.parity.rig import NOW_MS, pipeline, produce, run_through
from tests.support import memory
from tests.support.cluster import MemoryCluster


def source(offset: int, size: int) -> Source:
    return Source("events", 0, offset, NOW_MS, None, bytes(size))


def test_bytes_come_and_go_with_the_position() -> None:
    hand = Hand()
    hand.came([source(0, 10), source(1, 30)])
    hand.came([])
    hand.came([source(5, 20)])
    assert (hand.bytes, hand.largest) == (60, 30)
    hand.folded(1)
    assert hand.bytes == 60  # the batch is not folded whole
    hand.folded(2)
    assert (hand.bytes, hand.largest) == (20, 20)
    hand.folded(6)
    assert (hand.bytes, hand.largest) == (0, 0)


async def test_an_input_of_large_records_is_paused_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUEUE_BYTES_MAX", 200_000)
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", 20)
    peak, came = 0, Hand.came

    def watched(hand: Hand, sources: Any) -> None:
        nonlocal peak
        came(hand, sources)
        peak = max(peak, hand.bytes)

    monkeypatch.setattr(Hand, "came", watched)
    together: list[int] = []
    pieces = Folder.pieces

    def folding(folder: Folder, *args: Any, **options: Any) -> Any:
        together.append(options["together"])
        return pieces(folder, *args, **options)

    monkeypatch.setattr(Folder, "pieces", folding)
    chosen, cluster = pipeline("large"), MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 100)
    for number in range(400):
        value = orjson.dumps({"id": f"large {number}", "filler": "x" * 5_000})
        cluster.produce(chosen.topics.events, 0, value, NOW_MS + number)
    cluster.produce(chosen.topics.events, 0, orjson.dumps({"filler": "x" * 900_000}), NOW_MS)
    await run_through(cluster, chosen)
    assert 200_000 < peak < 300_000 + 900_000
    # a large record is read alone: the loop must not wait for many of them
    assert min(together) == 1
    assert max(together) >= TOGETHER_MIN
