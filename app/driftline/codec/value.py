"""The values of scores and outcomes: their fields, in the order in which they are written.

What is `UNSET` is left out. The forms are written by `msgspec`, a fifth cheaper than a dict by `orjson`, to the same
bytes: only numbers from 1e16 on differ between the two, and are written by `orjson` as ever (`written`), since
digests of what was published are kept in journals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
import orjson
from msgspec import UNSET, Raw, Struct, UnsetType

from driftline.core.metric.account import MICRO
from driftline.core.output import SECOND, Forecast, Judged, Prediction, Priced, Spent, Trip, Unserved
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.feature import SLATE_TYPES
from driftline.core.record import EventId, FeatureValue, LabelValue

_SMALL = 1e16  # below it both libraries write a number the same

Shown: TypeAlias = LabelValue | Raw | None
Stands: TypeAlias = tuple[Shown | UnsetType, float | UnsetType, dict[str, float] | UnsetType]

NOTHING: Stands = (UNSET, UNSET, UNSET)
_EMPTY = Prediction()

to_json = msgspec.json.Encoder().encode


class Placed(Struct, gc=False):
    """An item of a slate."""

    item: str
    propensity: float


class TripValue(Struct, gc=False):
    """A rung that tripped, in a score."""

    rung: str
    action: str
    limit: Shown | UnsetType
    excess: Shown | UnsetType
    feature: str | UnsetType
    horizon: int | UnsetType = UNSET


class UnservedValue(Struct, gc=False):
    """A prediction that was not served, in an outcome."""

    rung: str
    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType


class SecondValue(Struct, gc=False):
    """The prediction of the guard's second model, in an outcome."""

    model_version: str
    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType


class ForecastValue(Struct, gc=False):
    """Of a score: the forecast; see `schemas/score.schema.json`."""

    series: Any
    time_ms: int
    step_ms: int
    interval: float
    values: Sequence[Shown]
    lower: Sequence[Shown]
    upper: Sequence[Shown]
    naive: Sequence[Shown]
    guard: Sequence[str] | UnsetType = UNSET
    instead: Sequence[str | None] | UnsetType = UNSET


class JudgedValue(Struct, gc=False):
    """Of an outcome: what was forecast; see `schemas/outcome.schema.json`."""

    series: Any
    time_ms: int
    step_ms: int
    interval: float
    horizons: Sequence[int]
    values: Sequence[Shown]
    lower: Sequence[Shown]
    upper: Sequence[Shown]
    naive: Sequence[Shown]
    model_versions: Sequence[str]
    scale: Shown
    unserved: Sequence[Shown] | UnsetType = UNSET
    rungs: Sequence[str | None] | UnsetType = UNSET
    second_model: Sequence[Shown] | UnsetType = UNSET


class ScoreValue(Struct, gc=False):
    """Of a score; see `schemas/score.schema.json`."""

    output_id: str
    pipeline: str
    event_id: EventId
    event_time_ms: int
    guard: str
    model_version: str
    learned: int
    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType
    decision: bool | UnsetType
    slate: list[Placed] | UnsetType = UNSET
    explored: bool | UnsetType = UNSET
    instead: str | UnsetType = UNSET
    tripped: list[TripValue] | UnsetType = UNSET
    forecast: ForecastValue | UnsetType = UNSET
    budget: BudgetValue | UnsetType = UNSET


class BudgetValue(Struct, gc=False):
    """How a decision stood to the budget of alarms."""

    alarms: int
    most: int
    threshold: float | UnsetType


class ReviewValue(Struct, gc=False):
    """Of a review; see `schemas/review.schema.json`."""

    output_id: str
    pipeline: str
    state: str
    event_id: EventId
    event_time_ms: int
    model_version: str
    learned: int
    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType
    tripped: list[TripValue]
    features: Any
    deadline_ms: int
    at_deadline: Any
    last_value: Shown | UnsetType = UNSET
    served: Any = UNSET
    by: str | UnsetType = UNSET
    why: str | UnsetType = UNSET
    forecast: ForecastValue | UnsetType = UNSET


