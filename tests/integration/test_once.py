"""A commit whose request is late, on a real Kafka: it ends nothing but its own transaction, or the next one is torn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka.producer import sender

from driftline.codec.write import Write
from driftline.core.error import CommitUnknownError
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import free_port
from driftline.kafka import once
from driftline.kafka import publisher as adapter
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import client_options
from driftline.kafka.publisher import KafkaPublisher
from driftline.kafka.topic import create
from tests.contract.lab import read_from, values_of
from tests.integration.test_faults import DRAINED_S, Place
from tests.support.proxy import FENCED, Loss, Proxy, node_behind
from tests.support.stream import settings_of, weather

REQUEST_TIMEOUT_MS = 1_500  # of a client that waits for an answer in vain
SCORES = [b"%d" % number * 1_000 for number in range(10)]  # of the second transaction: several Produce requests
BATCH_BYTES = 4_000


class Road(NamedTuple):
    """A node, and the ports by which clients reach it past a proxy: they are sent to `proxy`, which goes to `inner`."""

    node: KafkaNode
    proxy: int
    inner: int


@pytest.fixture(scope="module")
def road(kafka_needs: None) -> Iterator[Road]:
    port = free_port()
    node, inner = node_behind(port)
    with node:
        yield Road(node, port, inner)


def _pipeline(node: KafkaNode, name: str) -> Pipeline:
    document = {
        "pipeline": name,
        "task": "binary",
        "event": {"id": "id", "features": {"x": "number"}},
        "label": {"id": "id", "value": "y", "wait": "1h"},
        "model": "LogisticRegression()",
    }
    pipeline = parse_pipeline(document)
    asyncio.run(create(pipeline, settings_of(node.bootstrap), partitions=1, shards=1))
    return pipeline


class Seen(NamedTuple):
    """What readers of committed records see, and what became of the late request."""

    first_failed: bool
    scores: list[bytes | None]
    journal: list[bytes | None]
    late: list[int]


async def _commit_two(road: Road, pipeline: Pipeline, loss: Loss) -> Seen:
    """One small transaction whose EndTxn is late, then one of two Produce requests, before whose second it arrives."""
    topics = pipeline.topics

    def publisher() -> KafkaPublisher:
        options = client_options(settings_of(proxy.bootstrap))
        return KafkaPublisher(f"{pipeline.name}-0", options, BATCH_BYTES)

    async def commit(values: list[bytes], entry: bytes) -> None:
        writes = [Write(topics.scores, 0, None, value) for value in values]
        await used.commit(writes, Write(topics.journal, 0, None, entry))

    with Proxy(road.proxy, road.inner, lambda number: number == 1, loss=loss, produces=2) as proxy:
        used = publisher()
        await used.open()
        failed = False
        try:
            await commit([b"first"], b"1")
        except CommitUnknownError:
            failed = True
            await used.close()
            used = publisher()
            await used.open()
        with suppress(CommitUnknownError):  # what is seen tells the rest
            await commit(SCORES, b"2")
        await used.close()
        late = proxy.late
    last = KafkaPublisher(f"{pipeline.name}-0", client_options(settings_of(road.node.bootstrap)))
    await last.open()  # ends what was left open, as the next owner does
    await last.close()
    broker = KafkaBroker(pipeline, settings_of(road.node.bootstrap))
    scores, journal = [values_of(await read_from(broker, topic)) for topic in (topics.scores, topics.journal)]
    return Seen(failed, scores, journal, late)


@pytest.mark.parametrize("loss", ["reset", "silence"])
def test_a_late_commit_does_not_end_the_next_transaction(
    road: Road, monkeypatch: pytest.MonkeyPatch, loss: Loss
) -> None:
    monkeypatch.setattr(adapter, "REQUEST_TIMEOUT_MS", REQUEST_TIMEOUT_MS)
    once.install()
    seen = asyncio.run(_commit_two(road, _pipeline(road.node, f"once-{loss}"), loss))
    assert seen.first_failed, "whether it holds is not known, and that is what the engine hears"
    assert len(seen.late) == 1
    assert set(seen.late) <= FENCED, "the broker refuses the late request: its epoch is over"
    assert (seen.scores, seen.journal) == (SCORES, [b"2"])


@pytest.mark.parametrize("loss", ["reset", "silence"])
def test_the_proxy_finds_a_commit_that_is_sent_twice(road: Road, monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    """The mend taken out: aiokafka's own handlers tear the next transaction, or the test above shows nothing."""
    monkeypatch.setattr(adapter, "REQUEST_TIMEOUT_MS", REQUEST_TIMEOUT_MS)
    for name in ("InitPIDHandler", "AddPartitionsToTxnHandler", "EndTxnHandler"):
        monkeypatch.setattr(sender, name, getattr(once, name).__mro__[2])
    monkeypatch.setattr(once, "install", lambda: None)
    seen = asyncio.run(_commit_two(road, _pipeline(road.node, f"twice-{loss}"), loss))
    assert not seen.first_failed
    assert seen.late == [0], "the broker obeys the late request"
    of_second = set(seen.scores) - {b"first"}
    assert of_second, "outputs of the second transaction are committed"
    assert (of_second, seen.journal) != (set(SCORES), [b"1", b"2"]), "and not all of it is"


def test_a_worker_whose_commits_are_late_loses_and_repeats_nothing(road: Road, tmp_path: Path) -> None:
    """Every twentieth commit is late."""
    count = 3_000
    limits = {"slice_records_max": 40, "output_bytes_max": 16_384}
    with Proxy(road.proxy, road.inner, lambda number: number % 20 == 0) as proxy:
        place = Place(road.node.bootstrap, tmp_path, "late", weather(tmp_path, count), limits=limits)
        place.create()
        place.produce()
        through = Place(proxy.bootstrap, tmp_path, "late", weather(tmp_path, count), limits=limits)
        with through.worker() as worker:
            worker.until(lambda: len(proxy.late) >= 3, DRAINED_S, "late commits have come")
            place.until_joined(count)
            place.check_exact(count)
            assert worker.stop() == 0
        assert set(proxy.late) <= FENCED, proxy.late
        assert "EndTxn was sent and not answered" in worker.log()
