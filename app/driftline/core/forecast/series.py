"""One series: its latest observations by step, and the forecasts that wait for their truth.

Time is cut into steps from the series' first observation on; an observation is of the step that is nearest to its time,
so that jitter of less than half a step does no harm. At rest a series is one list for msgpack (`core.history.keys`).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from math import isfinite, isnan, nan
from typing import Any, Final

from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.forecast.transform import Transform
from driftline.core.record import FeatureValue

_NUMBER: Final = struct.Struct("<d")
_TIME_MAX: Final = 2**63
_COUNT_MAX: Final = 2**53
_RECENT_MAX: Final = 100  # observations that `forecast.level` keeps beside the season, or more
_FEATURES: Final = frozenset({float, int, str, bool, type(None)})


class Served(Struct, array_like=True, gc=False):
    """A forecast that was served and waits for its truth.

    Args:
        slot: after whose observation it was made.
        features: of that event.
        ahead, halves: the forecast and half the width of its interval by horizon, packed and as the model has them
            (`Transform`); NaN without an interval.
        scale: of the series, as the model and the intervals used it.
        level, before: mean of the last season, and of the one before it, as the model saw them.
        served: where the guard had something else served than the model forecast: by horizon the values, the bounds
            and what the model forecast, each packed, with NaN where there is none; and the rungs that decided. With a
            second model always, and then what that one forecast, packed like the others.
        swell: of the intervals when it was made (`core.forecast.interval`).
    """

    slot: int
    features: list[FeatureValue]
    ahead: bytes
    halves: bytes
    scale: float
    level: float
    before: float
    generation: int
    learned: int
    served: list[Any] | None = None
    swell: float = 1.0

    def served_at(self, horizon: int) -> tuple[list[float | None], str]:
        """Where the guard had something else served, or there is a second model: of one horizon the value, both bounds,
        what the model forecast and what the second one did; and the rung that decided."""
        if self.served is None:
            raise InvariantError("a forecast that the guard let pass as it was is asked for something else")
        *numbers, rungs = self.served[:5]
        found = [number_at(one, horizon) for one in (*numbers, *self.served[5:])]
        return [None if isnan(one) else one for one in (*found, nan)[:5]], rungs[horizon - 1]


def number_at(numbers: bytes, horizon: int) -> float:
    """Of one horizon, of what is packed."""
    return _NUMBER.unpack_from(numbers, 8 * horizon - 8)[0]  # type: ignore[no-any-return]  # a `struct` may hold anything


def packed(numbers: Sequence[float | None]) -> bytes:
    """Numbers as bytes; NaN where there is none."""
    return struct.pack(f"<{len(numbers)}d", *[nan if number is None else number for number in numbers])


class Series:
    """See the module.

    Attributes:
        start_ms: time of step 0, that of the first observation.
        slot: number of the newest step that was observed.
        values: the latest steps, the newest last, filled in where nothing was observed.
        known: of each of them, 1 where it was observed.
        moved, pairs: sum and count of the distances between observations a season apart; `swung` is the sum of those
            that the model sees.
        served: forecasts that wait, the oldest first.
        level: where the guard measures steps from, as `forecast.level` keeps it; None where it does not.
    """

    __slots__ = ("known", "level", "moved", "pairs", "served", "slot", "start_ms", "swung", "values")

    def __init__(self, start_ms: int, value: float) -> None:
        self.start_ms = start_ms
        self.slot = 0
        self.values = [value]
        self.known = bytearray(b"\1")
        self.moved = self.swung = 0.0
        self.pairs = 0
        self.served: list[Served] = []
        self.level: list[Any] | None = None

    def slot_of(self, time_ms: int, step_ms: int) -> int:
        """The step that is nearest to a time; of two, the later one."""
        return (time_ms - self.start_ms + step_ms // 2) // step_ms

    def time_of(self, slot: int, step_ms: int) -> int:
        return self.start_ms + slot * step_ms

    def place(self, slot: int) -> int:
        """Where a step is among `values`; below 0 where it is no longer, or was before the series."""
        return len(self.values) - 1 - (self.slot - slot)

    @property
    def scale(self) -> float | None:
        """Mean distance between observations a season apart, as the denominator of MASE; None before there are two."""
        return self.moved / self.pairs if self.pairs else None

    def add(self, value: float, slot: int, season: int, ring: int, transform: Transform) -> tuple[float, ...]:
        """The newest step is observed; steps that were left out are filled in with the value of the season before.

        Returns:
            What was added, in order; the last is the observation.
        """
        values, known = self.values, self.known
        missed = slot - self.slot - 1
        for _ in range(missed):
            values.append(values[-season] if len(values) >= season else values[-1])
            known.append(0)
        values.append(value)
        known.append(1)
        self.slot = slot
        self._move(len(values) - 1, season, transform)
        added = tuple(values[-missed - 1 :])
        if (excess := len(values) - ring) > 0:
            del values[:excess], known[:excess]
        return added

    def mend(self, place: int, value: float, season: int, transform: Transform) -> None:
        """A step that was filled in is observed late."""
        self.values[place] = value
        self.known[place] = 1
        self._move(place, season, transform)

    def _move(self, place: int, season: int, transform: Transform) -> None:
        """One more distance over a season, where both its ends were observed."""
        before = place - season
        if before >= 0 and self.known[before]:
            value, earlier = self.values[place], self.values[before]
            self.moved += abs(value - earlier)
            self.swung += abs(transform.forth(value) - transform.forth(earlier))
            self.pairs += 1

    def drop_served(self, before: int) -> None:
        """Forecasts made before a step wait no longer: all of their truth could have come."""
        while self.served and self.served[0].slot < before:
            del self.served[0]

    # -- at rest

    def dumped(self) -> list[Any]:
        return [
            self.start_ms,
            self.slot,
            array("d", self.values).tobytes(),
            bytes(self.known),
            self.moved,
            self.swung,
            self.pairs,
            self.served,
            *([] if self.level is None else [self.level]),
        ]

    @classmethod
    def load(cls, kept: Sequence[Any]) -> Series:
        series = cls.__new__(cls)
        series.start_ms, series.slot, values, known, series.moved, series.swung, series.pairs, served, *level = kept
        series.level = level[0] if level else None
        series.values = array("d", values).tolist()
        series.known = bytearray(known)
        series.served = [Served(*one) for one in served]
        return series


def series_fits(kept: Sequence[Any], *, ring: int, horizons: int, season: int, features: int) -> bool:
    """Whether a list is what `Series.dumped` makes: for a state that others may have written.

    Args:
        ring: most steps that are kept.
        features: of an event.
    """
    if len(kept) not in (8, 9) or (len(kept) == 9 and not _level_fits(kept[8], season)):
        return False
    start_ms, slot, values, known, moved, swung, pairs, served = kept[:8]
    whole = all(type(one) is int for one in (start_ms, slot, pairs)) and abs(start_ms) < _TIME_MAX
    if not whole or not 0 <= slot < _COUNT_MAX or not 0 <= pairs < _COUNT_MAX:
        return False
    if type(known) is not bytes or not 0 < len(known) <= ring or not _are_numbers(values, len(known)):
        return False
    if not (_are_finite(values) and set(known) <= {0, 1} and all(map(_is_amount, (moved, swung)))):
        return False
    first = slot - len(known) + 1  # the oldest step that is kept
    return type(served) is list and len(served) <= horizons and all(
        _served_fits(one, max(first, slot - horizons + 1), slot, horizons, features) for one in served
    )  # fmt: skip


def _level_fits(level: Any, season: int) -> bool:
    """Whether it is what `forecast.level` keeps."""
    if type(level) is not list or len(level) not in (3, 5):
        return False
    values, recent, beyond, *doubtful = level
    if doubtful and not _are_doubtful(doubtful[0], doubtful[1], season):
        return False
    known = type(recent) is bytes and 0 < len(recent) <= 8 * _RECENT_MAX and len(recent) % 8 == 0
    counted = type(beyond) is int and 0 <= beyond < _COUNT_MAX
    return known and counted and _are_numbers(values, season) and _are_finite(recent)


def _are_doubtful(places: Any, values: Any, season: int) -> bool:
    """Whether they are places of the season, each with a value."""
    if type(places) is not bytes or not 0 < len(places) <= 8 * season or len(places) % 8:
        return False
    found = array("q", places)
    apart = len(set(found)) == len(found) and all(0 <= place < season for place in found)
    return apart and _are_finite(values) and len(values) == len(places)


def _served_fits(one: Any, first: int, last: int, horizons: int, features: int) -> bool:
    """Whether it is a `Served` that was made after one of these steps."""
    if type(one) is not list or not 9 <= len(one) <= len(Served.__struct_fields__):
        return False
    made, given, ahead, halves, scale, level, before, generation, learned, *later = one
    rest: list[Any] = [*later, *[None, 1.0][len(later) :]]  # as in states from before there were any
    served, swell = rest
    counts = all(type(count) is int and 0 <= count < _COUNT_MAX for count in (generation, learned))
    if not counts or type(made) is not int or not first <= made <= last:
        return False
    if type(given) is not list or len(given) != features or not {*map(type, given)} <= _FEATURES:
        return False
    if not (_are_numbers(ahead, horizons) and _are_numbers(halves, horizons) and all(map(_is_finite, (level, before)))):
        return False
    guarded = served is not None
    return (
        _is_amount(scale) and scale > 0 and _is_amount(swell) and (guarded or _are_finite(ahead))
        and (not guarded or _instead_fits(served, horizons))
    )  # fmt: skip


def _instead_fits(served: Any, horizons: int) -> bool:
    """Whether it is what the guard had served."""
    if type(served) is not list or len(served) not in (5, 6):
        return False
    *numbers, rungs = served[:5]
    numbers += served[5:]
    named = type(rungs) is list and len(rungs) == horizons and all(type(rung) is str for rung in rungs)
    return named and all(_are_numbers(one, horizons) for one in numbers)


def _are_numbers(numbers: object, count: int) -> bool:
    return type(numbers) is bytes and len(numbers) == 8 * count


def _are_finite(numbers: bytes) -> bool:
    return all(map(isfinite, array("d", numbers)))


def _is_finite(number: object) -> bool:
    return type(number) in (int, float) and isfinite(number)  # type: ignore[arg-type]  # a number


def _is_amount(number: Any) -> bool:
    return _is_finite(number) and number >= 0
