"""One simulation: workers of the real engine, a cluster in memory, users, faults, and the virtual clock under all.

The cluster does here what brokers do by themselves: it puts members out whose session ended or who hold a rebalance
up, and aborts transactions that are open for too long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import copy_context
from random import Random
from typing import Any

import orjson

from driftline.codec.inputs import Inputs
from driftline.codec.keyring import NO_KEYS
from driftline.codec.write import Write
from driftline.core.error import BrokerError, DriftlineError, InputLostError, StateUnreadableError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.core.record import Source
from driftline.engine.start import Start
from driftline.engine.worker import Worker
from driftline.transport.clock import Clock
from driftline.transport.port import Place
from tests.simulation import budgeted
from tests.simulation.damage import DAMAGES, spoil, take_away, write_stray
from tests.simulation.late import LateRequests
from tests.simulation.loads import KEY
from tests.simulation.loop import PROCESS, Process, StuckError, VirtualLoop
from tests.simulation.loss import is_lost
from tests.simulation.scenario import BASE_MS, Fault, Scenario, Widening
from tests.simulation.sent import Send
from tests.simulation.setting import parsed, surroundings
from tests.support.cluster import ClusterError, Entry, Identity, MemoryCluster
from tests.support.memory import AstrayError, MemoryBroker, Moment, RefusedError

SESSION_S = 3.0  # a real one takes 10 s; shorter here, or idle polling is all that a simulation does
REBALANCE_S = 10.0
TRANSACTION_MS = 15_000
LATE_S = 5.0
LOOK_S = 0.5  # how often the cluster looks at sessions and transactions
SETTLE_S = 150.0
OUTBOUND = ("open", "batch", "commit")  # requests that arrive though their sender is gone

_TIRED_S = (0.0005, 0.002, 0.02)
_SLOW_S = (0.0, 0.0, 0.001, 0.003, 0.01, 0.03, 0.2)
_MARK_S = (0.0, 0.0, 0.0, 0.001, 0.01, 0.2, 1.0)


class Cluster(MemoryCluster):
    """Keeps what retention took, for the judge alone."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(lambda: BASE_MS + int(loop.time() * 1000))
        self._deleted: dict[Place, list[Entry]] = {}

    def delete_before(self, place: Place, offset: int) -> None:
        log = self.log(place)
        gone = log.entries[: max(0, offset - log.start)]
        self._deleted.setdefault(place, []).extend(gone)
        super().delete_before(place, offset)

    def ever(self, place: Place, *, committed: bool) -> list[Source]:
        """All records that could ever be read of a partition."""
        entries = [*self._deleted.get(place, ()), *self.log(place).entries]
        return [entry.source for entry in entries if not entry.hidden(committed=committed)]


class Life(Process):
    """One worker process, from its start to its end."""

    def __init__(self, world: World, number: int, incarnation: int, pipeline: Pipeline) -> None:
        super().__init__(f"w{number}.{incarnation}")
        self.number = number
        self.member = f"{self.name}/0"
        self.river = world.river
        self.broker = MemoryBroker(world.cluster, pipeline, client=self.name, hook=world.moment)
        self.worker: Worker | None = None
        self.task: asyncio.Task[None] | None = None
        self.since_s = 0.0  # when it died or was paused

    @property
    def ended(self) -> bool:
        return self.dead or (self.task is not None and self.task.done())


