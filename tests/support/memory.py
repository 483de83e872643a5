"""The broker port in memory: the same promises as `kafka`, on a cluster that a test holds in its hand.

Requests travel: each has a moment before it reaches the cluster and one before its answer comes back, and a hook is
asked at both. A hook may wait (the request or its answer is slow, and meanwhile another owner may come), or raise
(`ClusterError`: the connection is lost at that point; `AstrayError`: the same, and what was sent may come later;
`RefusedError`: this one batch is refused). A producer's request
that is under way when its client dies, gives up or is cancelled still arrives, as on a network; nothing after it is
sent. Without a hook, nothing waits.

Time passes only where the ports say so (an empty poll, a deadline), through the event loop's own timers: on a loop with
a virtual clock, nothing here takes real time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from driftline.codec.inputs import Inputs
from driftline.codec.journal import TopicIdentity
from driftline.codec.write import Write
from driftline.core.error import BrokerError, CommitUnknownError, InputLostError, UnreachableError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.transport.port import Assignment, Place
from tests.support.cluster import ClusterError, FencedError, Group, Identity, MemoryCluster, RefusedError, batch_bytes

__all__ = [
    "AstrayError",
    "ClusterError",
    "FencedError",
    "MemoryBroker",
    "MemoryCluster",
    "Moment",
    "RefusedError",
    "Step",
]

T = TypeVar("T")

POLL_WAIT_S = 0.025
POLL_RECORDS_MAX = 2_000
BATCH_BYTES_MAX = 1_000_000
COMMIT_DEADLINE_S = 14.0
READ_DEADLINE_S = 60.0

Step: TypeAlias = Literal[
    "open",  # a publisher is about to become the owner
    "opened",  # it is, and has not been told
    "batch",  # a batch is about to be appended
    "appended",  # it is, and its answer is on the way
    "commit",  # all batches are acknowledged, the transaction is about to be decided
    "mark",  # it is decided, and about to become readable
    "committed",  # the answer to the commit is on the way; the markers may still be
    "poll",  # a feed is about to look for records
    "read",  # a reader is
]


class AstrayError(ClusterError):
    """The connection is lost with a request on its way.

    Args:
        late: gets what the request would do, to do it when it comes after all.
    """

    def __init__(self, late: Callable[[Callable[[], object]], None]) -> None:
        self.late = late
        super().__init__("the connection was lost with a request on its way")


class Moment(NamedTuple):
    """A point at which a hook may interfere.

    Args:
        client: the name of the broker object.
        place: which partition a batch, poll or read is for; None where it is for none in particular.
    """

    client: str
    step: Step
    place: Place | None = None


class Hook(Protocol):
    """Asked at each moment. Returns to let it pass, waits to delay it, raises `ClusterError` to break it."""

    async def __call__(self, moment: Moment) -> None: ...


class MemoryBroker:
    """A connection of one process to a cluster, as one pipeline uses it.

    Args:
        client: its name; members of the group are ordered by it.
        hook: asked at each moment of this client, or None.
    """

    def __init__(
        self, cluster: MemoryCluster, pipeline: Pipeline, *, client: str = "client", hook: Hook | None = None
    ) -> None:
        self.cluster = cluster
        self.client = client
        self.alive = True
        self.exact = pipeline.delivery == "exactly_once"
        self._pipeline = pipeline
        self._hook = hook
        self._feeds: list[MemoryFeed] = []
        self._under_way: set[asyncio.Task[Any]] = set()  # strong references while they run

    def feed(self) -> MemoryFeed:
        topics = (*Inputs(self._pipeline).topics, self._pipeline.topics.journal)
        feed = MemoryFeed(self, topics, f"driftline-{self._pipeline.name}", len(self._feeds))
        self._feeds.append(feed)
        return feed

    def publisher(self, shard: int) -> MemoryPublisher:
        return MemoryPublisher(self, f"{self._pipeline.name}-{shard}" if self.exact else None)

    def reader(self) -> MemoryReader:
        return MemoryReader(self)

    async def beginnings(self, places: Iterable[Place]) -> Mapping[Place, int]:
        try:
            await self.pass_moment("read")
            return {place: self.cluster.log(place).start for place in places}
        except ClusterError as error:
            raise _unreachable(error) from error

    async def ends(self, places: Iterable[Place], *, readable: bool = True) -> Mapping[Place, int]:
        try:
            await self.pass_moment("read")
            logs = {place: self.cluster.log(place) for place in places}
        except ClusterError as error:
            raise _unreachable(error) from error
        stable = readable and self.exact
        return {place: log.stable_end() if stable else log.end for place, log in logs.items()}

    async def offsets_at(self, places: Iterable[Place], time_ms: int) -> Mapping[Place, int]:
        found = dict(await self.ends(places))
        for place, end in found.items():
            log = self.cluster.log(place)
            sources, _ = log.read(log.start, end - log.start, committed=False)
            found[place] = next((one.offset for one in sources if one.record_time_ms >= time_ms), end)
        return found

    def kill(self) -> None:
        """The process dies, as by SIGKILL: nothing more is sent, and the group learns that it is gone.

        What it left open stays open, as it does until the next owner, or the transaction time-out, ends it.
        """
        self.alive = False
        for feed in self._feeds:
            feed.drop()

    async def pass_moment(self, step: Step, place: Place | None = None) -> None:
        """Let a request or an answer travel.

        Raises:
            ClusterError: the hook broke it, or this client is dead.
        """
        if not self.alive:
            raise ClusterError("this client was killed")
        if self._hook is not None:
            await self._hook(Moment(self.client, step, place))

    async def request(self, step: Step, effect: Callable[[], T], place: Place | None = None) -> T:
        """Have something done on the cluster. Once it is sent it arrives or is lost, whoever waits for it."""
        if self._hook is None:
            await self.pass_moment(step, place)
            return effect()
        return await asyncio.shield(self.set_out(asyncio.create_task(self._travel(step, effect, place))))

    async def _travel(self, step: Step, effect: Callable[[], T], place: Place | None) -> T:
        try:
            await self.pass_moment(step, place)
        except AstrayError as error:
            error.late(effect)
            raise
        return effect()

    def set_out(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Keep a task that must come to its end though nobody may be waiting for it any more."""
        self._under_way.add(task)
        task.add_done_callback(self._arrived)
        return task

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever still waits

    def decide(self, identity: Identity) -> None:
        """The coordinator commits, and goes on to write the markers: at once, or when the hook lets it."""
        self.cluster.decide(identity, commit=True)
        if self._hook is None:
            self.cluster.mark(identity)
        else:
            self.set_out(asyncio.create_task(self._mark(self._hook, identity)))

    async def _mark(self, hook: Hook, identity: Identity) -> None:
        await hook(Moment(self.client, "mark"))  # the coordinator's own work: it goes on without the client
        self.cluster.mark(identity)


