"""What an entry carries for people never keeps it out of its topic."""

from __future__ import annotations

import orjson

from driftline.engine.note import NOTE_BYTES_MAX, note_of
from tests.parity.rig import NOW_MS, Life, pipeline
from tests.support.cluster import MemoryCluster


async def test_segments_with_long_names_stop_no_shard() -> None:
    chosen, cluster = pipeline("wide", metric_by={"segment": "word", "segment_max": 1_000}), MemoryCluster()
    cluster.create_for(chosen, 1)
    for number in range(400):
        event = {"id": number, "x": 1.0, "z": 1.0, "word": f"{number}" + "\U0001f600" * 990}
        cluster.produce(chosen.topics.events, 0, orjson.dumps(event), NOW_MS + number)
        cluster.produce(chosen.topics.labels or "", 0, orjson.dumps({"id": number, "y": 1}), NOW_MS + number + 1)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        shard = life.shard()
        assert len(orjson.dumps(shard.summary())) > 1_048_588  # what the topic takes
        short = note_of(shard, {"wide.events": 400})
        await life.stop()
    assert short["positions"] == {"wide.events": 400}
    assert short["metrics"] == shard.summary()["metrics"]
    assert len(orjson.dumps(short)) < NOTE_BYTES_MAX
    entries = [len(record.value or b"") for record in cluster.records(chosen.topics.journal, 0)]
    assert max(entries) < 2 * NOTE_BYTES_MAX
