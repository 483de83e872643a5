"""Keeps the board: one reader for all pages of a worker, at work while someone looks.

It begins with the first page and ends a while after the last, so a worker that no one looks at pays nothing. Its tasks
are its own: whatever becomes of them, the engine goes on, and between two batches of records it lets others run. When
Kafka is away it says so, keeps what it has, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from driftline.codec.inputs import Inputs, layout_of
from driftline.codec.journal import decode_link
from driftline.codec.seal import is_sealed
from driftline.config import Settings
from driftline.core.error import DriftlineError, InvariantError, UnreachableError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place
from driftline.engine.fullness import FULL
from driftline.engine.trust import name_of
from driftline.kafka.client import client_options
from driftline.kafka.follow import Follower, Member, Seen, follow
from driftline.transport.port import Place
from driftline.web.backlog import First, Left
from driftline.web.board import Board
from driftline.web.record import Alert, Note, Review, Score, fit, read
from driftline.web.verdict import Situation

log = logging.getLogger(__name__)

PICKED_MAX = 600  # entries of the journals' past, of all shards together
PICKED_MIN = 20  # of one
TAIL = 200  # offsets of each journal that are read one by one
ALERTS_BACK = 2_000  # offsets, of each partition
REVIEWS_BACK = 5_000
SCORES_BACK = 20
LOOK_EVERY_S = 2.0  # at ends, scores and members
ANSWER_S = 8.0  # how long an answer to that is waited for
QUIET_MS = 2_500  # after so long without a word of a shard, it is looked whether a record waits for it
INPUTS_MAX = 50  # that are looked into at once
TURN_S = 0.002  # how long records are taken in at a stretch
REST_S = 0.002  # and then, in history, the engine's turn
ANSWERS_MAX = 25  # of the broker, until what comes is left for the next look
PAUSE_S = 0.8  # between two looks at what comes: the pages are written to once a second
NOTED = b'"note":'  # what an entry with numbers has in it
SLOW = 2.0
RETRY_S = 1.0
LINGER_S = 60.0  # how long it goes on when no one looks any more


class BoardFeed:
    """See the module.

    Args:
        shards: of this worker's engine, for brokers that do not name the members of a group.
        clock: wall time in ms.

    Attributes:
        board: what is known; begins anew after an outage, with what the topics say then.
        loaded: the history has been read.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: Settings,
        shards: Callable[[], Sequence[int]] = tuple,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.board = Board()
        self.loaded = False
        self._pipeline, self._settings = pipeline, settings
        self._shards, self._clock = shards, clock or _now_ms
        self._away_ms: int | None = None
        self._answered_ms: int | None = None  # when Kafka last did
        self._trouble = ""
        self._layout = Layout(1)
        self._watching = 0
        self._running: asyncio.Task[None] | None = None
        self._left_s = 0.0
        self._looking: asyncio.Task[None] | None = None  # whether records wait for quiet shards

    def situation(self) -> Situation:
        """What the topics do not say."""
        return Situation(self._clock(), self._away_ms, self.loaded, self._trouble)

    @property
    def slowness(self) -> float:
        """How much more rarely than usual pages are written to: a full worker has no time to spare."""
        notes = (one.note for one in self.board.shards.values())
        return SLOW if any(note is not None and (note.full or 0.0) >= FULL for note in notes) else 1.0

    @property
    def reading(self) -> bool:
        """Whether it reads the topics."""
        return self._running is not None and not self._running.done()

    def enter(self) -> None:
        """Someone looks."""
        self._watching += 1
        if not self.reading:
            self._running = asyncio.create_task(self._run(), name="page-feed")

    def leave(self) -> None:
        """Someone stops looking."""
        self._watching -= 1
        self._left_s = time.monotonic()

    async def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _wanted(self) -> bool:
        return self._watching > 0 or time.monotonic() - self._left_s < LINGER_S

    async def _run(self) -> None:
        """Read until no one looks; Kafka's faults are waited out."""
        while self._wanted():
            try:
                await self._read()
            except UnreachableError:
                self._away_ms = self._away_ms or self._answered_ms or self._clock()
            except (DriftlineError, OSError) as error:
                self._trouble = str(error).partition("\n")[0][:500]
            except Exception:  # the page may fail; the engine beside it must not
                self._trouble = "an error of the page's own; the worker's log has it"
                log.exception("the page cannot read the topics; scoring is not affected")
            await asyncio.sleep(RETRY_S)
        self.board, self.loaded = Board(), False

    async def _read(self) -> None:
        topics = self._pipeline.topics
        backs: dict[str, int | None] = {topics.journal: None, topics.alerts: ALERTS_BACK}
        if topics.review is not None:
            backs[topics.review] = REVIEWS_BACK
        committed = self._pipeline.delivery == "exactly_once"
        async with follow(client_options(self._settings), committed=committed) as follower:
            await follower.begin(backs, [topics.scores])
            self._layout = layout_of(self._pipeline, follower.counts)
            known, board = self.board, Board()
            board.begin(self._layout.shards)
            board.reading = True
            past = _Past(follower, topics.journal, self._layout.shards, self._is_ours)
            while await follower.is_behind() and self._wanted():
                await self._take(board, past.pick(await follower.next()))
            board.settle()
            board.round_ms = board.read_ms = self._clock()
            board.keep(known)
            board.fresh.clear()
            self.board = board
            try:
                await self._go_on(follower, board)
            finally:
                if self._looking is not None:
                    self._looking.cancel()
                    await asyncio.wait({self._looking})

    async def _go_on(self, follower: Follower, board: Board) -> None:
        looked_s = float("-inf")
        while self._wanted():
            if time.monotonic() - looked_s > LOOK_EVERY_S:
                await self._look_in_time(follower)
                looked_s, self.loaded = time.monotonic(), True
            board.round_ms = self._clock()
            for _ in range(ANSWERS_MAX):
                await self._take(board, await follower.next())
                if not await follower.has_more():
                    board.read_ms = board.round_ms
                    break
            self._look_into_quiet(follower, board)
            follower.rest()  # records come one by one: a look at each would cost more than what is in it
            await asyncio.sleep(PAUSE_S * self.slowness)

    def _look_into_quiet(self, follower: Follower, board: Board) -> None:
        """See whether a record waits for a shard that has written nothing for a while, beside all else."""
        if self._looking is not None and not self._looking.done():
            return
        quiet = (one for one in board.shards.values() if board.read_ms - one.backlog.heard_ms > QUIET_MS)
        unsure = [(one.number, name, left) for one in quiet for name, left in one.backlog.unsure().items()]
        if unsure:
            looking = self._find_firsts(follower, board, unsure[:INPUTS_MAX])
            self._looking = asyncio.create_task(looking, name="page-quiet")

    async def _find_firsts(self, follower: Follower, board: Board, unsure: Sequence[tuple[int, str, Left]]) -> None:
        lefts: dict[Place, tuple[int, str, Left]] = {}
        for number, name, left in unsure:
            with suppress(ValueError):  # a name that none of ours wrote
                lefts[input_place(name, number)] = number, name, left
        firsts: dict[int, dict[str, First]] = {}
        try:
            found = await follower.firsts({place: range(*left) for place, (_, _, left) in lefts.items()})
        except (DriftlineError, OSError) as error:  # that Kafka is away is seen elsewhere
            log.debug("the page does not know what waits for quiet shards: %s", error)
            return
        for place, first in found.items():
            number, name, left = lefts[place]
            firsts.setdefault(number, {})[name] = First(left.position, *first)
        board.take_firsts(firsts)

    async def _look_in_time(self, follower: Follower) -> None:
        """Look, within bounds: a request to a broker that is gone is waited for much longer.

        Raises:
            UnreachableError: Kafka does not answer.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._look(follower)
        except TimeoutError as error:
            raise UnreachableError(f"Kafka did not answer within {ANSWER_S:g} s") from error
        self._answered_ms = self._clock()

    async def _look(self, follower: Follower) -> None:
        """What is asked of Kafka now and then: ends, members, and the newest scores."""
        board, pipeline = self.board, self._pipeline
        inputs = Inputs(pipeline).topics
        places = {number: self._layout.places(inputs, number) for number in range(self._layout.shards)}
        ends = await follower.ends([place for ours in places.values() for place in ours])
        self._away_ms, self._trouble = None, ""
        board.take_ends(
            {number: {input_name(*place, number): ends[place] for place in ours} for number, ours in places.items()}
        )
        members = await follower.members(f"driftline-{pipeline.name}", pipeline.topics.journal)
        if members is not None:
            board.take_members(members, self._clock())
        elif board.workers is None or not board.whole:
            board.take_members([self._ours()], self._clock(), whole=False)
        follower.glance(SCORES_BACK)

    def _ours(self) -> Member:
        """The worker of this page."""
        return Member(f"process {os.getpid()}", socket.gethostname(), tuple(self._shards()))

    async def _take(self, board: Board, seen: Sequence[Seen]) -> None:
        """Take in some records, with pauses for the engine."""
        began_s = time.perf_counter()
        for record in seen:
            self._take_one(board, record)
            if time.perf_counter() - began_s > TURN_S:
                await asyncio.sleep(0 if self.loaded else REST_S)
                began_s = time.perf_counter()
        await asyncio.sleep(0)

    def _take_one(self, board: Board, record: Seen) -> None:
        topics, topic, number = self._pipeline.topics, record.place.topic, record.place.partition
        if topic == topics.journal:
            if (found := self._entry(record)) is not None:
                board.take_entry(number, record.time_ms, found[0])
        elif topic == topics.alerts:
            if (alert := read(record.value, Alert)) is not None:
                board.take_alert(number, record.time_ms if board.reading else self._clock(), alert)
        elif topic == topics.review:
            if (review := read(record.value, Review)) is not None:
                board.take_review(review)
        elif topic == topics.scores and (score := read(record.value, Score)) is not None:
            board.take_score(score)

    def _is_ours(self, record: Seen) -> bool:
        """Whether an entry of the journal is sealed with a key of the deployment, where there is one."""
        ring = self._settings.ring
        return not ring or is_sealed(record.value, name_of(record.place), ring)

    def _entry(self, record: Seen) -> tuple[Note | None] | None:
        """What an entry of the journal carries for people; None where it is no entry of ours."""
        value = record.value
        if not self._is_ours(record):
            return None
        if value is None or NOTED not in value:
            return (None,)
        with suppress(InvariantError):
            note: Mapping[str, Any] | None = decode_link(value).note
            return (None if note is None else fit(note, Note),)
        return None


class _Past:
    """Picks entries of the journals' past: a bounded number, evenly over all that is retained, and the last ones all.

    The numbers of an entry are counts since the beginning and metrics of that moment, so any can be left out.

    Args:
        is_ours: whether an entry counts; a pick of one that does not would leave one out that does.
    """

    def __init__(self, follower: Follower, journal: str, shards: int, is_ours: Callable[[Seen], bool]) -> None:
        self._follower = follower
        self._is_ours = is_ours
        self._from: dict[Place, int] = {}  # offset of the next entry that may be picked
        self._tails: dict[Place, int] = {}
        self._strides: dict[Place, int] = {}
        for place, history in follower.history.items():
            if place.topic == journal:
                self._tails[place] = tail = max(history.start, history.stop - TAIL)
                self._strides[place] = (tail - history.start) // max(PICKED_MIN, PICKED_MAX // shards) + 1
                self._from[place] = history.start

    def pick(self, seen: Sequence[Seen]) -> Sequence[Seen]:
        """What of it is taken; moves the reader on."""
        kept, moved = [], set()
        for record in seen:
            place = record.place
            if place not in self._from or record.offset >= self._tails[place]:
                kept.append(record)
            elif record.offset >= self._from[place] and self._is_noted(record):
                kept.append(record)
                self._from[place] = min(record.offset + self._strides[place], self._tails[place])
                moved.add(place)
        for place in moved:
            if self._strides[place] > 1:
                last = max(record.offset for record in seen if record.place == place)
                if self._from[place] > last + 1:
                    self._follower.skip(place, self._from[place])
        return kept

    def _is_noted(self, record: Seen) -> bool:
        return record.value is not None and NOTED in record.value and self._is_ours(record)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
