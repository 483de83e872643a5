"""From an event's send to its score in the hands of a read_committed reader, one event at a time.

Driftline (`exactly_once`) and the bare loop (no transactions) run side by side on one core, idle but for the one event
that is under way; the producer and the reader share the other core with the broker. Events go to the two in turn, and
the next is sent once the score of the one before was read, so nothing queues: this is the floor, not the latency under
load, and what the bare loop takes longer at times is the machine's doing.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.table import Table

from benchmarks import case, machine
from benchmarks.model import MODELS
from driftline.config import Settings, load_settings
from driftline.core.pipeline import Pipeline
from driftline.devbroker import kafka
from driftline.kafka import topic

CONTENDERS = ("driftline", "bare")
WARM_UP = 300  # of each; a new Kafka compiles itself meanwhile
TARGET_MS = 15.0
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds over all events."""

    contender: str
    median_ms: float
    p90_ms: float
    p99_ms: float
    least_ms: float
    most_ms: float


@dataclass(frozen=True)
class Report:
    events: int
    found: list[Latency]
    setting: dict[str, Any]

    @property
    def met(self) -> bool:
        return self.found[0].median_ms <= TARGET_MS

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "target_ms": TARGET_MS, "met": self.met}


def measure(events: int, say: Callable[[str], None]) -> Report:
    """Run it on a Kafka of its own.

    Args:
        events: how many are measured of each contender.
        say: told of each step.

    Raises:
        RuntimeError: a score did not come.
    """
    core, broker_core = machine.split_cores()
    say("starting Kafka")
    with kafka.start(partitions=case.PARTITIONS) as broker:
        settings = load_settings({}, {"bootstrap": broker.bootstrap})
        stamp = int(time.time())
        pipelines = {contender: MODELS["numbers"].pipeline(f"{contender}-{stamp}") for contender in CONTENDERS}
        for chosen in pipelines.values():
            asyncio.run(topic.create(chosen, settings, partitions=case.PARTITIONS, shards=case.SHARDS))
        with _working(pipelines, broker.bootstrap, core):
            say(f"sending {WARM_UP} + {events} events to each, one at a time")
            taken_ms = asyncio.run(_take(settings, pipelines, events))
    setting = {
        "versions": machine.versions(),
        "core": core,
        "broker_core": broker_core,
        "partitions": case.PARTITIONS,
        "shards": case.SHARDS,
        "delivery": {"driftline": "exactly_once", "bare": "none promised"},
        "model": case.MODEL,
        "metrics": list(case.METRICS),
    }
    return Report(events, [_summary(contender, taken_ms[contender]) for contender in CONTENDERS], setting)


def tables(report: Report) -> list[Table]:
    """For people."""
    title = f"Event to score, read_committed, {report.events} events one at a time (ms)"
    table = Table(title=title, title_justify="left")
    for head in ("", "median", "p90", "p99", "min - max", "target", ""):
        table.add_column(head, justify="right")
    for found in report.found:
        own = found.contender == "driftline"
        table.add_row(
            "Driftline" if own else "bare aiokafka loop",
            f"{found.median_ms:.1f}",
            f"{found.p90_ms:.1f}",
            f"{found.p99_ms:.1f}",
            f"{found.least_ms:.1f} - {found.most_ms:.1f}",
            f"median <= {TARGET_MS:g}" if own else "",
            ("met" if report.met else "[red]missed") if own else "",
        )
    return [table]


def _summary(contender: str, taken_ms: list[float]) -> Latency:
    cuts = quantiles(taken_ms, n=100, method="inclusive")
    return Latency(contender, cuts[49], cuts[89], cuts[98], min(taken_ms), max(taken_ms))


@contextmanager
def _working(pipelines: dict[str, Pipeline], bootstrap: str, core: int | None) -> Iterator[None]:
    """The contenders as processes, until the end of the block."""
    running = []
    try:
        for contender, chosen in pipelines.items():
            topics = chosen.topics
            asked = {
                "bootstrap": bootstrap,
                "name": chosen.name,
                "events": topics.events,
                "labels": topics.labels,
                "scores": topics.scores,
                "model": "numbers",
                "delivery": "exactly_once",
                "scored": 10**9,  # more than will come
                "learned": 10**9,
                "core": core,
            }
            command = machine.command(contender, asked)
            running.append(subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.DEVNULL))
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


async def _take(settings: Settings, pipelines: dict[str, Pipeline], events: int) -> dict[str, list[float]]:
    """Milliseconds of each event after the warm-up, by contender."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, isolation_level="read_committed")
    await producer.start()
    await consumer.start()
    taken_ms: dict[str, list[float]] = {contender: [] for contender in pipelines}
    try:
        places = [
            TopicPartition(chosen.topics.scores, partition)
            for chosen in pipelines.values()
            for partition in range(case.PARTITIONS)
        ]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for sample in case.samples(WARM_UP + events):
            value, partition = orjson.dumps(sample.event), int(sample.event_id) % case.PARTITIONS
            for contender, chosen in pipelines.items():
                begun = time.perf_counter()
                await producer.send(chosen.topics.events, value, partition=partition)
                await asyncio.wait_for(_score_of(consumer, chosen.topics.scores, sample.event_id), TIMEOUT_S)
                taken_ms[contender].append((time.perf_counter() - begun) * 1000)
        return {contender: taken[WARM_UP:] for contender, taken in taken_ms.items()}
    except TimeoutError:
        raise RuntimeError(f"no score within {TIMEOUT_S:g} s; what went wrong is in the output above") from None
    finally:
        await consumer.stop()
        await producer.stop()


async def _score_of(consumer: Any, scores: str, event_id: object) -> None:
    while True:
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            if place.topic == scores and any(orjson.loads(record.value)["event_id"] == event_id for record in records):
                return
