"""The page's reader on a broker, the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from driftline.codec.journal import SliceEntry, encode_link, link
from driftline.codec.seal import seal
from driftline.config import Settings
from driftline.devbroker import embedded
from driftline.devbroker.kafka import KafkaNode
from driftline.engine.trust import name_of
from driftline.kafka.client import client_options, producer
from driftline.kafka.topic import create
from driftline.transport.port import Place
from driftline.web import feed as feeds
from driftline.web.feed import BoardFeed
from driftline.web.verdict import verdict_of
from tests.support.boards import NOW_MS
from tests.support.pipelines import pipeline, settings

WITHIN_S = 60.0
CARDS = pipeline(shards=1)
TOPICS = CARDS.topics

pytestmark = pytest.mark.slow


@pytest.fixture
def node() -> Iterator[embedded.EmbeddedNode]:
    with embedded.start() as started:
        yield started


def keyed(bootstrap: str, key: str) -> Settings:
    return settings(bootstrap).model_copy(update={"snapshot_key": key})


def entry(number: int, at: Settings, **changes: Any) -> bytes:
    """A journal entry with a note."""
    made = SliceEntry(number, {}, None, 0, "0" * 32, NOW_MS + number, 1)
    note = {"positions": {TOPICS.events: number}, "watermark_ms": NOW_MS + number, "counts": {"scored": number}}
    return seal(encode_link(link(made, "0" * 32, note | changes)), name_of(Place(TOPICS.journal, 0)), at.ring)


def alert(episode: str, update: int = 1) -> bytes:
    return orjson.dumps(
        {
            "episode": episode,
            "state": "opened",
            "kind": "guard",
            "severity": "warning",
            "sentence": "Something is wrong.",
            "update": update,
        }
    )


def score(number: int) -> bytes:
    return orjson.dumps(
        {"output_id": f"e-0-{number}-0", "event_id": number, "event_time_ms": NOW_MS, "guard": "served"}
    )


async def write(at: Settings, topic: str, *values: bytes) -> None:
    async with producer(client_options(at), acks="all") as sender:
        for value in values:
            await sender.send_and_wait(topic, value, partition=0)


async def until(true: Callable[[], object], feed: BoardFeed) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            assert not feed.situation().trouble
            await asyncio.sleep(0.05)


async def test_history_and_news_of_all_topics(node: embedded.EmbeddedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(feeds, "PICKED_MAX", 5)
    monkeypatch.setattr(feeds, "PICKED_MIN", 5)
    monkeypatch.setattr(feeds, "TAIL", 4)
    at = settings(node.bootstrap)
    await create(CARDS, at, partitions=1, retention_ms=-1)
    await write(at, TOPICS.journal, *(entry(number, at) for number in range(1, 50)), b"no entry")
    await write(at, TOPICS.alerts, b"no alert", alert("cards-0-a"))
    await write(at, TOPICS.events, *[b"{}"] * 53)
    feed = BoardFeed(CARDS, at)
    feed.enter()
    try:
        await until(lambda: feed.loaded, feed)
        shard = feed.board.shards[0]
        assert shard.note is not None
        assert shard.note.positions == {TOPICS.events: 49}
        read = [point.time_ms - NOW_MS for point in shard.curve.points]
        assert read == [1, 11, 21, 31, 41, 47, 48, 49], "the past evenly, and its end whole"
        assert list(feed.board.episodes) == ["cards-0-a"]
        await until(lambda: feed.board.shards[0].behind.get(TOPICS.events) == 4, feed)
        await write(at, TOPICS.journal, entry(53, at))
        await write(at, TOPICS.alerts, alert("cards-0-b"))
        await write(at, TOPICS.scores, *map(score, range(100)))
        await until(lambda: len(feed.board.episodes) == 2 and feed.board.scores, feed)
        await until(lambda: feed.board.shards[0].behind.get(TOPICS.events) == 0, feed)
        assert {one.event_id for one in feed.board.scores} <= set(range(80, 100)), "the newest alone are read"
    finally:
        await feed.stop()


async def test_it_keeps_up_with_records_that_come_one_by_one(
    node: embedded.EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may give one batch an answer: with one answer a look, the page would fall behind for good."""
    monkeypatch.setattr(feeds, "PAUSE_S", 5.0)
    at = settings(node.bootstrap)
    await create(CARDS, at, partitions=1, retention_ms=-1)
    await write(at, TOPICS.journal, entry(1, at))
    feed = BoardFeed(CARDS, at)
    feed.enter()
    try:
        await until(lambda: feed.loaded, feed)
        await write(at, TOPICS.journal, *(entry(number, at) for number in range(2, 22)))
        shard = feed.board.shards[0]
        await until(lambda: shard.note is not None and shard.note.positions == {TOPICS.events: 21}, feed)
    finally:
        await feed.stop()