class World:
    """What is there, and what happens.

    Attributes:
        trace: every moment, as (time, who, what); None unless asked for.
        violations: what must not be, as it was found while running.
        lost: a worker said that input was lost, and the scenario took input away.
        unreadable: it also said that another River reads the state: no worker goes on without it unasked.
        damaged: (partition, offset) of snapshot records that a fault changed.
    """

    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop()  # type: ignore[abstract]  # sockets, signals and processes are what it has not
        self.cluster = Cluster(self.loop)
        self.pipeline = parsed(orjson.dumps(scenario.pipeline))
        self.exact = self.pipeline.delivery == "exactly_once"
        self.lives: dict[int, Life] = {}
        self.graves: list[Life] = []
        self.trace: list[tuple[float, str, str]] | None = [] if traced else None
        self.digest = 0
        self.violations: list[str] = []
        self.lost = False
        self.unreadable = False
        self.stray = False
        self.damaged: set[tuple[int, int]] = set()
        self.deployed = 0
        self.river = versions()["river"]
        self.aged = False  # some worker ran with another River
        self._reset: set[int] = set()
        self.calm = False
        self.reached: Counter[str] = Counter()
        self._rng = Random(f"{scenario.seed} network")
        self._clock = Clock(self._now_s, lambda: BASE_MS / 1000 + self.loop.time(), self._now_s)
        self._incarnations: Counter[int] = Counter()
        self._steps: Counter[tuple[int, str]] = Counter()
        self._traps = {(f.worker, f.step, f.nth): f for f in scenario.faults if f.at_s is None}
        self._late = LateRequests(self.loop, lambda what: self.tell("network", what), self.reached)
        self._away: asyncio.Event | None = None
        self._away_hangs = False
        self._rebalancing_s: float | None = None

    def _now_s(self) -> float:
        if self.scenario.labour and self._rng.random() < self.scenario.labour:
            self.loop.spend(self._rng.choice(_TIRED_S))
        return self.loop.time()

    def tell(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace.append((self.loop.time(), who, what))

    # -- the whole run

    def run(self) -> None:
        """Let everything happen, and wait until it has settled."""
        with surroundings(self.scenario, _versions_here):
            try:
                self.loop.run_until_complete(self._run())
            except StuckError as error:
                self.violations.append(f"stuck: {error}")

    def bury(self) -> None:
        """End whatever still runs, once everything was judged."""
        everyone = [*self.lives.values(), *self.graves]
        for life in everyone:
            life.broker.alive = False
        with surroundings(self.scenario, _versions_here):
            self.loop.bury(list(everyone))

    async def _run(self) -> None:
        scenario = self.scenario
        topics = self.pipeline.topics
        inputs = dict.fromkeys((topics.events, topics.labels or ""), scenario.partitions)
        self.cluster.create(inputs, timestamp_ahead_max_ms=None)
        self.cluster.create_for(self.pipeline, scenario.outputs or scenario.partitions, scenario.shard_count)
        outside = [asyncio.create_task(self._users()), asyncio.create_task(self._coordinator())]
        for number in range(scenario.workers):
            self.start(number)
        outside += [asyncio.create_task(self._strike_at(fault)) for fault in scenario.faults if fault.at_s is not None]
        await asyncio.sleep(scenario.end_s)
        self._calm_down()
        await outside[0]
        deadline_s = self.loop.time() + SETTLE_S
        while not self.settled():
            if self.loop.time() > deadline_s:
                self.violations.append(f"not settled {SETTLE_S:g} s after the last fault: {self._standing()}")
                break
            if self.violations:
                break
            self._revive()
            await asyncio.sleep(0.2)
        for task in outside:
            task.cancel()

    def _calm_down(self) -> None:
        self.calm = True
        self.tell("world", "nothing goes wrong any more")
        self._come_back()
        for life in self.lives.values():
            self.resume(life)

    def _revive(self) -> None:
        """A supervisor: workers that ended are started again."""
        for number in range(self.scenario.workers):
            life = self.lives.get(number)
            if (life is None or life.ended) and not self.lost_for_good:
                self.start(number)

    @property
    def lost_for_good(self) -> bool:
        return self.lost and (self.unreadable or not self.scenario.gap_continue)

    def settled(self) -> bool:
        """Whether every worker is ready, everything is in the journal, and nothing waits for time to pass."""
        if any(log.open for log in self.cluster.logs.values()):
            return False  # decided perhaps, and not readable yet
        if self.lost_for_good:
            return True
        found: list[int] = []
        patience_ms = self.pipeline.label.wait_ms if self.pipeline.label else 0
        for life in self.lives.values():
            if life.ended or life.worker is None or not self._works(life.worker):
                return False
            for number, runner in life.worker.runners.items():
                found.append(number)
                shard = runner.live
                if shard is None or shard.busy:
                    return False
                for place, offset in runner.committed().items():
                    if self.cluster.log(place).read(offset, 1, committed=self.exact)[0]:
                        return False
                due_ms = shard.shard.next_deadline_ms
                if patience_ms < 60_000 and due_ms is not None and due_ms - shard.shard.now_ms < 60_000:
                    return False
        return sorted(found) == list(range(self.scenario.shard_count))

    def _works(self, worker: Worker) -> bool:
        """Whether it is ready; of several shards, also if partitions that were added are all that it complains of."""
        layout = Layout(self.scenario.shard_count, self.cluster.partitions)
        topics = Inputs(self.pipeline).topics
        lacking = [
            place
            for number, runner in worker.runners.items()
            for place in layout.places(topics, number)
            if place not in runner.places
        ]
        if not lacking:
            return worker.ready
        return self.scenario.shard_count > 1 and worker.unready() == [worker.lookout.trouble]

    def _standing(self) -> str:
        said = []
        for life in self.lives.values():
            runners = life.worker.runners if life.worker is not None else {}
            state = {p: (r.ready, dict(r.live.committed) if r.live else None) for p, r in runners.items()}
            said.append(f"{life.name}: {'ended' if life.ended else 'alive'} {state}")
        return "; ".join(said)

    # -- workers

    def start(self, number: int) -> None:
        """A worker process begins."""
        self._incarnations[number] += 1
        pipeline = self.pipeline
        if self.deployed:  # what a state can follow
            document = dict(self.scenario.pipeline)
            document["snapshot"] = {**document["snapshot"], "every_records": 7 + self.deployed}
            if document["task"] == "binary":
                document["decision"] = budgeted.deployed(document, self.deployed)
            pipeline = parsed(orjson.dumps(document))
        life = Life(self, number, self._incarnations[number], pipeline)
        self.lives[number] = life
        self.tell(life.name, "starts")
        start = Start(
            reset_state=number in self._reset,
            gap_continue=self.scenario.gap_continue,
            ring=KEY if self.scenario.signed else NO_KEYS,
            unsigned_models=True,
        )
        self._reset.discard(number)
        context = copy_context()
        context.run(PROCESS.set, life)
        life.worker = context.run(Worker, life.broker, pipeline, start, self._clock)
        life.task = self.loop.create_task(life.worker.run(), context=context)
        life.task.add_done_callback(lambda task: self._ended(life, task), context=copy_context())

    def _ended(self, life: Life, task: asyncio.Task[None]) -> None:
        life.broker.alive = False
        if task.cancelled() or life.dead:
            return
        error = task.exception()
        self.tell(life.name, f"ended: {error!r}")
        if isinstance(error, InputLostError) and self._is_lost(life):
            self.lost = True
            self.unreadable |= isinstance(error, StateUnreadableError)
        elif isinstance(error, BrokerError):
            self.reached["worker stopped as the broker was away"] += 1
        elif error is not None:
            kind = type(error).__name__ if isinstance(error, DriftlineError) else repr(error)
            self.violations.append(f"{life.name} stopped: {kind}: {error}")

    def _is_lost(self, life: Life) -> bool:
        ring = KEY if self.scenario.signed else NO_KEYS
        return any(
            is_lost(self.cluster, self.pipeline, shard, self.scenario.shard_count, life.river, ring)
            for shard in range(self.scenario.shard_count)
        )

    def crash(self, life: Life) -> None:
        """As SIGKILL: no word to anyone; the group learns it when the session ends."""
        if life.ended:
            return
        self.tell(life.name, "dies")
        life.dead = True
        life.broker.alive = False
        life.since_s = self.loop.time()
        self.graves.append(life)

    def pause(self, life: Life) -> None:
        if not life.ended and not life.paused:
            self.tell(life.name, "stands still")
            life.paused = True
            life.since_s = self.loop.time()

    def resume(self, life: Life) -> None:
        if life.paused and not life.dead:
            self.tell(life.name, "goes on")
            self.loop.go_on(life)

    async def _later_start(self, number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        life = self.lives.get(number)
        if life is None or life.ended:
            self.start(number)

    # -- what a broker does by itself

    async def _coordinator(self) -> None:
        group = self.cluster.group(f"driftline-{self.pipeline.name}")
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = self.loop.time()
            for life in [*self.lives.values(), *self.graves]:
                silent = life.dead or life.paused
                if silent and now_s - life.since_s > SESSION_S and life.member in group.members:
                    self.tell("group", f"session of {life.name} ended")
                    group.leave(life.member)
            if not group.rebalancing:
                self._rebalancing_s = None
            elif self._rebalancing_s is None:
                self._rebalancing_s = now_s
            elif now_s - self._rebalancing_s > REBALANCE_S:
                for member in group.missing:
                    self.tell("group", f"{member} holds the rebalance up, and is put out")
                    group.leave(member)
                self._rebalancing_s = now_s
            for transactional_id in self.cluster.expire_older(TRANSACTION_MS):
                self.tell("broker", f"transaction of {transactional_id} timed out")

    # -- users

    async def _users(self) -> None:
        identities: dict[int, Identity] = {}
        due: list[tuple[float, int, Any]] = [(one.at_s, 0, one) for one in self.scenario.sends]
        due += [(one.at_s, 1, one) for one in self.scenario.endings]
        due += [(one.at_s, -1, one) for one in self.scenario.widenings]
        for at_s, _, one in sorted(due, key=lambda item: item[:2]):
            if at_s > self.loop.time():
                await asyncio.sleep(at_s - self.loop.time())
            if isinstance(one, Send):
                self._send(one, identities)
            elif isinstance(one, Widening):
                self.tell("admin", f"{one.topic} has {one.count} partitions")
                self.cluster.widen(str(getattr(self.pipeline.topics, one.topic)), one.count)
            elif one.transaction in identities:
                identity = identities.pop(one.transaction)
                self.cluster.decide(identity, commit=one.commit)
                self.cluster.mark(identity)

    def _send(self, send: Send, identities: dict[int, Identity]) -> None:
        topics = self.pipeline.topics
        topic = {"event": topics.events, "label": topics.labels or "", "control": topics.control}[send.kind]
        value = None if send.value is None else send.value.encode("latin-1")
        place = Place(topic, send.partition)
        key = b"%d" % send.event_id if send.event_id >= 0 else None
        write = Write(topic, send.partition, key, value, send.stamp_ms)
        if not send.transaction:
            self.cluster.append(place, [write])
            return
        identity = identities.get(send.transaction)
        if identity is None:
            identity = identities[send.transaction] = self.cluster.initialise(f"user-{send.transaction}")
        self.cluster.add(identity, [place])
        self.cluster.append_within(identity, place, [write])

    # -- the network

    async def moment(self, moment: Moment) -> None:
        """Each request and each answer passes here."""
        process = PROCESS.get()
        life = process if isinstance(process, Life) else None
        number = int(moment.client[1:].partition(".")[0])
        step = moment.step
        if step in OUTBOUND:
            PROCESS.set(None)  # it is on its way: what becomes of its sender does not matter to it any more
        key = (number, step)
        self._steps[key] += 1
        if self.trace is not None:
            where = f" {moment.place.topic}-{moment.place.partition}" if moment.place is not None else ""
            self.tell(moment.client, f"{step}{where} ({self._steps[key]})")
        if step == "appended":
            self._late.appended(moment.client)
        if not self.calm and self._traps:
            fault = self._traps.pop((number, step, self._steps[key]), None)
            if fault is not None:
                await self._trapped(fault, life, moment)
        while self._away is not None:
            if not self._away_hangs and step != "mark":
                if step in ("poll", "read", "open"):
                    await asyncio.sleep(0.05)
                raise ClusterError("connection refused")
            await self._away.wait()
        if step == "mark" or (self.scenario.slowness and self._rng.random() < self.scenario.slowness):
            await asyncio.sleep(self._rng.choice(_SLOW_S))

    async def _trapped(self, fault: Fault, life: Life | None, moment: Moment) -> None:
        """A fault strikes at this very moment."""
        if life is None:
            life = self.lives.get(fault.worker)
        self.tell("fault", f"{fault.what} at {moment.step}")
        self.reached[fault.what] += 1
        match fault.what:
            case "lose":
                raise ClusterError("the connection was lost")
            case "refuse":
                raise RefusedError("the broker does not like this batch")
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "astray" if moment.step in OUTBOUND:
                what = f"the late {moment.step} of {moment.client}"
                raise AstrayError(
                    lambda effect: self._late.add(what, moment.client, effect, batches=fault.arg, seconds=fault.seconds)
                )
            case "astray":
                raise ClusterError("the connection was lost")
            case "crash":
                self._strike(fault, life)
                if moment.step in OUTBOUND and fault.arg == 0:
                    raise ClusterError("it died before it sent this")
                if fault.arg == 2:
                    await asyncio.sleep(LATE_S)  # what the dead had sent arrives when another may own the shard
            case _:
                self._strike(fault, life)
                if moment.step in OUTBOUND:
                    await asyncio.sleep(fault.seconds)  # so does what a member sent that was put out, or stands still

    # -- faults

    async def _strike_at(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at_s or 0.0)
        if self.calm:
            return
        self.tell("fault", fault.what)
        self.reached[fault.what] += 1
        self._strike(fault, self.lives.get(fault.worker))

    def _strike(self, fault: Fault, life: Life | None) -> None:
        outside = copy_context()
        outside.run(PROCESS.set, None)
        later = self._struck(fault, life)
        if later is not None:
            self.loop.create_task(later, context=outside)

    def _struck(self, fault: Fault, life: Life | None) -> Any:
        """Do what a fault does; returns what follows later, if anything does."""
        match fault.what:
            case "crash" if life is not None:
                self.crash(life)
                return self._later_start(fault.worker, fault.seconds)
            case "pause" if life is not None:
                self.pause(life)
                return self._later_resume(life, fault.seconds)
            case "stop" | "deploy" | "reset" if life is not None:
                if fault.what == "deploy" and fault.arg:
                    self.river = f"0.0.{fault.worker}"
                    self.aged = True
                elif fault.what == "deploy":
                    self.deployed += 1
                elif fault.what == "reset":
                    self._reset.add(life.number)
                return self._restart(life, fault.seconds)
            case "join":
                return self._visit(fault.seconds)
            case "evict" if life is not None and not life.ended:
                self.cluster.group(f"driftline-{self.pipeline.name}").leave(life.member)
            case "fence":
                self.cluster.expire(f"{self.pipeline.name}-{fault.partition % self.scenario.shard_count}")
            case "away":
                return self._go_away(fault.seconds, hangs=bool(fault.arg))
            case "snapshot":
                self.damage(fault.partition % self.scenario.shard_count, DAMAGES[fault.arg])
            case "retain":
                shard = fault.partition % self.scenario.shard_count
                self.tell("retention", take_away(self.cluster, self.pipeline, fault, shard))
            case "stray" if not self.exact:
                self.stray = True
                write_stray(self.cluster, self.pipeline, fault.partition % self.scenario.shard_count)
        return None

    async def _later_resume(self, life: Life, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.resume(life)

    async def _restart(self, life: Life, seconds: float) -> None:
        if not life.ended and life.worker is not None:
            self.tell(life.name, "is stopped")
            context = copy_context()
            context.run(PROCESS.set, life)
            context.run(life.worker.stop)
        await asyncio.sleep(seconds)
        if life.task is not None:
            await asyncio.wait({life.task}, timeout=SETTLE_S)
        if self.lives.get(life.number) is life and life.ended:
            self.start(life.number)

    async def _visit(self, seconds: float) -> None:
        number = self.scenario.workers + self._incarnations[-1]
        self._incarnations[-1] += 1
        self.start(number)
        await asyncio.sleep(seconds)
        life = self.lives[number]
        if not life.ended and life.worker is not None:
            context = copy_context()
            context.run(PROCESS.set, life)
            context.run(life.worker.stop)
            if life.task is not None:
                await asyncio.wait({life.task}, timeout=SETTLE_S)
        self.graves.append(self.lives.pop(number))

    async def _go_away(self, seconds: float, *, hangs: bool) -> None:
        if self._away is not None:
            return
        self._away, self._away_hangs = asyncio.Event(), hangs
        await asyncio.sleep(seconds)
        self._come_back()

    def _come_back(self) -> None:
        away, self._away = self._away, None
        if away is not None:
            self.tell("broker", "is back")
            away.set()

    def damage(self, partition: int, how: str) -> None:
        """Change the newest snapshot where it lies."""
        place = Place(self.pipeline.topics.snapshots, partition)
        log = self.cluster.log(place)
        if how == "forged" and not self.scenario.signed:
            return  # without a key, nothing tells
        if how == "missing":
            self.cluster.delete_before(place, log.end)
            return
        if (offset := spoil(log, how, committed=self.exact)) is not None:
            self.damaged.add((partition, offset))
            self.tell("fault", f"snapshot record {offset} of shard {partition} is {how}")


def _versions_here() -> dict[str, str]:
    """As `versions`, of the process that asks."""
    process = PROCESS.get()
    return {**versions(), "river": process.river} if isinstance(process, Life) else versions()