class MemoryFeed:
    """One member of the group. A task of its own takes part in rebalances; `poll` raises what that task met.

    Args:
        topics: the inputs, and last the journal, whose partitions the group shares.
    """

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], group: str, number: int) -> None:
        self._broker = broker
        self._cluster = broker.cluster
        self._topics = topics
        self._group: Group = broker.cluster.group(group)
        self._member = f"{broker.client}/{number}"
        self._positions: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._looks: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._membership: asyncio.Task[None] | None = None
        self._reached = True

    async def reached(self) -> bool:
        """How the last poll went: asking takes no request of its own."""
        return self._reached

    async def start(self, assignment: Assignment) -> None:
        self._membership = asyncio.create_task(self._belong(assignment))
        await asyncio.sleep(0)

    async def _belong(self, assignment: Assignment) -> None:
        """Join; then, at each rebalance, let go and join again."""
        group, member = self._group, self._member
        while True:
            group.join(member, self._topics[-1:])
            await self._until(lambda: group.assignment(member) is not None or not group.knows(member))
            places = group.assignment(member)
            if places is None:
                continue  # put out, or the next rebalance began, before it learned what it got: it joins again
            self.take(())
            assignment.assigned(sorted({place.partition for place in places}))
            await self._until(lambda: group.assignment(member) is None)
            self._positions.clear()
            if places:
                await assignment.revoked()

    def take(self, places: Iterable[Place]) -> None:
        self._positions = dict.fromkeys(places, 0)
        self._paused = set(self._positions)
        self._ends.clear()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while True:
            changed = self._cluster.changed
            if holds():
                return
            await changed.wait()

    async def poll(self) -> Mapping[Place, Sequence[Source]]:
        if self._membership is not None and self._membership.done() and not self._membership.cancelled():
            self._membership.result()  # raises: nothing else ends it
        try:
            await self._broker.pass_moment("poll")
        except ClusterError:
            self._reached = False
            return await self._nothing()  # as a client that cannot reach its broker: no records, no error
        self._reached = True
        fetched: Mapping[Place, Sequence[Source]] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_WAIT_S):
                changed = self._cluster.changed
                while not (fetched := self._fetch()):
                    await changed.wait()
                    changed = self._cluster.changed
        await asyncio.sleep(0)
        return fetched

    async def _nothing(self) -> Mapping[Place, Sequence[Source]]:
        await asyncio.sleep(POLL_WAIT_S)
        return {}

    def _fetch(self) -> dict[Place, Sequence[Source]]:
        fetched: dict[Place, Sequence[Source]] = {}
        room = POLL_RECORDS_MAX
        for place, start in self._positions.items():
            if place in self._paused or room == 0:
                continue
            log = self._cluster.log(place)
            if not log.start <= start <= log.end:
                raise _lost(place, start, log.start)
            found, self._positions[place] = log.read(start, room, committed=self._broker.exact)
            self._ends[place] = log.stable_end() if self._broker.exact else log.end
            self._looks[place] = self._looks.get(place, 0) + 1
            if found:
                fetched[place] = found
                room -= len(found)
        return fetched

    def at_end(self, place: Place) -> bool:
        return self.lag(place) == 0

    def looks(self, place: Place) -> int:
        return self._looks.get(place, 0)

    def lag(self, place: Place) -> int | None:
        position, end = self._positions.get(place), self._ends.get(place)
        return None if position is None or end is None else max(0, end - position)

    def lag_to_end(self, place: Place) -> int | None:
        position = self._positions.get(place)
        return None if position is None else max(0, self._cluster.log(place).end - position)

    def held_at(self, place: Place) -> int | None:
        if place not in self._positions or not self._broker.exact:
            return None
        log = self._cluster.log(place)
        return stable if (stable := log.stable_end()) < log.end else None

    def counts(self) -> Mapping[str, int]:
        counts = self._cluster.partitions
        return {topic: counts[topic] for topic in self._topics if topic in counts}

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity]:
        known = self._cluster.identities
        return {topic: known[topic] for topic in topics if topic in known}

    def begin(self, positions: Mapping[Place, int]) -> None:
        for place, offset in positions.items():
            if place not in self._positions:
                raise BrokerError(f"{place.topic}-{place.partition} is not read: a rebalance took it away just now")
            self._positions[place] = offset
            self.resume(place)

    def is_paused(self, place: Place) -> bool:
        return place in self._paused

    def pause(self, place: Place) -> None:
        self._paused.add(place)

    def resume(self, place: Place) -> None:
        self._paused.discard(place)
        self._cluster.ring()

    async def note_positions(self, positions: Mapping[Place, int]) -> None:
        if self._broker.alive:
            self._group.noted.update(positions)

    async def stop(self) -> None:
        self.drop()
        if self._membership is not None:
            await asyncio.wait({self._membership})

    def drop(self) -> None:
        """Leave the group without a word to the assignment."""
        if self._membership is not None:
            self._membership.cancel()
        self._positions.clear()
        self._group.leave(self._member)