class ServedValue(Struct, gc=False):
    """What is served, or would be, in a review."""

    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType
    instead: str | UnsetType = UNSET
    forecast: ForecastValue | UnsetType = UNSET


class PricedValue(Struct, gc=False):
    """What an event came to under a KPI."""

    decision: str | UnsetType
    cost: float | UnsetType
    value: float | UnsetType
    estimated: bool | UnsetType
    lacking: str | UnsetType


class OutcomeValue(Struct, gc=False):
    """Of an outcome; see `schemas/outcome.schema.json`."""

    output_id: str
    pipeline: str
    kind: str
    event_id: EventId
    detail: str | UnsetType
    event_time_ms: int | UnsetType | None
    features: Any
    prediction: Shown | UnsetType
    probability: float | UnsetType
    probabilities: dict[str, float] | UnsetType
    model_version: str | UnsetType
    label: Shown | UnsetType
    previous_label: Shown | UnsetType
    label_time_ms: int | UnsetType = UNSET
    label_delay_ms: int | UnsetType = UNSET
    slate: list[Placed] | UnsetType = UNSET
    explored: bool | UnsetType = UNSET
    rewards: dict[str, float] | UnsetType = UNSET
    estimates: dict[str, float] | UnsetType = UNSET
    policies: Any = UNSET
    unserved: list[UnservedValue] | UnsetType = UNSET
    second_model: SecondValue | UnsetType = UNSET
    forecast: JudgedValue | UnsetType = UNSET
    kpi: dict[str, PricedValue] | UnsetType = UNSET
    decision: bool | UnsetType = UNSET


def priced_of(priced: Iterable[Priced]) -> dict[str, PricedValue]:
    """What an event came to, as it is written."""
    return {one.kpi: _priced(one) for one in priced}


def _priced(one: Priced) -> PricedValue:
    known = not one.lacking and bool(one.kind or one.estimated)
    return PricedValue(
        one.kind or UNSET,
        one.cost / MICRO if known else UNSET,
        one.value / MICRO if known else UNSET,
        one.estimated or UNSET,
        one.lacking or UNSET,
    )


def budget_of(spent: Spent) -> BudgetValue:
    """How a decision stood to its budget, as it is written."""
    return BudgetValue(spent.alarms, spent.most, UNSET if spent.threshold is None else spent.threshold)


def features_of(pipeline: Pipeline) -> Callable[[Sequence[FeatureValue]], Any]:
    """A function from an event's values to what is written as its `features`."""
    names = tuple(pipeline.event.features)
    if pipeline.recommend is not None:
        kinds = [feature.type for feature in pipeline.event.features.values()]
        written_as = [_as_it_is if kind in SLATE_TYPES else written for kind in kinds]
        return lambda values: {
            name: None if value is None else write(value)
            for name, value, write in zip(names, values, written_as, strict=True)
        }
    if pipeline.limits.number_max >= _SMALL:
        return lambda values: dict(zip(names, map(written, values), strict=True))
    form = form_of(pipeline)
    return lambda values: dict(zip(names, values, strict=True)) if form is None else form(*values)


def form_of(pipeline: Pipeline) -> type[Struct] | None:
    """A struct of an event's values, that is written as its `features`; None where they are not written as they are."""
    names = tuple(pipeline.event.features)
    if pipeline.recommend is not None or pipeline.limits.number_max >= _SMALL:
        return None
    fields = [f"at{place}" for place in range(len(names))]
    try:
        return msgspec.defstruct("Features", fields, rename=dict(zip(fields, names, strict=True)), gc=False)
    except ValueError:  # a name with a sign that JSON must escape
        return None


