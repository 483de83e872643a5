"""Slices: the records that are folded and committed together, and what they make.

The same code folds a slice live, where it takes what is there, and at recovery, where the journal says what was
taken. Only the choice of what to take differs; once taken, the order and the outputs follow from the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence, Set

from msgspec import Struct

from driftline.codec.encode import Digest, Encoder, Message
from driftline.codec.inputs import Lanes
from driftline.codec.journal import Range
from driftline.core.error import InvariantError
from driftline.core.fold.future import Judge
from driftline.core.fold.merge import Merge
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, Outcome, Output, Rejected, Score
from driftline.core.record import Control, Source, Tick
from driftline.core.shard.outbox import Request
from driftline.core.shard.state import Shard
from driftline.core.stepwise import at_once

# Records that go through each stage (merge, step, encode) together, and between two questions whether the slice is
# full. One at a time they cost a fifth more: each stage drives the others' code out of the CPU's caches.
TOGETHER = 128
TOGETHER_MIN = 32  # however slow the model is
TOGETHER_BYTES = 1024 * 1024  # where records are large: reading one of a megabyte may take a third of a second


class Folded(Struct, frozen=True):
    """One slice, folded.

    Args:
        inputs: what was read, by input.
        tick_ms: the tick, for a slice without records.
        messages: what the slice made, as it is published.
        made: the same in numbers. The outputs themselves are let go at once: a slice of them would fill the caches.
        digest: over the messages, hexadecimal.
        raised: calls at which the model raised, and what.
        ahead: offsets of the records whose time lies far ahead, by input; see `core.fold.future`.
    """

    inputs: Mapping[str, Range]
    tick_ms: int | None
    messages: Sequence[Message]
    made: Counted
    digest: str
    raised: Mapping[str, str]
    ahead: Mapping[str, Sequence[int]]
    requests: Sequence[Request]

    @property
    def records(self) -> int:
        return sum(part.count for part in self.inputs.values())


class Counted:
    """What a slice made, in numbers.

    Attributes:
        scored: partition, offset and record time of each scored event, in order.
        outcomes, rejected: how many by kind or reason.
        alerts: each of them, which are few.
        label_delays_ms: from each event to its label, where both are known.
    """

    __slots__ = ("alerts", "label_delays_ms", "outcomes", "rejected", "scored")

    def __init__(self) -> None:
        self.scored: list[tuple[int, int, int]] = []
        self.outcomes: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.alerts: list[Alert] = []
        self.label_delays_ms: list[int] = []

    def add(self, outputs: Sequence[Output]) -> None:
        """Count them."""
        scored, delays_ms, outcomes = self.scored, self.label_delays_ms, self.outcomes
        for output in outputs:
            if type(output) is Score:  # not `isinstance`: see `step`
                source = output.source
                scored.append((source.partition, source.offset, source.record_time_ms))
            elif type(output) is Outcome:
                kind = output.kind
                outcomes[kind] = outcomes.get(kind, 0) + 1
                # A correction is not a label that took long to come.
                first = output.previous_label is None
                if first and output.label_time_ms is not None and output.event_time_ms is not None:
                    delays_ms.append(output.label_time_ms - output.event_time_ms)
            elif type(output) is Rejected:
                self.rejected[output.reason] += 1
            elif type(output) is Alert:
                self.alerts.append(output)


class _Published:
    """What a slice publishes, so far."""

    __slots__ = ("digest", "made", "messages", "requests")

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.requests: list[Request] = []
        self.made = Counted()
        self.digest = Digest()


class Folder:
    """Folds the records of one shard, slice by slice.

    Args:
        shard: the state; it is changed.
        positions: next offset to fold, by input: they say which inputs the shard has.
        watch: shown every output, in order.
        counts: see `codec.encode.Encoder`.

    Attributes:
        positions: next offset to fold, by input.
        counts: as given.
        vouch, admit: asked of each model file and of each command that is folded for the first time; see
            `core.oracle.Oracle`.
        oracle: the verdicts of the slice that is being folded, or of the last one.
    """

    def __init__(
        self,
        shard: Shard,
        positions: Mapping[str, int],
        watch: Callable[[Output], None] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.shard = shard
        self.inputs = Lanes(shard.pipeline, shard.number, positions)
        self.positions = dict(positions)
        self.judge = Judge(shard.pipeline.limits.time_ahead_max_ms)
        self.judge.led = True
        self.merge: Merge[Source] = Merge(self.inputs.decoders, self.judge, self.inputs.controls)
        self._received = dict(positions)
        self._folding = False  # a slice
        self._later: list[tuple[int, Sequence[Source]]] = []  # by lane, what came meanwhile
        self.counts = counts
        self._encode = Encoder(shard.pipeline, shard.number, counts).encode_all
        self._watch = watch
        self.vouch: Callable[[bytes], str | None] = lambda content: None
        self.admit: Callable[[Control], str | None] = lambda control: None
        self.oracle = Oracle()

    def watched_by(self, watch: Callable[[Output], None] | None) -> None:
        """Show every output from now on, in order, to `watch` alone."""
        self._watch = watch

    def receive(self, name: str, sources: Sequence[Source]) -> int:
        """Take records of one input into the merge, in order; returns how many now wait there.

        Records before the position were folded already (a read that began before a seek) and are skipped. What comes
        while a slice is folded is of the next one: a replay merges all that a slice took at once.
        """
        lane = self.inputs.of[name]
        floor = self._received[name]
        if sources:
            fresh = sources if sources[0].offset >= floor else [one for one in sources if one.offset >= floor]
            if self._folding:
                self._later.append((lane, fresh))
            else:
                self.merge.push(lane, fresh)
            self._received[name] = max(floor, sources[-1].offset + 1)
        return self.in_hand(name)

    def in_hand(self, name: str) -> int:
        """Records of one input that were received and that no slice has taken yet."""
        lane = self.inputs.of[name]
        return self.merge.waiting(lane) + sum(len(later) for of, later in self._later if of == lane)

    def look(self, now_ms: float, *, more: bool) -> None:
        """Before what is in hand is looked at or folded for the first time.

        Args:
            now_ms: on the wall; what lies beyond is far ahead.
            more: inputs that are not at their end get more while nothing is folded; not so where one is paused.
        """
        self.judge.patient = more
        self.judge.begin(self.shard.watermark_ms, now_ms)

    @property
    def ahead(self) -> int:
        """Records of the slice that lie far ahead, so far."""
        return sum(map(len, self.judge.found.values()))

    def let_go(self) -> None:
        """Forget what was received and not folded: it is read again.

        Raises:
            InvariantError: a slice was broken off, and the state is between two edges.
        """
        if self._folding:
            raise InvariantError("a slice was broken off: its state is not that of any journal entry")
        self.merge.clear()
        self._received = dict(self.positions)

    @property
    def waiting(self) -> int:
        """Records in hand."""
        return sum(self.merge.waiting(lane) for lane in range(len(self.inputs.names)))

    def fold(
        self,
        at_end: Sequence[bool],
        records_max: int,
        full: Callable[[int], bool],
        raised: Mapping[str, str] | None = None,
        *,
        together: int = TOGETHER,
    ) -> Folded:
        """Fold the next records in order, until a bound is met or the order of the next is not known yet.

        Args: see `pieces`.
        """
        return at_once(self.pieces(at_end, records_max, full, raised, together=together))

    def pieces(
        self,
        at_end: Sequence[bool],
        records_max: int,
        full: Callable[[int], bool],
        raised: Mapping[str, str] | None = None,
        *,
        together: int = TOGETHER,
    ) -> Generator[None, None, Folded]:
        """The same, piece by piece: between two of them others may run, and records be received.

        Args:
            at_end: by lane, whether an input has nothing unread beyond what was received.
            records_max: most records.
            full: asked after every `together` records with the bytes made so far; true ends the slice.
            raised: at a replay, the calls at which the model raised then; None when it is folded for the first time.
            together: most records of a piece.

        Invariant: whoever begins a slice ends it, or lets go of the state.
        """
        self.oracle = Oracle(raised, self.vouch, self.admit)
        self._folding = True
        published = _Published()
        counts = [0] * len(at_end)
        stops = [0] * len(at_end)
        taken = 0
        while taken < records_max:
            goal = min(taken + together, records_max)
            self._publish(self._step(at_end, goal - taken, counts, stops, published.requests), published)
            taken = sum(counts)
            if taken < goal or full(published.digest.size):
                break
            if taken < records_max:
                yield
        self._folding = False
        for lane, sources in self._later:
            self.merge.push(lane, sources)
        self._later.clear()
        return self._folded(counts, stops, None, published)

    def _publish(self, outputs: Sequence[Output], published: _Published) -> None:
        """Write outputs as they are published, count them, and show them to whoever watches."""
        published.made.add(outputs)
        watch = self._watch
        if watch is not None:
            for output in outputs:
                watch(output)
        messages = self._encode(outputs)
        published.messages += messages
        published.digest.add(messages)

    def _step(
        self, at_end: Sequence[bool], records_max: int, counts: list[int], stops: list[int], requests: list[Request]
    ) -> list[Output]:
        """Take and fold up to so many records; counts them, notes where each input stands, and collects requests."""
        shard, oracle = self.shard, self.oracle
        made: list[Output] = []
        if shard.watermark_ms is not None:
            self.judge.latest_ms = shard.watermark_ms
        taken = self.merge.take(records_max, at_end)
        for lane, count in Counter([lane for lane, _ in taken]).items():
            counts[lane] += count
        for lane, record in dict(taken).items():  # the last of each
            stops[lane] = record.source.offset + 1
        for _, record in taken:
            one = step(shard, record, oracle)
            made += one.outputs
            if one.requests:
                requests += one.requests
        return made

    def fold_range(
        self,
        inputs: Mapping[str, Sequence[Source]],
        raised: Mapping[str, str] | None = None,
        ahead: Mapping[str, Sequence[int]] | None = None,
    ) -> Folded:
        """Fold exactly these records, as a slice that the journal names; `raised` and `ahead` as they stand there."""
        self.judge.begin(self.shard.watermark_ms, marks=marks_of(ahead or {}, self.inputs.of))
        total = 0
        for name, sources in inputs.items():
            total += self.receive(name, sources)
        folded = self.fold([True] * len(self.inputs.names), total, lambda _: False, raised)
        if self.waiting:
            raise InvariantError("a slice was not replayed completely: its bounds differ from the recorded ones")
        return folded

    def tick(self, slice_number: int, time_ms: int, raised: Mapping[str, str] | None = None) -> Folded:
        """Let time pass on idle inputs; `raised` as of `fold`."""
        self.oracle = Oracle(raised, self.vouch, self.admit)
        published = _Published()
        made = step(self.shard, Tick(self.shard.number, slice_number, time_ms), self.oracle)
        self._publish(made.outputs, published)
        return self._folded([], [], time_ms, published)

    def _folded(
        self, counts: Sequence[int], stops: Sequence[int], tick_ms: int | None, published: _Published
    ) -> Folded:
        inputs = {}
        for lane, count in enumerate(counts):
            if count:
                name = self.inputs.names[lane]
                inputs[name] = Range(self.positions[name], stops[lane], count)
                self.positions[name] = stops[lane]
        ahead = {self.inputs.names[lane]: offsets for lane, offsets in self.judge.found.items()} if counts else {}
        return Folded(
            inputs=inputs,
            tick_ms=tick_ms,
            messages=published.messages,
            made=published.made,
            digest=published.digest.hex(),
            raised=self.oracle.found,
            ahead=ahead,
            requests=published.requests,
        )


def marks_of(ahead: Mapping[str, Sequence[int]], lane_of: Mapping[str, int]) -> Mapping[int, Set[int]]:
    """What a journal entry says of times far ahead, as a merge takes it."""
    return {lane_of[name]: frozenset(offsets) for name, offsets in ahead.items() if name in lane_of}
