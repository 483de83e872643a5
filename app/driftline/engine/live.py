"""A recovered shard at work: take what is there, fold it, commit outputs and journal entry together, again.

One slice may be folded while the one before commits; its outputs wait. With little load a slice is one record and
latency is one commit; with much load slices grow while commits are under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, assert_never

from msgspec import UNSET, Struct

from driftline.codec.journal import EpochEntry, Link, SliceEntry, encode_link, link
from driftline.codec.parts import refusal
from driftline.codec.seal import seal
from driftline.codec.write import Write
from driftline.core.error import CommitUnknownError, ForeignWriterError
from driftline.core.oracle import FOUND_MAX
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_name, input_place
from driftline.core.record import Source
from driftline.core.shard.outbox import Request, TakeSnapshot
from driftline.core.shard.state import Shard
from driftline.engine.alert_log import AlertLog
from driftline.engine.fold import TOGETHER, TOGETHER_BYTES, TOGETHER_MIN, Folded, Folder
from driftline.engine.gate import Gate
from driftline.engine.hand import QUEUE_BYTES_MAX, Hand
from driftline.engine.note import note_of
from driftline.engine.pace import Pacer
from driftline.engine.patience import PATIENCE_S, Patience
from driftline.engine.snapshot import SnapshotWriter
from driftline.engine.tally import Tally
from driftline.engine.trust import name_of
from driftline.engine.turn import TURN_S, Turns
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Feed, Place, Publisher

log = logging.getLogger(__name__)

QUEUE_MAX = 20_000  # records in hand of one input; beyond it the input is paused
SLICE_BYTES_MAX = 4_000_000  # of outputs
LAST_COMMIT_S = 4.0  # a stopping worker does not wait longer for a part of its last snapshot
AHEAD_MAX = 2_000  # records far ahead that one journal entry names
NAME_EVERY_S = 60.0  # how often records far ahead are named in the log
LOOK_EVERY_S = 0.1  # how often deadlines are looked at while nothing arrives
STALL_S = 60.0  # without an event, until labels without one may count on none being unread
NOTE_EVERY_S = 1.0  # under load, how often a journal entry carries numbers for people


class _Prepared(Struct, frozen=True):
    """A folded slice on its way to the journal."""

    folded: Folded
    linked: Link
    snapshot: bool


class Tip(NamedTuple):
    """Where a shard's journal ends.

    Args:
        chain, slice_number: of the last entry.
        offset: of the last record, -1 without one.
    """

    chain: str
    slice_number: int
    offset: int


class Live:
    """A shard in memory, with the publisher that owns it.

    Args:
        tip: of the journal, at which the folder stands.
        unsigned_models: see `engine.gate`.

    Attributes:
        committed: next offset by input, as the journal has it.
        slice_number: of the last slice that was folded.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        folder: Folder,
        epoch: EpochEntry,
        publisher: Publisher,
        snapshots: SnapshotWriter,
        tally: Tally,
        tip: Tip,
        *,
        clock: Clock = REAL,
        patience_s: float = PATIENCE_S,
        unsigned_models: bool = False,
    ) -> None:
        self.folder = folder
        self.journal_offset = tip.offset
        self.committed: Mapping[str, int] = dict(folder.positions)
        self._pipeline = pipeline
        self._number = folder.shard.number
        self._journal = Place(pipeline.topics.journal, folder.shard.number)
        self._epoch = epoch
        self._publisher = publisher
        self._snapshots = snapshots
        self._tally = tally
        self._alerts = AlertLog(clock)
        self._chain = tip.chain
        self.slice_number = tip.slice_number
        self._controls = folder.inputs.controls
        self._events = folder.inputs.lanes_of(pipeline.topics.events)
        self._patience = Patience(self.places, clock, patience_s, self._controls)
        self._paused: set[Place] = set()
        self._hands = {place: Hand() for place in self.places}
        self._asked = False  # for a snapshot
        self._commanded = False  # all commands that were there at the start are in hand
        self._commit: asyncio.Task[None] | None = None
        self._awake = asyncio.Event()
        self._halted = asyncio.Event()
        self._clock = clock
        self._moved_s = self._stalled_s = clock.now_s()
        self._noted_s = 0.0
        self._record_s = TURN_S / TOGETHER_MIN  # what it took to fold a record of the last slice
        self._ahead = 0  # records far ahead that the log has not counted yet
        self._named_s: float | None = None
        self._held_s = 0.0  # the longest that the snapshot under way kept the loop at a time
        if ring := snapshots.ring:
            folder.vouch = lambda content: refusal(content, ring)
        folder.admit = Gate(pipeline.name, snapshots.ring, clock, unsigned_models=unsigned_models)

    @property
    def shard(self) -> Shard:
        return self.folder.shard

    @property
    def places(self) -> Sequence[Place]:
        """The inputs, by lane."""
        return self.folder.inputs.places

    @property
    def busy(self) -> bool:
        """Whether a slice is being committed."""
        return self._commit is not None

    @property
    def writes_snapshot(self) -> bool:
        """Whether parts of a snapshot are still to be written."""
        return self._snapshots.writing

    @property
    def chain(self) -> str:
        """Of the last journal entry."""
        return self._chain

    def receive(self, feed: Feed, place: Place, sources: Sequence[Source]) -> None:
        """Records of one input, as they came. Beyond a bound the input is paused: backpressure is not fetching."""
        name = input_name(*place, self._number)
        if (lane := self.folder.inputs.of.get(name)) is None:
            return  # a partition that was added, and is not taken up
        in_hand = self.folder.receive(name, sources)
        self._patience.came(lane, sources)
        self._tally.received(place.topic, sources)
        hand = self._hands[place]
        hand.came(sources)
        if (in_hand > QUEUE_MAX or hand.bytes > QUEUE_BYTES_MAX) and place not in self._paused:
            self._paused.add(place)
            feed.pause(place)
        self._awake.set()

    def wake(self) -> None:
        """Look again."""
        self._awake.set()

    def halt(self) -> None:
        """Fold nothing more; `run` returns once what is under way is settled."""
        self._halted.set()
        self._awake.set()

    async def run(self, feed: Feed, pacer: Pacer) -> None:
        """Read on from where the journal stands, until halted.

        Raises:
            CommitUnknownError: memory and publisher are of no more use.
        """
        self._halted.clear()
        self._commanded = False
        self.folder.let_go()
        self._paused.clear()
        self._hands = {place: Hand() for place in self.places}
        self._patience.begin()
        names = zip(self.places, self.folder.inputs.names, strict=True)
        feed.begin({place: self.folder.positions[name] for place, name in names})
        while not self._halted.is_set():
            self._awake.clear()
            if self._commit is not None and self._commit.done():
                await self._settle()
            prepared = await self.next_slice(feed, pacer)
            if prepared is not None:
                await self._settle()
                self._commit = asyncio.create_task(self._publish(prepared))
                self._commit.add_done_callback(lambda _: self._awake.set())
            elif not self._awake.is_set():
                await self._rest()
        await self._settle()

    async def close(self) -> bool:
        """After `run`: leave a snapshot, so that the next owner folds little again.

        Returns:
            Whether there was anything since the last one.

        Raises:
            CommitUnknownError: there is none.
        """
        await self._write_out()
        if not self._snapshots.records:
            return False
        self._take_snapshot()
        self._snapshots.committed(self.journal_offset)
        await self._write_out()
        return True

    # -- one slice

    async def next_slice(self, feed: Feed, pacer: Pacer) -> _Prepared | None:
        """The next slice, folded, if there is one to be had now."""
        if self.busy and self.folder.waiting < self._pipeline.limits.slice_records_max // 2:
            return None  # too little to be worth a slice of its own: it grows until the commit is through
        self.folder.look(self._clock.wall_s() * 1000, more=not self._paused)
        if (time_ms := self._stall_due(feed)) is not None:
            return self._prepare(self.folder.tick(self.slice_number + 1, time_ms))
        at_end = self._at_end(feed)
        if self._ready(at_end):
            await pacer.turn()
            at_end = self._at_end(feed)
            if not self._ready(at_end):
                return None  # in the meantime more came to an input that was at its end, and is not in hand yet
            return self._prepare(await self._fold(feed, at_end))
        if not self.busy and not self.folder.waiting and all(at_end):
            if (time_ms := self._tick_due()) is not None:
                return self._prepare(self.folder.tick(self.slice_number + 1, time_ms))
            if self._snapshots.writing:
                await self._publish_chunks()
        return None

    def _at_end(self, feed: Feed) -> Sequence[bool]:
        """Which inputs hold no one back."""
        at_end = [feed.at_end(place) for place in self.places]
        return self._patience.at_end(at_end, self.folder.merge, self.shard.watermark_ms, feed)

    def _ready(self, at_end: Sequence[bool]) -> bool:
        """Whether there is something to fold.

        Commands hold no one back, but for those that were written before this shard went to work: a model that was
        loaded by then serves the first event.
        """
        self._commanded = self._commanded or all(at_end[: self._controls])
        merge = self.folder.merge
        return merge.ready(at_end) if self._commanded else merge.commands_waiting() > 0

    async def _fold(self, feed: Feed, at_end: Sequence[bool]) -> Folded:
        """The next slice; every few milliseconds others may run."""
        limits = self._pipeline.limits
        commands = self.folder.merge.commands_waiting()  # they go first
        records_max = limits.slice_records_max if self._commanded else min(limits.slice_records_max, commands)
        if self._patience.records_max is not None:
            records_max = min(records_max, self._patience.records_max)
        watermark_ms = self.shard.watermark_ms
        turns = Turns(self._clock, limits.slice_compute_max_ms / 1000)
        folding = self.folder.pieces(
            at_end,
            records_max,
            lambda size: (
                turns.used_up()
                or size > SLICE_BYTES_MAX
                or len(self.folder.oracle.found) > FOUND_MAX // 2
                or self.folder.ahead > AHEAD_MAX
            ),
            together=self._together(),
        )
        while (folded := _go_on(folding)) is None:
            await turns.give_way()
        turns.end()
        self._tally.fold_s += turns.fold_s
        self._record_s = turns.computed_s / max(folded.records, 1)
        if self.shard.watermark_ms != watermark_ms:
            self._moved_s = self._clock.now_s()
        self._resume(feed)
        return folded

    def _together(self) -> int:
        """How many records may be folded before the clock is looked at: as many as take a turn, as far as is known."""
        largest = max(hand.largest for hand in self._hands.values())
        quick = int(TURN_S / self._record_s) if self._record_s else TOGETHER
        return max(1, min(TOGETHER, TOGETHER_BYTES // max(largest, 1), max(quick, TOGETHER_MIN)))

    def _resume(self, feed: Feed) -> None:
        """Fetch on where enough was folded."""
        for place, hand in self._hands.items():
            hand.folded(self.folder.positions[input_name(*place, self._number)])
        for place in list(self._paused):
            waiting = self.folder.merge.waiting(self.folder.inputs.of[input_name(*place, self._number)])
            if waiting < QUEUE_MAX // 2 and self._hands[place].bytes < QUEUE_BYTES_MAX // 2:
                self._paused.discard(place)
                feed.resume(place)

    def _tick_due(self) -> int | None:
        """The time on idle inputs, if something waits for it: watermark plus the wall time since it last moved."""
        deadline_ms, watermark_ms = self.shard.next_deadline_ms, self.shard.watermark_ms
        if deadline_ms is None:
            return None
        time_ms = self.shard.now_ms + int((self._clock.now_s() - self._moved_s) * 1000)
        if time_ms <= deadline_ms or (watermark_ms is not None and time_ms <= watermark_ms):
            return None
        self._moved_s = self._clock.now_s()
        return time_ms

    def _stall_due(self, feed: Feed) -> int | None:
        """The time, where labels go on and events do not: what labels wait for may be unread, or may not be there.

        The records do not show which. A tick does: there is one only where no event is left to be read.
        """
        if not self.shard.awaits_events or any(map(self.folder.merge.waiting, self._events)):
            return None
        if not all(feed.at_end(self.places[lane]) for lane in self._events):
            return None
        now_s = self._clock.now_s()
        if now_s - max(self._stalled_s, *map(self._patience.came_s, self._events)) < STALL_S:
            return None
        self._stalled_s = self._moved_s = now_s
        return self.shard.now_ms + 1

    def _prepare(self, folded: Folded) -> _Prepared:
        """Give the slice its journal entry, and freeze the state if a snapshot is due, before the next slice folds."""
        self.slice_number += 1
        entry = SliceEntry(
            number=self.slice_number,
            inputs=dict(folded.inputs),
            tick_ms=folded.tick_ms,
            outputs=len(folded.messages),
            digest=folded.digest,
            watermark_ms=self.shard.watermark_ms,
            epoch=self._epoch.number,
            raised=dict(folded.raised) or UNSET,
            ahead={name: list(offsets) for name, offsets in folded.ahead.items()} or UNSET,
        )
        if folded.ahead:
            self._name_ahead(folded)
        note = None
        if not self.folder.waiting or self._clock.now_s() - self._noted_s > NOTE_EVERY_S:
            self._noted_s = self._clock.now_s()
            note = note_of(self.shard, self.folder.positions, self._tally.fullness.share)
        linked = link(entry, self._chain, note)
        self._chain = linked.chain
        self._snapshots.records += max(folded.records, 1)
        for request in folded.requests:
            self._carry_out(request)
        due = self._snapshots.due(asked=self._asked)
        if due:
            self._asked = False
            self._take_snapshot()
        return _Prepared(folded, linked, due)

    def _carry_out(self, request: Request) -> None:
        match request:
            case TakeSnapshot():
                self._asked = True  # until one is due: one may be under way
            case _:
                assert_never(request)

    def _name_ahead(self, folded: Folded) -> None:
        """Name a record whose time lies far ahead, and count those since the last that was named."""
        self._ahead += sum(map(len, folded.ahead.values()))
        now_s = self._clock.now_s()
        if self._named_s is None or now_s - self._named_s > NAME_EVERY_S:
            name, offsets = next(iter(folded.ahead.items()))
            log.warning(
                "shard %d: %d records have a time far ahead of their neighbours or of now, such as %s-%d, offset %d; "
                "they are processed but do not move the watermark",
                *(self._number, self._ahead, *input_place(name, self._number), offsets[0]),
            )
            self._ahead, self._named_s = 0, now_s

    def _take_snapshot(self) -> None:
        started_s = self._clock.now_s()
        self._snapshots.take(self.folder, self._chain, self.slice_number, self._epoch.number)
        self._held_s = self._clock.now_s() - started_s

    def _snapshot_writes(self) -> list[Write]:
        """The next few records of the snapshot under way, if there is one."""
        began, started_s = self._snapshots.writing, self._clock.now_s()
        writes = self._snapshots.next_writes()
        self._held_s = max(self._held_s, self._clock.now_s() - started_s)
        if began and not self._snapshots.writing:
            self._tally.snapshot(self._snapshots.written_bytes, self._held_s)
        return writes

    def distrust(self) -> None:
        """Someone else may have written to this shard's topics; its journal, which is looked at, has not moved."""
        self._snapshots.distrust()

    # -- commits

    async def _publish(self, prepared: _Prepared) -> None:
        folded = prepared.folded
        started_s = self._clock.now_s()
        positions = {**self.committed, **{name: part.stop for name, part in folded.inputs.items()}}
        writes = [*folded.messages, *self._snapshot_writes()]
        entry = Write(
            *self._journal,
            b"%d" % self._number,
            seal(encode_link(prepared.linked), name_of(self._journal), self._snapshots.ring),
        )
        offset = await self._publisher.commit(writes, entry)
        self._check_offset(offset)
        self.journal_offset = offset
        self.committed = positions
        if prepared.snapshot:
            self._snapshots.committed(offset)
        self._tally.committed(folded, self._clock.now_s() - started_s)
        if folded.made.alerts:
            self._alerts.committed(folded.made.alerts)

    def _check_offset(self, offset: int) -> None:
        """Without transactions nothing fences another writer, but its entry takes the offset that ours should have."""
        if self._pipeline.delivery == "at_least_once" and offset != self.journal_offset + 1:
            raise ForeignWriterError(
                f"the journal entry got offset {offset}, not {self.journal_offset + 1}: another worker writes to this "
                "shard; recovering"
            )

    async def _publish_chunks(self) -> None:
        writes = self._snapshot_writes()
        if writes:
            await self._publisher.commit(writes, None)

    async def _write_out(self) -> None:
        while self._snapshots.writing:
            try:
                async with asyncio.timeout(LAST_COMMIT_S):
                    await self._publish_chunks()
            except TimeoutError:
                raise CommitUnknownError("Kafka is unavailable; the next owner will replay more") from None

    async def _settle(self) -> None:
        """Wait for the commit under way; raises what it raised."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            await commit

    async def _rest(self) -> None:
        """Until something arrives, the commit comes back, or it is time to look at deadlines."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):  # wait_for would swallow a cancellation now and then
                await self._awake.wait()


def _go_on(folding: Generator[None, None, Folded]) -> Folded | None:
    """Fold one piece more; the slice, once it is whole."""
    try:
        next(folding)
    except StopIteration as ended:
        folded: Folded = ended.value
        return folded
    return None
