"""One shard on this worker, from its assignment until it is taken away: recover, live, and recover again when needed.

A commit whose fate is unknown throws away the publisher and the memory. A new publisher is opened first, which ends
what was open, and only then is the journal read: so whatever happened to that commit, recovery learns it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from driftline.core.error import (
    BrokerError,
    CommitUnknownError,
    InputLostError,
    StateUnreadableError,
    UnreachableError,
)
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_name, topic_of
from driftline.core.record import Source
from driftline.engine.live import Live
from driftline.engine.opening import Opening
from driftline.engine.outage import Outage
from driftline.engine.pace import Pacer
from driftline.engine.position import Positioning, inputs_of
from driftline.engine.recovered import Progress, Recovered
from driftline.engine.recovery import Recovery
from driftline.engine.sameness import Identities, outputs, watched
from driftline.engine.start import Start
from driftline.engine.tally import Tally
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Broker, Feed, Place, Publisher

log = logging.getLogger(__name__)

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
REPEAT_S = 300.0


class Runner:
    """The life of one shard on this worker.

    Args:
        pipeline: with the number of its shards.
        number: of this one.

    Attributes:
        ready: recovered, and folding live.
        inputs: that its last recovery found; the feed must read them.
        tally: what it counted.
    """

    def __init__(
        self,
        broker: Broker,
        feed: Feed,
        pipeline: Pipeline,
        number: int,
        pacer: Pacer,
        start: Start,
        outage: Outage,
        clock: Clock = REAL,
    ) -> None:
        self.number = number
        self.ready = False
        self.inputs: Sequence[Place] = ()
        self.tally = Tally(pipeline.topics.events, clock, number)
        self._broker = broker
        self._feed = feed
        self._pipeline = pipeline
        self._pacer = pacer
        self._start = start
        self._clock = clock
        self._reset = start.reset_state
        self._behind_gap: Recovered | None = None  # the last state that could be derived, where input was lost
        self._outputs: dict[str, int] = {}  # partitions of each, as they are
        self._widening = False  # inputs were added, which a new epoch is to take up
        self._publisher: Publisher | None = None
        self._live: Live | None = None
        self._work: asyncio.Task[None] | None = None
        self._free = asyncio.Event()  # cleared while a rebalance is on
        self._free.set()
        self._stopping = asyncio.Event()
        self._clean = False
        self._folding: Live | None = None  # while it runs
        self._leaving = False  # the last snapshot is being written
        self._failures = 0
        self._outage = outage
        self._topics: Identities = {}  # inputs and journal, as they are
        self._logged: str | None = None
        self._logged_s = 0.0

    @property
    def reset_due(self) -> bool:
        """Whether the fresh state that was requested has not begun yet."""
        return self._reset

    @property
    def trouble(self) -> str | None:
        """What made it recover again, on a line; None where nothing did, or only that Kafka is unavailable."""
        return None if self._logged is None else self._logged.partition("\n")[0][:300]

    @property
    def live(self) -> Live | None:
        """The shard in memory, once recovered."""
        return self._live

    def receive(self, place: Place, sources: Sequence[Source]) -> None:
        """Records of one input, as they came."""
        if self.ready and self._live is not None:
            self._live.receive(self._feed, place, sources)

    def in_hand(self, place: Place) -> int:
        """Records of one input that were received and that no slice has taken yet."""
        return 0 if self._live is None else self._live.folder.in_hand(input_name(*place, self.number))

    def wake(self) -> None:
        """Look again: an input may have come to its end."""
        if self._live is not None:
            self._live.wake()

    def committed(self) -> Mapping[Place, int]:
        """Next offsets as the journal has them."""
        if self._live is None:
            return {}
        committed = self._live.committed
        return {place: committed[input_name(*place, self.number)] for place in self._live.places}

    @property
    def places(self) -> Sequence[Place]:
        """The inputs that it reads; none before it is recovered."""
        return self._live.places if self._live is not None else ()

    def widen(self) -> None:
        """Inputs were added: stop at a slice's edge, and go on with them, behind a new epoch."""
        self._widening = True
        if self._folding is not None:
            self._folding.halt()

    async def run(self) -> None:
        """Until stopped. Raises what recovering again would not fix."""
        try:
            while not self._stopping.is_set():
                await self._free.wait()
                if self._stopping.is_set():
                    break
                self._work = asyncio.create_task(self._widen() if self._widening else self._recover_and_live())
                await asyncio.wait({self._work})
                if self._work.cancelled():
                    if self._live is None:  # else only the look whether memory holds was broken off
                        await self._forget()
                    continue
                error = self._work.exception()
                if isinstance(error, CommitUnknownError | BrokerError):
                    self._complain(error)
                    await self._forget()
                    await self._back_off()
                elif error is not None:
                    raise error
            if self._live is not None and self._clean:
                self._work = asyncio.create_task(self._leave_snapshot(self._live))
                await asyncio.wait({self._work})
        finally:
            self.ready = False
            if self._work is not None:
                self._work.cancel()
            await self._forget()

    async def hold(self) -> None:
        """A rebalance begins: fold nothing more, and wait until nothing is under way.

        A recovery is broken off: after this, another worker may own the shard, and must not be fenced by us.
        """
        self._free.clear()
        self.ready = False
        work = self._work
        if work is None or work.done():
            return
        if self._folding is not None:  # also when it was halted before, and settles its last commit now
            self._folding.halt()
        elif not self._leaving:
            work.cancel()
        await asyncio.wait({work})

    def release(self) -> None:
        """The rebalance gave the shard back."""
        self._free.set()

    async def stop(self, *, clean: bool) -> None:
        """Fold nothing more. `run` then lets go and returns, after a clean stop with a snapshot left."""
        self._clean = clean
        self._stopping.set()  # first: a rebalance that gives the shard back in the meantime must not start it again
        await self.hold()
        self._free.set()

    async def _widen(self) -> None:
        """Leave what was folded to a recovery, which takes up the inputs that were added."""
        self._widening = False
        if self._live is not None:
            await self._leave_snapshot(self._live)
            await self._forget()

    async def _leave_snapshot(self, live: Live) -> None:
        self._leaving = True
        try:
            wrote = await live.close()
            left = "snapshot written" if wrote else "nothing new for a snapshot"
            log.info("shard %d: stopped at slice %d, %s", self.number, live.slice_number, left)
        except CommitUnknownError as error:
            log.warning("shard %d: no final snapshot: %s", self.number, error)
        finally:
            self._leaving = False

    async def _recover_and_live(self) -> None:
        if await self._memory_holds():
            log.info("shard %d: state kept: no other worker wrote to its journal", self.number)
            if self._live is not None and self._pipeline.delivery == "at_least_once":
                self._live.distrust()  # elsewhere our next commit would fail if anybody had owned the shard
        else:
            await self._forget()
            await self._recover()
        live = self._live
        if live is None or not self._free.is_set():
            return  # a rebalance is on; whether memory holds is asked again after it
        recovered_to = live.journal_offset
        self.ready, self._folding = True, live
        try:
            await live.run(self._feed, self._pacer)
        finally:
            self.ready, self._folding = False, None
            if live.journal_offset > recovered_to:  # else a slice that can never be committed is tried at once again
                self._failures, self._logged = 0, None

    async def _memory_holds(self) -> bool:
        """Whether the shard comes straight back from a rebalance: no one wrote to the journal in the meantime.

        Someone may have fenced us without writing; our next commit learns that, and lands nowhere.
        """
        if self._live is None:
            return False
        journal = Place(self._pipeline.topics.journal, self.number)
        reader = self._broker.reader()
        try:
            await reader.open({journal: self._live.journal_offset + 1})
            return not await reader.read(journal, 1)
        finally:
            await reader.close()

    async def _recover(self) -> None:
        started_s = self._clock.now_s()
        for place in inputs_of(self._pipeline, self.number, self._feed.counts()):
            self._feed.pause(place)  # until `Live.run` begins where the journal stands
        self._publisher = publisher = self._broker.publisher(self.number)
        await publisher.open()
        found = await self._feed.identities([*watched(self._pipeline), *outputs(self._pipeline)])
        self._topics = {topic: found[topic] for topic in watched(self._pipeline) if topic in found}
        self._outputs = {topic: found[topic].partitions for topic in outputs(self._pipeline) if topic in found}
        recovered = await self._derive()
        self._live = await self._go_on(publisher, recovered)
        elapsed_s = self._clock.now_s() - started_s
        self.tally.recovered(elapsed_s)
        progress = recovered.progress
        log.info(
            "shard %d: recovered in %.2f s (of which the snapshot took %.2f): %d slices, %d records replayed; "
            "digests: 0 different, %d not verifiable here",
            self.number,
            elapsed_s,
            progress.snapshot_s,
            progress.slices,
            progress.records,
            progress.unverifiable,
        )

    async def _derive(self) -> Recovered:
        """The state from snapshot and journal; nothing but the journal's end where a fresh one was requested."""
        while not self._reset:
            recovery = self._recovery()
            try:
                return await recovery.run()
            except InputLostError as error:
                if await recovery.outrun():
                    log.info("shard %d: its former owner has finished a snapshot: recovering from it", self.number)
                    continue
                if isinstance(error, StateUnreadableError) or not self._start.gap_continue:
                    raise
                return await self._past(error, recovery)
        return await self._recovery().follow()

    async def _past(self, error: InputLostError, recovery: Recovery) -> Recovered:
        """The state as far as it could be derived, or none; and the journal's end."""
        kept = recovery.reached
        if kept is not None and kept.folder is not None and kept.slice_number:
            text = f"continues from the state after slice {kept.slice_number}"
            self._behind_gap = kept
        else:
            text, self._reset = "continues with a fresh state", True
        log.warning("shard %d: %s: %s", self.number, text, error)
        state = await self._recovery().follow()
        recovery.check_journal(state)
        return state

    def _recovery(self) -> Recovery:
        ring = self._start.ring
        recovery = Recovery(
            self._broker, self._pipeline, self.number, ring, self._report, self._clock, self._start.unsigned
        )
        recovery.now = self._topics
        return recovery

    def _report(self, progress: Progress) -> None:
        self.tally.recovering(progress.slices, progress.records, progress.unverifiable)

    async def _go_on(self, publisher: Publisher, recovered: Recovered) -> Live:
        """The shard, ready to fold where its inputs go on."""
        positioning = Positioning(
            self._broker, self._pipeline, self.number, self._topics, self._reset, self._start.gap_continue
        )
        positions = await positioning.find(recovered)
        self.inputs = positions.inputs
        if all(name == topic_of(name) for name in positions.offsets):
            self._outputs = {}
        opening = Opening(
            self._broker,
            publisher,
            self._pipeline,
            self.number,
            self._start,
            self.tally,
            self._clock,
            self._topics,
            self._outputs,
            self._reset,
            self._behind_gap,
        )
        live = await opening.open(recovered, positions)
        self._reset, self._behind_gap = False, None
        return live

    async def _forget(self) -> None:
        """Drop the memory and the publisher."""
        self._live = None
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.close()

    def _complain(self, error: CommitUnknownError | BrokerError) -> None:
        """Log what went wrong: once, and again if it lasts. That Kafka is unavailable is logged for all shards at
        once."""
        self.tally.failed()
        if isinstance(error, UnreachableError) and (self._outage.on or not self._failures):
            return
        text, now_s = str(error), self._clock.now_s()
        if text == self._logged and now_s - self._logged_s < REPEAT_S:
            return
        self._logged, self._logged_s = text, now_s
        log.warning("shard %d: %s", self.number, text)

    async def _back_off(self) -> None:
        delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
