"""Journals, snapshots and inputs of small pipelines as an earlier format wrote them, for a test to go on from.

`python -m tests.support.kept` writes those of the format that this code has, once: before the format is raised.
"""

from __future__ import annotations

import asyncio
import lzma
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from msgspec import msgpack, structs

from driftline.codec.inputs import Inputs
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Source
from driftline.core.state.migration import FORMAT
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, Life, pipeline, produce
from tests.support.cluster import Entry, MemoryCluster

FOLDER = Path(__file__).parent.parent / "engine" / "formats"
COUNT = 150
UNLABELLED = 12  # of the last events
EARLY = 5  # labels whose events are still to come

KINDS: Mapping[str, Mapping[str, Any]] = {
    "binary": {
        "label": {"second": "correct", "correct_for": "1h"},
        "drift": {
            "error": None,
            "loss": {"detector": "ADWIN(delta=0.002)", "warning": "ADWIN(delta=0.5)", "reaction": "swap"},
            "warmup_labels": 40,
            "reference_size": 50,
        },
        "metric_by": {"segment": "word", "ages": ["10s", "1m"]},
    },
    "multiclass": {
        "task": "multiclass",
        "model": "(Select('x', 'z') | StandardScaler()) | HoeffdingTreeClassifier(grace_period=20)",
        "event": {"features": {"x": "number", "z": "number"}},
        "metrics": ["Accuracy", "MacroF1"],
    },
    "regression": {
        "task": "regression",
        "model": "(Select('x', 'z') | StandardScaler()) | LinearRegression()",
        "event": {"features": {"x": "number", "z": "number"}},
        "metrics": ["MAE", "R2"],
        "drift": {"error": "ADWIN()"},
    },
    "anomaly": {
        "task": "anomaly",
        "model": "(Select('x', 'z') | MinMaxScaler()) | HalfSpaceTrees(n_trees=4, height=3, window_size=40)",
        "event": {"features": {"x": "number", "z": "number"}},
        "metrics": ["ROCAUC"],
        "drift": {"score": "ADWIN()", "features": {"x": "ADWIN()"}},
    },
}


def chosen_of(kind: str) -> Pipeline:
    """A pipeline of a kind, which lets the last events wait."""
    sections = {"snapshot": {"every_records": 100}, **KINDS[kind]}
    return pipeline(kind, **sections)


async def lived(chosen: Pipeline) -> tuple[MemoryCluster, dict[str, Any]]:
    """A cluster that a worker left, and what it then knew."""
    cluster = MemoryCluster(lambda: NOW_MS)
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    produce(cluster, chosen, UNLABELLED, first=COUNT + 10, labels=False)
    for number in range(EARLY):
        value = orjson.dumps({"id": f"early {number}", "y": _label(chosen, number)})
        cluster.produce(chosen.topics.labels or "", 0, value, NOW_MS + (COUNT + 30) * STEP_MS)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        summary = life.shard().summary()
        await life.stop()
    return cluster, summary


def _label(chosen: Pipeline, number: int) -> object:
    return "class 1" if chosen.task == "multiclass" else number % 2


def write(path: Path) -> None:
    """Everything that a worker reads of each kind."""
    made = {}
    for kind in KINDS:
        chosen = chosen_of(kind)
        cluster, summary = asyncio.run(lived(chosen))
        names = [*Inputs(chosen).topics, chosen.topics.journal, chosen.topics.snapshots]
        made[kind] = {
            "pipeline": chosen.resolved(),
            "summary": summary,
            "logs": {name: _rows(cluster.log(Place(name, 0)).entries) for name in names},
        }
    document = {"versions": versions(), "arithmetic": arithmetic_fingerprint(), "kinds": made}
    path.write_bytes(lzma.compress(msgpack.encode(document), preset=9))


def _rows(entries: Sequence[Entry]) -> list[list[Any] | None]:
    """Time, key and value of each record; None for what only takes an offset, or would be compacted away."""
    shown = [entry for entry in entries if not entry.hidden(committed=True)]
    newest = {entry.source.key: entry.source.offset for entry in shown if b"/" in (entry.source.key or b"")}
    return [
        [source.record_time_ms, source.key, source.value]
        if entry in shown and newest.get(source.key, source.offset) == source.offset
        else None
        for entry in entries
        for source in (entry.source,)
    ]


def read(made_by: int) -> dict[str, Any]:
    """What `write` wrote when the format had this number."""
    document: dict[str, Any] = msgpack.decode(lzma.decompress((FOLDER / f"{made_by}.xz").read_bytes()))
    return document


def cluster_of(kept: Mapping[str, Any]) -> tuple[Pipeline, MemoryCluster]:
    """One kind's pipeline, as the file would be written today, and its topics."""
    chosen = parse_pipeline(kept["pipeline"])
    cluster = MemoryCluster(lambda: NOW_MS)
    cluster.create_for(chosen, 1)
    for name, rows in kept["logs"].items():
        log = cluster.log(Place(name, 0))
        for offset, row in enumerate(rows):
            blank = Source(name, 0, offset, NOW_MS, None, None)
            if row is None:
                log.append(Entry(blank, None, marker=True))
                continue
            log.append(Entry(structs.replace(blank, record_time_ms=row[0], key=row[1], value=row[2])))
    return chosen, cluster


if __name__ == "__main__":
    target = FOLDER / f"{FORMAT}.xz"
    if target.exists():
        sys.exit(f"{target} is there: it says what format {FORMAT} was, and is never written again")
    write(target)
