"""Whether a model depends on the units of its numbers, and whether it diverges.

A linear model takes steps that fit numbers near 1: given an income in cents it learns nothing, or overflows. A model
before which the numbers are scaled says the same of metres as of millimetres. So a model is tried twice on the same
synthetic events, with other units the second time, and what it says is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite
from statistics import fmean, median, pstdev
from typing import Any

import numpy as np
from river import linear_model, neighbors
from river.facto.base import BaseFM
from river.linear_model.base import GLM

from driftline.author.proof import synthetic_records
from driftline.core.history.history import History
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, EventId, FeatureValue, Label, LabelValue
from driftline.core.river.building import build_model
from driftline.core.river.seed import parts
from driftline.core.task import task_of

EVENTS = 400
UNIT = 1_000.0  # every other number is that many times as large in the second run
PROBABILITY_MAX, ERROR_MAX = 0.1, 0.5  # mean difference that is none: of probabilities, and in deviations of the label
RUNAWAY = 100.0  # times the largest label
_SENSITIVE = (
    GLM,
    BaseFM,
    linear_model.ALMAClassifier,
    linear_model.SoftmaxRegression,
    linear_model.PAClassifier,
    linear_model.PARegressor,
    linear_model.BayesianLinearRegression,
    neighbors.KNNClassifier,
    neighbors.KNNRegressor,
)


def warnings(pipeline: Pipeline) -> list[str]:
    """What a user should fix before real numbers come; empty where nothing was found, or nothing is known."""
    if not task_of(pipeline.task).supervised or not any(
        one.type == "number" for one in pipeline.event.features.values()
    ):
        return []
    pairs = _pairs(pipeline)
    model = build_model(pipeline)
    try:
        with np.errstate(all="ignore"):
            plain = _answers(pipeline, model, pairs, 1.0)
            scaled = _answers(pipeline, build_model(pipeline), pairs, UNIT)
    except Exception:  # noqa: BLE001 - a model may raise anything; the proof says so
        return []
    half = len(plain) // 2  # the beginning of a model that has learned nothing says little
    labels = [float(label) for _, label in pairs if isinstance(label, int | float)]
    away = list(_runs_away(pipeline, plain[half:], labels))
    return away or list(_depends_on_units(pipeline, model, plain[half:], scaled[half:], labels))


def _pairs(pipeline: Pipeline) -> Sequence[tuple[Sequence[FeatureValue], LabelValue]]:
    """Synthetic events with their labels; yes and no are balanced, or a model would always say yes."""
    records = synthetic_records(pipeline, EVENTS)
    past, events = History(pipeline), dict[EventId, Sequence[FeatureValue]]()
    for record in records:
        if isinstance(record, Event):
            events[record.event_id] = past.complete(record, record.time_ms).features
            past.take(record)
    labels = {record.event_id: record.value for record in records if isinstance(record, Label)}
    pairs = [(events[name], label) for name, label in labels.items() if label is not None]
    if not task_of(pipeline.task).labels.two_valued:
        return pairs
    signals = [sum(float(value) for value in values if isinstance(value, int | float)) for values, _ in pairs]
    middle = median(signals)
    return [(pair[0], signal > middle) for pair, signal in zip(pairs, signals, strict=True)]


def _answers(
    pipeline: Pipeline, model: Any, pairs: Iterable[tuple[Sequence[FeatureValue], LabelValue]], unit: float
) -> list[float]:
    """What the model says of each event before it learns it; a probability is that of True, or of the label's class.

    Args:
        unit: what every other number is multiplied with.
    """
    answers = []
    for values, label in pairs:
        place, x = 0, dict[str, Any]()
        for (name, feature), value in zip(pipeline.event.features.items(), values, strict=True):
            if feature.type == "number" and value is not None:
                place += 1
                x[name] = float(value) * (unit if place % 2 else 1.0)
            elif value is not None:
                x[name] = value
        answers.append(_answer(pipeline, model, x, label))
        model.learn_one(x, label)
    return answers


def _answer(pipeline: Pipeline, model: Any, x: dict[str, Any], label: Any) -> float:
    labels = task_of(pipeline.task).labels
    if labels.numeric:
        return float(model.predict_one(x) or 0.0)
    return float(model.predict_proba_one(x).get(True if labels.two_valued else label, 0.0))


def _runs_away(pipeline: Pipeline, answers: Sequence[float], labels: Sequence[float]) -> Iterator[str]:
    if not task_of(pipeline.task).labels.numeric:
        return
    most, largest = max(map(abs, labels)), max((abs(one) if isfinite(one) else inf for one in answers), default=0.0)
    if largest > RUNAWAY * most:
        yield (
            f"the model diverges: with synthetic labels up to {most:.3g}, predictions reach {largest:.3g}. Lower "
            "its learning rate, as in LinearRegression(optimizer=SGD(0.001)), scale its numbers (StandardScaler), or "
            "both"
        )


def _depends_on_units(
    pipeline: Pipeline, model: Any, plain: Sequence[float], scaled: Sequence[float], labels: Sequence[float]
) -> Iterator[str]:
    kinds = [type(part) for _, part in parts(model)]  # not isinstance: River answers for a pipeline as its last step
    names = {kind.__name__ for kind in kinds if issubclass(kind, _SENSITIVE)}
    if not names or not plain:
        return
    apart = fmean(min(abs(one - other), 1e300) for one, other in zip(plain, scaled, strict=True))
    numeric = task_of(pipeline.task).labels.numeric
    least = ERROR_MAX * pstdev(labels) if numeric else PROBABILITY_MAX
    if not apart <= least:  # NaN too
        yield (
            f"{' and '.join(sorted(names))} gets unscaled numbers: in units {UNIT:,.0f} times as small, its "
            "predictions "
            "differ, and large numbers dominate small ones. Put StandardScaler() before it, as in "
            "(Select(...) | StandardScaler())"
        )
