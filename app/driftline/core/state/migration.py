"""States of earlier formats, brought to the one that this version keeps.

A format is raised whenever the meaning of the bytes changes. What an earlier one wrote is unpickled as it is, part by
part, and then goes through every step from its own format on. Two kinds of change need no step: a class that gained an
attribute gives old objects its default (`__setstate__`, or a default of the class), and a record (`msgspec.Struct`)
that gained a field has it last, with a default. A new part of the state needs one: it begins as in a fresh shard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from driftline.core.error import SnapshotError
from driftline.core.shard.state import Shard

FORMAT: Final = 14

Step: TypeAlias = Callable[[dict[str, Any], Shard], None]
"""Changes the parts of a state, by name, in place; the shard is a fresh one under the state's pipeline."""


def _from_8(state: dict[str, Any], fresh: Shard) -> None:
    """Format 9 keeps labels that found no event and when time began, and remembers the commands that were taken."""
    state.setdefault("begun_ms", None)
    state.setdefault("strays", fresh.strays)
    state.setdefault("commands", fresh.commands)


def _from_9(state: dict[str, Any], fresh: Shard) -> None:
    """Format 10 has new names for the modules of its classes (`driftline.core.moved`); nothing else has changed."""


def _from_10(state: dict[str, Any], fresh: Shard) -> None:
    """Format 11 keeps the history of keys, which no pipeline before it could declare."""
    state.setdefault("history", fresh.history.dumped())


def _from_11(state: dict[str, Any], fresh: Shard) -> None:
    """Format 12 keeps what the guard remembers, and forecasts: no pipeline before it could declare them."""
    state.setdefault("kept", fresh.kept)
    state.setdefault("forecasts", fresh.forecasts)


def _from_12(state: dict[str, Any], fresh: Shard) -> None:
    """Format 13 keeps KPIs, which no pipeline before it could declare, and the test of labels."""
    state.setdefault("kpis", fresh.kpis)
    state.setdefault("quarantine", fresh.quarantine)


def _from_13(state: dict[str, Any], fresh: Shard) -> None:
    """Format 14 keeps the guard's second model and the budget of alarms, which no pipeline before it could declare."""
    state.setdefault("second", None)
    state.setdefault("budget", fresh.budget)


STEPS: Final[Mapping[int, Step]] = {8: _from_8, 9: _from_9, 10: _from_10, 11: _from_11, 12: _from_12, 13: _from_13}
"""By the format that a step begins from; it leads to the next."""

OLDEST: Final = min(STEPS)


def check_format(made_by: int) -> None:
    """Whether a state of this format can be read.

    Raises:
        SnapshotError: it is older than every step, or newer than this version.
    """
    if not OLDEST <= made_by <= FORMAT:
        raise SnapshotError(f"it has format {made_by}; this version reads {OLDEST} to {FORMAT}")


def migrate(state: dict[str, Any], made_by: int, fresh: Shard) -> None:
    """Bring the parts of a state to the present format, in place.

    Args:
        made_by: its format, which `check_format` let pass.
    """
    for number in range(made_by, FORMAT):
        STEPS[number](state, fresh)
