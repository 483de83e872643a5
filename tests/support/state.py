"""A shard's state, derived in two ways that must agree: from its last snapshot, and from its journal's beginning."""

from __future__ import annotations

from dataclasses import dataclass

from driftline.codec.journal import EpochEntry, Link, SliceEntry, decode_link
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import Manifest
from driftline.core.pipeline import Pipeline
from driftline.core.state.freeze import Frozen, dump, frozen_digest
from driftline.engine.recovered import Progress
from driftline.engine.recovery import Recovery
from driftline.engine.snapshot import read_snapshots
from driftline.kafka.broker import KafkaBroker
from driftline.transport.port import Place
from tests.support.stream import read, settings_of


class FromTheBeginning(Recovery):
    """A recovery that finds no snapshot."""

    async def _snapshots(self) -> list[tuple[Manifest, Frozen]]:
        return []


@dataclass(frozen=True)
class State:
    """A shard somewhere on its way.

    Args:
        chain: of the journal entry that it stands behind.
        digest: of everything that it keeps.
    """

    chain: str
    digest: str
    progress: Progress | None = None


async def replayed(bootstrap: str, pipeline: Pipeline, partition: int) -> State:
    """Fold the whole journal again; every slice's digest is compared on the way."""
    broker = KafkaBroker(pipeline, settings_of(bootstrap))
    recovered = await FromTheBeginning(broker, pipeline, partition, NO_KEYS).run()
    assert recovered.folder is not None, f"the journal of shard {partition} is empty"
    shard = recovered.folder.shard
    return State(recovered.chain, frozen_digest(pipeline, partition, dump(shard)).hex(), recovered.progress)


async def kept(bootstrap: str, pipeline: Pipeline, partition: int) -> State:
    """The newest whole snapshot."""
    broker = KafkaBroker(pipeline, settings_of(bootstrap))
    snapshots = await read_snapshots(broker.reader, Place(pipeline.topics.snapshots, partition), NO_KEYS)
    assert snapshots, f"shard {partition} left no snapshot"
    manifest, frozen = snapshots[0]
    return State(manifest.chain, frozen_digest(pipeline, partition, frozen).hex())


async def journal(bootstrap: str, pipeline: Pipeline, partition: int) -> list[Link]:
    """The entries of a shard's journal."""
    arrivals = await read(bootstrap, pipeline.topics.journal)
    return [decode_link(arrival.value) for arrival in arrivals if arrival.partition == partition]


async def slices(bootstrap: str, pipeline: Pipeline, partition: int) -> list[SliceEntry]:
    return [link.entry for link in await journal(bootstrap, pipeline, partition) if isinstance(link.entry, SliceEntry)]


async def epochs(bootstrap: str, pipeline: Pipeline, partition: int) -> list[EpochEntry]:
    return [link.entry for link in await journal(bootstrap, pipeline, partition) if isinstance(link.entry, EpochEntry)]
