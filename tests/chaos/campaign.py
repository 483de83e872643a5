"""Faults under load: who is hit, with what and when is drawn from a seed; how long it takes is the machine's.

Workers are hit by SIGKILL, SIGTERM, and SIGSTOP beyond the session time-out followed by SIGCONT (the group has long
given their shards to others by then); the broker by SIGKILL, a clean restart, SIGSTOP, and once by an absence of 30 s.
A worker that is gone is replaced after a moment, as a supervisor would.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias, get_args

from driftline.devbroker.kafka import KafkaNode
from tests.support.command import Worker

Fault: TypeAlias = Literal[
    "worker SIGKILL",
    "worker SIGTERM",
    "worker SIGSTOP",
    "broker SIGKILL",
    "broker restart",
    "broker SIGSTOP",
    "broker away",
]
WEIGHTS = {"worker SIGKILL": 38, "worker SIGTERM": 22, "worker SIGSTOP": 22}
BROKER_WEIGHTS = {"broker SIGKILL": 5, "broker restart": 4, "broker SIGSTOP": 8}
SESSION_S = 10.0  # the engine's session time-out
LOOK_S = 0.2
STOP_S = 60.0
GAP_MAX = 4.0  # of the mean
CALM = 0.25  # share of the faults that wait for calm: until all workers are ready, or CALM_S
CALM_S = 45.0
BUSY = 0.85  # share of the faults that hit a worker at work, if there is one; the others may meet it while it starts


@dataclass
class Takeover:
    """The shards of a worker that was hit, until they are ready on others.

    Args:
        disturbed: another fault fell in between.
        seconds: until the last of them was ready; None as long as it is not.
    """

    fault: Fault
    victim: int
    waiting: set[int]
    at_s: float = field(default_factory=time.monotonic)
    disturbed: bool = False
    seconds: float | None = None


@dataclass
class Member:
    """A worker process."""

    number: int
    worker: Worker
    stopped: bool = False  # by SIGSTOP
    resumed_s: float = 0.0
    shards: frozenset[int] = frozenset()  # ready, as last seen


@dataclass
class Ledger:
    """What happened.

    Args:
        faults: how many of each kind.
        starts: worker processes started.
        wrong: what must not happen, in words.
    """

    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    takeovers: list[Takeover] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Campaign:
    """Workers and a broker under faults.

    Args:
        busy: how many workers have shards when all is well; the others are standbys.
        gap_s: mean time between two faults.
        away_s: how long the broker is away once, in the middle.
        tell: told what happens, in a line.
    """

    def __init__(
        self,
        node: KafkaNode,
        file: Path,
        folder: Path,
        *,
        seed: int,
        workers: int,
        busy: int,
        gap_s: float,
        away_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self.ledger = Ledger()
        self._node = node
        self._file = file
        self._folder = folder
        self._random = Random(seed)
        self._workers = workers
        self._busy = busy
        self._gap_s = gap_s
        self._away_s = away_s
        self._tell = tell
        self._members: list[Member] = []
        self._all: list[Worker] = []
        self._broker_up = True
        self._start_s = 0.0  # no worker is started before
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, faults: int) -> None:
        """Bring so many faults, then let everything come to rest with all workers up."""
        watching = asyncio.create_task(self._watch())
        try:
            await self._until(self._all_ready, "all workers are ready before the first fault")
            for fault in self._script(faults):
                await asyncio.sleep(min(self._random.expovariate(1 / self._gap_s), GAP_MAX * self._gap_s))
                if self._random.random() < CALM:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CALM_S):
                            await self._until(self._is_calm, "all workers are ready")
                await self._bring(fault)
                self._raise(watching)
            if self._tasks:
                await asyncio.wait(self._tasks)
                for task in self._tasks:
                    task.result()
            await self._until(self._is_calm, "all workers are ready after the last fault, every takeover at its end")
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def stop(self) -> None:
        """Stop the workers in good order."""
        codes = await asyncio.gather(*(asyncio.to_thread(one.worker.stop, STOP_S) for one in self._members))
        if any(codes):
            self.ledger.wrong.append(f"exit codes at the end: {codes}")

    def kill(self) -> None:
        """End whatever still runs."""
        for worker in self._all:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.kill()

    def logs(self) -> str:
        """What all workers said."""
        return "".join(f"== worker {number}\n{worker.log()}" for number, worker in enumerate(self._all))

    # -- faults

    def _script(self, faults: int) -> list[Fault]:
        """Kinds of faults in their order; the long absence of the broker is in the middle."""
        weights = WEIGHTS | BROKER_WEIGHTS
        drawn = self._random.choices(get_args(Fault)[:-1], [weights[kind] for kind in get_args(Fault)[:-1]], k=faults)
        drawn[faults // 2] = "broker away"
        return drawn

    async def _bring(self, fault: Fault) -> None:
        for takeover in self._open_takeovers():
            takeover.disturbed = True
        if fault.startswith("broker"):
            self.ledger.faults[fault] += 1
            await self._hit_broker(fault)
            return
        await self._until(lambda: any(not one.stopped for one in self._members), "there is a worker to hit")
        awake = [one for one in self._members if not one.stopped]
        busy = [one for one in awake if one.shards]
        member = self._random.choice(busy if busy and self._random.random() < BUSY else awake)
        self.ledger.faults[fault] += 1
        self._tell(f"{fault}: worker {member.number}, shards {sorted(member.shards)}")
        if member.shards:
            self.ledger.takeovers.append(Takeover(fault, member.number, set(member.shards)))
        match fault:
            case "worker SIGKILL":
                member.worker.kill()
                self._leave(member)
            case "worker SIGTERM":
                member.worker.signal(signal.SIGTERM)
                self._leave(member)
                self._spawn(self._ends(member))
            case _:
                member.worker.signal(signal.SIGSTOP)
                member.stopped, member.shards = True, frozenset()
                self._spawn(self._goes_on(member, SESSION_S + self._random.uniform(1.0, 6.0)))

    def _leave(self, member: Member) -> None:
        self._members.remove(member)
        self._start_s = time.monotonic() + self._random.uniform(0.0, 4.0)

    async def _ends(self, member: Member) -> None:
        """A worker that was told to stop does so, with exit code 0, whatever the broker does meanwhile."""
        try:
            code = await asyncio.to_thread(member.worker.end, STOP_S)
        except AssertionError as error:
            self.ledger.wrong.append(f"worker {member.number} after SIGTERM: {error}")
            return
        if code == -signal.SIGTERM and not member.worker.log():
            return  # Python was still starting, and nothing of ours was there to take the signal
        if code:
            self.ledger.wrong.append(f"worker {member.number} ended with {code}: {member.worker.last_words()}")

    async def _goes_on(self, member: Member, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._tell(f"worker {member.number} goes on after {after_s:.1f} s")
        member.worker.signal(signal.SIGCONT)
        member.stopped, member.resumed_s = False, time.monotonic()

    async def _hit_broker(self, fault: Fault) -> None:
        away_s = self._away_s if fault == "broker away" else self._random.uniform(0.5, 8.0)
        self._tell(f"{fault}: for {away_s:.1f} s")
        self._broker_up = False
        node = self._node
        if fault == "broker SIGSTOP":
            await asyncio.to_thread(node.pause)
            await asyncio.sleep(away_s)
            node.resume()
        elif fault == "broker restart":
            await asyncio.to_thread(node.restart)
        else:
            await asyncio.to_thread(node.kill)
            await asyncio.sleep(away_s)
            await asyncio.to_thread(node.start)
        self._broker_up = True
        self._tell("the broker is back")

    # -- watching

    async def _watch(self) -> None:
        """Start what is missing, see who is ready, and notice who ended by himself."""
        while True:
            now_s = time.monotonic()
            if len(self._members) < self._workers and self._broker_up and now_s >= self._start_s:
                self._start()
            for member in list(self._members):
                self._check_alive(member)
            awake = [one for one in self._members if not one.stopped]
            seen = await asyncio.gather(*(asyncio.to_thread(_ready, one.worker) for one in awake))
            for member, shards in zip(awake, seen, strict=True):
                member.shards = frozenset() if member.stopped else shards
            self._close_takeovers()
            await asyncio.sleep(LOOK_S)

    def _start(self) -> None:
        number = self.ledger.starts
        self.ledger.starts += 1
        worker = Worker(self._file, self._node.bootstrap, self._folder, name=f"worker-{number}")
        self._all.append(worker)
        self._members.append(Member(number, worker))
        self._start_s = time.monotonic() + self._random.uniform(0.0, 2.0)
        self._tell(f"worker {number} starts")

    def _check_alive(self, member: Member) -> None:
        code = member.worker.process.poll()
        if code is None:
            return
        self._leave(member)
        self.ledger.wrong.append(f"worker {member.number} ended by itself with {code}: {member.worker.last_words()}")
        self._tell(self.ledger.wrong[-1])

    def _open_takeovers(self) -> list[Takeover]:
        return [one for one in self.ledger.takeovers if one.seconds is None]

    def _close_takeovers(self) -> None:
        now_s = time.monotonic()
        for takeover in self._open_takeovers():
            for member in self._members:
                # One that just went on may not know yet that it is no owner any more.
                if member.number != takeover.victim and now_s - member.resumed_s > 2.0:
                    takeover.waiting -= member.shards
            if takeover.fault == "worker SIGSTOP":  # given back to who was away, as nobody else was there
                for member in self._members:
                    if member.number == takeover.victim and member.resumed_s and now_s - member.resumed_s > SESSION_S:
                        takeover.waiting -= member.shards
            if not takeover.waiting:
                takeover.seconds = now_s - takeover.at_s
                self._tell(f"the shards of worker {takeover.victim} are ready again after {takeover.seconds:.1f} s")

    def _all_ready(self) -> bool:
        return len(self._members) == self._workers and sum(bool(one.shards) for one in self._members) >= self._busy

    def _is_calm(self) -> bool:
        return self._all_ready() and not self._open_takeovers()

    async def _until(self, holds: Callable[[], bool], what: str, timeout_s: float = 240.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"not within {timeout_s:g} s: {what}")
            await asyncio.sleep(LOOK_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    @staticmethod
    def _raise(task: asyncio.Task[None]) -> None:
        if task.done():
            task.result()


def _ready(worker: Worker) -> frozenset[int]:
    """Shards that are ready, as its page says."""
    with suppress(ValueError, KeyError):
        return frozenset(number for number, ok in worker.shards.items() if ok)
    return frozenset()
