"""The guard of forecasts: each horizon climbs the rungs by itself, and has a fallback of its own.

A step is measured from where the series is (`core.forecast.level`): the latest observation of the same time in the
season that lies within the limits, or the median of the latest few; a forecast passes if it is near enough to one of
them. Of what is served in place of a forecast, the interval is the one that the forecast would have had, around the new
value. Bounds are cut off where the range ends, so an interval never reaches what the limits exclude, and never turns
round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fsum, inf, isfinite
from typing import Final, NamedTuple, TypeAlias

from driftline.core.error import InvariantError
from driftline.core.forecast.forecasts import MADE_ANEW, Draft, Forecasts, Observed
from driftline.core.forecast.level import RECENT, Level
from driftline.core.guard.kept import CLEAN, Kept
from driftline.core.guard.ladder import Ladder
from driftline.core.guard.rungs import Rungs
from driftline.core.output import Action, Forecast, Guard, Instead, Rung, Trip
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import Constant, Fallback, GuardForm, SecondModel
from driftline.core.record import FeatureValue

Ask: TypeAlias = Callable[[Instead], tuple[Sequence[float] | None, int]]  # as of `ladder`
_OF_ALL: Final = frozenset({"finite", "untrained", "unfamiliar", "distribution"})  # rungs that see no horizon
_WORST: Final[tuple[Guard, ...]] = ("withheld", "fallback", "clipped", "flagged", "served")


class Holding(NamedTuple):
    """What a review needs to know beside the score.

    Args:
        made: what the model forecast; `then` is what will be served at the deadline.
        last: the last value of the series that counts, whose key is `key`.
    """

    made: Forecast
    then: Forecast
    instead: Instead | None
    last: float | None
    key: bytes


class Passed(NamedTuple):
    """What became of a forecast.

    Args:
        draft: what is served.
        guard: the worst of its horizons.
        trips: by horizon; of a rung that sees no horizon once.
        tripped: one of each rung, the worst one; the last one decided.
        instead: which fallback is served at the nearest horizon that has one.
        second: what the second model forecast; None where it said nothing.
    """

    draft: Draft
    guard: Guard
    trips: tuple[Trip, ...]
    tripped: tuple[Trip, ...]
    instead: Instead | None
    holding: Holding | None = None
    second: Sequence[float | None] | None = None


class AheadLadder(Ladder):
    """The guard of one pipeline that forecasts.

    Args:
        pipeline: with a guard, and with a `forecast` section.
    """

    def __init__(self, pipeline: Pipeline, guard: GuardForm) -> None:
        super().__init__(pipeline, guard)
        form = pipeline.forecast
        if form is None:
            raise InvariantError("a pipeline without a forecast section has a guard of forecasts")
        self._season = form.season
        self._settle, self._settle_ratio = guard.settle_of(form.season), guard.settle_ratio

    # -- where a series is

    def watch(self, kept: Kept, found: Observed) -> None:
        """An observation has come that is the newest of its series."""
        series, step = found.series, self.rungs.step
        if step is None:
            series.level = None
            return
        times: float | None = None
        level = None if series.level is None or found.place in MADE_ANEW else Level.load(series.level)
        if level is None or len(level.values) != self._season:
            level = Level.of(series, self._season)
        else:
            level.take(found.slot, found.value, step.near)
            if level.beyond >= min(RECENT, self._settle):
                times = self._too_far(level.times(series))
                if times is None and level.beyond >= self._settle:
                    level = Level.of(series, self._season, level.beyond)
        kept.part(found.key, times)
        series.level = level.dumped()

    def _too_far(self, times: float | None) -> float | None:
        """By how many times a series has moved, where that is too far to be believed."""
        return None if times is None or 1 / self._settle_ratio <= times <= self._settle_ratio else times

    # -- a forecast

    def judge_ahead(
        self, kept: Kept, forecasts: Forecasts, found: Observed, draft: Draft, finite: Guard,
        values: Sequence[FeatureValue], learned: int, ask: Ask, *, room: bool = True,
    ) -> Passed:  # fmt: skip
        """Whether a forecast may be served, and what is served instead, by horizon.

        Args:
            draft: as the model made it; it is not changed.
            finite: what the learner made of it.
            values: of the event's features.
            learned: how many observations the model that made it has learned.
            room: a person may be asked about it, if the rungs say so.
        """
        kept.predicted()
        climb = _Climb(self.rungs, forecasts, found, draft, finite, ask)
        case = self.rungs.case
        case.distance = 0.0
        said = self._away(forecasts, draft) if self._latest else None
        if said is not None:
            climb.distance = kept.outputs.take(said, self._latest)
        if self.knows:
            case.features, case.known = values, kept.known
        if finite == "fallback":
            climb.trips.append(Trip("finite", "last_good"))
        elif finite == "withheld":
            climb.trips.append(Trip("finite", "fallback" if self.rungs.fallbacks else "withhold"))
        for place in range(len(draft.naive)):
            climb.one(place, learned)
        passed = climb.result(hold=room and len(kept.held) < self._held_max)
        for trip in passed.tripped:
            kept.trip(trip.rung)
        good = passed.guard in ("served", "clipped", "flagged")
        kept.clean = min(CLEAN, kept.clean + 1) if good else 0
        if said is not None and passed.guard == "served":
            kept.outputs.accept(said)
        return passed

    def _away(self, forecasts: Forecasts, draft: Draft) -> float | None:
        """How far a forecast is from the season before on average, in units of the series' swing; None of nothing."""
        asked = forecasts.latest
        if asked is None:
            return None
        off = [seen - base for seen, base in zip(draft.seen, asked.bases, strict=True) if seen is not None]
        try:
            said = fsum(off) / len(off) / asked.scale if off else inf
        except OverflowError:  # of numbers that are finite one by one
            return None
        return said if isfinite(said) else None


