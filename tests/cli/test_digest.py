"""What `driftline digest` takes in of topics that others may have written to."""

from __future__ import annotations

from typing import cast

import orjson

from driftline.cli.digest import gather
from driftline.codec.command import Sender, encode_command
from driftline.codec.keyring import NO_KEYS
from driftline.codec.write import Write
from driftline.core.pipeline import Pipeline
from driftline.kafka.broker import KafkaBroker
from driftline.operate.digest import Gathered
from driftline.operate.digest_page import page_of, render
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, Life, pipeline, produce
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.pipelines import settings

KEY = "the deployment's key"
WEEK_MS = 7 * 86_400_000


async def gathered(cluster: MemoryCluster, chosen: Pipeline, key: str | None = None) -> Gathered:
    broker = cast("KafkaBroker", MemoryBroker(cluster, chosen, client="asks"))
    with_key = settings("127.0.0.1:1").model_copy(update={"snapshot_key": key})
    counts = dict.fromkeys(vars(chosen.topics).values(), 1)
    return await gather(broker, chosen, with_key, counts, WEEK_MS, None)


async def test_an_event_of_the_far_future_does_not_end_the_span() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 40, partitions=1)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        before = await gathered(cluster, chosen)
        value = orjson.loads(cluster.records(chosen.topics.events, 0)[-1].value or b"")
        ahead = {**value, "id": "of another century"}
        cluster.produce(chosen.topics.events, 0, orjson.dumps(ahead), NOW_MS + 100 * 365 * 86_400_000)
        await life.until_done()
        await life.stop()
    scores = cluster.records(chosen.topics.scores, 0)
    assert b"of another century" in (scores[-1].value or b"")
    after = await gathered(cluster, chosen)
    assert (after.since_ms, after.until_ms, after.served) == (before.since_ms, before.until_ms, before.served)
    assert before.served > 0


async def test_deleted_records_are_named_where_they_may_be_of_the_span() -> None:
    """Otherwise events whose label is deleted pass for ones that wait for it."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 40, partitions=1)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.stop()
    whole = await gathered(cluster, chosen)
    assert not whole.cut
    outcomes = Place(chosen.topics.outcomes, 0)
    cluster.delete_before(outcomes, len(cluster.records(*outcomes)) // 2)
    left = await gathered(cluster, chosen)
    assert left.cut
    assert left.outcomes.total() < whole.outcomes.total()
    assert "Records of that time have been deleted" in render(page_of(left, "p.yaml", None), "text")


def test_what_was_deleted_before_the_span_is_not_of_it() -> None:
    found = Gathered(pipeline(), NOW_MS, NOW_MS + WEEK_MS)
    found.after_deleted({"event_time_ms": NOW_MS - WEEK_MS, "label_time_ms": NOW_MS})
    assert not found.cut
    found.after_deleted({"event_time_ms": NOW_MS - WEEK_MS, "label_time_ms": NOW_MS + 1})
    assert found.cut


async def test_what_was_done_is_what_a_key_signed_and_no_shard_refused() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    ring = settings("127.0.0.1:1").model_copy(update={"snapshot_key": KEY}).ring
    for number, (by, keys) in enumerate((("ana", ring), ("a stranger", NO_KEYS), ("ben, too late", ring))):
        sender = Sender(chosen.name, by, NOW_MS + number, f"{number:032x}")
        cluster.produce(chosen.topics.control, 0, encode_command({"command": "reset"}, sender, keys), NOW_MS)
    headers = (
        ("driftline.topic", chosen.topics.control.encode()),
        ("driftline.offset", b"2"),
        ("driftline.reason", b"control_refused"),
    )
    rejected = Place(chosen.topics.rejected, 0)
    cluster.append(rejected, [Write(*rejected, None, b"{}", NOW_MS, headers)])
    cluster.produce(chosen.topics.scores, 0, orjson.dumps({"event_time_ms": NOW_MS + WEEK_MS // 2}), NOW_MS)
    signed = await gathered(cluster, chosen, KEY)
    assert [one.by for one in signed.commands.values()] == ["ana"]
    unsigned = await gathered(cluster, chosen)
    assert [one.by for one in unsigned.commands.values()] == ["ana", "a stranger"]
