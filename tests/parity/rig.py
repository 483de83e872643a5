"""A worker on a cluster in memory, its death at a chosen moment, and what must hold of the topics afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from driftline.codec.encode import Message
from driftline.codec.journal import EpochEntry, Link, SliceEntry, decode_link
from driftline.codec.keyring import NO_KEYS
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, frozen_digest
from driftline.engine.live import Live
from driftline.engine.recovered import Recovered
from driftline.engine.runner import Runner
from driftline.engine.start import Start
from driftline.engine.worker import Worker
from driftline.transport.port import Place
from tests.support.cluster import ClusterError, MemoryCluster
from tests.support.memory import Hook, MemoryBroker, Moment, Step
from tests.support.published import digest
from tests.support.state import FromTheBeginning

NOW_MS = 1_700_000_000_000
STEP_MS = 1_000
WITHIN_S = 30.0
MODEL = "(Select('x', 'z') | StandardScaler()) + (Select('word') | OneHotEncoder()) | LogisticRegression()"


def pipeline(name: str = "parity", **sections: Any) -> Pipeline:
    """A pipeline with slices of a hundred records; `sections` are merged into its document."""
    document: dict[str, Any] = {
        "pipeline": name,
        "task": "binary",
        "event": {"id": "id", "features": {"x": "number", "z": "number", "word": "string"}},
        "label": {"id": "id", "value": "y", "wait": "1h"},
        "model": MODEL,
        "metrics": ["Accuracy", "LogLoss", "ROCAUC"],
        "drift": {"score": "ADWIN()", "features": {"x": "PageHinkley()"}, "warmup_labels": 100, "reference_size": 100},
        "limits": {"slice_records_max": 100, "slice_compute_max": "10s"},
    }
    for section, content in sections.items():
        whole = isinstance(content, dict) and isinstance(document.get(section), dict)
        document[section] = {**document[section], **content} if whole else content
    return parse_pipeline(document)


def produce(
    cluster: MemoryCluster,
    chosen: Pipeline,
    count: int,
    *,
    first: int = 0,
    partitions: int = 1,
    delay_steps: int = 7,
    labels: bool = True,
    labels_every: int = 1,
) -> list[int]:
    """Events and, some steps later in their time, their labels, or those of every nth; returns the ids."""
    rng = random.Random(first)
    topics = chosen.topics
    late: list[tuple[int, bytes]] = []
    for number in range(first, first + count + delay_steps):
        time_ms = NOW_MS + number * STEP_MS
        if number < first + count:
            x, z = rng.gauss(0, 2), rng.random()
            event = {"id": number, "x": x, "z": z, "word": rng.choice("abc")}
            cluster.produce(topics.events, number % partitions, orjson.dumps(event), time_ms)
            y: object = int(x + 3 * z > rng.gauss(1.5, 1))
            if chosen.task == "multiclass":
                y = f"class {int(abs(x) + z)}"
            late.append((number, orjson.dumps({"id": number, "y": y})))
        if labels and topics.labels is not None and number - delay_steps >= first:
            about, value = late.pop(0)
            if about % labels_every:
                continue
            cluster.produce(topics.labels, about % partitions, value, time_ms)
    return list(range(first, first + count))


async def worked(
    chosen: Pipeline, count: int, *, partitions: int = 1, start: Start | None = None, **produced: Any
) -> MemoryCluster:
    """A cluster whose records one worker has folded, and then stopped.

    Args:
        start: as `Life` takes it.
        produced: as `produce` takes it.
    """
    cluster = MemoryCluster()
    cluster.create_for(chosen, partitions)
    produce(cluster, chosen, count, partitions=partitions, **produced)
    await run_through(cluster, chosen, start=start)
    return cluster


class Death:
    """A hook that kills its client at the nth time that a step comes up.

    Args:
        arrives: whether what is under way at that moment still reaches the cluster.
    """

    def __init__(self, step: Step, nth: int, *, arrives: bool = False) -> None:
        self._step = step
        self._left = nth
        self._arrives = arrives
        self.broker: MemoryBroker | None = None
        self.struck = asyncio.Event()

    async def __call__(self, moment: Moment) -> None:
        await asyncio.sleep(0)
        if moment.step != self._step or self.struck.is_set():
            return
        self._left -= 1
        if self._left == 0 and self.broker is not None:
            self.struck.set()
            self.broker.kill()
            if not self._arrives:
                raise ClusterError("killed")


class Life:
    """One worker process, from its start to its end."""

    def __init__(
        self,
        cluster: MemoryCluster,
        chosen: Pipeline,
        *,
        client: str = "one",
        hook: Hook | None = None,
        start: Start | None = None,
    ) -> None:
        self.cluster = cluster
        self.pipeline = chosen
        self.broker = MemoryBroker(cluster, chosen, client=client, hook=hook)
        if isinstance(hook, Death):
            hook.broker = self.broker
        self.worker = Worker(self.broker, chosen, start)
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Life:
        self.running = asyncio.create_task(self.worker.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running is not None and not self.running.done():
            await self.kill()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait within a bound; raises what stopped the worker."""
        assert self.running is not None
        async with asyncio.timeout(WITHIN_S):
            while not self.running.done():
                if holds():
                    return
                await asyncio.sleep(0.001)
        self.running.result()
        raise AssertionError("the worker stopped by itself")

    async def until_done(self) -> None:
        """Wait until every record of the inputs is in the journal."""
        await self.until(lambda: not behind(self))

    async def until_dead(self, death: Death) -> None:
        await self.until(death.struck.is_set)
        await self.kill()

    async def kill(self) -> None:
        """As SIGKILL: nothing more leaves this process, and nobody inside it learns anything."""
        self.broker.kill()
        assert self.running is not None
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running

    async def stop(self) -> None:
        assert self.running is not None
        self.worker.stop()
        async with asyncio.timeout(WITHIN_S):
            await self.running

    async def fails(self) -> BaseException:
        """Wait until the worker stops by itself, and return why."""
        assert self.running is not None
        async with asyncio.timeout(WITHIN_S):
            await asyncio.wait({self.running})
        error = self.running.exception()
        assert error is not None
        return error

    def runner(self, partition: int = 0) -> Runner:
        return self.worker.runners[partition]

    def live(self, partition: int = 0) -> Live:
        live = self.runner(partition).live
        assert live is not None
        return live

    def shard(self, partition: int = 0) -> Shard:
        return self.live(partition).shard


