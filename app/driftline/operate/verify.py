"""Replays the journal from the topics alone and checks that it gives what was published.

Every slice that the journal names is read from the inputs again and folded as recovery folds it; its digest must be the
journal's, and (`outputs`) every record in the output topics must be the one that the fold made, byte for byte. Nothing
is written, no group is joined and no producer opened, so a worker may run in the meantime: the audit ends where the
journal ended when it began.

Memory: a shard's state and a few thousand records, however long the topics are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import structs

from driftline.codec.inputs import Inputs
from driftline.codec.journal import CHAIN_START, EpochEntry, Link, SliceEntry, follows
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.core.error import (
    InputLostError,
    InvariantError,
    JournalError,
    RangeLostError,
    RecoveryError,
    SnapshotError,
)
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.core.record import Source
from driftline.core.wording import escaped
from driftline.engine.fold import Folded
from driftline.engine.published import Difference, Edge, Published
from driftline.engine.recovered import Progress, Recovered
from driftline.engine.recovery import Recovery
from driftline.engine.trust import Trust
from driftline.transport.port import Broker, Place, Reader

OUTPUTS = ("scores", "outcomes", "alerts", "rejected", "review")


@dataclass(frozen=True)
class Span:
    """What to audit.

    Args:
        from_ms: begin at the newest whole snapshot taken before this wall time; None: at the beginning.
        to_ms: end before the first journal entry written after this wall time; None: at the journal's end.
        outputs: compare the output topics too.
        ring: keys of the deployment.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    outputs: bool = False
    ring: KeyRing = NO_KEYS


@dataclass
class ShardAudit:
    """What the audit of one shard found.

    Args:
        start: where it began, as text.
        slices, records: replayed, of which `unverifiable` slices came out otherwise under other versions or
            arithmetic than they were made with.
        passed_over: slices that could not be folded, as their inputs are gone or their pipeline cannot be read.
        epochs_unverifiable: numbers of the epochs that those are in.
        made_by: what made the unverifiable ones and is another here, such as `Driftline 0.2.0 (here 0.3.0)`.
        off_chain: journal entries of a writer that was not the owner (at least once only).
        outputs, repeats, removed: by topic; see `Published`.
    """

    shard: int
    start: str = "the beginning"
    slices: int = 0
    records: int = 0
    unverifiable: int = 0
    passed_over: int = 0
    epochs_unverifiable: list[int] = field(default_factory=list)
    made_by: list[str] = field(default_factory=list)
    off_chain: int = 0
    outputs: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    difference: Difference | None = None


OnProgress = Callable[[int, int, int], None]
"""Called with the shard, the journal offsets done and their total."""


async def audit_shards(
    broker: Broker, pipeline: Pipeline, layout: Layout, span: Span, watch: OnProgress = lambda *_: None
) -> Sequence[ShardAudit]:
    """Audit shard after shard, up to the first difference.

    Raises:
        BrokerError: Kafka cannot be reached.
        RecoveryError: nothing can be verified; the text says why.
    """
    found = []
    for shard in range(layout.shards):
        found.append(await Audit(broker, pipeline, layout, shard, span, watch).audit())
        if found[-1].difference is not None:
            break
    return found


class _Begin(NamedTuple):
    """Where a fold may begin.

        Args:
            offset: of the journal entry whose state it is.
    where: that place, for people.
            fold_from: entries before this offset are only chained.
    """

    offset: int
    state: Recovered
    where: str
    fold_from: int = -1


class _Found(Exception):  # noqa: N818 - it is not an error: it carries what was looked for
    """Ends a fold at the first difference."""

    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        super().__init__(str(difference))