async def test_with_a_key_entries_of_others_are_not_believed(node: embedded.EmbeddedNode) -> None:
    at = keyed(node.bootstrap, "a-key-of-this-deployment")
    await create(CARDS, at, partitions=1, retention_ms=-1)
    others = keyed(node.bootstrap, "a-key-that-others-made-up")
    await write(at, TOPICS.journal, entry(1, at), entry(2, others), entry(3, settings(node.bootstrap)))
    feed = BoardFeed(CARDS, at)
    feed.enter()
    try:
        await until(lambda: feed.loaded, feed)
        note = feed.board.shards[0].note
        assert note is not None
        assert note.positions == {TOPICS.events: 1}
    finally:
        await feed.stop()


async def test_with_a_key_a_flood_of_others_entries_hides_none(
    node: embedded.EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long journal some entries are picked: only those that count."""
    for name, value in (("PICKED_MAX", 1), ("PICKED_MIN", 10), ("TAIL", 1)):
        monkeypatch.setattr(feeds, name, value)
    ours, forged = keyed(node.bootstrap, "a-key-of-this-deployment"), keyed(node.bootstrap, "another-key-altogether")
    await create(CARDS, ours, partitions=1)
    for number in range(20):
        others = [entry(1_000 + number, forged)] * 4
        await write(ours, TOPICS.journal, *others, entry(number, ours), *others)
    feed = BoardFeed(CARDS, ours)
    feed.enter()
    try:
        await until(lambda: feed.loaded, feed)
        scored = [point.time_ms - NOW_MS for point in feed.board.shards[0].curve.points]
        assert len(scored) >= 8
        assert max(scored) < 20
    finally:
        await feed.stop()


async def test_a_broker_that_is_away_is_waited_for_and_what_is_known_stays() -> None:
    with embedded.start() as node:
        at = settings(node.bootstrap)
        await create(CARDS, at, partitions=1, retention_ms=-1)
        await write(at, TOPICS.journal, entry(1, at))
        feed = BoardFeed(CARDS, at)
        feed.enter()
        await until(lambda: feed.loaded and feed.board.shards[0].note, feed)
    try:
        await until(lambda: feed.situation().away_ms, feed)
        assert verdict_of(feed.board, feed.situation()).text.startswith("Kafka does not answer")
        assert feed.board.shards[0].note is not None
    finally:
        await feed.stop()


async def test_it_ends_when_no_one_looks(node: embedded.EmbeddedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LINGER_S", 0.0)
    at = settings(node.bootstrap)
    await create(CARDS, at, partitions=1, retention_ms=-1)
    feed = BoardFeed(CARDS, at)
    feed.enter()
    await until(lambda: feed.loaded, feed)
    feed.leave()
    await until(lambda: not feed.loaded, feed)
    await until(lambda: not feed.reading, feed)
    feed.enter()
    await until(lambda: feed.loaded, feed)
    await feed.stop()


async def test_what_waits_is_a_record_and_no_marker_of_a_transaction(
    kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction leaves an offset without a record: a shard that has read all of them is idle, and not silent."""
    monkeypatch.setattr(feeds, "LOOK_EVERY_S", 0.2)
    monkeypatch.setattr(feeds, "QUIET_MS", 500)
    at, chosen = settings(kafka.bootstrap), pipeline("page-markers", shards=1)
    await create(chosen, at, partitions=1, retention_ms=-1)
    topics, events = chosen.topics, chosen.topics.events
    async with producer(client_options(at), transactional_id="page-markers") as sender, sender.transaction():
        for _ in range(3):
            await sender.send_and_wait(events, b"{}", partition=0)
    await write(at, topics.journal, entry(1, at, positions={events: 3}))
    feed = BoardFeed(chosen, at)
    feed.enter()
    try:
        await until(lambda: feed.loaded, feed)
        backlog = feed.board.shards[0].backlog
        await until(lambda: backlog.behind[events] == 0, feed)
        assert not backlog.is_silent(feed.board.read_ms + 10**6)
        await write(at, events, b"{}")
        await until(lambda: backlog.is_silent(feed.board.read_ms + 10**6), feed)
        assert backlog.behind[events] == 1
        await write(at, topics.journal, entry(2, at, positions={events: 5}))
        await until(lambda: backlog.behind[events] == 0, feed)
    finally:
        await feed.stop()
