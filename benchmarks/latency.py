"""From an event's send to its score in the hands of a read_committed reader, one event at a time.

The worker has a core of its own and runs `exactly_once`; the producer and the reader share the other with the
broker. The next event is only sent once the score of the one before was read, so nothing queues: this is the floor,
not the latency under load.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.table import Table

from app.broker import kafka, topic
from app.config import Settings, load_settings
from app.core.pipeline import Pipeline
from benchmarks import case, machine

WARM_UP = 100
TARGET_MS = 15.0
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Report:
    """Milliseconds."""

    events: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    least_ms: float
    most_ms: float
    setting: dict[str, Any]

    @property
    def met(self) -> bool:
        return self.median_ms <= TARGET_MS

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "target_ms": TARGET_MS, "met": self.met}


def measure(events: int, say: Callable[[str], None]) -> Report:
    """Run it on a Kafka of its own.

    Raises:
        RuntimeError: a score did not come.
    """
    core, broker_core = machine.split_cores()
    say("starting Kafka")
    with kafka.start(partitions=case.PARTITIONS) as broker:
        settings = load_settings({}, {"bootstrap": broker.bootstrap})
        chosen = case.pipeline(f"latency-{int(time.time())}")
        asyncio.run(topic.create(chosen, settings, partitions=case.PARTITIONS))
        asked = {
            "bootstrap": broker.bootstrap,
            "name": chosen.name,
            "events": chosen.topics.events,
            "labels": chosen.topics.labels,
            "pairs": 10**9,
            "core": core,
        }
        worker = subprocess.Popen(machine.command("driftline", asked), cwd=machine.ROOT, stdout=subprocess.DEVNULL)
        try:
            say(f"sending {WARM_UP} + {events} events, one at a time")
            taken_ms = asyncio.run(_take(settings, chosen, events))
        finally:
            worker.kill()
            worker.wait()
    cuts = quantiles(taken_ms, n=100, method="inclusive")
    setting = {
        "versions": machine.versions(),
        "core": core,
        "broker_core": broker_core,
        "partitions": case.PARTITIONS,
        "delivery": chosen.delivery,
        "model": case.MODEL,
        "metrics": list(case.METRICS),
    }
    return Report(events, cuts[49], cuts[89], cuts[98], min(taken_ms), max(taken_ms), setting)


def tables(report: Report) -> list[Table]:
    """For people."""
    table = Table(title="Event to score, read_committed, one at a time (ms)", title_justify="left")
    for head in ("events", "median", "p90", "p99", "min - max", "target", ""):
        table.add_column(head, justify="right")
    table.add_row(
        str(report.events),
        f"{report.median_ms:.1f}",
        f"{report.p90_ms:.1f}",
        f"{report.p99_ms:.1f}",
        f"{report.least_ms:.1f} - {report.most_ms:.1f}",
        f"median <= {TARGET_MS:g}",
        "met" if report.met else "[red]missed",
    )
    return [table]


async def _take(settings: Settings, chosen: Pipeline, events: int) -> list[float]:
    """Milliseconds of each event after the warm-up."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap, acks="all")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, isolation_level="read_committed")
    await producer.start()
    await consumer.start()
    try:
        places = [TopicPartition(chosen.topics.scores, partition) for partition in range(case.PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        taken_ms = []
        for sample in case.samples(WARM_UP + events):
            partition = int(sample.event_id) % case.PARTITIONS
            begun = time.perf_counter()
            await producer.send(chosen.topics.events, orjson.dumps(sample.event), partition=partition)
            await asyncio.wait_for(_score_of(consumer, sample.event_id), TIMEOUT_S)
            taken_ms.append((time.perf_counter() - begun) * 1000)
        return taken_ms[WARM_UP:]
    except TimeoutError:
        raise RuntimeError(f"no score within {TIMEOUT_S:g} s") from None
    finally:
        await consumer.stop()
        await producer.stop()


async def _score_of(consumer: Any, event_id: object) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            if any(orjson.loads(record.value)["event_id"] == event_id for record in records):
                return
