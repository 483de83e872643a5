"""Aggregates over a window of time learn at the event's time, as River does."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

import pytest
from river import compose, feature_extraction, linear_model, preprocessing, stats, utils

from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.fault import ModelRaisedError
from driftline.core.oracle import Oracle
from driftline.core.output import Prediction, Score
from driftline.core.record import Record
from driftline.core.shard.state import Shard
from driftline.core.state import freeze
from tests.support.folding import step
from tests.support.small import NOW_MS, chosen, event, label, small

HOUR_MS = 3_600_000
COUNT = 60
WINDOW = "TimeRolling(stats.Mean, period=timedelta(hours=5))"
SECTIONS: dict[str, Any] = {"event": {"features": {"x": "number", "word": {"type": "string", "missing": "none"}}}}


def pipeline(model: str, **more: Any) -> Any:
    return small("regression", label={"wait": "7d"}, model=model, **SECTIONS, **more)


AGG = f"(Select('x') | StandardScaler()) + Agg(on='x', by='word', how={WINDOW}) | LinearRegression()"
TARGET = f"(Select('x') + TargetAgg(by=['word'], how={WINDOW})) | StandardScaler() | LinearRegression()"


def by_hand(kind: str) -> Any:
    def window() -> Any:
        return utils.TimeRolling(stats.Mean, period=timedelta(hours=5))

    x = compose.Select("x")
    if kind == AGG:
        agg = feature_extraction.Agg(on="x", by="word", how=window())
        return ((x | preprocessing.StandardScaler()) + agg) | linear_model.LinearRegression()
    union = x + feature_extraction.TargetAgg(by=["word"], how=window())
    return union | preprocessing.StandardScaler() | linear_model.LinearRegression()


def rows() -> list[tuple[float, float]]:
    return [(math.sin(number) * 3, 2 + math.cos(number * 1.7)) for number in range(COUNT)]


def records() -> list[Record]:
    made: list[Record] = []
    for number, (x, y) in enumerate(rows()):
        at = NOW_MS + number * HOUR_MS
        made.append(event(number, at, x, offset=number))
        made.append(label(number, y, at + 1, offset=number))
    return made


@pytest.mark.parametrize("model", [AGG, TARGET], ids=["Agg", "TargetAgg"])
def test_predictions_are_those_of_river_that_was_given_the_time(model: str) -> None:
    here, river = Shard(pipeline(model), 0), by_hand(model)
    outputs = [output for record in records() for output in step(here, record)]
    for number, ((x, y), score) in enumerate(zip(rows(), chosen(outputs, Score), strict=True)):
        features = {"x": x, "word": "a"}
        assert score.prediction.value == river.predict_one(features), number
        river.learn_one(features, y, t=datetime(1970, 1, 1) + timedelta(milliseconds=NOW_MS + number * HOUR_MS))  # noqa: DTZ001 - as River has it
    assert here.learner.learned == COUNT


@pytest.mark.parametrize("model", [AGG, TARGET], ids=["Agg", "TargetAgg"])
def test_a_model_over_time_goes_on_from_a_snapshot_bit_for_bit(model: str) -> None:
    whole = Shard(pipeline(model), 0)
    half = Shard(pipeline(model), 0)
    for number, record in enumerate(records()):
        if number == COUNT:
            half = freeze.load(half.pipeline, 0, freeze.dump(half))
        assert step(whole, record) == step(half, record)
    assert digest_of(whole.learner.model) == digest_of(half.learner.model)


def test_a_model_that_raised_goes_back_with_the_times_that_it_learned() -> None:
    here = Shard(pipeline(AGG), 0)
    for record in records():
        step(here, record)
    before = digest_of(here.learner.model)

    def fail(_: object) -> Prediction:
        raise ZeroDivisionError

    here.learner.predict = fail
    with pytest.raises(ModelRaisedError):
        here.learner.score((1.0,), "call", Oracle())
    assert digest_of(here.learner.model) == before


def test_a_time_far_ahead_empties_no_window() -> None:
    plain, ahead = Shard(pipeline(AGG), 0), Shard(pipeline(AGG), 0)
    for record in records():
        for shard in (plain, ahead):
            step(shard, record)
    far = NOW_MS + 10**12
    for shard, time_ms, late in ((plain, NOW_MS + COUNT * HOUR_MS, False), (ahead, far, True)):
        step(shard, event("e", time_ms, 1.0, offset=COUNT, ahead=late))
        step(shard, label("e", 1.0, NOW_MS + COUNT * HOUR_MS, offset=COUNT))
    unions = [next(iter(one.learner.model.steps.values())) for one in (plain, ahead)]
    means = [union.transformers["Agg"].transform_one({"x": 1.0, "word": "a"}) for union in unions]
    assert means[1] != {"x_mean_by_word": 1.0}, "that is the mean of the pair of 2055 alone"
    assert means[0]["x_mean_by_word"] == pytest.approx(means[1]["x_mean_by_word"], abs=1)


@pytest.mark.parametrize(
    "model",
    [
        f"Grouper(Agg(on='x', by='word', how={WINDOW}), by='word') | LinearRegression()",
        f"Select('x') | BaggingRegressor(Agg(on='x', by='word', how={WINDOW}) | LinearRegression(), n_models=2)",
    ],
)
def test_a_window_over_time_stands_where_the_time_reaches_it(model: str) -> None:
    with pytest.raises(PipelineError, match="TimeRolling only works in Agg or TargetAgg"):
        pipeline(model)


def test_an_aggregate_of_the_label_needs_no_feature_called_y() -> None:
    assert pipeline("TargetAgg(by='word', how=Mean()) | LinearRegression()").model
    with pytest.raises(PipelineError, match="TargetAgg names 'wort'"):
        pipeline("TargetAgg(by='wort', how=Mean()) | LinearRegression()")
