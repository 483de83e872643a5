"""What a shard with very many pending events costs: memory, snapshots that must not keep the loop, and recovery.

Events with ten numbers and a text id wait for their label. Three snapshots are written to Kafka while labels of
events all over the ledger are folded: slots take turns and share nothing, so the first of each slot is whole, and the
third is what follows from then on. The longest turn of the loop is that of everything in the process: the snapshot, the
labels folded meanwhile, the Kafka client and the garbage collector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from benchmarks import machine
from benchmarks.contender.snapshot import LABELS_BETWEEN, pipeline
from driftline.config import load_settings
from driftline.devbroker import kafka
from driftline.kafka import topic

EVENT_BYTES_TARGET = 450
STEP_MS_TARGET = 50.0
TIMEOUT_S = 900.0
NAMES = ("first (whole)", "second (whole, the other slot)", "third (incremental)")


@dataclass(frozen=True)
class Report:
    pending: int
    event_bytes: float
    snapshots: list[dict[str, float]]
    recovery: dict[str, float]
    setting: dict[str, Any]

    @property
    def longest_ms(self) -> float:
        """The longest that a snapshot kept the loop at a time."""
        return max(max(one["edge_ms"], one["step_ms"]) for one in self.snapshots)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self),
            "longest_ms": self.longest_ms,
            "targets": {"event_bytes": EVENT_BYTES_TARGET, "longest_ms": STEP_MS_TARGET},
            "met": self.event_bytes <= EVENT_BYTES_TARGET and self.longest_ms <= STEP_MS_TARGET,
        }


def measure(pending: int, say: Callable[[str], None]) -> Report:
    """Run it on a Kafka of its own.

    Args:
        pending: how many events wait at once.
        say: told of each step.

    Raises:
        RuntimeError: a process failed.
    """
    core, broker_core = machine.split_cores()
    say("starting Kafka")
    with kafka.start(partitions=1) as broker:
        name = f"snapshot-{int(time.time())}"
        settings = load_settings({}, {"bootstrap": broker.bootstrap})
        asyncio.run(topic.create(pipeline(name, pending), settings, partitions=1, shards=1))
        asked = {"bootstrap": broker.bootstrap, "name": name, "pending": pending, "core": core}
        say(f"{pending:,} events, then three snapshots")
        taken = machine.run("snapshot", asked, TIMEOUT_S)
        say("recovering from the last one")
        recovery = machine.run("snapshot", {**asked, "recover": True}, TIMEOUT_S)
    if recovery["waiting"] != taken["snapshots"][-1]["waiting"]:
        raise RuntimeError(f"{recovery['waiting']} events wait after recovery, not {taken['snapshots'][-1]['waiting']}")
    setting = {
        "versions": machine.versions(),
        "core": core,
        "broker_core": broker_core,
        "between two snapshots": f"labels of {LABELS_BETWEEN:.0%} of the events, and as many new events",
    }
    return Report(pending, taken["event_bytes"], taken["snapshots"], recovery, setting)


def tables(report: Report) -> list[Table]:
    """For people."""
    title = (
        f"Snapshots of a shard with {report.pending:,} pending events (target: at most {STEP_MS_TARGET:g} ms a step)"
    )
    table = Table(title=title, title_justify="left")
    for head in ("", "at the edge", "longest step", "longest turn", "written", "in", "labels meanwhile"):
        table.add_column(head, justify="right")
    for name, one in zip(NAMES, report.snapshots, strict=True):
        table.add_row(
            name,
            f"{one['edge_ms']:.1f} ms",
            f"{one['step_ms']:.1f} ms",
            f"{one['turn_ms']:.1f} ms",
            f"{one['bytes'] / 1e6:.1f} MB",
            f"{one['seconds']:.1f} s, {one['commits']:.0f} commits",
            f"{one['labels']:,.0f}",
        )
    memory = Table(title="Bytes of a pending event, and recovery", title_justify="left")
    for head in ("", "measured", "target"):
        memory.add_column(head, justify="right")
    met = "" if report.event_bytes <= EVENT_BYTES_TARGET else " [red]missed"
    memory.add_row("in memory (RSS)", f"{report.event_bytes:.0f}", f"at most {EVENT_BYTES_TARGET}{met}")
    memory.add_row("in a whole snapshot", f"{report.snapshots[0]['bytes'] / report.snapshots[0]['waiting']:.0f}", "")
    recovery = report.recovery
    memory.add_row("recovery", f"{recovery['seconds']:.1f} s", "")
    memory.add_row("its longest turn of the loop", f"{recovery['turn_ms']:.0f} ms", "")
    memory.add_row("its peak memory", f"{recovery['peak_mb']:.0f} MB", "")
    return [table, memory]
