"""Commands that were taken are known, in bounded memory, and what is too old to be known is refused."""

from __future__ import annotations

import pytest

from driftline.core.record import Chunk, CommandName, Control, Source
from driftline.core.shard.command import LATEST_MAX, TAKEN_MAX, WINDOW_MS, Commands
from tests.support.small import NOW_MS

SOURCE = Source("p.control", 0, 0, NOW_MS, None, b"")


def control(nonce: int, sent_ms: int = NOW_MS, *, load: str = "", signed: bool = True) -> Control:
    chunk = Chunk(load, 0, 1, 1, "0" * 64, b"x") if load else None
    command: CommandName = "load" if load else "freeze"
    return Control(SOURCE, NOW_MS, command, "", 0, chunk, "p", "ann", sent_ms, f"{nonce:032x}", signed)


def reason(commands: Commands, one: Control, load: str = "") -> str | None:
    found = commands.take(one, load)
    return None if found is None else found.reason


def test_once() -> None:
    commands = Commands()
    assert reason(commands, control(1)) is None
    assert reason(commands, control(1)) == "control_repeated"
    assert reason(commands, control(1, NOW_MS + 1)) == "control_repeated"
    assert reason(commands, control(2)) is None


def test_out_of_order_within_the_window() -> None:
    commands = Commands()
    assert reason(commands, control(1, NOW_MS)) is None
    assert reason(commands, control(2, NOW_MS - WINDOW_MS + 1)) is None
    assert reason(commands, control(3, NOW_MS - WINDOW_MS)) == "control_repeated"
    assert reason(commands, control(4, NOW_MS + 1)) is None
    assert reason(commands, control(2, NOW_MS - WINDOW_MS + 1)) == "control_repeated", "forgotten, and too old"


def test_the_memory_is_bounded_and_nothing_forgotten_is_taken_again() -> None:
    commands = Commands()
    for number in range(3 * TAKEN_MAX):
        assert reason(commands, control(number, NOW_MS + number)) is None
    assert len(commands) == TAKEN_MAX
    assert all(reason(commands, control(number, NOW_MS + number)) for number in range(3 * TAKEN_MAX))


AHEAD_MS = 300_000


def test_a_flood_without_signatures_crowds_nothing_out() -> None:
    """Whoever may write a thousand of them, dated as far ahead as a clock may be, could lock the operator out."""
    commands = Commands()
    for number in range(3 * TAKEN_MAX):
        assert reason(commands, control(number, NOW_MS + AHEAD_MS, signed=False)) is None
    assert reason(commands, control(10_000, NOW_MS, signed=False)) is None
    assert reason(commands, control(10_000, NOW_MS, signed=False)) == "control_repeated"
    assert reason(commands, control(10_001, NOW_MS)) is None
    assert len(commands) == TAKEN_MAX + 1, "and the signed one"


def test_what_only_looks_signed_crowds_out_no_unsigned_one() -> None:
    """Without a key nobody knows whether a signature holds."""
    commands = Commands()
    for number in range(3 * TAKEN_MAX):
        commands.take(control(number, NOW_MS + AHEAD_MS), "")
    assert reason(commands, control(10_000, NOW_MS, signed=False)) is None


@pytest.mark.parametrize("signed", [False, True])
def test_a_beginning_holds_for_all(signed: bool) -> None:
    commands = Commands()
    commands.floor_ms = NOW_MS
    assert reason(commands, control(1, NOW_MS, signed=signed)) == "control_repeated"


@pytest.mark.parametrize(("under_way", "expected"), [("a", None), ("b", "control_repeated"), ("", "control_repeated")])
def test_parts_of_one_load_share_a_nonce(under_way: str, expected: str | None) -> None:
    commands = Commands()
    assert reason(commands, control(1, load="a")) is None
    assert reason(commands, control(1, load="a"), under_way) == expected


def test_the_latest_are_kept_for_people() -> None:
    commands = Commands()
    for number in range(2 * LATEST_MAX):
        commands.take(control(number, NOW_MS + number), "")
    values = commands.values()
    assert len(values) == LATEST_MAX
    assert values[-1] == {"command": "freeze", "by": "ann", "time_ms": NOW_MS + 2 * LATEST_MAX - 1}
