"""The state from which a shard is replayed: the same for every candidate, so that they can be compared.

* Cold: with the first record of what is requested. The default; nothing else is read.
* `--warm`: the newest snapshot before that; the oldest of all where everything is requested. What lies between is
  folded and not counted.
* `--against live`: what was served came from all that was before it, so that is folded too, and not counted: from the
  newest snapshot that every candidate can go on from, else from the beginning of the topics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driftline.backtest.candidate import Spec
from driftline.backtest.span import Bounds, TopicSource
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import Manifest
from driftline.core.error import InputFileError, PipelineError, RecoveryError, SnapshotError
from driftline.core.fingerprint import unreadable
from driftline.core.pipeline import Pipeline, read_pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.place import topic_of
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt, refused_keys
from driftline.core.state.freeze import Frozen, load
from driftline.core.timestamp import written
from driftline.engine.snapshot import read_snapshots
from driftline.transport.port import Broker, Place

COLD = "cold"
BEGINNING = "cold, at the beginning of the topics"


@dataclass(frozen=True, slots=True)
class Start:
    """Where the fold of a shard begins.

        Args:
            positions: first offset to read, by input.
    text: for people; follows "started".
            hint: where the oldest snapshot lies that could be gone on from.
            snapshot: what to go on from; None for a cold start.
    """

    positions: Mapping[str, int]
    text: str = COLD
    hint: str = ""
    snapshot: tuple[Manifest, Frozen] | None = None

    def shard(self, pipeline: Pipeline, partition: int) -> Shard | None:
        """The snapshot's state under a candidate's pipeline, which can follow it; None for a cold start.

        If an operator held learning then, that was meant for the live model.
        """
        if self.snapshot is None:
            return None
        manifest, frozen = self.snapshot
        try:
            before = parse_foreign(manifest.pipeline, pipeline)
        except PipelineError as error:
            raise RecoveryError(f"the snapshot's pipeline cannot be built here ({error})") from error
        shard = load(pipeline, partition, frozen)
        adopt(shard, before)
        shard.frozen = False
        return shard


async def start_of(
    broker: Broker,
    pipeline: Pipeline,
    partition: int,
    specs: Sequence[Spec],
    source: TopicSource,
    bounds: Bounds,
) -> Start:
    """Where to begin with a partition.

    Raises:
        RecoveryError: it is to be a snapshot, and none lies before.
        InputFileError: it is to be a snapshot, and a candidate cannot go on from it.
    """
    span, warm = source.span, source.warm
    if not warm and (span.whole or not source.against):
        return Start(bounds.starts)
    events = {name: at for name, at in bounds.starts.items() if topic_of(name) == pipeline.topics.events}
    found = [one for one in await _snapshots(broker, pipeline, partition, source.ring) if _kept(one[0], bounds)]
    before = [one for one in found if all(one[0].positions.get(name, 0) <= start for name, start in events.items())]
    hint = _oldest(found[-1], pipeline, partition) if found else "none of its snapshots can be used"
    if span.whole:
        before = found[::-1]  # as early as can be: the newest may lie at the very end
    for manifest, frozen in before:
        if not (stopped := _stopped(manifest, specs)):
            text = f"from the snapshot after slice {manifest.slice_number}"
            return Start({**bounds.beginnings, **manifest.positions}, text, snapshot=(manifest, frozen))
        if warm:
            raise InputFileError(f"{stopped}. Drop --warm; --burn-in leaves the beginning out of the metrics")
    if warm:
        sought = ", ".join(f"offset {start:,} of {name}" for name, start in events.items())
        where = "to start from" if span.whole else f"before {sought}"
        raise RecoveryError(f"shard {partition} has no snapshot {where}; {hint}. Start later, or drop --warm")
    return Start(bounds.beginnings, BEGINNING, hint=hint)


def _kept(manifest: Manifest, bounds: Bounds) -> bool:
    """Whether what comes after a snapshot is retained."""
    return all(manifest.positions.get(name, 0) >= first for name, first in bounds.beginnings.items())


def _oldest(snapshot: tuple[Manifest, Frozen], pipeline: Pipeline, partition: int) -> str:
    """Where the oldest snapshot lies that can be gone on from, as text."""
    manifest, frozen = snapshot
    read = sum(at for name, at in manifest.positions.items() if topic_of(name) == pipeline.topics.events)
    text = f"its oldest is at offset {read:,}"
    try:
        watermark_ms = load(parse_foreign(manifest.pipeline, pipeline), partition, frozen).watermark_ms
    except (SnapshotError, PipelineError):
        return text
    if watermark_ms is None:
        return text
    at = written(watermark_ms, f"%Y-%m-%dT%H:%M:%S.{watermark_ms % 1_000:03}Z")
    return f"{text} ({at}), other shards' elsewhere"


async def _snapshots(
    broker: Broker, pipeline: Pipeline, partition: int, ring: KeyRing
) -> list[tuple[Manifest, Frozen]]:
    """Those that this version can read, newest first."""
    place = Place(pipeline.topics.snapshots, partition)
    start = (await broker.beginnings([place]))[place]
    found = await read_snapshots(broker.reader, place, ring, start)
    return [one for one in found if unreadable(one[0].versions) is None]


def _stopped(manifest: Manifest, specs: Sequence[Spec]) -> str | None:
    """Why a candidate cannot go on from a snapshot; None where all can."""
    try:
        before = read_pipeline(manifest.pipeline).resolved()
    except PipelineError as error:
        return f"this version cannot read the snapshot's pipeline ({error})"
    for spec in specs:
        refused = refused_keys(before, spec.pipeline)
        changed = [key for key in refused if key != "pipeline" and not key.startswith("topics")]
        if changed:
            return f"{spec.name} cannot start from the live pipeline's snapshot: it differs in {', '.join(changed)}"
    return None