class Audit(Recovery):
    """The audit of one shard; see the module."""

    def __init__(
        self, broker: Broker, pipeline: Pipeline, layout: Layout, shard: int, span: Span, watch: OnProgress
    ) -> None:
        super().__init__(broker, pipeline, shard, span.ring, self._report_progress)
        self._layout = layout
        self._span = span
        self._watch = watch
        self._made = ShardAudit(shard)
        self._outputs: dict[Place, Published] = {}
        self._reader: Reader | None = None  # of the outputs
        self._kept: Mapping[Place, int] = {}
        self._journal_start = self._journal_end = 0
        self._fold_from = -1  # entries before this offset are only chained
        self._stray_link: Link | None = None
        self._whole = True

    async def audit(self) -> ShardAudit:
        """Fold and compare, up to the first difference."""
        made = self._made
        try:
            await self._open()
            await self._compare()
        except _Found as found:
            made.difference = found.difference
        except JournalError as error:
            made.difference = self._foreign(error)
        finally:
            if self._reader is not None:
                await self._reader.close()
            await self._close_inputs()
        made.slices, made.records = self._progress.slices, self._progress.records
        made.unverifiable = self._progress.unverifiable
        for (topic, _), published in self._outputs.items():
            for counts, count in (
                (made.outputs, published.compared),
                (made.repeats, published.repeats),
                (made.removed, published.removed),
            ):
                counts[topic] = counts.get(topic, 0) + count
        return made

    # -- where to begin, and where to end

    async def _open(self) -> None:
        """Note where everything begins and ends.

        The outputs' ends come first: what is readable of them then was made by slices whose entries the journal
        holds by now, readable unless their transaction is just being ended.
        """
        topics, layout, shard = self._pipeline.topics, self._layout, self._partition
        named = {kind: name for kind in OUTPUTS if (name := getattr(topics, kind)) is not None}
        outputs = {place: kind for kind, name in named.items() for place in self._layout.places([name], shard)}
        ends = await self._broker.ends(outputs)
        journal = Place(topics.journal, shard)
        self._journal_end = self._journal_stop = (await self._broker.ends([journal]))[journal]
        self._whole = self._journal_end == (await self._broker.ends([journal], readable=False))[journal]
        inputs = Inputs(self._pipeline).topics
        self._kept = await self._broker.beginnings([*layout.places(inputs, shard), journal, *outputs])
        self._journal_start = self._kept[journal]
        if not self._span.outputs:
            return
        self._reader = self._broker.reader()
        await self._reader.open({place: self._kept[place] for place in outputs})
        for place, kind in outputs.items():
            self._outputs[place] = Published(
                self._reader,
                place,
                shard,
                layout.shards,
                exact=self._exact,
                inputs=inputs,
                beginning=self._kept[place],
                end=ends[place],
                timely=kind != "outcomes",
            )

    async def _compare(self) -> None:
        if self._journal_start == self._journal_end:
            self._made.start = "nowhere: the journal is empty"
            if self._journal_start:
                raise InputLostError(
                    f"the journal of shard {self._partition} was deleted", "It can no longer be verified"
                )
            await self._replay_from(self._beginning(), None)
            return
        for begin in await self._starts():
            start, self._fold_from = begin.state, begin.fold_from
            try:
                self._made.start = begin.where
                edge = Edge(start.positions, start.slice_number) if start.folder is not None else None
                await self._replay_from(start, edge)
            except SnapshotError:  # the journal has not the entry that it follows; raised before anything is compared
                continue
            return

    def _beginning(self) -> Recovered:
        return Recovered(None, None, CHAIN_START, 0, -1, 0, self._progress)

    async def _starts(self) -> list[_Begin]:
        """Where the fold may begin, the best first.

        Raises:
            InputLostError: nowhere.
        """
        starts: list[_Begin] = []
        wanted_ms = self._span.from_ms
        lost = await self._lost_before()
        if wanted_ms is not None or lost:
            for manifest, frozen in await self._snapshots():
                fits = self._retained(manifest.positions) and manifest.journal_offset >= self._journal_start
                if fits and (wanted_ms is None or manifest.taken_ms <= wanted_ms):
                    try:
                        start = await self.restore(manifest, frozen)
                    except SnapshotError:
                        continue
                    where = f"the snapshot after slice {manifest.slice_number}"
                    starts.append(_Begin(manifest.journal_offset, start, where))
        if not lost:
            none = "" if wanted_ms is None else ", since there is no complete snapshot before --from"
            starts.append(_Begin(0, self._beginning(), f"the beginning{none}"))
        else:
            if (fresh := await self._own_state_retained()) is not None:
                offset, kind = fresh
                starts.append(
                    _Begin(offset, self._beginning(), f"the {kind} state at journal offset {offset}", fold_from=offset)
                )
            if wanted_ms is None:
                starts.sort(key=lambda start: start.offset)  # as early as can be
                starts = [start._replace(where=f"{start.where}, since {lost}") for start in starts]
        if not starts:
            raise InputLostError(
                f"shard {self._partition} cannot be verified: {lost}, and there is no later snapshot or fresh state "
                "that this version "
                "can read",
                "Increase retention.ms to verify in future",
            )
        return starts

    async def _lost_before(self) -> str:
        """What is missing for a fold from the beginning, as text; empty if nothing is."""
        if self._journal_start > 0:
            return f"the journal now starts at offset {self._journal_start}"
        async with aclosing(self._journal(self._beginning())) as entries:
            async for _, linked in entries:
                entry = linked.entry
                if isinstance(entry, EpochEntry) and not self._retained(entry.positions):
                    return "retention has removed earlier inputs"
                break
        return ""

    def _retained(self, positions: Mapping[str, int]) -> bool:
        return all(position >= self._kept.get(self.input(name), 0) for name, position in positions.items())

    async def _own_state_retained(self) -> tuple[int, str] | None:
        """Offset and kind of the first epoch with a state of its own whose inputs are there; of states that were
        restored, only the last is kept."""
        if self._journal_start > 0:
            return None
        found: tuple[int, str] | None = None
        async with aclosing(self._journal(self._beginning())) as entries:
            async for source, linked in entries:
                entry = linked.entry
                if not isinstance(entry, EpochEntry) or entry.state == "kept" or not self._retained(entry.positions):
                    continue
                if found is None or (found[1], entry.state) == ("restored", "restored"):
                    found = source.offset, entry.state
        return found

    # -- the fold

    async def _replay_from(self, state: Recovered, edge: Edge | None) -> None:
        """Follow the journal from there on, comparing as it goes."""
        begun = False
        async with aclosing(self._journal(state)) as entries:
            async for source, linked in entries:
                if not begun:
                    await self._begin(edge)
                    begun = True
                if self._span.to_ms is not None and source.record_time_ms > self._span.to_ms:
                    self._whole = False
                    break
                state.journal_offset, state.chain = source.offset, linked.chain
                await self._entry(state, source, linked)
                self._take_positions(state, linked)
                self._progress.journal_offset = source.offset
                self._report_progress(self._progress)
                await self._yield()
        if not begun:
            await self._begin(edge)
        end = Edge(state.positions, state.slice_number)
        for published in self._outputs.values():
            self._raise(await published.finish(end, whole=self._whole))

    async def _begin(self, edge: Edge | None) -> None:
        for published in self._outputs.values():
            self._raise(await published.begin(edge))

    async def _entry(self, state: Recovered, source: Source, linked: Link) -> None:
        entry = linked.entry
        if isinstance(entry, SliceEntry):
            if source.offset < self._fold_from or (state.folder is None and state.epoch is not None):
                await self._pass_over(state, entry)
            else:
                await self._audit_slice(state, source, entry)
        elif source.offset >= self._fold_from:
            try:
                await self._follow(state, entry)
            except RecoveryError:
                self._fold_from = await self._next_fresh(state)
                if self._fold_from < 0:
                    raise
                state.folder = None
                await self._close_inputs()

    async def _pass_over(self, state: Recovered, entry: SliceEntry) -> None:
        self._made.passed_over += 1
        self._unverified(entry.epoch)
        await self._pass_outputs(state, entry)

    async def _pass_outputs(self, state: Recovered, entry: SliceEntry) -> None:
        stops = {name: part.stop for name, part in entry.inputs.items()}
        edge = Edge({**state.positions, **stops}, entry.number)
        for published in self._outputs.values():
            await published.pass_to(edge)

    async def _audit_slice(self, state: Recovered, source: Source, entry: SliceEntry) -> None:
        """Fold a slice, and compare the journal's entry and the outputs with it."""
        try:
            folded = await self._fold(state, entry)
        except RangeLostError as error:
            place = f"{error.place[0]}-{error.place[1]}-{error.start}"
            wanted, found = (f"{count} records" for count in (error.wanted, error.found))
            raise self._found(entry, place, "input records", wanted, found) from error
        except JournalError:
            raise
        except InvariantError as error:
            raise self._found(
                entry, self._named(source), "inputs", "a slice that can be replayed", str(error)
            ) from error
        field_name, expected, found_there = self._entry_difference(state, entry, folded)
        if field_name and self._unverifiable(state):
            self._progress.unverifiable += 1
            self._unverified(entry.epoch)
            if self.strayed not in self._made.made_by:
                self._made.made_by.append(self.strayed)
            await self._pass_outputs(state, entry)
            return
        try:
            await self._compare_outputs(state, entry, folded)
        except _Found as found:
            agrees = "differs from the replay, too" if field_name else "agrees with the replay"
            note = f"{found.difference.note}; the slice's journal entry {agrees}".removeprefix("; ")
            raise _Found(structs.replace(found.difference, note=note)) from None
        if field_name:
            raise self._found(entry, self._named(source), field_name, expected, found_there)

    def _entry_difference(self, state: Recovered, entry: SliceEntry, folded: Folded) -> tuple[str, str, str]:
        """The first field of a journal entry that is not as the fold has it: name, expected, found; or no name."""
        shard = state.folder.shard if state.folder is not None else None
        made = (
            ("number", state.slice_number + 1, entry.number),
            ("inputs", dict(folded.inputs), entry.inputs),
            ("watermark_ms", shard.watermark_ms if shard is not None else None, entry.watermark_ms),
            ("outputs", len(folded.messages), entry.outputs),
            ("digest", folded.digest, entry.digest),
        )
        for name, expected, found in made:
            if expected != found:
                return name, str(expected), str(found)
        return "", "", ""

    async def _compare_outputs(self, state: Recovered, entry: SliceEntry, folded: Folded) -> None:
        if not self._outputs or state.folder is None:
            return
        topics = state.folder.shard.pipeline.topics
        for message in folded.messages:
            place = Place(getattr(topics, message.kind), message.partition)
            published = self._outputs.get(place)  # none: an epoch that had other topics
            if published is not None:
                self._raise(await published.expect(message, entry.number))

    def _unverified(self, epoch: int) -> None:
        if epoch not in self._made.epochs_unverifiable:
            self._made.epochs_unverifiable.append(epoch)

    # -- what is found

    def _stray(self, source: Source, linked: Link, chain: str, trust: Trust) -> None:
        if self._exact or trust.passes_over(source):
            super()._stray(source, linked, chain, trust)
            return
        before, self._stray_link = self._stray_link, linked
        self._made.off_chain += 1
        if before is not None and follows(linked, before.chain):
            # One that lost the shard learns so from its first entry's offset: it never writes a second.
            raise JournalError(
                f"entry {source.offset} of the journal continues a chain that is not the owner's", source
            )

    def _foreign(self, error: JournalError) -> Difference:
        return Difference(
            self._partition,
            None,
            self._named(error.source),
            "chain",
            "an entry that continues the chain",
            escaped((error.source.value or b"")[:200].decode("utf-8", "backslashreplace")),
            note="the entry, or one before it, was changed, removed, or not written by Driftline",
        )

    def _found(self, entry: SliceEntry, place: str, name: str, expected: str, found: str) -> _Found:
        return _Found(Difference(self._partition, entry.number, place, name, expected, found))

    def _named(self, source: Source) -> str:
        return f"{source.topic}-{source.partition}-{source.offset}"

    def _raise(self, difference: Difference | None) -> None:
        if difference is not None:
            raise _Found(difference)

    def _report_progress(self, progress: Progress) -> None:
        done = max(0, progress.journal_offset + 1 - self._journal_start)
        self._watch(self._partition, done, self._journal_end - self._journal_start)
