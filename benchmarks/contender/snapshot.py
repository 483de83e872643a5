"""One shard with very many pending events, its snapshots written to Kafka, and its recovery from them.

python -m benchmarks.contender.snapshot '{"bootstrap": "...", "name": "...", "pending": 1000000, "core": 0}' takes
three snapshots: the first of each slot is whole, the third follows the first. While each is written, labels are
folded, of events all over the ledger. With "recover": true, a process of its own recovers from the last one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import pin
from driftline.codec.journal import CHAIN_START, SliceEntry, encode_link, link
from driftline.codec.keyring import NO_KEYS
from driftline.codec.write import Write
from driftline.config import load_settings
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.shard.state import Shard
from driftline.engine.epoch import next_epoch
from driftline.engine.fold import Folder
from driftline.engine.recovery import Recovery
from driftline.engine.snapshot import SnapshotWriter
from driftline.engine.worker import GARBAGE_THRESHOLDS
from driftline.kafka.broker import KafkaBroker
from driftline.transport.port import Publisher
from tests.support.folding import step

FEATURES = tuple(f"x{number}" for number in range(10))
LABELS_BETWEEN = 0.02  # of the events that wait, between two snapshots
LABELS_A_TURN = 32  # folded between two turns of the loop, as a slice folds them
START_MS = 1_700_000_000_000


def pipeline(name: str, pending: int) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": name,
            "task": "binary",
            "event": {"id": "id", "features": dict.fromkeys(FEATURES, "number")},
            "label": {"id": "id", "value": "label", "wait": "30d", "pending_max": 2 * pending},
            "model": "StandardScaler() | LogisticRegression()",
            "metrics": ["Accuracy", "LogLoss"],
        }
    )


class Load:
    """Events and labels as they would be decoded.

    Args:
        chosen: the pipeline.
        shard: is folded into.
    """

    def __init__(self, chosen: Pipeline, shard: Shard) -> None:
        self.shard = shard
        self._topics = chosen.topics
        self._random = random.Random(7)
        self.events = self.labels = 0

    def add(self, count: int) -> None:
        """Score this many events more, 10 ms apart."""
        gauss = self._random.gauss
        for _ in range(count):
            number = self.events
            self.events += 1
            now_ms = START_MS + 10 * number
            event_id = f"payment-{number:09d}"
            source = Source(self._topics.events, 0, number, now_ms, event_id.encode(), None)
            features = tuple(gauss(0, 1) for _ in FEATURES)
            step(self.shard, Event(source, now_ms, now_ms, event_id, features))

    def label(self, count: int) -> None:
        """Join labels to this many events, anywhere; some were joined before."""
        now_ms = START_MS + 10 * self.events
        for _ in range(count):
            event_id = f"payment-{self._random.randrange(self.events):09d}"
            source = Source(self._topics.labels or "", 0, self.labels, now_ms, event_id.encode(), None)
            self.labels += 1
            step(self.shard, Label(source, now_ms, now_ms, event_id, self._random.random() < 0.5))


class Turns:
    """How long the event loop was kept between two of its turns."""

    def __init__(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())
        self.longest_s = 0.0

    async def _watch(self) -> None:
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now_s = time.perf_counter()
            self.longest_s = max(self.longest_s, now_s - last_s)
            last_s = now_s

    def stop(self) -> float:
        self._task.cancel()
        return self.longest_s


async def take(writer: SnapshotWriter, load: Load, publisher: Publisher, chain: str, offset: int) -> dict[str, Any]:
    """One snapshot, written in commits of its own while labels come."""
    turns = Turns()
    begun_s = time.perf_counter()
    edge_bytes = writer.take(Folder(load.shard, {}), chain, 1, 1)
    edge_s = time.perf_counter() - begun_s
    writer.committed(offset)
    step_s, commits, before = 0.0, 0, load.labels
    while writer.writing:
        load.label(LABELS_A_TURN)
        await asyncio.sleep(0)
        started_s = time.perf_counter()
        writes = writer.next_writes()
        step_s = max(step_s, time.perf_counter() - started_s)
        if writes:
            await publisher.commit(writes, None)
            commits += 1
    return {
        "edge_ms": edge_s * 1000,
        "step_ms": step_s * 1000,
        "turn_ms": turns.stop() * 1000,
        "seconds": time.perf_counter() - begun_s,
        "bytes": writer.written_bytes,
        "edge_bytes": edge_bytes,
        "commits": commits,
        "labels": load.labels - before,
    }


async def snapshots(asked: dict[str, Any]) -> dict[str, Any]:
    chosen = pipeline(asked["name"], asked["pending"])
    broker = KafkaBroker(chosen, load_settings({}, {"bootstrap": asked["bootstrap"]}))
    publisher = broker.publisher(0)
    await publisher.open()
    positions = dict.fromkeys((chosen.topics.events, chosen.topics.labels or "", chosen.topics.control), 0)
    epoch = next_epoch(None, chosen, positions, 0, reset=False)
    if epoch is None:
        raise RuntimeError("a journal without entries has no epoch")
    first = link(epoch, CHAIN_START)
    await publisher.commit([], Write(chosen.topics.journal, 0, b"0", encode_link(first)))
    second = link(SliceEntry(1, {}, START_MS, 0, "0" * 32, START_MS, 1), first.chain)
    offset = await publisher.commit([], Write(chosen.topics.journal, 0, b"0", encode_link(second)))
    load = Load(chosen, Shard(chosen, 0))
    load.add(1_000)
    gc.collect()
    before = resident()
    load.add(asked["pending"] - 1_000)
    gc.collect()
    event_bytes = (resident() - before) / (asked["pending"] - 1_000)
    writer = SnapshotWriter(chosen, 0, 0, NO_KEYS)
    taken = []
    for number in range(3):
        if number:
            load.label(int(asked["pending"] * LABELS_BETWEEN))
            load.add(int(asked["pending"] * LABELS_BETWEEN))
        waiting = len(load.shard.pending)
        taken.append({**await take(writer, load, publisher, second.chain, offset), "waiting": waiting})
    await publisher.close()
    return {"event_bytes": event_bytes, "snapshots": taken}


async def recover(asked: dict[str, Any]) -> dict[str, Any]:
    chosen = pipeline(asked["name"], asked["pending"])
    broker = KafkaBroker(chosen, load_settings({}, {"bootstrap": asked["bootstrap"]}))
    turns = Turns()
    begun_s = time.perf_counter()
    recovered = await Recovery(broker, chosen, 0, NO_KEYS).run()
    seconds = time.perf_counter() - begun_s
    if recovered.folder is None:
        raise RuntimeError("nothing was recovered")
    return {
        "seconds": seconds,
        "turn_ms": turns.stop() * 1000,
        "waiting": len(recovered.folder.shard.pending),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    pin(asked["core"])
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    print(json.dumps(asyncio.run((recover if asked.get("recover") else snapshots)(asked))), flush=True)
