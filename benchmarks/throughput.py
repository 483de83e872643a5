"""Pairs a second of Driftline, of a bare aiokafka loop and of a plain Faust app, in the same minutes.

Each round runs all three, in turn first; a ratio is taken within its round, and the median over the rounds is what
counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.table import Table

from benchmarks import case, machine
from benchmarks.case import Kind
from driftline.config import Settings, load_settings
from driftline.core.pipeline import Pipeline
from driftline.devbroker import kafka
from driftline.ingest.feed import RowSender
from driftline.kafka import topic

CONTENDERS = ("driftline", "bare", "agent")
NAMES = {"driftline": "Driftline", "bare": "bare aiokafka loop", "agent": "Faust agents"}
TARGETS = {"agent": 12.0, "bare": 0.6}  # Driftline's rate over theirs, at least
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Run:
    """One contender in one round.

    Args:
        rate: pairs a second, by the wall clock.
        cpu_us: CPU time of its process a pair, in microseconds: less moved by other load on the machine.
        held: share of the time in which it was ready to run and something else had its core; much of it means that
            the machine was not quiet, and the rate says little.
    """

    contender: str
    round: int
    pairs: int
    rate: float
    cpu_us: float
    held: float


@dataclass(frozen=True)
class Ratio:
    """Driftline's rate over a rival's, within rounds; and the same by CPU time."""

    rival: str
    median: float
    least: float
    most: float
    target: float
    by_cpu: float

    @property
    def met(self) -> bool:
        return self.median >= self.target


@dataclass(frozen=True)
class Report:
    runs: list[Run]
    ratios: list[Ratio]
    setting: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        ratios = [{**asdict(ratio), "met": ratio.met} for ratio in self.ratios]
        return {"runs": [asdict(run) for run in self.runs], "ratios": ratios, "setting": self.setting}


def measure(
    rounds: int,
    pairs: int,
    agent_pairs: int,
    say: Callable[[str], None],
    *,
    shards: int = case.SHARDS,
    kind: Kind = "numbers",
) -> Report:
    """Run it all on a Kafka of its own.

    Args:
        pairs: events with their labels, for Driftline and the bare loop.
        agent_pairs: the same for the Faust app, which is slow.
        say: told of each step.
        shards: of Driftline.
        kind: of the pipeline; the Faust app runs `numbers` only. With `history` the bare loop computes them by hand.

    Raises:
        RuntimeError: a contender failed, or did not score and learn all.
    """
    core, broker_core = machine.split_cores()
    contenders = CONTENDERS if kind == "numbers" else CONTENDERS[:2]
    chosen = partial(case.pipeline, kind=kind)
    say("starting Kafka")
    with kafka.start(partitions=case.PARTITIONS) as broker:
        settings = load_settings({}, {"bootstrap": broker.bootstrap})
        stamp = int(time.time())
        inputs = {}
        for count in {pairs, agent_pairs} if "agent" in contenders else {pairs}:
            say(f"producing {count:,} events with their labels")
            inputs[count] = asyncio.run(produce(settings, chosen(f"input{count}-{stamp}"), count, kind))
        runs = []
        for number in range(1, rounds + 1):
            for place in range(len(contenders)):
                contender = contenders[(place + number - 1) % len(contenders)]
                count = agent_pairs if contender == "agent" else pairs
                name = f"{contender}-{stamp}-{number}"
                found = timed(settings, contender, chosen(name, *inputs[count]), count, core, shards, kind)
                wall_s, cpu_s, held_s = found["wall_s"], found["cpu_s"], found["held_s"]
                run = Run(contender, number, count, count / wall_s, cpu_s / count * 1e6, held_s / wall_s)
                say(f"round {number}: {NAMES[contender]}: {run.rate:,.0f} pairs/s")
                runs.append(run)
    setting = {
        "versions": machine.versions(),
        "core": core,
        "broker_core": broker_core,
        "partitions": case.PARTITIONS,
        "shards": shards,
        "model": chosen("any").model,
        "features": len(chosen("any").event.features),
        "metrics": list(case.METRICS),
        "drift": [watch.detector for watch in case.pipeline("any").drift.error],
        "delivery": {"driftline": "exactly_once", "bare": "none promised", "agent": "at_least_once"},
        "timed": "from the first record in hand to all pairs learned and all scores acknowledged",
    }
    return Report(runs, ratios(runs), setting)


def ratios(runs: list[Run]) -> list[Ratio]:
    """Driftline against each rival, round by round."""
    found = []
    for rival, target in TARGETS.items():
        if not any(run.contender == rival for run in runs):
            continue
        own = {run.round: run for run in runs if run.contender == "driftline"}
        theirs = [run for run in runs if run.contender == rival]
        rates = [own[run.round].rate / run.rate for run in theirs]
        by_cpu = [run.cpu_us / own[run.round].cpu_us for run in theirs]
        found.append(Ratio(rival, median(rates), min(rates), max(rates), target, median(by_cpu)))
    return found


def tables(report: Report) -> list[Table]:
    """For people."""
    rates = Table(
        title="Pairs a second (scored and learned) on one core; CPU time a pair; share of the time that others held it",
        title_justify="left",
    )
    rates.add_column("round", justify="right")
    contenders = [name for name in CONTENDERS if any(run.contender == name for run in report.runs)]
    for contender in contenders:
        rates.add_column(NAMES[contender], justify="right")
        rates.add_column("CPU us", justify="right", style="dim")
        rates.add_column("held", justify="right", style="dim")
    for number in sorted({run.round for run in report.runs}):
        row = [str(number)]
        for contender in contenders:
            run = next(run for run in report.runs if (run.contender, run.round) == (contender, number))
            row += [f"{run.rate:,.0f}", f"{run.cpu_us:.1f}", f"{run.held:.0%}"]
        rates.add_row(*row)
    compared = Table(title="Driftline's rate over theirs, within a round", title_justify="left")
    for head in ("against", "median", "min - max", "target", "", "by CPU time"):
        compared.add_column(head, justify="left" if head == "against" else "right")
    for ratio in report.ratios:
        spread, met = f"{ratio.least:.2f} - {ratio.most:.2f}", "met" if ratio.met else "[red]missed"
        compared.add_row(
            NAMES[ratio.rival], f"{ratio.median:.2f}", spread, f">= {ratio.target:g}", met, f"{ratio.by_cpu:.2f}"
        )
    return [rates, compared]


async def produce(settings: Settings, chosen: Pipeline, count: int, kind: Kind) -> tuple[str, str]:
    """Write the inputs; returns the events' and the labels' topic."""
    await topic.create(chosen, settings, partitions=case.PARTITIONS, shards=case.SHARDS, retention_ms=-1)
    fed = await RowSender(chosen, settings, label_delay_ms=case.LABEL_DELAY_MS).run(case.samples(count, kind=kind))
    if (fed.events, fed.labels) != (count, count):
        raise RuntimeError(f"produced {fed.events} events and {fed.labels} labels, not {count} of each")
    assert chosen.topics.labels is not None  # this pipeline has labels
    return chosen.topics.events, chosen.topics.labels


def timed(
    settings: Settings,
    contender: str,
    chosen: Pipeline,
    count: int,
    core: int | None,
    shards: int,
    kind: Kind,
    *,
    profile: str | None = None,
) -> dict[str, Any]:
    """Run one contender, and see for ourselves that it scored and learned all.

    Args:
        profile: a file for the profile of Driftline.
    """
    scores = chosen.topics.scores
    asyncio.run(topic.create(chosen, settings, partitions=case.PARTITIONS, shards=shards, retention_ms=-1))
    asked = {
        "bootstrap": settings.bootstrap,
        "name": chosen.name,
        "events": chosen.topics.events,
        "labels": chosen.topics.labels,
        "kind": kind,
        "scores": scores,
        "pairs": count,
        "partitions": case.PARTITIONS,
        "core": core,
        "profile": profile,
    }
    found = machine.run(contender, asked, TIMEOUT_S)
    readable = asyncio.run(_scored(settings, scores))
    if (found["scored"], found["learned"], readable) != (count, count, count):
        raise RuntimeError(
            f"{contender} scored {found['scored']}, learned {found['learned']} and published scores of {readable} "
            f"events, not {count} each"
        )
    return found


async def _scored(settings: Settings, scores: str) -> int:
    """How many events have a score that a read_committed reader sees."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        places = [TopicPartition(scores, partition) for partition in range(case.PARTITIONS)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        seen: set[object] = set()
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                seen.update(orjson.loads(record.value)["event_id"] for record in records)
        return len(seen)
    finally:
        await consumer.stop()
