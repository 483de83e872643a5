"""A shard's answer to a command, whatever others wrote into the rejected topic."""

from __future__ import annotations

import orjson

from driftline.codec.keyring import NO_KEYS
from driftline.codec.write import Write
from driftline.operate.control import Verdict, Written, verdicts
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, pipeline, run_through
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker


async def test_no_record_of_others_hides_a_refusal() -> None:
    chosen, cluster = pipeline("hidden"), MemoryCluster()
    cluster.create_for(chosen, 1)
    topics = chosen.topics
    places = [Place(topics.journal, 0), Place(topics.rejected, 0)]
    broker = MemoryBroker(cluster, chosen, client="operator")
    before = await broker.ends(places)
    for headers in ((), (("driftline.reason", b""),), (("driftline.reason", None),)):
        named = (("driftline.topic", topics.control.encode()), ("driftline.offset", b"0"), *headers)
        cluster.append(Place(topics.rejected, 0), [Write(topics.rejected, 0, None, b"", NOW_MS, named)])
    offset = cluster.produce(topics.control, 0, orjson.dumps({"command": "explode\x1b[2J"}), NOW_MS)
    await run_through(cluster, chosen)
    found = await verdicts(broker, chosen, NO_KEYS, [Written(offset, offset)], before, 5.0)
    assert found[0].reason == "control_unknown"
    assert "\x1b" not in found[0].detail
    assert Verdict() not in found.values()
