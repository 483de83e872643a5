"""Whether a table holds series: a number for each key at a regular step, which is forecast and not predicted.

The fields that name a series are the fewest by which every time stands once and nearly every observation is one step
after the one before. The season is the period, of those that the step allows, by which the same time of the last one
is nearest to the next.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import isfinite
from statistics import fmean, median
from typing import Final

from msgspec import Struct

from driftline.author.leak import Cell
from driftline.author.past import hours_beside
from driftline.author.profile import Column, Profile
from driftline.core.duration import format_duration
from driftline.core.pipeline.forecast import HORIZON

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
_MONTH_MS: Final = 2_629_800_000  # a twelfth of a year of 365.25 days
_MONTHS: Final = (28 * DAY_MS, 31 * DAY_MS)
_PLANNED_MIN: Final = 4  # numbered fields that are no keys: as many as there are horizons at least
_KEYS_MAX: Final = 3
_CANDIDATES_MAX: Final = 10
_LENGTH_MIN: Final = 30  # observations of a series, by the median
_REGULAR_MIN: Final = 0.8  # share of the observations that are one step after the one before
_ALONE_MIN: Final = 0.995  # and that share their time with no other
_VALUES_MAX: Final = 0.1  # of the rows: a field of more different values names no series
_SEASONS_SEEN: Final = 3  # seasons that the data must span
_HORIZONS: Final = ((HOUR_MS, 24), (DAY_MS, 14), (7 * DAY_MS, 8), (_MONTH_MS, 6))  # up to a step: horizons
_SEASON_MAX: Final = 2_000  # steps
_SPREAD: Final = 7_919  # a prime: places that are far apart
_NEARER: Final = 0.8
_LOOKED_MAX: Final = 50  # series whose seasons are tried


class Found(Struct, frozen=True):
    """Series in a table.

    Args:
        by: the fields that name a series; none: it is one.
        hour: the field with the hour of the day, where the time is a date.
        series, length: how many there are, and how long by the median.
        season: steps in a season; 1 where none shows.
        cycles: shorter ones within it.
        amounts: no observation is below 0.
        constant: of `by`, those with one value in all rows that were looked at: more may come.
    """

    by: tuple[str, ...]
    hour: str | None
    step_ms: int
    series: int
    length: int
    season: int
    cycles: tuple[int, ...]
    amounts: bool
    constant: tuple[str, ...] = ()

    def described(self, target: str) -> str:
        """`20 series of sales by store and item, a number every 1d`."""
        many = (
            f"{self.series:,} series of {target} by {' and '.join(self.by)}" if self.by else f"one series of {target}"
        )
        return f"{many}, a number every {format_duration(self.step_ms)}"

    @property
    def horizons(self) -> int:
        return horizons_of(self.step_ms)

    @property
    def seasons(self) -> tuple[int, int]:
        """How many seasons back a regression sees, and are kept."""
        return (2, 8) if self.season <= 400 else (2, 4)


def horizons_of(step_ms: int) -> int:
    """How many steps ahead are forecast."""
    return next((count for up_to, count in _HORIZONS if step_ms <= up_to), 4)


def plans(names: Collection[str], horizons: int) -> dict[str, str]:
    """Fields that look like what is known ahead of each step: `promo_1`, `promo_2`, ... for every horizon.

    Returns:
        By a name for what they say, the fields with `{h}` in the place of the horizon.
    """
    stems = [name[:-1] for name in names if name.endswith("1") and len(name) > 1]
    made = {}
    for stem in stems:
        if all(f"{stem}{horizon}" in names for horizon in range(1, horizons + 1)):
            name = stem.rstrip("_.- ") or stem
            made[f"{name}_planned" if name in names else name] = f"{stem}{HORIZON}"
    return made


def find_series(found: Profile, columns: Mapping[str, Column], label: str, *, whole: bool) -> Found | None:
    """The series of a table; None where it holds none.

    Args:
        whole: whether the columns are all rows, and not only the first.
    """
    if found.time is None:
        return None
    hour = hours_beside(found, columns)
    times = list(_times(found, columns, hour))
    values = [float(cell) if isinstance(cell, int | float) else None for cell in columns[label]]
    best = None
    stems = tuple(plan.removesuffix(HORIZON) for plan in plans(columns, _PLANNED_MIN).values())
    planned = {name for name in columns if any(name.removeprefix(stem).isdigit() for stem in stems)}
    names = list(_names(columns, {label, found.time, found.id, hour, *planned}, len(times)))
    for count in range(min(_KEYS_MAX, len(names)) + 1):
        for by in combinations(names, count):
            series = _series(by, columns, times, values)
            step = _step(series)
            if step is not None and not by and not _follows(series[()], step[0]):
                step = None  # rows of many things, one after the other, and no field says of which
            if step is not None and (best is None or step[1] > best[2] + 0.01):
                best = by, series, step[1], step[0]
        if best is not None:
            break
    if best is None:
        return None
    by, series, _, step_ms = best
    constant = () if whole else tuple(_constants(columns, {label, found.time, found.id, hour}))
    lengths = [len(one) for one in series.values()]
    season, cycles = _season(list(series.values()), step_ms)
    least = min(value for one in series.values() for _, value in one)
    order = [name for name in columns if name in {*by, *constant}]
    return Found(
        tuple(order), hour, step_ms, len(series), int(median(lengths)), season, cycles, least >= 0, constant
    )  # fmt: skip


def _times(found: Profile, columns: Mapping[str, Column], hour: str | None) -> Iterator[int | None]:
    """When each row was, in ms."""
    hours: Sequence[Cell | None] = columns[hour] if hour is not None else ()
    for number, cell in enumerate(columns[found.time or ""]):
        try:
            time_ms = found.time_form.read(cell)
        except ValueError:
            yield None
            continue
        of_day = hours[number] if hour is not None else 0
        yield time_ms + round(float(of_day) * HOUR_MS) if isinstance(of_day, int | float) else None


def _names(columns: Mapping[str, Column], others: set[str | None], rows: int) -> Iterator[str]:
    """Fields that may name a series: texts or whole numbers that come again, those of the fewest values first."""
    kinds = {name: set(cells) - {None} for name, cells in columns.items() if name not in others}
    fit = [
        name
        for name, kind in kinds.items()
        if 1 < len(kind) <= _VALUES_MAX * rows
        and all(isinstance(cell, str) or type(cell) is int for cell in kind)
        and None not in columns[name]
    ]
    yield from sorted(fit, key=lambda name: len(kinds[name]))[-_CANDIDATES_MAX:]


def _constants(columns: Mapping[str, Column], others: set[str | None]) -> Iterator[str]:
    for name, cells in columns.items():
        if name not in others and len(set(cells)) == 1 and type(cells[0]) in (str, int):
            yield name


def _series(
    by: Sequence[str], columns: Mapping[str, Column], times: Sequence[int | None], values: Sequence[float | None]
) -> dict[tuple[Cell | None, ...], list[tuple[int, float]]]:
    """Times and values of each series, in order of time."""
    made: dict[tuple[Cell | None, ...], list[tuple[int, float]]] = defaultdict(list)
    keys = zip(*(columns[name] for name in by), strict=True) if by else [()] * len(times)
    for key, time_ms, value in zip(keys, times, values, strict=True):
        if time_ms is not None and value is not None and isfinite(value):
            made[tuple(key)].append((time_ms, value))
    for one in made.values():
        one.sort(key=lambda pair: pair[0])
    return dict(made)


def _step(series: Mapping[tuple[Cell | None, ...], list[tuple[int, float]]]) -> tuple[int, float] | None:
    """The step of all series, and the share of observations that keep it; None where there is none."""
    if not series or median(map(len, series.values())) < _LENGTH_MIN:
        return None
    gaps = Counter(b - a for one in series.values() for (a, _), (b, _) in pairwise(one))
    total = gaps.total()
    if gaps[0] > (1.0 - _ALONE_MIN) * total:
        return None
    step_ms, count = gaps.most_common(1)[0]
    months = sum(number for gap, number in gaps.items() if _MONTHS[0] <= gap <= _MONTHS[1])
    if months > max(count, _REGULAR_MIN * total) and len(gaps) > 1:
        return _MONTH_MS, months / total
    return (step_ms, count / total) if step_ms > 0 and count >= _REGULAR_MIN * total else None


def _follows(one: list[tuple[int, float]], step_ms: int) -> bool:
    """Whether the numbers of a series are nearer to those before them, or a season before, than to any others."""
    values = [value for _, value in one]
    others = [values[(place * _SPREAD) % len(values)] for place in range(len(values))]
    apart = fmean(abs(a - b) for a, b in zip(values, others, strict=True))
    lags = [1, *_seasons_of(step_ms, len(one))]
    return min(_naive_error([one], lag) for lag in lags) <= _NEARER * apart


def _seasons_of(step_ms: int, length: float) -> list[int]:
    """The periods that a step allows, of those that are seen several times."""
    periods = [HOUR_MS, DAY_MS, 7 * DAY_MS] if step_ms < DAY_MS else [7 * DAY_MS, 12 * _MONTH_MS]
    steps = [round(period / step_ms) for period in periods]
    return [one for one in steps if 1 < one <= _SEASON_MAX and _SEASONS_SEEN * one <= length]


def _season(series: Sequence[list[tuple[int, float]]], step_ms: int) -> tuple[int, tuple[int, ...]]:
    """Steps in a season, and shorter cycles within it: what was observed a season before is nearest."""
    allowed = _seasons_of(step_ms, median(map(len, series)))
    ahead = horizons_of(step_ms)
    last = fmean(_naive_error(series, lag) for lag in (1, ahead // 3 + 1, 2 * ahead // 3 + 1))
    errors = {1: last, **{one: _naive_error(series, one) for one in allowed}}
    best = min(errors, key=lambda one: errors[one])
    return best, tuple(one for one in allowed if one < best and best % one == 0)[-1:]


def _naive_error(series: Sequence[list[tuple[int, float]]], season: int) -> float:
    pairs = [
        abs(one[place][1] - one[place - season][1]) for one in series[:_LOOKED_MAX] for place in range(season, len(one))
    ]
    return fmean(pairs) if pairs else float("inf")
