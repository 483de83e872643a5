"""A shard's journal, replayed from the topics alone by `step`, in an order that is derived by sorting.

Nothing here uses the engine's recovery, its merge or its worker.
"""

from __future__ import annotations

from copy import deepcopy

import orjson

from driftline.codec.encode import Encoder, Message
from driftline.codec.inputs import Inputs
from driftline.codec.journal import CHAIN_START, EpochEntry, Link, SliceEntry, decode_link, follows
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import (
    RESTORED,
    Manifest,
    decode_manifest,
    manifest_key,
)
from driftline.core.oracle import Oracle
from driftline.core.output import Output
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place
from driftline.core.record import InputRecord, Record, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from driftline.transport.port import Place
from tests.simulation import budgeted
from tests.simulation.guarded import faults_of
from tests.simulation.lessons import Lessons
from tests.simulation.past import Past, WrongError
from tests.simulation.priced import Accounts
from tests.simulation.setting import parsed
from tests.simulation.world import World
from tests.support.folding import step
from tests.support.published import digest

KINDS = ("scores", "outcomes", "alerts", "rejected", "review")
SNAPSHOTS_COMPARED = 2  # of each shard, the newest, bit for bit; of all others place and positions


class BrokenError(Exception):
    """The promise does not hold."""


class Fold:
    """A shard's journal, folded from its very beginning.

    Attributes:
        messages: what should be in the output topics, by kind.
        marks: (slice number, chain, positions) by the offset of each entry.
    """

    def __init__(self, world: World, partition: int, calls: list[str]) -> None:
        self.world = world
        self.partition = partition
        self.messages: dict[str, list[Message]] = {kind: [] for kind in KINDS}
        self.marks: dict[int, tuple[int, str, dict[str, int]]] = {}
        self.states: dict[int, bytes] = {}
        self.epochs: list[EpochEntry] = []
        self.off_chain = 0
        self.shard: Shard | None = None
        self._past: Past | None = None
        self._accounts, self._lessons = Accounts(), Lessons()
        self._pasts: dict[int, tuple[Past, Accounts, Lessons]] = {}
        self._calls = calls
        self._chain = CHAIN_START
        self._number = 0
        self._positions: dict[str, int] = {}
        self._skipped: list[tuple[str, int, int]] = []
        self._restored = _restored(world, partition)
        self._pipelines: dict[int, Pipeline] = {}
        self._outputs: dict[str, int] | None = None
        kept = {manifest.journal_offset for manifest in self._restored.values()}
        self._wanted = _snapshots_to_compare(world, partition) | kept

    def follow(self) -> Fold:
        """Fold everything.

        Raises:
            BrokenError: the journal is not what it should be.
        """
        for offset, linked in self._entries():
            if isinstance(linked.entry, EpochEntry):
                self._epoch(linked.entry)
            else:
                self._slice(linked.entry)
            self._chain = linked.chain
            self.marks[offset] = (self._number, self._chain, dict(self._positions))
            if offset in self._wanted and self.shard is not None:
                self.states[offset] = dump(self.shard)
                past = self._past if self._past is not None else Past(self.shard.pipeline)
                self._pasts[offset] = deepcopy((past, self._accounts, self._lessons))
                self._pipelines[offset] = self.shard.pipeline
        return self

    def _entries(self) -> list[tuple[int, Link]]:
        """The journal's entries, each tied to the one before."""
        world, topic = self.world, self.world.pipeline.topics.journal
        chain, found = CHAIN_START, []
        for source in world.cluster.ever(Place(topic, self.partition), committed=True):
            linked = decode_link(source.value)
            if follows(linked, chain):
                found.append((source.offset, linked))
                chain = linked.chain
            elif world.exact:
                raise BrokenError(f"journal {self.partition}: entry {source.offset} does not follow the one before")
            else:
                self.off_chain += 1
        return found

    def _epoch(self, entry: EpochEntry) -> None:
        if entry.number != len(self.epochs) + 1 or entry.slice_number != self._number:
            raise BrokenError(f"journal {self.partition}: epoch {entry.number} out of its turn")
        if entry.state == "kept" and entry.reason != "gap":
            self._check_positions(entry)
        self.epochs.append(entry)
        pipeline = parsed(orjson.dumps(entry.pipeline))
        if entry.state == "fresh":
            self.shard, self._past = Shard(pipeline, self.partition), Past(pipeline)
            self._accounts, self._lessons = Accounts(), Lessons()
            if isinstance(entry.begun_ms, int):
                self.shard.commands.floor_ms = entry.begun_ms
        elif entry.state == "restored":
            self.shard = self._kept(entry, pipeline)
        elif self.shard is not None:
            before = self.shard
            self.shard = load(pipeline, self.partition, dump(before))
            adopt(self.shard, before.pipeline)
            if entry.reason == "gap":
                self.shard.strays.begin_again()
        for name, position in entry.positions.items():
            self._skipped.append((name, self._positions.get(name, 0), position))
        self._outputs = entry.outputs or None
        self._positions = dict(entry.positions)

    def _check_positions(self, entry: EpochEntry) -> None:
        """An epoch that keeps the state goes on where the one before stood, and with added partitions from their
        first record."""
        added = entry.positions.keys() - self._positions.keys()
        first = dict.fromkeys(added, 0)
        if entry.positions != self._positions | first:
            raise BrokenError(f"journal {self.partition}: epoch {entry.number} moves the positions")
        old = [name for name in added if input_place(name, self.partition).partition < self.world.scenario.partitions]
        if old or (added and self.world.scenario.shard_count > 1 and not self.world.scenario.gap_continue):
            raise BrokenError(f"journal {self.partition}: epoch {entry.number} takes up {sorted(added)}")

    def _kept(self, entry: EpochEntry, pipeline: Pipeline) -> Shard:
        """The state of an earlier entry, which an epoch behind a gap goes on with; not as it lies in the topic."""
        manifest = self._restored.get(entry.restored if isinstance(entry.restored, str) else "")
        if manifest is None or manifest.journal_offset not in self.states:
            raise BrokenError(f"journal {self.partition}: epoch {entry.number} begins with a state that is not there")
        if self.marks[manifest.journal_offset] != (manifest.slice_number, manifest.chain, manifest.positions):
            raise BrokenError(f"journal {self.partition}: epoch {entry.number} goes on from elsewhere than it says")
        before = self._pipelines[manifest.journal_offset]
        shard = load(pipeline, self.partition, self.states[manifest.journal_offset])
        adopt(shard, before)
        self._past, self._accounts, self._lessons = deepcopy(self._pasts[manifest.journal_offset])
        shard.commands.floor_ms = max(shard.commands.floor_ms, manifest.taken_ms)
        return shard

    def covers(self, source: Source) -> bool:
        """Whether a record was folded, and not skipped because retention had taken it."""
        ours = input_name(source.topic, source.partition, self.partition)
        return ours in self._positions and not any(
            name == ours and a <= source.offset < b for name, a, b in self._skipped
        )

    def places(self, *topics: str) -> list[Place]:
        """The partitions of some topics that are this shard's."""
        return Layout(self.world.scenario.shard_count, self.world.cluster.partitions).places(topics, self.partition)

    def written(self, topic: str) -> list[Source]:
        """What can be read of an output of this shard."""
        return [one for place in self.places(topic) for one in self.world.cluster.records(*place)]

    def _slice(self, entry: SliceEntry) -> None:
        shard = self.shard
        where = f"journal {self.partition}, slice {entry.number}"
        if shard is None or entry.number != self._number + 1 or entry.epoch != len(self.epochs):
            raise BrokenError(f"{where}: does not follow slice {self._number}")
        self._number = entry.number
        before_ms = shard.watermark_ms
        records: list[Record] = []
        if entry.tick_ms is not None:
            records.append(Tick(self.partition, entry.number, entry.tick_ms))
        else:
            records += self._records(shard.pipeline, entry, where)
        oracle = Oracle(entry.raised or {})
        outputs = [output for record in records for output in self._step(shard, record, oracle)]
        messages = [Encoder(shard.pipeline, shard.number, self._outputs).encode(output) for output in outputs]
        if digest(messages) != entry.digest or len(messages) != entry.outputs:
            raise BrokenError(f"{where}: folding it again makes {len(messages)} other outputs, not {entry.outputs}")
        if shard.watermark_ms != entry.watermark_ms or (before_ms or 0) > (shard.watermark_ms or 0):
            raise BrokenError(f"{where}: the watermark is {shard.watermark_ms}, journaled {entry.watermark_ms}")
        self._check_bounds(shard, where)
        for message in messages:
            self.messages[message.kind].append(message)

    def _step(self, shard: Shard, record: Record, oracle: Oracle) -> list[Output]:
        self._calls.clear()
        made = step(shard, record, oracle)
        for fault in faults_of(shard.pipeline, made):
            raise BrokenError(f"guard {self.partition}: {fault}")
        for fault in budgeted.faults_of(shard.pipeline, self.partition, made):
            raise BrokenError(f"budget {self.partition}: {fault}")
        for fault in self._lessons.follow(shard, self._calls, made):
            raise BrokenError(f"lessons {self.partition}: {fault}")
        for fault in self._accounts.follow(shard, record, made):
            raise BrokenError(f"kpi {self.partition}: {fault}")
        if self._past is not None:
            try:
                self._past.follow(record, made, shard.now_ms)
            except WrongError as error:
                raise BrokenError(f"history {self.partition}: {error}") from error
        return made

    def _check_bounds(self, shard: Shard, where: str) -> None:
        label = shard.pipeline.label
        if label is not None and (len(shard.pending) > label.pending_max or len(shard.early) > label.early_max):
            raise BrokenError(f"{where}: more wait than may")
        if shard.pending.remembered_count > shard.pipeline.dedupe.id_max:
            raise BrokenError(f"{where}: more ids are remembered than may be")

    def _records(self, pipeline: Pipeline, entry: SliceEntry, where: str) -> list[InputRecord]:
        """The records that a slice names, in the order in which they are folded: by time, ties by rank, then partition,
        then offset."""
        inputs, world = Inputs(pipeline), self.world
        keyed: list[tuple[tuple[bool, int, int, int, int], InputRecord]] = []
        for name, part in entry.inputs.items():
            if name not in self._positions:
                raise BrokenError(f"{where}: reads {name}, which no epoch has taken up")
            if part.start != self._positions[name]:
                raise BrokenError(f"{where}: {name} goes on at {part.start}, not at {self._positions[name]}")
            self._positions[name] = part.stop
            place = input_place(name, self.partition)
            topic = place.topic
            found = [one for one in ever(world, place) if part.start <= one.offset < part.stop]
            if len(found) != part.count or not found or found[-1].offset != part.stop - 1:
                raise BrokenError(f"{where}: {topic} has {len(found)} records there, journaled are {part.count}")
            rank, time_ms = inputs.rank[topic], -(2**63)
            for source in found:
                record = inputs.decoders[rank](source)
                time_ms = max(time_ms, record.order_ms)
                keyed.append(((rank > 0, time_ms if rank else 0, rank, place.partition, source.offset), record))
        return [record for _, record in sorted(keyed, key=lambda pair: pair[0])]