def forecast_of(forecast: Forecast, by: Sequence[str]) -> ForecastValue:
    """A forecast as it is written.

    Args:
        by: names of the fields of its series.
    """
    return ForecastValue(
        dict(zip(by, map(written, forecast.series), strict=True)),
        forecast.time_ms,
        forecast.step_ms,
        forecast.interval,
        _each(forecast.values),
        _each(forecast.lower),
        _each(forecast.upper),
        _each(forecast.naive),
        forecast.guard or UNSET,
        forecast.instead or UNSET,
    )


def judged_of(judged: Judged, by: Sequence[str]) -> JudgedValue:
    """What was forecast of an observation, as it is written."""
    return JudgedValue(
        dict(zip(by, map(written, judged.series), strict=True)),
        judged.time_ms,
        judged.step_ms,
        judged.interval,
        judged.horizons,
        _each(judged.values),
        _each(judged.lower),
        _each(judged.upper),
        _each(judged.naive),
        [f"{version.generation}.{version.learned}" for version in judged.versions],
        written(judged.scale),
        _each(judged.made) if judged.made else UNSET,
        [rung or None for rung in judged.rungs] if judged.rungs else UNSET,
        _each(judged.second) if judged.second else UNSET,
    )


def _each(values: Sequence[float | None]) -> list[Shown]:
    # `written`, without a call for each
    return [
        value if type(value) is not float or -_SMALL < value < _SMALL else Raw(orjson.dumps(value)) for value in values
    ]


def shown(prediction: Prediction) -> Stands:
    """A prediction's part of a value: `prediction` (class or number), and `probability` or `probabilities`, which stand
    behind it."""
    label: Shown = prediction.label
    probabilities, value = prediction.probabilities, prediction.value
    if probabilities is None:  # of a score, the label is what a budget decided
        return written(prediction.label if value is None else value), UNSET, UNSET
    if type(label) is float:
        label = written(label)
    if value is not None:
        return label, value, UNSET
    return label, UNSET, {_class_name(name): share for name, share in probabilities.items()}


def _as_it_is(value: FeatureValue) -> Raw:
    """A text that is JSON itself."""
    return Raw(str(value))


def slate_of(prediction: Prediction) -> list[Placed]:
    """The items of a slate, in order."""
    return [Placed(str(item), propensity) for item, propensity in (prediction.probabilities or {}).items()]


def explored(prediction: Prediction) -> bool | UnsetType:
    """Whether a slate was not the best that was known; left out where another policy chose it."""
    return prediction.label if isinstance(prediction.label, bool) else UNSET


def trips_of(tripped: Sequence[Trip]) -> list[TripValue]:
    """The rungs that tripped, as they are written."""
    return [
        TripValue(
            trip.rung,
            trip.action,
            UNSET if trip.limit is None else written(trip.limit),
            UNSET if trip.excess is None else written(trip.excess),
            trip.feature or UNSET,
            trip.horizon or UNSET,
        )
        for trip in tripped
    ]


def unserved_of(unserved: Sequence[Unserved]) -> list[UnservedValue] | UnsetType:
    """What a guard kept from being served, as it is written; unset where there is none of it."""
    made = [one for one in unserved if one.rung and one.prediction != _EMPTY]
    return [UnservedValue(one.rung, *shown(one.prediction)) for one in made] or UNSET


def second_of(unserved: Sequence[Unserved]) -> SecondValue | UnsetType:
    """The prediction of the guard's second model, as it is written; unset where there is none."""
    for one in unserved:
        if one.name == SECOND:
            return SecondValue(str(one.version), *shown(one.prediction))
    return UNSET


def written(value: FeatureValue) -> Shown:
    """A value as it is given to `to_json`."""
    return value if type(value) is not float or -_SMALL < value < _SMALL else Raw(orjson.dumps(value))


def _class_name(label: LabelValue) -> str:
    return label if isinstance(label, str) else orjson.dumps(label).decode()
