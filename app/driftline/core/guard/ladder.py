"""Which prediction of an event may be served, and what is served instead.

`judge` is a function of the event, of what the model predicted, and of what is kept (`core.guard.kept`), which it
changes: a replay comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Final, NamedTuple, TypeAlias

from driftline.core.error import InvariantError
from driftline.core.guard.base import Case
from driftline.core.guard.kept import CLEAN, Kept
from driftline.core.guard.passing import Limits, Passing
from driftline.core.guard.rungs import Rungs
from driftline.core.history.history import key_of
from driftline.core.output import Guard, Instead, Predicted, Prediction, Trip
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import Constant, Fallback, GuardForm, Seasonal, SecondModel
from driftline.core.record import Event, FeatureValue, LabelValue
from driftline.core.task import task_of
from driftline.core.task.predict import of_two

Ask: TypeAlias = Callable[[Instead], tuple[Prediction | None, int]]
"""What another model says of the event (`last_good`, `second_model`), and how many labels it has learned."""
_NOTHING: Final = Prediction()


class Holding(NamedTuple):
    """What a review needs to know beside the score.

    Args:
        instead, prediction: what will be served at the deadline.
        last: the last value of the series, whose key is `key`.
    """

    instead: Instead | None
    prediction: Prediction
    last: float | None
    key: bytes | None


class Judged(NamedTuple):
    """What became of a prediction.

    Args:
        instead: which fallback is served, if one is.
        series: the key of the event's series, where its label is to be remembered and its features do not tell.
    """

    prediction: Prediction
    guard: Guard
    tripped: tuple[Trip, ...]
    instead: Instead | None
    series: bytes | None
    holding: Holding | None = None


PASSED: Final = Judged(_NOTHING, "served", (), None, None)
"""Of a prediction that passed as it is, where there is nothing else to say of it."""


class Ladder:
    """The guard of one pipeline.

    Args:
        pipeline: with a guard.

    Attributes:
        hold_ms: how long a prediction waits for a person.
        learns: labels are values of the series.
        stores: the key of an event's series is kept until its label comes.
        knows: what the model learned from is kept, by feature.
        plain: the score of a prediction that passes says no more than usual.
        compares: predictions are compared with earlier ones.
    """

    def __init__(self, pipeline: Pipeline, guard: GuardForm) -> None:
        task = task_of(pipeline.task)
        self.rungs = rungs = Rungs(pipeline, guard)
        self._case, self._beyond = rungs.case, rungs.beyond
        hold = guard.hold
        self.hold_ms, self._held_max = (0, 0) if hold is None else (hold.wait_ms, hold.held_max)
        self._remembers = guard.remembers
        self.learns = guard.remembers and task.supervised and not task.classes
        self._season_ms = guard.season_ms
        self._keys_max = guard.keys_max
        features, context = list(pipeline.event.features), list(pipeline.event.context)
        self._places = tuple(
            [features.index(name) if name in features else -1 - context.index(name) for name in guard.by]
        )
        self.stores = any(place < 0 for place in self._places)  # the context is not kept until the label comes
        self.plain = not self.stores and guard.second is None
        names = [limit.name for limit in rungs.limits]
        self._steps, self.knows = "step" in names, "unfamiliar" in names
        self._share = rungs.share
        self._latest = 0 if guard.distribution is None else guard.distribution.latest
        self.compares = self._latest > 0
        self._key_now: bytes | None = None
        self._classes, self._two = task.classes, task.probability
        self._several = task.classes and not task.probability
        self._threshold = pipeline.decision.threshold if pipeline.decision is not None else None
        window_ms = 0 if guard.share is None else guard.share.window_ms
        self._passing = Passing(Limits(rungs.limits, window_ms, plain=not (self._season_ms or self._latest)))

    def passes(self, kept: Kept, event: Event, prediction: Prediction, learned: int) -> bool:
        """Whether what the model predicted passes every rung, as nearly always; then it is remembered. Else `judge`
        goes on from here.

        Args:
            event: with its computed features.
            learned: how many labels the model has learned.
        """
        key = self._key_of(kept, event) if self._remembers else None
        self._key_now = key
        time_ms = _time_of(event)
        if self._passing.take(kept, key, event.features, prediction.value, learned, time_ms):
            return True
        self._see(kept, event, prediction, learned, key)
        case = self._case
        for beyond in self._beyond:
            if beyond(case) is not None:
                return False
        self._forget()
        if kept.clean < CLEAN:
            kept.clean += 1
        if key is not None and prediction.value is not None:
            kept.accept(key, prediction.value, time_ms, self._season_ms, self._keys_max)
        if self._latest and (said := self._said(prediction)) is not None:
            kept.outputs.accept(said, classes=self._several)
        return True

    def passed(self, kept: Kept, prediction: Prediction) -> Judged:
        """What became of a prediction that `passes` let pass."""
        return Judged(prediction, "served", (), None, self._series(kept, self._key_now)) if self.stores else PASSED

    def _said(self, prediction: Prediction) -> LabelValue | None:
        """What of a prediction is compared with earlier ones; None of nothing, and of a class that equals none."""
        if not self._several:
            return prediction.value
        label = prediction.label
        return None if isinstance(label, float) and not isfinite(label) else label

    def _begin(self, kept: Kept, event: Event, prediction: Prediction, learned: int) -> None:
        """One more prediction that is not to be served as it is, whatever the rungs say."""
        self._key_now = key = self._key_of(kept, event) if self._remembers else None
        self._passing.count(kept, prediction.value, _time_of(event))
        self._see(kept, event, prediction, learned, key)

    def _see(self, kept: Kept, event: Event, prediction: Prediction, learned: int, key: bytes | None) -> None:
        """Find what the rungs see of a prediction that was counted."""
        case = self._case
        case.value, case.learned = prediction.value, learned
        if self._steps:
            found = None if key is None else kept.series.get(key)
            case.near = () if found is None else (found[0], found[1])  # what was accepted, and its last label
        if self.knows:
            case.features, case.known = event.features, kept.known
        if self._share is not None:
            events, yes = kept.crowd_all
            case.crowd = yes, events
        case.distance = 0.0
        if self._latest and (said := self._said(prediction)) is not None:
            case.distance = kept.outputs.take(said, self._latest)

    def _forget(self) -> None:
        """Clear what the rungs saw of a prediction: it is not part of the state, so nothing of it may remain."""
        self._case.begin(None, None, ())

    def judge(
        self, kept: Kept, event: Event, predicted: Predicted, learned: int, ask: Ask, *, begun: bool = False
    ) -> Judged:
        """Whether a prediction may be served, and what is served instead.

        Args:
            event: with its computed features.
            learned: how many labels the model that made it has learned.
            ask: asks another model.
            begun: `passes` was asked, and was false; it must be where the model simply made the prediction.
        """
        if not begun:
            self._begin(kept, event, predicted[1], learned)
        judged = self._judge(kept, event, predicted, ask)
        self._forget()
        return judged

    def _judge(self, kept: Kept, event: Event, predicted: Predicted, ask: Ask) -> Judged:
        _, prediction, guard = predicted
        case, key, time_ms = self._case, self._key_now, _time_of(event)
        trips: list[Trip] = []
        instead: Instead | None = None
        if guard == "fallback":
            trips.append(Trip("finite", "last_good"))
            instead = "last_good"
        passed = guard != "withheld"
        if passed:
            passed = self.rungs.climb(trips)
            if passed and case.value is not prediction.value and case.value is not None:
                prediction = self._of(case.value)
        else:
            trips.append(Trip("finite", "fallback" if self.rungs.fallbacks else "withhold"))
        for trip in trips:
            kept.trip(trip.rung)
        accepted = passed and instead is None and all(trip.action == "clip" for trip in trips)
        kept.clean = min(CLEAN, kept.clean + 1) if passed and instead is None else 0
        if not passed:
            action = trips[-1].action
            holds = action == "hold" and len(kept.held) < self._held_max and event.event_id not in kept.held
            order = self.rungs.order(action)
            instead, prediction = self._fall_back(kept, order, key, time_ms, ask)
            if holds:
                last = None if key is None else kept.last(key)
                holding = Holding(instead, prediction, last, key)
                return Judged(_NOTHING, "held", tuple(trips), None, self._series(kept, key), holding)
        if accepted and key is not None and prediction.value is not None:
            kept.accept(key, prediction.value, time_ms, self._season_ms, self._keys_max)
        state = _state(trips, instead, passed=passed)
        return Judged(prediction, state, tuple(trips), instead, self._series(kept, key))

    def _series(self, kept: Kept, key: bytes | None) -> bytes | None:
        """What the event's label will say of which series it is, where the event's features do not."""
        return kept.mark + key if self.stores and self.learns and key is not None else None

    def label(
        self, kept: Kept, features: Sequence[FeatureValue], series: bytes | None, value: float, time_ms: int
    ) -> None:
        """The label of an event has come.

        Args:
            series: as `Judged` has it.
            time_ms: of the event.
        """
        key: bytes | None = b""
        if self.stores:
            mark = kept.mark
            key = series[len(mark) :] if series is not None and series.startswith(mark) else None
        elif self._places:
            key = key_of(self._places, features, ())
        if key is not None:
            kept.label(key, value, time_ms, self._season_ms, self._keys_max)

    def accept(self, kept: Kept, key: bytes, value: float, time_ms: int) -> None:
        """A person let a value of a series pass."""
        kept.accept(key, value, time_ms, self._season_ms, self._keys_max)

    def edited(self, value: LabelValue | None) -> Prediction | None:
        """A value that a person gives as the prediction; None where it is none, or lies outside the range."""
        if self._classes and not self._two:
            return Prediction(label=value) if value is not None and not isinstance(value, float) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return None
        number = float(value)
        if self._two and not 0 <= number <= 1:
            return None
        if (span := self.rungs.range) is not None and span.beyond(Case(number, None, ())) is not None:
            return None
        return self._of(number)

    def _key_of(self, kept: Kept, event: Event) -> bytes | None:
        """Of the series of an event."""
        if not self._places:
            return b""
        key = key_of(self._places, event.features, event.context)
        if key is None:
            kept.keyless += 1
        return key

    def _fall_back(
        self, kept: Kept, order: tuple[Fallback, ...], key: bytes | None, time_ms: int, ask: Ask
    ) -> tuple[Instead | None, Prediction]:
        """The first fallback that may pass; nothing where none may."""
        case = self._case
        case.distance = 0.0
        for fallback in order:
            name, made, learned = self._made(kept, fallback, key, time_ms, ask)
            if made is None or made == _NOTHING:
                continue
            case.value, case.learned = made.value, learned
            if self.rungs.allows():
                return name, made
        return None, _NOTHING

    def _made(
        self, kept: Kept, fallback: Fallback, key: bytes | None, time_ms: int, ask: Ask
    ) -> tuple[Instead, Prediction | None, int | None]:
        """What a fallback says, if anything; and how many labels its model has learned, where a model made it."""
        if isinstance(fallback, Constant):
            value = fallback.value
            classes = self._classes and not self._two
            return "value", Prediction(label=value) if classes else self._of(float(value)), None
        if fallback == "last_good":
            return fallback, *ask(fallback)
        if isinstance(fallback, SecondModel):
            return "second_model", *ask("second_model")
        if isinstance(fallback, Seasonal):
            past = None if key is None else kept.a_season_ago(key, time_ms, fallback.season_ms)
            return "seasonal", None if past is None else self._of(past), None
        if fallback == "seasonal":
            raise InvariantError("a season without a length, which is for forecasts")
        past = None if key is None else kept.last(key)
        return fallback, None if past is None else self._of(past), None

    def _of(self, value: float) -> Prediction:
        """The prediction of a number, or of a probability."""
        return of_two(value, self._threshold) if self._two else Prediction(value=value)


def _time_of(event: Event) -> int:
    return event.order_ms if event.time_ahead else event.time_ms


def _state(trips: list[Trip], instead: Instead | None, *, passed: bool) -> Guard:
    if instead is not None:
        return "fallback"
    if not passed:
        return "withheld"
    if not trips:
        return "served"
    return "clipped" if any(trip.action == "clip" for trip in trips) else "flagged"