async def run_through(
    cluster: MemoryCluster, chosen: Pipeline, *, client: str = "one", start: Start | None = None
) -> None:
    """A worker does all that the inputs hold, and stops."""
    async with Life(cluster, chosen, client=client, start=start) as life:
        await life.until_done()
        await life.stop()


def behind(life: Life) -> bool:
    """Whether some record of an input is not in the journal yet."""
    if not life.worker.ready:
        return True
    for runner in life.worker.runners.values():
        if runner.live is None:
            return True
        for place, offset in runner.committed().items():
            if life.cluster.log(place).read(offset, 1, committed=life.broker.exact)[0]:
                return True
    return False


# -- what the topics hold


def documents(cluster: MemoryCluster, topic: str) -> list[dict[str, Any]]:
    """The values of a topic as a read_committed reader sees them."""
    count = cluster.partitions[topic]
    sources = [source for partition in range(count) for source in cluster.records(topic, partition)]
    return [orjson.loads(source.value or b"null") for source in sources]


def check_exact(cluster: MemoryCluster, chosen: Pipeline, ids: Sequence[int]) -> None:
    """Every event has one score and one joined label, and nothing else came out of either."""
    scores = Counter(one["event_id"] for one in documents(cluster, chosen.topics.scores))
    assert scores == Counter(ids)
    outcomes = Counter((one["event_id"], one["kind"]) for one in documents(cluster, chosen.topics.outcomes))
    assert outcomes == Counter((one, "joined") for one in ids)
    versions = [int(one["model_version"].partition(".")[2]) for one in documents(cluster, chosen.topics.scores)]
    assert min(versions) == 0
    assert documents(cluster, chosen.topics.rejected) == []


