"""What must hold of an object beside its form: sizes that fit each other, orders, and bounds.

One function for each of our classes that has such rules. Each is given the object, whose attributes are of the types in
`form`, and the same object of a fresh shard, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import numpy as np

from driftline.core.budget import PERIOD_PARTS, PERIODS, Budget, Period
from driftline.core.drift.change_point import Trail
from driftline.core.drift.feature import VocabularyWatch
from driftline.core.drift.reference import Reference, Season
from driftline.core.forecast.board import Board
from driftline.core.forecast.forecasts import Forecasts
from driftline.core.forecast.interval import Intervals
from driftline.core.guard.distribution import SAMPLE, Outputs
from driftline.core.guard.familiar import TEXTS_MAX
from driftline.core.guard.kept import APART_MAX, PARTS, Kept
from driftline.core.guard.quarantine import Quarantine
from driftline.core.guard.suspicion import CELLS, MEMORY, RATES, SHARES, Suspicion
from driftline.core.river.ahead import Direct
from driftline.core.river.items import LinearItems, Popularity
from driftline.core.river.seasonal import BATCH_MAX, COLUMNS_MAX, SeasonalRegression
from driftline.core.shard.upload import Loading

NUMBER_MAX: Final = 2**64 - 1  # of whole numbers: ids and labels have up to 64 bits
COUNT_MAX: Final = 2**62  # of those that are counted up: what comes of it can still be written


def is_number(value: object) -> bool:
    """Whether it is a number, of a size that can be counted on and written."""
    return type(value) is float or (type(value) is int and -NUMBER_MAX <= value <= NUMBER_MAX)


def _floats(value: object, shape: tuple[int, ...]) -> bool:
    return type(value) is np.ndarray and value.dtype == np.float64 and value.shape == shape and value.flags.writeable


def _board(board: Board, like: Board | None) -> bool:
    sums = board.sums
    fits = type(sums) is np.ndarray and _floats(sums, sums.shape if like is None else like.sums.shape)
    return fits and sums.ndim == 2 and bool(np.isfinite(sums[:, 0]).all()) and bool((abs(sums[:, 0]) < 2**53).all())


def _forecasts(forecasts: Forecasts, like: Forecasts | None) -> bool:
    return all(board.sums.shape == forecasts.board.sums.shape for board in forecasts.segments.values())


def _intervals(intervals: Intervals, like: Intervals | None) -> bool:
    count = len(intervals.alphas) if like is None else len(like.alphas)
    lists = (intervals.alphas, intervals.judged, intervals._kept, intervals._sorted)
    ordered = all(sorted(kept) == known for kept, known in zip(intervals._kept, intervals._sorted, strict=False))
    return all(len(one) == count for one in lists) and ordered


def _direct(model: Direct, like: Direct | None) -> bool:
    return like is None or len(model.models) == len(like.models)


def _kept(kept: Kept, like: Kept | None) -> bool:
    told_apart = all(map(_is_series, kept.series.values())) and len(kept.apart) <= APART_MAX
    return (
        told_apart
        and all(map(_is_known, kept.known))
        and all(len(one) == 3 for one in kept.crowds)
        and kept.crowd_all == [sum([one[place] for one in kept.crowds]) for place in (1, 2)]
    )


def _outputs(outputs: Outputs, like: Outputs | None) -> bool:
    recent, ranks = outputs.recent, outputs.ranks
    bins = outputs._counted([]) if outputs.edges or ranks else []
    said = (*outputs.sample, *recent)
    numbers = (*(one for one in said if not isinstance(one, str)), *outputs.edges, outputs.distance)
    of_one_kind = not outputs.edges or not (ranks or any(isinstance(one, str) for one in said))
    return (
        all(map(isfinite, numbers)) and sorted(outputs.edges) == outputs.edges and len(outputs.sample) < SAMPLE
        and of_one_kind and list(ranks.values()) == list(range(len(ranks)))
        and len(outputs.usual) == len(bins) and all(count >= 0 for count in outputs.usual)
        and outputs.counts == (outputs._counted(recent) if bins else [])
        and 0 <= outputs.place <= max(0, len(recent) - 1)
    )  # fmt: skip


def _is_value(value: object) -> bool:
    return value is None or (is_number(value) and isfinite(value))  # type: ignore[arg-type]  # a number


def _is_series(series: Any) -> bool:
    """`guard.kept.Series`."""
    if type(series) is not list or len(series) != 3 or not all(map(_is_value, series[:2])):
        return False
    parts = series[2]
    return type(parts) is dict and all(_is_part(place, part) for place, part in parts.items())


def _is_part(place: Any, part: Any) -> bool:
    """One part of a season: the number of the season, its value, and that of the one before."""
    if type(place) is not int or not 0 <= place < PARTS or type(part) is not list or len(part) != 3:
        return False
    season, value, before = part
    whole = type(season) is int and abs(season) <= NUMBER_MAX
    return whole and value is not None and _is_value(value) and _is_value(before)


def _is_known(known: Any) -> bool:
    """`guard.unfamiliar.Known`."""
    if type(known) is not list or len(known) != 5:
        return False
    count, least, most, texts, once = known
    whole = all(type(one) is int and 0 <= one <= NUMBER_MAX for one in (count, once))
    ends = _is_value(least) and _is_value(most) and (least is None) == (most is None)
    return whole and ends and (
        texts is None
        or (
            type(texts) is dict
            and len(texts) <= TEXTS_MAX
            and all(type(text) in (str, bool) and type(one) is int for text, one in texts.items())
        )
    )  # fmt: skip


def _trail(trail: Trail, like: Trail | None) -> bool:
    return 0 < len(trail.levels) <= 64


def _slots(watch: VocabularyWatch, like: VocabularyWatch | None) -> bool:
    return like is None or len(watch._slots) == len(like._slots)


def _reference(reference: Reference, like: Reference | None) -> bool:
    """One that is frozen is full."""
    return len(reference.ordered) == (reference.size if reference.collected is None else 0)


def _season(season: Season, like: Season | None) -> bool:
    count = len(like._values) if like is not None else len(season._values)
    lists = (season._values, season._strides, season._counts)
    return all(len(one) == count for one in lists) and all(season._strides)


def _linear(items: LinearItems, like: LinearItems | None) -> bool:
    """Arrays of one shape, and rows and columns within them."""
    if type(items._moment) is not np.ndarray or items._moment.ndim != 2:
        return False
    rows, width = items._moment.shape
    arrays = ((items._precision, (rows, width, width)), (items._inverse, (rows, width, width)))
    flat = ((items._moment, (rows, width)), (items._weights, (rows, width)))
    used = [*items._rows.values(), *items._free]
    columns = list(items._columns.values())
    return (
        all(_floats(*one) for one in (*arrays, *flat))
        and rows <= items.items_max
        and 0 < width <= items.columns_max
        and len(set(used)) == len(used) <= rows
        and all(row < len(used) for row in used)
        and columns == list(range(len(columns)))
        and 0 < len(columns) <= width
        and items._noise[1] > 0
    )


def _seasonal(model: SeasonalRegression, like: SeasonalRegression | None) -> bool:
    """Arrays of one shape, and rows of horizons that there are."""
    if type(model.weights) is not np.ndarray or model.weights.ndim != 2 or type(model._rows) is not np.ndarray:
        return False
    count, width = model.horizons, model.weights.shape[1]
    shapes = (
        (model.seen, (count,)), (model.errors, (count, 4)), (model._moments, (3, model.declared)),
        (model._precision, (count, width, width)), (model._moment, (count, width)), (model.weights, (count, width)),
    )  # fmt: skip
    if not all(_floats(*one) for one in shapes) or width > COLUMNS_MAX:
        return False
    rows = model._rows
    if not rows.size:
        return rows.shape == (0, 0)
    horizons = rows[:, width] if rows.ndim == 2 and rows.shape[1] == width + 3 else np.array([-1.0])
    known = bool(np.isin(horizons, np.arange(count)).all())
    return known and _floats(rows, rows.shape) and model._waiting <= BATCH_MAX and len(rows) <= BATCH_MAX * count


def _popularity(items: Popularity, like: Popularity | None) -> bool:
    return len(items._seen) <= items.items_max and items._all[0] >= 0


def _loading(loading: Loading, like: Loading | None) -> bool:
    """What is under way has a first part, and nothing else has."""
    return (loading.how == "under way") == (loading._first is not None)


def _suspicion(test: Suspicion, like: Suspicion | None) -> bool:
    """Tallies of every code, prices of every cell or none, and a bet on every share."""
    low, high = RATES
    tallies = (test.reference, test.latest, test.before, test.since)
    counted = all(len(one) == 2 * CELLS and all(0 <= count <= COUNT_MAX for count in one) for one in tallies)
    counted = counted and max(sum(test.latest), sum(test.before)) <= MEMORY
    priced = len(test.rates) == CELLS and len(test.gains) == 2 * CELLS
    bets = (test.bets, test.begun, test.all_bets, *test.gains, *test.all_gains)
    return (
        counted
        and (priced or not (test.rates or test.gains or test.suspect))
        and len(test.all_gains) == (2 if priced else 0)
        and all(low <= rate <= high for rate in test.rates)
        and all(len(one) == len(SHARES) and all(0 <= number <= COUNT_MAX for number in one) for one in bets)
        and 0 <= test.flipped <= 1
        and isfinite(test.reverse)
        and all(0 <= one <= COUNT_MAX for one in (test.number, test.turn_at, test.oldest, test.newest))
    )


def _quarantine(kept: Quarantine, like: Quarantine | None) -> bool:
    """What is held is decided some time; what was seen is of a code that there is."""
    return (kept.deadline_ms is not None or not kept.held) and all(0 <= one.code < 2 * CELLS for one in kept.seen)


def _budget(budget: Budget, like: Budget | None) -> bool:
    """A time for each score, and a count for each part of a period."""
    return (
        len(budget.scores) == len(budget.times)
        and (bool(budget.scores) or not budget.dropped)
        and len(budget.counts) == PERIOD_PARTS
        and len(budget.past) <= PERIODS
        and budget.share <= 1
        and budget.credit <= 1
    )


def _period(period: Period, like: Period | None) -> bool:
    """The same, of one that is over."""
    if period.since < 0 or period.dropped < 0 or len(period.counts) != PERIOD_PARTS or min(period.counts) < 0:
        return False
    if len(period.scores) != len(period.times) or len(period.scores) % 8:
        return False
    scores, times = period.seen
    return bool(np.isfinite(scores).all() and (times >= 0).all() and (np.diff(scores) <= 0).all())


RULES: Final[dict[type, Callable[[Any, Any], bool]]] = {
    Board: _board,
    Forecasts: _forecasts,
    Intervals: _intervals,
    Direct: _direct,
    Kept: _kept,
    Outputs: _outputs,
    Trail: _trail,
    VocabularyWatch: _slots,
    Reference: _reference,
    Season: _season,
    LinearItems: _linear,
    SeasonalRegression: _seasonal,
    Popularity: _popularity,
    Loading: _loading,
    Suspicion: _suspicion,
    Quarantine: _quarantine,
    Budget: _budget,
    Period: _period,
}
"""By class, what must hold of an object beside its form; see `conform`."""
