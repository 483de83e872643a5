"""What is served of a model's predictions, and what a score says of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from river import linear_model

from driftline.backtest.measure import total_values
from driftline.backtest.tally import Tally
from driftline.codec.encode import Encoder
from driftline.core.model.learner import COPY_EVERY
from driftline.core.output import Alert, ModelVersion, Outcome, Output, Prediction, Rejected, Score, Unserved
from driftline.core.shard.state import Shard
from tests.support import boastful
from tests.support.erratic import ErraticNamer
from tests.support.folding import step
from tests.support.small import NOW_MS, chosen, control, event, fold, kinds, label, only, shard, small

WAIT_MS = 100_000
X_ALONE = {"features": {"x": "number"}}


# -- a model that breaks down


@pytest.mark.parametrize("name", [2**64, -(2**63) - 1])
def test_a_class_that_no_label_can_be_is_an_exception_of_the_model(name: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON cannot hold its number: it would stop the worker where the score is written."""
    monkeypatch.setattr(ErraticNamer, "predict_proba_one", lambda self, x: {name: 0.7, "a": 0.3})
    here = shard("multiclass", model="tests.support.erratic:namer", params={"temper": "calm"})
    (rejected,) = fold(here, event("a"))
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "model_error"
    assert "beyond 64 bits" in rejected.detail


def _broken(here: Shard) -> None:
    """Weights that are no numbers, as one monstrous value would leave them."""
    for part in here.learner.model.steps.values():
        if isinstance(part, linear_model.LogisticRegression):
            part._weights["x"] = math.nan


def test_a_prediction_that_is_no_number_is_never_served() -> None:
    """Without a good copy, an untrained model takes over; one episode from the failure until it has been quiet."""
    here = shard(alerts={"quiet": "10001ms"})
    fold(here, event("a", x=1.0), label("a", True))
    _broken(here)
    score, alert = fold(here, event("b", x=2.0, offset=1))
    assert isinstance(score, Score)
    assert isinstance(alert, Alert)
    assert (score.guard, score.prediction.value, score.version) == ("fallback", 0.5, ModelVersion(1, 1))
    waiting = here.pending.at(1).waiting
    assert waiting is not None
    assert (waiting.prediction, waiting.version) == (score.prediction, score.version)
    assert waiting.unserved == (Unserved("model", Prediction(), ModelVersion(0, 1)),)
    assert (alert.state, alert.kind, alert.severity, alert.episode) == (
        "opened",
        "model_failure",
        "critical",
        "p-0-model-e1",
    )
    assert alert.positions == {"p.events": 2, "p.labels": 1}
    (again,) = fold(here, event("c", NOW_MS + 10_000, x=2.0, offset=2))
    assert isinstance(again, Score)
    assert again.guard == "served"
    resolved, _ = fold(here, event("d", NOW_MS + 10_001, offset=3))
    assert isinstance(resolved, Alert)
    assert (resolved.state, resolved.episode, resolved.opened_at) == ("resolved", "p-0-model-e1", alert.positions)
    assert kinds(fold(here, event("e", offset=4))) == ["Score"]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("share", [1.5, -0.5, 1.0 + 1e-6, math.inf])
