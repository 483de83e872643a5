"""A worker: polls the inputs, hands each record to its shard, and keeps the shards it is given alive.

One task polls always; folding, commits and recovery run in the shards' own tasks and never block it for longer than
a slice may compute. Any error that recovering again would not fix stops the whole worker: a supervisor, and a
person, should see it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from math import inf

from driftline.codec.inputs import Inputs, layout_of
from driftline.core.error import (
    DriftlineError,
    GroupTakenError,
    InputLostError,
    RecoveryError,
    UnreachableError,
)
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.fates import LabelLog
from driftline.engine.fullness import FullnessLog
from driftline.engine.outage import Outage
from driftline.engine.pace import Pacer
from driftline.engine.runner import BACKOFF_S, Runner
from driftline.engine.sameness import Identities, check_inputs, check_journal, watched
from driftline.engine.start import Start
from driftline.transport.clock import REAL, Clock
from driftline.transport.obstacle import Lookout
from driftline.transport.port import Broker, Place

log = logging.getLogger(__name__)

GARBAGE_THRESHOLDS = (
    100_000,
    20,
    100,
)  # cycles are few here, and to look for them at every 700 objects cost a twentieth
NOTE_EVERY_S = 5.0
WATCH_EVERY_S = 1.0
IDENTIFY_EVERY_S = 5.0  # how often the topics' ids are looked at
NOTE_DEADLINE_S = 2.0
SETTLE_DEADLINE_S = 3.0  # for the commits under way when the worker is stopped; their fate is learned at the next start
STOP_DEADLINE_S = 20.0  # for the last snapshots


class Worker:
    """All shards of one pipeline that the group gives to this process.

    Attributes:
        pipeline: with the number of its shards, once it is known.
        runners: by number of their shard.
        outage: whether Kafka answers.
        lookout: what keeps records from us although it does.
    """

    def __init__(
        self,
        broker: Broker,
        pipeline: Pipeline,
        start: Start | None = None,
        clock: Clock = REAL,
        outage: Outage | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.runners: dict[int, Runner] = {}
        self.outage = outage or Outage(clock)
        self.lookout = Lookout(clock)
        self._topics: Identities = {}  # as they were when we first looked
        self._identified_s = -inf
        self._broker = broker
        self._feed = broker.feed()
        self._start = start or Start()
        self._clock = clock
        self._pacer = Pacer(clock=clock)
        self._label_log = LabelLog()
        self._fullness_log = FullnessLog()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._assigned_once = False
        self._taken_by: str | None = None  # who has the group in our place, in words
        self._taken: frozenset[Place] = frozenset()  # what the feed reads
        self._looks_before: dict[Place, int] = {}  # until the last outage
        self._shards = 0  # how many the pipeline has; 0 until that is known
        self._stopping = False
        self._leaving = False  # shards are let go, and none may come any more
        self._reset: set[int] = set()  # shards whose fresh state, if asked for, has begun

    @property
    def ready(self) -> bool:
        """Whether Kafka answers, the group gave us our share, every shard of it is recovered, and all is read."""
        return not self.unready()

    @property
    def identified(self) -> bool:
        """Whether it is known which topics these are, so that others of the same names are noticed."""
        return bool(self._topics)

    def unready(self) -> list[str]:
        """Why not, as text."""
        failure = self._failed.exception() if self._failed is not None and self._failed.done() else None
        if failure is not None:
            return [f"it failed and is stopping: {str(failure).partition(chr(10))[0]:.300}"]
        if self._stopping or self._leaving:
            return ["it is stopping"]
        reasons = ["Kafka is unavailable"] if self.outage.on else []
        if not self._assigned_once:
            reasons.append(self._taken_by or "the consumer group has not assigned any shards yet")
        waiting = [runner for _, runner in sorted(self.runners.items()) if not runner.ready]
        if waiting:
            numbers = ", ".join(str(runner.number) for runner in waiting)
            reasons.append(f"still recovering: shard{'s' * (len(waiting) > 1)} {numbers}")
        reasons += [f"shard {one.number}: {one.trouble}" for one in waiting if one.trouble is not None]
        if (trouble := self.lookout.trouble) is not None:
            reasons.append(trouble)
        return reasons

    def notes(self) -> list[str]:
        """What is worth a word while it is ready, as text."""
        return self._fullness_log.notes()

    async def run(self) -> None:
        """Work until `stop` is called.

        Raises:
            DriftlineError: what stopped a shard for good.
        """
        self._failed = asyncio.get_running_loop().create_future()
        if self._stopping:
            return  # stopped before it began
        if not self._start.ring:
            models = "taken" if self._start.unsigned_models else "refused"
            log.warning(
                "no key is set (DRIFTLINE_SNAPSHOT_KEY): anyone who can write to the topics of %s can change what it "
                "does; models over the control topic are %s",
                self.pipeline.name,
                models,
            )
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        if not await self._join(self._failed):
            return
        polling = asyncio.create_task(self._poll())
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({polling, watching, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            elif watching.done():
                watching.result()  # raises: nothing else ends it
            elif not self._stopping:
                await self._result_of(polling)
        finally:
            polling.cancel()
            watching.cancel()
            await asyncio.wait({polling, watching})
            try:
                await self._let_go(clean=self._stopping)
            finally:
                await self._feed.stop()

    def stop(self) -> None:
        """Finish what is under way, leave snapshots, and let `run` return."""
        self._stopping = True
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(None)

    def lag(self, place: Place) -> int | None:
        """Records (offsets, to be exact) that no slice of the shard has taken yet; None while that is not known: while
        Kafka is unavailable, and after that until it has answered for the partition again."""
        return None if self._unknown(place) else self._behind(place, self._feed.lag(place))

    def lag_to_end(self, place: Place) -> int | None:
        """The same, with what transactions that are open hold back."""
        return None if self._unknown(place) else self._behind(place, self._feed.lag_to_end(place))

    def _behind(self, place: Place, unread: int | None) -> int | None:
        """What is unread and what was read ahead: a merge that waits for another input holds thousands of records."""
        runner = self.runners.get(place.partition % self._shards)
        return unread if unread is None or runner is None else unread + runner.in_hand(place)

    def _unknown(self, place: Place) -> bool:
        """Whether the end of a partition is only known as it was before an outage."""
        return self.outage.on or self._feed.looks(place) <= self._looks_before.get(place, -1)

    async def _join(self, stopped: asyncio.Future[None]) -> bool:
        """Start the feed, however long Kafka is unavailable; returns whether it did before we were to stop."""
        failures = 0
        while True:
            try:
                if await self._started(stopped):
                    return True
            except UnreachableError as error:
                self.outage.failed(error)
            except GroupTakenError as error:
                self._wait_for_group(str(error))
            await self._feed.stop()
            await asyncio.wait({stopped}, timeout=BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            if stopped.done():
                return False
            failures += 1
            self._feed = self._broker.feed()

    def _wait_for_group(self, why: str) -> None:
        """Others have the group."""
        self.outage.answered()
        if self._taken_by is None:
            log.warning("not ready: %s", why)
        self._taken_by = why

    async def _started(self, stopped: asyncio.Future[None]) -> bool:
        """Start the feed once. A start waits for a Kafka that goes away in the meantime; we watch it, and may be
        stopped."""
        starting = asyncio.create_task(self._feed.start(self))
        try:
            while not starting.done() and not stopped.done():
                done, _ = await asyncio.wait(
                    {starting, stopped}, timeout=WATCH_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    await self._look()
            if starting.done():
                starting.result()
                return True
            return bool(self.runners)  # one of them failed while the others of the group still join
        finally:
            starting.cancel()
            await asyncio.wait({starting})

    async def _watch(self) -> None:
        """Ask now and then whether Kafka answers: idle shards would not notice."""
        while True:
            await self._look()
            shards = {one: runner.live.shard for one, runner in self.runners.items() if runner.live is not None}
            self._label_log.look(shards, self._clock.now_s())
            self._look_at_fullness()
            await asyncio.sleep(WATCH_EVERY_S)

    def _look_at_fullness(self) -> None:
        now_s = self._clock.now_s()
        tallies = {number: runner.tally for number, runner in self.runners.items()}
        for tally in tallies.values():
            tally.fullness.look(now_s, tally.fold_s)
        shares = {number: tally.fullness.share for number, tally in tallies.items() if tally.fullness.whole}
        self._fullness_log.look(shares, now_s)

    async def _look(self) -> None:
        if await self._feed.reached():
            self.outage.answered()
            await self._look_at_topics()
            self._look_at_partitions()
        else:
            self._looks_before = {place: self._feed.looks(place) for place in self._taken}
            self.lookout.away()
            self.outage.failed("no broker returned the topics' metadata; check that the brokers run and are reachable")

    async def _result_of(self, polling: asyncio.Task[None]) -> None:
        """Raise what ended the polling. Offsets that are out of range may be those of a topic that was recreated."""
        try:
            polling.result()
        except InputLostError:
            self._identified_s = -inf
            await self._look_at_topics()
            if self._failed is not None and self._failed.done():
                self._failed.result()
            raise

    async def _look_at_topics(self) -> None:
        """Now and then: inputs or journal that are recreated under us end the worker."""
        now_s = self._clock.now_s()
        if now_s - self._identified_s < IDENTIFY_EVERY_S:
            return
        self._identified_s = now_s
        with suppress(UnreachableError):  # reported elsewhere
            topics = await self._feed.identities(watched(self.pipeline))
            try:
                check_journal(self._topics, topics, self.pipeline)
                check_inputs(self._topics, topics, topics)
            except RecoveryError as error:
                if self._failed is not None and not self._failed.done():
                    self._failed.set_exception(error)
            self._topics = {**topics, **self._topics}

    def _look_at_partitions(self) -> None:
        """Partitions that were added to the inputs: taken up where there is one shard, else reported."""
        counts, ready = self._feed.counts(), [one for one in self.runners.values() if one.ready]
        read = {place for one in ready for place in one.places}
        unread = [place for one in ready for place in self._inputs_of([one.number], counts) if place not in read]
        found = {place for one in self.runners.values() for place in one.inputs}  # by a recovery, while they were added
        self.lookout.look(self._feed, read)
        if (unread and self._shards == 1) or not found <= self._taken:
            for runner in ready:
                runner.widen()
            self._take(self._inputs_of(self.runners, counts))
        elif counts and self._shards and (ready or not self.runners):
            topics = {place.topic for place in unread}
            last = max((place.partition for place in read if place.topic in topics), default=0)
            self.lookout.note_unread({topic: counts[topic] for topic in topics}, _up_to(last + 1, self._shards))

    def _inputs_of(self, shards: Iterable[int], counts: Mapping[str, int]) -> list[Place]:
        """The partitions of the inputs that would be these shards'."""
        layout, topics = Layout(self._shards, counts), [one for one in Inputs(self.pipeline).topics if one in counts]
        return [place for shard in shards for place in layout.places(topics, shard)]

    def _take(self, places: Iterable[Place]) -> None:
        """Have the feed read these."""
        taken = list(places)
        self._feed.take(taken)
        self._taken = frozenset(taken)

    # -- the assignment, as the feed announces it

    async def revoked(self) -> None:
        """A rebalance: nothing may be under way when this returns."""
        await asyncio.gather(*(runner.hold() for runner in self.runners.values()))

    def assigned(self, shards: Iterable[int]) -> None:
        """The group gave us these shards; those we had and still have go on from memory."""
        if self._leaving:
            return
        counts = self._feed.counts()
        self._settle_shards(counts)
        ours = {one for one in shards if one < self._shards}  # partitions that were added to the journal are not shards
        log.info("shards of this worker: %s", ", ".join(map(str, sorted(ours))) or "none")
        for number in sorted(set(self.runners) - ours):
            self._dismiss(number)
        self._take(self._inputs_of(sorted(ours), counts))
        for number in sorted(ours):
            if number in self.runners:
                self.runners[number].release()
            else:
                self._engage(number)
        self._assigned_once = True

    def _settle_shards(self, counts: Mapping[str, int]) -> None:
        """The first assignment: the partitions of the journal say how many shards there are."""
        if not self._shards:
            self._shards = layout_of(self.pipeline, counts).shards
            self.pipeline = self.pipeline.model_copy(update={"shards": self._shards})

    def _engage(self, number: int) -> None:
        start = self._start
        if number in self._reset:
            start = replace(start, reset_state=False)  # once is what the user asked for, not at every return
        runner = Runner(self._broker, self._feed, self.pipeline, number, self._pacer, start, self.outage, self._clock)
        self.runners[number] = runner
        task = asyncio.create_task(runner.run(), name=f"shard-{number}")
        self._tasks[number] = task
        task.add_done_callback(self._ended)

    def _dismiss(self, number: int) -> None:
        runner = self.runners.pop(number)
        if not runner.reset_due:
            self._reset.add(number)
        task = self._tasks.pop(number)
        stopping = asyncio.create_task(runner.stop(clean=False))
        task.add_done_callback(lambda _: stopping.cancelled())  # keeps `stopping` referenced until the shard is gone

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None or self._failed is None:
            return
        if not self._failed.done():
            self._failed.set_exception(error)
        elif not self._stopping and str(error) != str(self._failed.exception()):  # most faults are those of all shards
            log.error("%s failed too: %s", task.get_name(), error)

    # -- the one task that polls

    async def _poll(self) -> None:
        noted_s = self._clock.now_s()
        while True:
            for place, sources in (await self._feed.poll()).items():
                runner = self.runners.get(place.partition % self._shards)
                if runner is not None:
                    runner.receive(place, sources)
            for runner in self.runners.values():
                runner.wake()
            if self._clock.now_s() - noted_s > NOTE_EVERY_S:
                noted_s = self._clock.now_s()
                if self._noting is None or self._noting.done():
                    self._noting = asyncio.create_task(self._feed.note_positions(self._committed()))
            await asyncio.sleep(0)

    def _committed(self) -> Mapping[Place, int]:
        positions: dict[Place, int] = {}
        for runner in self.runners.values():
            if runner.ready:
                positions.update(runner.committed())
        return positions

    async def _let_go(self, *, clean: bool) -> None:
        """Stop every shard, within a bounded time."""
        self._leaving = True
        positions = self._committed()
        if self._noting is not None:
            self._noting.cancel()
        tasks = set(self._tasks.values())
        stops = {
            asyncio.create_task(runner.stop(clean=clean)): self._tasks[number]
            for number, runner in self.runners.items()
        }
        if stops:
            _, unsettled = await asyncio.wait(stops, timeout=SETTLE_DEADLINE_S)
            for stop in unsettled:
                stops[stop].cancel()
            clean = clean and not unsettled
        if tasks:
            _, hanging = await asyncio.wait(tasks, timeout=STOP_DEADLINE_S)
            for task in hanging:
                task.cancel()
        for stop in stops:
            if stop.done() and not stop.cancelled() and (error := stop.exception()) is not None:
                log.warning("while stopping: %s", error if isinstance(error, DriftlineError) else repr(error))
        if clean:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTE_DEADLINE_S):
                    await self._feed.note_positions(positions)
        self.runners.clear()
        self._tasks.clear()


def _up_to(count: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-count // step) * step
