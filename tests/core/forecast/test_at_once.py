"""What is done with all horizons of an observation at once is what each of them by itself would do."""

from __future__ import annotations

import random
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.core.digest import digest_of
from driftline.core.forecast.board import Board
from driftline.core.forecast.transform import transform_of
from driftline.core.metric.evaluation import Evaluation
from driftline.core.metric.maturity import Maturity
from driftline.core.output import Prediction
from driftline.core.pipeline import Pipeline, parse_pipeline

HORIZONS = 6


def pipeline_of(**more: Any) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "loads",
            "task": "forecast",
            "event": {"id": "id", "features": {"load": "number", "site": "string"}, "context": {"series": "key"}},
            "forecast": {"by": "series", "target": "load", "step": "1h", "horizons": HORIZONS, "season": 24},
            "model": "HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality=24)",
            "metrics": ["MAE", "MSE", "RMSE", "RMSLE", "R2", "SMAPE"],
            **more,
        }
    )


def predictions(source: random.Random) -> list[Prediction]:
    values = [source.choice((source.gauss(0, 1e3), 0.0, 1e200, nan, inf)) for _ in range(source.randrange(HORIZONS))]
    return [Prediction(value=value) for value in values]


@pytest.mark.parametrize("revertible", [False, True])
def test_metrics_take_in_all_horizons_as_one_by_one(revertible: bool) -> None:
    pipeline = pipeline_of()
    together, apart = Evaluation.of(pipeline), Evaluation.of(pipeline)
    together.revertible = apart.revertible = revertible
    source = random.Random(3)
    for _ in range(200):
        truth, made = source.gauss(0, 1e3), predictions(source)
        together.update_all(truth, made)
        for one in made:
            apart.update(truth, one)
    assert digest_of(together) == digest_of(apart)
    assert together.window_values() == apart.window_values()


@pytest.mark.parametrize(
    "more", [{}, {"metric_by": {"segment": "site"}}, {"metric_by": {"ages": ["2h"]}}, {"metric_span": "1d"}]
)
def test_delays_and_splits_take_in_all_horizons_as_one_by_one(more: dict[str, Any]) -> None:
    pipeline = pipeline_of(**more)
    together, apart = Maturity(pipeline), Maturity(pipeline)
    source = random.Random(3)
    for number in range(100):
        truth, made, features = source.gauss(0, 1e3), predictions(source), (1.0, source.choice("ab"))
        delays_ms = [(horizon + 1) * 3_600_000 for horizon in range(len(made))]
        together.on_truth(pipeline, truth, delays_ms, made, features, number * 1_000)
        for horizon, one in enumerate(made):
            at = (delays_ms[horizon], one, features, number * 1_000)
            apart.on_label(pipeline, truth, *at, first=horizon == 0)
    assert digest_of(together) == digest_of(apart)


def test_a_board_adds_the_horizons_that_were_served() -> None:
    board, expected = Board(HORIZONS), np.zeros_like(Board(HORIZONS).sums)
    source = np.random.default_rng(3)
    for horizons in ((1, 2, 3), (1, 2, 3, 4, 5, 6), (2, 3), (1, 3, 6), (), (1,), (6,)):
        added = source.normal(size=(len(horizons), expected.shape[1]))
        board.add(horizons, added)
        for horizon, sums in zip(horizons, added, strict=True):
            expected[horizon - 1] += sums
    assert np.array_equal(board.sums, expected)


numbers = st.floats(width=64) | st.sampled_from([0.0, -0.0, 1e308, -1e308])


@given(st.lists(st.tuples(numbers, st.none() | st.floats(min_value=0) | st.just(nan)), max_size=8), st.data())
def test_bounds_lie_around_what_is_seen(pairs: list[tuple[float, float | None]], data: st.DataObject) -> None:
    transform = transform_of(data.draw(st.sampled_from(["none", "sqrt", "log"])), data.draw(st.none() | st.just(0.0)))
    lower, upper = transform.bounds([value for value, _ in pairs], [half for _, half in pairs])
    least, back = transform.least, transform.back
    for (value, half), low, high in zip(pairs, lower, upper, strict=True):
        expected: tuple[float | None, float | None] = (None, None)
        if half is not None and not isnan(half):
            found = back(max(value - half, least)), back(max(value + half, least))
            expected = found if -inf < found[0] and found[1] < inf else expected
        assert repr((low, high)) == repr(expected)
    assert repr(transform.restored([value for value, _ in pairs])) == repr([back(max(one, least)) for one, _ in pairs])
