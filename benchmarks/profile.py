"""CPU time a pair by stage: what a worker spends on the way of a record, on a real Kafka.

The worker runs under cProfile by CPU time, which makes calls dearer than they are; shares are right to a few per cent,
and are taken of what a pair costs without it.
"""

from __future__ import annotations

import pstats
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import case, machine, throughput
from benchmarks.model import MODELS
from driftline.config import load_settings
from driftline.devbroker import kafka

# The first that a file's path contains; built-in functions count for whoever calls them.
STAGES = {
    "codec/encode": "encode",
    "codec/value": "encode",
    "codec/write": "encode",
    "codec/": "decode",
    "core/fold/merge": "merge",
    "core/fold/future": "merge",
    "core/label": "join",
    "core/fold/guard": "guard",
    "core/fold/learning": "guard",
    "core/guard": "guard",
    "core/metric": "evaluate",
    "core/task/measure": "evaluate",
    "core/river/calibration": "evaluate",
    "core/drift": "detect",
    "river/drift": "detect",
    "core/model": "predict and learn",
    "core/task": "predict and learn",
    "core/river": "predict and learn",
    "site-packages/river": "predict and learn",
    "core/history": "history",
    "core/": "fold",
    "engine/fold": "fold",
    "aiokafka/consumer": "fetch",
    "aiokafka/record": "fetch",
    "kafka/unreadable": "fetch",
    "kafka/packed": "fetch",
    "engine/hand": "fetch",
    "aiokafka/producer": "publish",
    "kafka/": "fetch and publish",
    "asyncio": "fetch and publish",
    "selectors": "fetch and publish",
    "engine/": "engine",
}


@dataclass(frozen=True)
class Stage:
    """Microseconds of CPU a pair, and calls."""

    name: str
    cpu_us: float
    calls: float


@dataclass(frozen=True)
class Report:
    stages: list[Stage]
    setting: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"stages": [asdict(one) for one in self.stages], "setting": self.setting}


def measure(pairs: int, say: Callable[[str], None], *, shards: int, name: str) -> Report:
    """Run the worker twice on the same records: as it is, and under the profiler.

    Args:
        name: of the model.

    Raises:
        RuntimeError: it failed, or did not score and learn all.
    """
    core, _ = machine.split_cores()
    say("starting Kafka")
    with kafka.start(partitions=case.PARTITIONS) as broker, tempfile.TemporaryDirectory() as folder:
        bench = throughput.Bench(load_settings({}, {"bootstrap": broker.bootstrap}), core, shards)
        given = bench.produce(name, MODELS[name].pairs(pairs), say)
        say("running a worker")
        plain, _ = bench.timed(given, throughput.OURS)
        say("running one under the profiler")
        profile = str(Path(folder) / "profile")
        bench.timed(given, throughput.OURS, profile)
        found = stages_of(profile, given.pairs, plain["cpu_s"] / given.pairs * 1e6)
    setting = {"pairs": given.pairs, "shards": shards, "model": given.model.title, "versions": machine.versions()}
    return Report(found, setting)


def stages_of(profile: str, pairs: int, cpu_us: float) -> list[Stage]:
    """The stages of a profile, the dearest first.

    Args:
        cpu_us: what a pair costs without the profiler.
    """
    own_s: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for (file, _, _), (_, count, spent_s, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if file != "~":
            own_s[_stage(file)] += spent_s
            calls[_stage(file)] += count
            continue
        for (caller, _, _), (_, part, part_s, _) in callers.items():
            own_s[_stage(caller)] += part_s
            calls[_stage(caller)] += part
    scale = cpu_us / sum(own_s.values())
    return [Stage(name, spent_s * scale, calls[name] / pairs) for name, spent_s in own_s.most_common()]


def _stage(file: str) -> str:
    return next((stage for part, stage in STAGES.items() if part in file), "the rest")


def tables(report: Report) -> list[Table]:
    """For people."""
    table = Table(title="CPU time a pair by stage", title_justify="left")
    table.add_column("stage")
    for head in ("us", "share", "calls"):
        table.add_column(head, justify="right")
    total = sum(one.cpu_us for one in report.stages)
    for one in report.stages:
        table.add_row(one.name, f"{one.cpu_us:.1f}", f"{one.cpu_us / total:.0%}", f"{one.calls:.1f}")
    table.add_row("all", f"{total:.1f}", "", f"{sum(one.calls for one in report.stages):.1f}")
    return [table]
