"""Puts the states of a file into a pipeline's topics, each with its own epoch, from which workers continue.

The file is looked through whole before a byte of it is unpickled, and every shard is thawed, brought under the pipeline
as it is now and tried on records before anything is written. Then, shard by shard, the state goes into the snapshots
topic and the epoch that names it into the journal: in one transaction at the end, after which the shard has that state.

Where the journal is empty, the inputs go on where the caller says. Where it is not, they go on where the journal
stands: going back would publish scores of the same events again, under the same ids.

Memory: one shard's state twice, while it is thawed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import SEEK_END
from pathlib import Path
from typing import IO, Any

from msgspec import UNSET, structs

from driftline.author.proof import synthetic_records
from driftline.codec.inputs import Inputs
from driftline.codec.journal import EpochEntry
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import Manifest, Part, Row, decode_index, state_digest
from driftline.codec.state import LINE_BYTES_MAX, SavedShard, StateFile, StateFileError, decode_line
from driftline.core.error import PipelineError, RecoveryError, SnapshotError, StateMismatchError
from driftline.core.fault import STOPS
from driftline.core.fingerprint import arithmetic_fingerprint, readers, unreadable, versions
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, read_pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.place import Layout, input_name, topic_of
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt, refused_keys
from driftline.core.state.freeze import Frozen, dump, load
from driftline.core.state.migration import FORMAT as STATE_FORMAT
from driftline.engine.recovered import Recovered
from driftline.engine.recovery import Recovery
from driftline.engine.restored import Before, kept_keys, put
from driftline.engine.sameness import outputs
from driftline.engine.trial import check_works
from driftline.transport.clock import REAL
from driftline.transport.port import Broker, Place

TRIAL_EVENTS = 100  # synthetic ones, on which a state of other versions is tried
PIECE_BYTES = 1024 * 1024


class _Segments(Sequence[tuple[Sequence[bytes], Sequence[bytes]]]):
    """The segments of a state in a file, read when they are requested."""

    def __init__(self, stream: IO[bytes], start: int, rows: Sequence[Row]) -> None:
        self._stream, self._rows = stream, rows
        self._starts = [start]
        for row in rows:
            self._starts.append(self._starts[-1] + row.body.size_bytes + row.marks.size_bytes)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: Any) -> Any:
        if not isinstance(number, int):
            raise TypeError("segments are read one by one")
        row = self._rows[number]
        self._stream.seek(self._starts[number])
        return tuple([_read(self._stream, part.size_bytes)] for part in (row.body, row.marks))


class StateReader:
    """A state file, of which every byte is as its first line says.

    Raises:
        StateFileError: it is not; or not a state file, or not signed by a key of this deployment.
        InputFileError: it cannot be read.
    """

    def __init__(self, path: Path, ring: KeyRing) -> None:
        self._stream: IO[bytes] = open(path, "rb")  # noqa: SIM115 - closed by `close`
        try:
            line = self._stream.readline(LINE_BYTES_MAX)
            self.file: StateFile = decode_line(line, ring)
            self._starts: dict[int, int] = {}
            at, size = len(line), self._stream.seek(0, SEEK_END)
            for saved in self.file.shards:
                self._starts[saved.manifest.partition] = at
                if at + saved.bytes > size:
                    raise _damaged(saved.manifest)
                self._check(saved, at)
                at += saved.bytes
            self._stream.seek(at)
            if self._stream.read(1):
                raise StateFileError("the state file has extra bytes at its end; copy it again")
        except BaseException:  # no one else has the file yet
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def shard(self, saved: SavedShard) -> Frozen:
        """The state of one shard; its segments are read when they are requested."""
        rows, rest = self._head(saved)
        return Frozen(
            rest, _Segments(self._stream, self._starts[saved.manifest.partition], rows), saved.manifest.format
        )

    def _head(self, saved: SavedShard) -> tuple[list[Row], bytes]:
        manifest = saved.manifest
        self._stream.seek(self._starts[manifest.partition] + manifest.segment_bytes)
        head = _read(self._stream, manifest.size_bytes)
        if len(head) != manifest.size_bytes or state_digest(head) != manifest.digest:
            raise _damaged(manifest)
        return decode_index(head[: manifest.index_bytes]), head[manifest.index_bytes :]

    def _check(self, saved: SavedShard, start: int) -> None:
        """Every byte of a shard's state against its digests, with one part in memory."""
        manifest = saved.manifest
        try:
            rows, _ = self._head(saved)
        except SnapshotError as error:
            raise _damaged(manifest) from error
        parts: list[Part] = [part for row in rows for part in (row.body, row.marks)]
        if sum(part.size_bytes for part in parts) != manifest.segment_bytes:
            raise _damaged(manifest)
        self._stream.seek(start)
        for part in parts:
            if state_digest(_read(self._stream, part.size_bytes)) != part.digest:
                raise _damaged(manifest)


