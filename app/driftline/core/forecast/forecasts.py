"""All that a shard knows of its series, as the fold uses it.

One observation: `observe` finds its series and its step, and what was forecast of it; `settle` counts how good that
was; `teach` says what the model learns of it; `ask` what the model is asked then; `draft` makes of its answer a
forecast with intervals, in which the guard may change what it does not let pass; `serve` remembers it until its truth
comes, and says what is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.forecast.board import Board
from driftline.core.forecast.interval import Intervals
from driftline.core.forecast.level import Level
from driftline.core.forecast.row import Origin, Rows
from driftline.core.forecast.series import Series, Served, number_at, packed
from driftline.core.forecast.transform import transform_of
from driftline.core.forecast.vector import Floats, Vectors
from driftline.core.history.history import key_of
from driftline.core.history.keys import Keys
from driftline.core.output import Forecast, Guard, Instead, Judged, ModelVersion
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, FeatureValue
from driftline.core.river.ahead import Asked, Batch, Sees, Taught
from driftline.core.task.ahead import added, answered_of

Place: TypeAlias = Literal["first", "next", "after_gap", "restarted", "late", "repeated", "too_late"]
"""Where an observation falls in its series:

* `first` of its series; `next` step; `after_gap`: steps were left out, and are filled in with the season before;
* `restarted`: more were left out than are kept, so the series starts over;
* `late`: of a step that was filled in: judged, learned and put in its place, and no new forecast is made;
* `repeated`: of a step that was observed: its value counts for later forecasts; what was judged and learned stays;
* `too_late`: of a step that is no longer kept: nothing is done with it.
"""

MADE_ANEW: Final = frozenset({"first", "restarted"})
SERVED: Final = frozenset({"first", "next", "after_gap", "restarted"})
SWOLLEN: Final = 1.3
"""From so many times the swell at which a forecast was served, the later one is what its residuals are measured in."""
PAIRS_MIN: Final = 5  # observations with one a season before, until a series is forecast


class Observed(Struct, gc=False):
    """An observation in its series.

    Args:
        key, names: of the series.
        slot, time_ms: of its step.
        added: the steps since the observation before, as they are filled in; the last is the observation.
        before: the value of the step, where one was known.
        waiting: what was forecast of it, by horizon in ascending order; `ahead`: its numbers, as the model had them.
        judged: the same, for people.
        seen, array: the values of the series as the model sees them, once they are needed.
    """

    key: bytes
    names: tuple[FeatureValue, ...]
    series: Series
    place: Place
    slot: int
    time_ms: int
    value: float
    added: tuple[float, ...] = ()
    before: float | None = None
    waiting: tuple[tuple[int, Served], ...] = ()
    ahead: Sequence[float] = ()
    judged: Judged | None = None
    seen: list[float] | None = None
    array: Floats | None = None


class Draft(Struct, gc=False):
    """A forecast before it is served; each list is by horizon.

    Args:
        seen: the forecast as the model sees numbers.
        halves: half the width of the intervals, seen so; None without one.
        values: None where there is none.
        guard, instead: as of `core.output.Forecast`.
        made, rungs: as of `core.output.Judged`.
        changed: something else is served than the model forecast.
    """

    seen: list[float | None]
    halves: list[float | None]
    values: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    naive: tuple[float, ...]
    guard: tuple[Guard, ...] = ()
    instead: tuple[Instead | None, ...] = ()
    made: tuple[float | None, ...] = ()
    rungs: tuple[str, ...] = ()
    changed: bool = False


class Forecasts:
    """See the module.

    Args:
        pipeline: with a `forecast` section.

    Attributes:
        intervals: of all series, by horizon.
        latest: what the model was asked last; no part of the state.
        board: metrics of all forecasts that were judged; `segments` the same by the values of `metric_by.segment`.
        swung, sizes: sums over all observations with one a season before, as the model sees them: of the distance
            between the two, and of the size of the later one.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        form = pipeline.forecast
        if form is None:
            raise InvariantError("a pipeline without a forecast section was to forecast")
        self.intervals = Intervals(form.horizons, form.interval, form.adapt, form.window)
        self.board = Board(form.horizons)
        self.segments: dict[str, Board] = {}
        self.swung = self.sizes = 0.0
        self.attach(pipeline)

    def attach(self, pipeline: Pipeline) -> None:
        """Take up work under a pipeline: a state leaves it behind."""
        form = pipeline.forecast
        if form is None:
            raise InvariantError("a pipeline without a forecast section was to forecast")
        self._form = form
        self._rows, self._vectors = Rows(pipeline, form), Vectors(pipeline, form)
        places = {name: place for place, name in enumerate(pipeline.event.features)}
        places |= {name: -1 - place for place, name in enumerate(pipeline.event.context)}
        self._target = places[form.target]
        self._by = tuple(places[name] for name in form.by)
        self._transform = transform_of(form.transform, form.least)
        self.latest: Asked | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("intervals", "board", "segments", "swung", "sizes")}

    # -- an observation

    def read(self, event: Event) -> tuple[bytes, float] | None:
        """The key of an event's series and the observed number; None where a field is missing."""
        key = key_of(self._by, event.features, event.context) if self._by else b""
        value = self._at(self._target, event)
        return None if key is None or value is None else (key, float(value))

    @staticmethod
    def _at(place: int, event: Event) -> FeatureValue:
        return event.features[place] if place >= 0 else event.context[-1 - place]

    def observe(self, keys: Keys, event: Event, key: bytes, value: float) -> Observed:
        """Put an observation to its series, and find what was forecast of it."""
        form, kept = self._form, keys.find(key)
        names = tuple([self._at(place, event) for place in self._by])
        if kept is None:
            series = Series(event.time_ms, value)
            return Observed(key, names, series, "first", 0, event.time_ms, value, (value,))
        series = Series.load(kept)
        slot = series.slot_of(event.time_ms, form.step_ms)
        if slot - series.slot > form.ring:
            series = Series(event.time_ms, value)
            return Observed(key, names, series, "restarted", 0, event.time_ms, value, (value,))
        time_ms = series.time_of(slot, form.step_ms)
        if slot <= series.slot:
            return self._out_of_order(Observed(key, names, series, "late", slot, time_ms, value))
        scale, before = series.scale, (series.pairs, series.swung)
        place: Place = "next" if slot == series.slot + 1 else "after_gap"
        steps = series.add(value, slot, form.season, form.ring, self._transform)
        self._count_scale(series, value, before)
        found = Observed(key, names, series, place, slot, time_ms, value, steps)
        self._find(found, scale)
        return found

    def _out_of_order(self, found: Observed) -> Observed:
        series, form = found.series, self._form
        place = series.place(found.slot)
        if place < 0 or found.slot < 0:
            found.place = "too_late"
            return found
        found.before = series.values[place]
        if series.known[place]:
            found.place = "repeated"
            series.values[place] = found.value
            return found
        scale, before = series.scale, (series.pairs, series.swung)
        series.mend(place, found.value, form.season, self._transform)
        self._count_scale(series, found.value, before)
        self._find(found, scale)
        return found

    def _count_scale(self, series: Series, value: float, before: tuple[int, float]) -> None:
        pairs, swung = before
        if series.pairs > pairs:
            self.swung += series.swung - swung
            self.sizes += abs(self._transform.forth(value))

    def _as_seen(self, found: Observed) -> list[float]:
        """The series' values as the model sees them, with the observation."""
        if found.seen is None:
            found.seen = self._transform.forth_all(found.series.values)
        return found.seen

    def _as_array(self, found: Observed) -> Floats:
        """The same, as an array."""
        if found.array is None:
            found.array = np.array(self._as_seen(found))
        return found.array

    def _find(self, found: Observed, scale: float | None) -> None:
        """What was forecast of an observation."""
        form, series, waiting = self._form, found.series, []
        for served in reversed(series.served):
            horizon = found.slot - served.slot
            if 0 < horizon <= form.horizons:
                waiting.append((horizon, served))
        found.waiting = tuple(waiting)
        if not waiting:
            return
        found.ahead = ahead = [number_at(served.ahead, horizon) for horizon, served in waiting]
        halves = [number_at(served.halves, horizon) for horizon, served in waiting]
        lower, upper = self._transform.bounds(ahead, halves)
        back = self._transform.back
        values: list[float | None] = list(ahead) if self._transform.plain else list(map(back, ahead))
        unserved: list[tuple[float | None, str]] = []
        second: list[float | None] = []
        for at, (horizon, served) in enumerate(waiting):
            if served.served is not None:
                (values[at], lower[at], upper[at], made, other), rung = served.served_at(horizon)
                if not unserved:
                    unserved, second = [(None, "")] * len(waiting), [None] * len(waiting)
                unserved[at], second[at] = (made, rung), other
        stopped = any(rung for _, rung in unserved)
        target, base_place = series.place(found.slot), self._rows.base_place
        found.judged = Judged(
            found.names, found.time_ms, form.step_ms, tuple([horizon for horizon, _ in waiting]),
            tuple(values), tuple(lower), tuple(upper),
            tuple([series.values[base_place(target - horizon, horizon)] for horizon, _ in waiting]),
            tuple([ModelVersion(served.generation, served.learned) for _, served in waiting]), scale, form.interval,
            tuple([made for made, _ in unserved]) if stopped else (),
            tuple([rung for _, rung in unserved]) if stopped else (),
            () if all(other is None for other in second) else tuple(second),
        )  # fmt: skip

    def settle(self, found: Observed, segment: str | None, count: int) -> None:
        """Count how good the forecasts of an observation were, and let the intervals follow.

        Args:
            segment: which one it is of; None where there are none.
            count: of series.
        """
        judged = found.judged
        if judged is None:
            return
        sums, answered = added(found.value, judged), answered_of(judged)
        self.board.add(answered, sums)
        if segment is not None:
            board = self.segments.get(segment)
            if board is None:
                board = self.segments[segment] = Board(self._form.horizons)
            board.add(answered, sums)
        y, add, seen = found.value, self.intervals.add, self._transform.forth(found.value)
        now = self.intervals.swell
        judgements = zip(found.waiting, found.ahead, judged.lower, judged.upper, strict=True)
        for (horizon, served), ahead, low, high in judgements:
            covered = None if low is None or high is None else low <= y <= high
            if now > SWOLLEN * served.swell:
                served.swell = now
            if ahead == ahead:  # else it was withheld
                add(horizon, abs(ahead - seen) / served.scale, covered, count, served.swell)
                if horizon == 1:  # the only one that a swell follows
                    now = self.intervals.swell

    def teach(self, found: Observed, *, sees: Sees) -> Taught:
        """What the model learns of an observation.

        Args:
            sees: what the model is given of a series.
        """
        pairs = []
        added = tuple(map(self._transform.forth, found.added))
        if sees == "matrix" and found.waiting:
            return Taught(found.key, found.slot, added, (), self._batch(found))
        if sees == "rows":
            series, values, y = found.series, self._as_seen(found), self._transform.forth(found.value)
            for horizon, served in found.waiting:
                place = series.place(served.slot)
                origin = Origin(values, place, served.scale, served.level, served.before, served.features)
                target = (y - values[self._rows.base_place(place, horizon)]) / served.scale
                pairs.append((horizon - 1, self._rows.row(origin, horizon, found.time_ms), target))
        return Taught(found.key, found.slot, added, tuple(pairs))

    def _batch(self, found: Observed) -> Batch:
        """What was forecast of an observation, as a matrix."""
        values, waiting, y = self._as_array(found), found.waiting, self._transform.forth(found.value)
        target = found.series.place(found.slot)
        numbers = np.array([horizon - 1 for horizon, _ in waiting])
        origins, targets = target - 1 - numbers, np.full(len(waiting), target)
        of_origins = np.array([(one.scale, one.level, one.before) for _, one in waiting])
        times, features = [found.time_ms] * len(waiting), [one.features for _, one in waiting]
        matrix = self._vectors.matrix(values, origins, targets, of_origins, times, features)
        truths = (y - values[self._vectors.bases(origins, targets)]) / of_origins[:, 0]
        return Batch(matrix, numbers, truths)

    # -- what is served after it

    def ask(self, found: Observed, features: Sequence[FeatureValue], *, sees: Sees) -> Asked | None:
        """What the model is asked after an observation; None while too little is known of the series."""
        series, form = found.series, self._form
        if series.pairs < PAIRS_MIN:
            return None
        values, place = self._as_seen(found), len(series.values) - 1
        scale = self._scale(series, values)
        origin = Origin(values, place, scale, *self._rows.levels(values, place), features)
        bases = tuple([values[at] for at in self._rows.base_places(place, form.horizons)])
        made, matrix = [], None
        horizons = range(1, form.horizons + 1)
        times = [found.time_ms + horizon * form.step_ms for horizon in horizons] if sees != "series" else []
        if sees == "rows":
            made = [self._rows.row(origin, horizon, at_ms) for horizon, at_ms in zip(horizons, times, strict=True)]
        elif sees == "matrix":
            origins = np.full(form.horizons, place)
            of_origins = np.array([(scale, origin.level, origin.before)] * form.horizons)
            targets = origins + np.array(horizons)
            matrix = self._vectors.matrix(self._as_array(found), origins, targets, of_origins, times, [features])
        self.latest = Asked(found.key, found.slot, scale, origin.level, origin.before, bases, tuple(made), matrix)
        return self.latest

    def _scale(self, series: Series, values: Sequence[float]) -> float:
        """Of a series, as models and intervals use it: its mean distance over a season, never 0.

        A few observations say little of it: what all series are like, for a series of this size, counts as much as a
        season of them.
        """
        season = self._form.season
        latest = values[-season:]
        size = fsum(map(abs, latest)) / len(latest)
        usual = size * self.swung / self.sizes if self.sizes else 0.0
        return (series.swung + season * usual) / (series.pairs + season) or 1.0

    def draft(self, found: Observed, asked: Asked, ahead: Sequence[float] | None) -> Draft:
        """A forecast with its intervals.

        Args:
            ahead: what the model answered; None where that may not be served.
        """
        series, transform = found.series, self._transform
        halves = [None if half is None else half * asked.scale for half in self.intervals.halves()]
        place, count = len(series.values) - 1, self._form.horizons
        values = series.values
        naive = tuple([values[at] for at in self._rows.base_places(place, count)])
        if ahead is None:
            return Draft([None] * count, halves, [None] * count, [None] * count, [None] * count, naive)
        seen = list(ahead) if transform.plain else [max(value, transform.least) for value in ahead]
        lower, upper = transform.bounds(seen, halves)
        return Draft([*seen], halves, self.restored(ahead), lower, upper, naive)

    def restored(self, ahead: Sequence[float]) -> list[float | None]:
        """What a model forecast, in the units of the observations."""
        return [*self._transform.restored(ahead)]

    def around(self, value: float, half: float | None) -> tuple[float, float | None, float | None]:
        """A number that the model did not forecast: as the model sees it, and the interval around it.

        Args:
            half: of the interval's width, as the model sees numbers.
        """
        seen = self._transform.forth(value)
        (low,), (high,) = self._transform.bounds([seen], [half])
        return seen, low, high

    def serve(
        self, found: Observed, asked: Asked, draft: Draft, features: Sequence[FeatureValue], version: ModelVersion,
        second: Sequence[float | None] | None = None,
    ) -> Forecast:  # fmt: skip
        """What is published of a forecast; it waits for its truth from now on.

        Args:
            second: what a second model forecast.
        """
        numbers = (asked.scale, asked.level, asked.before, version.generation, version.learned)
        served = Served(found.slot, list(features), packed(draft.seen), packed(draft.halves), *numbers)
        served.swell = self.intervals.swell
        if draft.changed or second is not None:
            made, rungs = draft.made or [None] * len(draft.values), list(draft.rungs) or [""] * len(draft.values)
            served.served = [*map(packed, (draft.values, draft.lower, draft.upper, made)), rungs]
            served.served += [] if second is None else [packed(second)]
        found.series.served.append(served)
        return self.published(found, draft)

    def published(self, found: Observed, draft: Draft) -> Forecast:
        """A draft as it is published."""
        return Forecast(
            found.names, found.time_ms, self._form.step_ms, tuple(draft.values), tuple(draft.lower),
            tuple(draft.upper), draft.naive, self._form.interval, draft.guard, draft.instead,
        )  # fmt: skip

    def decide(self, keys: Keys, key: bytes, forecast: Forecast, *, trusted: bool) -> None:
        """A forecast that was held is served now: of steps that were not observed yet, it waits for the truth.

        Args:
            trusted: a person says that the series is where its observations are.
        """
        past = keys.find(key)
        if past is None:
            return
        series = Series.load(past)
        if trusted and series.level is not None:
            beyond = Level.load(series.level).beyond
            if beyond:
                series.level = Level.of(series, self._form.season, beyond).dumped()
        slot = series.slot_of(forecast.time_ms, self._form.step_ms)
        gone = max(0, series.slot - slot)
        for kept in series.served:
            if kept.slot == slot and kept.served is not None:
                over: list[float | None] = [None] * gone
                parts = [over + list(one[gone:]) for one in (forecast.values, forecast.lower, forecast.upper)]
                kept.ahead = packed([None if value is None else self._transform.forth(value) for value in parts[0]])
                kept.served[:3] = map(packed, parts)
        keys.keep(key, series.dumped())

    def keep(self, keys: Keys, found: Observed) -> None:
        """Put the series back."""
        found.series.drop_served(found.series.slot - self._form.horizons + 1)
        keys.keep(found.key, found.series.dumped())

    # -- for people

    @property
    def columns(self) -> list[str]:
        """Names of the columns of a matrix that a model is asked with."""
        return self._vectors.names

    def summary(self, keys: Keys) -> dict[str, Any]:
        """Numbers for people and for a scrape."""
        return {
            "series": len(keys),
            "series_max": keys.keys_max,
            "evicted": keys.evicted,
            "alpha": list(self.intervals.alphas),
            **self.board.values(),
            **({"by_segment": {name: one.values() for name, one in self.segments.items()}} if self.segments else {}),
        }
