"""Published outcomes back to what they were written from, as far as figures are made of it.

What is not of our form is passed over: other programs may write to the topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
import orjson
from msgspec import Meta, Struct

from driftline.core.metric.account import AMOUNT_MAX, MICRO, UNSERVED
from driftline.core.output import (
    MODEL,
    SECOND,
    Judged,
    ModelVersion,
    Outcome,
    OutcomeKind,
    Prediction,
    Priced,
    Unserved,
)
from driftline.core.pipeline import Pipeline
from driftline.core.record import LabelValue
from driftline.core.slate import Estimated, Feedback
from driftline.core.task import task_of
from driftline.core.task.predict import PROBABILITY_LEAST, PROBABILITY_MOST

Scalar: TypeAlias = bool | int | float | str
Version: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9]{1,18}\.[0-9]{1,18}\Z")]
Moment: TypeAlias = Annotated[int, Meta(ge=-(2**61), le=2**61)]  # two of them are 64 bits apart at most
Share: TypeAlias = Annotated[float, Meta(ge=PROBABILITY_LEAST, le=PROBABILITY_MOST)]
Amount: TypeAlias = Annotated[float, Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]


class _Placed(Struct):
    item: str
    propensity: Annotated[float, Meta(gt=0)]


class KpiPart(Struct):
    """What one KPI says of an outcome, as it stands in the document; see `Priced`."""

    decision: str = ""
    cost: Amount | None = None
    value: Amount | None = None
    estimated: bool = False
    lacking: Annotated[str, Meta(max_length=200)] = ""


class _Said(Struct):
    """What a model predicted, of an outcome in which it was not served, or not for sure."""

    rung: str = ""
    prediction: Scalar | None = None
    probability: Share | None = None
    probabilities: dict[str, Share] | None = None
    decision: None = None


class _Forecast(Struct):
    series: dict[str, Scalar]
    time_ms: int
    step_ms: int
    interval: float
    horizons: list[Annotated[int, Meta(ge=1)]]
    values: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    naive: list[float]
    model_versions: list[Version]
    scale: float | None
    unserved: list[float | None] = []
    rungs: list[str | None] = []
    second_model: list[float | None] = []


class _Outcome(Struct):
    output_id: str
    kind: OutcomeKind
    event_id: str | int | float
    event_time_ms: Moment | None = None
    features: dict[str, Scalar | None] | None = None
    prediction: Scalar | None = None
    probability: Share | None = None
    probabilities: dict[str, Share] | None = None
    model_version: Version | None = None
    label: Scalar | None = None
    previous_label: Scalar | None = None
    label_time_ms: Moment | None = None
    slate: list[_Placed] | None = None
    explored: bool | None = None
    rewards: dict[str, float] = {}
    estimates: dict[str, float] = {}
    policies: dict[str, Estimated] = {}
    forecast: _Forecast | None = None
    kpi: dict[str, KpiPart] = {}
    decision: bool | None = None
    unserved: list[_Said] = []
    second_model: _Said | None = None


class OutcomeReader:
    """Reads the outcomes of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._task = task_of(pipeline.task)
        self._names = tuple(pipeline.event.features)
        self._kinds = {"", UNSERVED, *self._task.consequences.kinds}
        self._horizons = 0 if pipeline.forecast is None else pipeline.forecast.horizons

    def read(self, document: Mapping[str, Any]) -> Outcome | None:
        """The outcome of a document; None where it is none.

        Stakes of KPIs are not read: no figure of what was served is made of them. Nor is what the model predicted where
        something else was served, but beside a second model's prediction, with which it is compared.
        """
        try:
            one = msgspec.convert(document, _Outcome)
        except msgspec.ValidationError:
            return None
        judged = None if one.forecast is None else _judged(one.forecast)
        if not self._fits(one, judged):
            return None
        return Outcome(
            one.output_id,
            one.kind,
            None,
            0,
            one.event_id,
            one.event_time_ms,
            None if one.features is None else tuple([one.features.get(name) for name in self._names]),
            None if one.model_version is None else self._prediction(one),
            None if one.model_version is None else _version(one.model_version),
            self._label(one),
            one.label_time_ms,
            previous_label=one.previous_label,
            judged=judged,
            unserved=() if one.second_model is None or self._task.slates else self._beside(one, one.second_model),
            priced=tuple(_priced(name, priced) for name, priced in one.kpi.items()),
        )

    def _fits(self, one: _Outcome, judged: Judged | None) -> bool:
        """Whether it can be of a pipeline of this task."""
        if any(priced.decision not in self._kinds for priced in one.kpi.values()):
            return False
        if judged is not None and max(judged.horizons, default=0) > self._horizons:
            return False
        if self._task.slates:
            return one.rewards.keys() <= {placed.item for placed in one.slate or ()} or one.slate is None
        return self._task.classes or one.label is None or not isinstance(one.label, str)

    def _beside(self, one: _Outcome, second: _Said) -> tuple[Unserved, ...]:
        """What both models predicted; of the first one only where something else was served."""
        own = ModelVersion(0, 0)
        first = [Unserved(MODEL, self._said(said, one.label), own, said.rung) for said in one.unserved[:1]]
        return (*first, Unserved(SECOND, self._said(second, one.label), own))

    def _prediction(self, one: _Outcome) -> Prediction:
        if self._task.slates:
            value = None if one.prediction is None else float(one.prediction)
            slate: dict[LabelValue, float] = {placed.item: placed.propensity for placed in one.slate or ()}
            return Prediction(one.explored, slate, value)
        return self._said(one, one.label)

    def _said(self, one: _Outcome | _Said, label: Scalar | None) -> Prediction:
        if one.probability is not None:
            shares: dict[LabelValue, float] = {False: 1 - one.probability, True: one.probability}
            return Prediction(one.prediction, shares, one.probability)
        if one.probabilities is not None:
            # Classes are written as text: those that matter are the one served and the one that came.
            classes = {_class_name(found): found for found in (one.prediction, label) if found is not None}
            named = {classes.get(name, name): share for name, share in one.probabilities.items()}
            return Prediction(one.prediction, named)
        if self._task.classes:
            return Prediction(one.prediction)
        number = one.prediction
        return Prediction(one.decision, None, float(number) if isinstance(number, int | float) else None)

    def _label(self, one: _Outcome) -> LabelValue | None:
        """Of a request, what became of its slate; it is there when its wait is over."""
        if not self._task.slates or one.model_version is None or one.kind not in ("joined", "assumed", "failed"):
            return one.label
        feedback = Feedback(one.rewards, one.estimates, 0, one.explored, one.policies)
        return msgspec.json.encode(feedback).decode()


