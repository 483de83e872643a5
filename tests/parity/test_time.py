"""A record's own time may be any 64 bits: none of them stops a worker, or a replay."""

from __future__ import annotations

import orjson
import pytest

from driftline.core.place import Layout
from driftline.core.timestamp import TIME_MAX_MS, written
from driftline.operate.verify import Span, audit_shards
from driftline.transport.obstacle import open_text
from driftline.transport.port import Place
from tests.parity.rig import Life, pipeline, produce
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker


@pytest.mark.parametrize("time_ms", [TIME_MAX_MS, TIME_MAX_MS + 1, 2**62, 2**63 - 1, -1, -(2**63)])
async def test_times_beyond_every_calendar_stop_nothing(time_ms: int) -> None:
    chosen, cluster = pipeline("beyond"), MemoryCluster()
    cluster.create_for(chosen, 1)
    topics = chosen.topics
    for number in range(12):
        event = {"id": f"far {number}", "x": 1.0, "z": 1.0, "word": "a"}
        cluster.produce(topics.events, 0, orjson.dumps(event), time_ms)
        cluster.produce(topics.events, 0, b"no event", time_ms)
        cluster.produce(topics.labels or "", 0, orjson.dumps({"id": f"far {number}", "y": 1}), time_ms)
        cluster.produce(topics.control, 0, orjson.dumps({"command": "snapshot"}), time_ms)
    produce(cluster, chosen, 100)
    for client in ("one", "two"):
        async with Life(cluster, chosen, client=client) as life:
            await life.until_done()
            assert life.shard().counts["learned"] >= 100
            await life.stop()
    (made,) = await audit_shards(MemoryBroker(cluster, chosen, client="audit"), chosen, Layout(1), Span(outputs=True))
    assert made.difference is None


def test_they_are_written_as_numbers() -> None:
    assert written(0) == "1970-01-01T00:00:00+00:00"
    assert written(TIME_MAX_MS, "%Y-%m-%d") == "9999-12-31"
    assert [written(time_ms) for time_ms in (TIME_MAX_MS + 1, -1)] == [f"{TIME_MAX_MS + 1} ms", "-1 ms"]
    assert f"since {2**62} ms" in open_text(Place("events", 0), 7, 2**62, None)