def check_at_least(cluster: MemoryCluster, chosen: Pipeline, ids: Sequence[int]) -> None:
    """Every event has a score and a joined label; repeats carry the same ids."""
    for topic in (chosen.topics.scores, chosen.topics.outcomes):
        ids_by_event: dict[int, set[str]] = {}
        for one in documents(cluster, topic):
            ids_by_event.setdefault(one["event_id"], set()).add(one["output_id"])
        assert sorted(ids_by_event) == list(ids)
        assert {len(output_ids) for output_ids in ids_by_event.values()} == {1}


def outputs_digest(cluster: MemoryCluster, chosen: Pipeline) -> str:
    """Over everything that users read."""
    topics = chosen.topics
    kinds = (("scores", topics.scores), ("outcomes", topics.outcomes), ("alerts", topics.alerts))
    messages = [
        Message(topic, partition, source.key, source.value, source.record_time_ms, source.headers, kind=kind)
        for kind, topic in kinds
        for partition in range(cluster.partitions[topic])
        for source in cluster.records(topic, partition)
    ]
    return digest(messages)


def journal(cluster: MemoryCluster, chosen: Pipeline, partition: int = 0) -> list[Link]:
    """Every journal entry that can be read."""
    return [decode_link(source.value) for source in cluster.records(chosen.topics.journal, partition)]


def slices(cluster: MemoryCluster, chosen: Pipeline, partition: int = 0) -> list[SliceEntry]:
    return [linked.entry for linked in journal(cluster, chosen, partition) if isinstance(linked.entry, SliceEntry)]


def epochs(cluster: MemoryCluster, chosen: Pipeline, partition: int = 0) -> list[EpochEntry]:
    return [linked.entry for linked in journal(cluster, chosen, partition) if isinstance(linked.entry, EpochEntry)]


def state(shard: Shard) -> bytes:
    """The digest of everything that a shard keeps."""
    return frozen_digest(shard.pipeline, shard.number, dump(shard))


async def replay(cluster: MemoryCluster, chosen: Pipeline, partition: int = 0) -> Recovered:
    """Fold a shard's whole journal again; every slice's digest is compared on the way."""
    broker = MemoryBroker(cluster, chosen, client="replay")
    recovered = await FromTheBeginning(broker, chosen, partition, NO_KEYS).run()
    assert recovered.progress.unverifiable == 0
    return recovered


async def check_replay(cluster: MemoryCluster, chosen: Pipeline, life: Life) -> None:
    """Each shard that the worker holds is what its journal says from the beginning."""
    for partition, runner in life.worker.runners.items():
        recovered = await replay(cluster, chosen, partition)
        assert recovered.folder is not None
        assert runner.live is not None
        assert state(recovered.folder.shard) == state(runner.live.shard)
        assert recovered.positions == dict(runner.live.committed)
        assert recovered.journal_offset == runner.live.journal_offset


@asynccontextmanager
async def after(death: Death, cluster: MemoryCluster, chosen: Pipeline) -> AsyncIterator[Life]:
    """A worker that has done everything, after one that died of this."""
    async with Life(cluster, chosen, client="one", hook=death) as first:
        await first.until_dead(death)
    async with Life(cluster, chosen, client="two") as second:
        await second.until_done()
        yield second


def tamper(cluster: MemoryCluster, place: Place, offset: int, value: bytes) -> None:
    """Change a record where it lies, as no client could."""
    cluster.log(place).overwrite(offset, value=value)