def test_what_is_no_probability_is_never_served(task: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is a guard or not, and whatever its range."""
    monkeypatch.setattr(boastful, "SHARE", share)
    here = shard(task, model="tests.support.boastful:classifier", label={"missing": "drop"})
    score, alert = fold(here, event("a", x=1.0))
    assert isinstance(score, Score)
    assert isinstance(alert, Alert)
    assert (score.guard, score.prediction) == ("withheld", Prediction())
    assert "not a probability from 0 to 1" in alert.sentence


@pytest.mark.parametrize("share", [0.0, 1.0, 1.0 + 2**-52, -(2.0**-52)])
def test_what_sums_round_to_is_served_as_it_is(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boastful, "SHARE", share)
    here = shard(model="tests.support.boastful:classifier", label={"missing": "drop"})
    (score,) = fold(here, event("a", x=1.0))
    assert isinstance(score, Score)
    assert (score.guard, score.prediction.value) == ("served", share)


def test_the_last_good_copy_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COPY_EVERY >= 1_000
    monkeypatch.setattr("driftline.core.model.learner.COPY_EVERY", 3)
    here = shard()
    for number in range(4):
        fold(here, event(number, x=float(number), offset=number), label(number, number % 2 == 0, offset=number))
    _broken(here)
    made = fold(here, event("b", x=2.0, offset=9))[0]
    assert isinstance(made, Score)
    assert (made.guard, made.version) == ("fallback", ModelVersion(1, 4))
    assert made.prediction.value is not None
    assert made.prediction.value != 0.5  # it had learned


def test_a_prediction_is_withheld_when_no_copy_can_say_a_number() -> None:
    here = shard(label={"missing": "drop"})
    here.learner.fall_back = lambda: None  # type: ignore[method-assign]  # the copy is as broken as the model
    fold(here, event("a"), label("a", True))
    _broken(here)
    score, alert = fold(here, event("b", offset=1))
    assert isinstance(score, Score)
    assert (score.guard, score.prediction, score.decision) == ("withheld", Prediction(), None)
    waiting = here.pending.at(1).waiting
    assert waiting is not None
    assert waiting.unserved == ()  # nothing was made, and nothing served
    assert isinstance(alert, Alert)
    assert kinds(fold(here, event("c", offset=2))) == ["Score"]  # the episode is open already
    assert kinds(fold(here, label("b", True, offset=1))) == ["joined"]
    assert here.evaluation.values()["label_count"] == 2


# -- what one score says


UNANSWERING = "Select('x') | GaussianNB()"  # no class is known before the first label
THRESHOLDS = [0.0, 0.05, 0.5, 0.8, 1.0]
BINARY_MODELS = [
    "Select('x') | StandardScaler() | LogisticRegression()",
    UNANSWERING,
    "Select('x') | HoeffdingTreeClassifier()",
]


def stream_of(count: int) -> list[Any]:
    """Events, each followed by the label of the one before."""
    records: list[Any] = []
    for number in range(count):
        records.append(event(number, NOW_MS + number, math.sin(number), offset=number, word=False))
        if number:
            before = number - 1
            records.append(label(before, math.sin(before) + math.sin(5 * before) > 0, NOW_MS + number, offset=number))
    return records


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("model", BINARY_MODELS)
def test_probability_prediction_and_decision_of_a_score_agree(model: str, threshold: float) -> None:
    here = shard(event=X_ALONE, model=model, decision={"threshold": threshold})
    scores = chosen(fold(here, *stream_of(300)), Score)
    answered = [one for one in scores if one.prediction.value is not None]
    assert len(scores) == 300
    assert len(answered) >= 298
    for one in answered:
        assert one.prediction.label is one.decision is (one.prediction.value >= threshold)
    for one in scores[: len(scores) - len(answered)]:
        assert (one.prediction.label, one.decision) == (None, None)


@pytest.mark.parametrize("threshold", [None, *THRESHOLDS])
@pytest.mark.parametrize("model", BINARY_MODELS)
def test_a_backtest_and_a_worker_measure_the_same_answers(model: str, threshold: float | None) -> None:
    decision: dict[str, Any] = {} if threshold is None else {"decision": {"threshold": threshold}}
    metrics = ["Accuracy", "F1", "Recall", "LogLoss", "Brier"]
    pipeline = small(event=X_ALONE, model=model, metrics=metrics, **decision)
    here, tally = Shard(pipeline, 0), Tally(pipeline, None)
    outcomes = chosen(fold(here, *stream_of(300)), Outcome)
    tally.add(outcomes)
    live, backtest = here.evaluation.values(), total_values(tally, None)
    for name in metrics:
        value = backtest[name]
        assert live[name] == pytest.approx(0.0 if math.isnan(value) else value, rel=1e-9), name
    silent = sum(one.prediction.label is None for one in outcomes)
    assert here.summary()["unanswered"] == silent == (0 if "Logistic" in model else 2)
    assert tally.total.sums[0, :2].tolist() == [299, 299 - silent]


def test_unanswered_labels_that_are_taken_back_are_counted_no_more() -> None:
    here = shard(event=X_ALONE, model=UNANSWERING, label={"retract": True})
    fold(here, event("e", x=1.0, word=False), label("e", True))
    assert here.evaluation.unanswered == 1
    fold(here, label("e", None, offset=1))
    assert here.evaluation.unanswered == 0


# -- what the model had learned


def learned_of(outputs: Sequence[Output]) -> list[int]:
    return [one.learned for one in chosen(outputs, Score)]


def test_a_score_says_how_much_its_model_had_learned() -> None:
    here = shard()
    assert learned_of(fold(here, event("a"), label("a", True), event("b", offset=1))) == [0, 1]
    made = fold(here, control("reset"), event("c", offset=2))
    assert (learned_of(made), here.learner.version) == ([0], ModelVersion(1, 1))  # the version counts all generations
    assert learned_of(fold(here, label("b", False, offset=1), label("c", True, offset=2), event("d", offset=3))) == [2]
    events_only = shard("anomaly", label=None)
    assert learned_of(fold(events_only, event("a", word=False), event("b", word=False, offset=1))) == [0, 1]


def test_the_last_good_copy_has_learned_what_it_had_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.model.learner.COPY_EVERY", 3)
    here = shard()
    fold(here, event("before"), label("before", True), control("reset"))
    for number in range(4):
        fold(here, event(number, offset=number), label(number, number % 2 == 0, offset=number))
    _broken(here)
    assert learned_of(fold(here, event("b", x=2.0, offset=9))) == [2]  # of the third learn call of all
    assert here.learner.version == ModelVersion(2, 5)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.5, 0.50001, 1.0])
def test_an_untrained_model_says_so_and_does_not_contradict_itself(threshold: float | None) -> None:
    here = shard(decision=None if threshold is None else {"threshold": threshold})
    score = only(step(here, event("e")), Score)
    value = orjson.loads(Encoder(here.pipeline, 0).encode(score).value or b"")
    assert (value["learned"], value["probability"]) == (0, 0.5)
    assert value["prediction"] is (threshold is not None and value["probability"] >= threshold)
    assert value.get("decision") == (None if threshold is None else value["prediction"])