class _Climb:
    """One forecast on its way up.

    Attributes:
        trips: of all horizons so far, in order.
        distance: of the latest forecasts from those of the reference.
    """

    def __init__(
        self, rungs: Rungs, forecasts: Forecasts, found: Observed, draft: Draft, finite: Guard, ask: Ask
    ) -> None:
        self._limits, self._forecasts, self._found, self._made = rungs, forecasts, found, draft
        self._finite, self._ask = finite, ask
        count = len(draft.naive)
        self._seen, self._values = list(draft.seen), list(draft.values)
        self._lower, self._upper = list(draft.lower), list(draft.upper)
        self._guard: list[Guard] = ["served"] * count
        self._instead: list[Instead | None] = [None] * count
        self._unserved: list[float | None] = [None] * count
        self._rungs = [""] * count
        self._holds = False
        self._level = None if found.series.level is None else Level.load(found.series.level)
        self._others: dict[Instead, tuple[Sequence[float | None], int]] = {}  # what other models said
        self.trips: list[Trip] = []
        self.distance = 0.0

    def one(self, place: int, learned: int) -> None:
        """Judge one horizon, by its place from 0."""
        limits, value, case, horizon = self._limits, self._values[place], self._limits.case, place + 1
        low, high = self._lower[place], self._upper[place]
        case.value, case.learned, case.distance = value, learned, self.distance
        case.width = None if low is None or high is None else high - low
        case.near, case.moved = self._near(horizon)
        if value is None:
            self._rungs[place] = "finite"
            self._replace(place, limits.fallbacks)
            self._cut(place)
            return
        tripped: list[Trip] = []
        passed = limits.climb(tripped)
        self._note(tripped, horizon)
        if self._finite == "fallback":
            self._guard[place], self._instead[place], self._rungs[place] = "fallback", "last_good", "finite"
        elif tripped:
            self._guard[place] = "flagged"
        if passed and case.value is not value and case.value is not None:
            self._put(place, case.value, "fallback" if self._instead[place] else "clipped", tripped[-1].rung)
        elif not passed:
            action = tripped[-1].action
            self._unserved[place], self._rungs[place] = value, tripped[-1].rung
            self._holds = self._holds or action == "hold"
            self._replace(place, limits.order(action))
        self._cut(place)

    def _near(self, horizon: int) -> tuple[tuple[float | None, ...], bool]:
        """What a step is measured from, and whether the series seems to have moved.

        If so, the forecast is made of what does not count, and may be near by chance to a time of the season at which
        little was seen. That time then has no tolerance, and says nothing where it is like the median.
        """
        level, step = self._level, self._limits.step
        if level is None:
            return (), False
        last, middle, moved = level.at(self._found.slot + horizon), level.middle, level.beyond > 1
        if moved and step is not None and last is not None and step.near(last, middle):
            last = None
        return (last, middle), moved

    def _note(self, tripped: Sequence[Trip], horizon: int) -> None:
        for rung, action, limit, excess, feature in [
            (trip.rung, trip.action, trip.limit, trip.excess, trip.feature) for trip in tripped
        ]:
            if rung not in _OF_ALL:
                self.trips.append(Trip(rung, action, limit, excess, feature, horizon))
            elif not any(trip.rung == rung for trip in self.trips):
                self.trips.append(Trip(rung, action, limit, excess, feature))

    def _put(self, place: int, value: float, guard: Guard, rung: Rung | str) -> None:
        """Serve another value."""
        if not self._rungs[place]:
            self._unserved[place], self._rungs[place] = self._values[place], rung
        self._values[place], self._guard[place] = value, guard
        self._seen[place], low, high = self._forecasts.around(value, self._made.halves[place])
        widest = self._limits.width
        if widest is not None and low is not None and high is not None:  # near a huge number, it has no width
            case = self._limits.case
            case.value, case.width = value, high - low
            if widest.beyond(case) is not None:
                low = high = None
        self._lower[place], self._upper[place] = (
            (None, None) if low is None or high is None else (min(low, value), max(high, value))
        )

    def _replace(self, place: int, order: Sequence[Fallback]) -> None:
        """The first fallback that may pass; nothing where none may."""
        limits, case = self._limits, self._limits.case
        case.distance = 0.0
        for fallback in order:
            name, value, learned = self._said(fallback, place)
            if value is None or not isfinite(value):
                continue
            case.value, case.learned, case.width = value, learned, None
            if limits.allows():
                self._instead[place] = name
                self._put(place, value, "fallback", "")
                return
        self._values[place] = self._seen[place] = self._lower[place] = self._upper[place] = None
        self._guard[place], self._instead[place] = "withheld", None

    def _said(self, fallback: Fallback, place: int) -> tuple[Instead, float | None, int | None]:
        """What a fallback says of a horizon; and how much its model has learned, where a model made it."""
        level = self._level
        if isinstance(fallback, Constant):
            return "value", float(fallback.value), None
        if fallback == "last_good" or isinstance(fallback, SecondModel):
            name: Instead = "last_good" if fallback == "last_good" else "second_model"
            if name not in self._others:
                ahead, known = self._ask(name)
                self._others[name] = ([] if ahead is None else self._forecasts.restored(ahead)), known
            said, known = self._others[name]
            return name, said[place] if said else None, known
        if fallback == "last_value":
            return fallback, self._last(), None
        return "seasonal", self._made.naive[place] if level is None else level.at(self._found.slot + place + 1), None

    def _last(self) -> float:
        """The latest observation that counts."""
        level = self._level
        return self._found.series.values[-1] if level is None or not level.beyond else level.last

    def _cut(self, place: int) -> None:
        """Cut an interval off where the range ends."""
        span, low, high = self._limits.range, self._lower[place], self._upper[place]
        if low is None or high is None:
            return
        if span is not None:
            self._lower[place], self._upper[place] = max(low, span.least), min(high, span.most)

    def result(self, *, hold: bool) -> Passed:
        """What became of all horizons."""
        found, forecasts, made = self._found, self._forecasts, self._made
        worst = min(self._guard, key=_WORST.index)
        changed = (self._values, self._lower, self._upper) != (made.values, made.lower, made.upper)
        guards = (tuple(self._guard), tuple(self._instead)) if self.trips else ((), ())
        then = Draft(
            self._seen, made.halves, self._values, self._lower, self._upper, made.naive, *guards,
            tuple(self._unserved), tuple(self._rungs), changed,
        )  # fmt: skip
        trips, tripped = tuple(self.trips), _one_each(self.trips)
        instead = next((one for one in self._instead if one is not None), None)
        if not (self._holds and hold):
            return Passed(then, worst, trips, tripped, instead)
        count = len(made.naive)
        last = None if self._level is None else self._last()
        holding = Holding(forecasts.published(found, made), forecasts.published(found, then), instead, last, found.key)
        nothing: list[float | None] = [None] * count
        guard: Guard = "held"
        rung = next(trip.rung for trip in reversed(tripped) if trip.action == "hold")
        held = Draft(
            nothing, made.halves, list(nothing), list(nothing), list(nothing), made.naive, (guard,) * count,
            (None,) * count, tuple(made.values), (rung,) * count, changed=True,
        )  # fmt: skip
        return Passed(held, guard, _last(trips, rung), _last(tripped, rung), None, holding)


def _one_each(trips: Sequence[Trip]) -> tuple[Trip, ...]:
    """The worst trip of each rung; those that only mark a forecast first."""
    worst: dict[tuple[Rung, Action], Trip] = {}
    for trip in trips:
        other = worst.get((trip.rung, trip.action))
        if other is None or abs(trip.excess or 0.0) > abs(other.excess or 0.0):
            worst[trip.rung, trip.action] = trip
    return tuple(sorted(worst.values(), key=lambda trip: trip.action != "flag"))


def _last(tripped: Sequence[Trip], rung: Rung) -> tuple[Trip, ...]:
    """With the rung that decided as the last."""
    return tuple(sorted(tripped, key=lambda trip: trip.rung == rung))