class MemoryPublisher:
    """One shard's producer: with a transactional id, or plain and unfenced."""

    def __init__(self, broker: MemoryBroker, transactional_id: str | None) -> None:
        self._broker = broker
        self._cluster = broker.cluster
        self._transactional_id = transactional_id
        self._identity: Identity | None = None
        self._closed = False

    @property
    def identity(self) -> Identity:
        """Of the transactional producer, once it is open."""
        if self._identity is None:
            raise ClusterError("no transactional producer is open")
        return self._identity

    async def open(self) -> None:
        if self._transactional_id is None:
            return
        try:
            self._identity = await self._request("open", partial(self._cluster.initialise, self._transactional_id))
            await self._pass("opened")
        except ClusterError as error:
            raise _unreachable(error) from error

    async def commit(self, writes: Sequence[Write], entry: Write | None) -> int:
        task = self._broker.set_out(asyncio.create_task(self._commit(writes, entry)))
        try:
            # Shielded: whoever waits may be cancelled, the commit itself must come to its end.
            async with asyncio.timeout(COMMIT_DEADLINE_S):
                return await asyncio.shield(task)
        except TimeoutError:
            task.cancel()
            raise CommitUnknownError("the commit timed out; recovering") from None
        except ClusterError as error:
            raise CommitUnknownError(f"the commit failed or is unknown ({error}); the shard recovers") from error

    async def _commit(self, writes: Sequence[Write], entry: Write | None) -> int:
        if self._transactional_id is None:
            await self._send(writes)
            return await self._send([entry]) if entry is not None else -1
        if self._identity is None:
            raise ClusterError("the publisher was not opened")
        if not writes and entry is None:
            return -1  # an empty transaction is ended without asking anybody, fenced or not
        offset = await self._send([*writes, entry] if entry is not None else writes)
        await self._request("commit", partial(self._broker.decide, self._identity))
        await self._pass("committed")
        return offset if entry is not None else -1

    async def _send(self, writes: Sequence[Write]) -> int:
        """Send every batch, also after one was refused; returns the offset of the last batch's first record.

        All partitions are added to the transaction in one step with the first batch that arrives.
        """
        offset = -1
        refused: RefusedError | None = None
        batches = _batches(writes)
        unadded = {place for place, _ in batches}
        for place, batch in batches:
            try:
                if self._identity is None:
                    append = partial(self._cluster.append, place, batch)
                else:
                    append = partial(self._append, self._identity, unadded, place, batch)
                offset = await self._request("batch", append, place)
                await self._pass("appended", place)
            except RefusedError as error:
                refused = error
        if refused is not None:
            raise refused
        return offset

    def _append(self, identity: Identity, unadded: set[Place], place: Place, batch: Sequence[Write]) -> int:
        if unadded:
            self._cluster.add(identity, unadded)
            unadded.clear()
        return self._cluster.append_within(identity, place, batch)

    async def _request(self, step: Step, effect: Callable[[], T], place: Place | None = None) -> T:
        if self._closed:
            raise ClusterError("the publisher was closed")
        return await self._broker.request(step, effect, place)

    async def _pass(self, step: Step, place: Place | None = None) -> None:
        if self._closed:
            raise ClusterError("the publisher was closed")
        await self._broker.pass_moment(step, place)

    async def close(self) -> None:
        """Send nothing more. A transaction that is open stays so until the next owner ends it."""
        self._closed = True


