"""Slices and turns end by what was computed, not by how long the machine took for it."""

from __future__ import annotations

import asyncio

from driftline.engine.turn import TURN_S, Turns
from driftline.transport.clock import Clock


class Machine:
    """Computes, and lets others have the core."""

    def __init__(self) -> None:
        self.cpu_s = self.now_s = 0.0
        self.clock = Clock(now_s=lambda: self.now_s, cpu_s=lambda: self.cpu_s)

    def compute(self, seconds: float) -> None:
        self.cpu_s += seconds
        self.now_s += seconds

    def lose(self, seconds: float) -> None:
        """Others have the core, or it waits."""
        self.now_s += seconds


async def others_ran(turns: Turns) -> bool:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await turns.give_way()
    found = ran.is_set()
    await asyncio.sleep(0)
    return found


async def test_a_turn_ends_after_so_much_computing_whatever_others_take() -> None:
    machine = Machine()
    turns = Turns(machine.clock, 1.0)
    machine.lose(TURN_S * 5)
    machine.compute(TURN_S * 0.9)
    assert not turns.used_up()
    assert not await others_ran(turns)
    machine.compute(TURN_S * 0.2)
    assert not turns.used_up()
    assert await others_ran(turns)
    machine.compute(TURN_S * 0.9)
    assert not turns.used_up()
    assert not await others_ran(turns), "a turn began"


async def test_a_slice_ends_after_the_computing_of_all_its_turns() -> None:
    machine = Machine()
    turns = Turns(machine.clock, 3.5 * TURN_S)
    ended = []
    for _ in range(3):
        machine.lose(5 * TURN_S)
        machine.compute(1.2 * TURN_S)
        ended.append(turns.used_up())
        await turns.give_way()
    assert ended == [False, False, True]


async def test_a_model_that_waits_ends_turns_and_slices_too() -> None:
    """It reads a file, say: no CPU time passes, and all else of the worker stands still."""
    machine = Machine()
    turns = Turns(machine.clock, 3.5 * TURN_S)
    ended = []
    for _ in range(3):
        machine.lose(12 * TURN_S)
        ended.append(turns.used_up())
        assert await others_ran(turns)
    assert ended == [False, False, True]


async def test_a_shard_is_full_by_the_wall() -> None:
    """What others take of the core while it folds is time that it does not have; what runs in between is not its."""
    machine = Machine()
    turns = Turns(machine.clock, 1.0)
    machine.compute(2 * TURN_S)
    machine.lose(0.5)
    turns.used_up()
    asyncio.get_running_loop().call_soon(machine.lose, 7.0)
    await turns.give_way()
    machine.compute(TURN_S)
    turns.end()
    assert abs(turns.fold_s - (3 * TURN_S + 0.5)) < 1e-9