def ever(world: World, place: Place) -> list[Source]:
    """Every record of an input that a worker may read."""
    known: dict[Place, list[Source]] = world.__dict__.setdefault("_ever", {})
    if place not in known:
        known[place] = world.cluster.ever(place, committed=world.exact)
    return known[place]


def _snapshots_to_compare(world: World, partition: int) -> set[int]:
    topic = world.pipeline.topics.snapshots
    offsets = [
        orjson.loads(source.value or b"{}")["journal_offset"]
        for source in world.cluster.records(topic, partition)
        if (source.key or b"") in (manifest_key(0), manifest_key(1)) and (partition, source.offset) not in world.damaged
    ]
    return set(offsets[-SNAPSHOTS_COMPARED:])


def _restored(world: World, partition: int) -> dict[str, Manifest]:
    """The manifests of states that were put behind an epoch, by their digest, as its entry names it."""
    found = {}
    for source in world.cluster.ever(Place(world.pipeline.topics.snapshots, partition), committed=world.exact):
        slot, _, rest = (source.key or b"").partition(b"/")
        if slot == b"%d" % RESTORED and rest.endswith(b"/manifest") and source.value is not None:
            found[rest.removesuffix(b"/manifest").decode()] = decode_manifest(source.value, NO_KEYS)
    return found