class MemoryReader:
    """Reads partitions without a group."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._cluster = broker.cluster
        self._positions: dict[Place, int] = {}

    async def open(self, starts: Mapping[Place, int]) -> None:
        try:
            for place, start in starts.items():
                await self._broker.pass_moment("read", place)
                log = self._cluster.log(place)
                if not log.start <= start <= log.end:
                    raise _lost(place, start, log.start)
        except ClusterError as error:
            raise _unreachable(error) from error
        self._positions.update(starts)

    async def read(self, place: Place, count_max: int, stop: int | None = None) -> Sequence[Source]:
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                return await self._read(place, count_max, stop)
        except ClusterError as error:
            raise _unreachable(error) from error
        except TimeoutError:
            raise BrokerError(
                f"{place.topic} could not be read for {READ_DEADLINE_S:.0f} s: is another producer's transaction open?"
            ) from None

    async def _read(self, place: Place, count_max: int, stop: int | None) -> Sequence[Source]:
        while True:
            changed = self._cluster.changed
            await self._broker.pass_moment("read", place)
            log = self._cluster.log(place)
            if self._positions[place] < log.start:
                raise _lost(place, self._positions[place], log.start)
            found, position = log.read(self._positions[place], count_max, committed=self._broker.exact)
            if stop is not None and found and found[-1].offset >= stop:
                found = [source for source in found if source.offset < stop]
                position = stop
            self._positions[place] = position
            # The high watermark, not the last stable offset: our own commit may not be marked yet.
            if found or position >= log.end or (stop is not None and position >= stop):
                await asyncio.sleep(0)
                return found
            await changed.wait()

    async def close(self) -> None:
        """Nothing to let go."""


def _batches(writes: Sequence[Write]) -> list[tuple[Place, list[Write]]]:
    """The writes in batches, one partition's together and in order."""
    made: list[tuple[Place, list[Write]]] = []
    growing: dict[Place, list[Write]] = {}
    sizes: dict[Place, int] = {}
    for write in writes:
        place = Place(write.topic, write.partition)
        size = batch_bytes((write,))
        if place not in growing or sizes[place] + size > BATCH_BYTES_MAX:
            growing[place], sizes[place] = [], 0
            made.append((place, growing[place]))
        growing[place].append(write)
        sizes[place] += size
    return made


def _lost(place: Place, position: int, start: int) -> InputLostError:
    return InputLostError(
        f"{place.topic}-{place.partition} is kept from offset {start} on, and {position} was asked for: retention is "
        "too short"
    )


def _unreachable(error: Exception) -> BrokerError:
    return UnreachableError(f"the cluster did not answer ({error}); see the test's hook")
