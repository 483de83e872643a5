"""One whole campaign: broker, load, faults, rest, check, summary."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from driftline.core.pipeline import Pipeline
from driftline.devbroker import kafka
from driftline.devbroker.java import kafka_version
from driftline.kafka.topic import create
from tests.chaos.campaign import Campaign, Ledger
from tests.chaos.case import CASES
from tests.chaos.load import Load, Sent, write_pipeline
from tests.chaos.promise import count_outputs, lag, lost_or_repeated, verify
from tests.support.stream import pipeline_of, settings_of

DRAINED_S = 300.0
BETWEEN_S = 4.5  # what calm and the broker's absences add to each gap, on average
PACKAGES = ("aiokafka", "faust-streaming", "river")
BAD = re.compile(r"^.*(?:CRITICAL|never retrieved|was destroyed|digests: [1-9]).*$", re.MULTILINE)


@dataclass(frozen=True)
class Plan:
    """What a campaign does.

    Args:
        gap_s: mean time between two faults; the load lasts as long as all faults do, if nothing takes longer.
        task: of the pipeline.
        away_s: how long the broker is away once, in the middle.
    """

    seed: int
    faults: int
    events: int
    gap_s: float = 4.0
    workers: int = 3
    partitions: int = 6
    shards: int = 6
    away_s: float = 30.0
    task: str = "binary"


@dataclass(frozen=True)
class Result:
    """What came of it.

    Args:
        broken: where the promise did not hold, in words.
        wrong: the same, and workers that ended by themselves or with another exit code than they should.
    """

    plan: Plan
    ledger: Ledger
    sent: Sent
    counts: dict[str, int]
    audit: dict[str, Any]
    broken: list[str]
    wrong: list[str]
    seconds: float
    logs: str

    @property
    def complaints(self) -> list[str]:
        """Lines of the workers' logs that no fault excuses."""
        return sorted(set(BAD.findall(self.logs)))

    def summary(self) -> str:
        """For people, and for the documentation."""
        plan, ledger = self.plan, self.ledger
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(ledger.faults.items(), reverse=True))
        packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        outputs = ", ".join(f"{topic.rpartition('.')[2]} {count:,}" for topic, count in self.audit["outputs"].items())
        lines = [
            f"seed        {plan.seed}, task {plan.task}; {plan.workers} workers, {plan.partitions} partitions, "
            f"{plan.shards} shards, {self.seconds:.0f} s",
            f"faults      {ledger.faults.total()}: {faults}",
            f"starts      {ledger.starts} worker processes",
            f"sent        {self.sent.events:,} events, {len(self.sent.labelled) + len(self.sent.twice):,} labels, "
            f"{self.sent.malformed:,} malformed records",
            *(f"            {count:,} {name}" for name, count in self.counts.items()),
            f"verify      {self.audit['verdict']}: {self.audit['slices']:,} slices, {self.audit['records']:,} records, "
            f"{self.audit['unverifiable']} not verifiable here",
            f"            {outputs} compared byte for byte",
            *self._takeovers(),
            f"versions    Python {platform.python_version()}, Kafka {kafka_version()}, {packages}",
            f"machine     {os.cpu_count()} cores, shared; load average {os.getloadavg()[1]:.1f} at the end",
            "THE PROMISE HELD: 0 lost, 0 repeated, 0 different" if not self.broken else "THE PROMISE DID NOT HOLD",
            *self.wrong,
        ]
        return "\n".join(lines)

    def _takeovers(self) -> list[str]:
        """Time from a fault to all shards of its victim being ready on others."""
        lines = []
        for fault in ("worker SIGKILL", "worker SIGTERM", "worker SIGSTOP"):
            every = [one for one in self.ledger.takeovers if one.fault == fault and one.seconds is not None]
            alone = [one.seconds or 0.0 for one in every if not one.disturbed]
            told = [f"{_spread([one.seconds or 0.0 for one in every])} ({len(every)})"] if every else ["none"]
            if alone and len(alone) < len(every):
                told.append(f"without another fault meanwhile {_spread(alone)} ({len(alone)})")
            lines.append(f"ready again {fault}: {', '.join(told)}")
        return lines


def _spread(seconds: list[float]) -> str:
    return f"median {median(seconds):.1f} s, worst {max(seconds):.1f} s"


async def run(plan: Plan, tell: Callable[[str], None]) -> Result:
    """Bring the faults under load and check the promise; keeps nothing but what it returns."""
    begun_s = time.monotonic()

    def told(text: str) -> None:
        tell(f"{time.monotonic() - begun_s:7.1f}  {text}")

    with tempfile.TemporaryDirectory(prefix="driftline-chaos-") as name:
        folder = Path(name)
        node = await asyncio.to_thread(kafka.start)
        try:
            return await _run(plan, node, folder, told, begun_s)
        finally:
            await asyncio.to_thread(node.stop)


async def _run(plan: Plan, node: kafka.KafkaNode, folder: Path, told: Callable[[str], None], begun_s: float) -> Result:
    case = CASES[plan.task]
    file = write_pipeline(folder, f"chaos-{plan.seed}", case)
    pipeline, bootstrap = pipeline_of(file), node.bootstrap
    await create(pipeline, settings_of(bootstrap), partitions=plan.partitions, shards=plan.shards)
    rate = plan.events / (plan.faults * (plan.gap_s + BETWEEN_S))
    load = Load(bootstrap, pipeline, case, seed=plan.seed, events=plan.events, rate=rate, partitions=plan.partitions)
    campaign = Campaign(
        node,
        file,
        folder,
        seed=plan.seed,
        workers=plan.workers,
        busy=min(plan.workers, plan.shards),
        gap_s=plan.gap_s,
        away_s=plan.away_s,
        tell=told,
    )
    loading = asyncio.create_task(load.run())
    try:
        await campaign.run(plan.faults)
        told("the last fault is over; the load goes on to its end")
        await loading
        await _until_drained(bootstrap, pipeline)
        await campaign.stop()
        told("all of it is taken in; checking")
        counts = await count_outputs(bootstrap, pipeline, case, load.sent, plan.partitions)
        audit = await asyncio.to_thread(verify, bootstrap, file)
    finally:
        loading.cancel()
        await asyncio.wait({loading})
        campaign.kill()
    broken = [f"{count:,} {what}" for what, count in lost_or_repeated(counts).items()]
    if audit["verdict"] != "PASS" or audit["unverifiable"]:
        broken.append(f"verify: {audit['difference']}, {audit['unverifiable']} slices not verifiable")
    wrong = [*broken, *campaign.ledger.wrong]
    logs = campaign.logs()
    seconds = time.monotonic() - begun_s
    return Result(plan, campaign.ledger, load.sent, counts, audit, broken, wrong, seconds, logs)


async def _until_drained(bootstrap: str, pipeline: Pipeline) -> None:
    async with asyncio.timeout(DRAINED_S):
        while await lag(bootstrap, pipeline):  # noqa: ASYNC110 - Kafka tells nobody when it is read
            await asyncio.sleep(1.0)
