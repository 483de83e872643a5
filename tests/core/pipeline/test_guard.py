"""What a guard may say in the pipeline file, and every fault that it is refused for."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.error import PipelineError
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.pipeline.guard import Constant, Seasonal
from tests.support import series
from tests.support.small import small


def guarded(task: str = "regression", **guard: Any) -> Pipeline:
    return small(task, guard=guard)


def test_a_guard_is_read_and_written_as_it_was() -> None:
    pipeline = guarded(
        by="word",
        untrained={"labels_min": 500},
        range={"min": 0, "max": 5_000.5},
        step={"ratio_max": 3, "tolerance": 10},
        fallback=["last_good", "last_value", {"seasonal": "7d"}, {"value": 0}],
    )
    guard = pipeline.guard
    assert guard is not None
    assert (guard.by, guard.season_ms, guard.keys_max) == (("word",), 7 * 86_400_000, 10_000)
    assert [rung.action for rung in guard.rungs.values()] == ["flag", "clip", "fallback"]
    assert guard.fallback == ("last_good", "last_value", Seasonal(seasonal="7d"), Constant(value=0))  # type: ignore[arg-type]
    assert parse_pipeline(pipeline.resolved()) == pipeline
    assert guarded(range={"min": 0}, fallback={"value": 1}).guard.fallback == (Constant(value=1),)  # type: ignore[union-attr]
    assert small("regression", guard=None).guard is None


@pytest.mark.parametrize(
    ("task", "guard", "place", "why"),
    [
        ("regression", {}, "guard", "has no limits"),
        ("regression", {"range": {}}, "guard.range", "needs a min or a max"),
        ("regression", {"range": {"min": 5, "max": 1}}, "guard.range", "nothing could be served"),
        ("regression", {"range": {"min": 5, "action": "fallback"}}, "guard.range.action", "needs guard.fallback"),
        ("regression", {"range": {"min": 5, "action": "hide"}}, "guard.range.action", "must be 'flag'"),
        ("regression", {"range": {"max": 5, "limit": 3}}, "guard.range.limit", "unknown key"),
        ("regression", {"range": {"max": float("nan")}}, "guard.range.max", "must be a finite number"),
        ("binary", {"range": {"max": 5}}, "guard.range.max", "must be a probability"),
        ("binary", {"range": {"min": -0.1}}, "guard.range.min", "must be a probability"),
        ("multiclass", {"range": {"max": 5}}, "guard.range", "remove it for multiclass"),
        ("multiclass", {"step": {"ratio_max": 5}}, "guard.step", "remove it for multiclass"),
        ("regression", {"step": {}}, "guard.step", "needs ratio_max or difference_max"),
        ("regression", {"step": {"ratio_max": 1}}, "guard.step.ratio_max", "greater than 1"),
        ("regression", {"step": {"difference_max": 1, "tolerance": 2}}, "guard.step.tolerance", "never applies"),
        ("regression", {"untrained": {}}, "guard.untrained.labels_min", "is required"),
        ("regression", {"untrained": {"labels_min": 0}}, "guard.untrained.labels_min", "greater than or equal to 1"),
        ("regression", {"untrained": {"labels_min": 5, "action": "clip"}}, "guard.untrained.action", "must be"),
        ("regression", {"range": {"max": 5}, "fallback": [{"value": 9}]}, "guard.fallback.0", "outside guard.range"),
        ("regression", {"range": {"max": 5}, "fallback": [{"value": "x"}]}, "guard.fallback.0", "must be a number"),
        ("regression", {"range": {"max": 5}, "fallback": "mean"}, "guard.fallback.0", "write last_good, last_value"),
        ("regression", {"range": {"max": 5}, "fallback": [{"value": 1}, "last_good"]}, "guard.fallback.1", "is never"),
        ("regression", {"range": {"max": 5}, "fallback": ["last_good"] * 2}, "guard.fallback.1", "is listed twice"),
        ("regression", {"range": {"max": 5}, "fallback": [{"seasonal": "1s"}]}, "guard.fallback.0.seasonal", "60000"),
        ("regression", {"range": {"max": 5}, "fallback": [{"seasonal": "1d"}, {"seasonal": "7d"}]}, "guard.fallback.1",
         "second season"),
        ("binary", {"range": {"max": 0.5}, "fallback": [{"value": 3}]}, "guard.fallback.0", "must be a probability"),
        ("multiclass", {"untrained": {"labels_min": 5}, "fallback": "last_value"}, "guard.fallback.0", "multiclass"),
        ("multiclass", {"untrained": {"labels_min": 5}, "fallback": {"value": 0.5}}, "guard.fallback.0", "a class"),
        ("regression", {"share": {"positive_max": 0.1}}, "guard.share", "is for yes or no"),
        ("anomaly", {"share": {"positive_max": 0.1}}, "guard.share", "needs `decision`"),
        ("multiclass", {"share": {"positive_max": 0.1}}, "guard.share", "remove it for multiclass"),
        ("binary", {"share": {"positive_max": 0}}, "guard.share.positive_max", "greater than 0"),
        ("binary", {"distribution": {"distance_max": 1}}, "guard.distribution.distance_max", "less than 1"),
        ("binary", {"distribution": {"distance_max": 0.5, "latest": 9}}, "guard.distribution.latest", "20"),
        ("binary", {"unfamiliar": {"score_max": 1}}, "guard.unfamiliar.score_max", "less than 1"),
        ("binary", {"unfamiliar": {"score_max": 0.9, "action": "clip"}}, "guard.unfamiliar.action", "must be"),
        ("recommend", {"range": {"max": 5}}, "guard.range", "remove it for recommend"),
        ("recommend", {"untrained": {"labels_min": 5}, "fallback": {"value": 0}}, "guard.fallback.0", "of a slate"),
        ("regression", {"untrained": {"labels_min": 5, "action": "fallback"}, "fallback": [{"model": "Select('z')"}]},
         "guard.fallback.0.model", "not a declared feature"),
        ("regression", {"range": {"max": 5}, "by": "word"}, "guard.by", "add one of them"),
        ("regression", {"step": {"ratio_max": 2}, "by": "wort", "fallback": "last_value"}, "guard.by",
         "did you mean 'word'"),
        ("regression", {"step": {"ratio_max": 2}, "by": ["x", "x"], "fallback": "last_value"}, "guard.by", "twice"),
    ],
)  # fmt: skip
def test_a_guard_that_can_do_nothing_or_contradicts_itself_is_refused(
    task: str, guard: dict[str, Any], place: str, why: str
) -> None:
    with pytest.raises(PipelineError) as refused:
        guarded(task, **guard)
    found = {problem.path: problem.message for problem in refused.value.problems}
    assert place in found, found
    assert why in found[place]


def test_probabilities_are_needed_for_a_range_of_them() -> None:
    with pytest.raises(PipelineError, match=r"guard\.range.*gives only classes"):
        small(model="VotingClassifier([GaussianNB(), GaussianNB()])", event={"features": {"x": "number"}},
              guard={"range": {"max": 0.9}}, metrics="Accuracy")  # fmt: skip


@pytest.mark.parametrize("limit", [{"least": 0}, {"transform": "log"}, {"transform": "sqrt", "least": 2}])
def test_a_range_below_all_that_can_be_forecast_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"guard\.range\.max = -5.* so nothing could be served"):
        series.pipeline(guard={"range": {"min": -10, "max": -5}}, **limit)
    series.pipeline(guard={"range": {"min": -10, "max": 5}}, **limit)


def test_a_field_may_be_read_for_the_guard_alone() -> None:
    guard = {"by": ["shop", "word"], "step": {"ratio_max": 2}, "fallback": "last_value"}
    event = {"context": {"shop": "key"}}
    model = "Select('x') | StandardScaler() | LinearRegression()"
    assert small("regression", event=event, guard=guard, model=model).guard is not None
    with pytest.raises(PipelineError, match="the guard or a KPI"):
        small("regression", event=event, model=model)


@pytest.mark.parametrize(
    ("guard", "place", "why"),
    [
        ({"by": "item", "step": {"ratio_max": 2, "action": "flag"}}, "guard.by", "are those of forecast.by"),
        ({"range": {"min": 0}, "fallback": {"seasonal": "7d"}}, "guard.fallback.0", "write seasonal alone"),
        ({"share": {"positive_max": 0.5}}, "guard.share", "is for yes or no"),
        ({"width": {}}, "guard.width", "needs max or ratio_max"),
        ({"range": {"min": 3, "max": 2}}, "guard.range", "min is above max"),
        ({"range": {"max": 9, "action": "fallback"}, "fallback": {"value": 10}}, "guard.fallback.0", "lies outside"),
        ({"range": {"max": 9, "action": "hold"}}, "guard.range.action", "needs guard.hold"),
    ],
)
def test_a_guard_of_forecasts_refuses_what_is_not_for_them(guard: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(PipelineError) as refused:
        series.pipeline(guard=guard)
    found = {problem.path: problem.message for problem in refused.value.problems}
    assert why in found[place], found


@pytest.mark.parametrize(
    ("guard", "place", "why"),
    [
        ({"width": {"max": 3}}, "guard.width", "is for intervals of forecasts"),
        ({"step": {"ratio_max": 2, "action": "flag", "settle": 9}}, "guard.step.settle", "is for forecasts"),
        (
            {"step": {"ratio_max": 2, "action": "flag", "settle_ratio_max": 9}},
            "guard.step.settle_ratio_max",
            "forecasts",
        ),
        (
            {"step": {"ratio_max": 9, "action": "flag", "settle_ratio_max": 2}},
            "guard.step.settle_ratio_max",
            "ever move",
        ),
        ({"range": {"min": 0}, "fallback": "seasonal"}, "guard.fallback.0", "needs the length of the season"),
    ],
)
def test_other_tasks_refuse_what_is_for_forecasts(guard: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(PipelineError) as refused:
        small("regression", guard=guard)
    found = {problem.path: problem.message for problem in refused.value.problems}
    assert why in found[place], found