def _read(stream: IO[bytes], count: int) -> bytes:
    """So many bytes, or as many as there are: a file that names more than it has takes no memory for them."""
    pieces = []
    while count > 0 and (piece := stream.read(min(count, PIECE_BYTES))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _damaged(manifest: Manifest) -> StateFileError:
    return StateFileError(f"the state file is damaged (shard {manifest.partition}: wrong checksum); copy it again")


# -- what becomes of each shard


@dataclass
class Restored:
    """What was put behind an epoch, or would be.

    Args:
        partition: the shard; `source` is the one whose state it takes, None for none.
        positions: where its inputs go on.
        notes: what could not be carried.
        learned, waiting: labels in the state, and events that wait for theirs.
    """

    partition: int
    source: int | None
    positions: dict[str, int]
    notes: list[str] = field(default_factory=list)
    learned: int = 0
    waiting: int = 0


def check_pipeline(file: StateFile, pipeline: Pipeline) -> None:
    """Whether the pipeline can go on from the states of a file. Its topics and its name may be others.

    The file's own is compared, and nothing of it is built.

    Raises:
        StateMismatchError: it cannot.
        StateFileError: their pipeline cannot be read.
    """
    for saved in file.shards:
        try:
            before = read_pipeline(saved.manifest.pipeline).resolved()
        except (PipelineError, RecursionError) as error:
            raise StateFileError(f"this version cannot read the saved state's pipeline ({error})") from error
        refused = refused_keys(before, pipeline.resolved())
        if changed := [key for key in refused if key != "pipeline" and not key.startswith("topics")]:
            raise StateMismatchError(
                f"the state was saved under another pipeline: {', '.join(changed)} differ, and these may not. "
                "Restore it with the pipeline file it was saved with"
            )


def thaw(reader: StateReader, saved: SavedShard, pipeline: Pipeline, partition: int) -> Shard:
    """The state of a shard under the pipeline as it is now.

    Raises:
        StateFileError: it cannot be read here, or its model does not work here.
    """
    manifest = saved.manifest
    why = unreadable(manifest.versions)
    try:
        shard = load(parse_foreign(manifest.pipeline, pipeline), manifest.partition, reader.shard(saved))
        shard = _under(shard, pipeline, partition)
        check_works(shard)
        if why is not None:
            _try(shard)
    except STOPS:
        raise
    except BaseException as error:  # a state of someone else may make anything raise anything
        there = f" It was {why}: restore it under {readers(manifest.versions)}." if why else ""
        raise StateFileError(
            f"the state of shard {manifest.partition} cannot be used here: {_what(error)}.{there}"
        ) from error
    return shard


def _what(error: BaseException) -> str:
    ours = isinstance(error, PipelineError | SnapshotError | _TrialError)
    return str(error) if ours else f"it does not work ({type(error).__name__}: {error!s:.200})"


def _under(shard: Shard, pipeline: Pipeline, partition: int) -> Shard:
    before = shard.pipeline
    shard = load(pipeline, partition, dump(shard))
    adopt(shard, before)
    shard.episodes.prefix = f"{pipeline.name}-{partition}-"
    return shard


class _TrialError(Exception):
    """What a model of other versions raised on records that a fresh one takes."""


def _try(shard: Shard) -> None:
    """Fold synthetic records on a copy, as a model's objects may be read and still not work under another River."""
    failures = []
    for tried in (Shard(shard.pipeline, shard.number), load(shard.pipeline, shard.number, dump(shard))):
        oracle = Oracle()
        try:
            for record in synthetic_records(shard.pipeline, TRIAL_EVENTS):
                step(tried, record, oracle)
        except STOPS:
            raise
        except BaseException as error:  # as in `engine.trial`
            raise _TrialError(f"it raised {type(error).__name__}: {error!s:.200}") from error
        failures.append(oracle.found)
    fresh, loaded = failures
    if len(loaded) > len(fresh):
        raise _TrialError(f"its model raised {next(iter(loaded.values())):.200}")


def without_events(shard: Shard, fresh: Shard) -> Shard:
    """A state without what belongs to the keys of one partition: what waits, early labels, ids that are remembered."""
    shard.pending, shard.early = fresh.pending, fresh.early
    return shard


# -- the topics


class Restoration:
    """The restoring of one file into one pipeline's topics.

    Args:
        starts: where the inputs of an empty journal go on.
        replace: put the states behind what journals hold already.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        layout: Layout,
        ring: KeyRing,
        reader: StateReader,
        starts: Mapping[Place, int],
        *,
        replace: bool,
    ) -> None:
        self._broker = broker
        self._pipeline = pipeline.model_copy(update={"shards": layout.shards})
        self._layout = layout
        self._ring = ring
        self._reader = reader
        self._starts = starts
        self._replace = replace
        self._saved = {saved.manifest.partition: saved for saved in reader.file.shards}

    async def run(self) -> list[Restored]:
        """Check everything, then write.

        Raises:
            StateFileError, StateMismatchError: a state cannot be used here.
            RecoveryError: a journal holds a state, or changed in the meantime.
            CommitUnknownError: Kafka refused; what was restored by then stays, and the command may be given again.
        """
        check_pipeline(self._reader.file, self._pipeline)
        before = [await self._recovery(partition).follow() for partition in range(self._layout.shards)]
        if (used := [number for number, state in enumerate(before) if state.journal_offset >= 0]) and not self._replace:
            shards = ", ".join(map(str, used[:10])) + (" and more" if used[10:] else "")
            raise RecoveryError(
                f"the journal of {self._pipeline.name} already holds a state (shards {shards}). To replace it, "
                "add --replace; inputs continue from the journal's position"
            )
        plans = [await self._plan(partition, state) for partition, state in enumerate(before)]
        for plan in plans:  # each shard is thawed twice, so that no more than one is in memory
            if plan.source is not None:
                self._shard(plan)
        for plan, state in zip(plans, before, strict=True):
            if plan.source is not None:
                await self._put(plan, state.journal_offset)
        return plans

    def _recovery(self, partition: int) -> Recovery:
        return Recovery(self._broker, self._pipeline, partition, self._ring)

    async def _plan(self, partition: int, before: Recovered) -> Restored:
        places = {
            input_name(*place, partition): place
            for place in self._layout.places(Inputs(self._pipeline).topics, partition)
        }
        if self._layout.shards > 1 and before.positions:  # what was added since is not this shard's
            places = {name: place for name, place in places.items() if name in before.positions}
        kept_from = await self._broker.beginnings(places.values())
        positions = {
            name: max(before.positions[name] if name in before.positions else self._starts[place], kept_from[place])
            for name, place in places.items()
        }
        source = partition if self._equal else partition % self._reader.file.partitions
        if source not in self._saved:
            return Restored(
                partition, None, positions, ["the file has no state for it, so it starts with an untrained model"]
            )
        plan = Restored(partition, source, positions)
        if not self._equal:
            plan.notes.append(
                "pending events, early labels and remembered ids are dropped, since keys map to other shards now"
            )
        if (why := unreadable(self._saved[source].manifest.versions)) is not None:
            plan.notes.append(f"it was {why}; its model was tested on {TRIAL_EVENTS} synthetic events")
        return plan

    @property
    def _equal(self) -> bool:
        return self._reader.file.partitions == self._layout.shards

    def _shard(self, plan: Restored) -> Shard:
        if plan.source is None:
            raise StateFileError(f"the file has no state for shard {plan.partition}")
        shard = thaw(self._reader, self._saved[plan.source], self._pipeline, plan.partition)
        if not self._equal:
            shard = without_events(shard, Shard(self._pipeline, plan.partition))
        shard.positions = dict(plan.positions)
        plan.learned, plan.waiting = shard.evaluation.label_count, len(shard.pending)
        return shard

    async def _put(self, plan: Restored, journal_offset: int) -> None:
        """Write one shard's state, and the epoch that begins with it."""
        partition, topics = plan.partition, self._pipeline.topics
        publisher = self._broker.publisher(partition)
        try:
            await publisher.open()
            state = await self._recovery(partition).follow()
            if state.journal_offset != journal_offset:
                raise RecoveryError(
                    f"a worker is running shard {partition}: stop every worker of {self._pipeline.name} first"
                )
            number = state.epoch.number + 1 if state.epoch is not None else 1
            entry = EpochEntry(
                number=number,
                reason="restored",
                state="restored",
                positions=dict(plan.positions),
                slice_number=state.slice_number,
                pipeline=self._pipeline.resolved(),
                versions=versions(),
                arithmetic=arithmetic_fingerprint(),
                outputs=self._outputs(plan) or UNSET,
            )
            old = await kept_keys(self._broker, topics.snapshots, partition)
            before = Before(state.chain, state.journal_offset, old, self._ring)
            shard, manifest = self._shard(plan), self._manifest(plan, state, number)
            if state.journal_offset >= 0:  # commands since the state was saved are not known to it
                shard.commands.floor_ms = max(shard.commands.floor_ms, int(REAL.wall_s() * 1000))
            await put(publisher, self._pipeline, shard, manifest, entry, before)
        finally:
            await publisher.close()

    def _outputs(self, plan: Restored) -> dict[str, int]:
        """As of `EpochEntry`; empty where it is unset."""
        counts = self._layout.counts
        several = any(name != topic_of(name) for name in plan.positions)
        return {topic: counts[topic] for topic in outputs(self._pipeline) if topic in counts} if several else {}

    def _manifest(self, plan: Restored, state: Recovered, epoch: int) -> Manifest:
        saved = self._saved[plan.source if plan.source is not None else plan.partition].manifest
        return structs.replace(
            saved,
            format=STATE_FORMAT,
            partition=plan.partition,
            journal_offset=max(state.journal_offset, 0),
            chain=state.chain,
            slice_number=state.slice_number,
            epoch=epoch,
            positions=dict(plan.positions),
            pipeline=self._pipeline.resolved(),
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            outputs=UNSET,
        )