def _priced(name: str, one: KpiPart) -> Priced:
    cost, value = (round((amount or 0.0) * MICRO) for amount in (one.cost, one.value))
    return Priced(name, one.decision, cost, value, one.estimated, one.lacking)


def _judged(one: _Forecast) -> Judged | None:
    """What was forecast; None where its lists do not fit together."""
    lists = (one.values, one.lower, one.upper, one.naive, one.model_versions)
    if any(len(each) != len(one.horizons) for each in lists):
        return None
    return Judged(
        tuple(one.series.values()),
        one.time_ms,
        one.step_ms,
        tuple(one.horizons),
        tuple(one.values),
        tuple(one.lower),
        tuple(one.upper),
        tuple(one.naive),
        tuple(map(_version, one.model_versions)),
        one.scale,
        one.interval,
        *_instead(one),
    )


def _instead(one: _Forecast) -> tuple[tuple[float | None, ...], tuple[str, ...], tuple[float | None, ...]]:
    """What the model forecast where something else was served, the rungs, and what a second model did; nothing where
    there is none of it."""
    second = one.second_model if len(one.second_model) == len(one.horizons) else []
    if not second or len(one.unserved) != len(second) or len(one.rungs) != len(second):
        return (), (), tuple(second)
    return tuple(one.unserved), tuple([rung or "" for rung in one.rungs]), tuple(second)


def _version(text: str) -> ModelVersion:
    generation, _, learned = text.partition(".")
    return ModelVersion(int(generation), int(learned))


def _class_name(label: LabelValue) -> str:
    return label if isinstance(label, str) else orjson.dumps(label).decode()
