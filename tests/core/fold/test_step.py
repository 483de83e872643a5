"""One step at a time: what each record makes of a shard, exactly."""

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
from driftline.core.record import Tick
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.poisonous import BAD
from tests.support.small import NOW_MS, chosen, control, event, fold, kinds, label, malformed, small

WAIT_MS = 100_000
X_ALONE = {"features": {"x": "number"}}


def shard(task: str = "binary", **sections: Any) -> Shard:
    return Shard(small(task, **sections), 0)


def tick(time_ms: int, number: int = 9) -> Tick:
    return Tick(0, number, time_ms)


def only(outputs: Sequence[Output], kind: type) -> Any:
    assert len(outputs) == 1, outputs
    assert isinstance(outputs[0], kind)
    return outputs[0]


# -- events


def test_an_event_is_scored_before_anything_was_learned() -> None:
    here = shard()
    made = only(step(here, event("e", NOW_MS, 2.0, offset=7)), Score)
    assert made.output_id == "p.events-0-7-0"
    assert (made.event_id, made.time_ms, made.guard, made.decision) == ("e", NOW_MS, "served", None)
    assert made.prediction == Prediction(label=False, probabilities={False: 0.5, True: 0.5}, value=0.5)
    assert made.version == ModelVersion(0, 0)
    assert here.counts == {"scored": 1}
    assert here.positions == {"p.events": 8}
    assert (here.watermark_ms, here.stamp_ms) == (NOW_MS, NOW_MS)
    assert "e" in here.pending
    assert here.next_deadline_ms == NOW_MS + WAIT_MS


def test_the_same_event_twice_is_scored_once() -> None:
    here = shard()
    assert kinds(fold(here, event("e"), event("e", offset=1))) == ["Score", "duplicate_event"]
    assert here.counts == {"scored": 1, "rejected_duplicate_event": 1}
    joined = fold(here, label("e", True), event("e", offset=2))
    assert kinds(joined) == ["joined", "duplicate_event"]
    assert here.counts["learned"] == 1


def test_a_repeat_behind_the_horizon_is_a_new_event() -> None:
    here = shard(dedupe={"horizon": "10s"}, label={"wait": "1s"})
    assert kinds(fold(here, event("e", NOW_MS), event("f", NOW_MS + 10_000))) == ["Score", "expired", "Score"]
    assert kinds(fold(here, event("e", NOW_MS + 10_000))) == ["duplicate_event"]
    assert kinds(fold(here, event("e", NOW_MS + 10_001))) == ["Score"]


def test_a_repeat_of_an_event_that_still_waits_is_told_even_if_its_id_was_forgotten() -> None:
    here = shard(dedupe={"max": 1})
    assert kinds(fold(here, event("e"), event("f"), event("e"))) == ["Score", "Score", "duplicate_event"]


def test_ids_of_different_types_are_different_events() -> None:
    here = shard()
    assert kinds(fold(here, event("1"), event(1), label(1, True))) == ["Score", "Score", "joined"]
    assert "1" in here.pending


def test_a_decision_is_by_the_threshold() -> None:
    at_half = shard(decision={"threshold": 0.5})
    assert only(step(at_half, event("e")), Score).decision is True
    above = shard(decision={"threshold": 0.51})
    assert only(step(above, event("e")), Score).decision is False


def test_a_model_that_raises_rejects_the_event_and_goes_on() -> None:
    here = shard()
    here.learner.predict = _raise
    made = only(step(here, event("e")), Rejected)
    assert (made.reason, made.detail) == ("model_error", "ZeroDivisionError: of the model's own")
    assert here.counts == {"rejected_model_error": 1}
    assert "e" not in here.pending
    here.learner.attach(here.pipeline)
    assert kinds(fold(here, event("e", offset=1))) == ["Score"]  # it was not scored before, so it is no repeat


def _raise(*_: object) -> Prediction:
    raise ZeroDivisionError("of the model's own")


# -- labels


def test_a_label_is_joined_to_what_was_served() -> None:
    here = shard()
    served = only(step(here, event("e", NOW_MS, 2.0)), Score)
    fold(here, event("f", NOW_MS + 1, offset=1), label("f", True, NOW_MS + 2))
    made = only(step(here, label("e", True, NOW_MS + 50, offset=4)), Outcome)
    assert (made.kind, made.output_id, made.event_id) == ("joined", "p.events-0-0-1", "e")
    assert (made.prediction, made.version) == (served.prediction, ModelVersion(0, 0))
    assert (made.features, made.event_time_ms, made.label, made.label_time_ms) == (
        (2.0, "a"),
        NOW_MS,
        True,
        NOW_MS + 50,
    )
    assert (made.key, made.stamp_ms, made.detail) == (b"e", NOW_MS + 50, None)
    assert here.learner.version == ModelVersion(0, 2)
    assert here.counts == {"scored": 2, "joined": 2, "learned": 2}
    assert len(here.pending) == 0


def test_learning_comes_after_scoring_and_changes_the_next_score() -> None:
    here = shard()
    first, outcome, second = fold(here, event("e", x=1.0), label("e", True), event("f", x=3.0, offset=1))
    assert isinstance(first, Score)
    assert isinstance(second, Score)
    assert isinstance(outcome, Outcome)
    assert second.version == ModelVersion(0, 1)
    assert second.prediction.value is not None
    assert second.prediction.value > 0.5
    assert here.evaluation.values()["label_count"] == 1


def test_a_label_before_its_event_waits_for_it() -> None:
    here = shard()
    assert fold(here, label("e", True, NOW_MS - 5)) == []
    assert len(here.early) == 1
    score, outcome = fold(here, event("e", NOW_MS))
    assert isinstance(score, Score)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.label, outcome.label_time_ms) == ("joined", True, NOW_MS - 5)
    assert (score.output_id, outcome.output_id) == ("p.events-0-0-0", "p.events-0-0-1")
    assert score.version == ModelVersion(0, 0)  # scored first
    assert (len(here.early), len(here.pending)) == (0, 0)
    assert here.counts == {"scored": 1, "joined": 1, "learned": 1}


def test_a_label_whose_event_never_comes_is_an_orphan_after_its_wait() -> None:
    here = shard(label={"early": "10s"})
    fold(here, label("e", True, NOW_MS))
    assert here.next_deadline_ms == NOW_MS + 10_000
    assert fold(here, tick(NOW_MS + 10_000)) == []
    made = only(fold(here, tick(NOW_MS + 10_001)), Outcome)
    assert (made.kind, made.event_id, made.label, made.prediction) == ("orphan", "e", True, None)
    assert made.output_id == "p.labels-0-0-0"
    assert here.counts == {"orphan": 1}
    assert kinds(fold(here, event("e", NOW_MS + 10_001))) == ["Score"]
    assert "e" in here.pending


def test_a_second_label_changes_nothing() -> None:
    here = shard()
    fold(here, event("e"), label("e", True))
    made = only(fold(here, label("e", False, offset=1)), Outcome)
    assert (made.kind, made.label, made.version) == ("duplicate", False, None)
    assert here.counts == {"scored": 1, "joined": 1, "learned": 1, "duplicate": 1}


def test_a_second_early_label_changes_nothing() -> None:
    here = shard()
    assert kinds(fold(here, label("e", True), label("e", False, offset=1))) == ["duplicate"]
    _, outcome = fold(here, event("e"))
    assert isinstance(outcome, Outcome)
    assert outcome.label is True


def test_a_label_after_the_wait_is_late() -> None:
    here = shard()
    fold(here, event("e", NOW_MS))
    assert kinds(fold(here, event("f", NOW_MS + WAIT_MS, offset=1))) == ["Score"]
    made = fold(here, event("g", NOW_MS + WAIT_MS + 1, offset=2))
    assert kinds(made) == ["expired", "Score"]
    assert [one.output_id for one in chosen(made, Outcome)] == ["p.events-0-0-1"]
    assert kinds(fold(here, label("e", True, NOW_MS + WAIT_MS + 1))) == ["late"]
    assert here.counts == {"scored": 3, "expired": 1, "late": 1}


def test_a_missing_label_can_be_assumed() -> None:
    here = shard(label={"missing": {"assume": 0}})
    fold(here, event("e", NOW_MS))
    made = only(fold(here, tick(NOW_MS + WAIT_MS + 1)), Outcome)
    assert (made.kind, made.label, made.label_time_ms, made.detail) == (
        "assumed",
        False,
        None,
        "no label arrived within label.wait",
    )
    assert here.counts == {"scored": 1, "assumed": 1, "learned": 1}
    assert here.evaluation.values()["label_count"] == 1
    assert kinds(fold(here, label("e", True, NOW_MS + WAIT_MS + 2))) == ["late"]


def test_too_many_waiting_events_end_the_oldest() -> None:
    here = shard(label={"pending_max": 2})
    made = fold(here, event("a"), event("b", offset=1), event("c", offset=2))
    assert kinds(made) == ["Score", "Score", "Score", "expired"]
    dropped = chosen(made, Outcome)[0]
    assert (dropped.event_id, dropped.detail) == ("a", "more events were waiting than label.pending_max")
    assert dropped.output_id == "p.events-0-0-1"
    assert kinds(fold(here, label("a", True))) == ["late"]


def test_too_many_early_labels_end_the_oldest() -> None:
    here = shard(label={"early_max": 1})
    made = fold(here, label("a", True), label("b", True, offset=1))
    assert kinds(made) == ["orphan"]
    assert chosen(made, Outcome)[0].detail == "more early labels were held than label.early_max"
    assert (len(here.early), "b" in here.early) == (1, True)


def test_a_model_that_cannot_learn_a_pair_is_told_of_and_goes_on() -> None:
    here = shard(event=X_ALONE, model="tests.support.poisonous:learns_badly")
    made = fold(here, event("e", x=BAD, word=False), label("e", True))
    assert kinds(made) == ["Score", "failed"]
    assert chosen(made, Outcome)[0].detail == "and that is too much"
    assert here.counts == {"scored": 1, "failed": 1}
    assert here.learner.version == ModelVersion(0, 0)


def test_labels_without_a_label_section_are_unexpected() -> None:
    here = shard("anomaly", label=None)
    assert kinds(fold(here, label("e", True))) == ["unexpected_label"]


def test_one_class_too_many_is_rejected() -> None:
    here = shard("multiclass", limits={"classes_max": 2})
    records = [event(name) for name in "abcd"]
    fold(here, *records)
    labels = [label("a", "x"), label("b", "y"), label("c", "z"), label("d", "x")]
    assert kinds(fold(here, *labels)) == ["joined", "joined", "too_many_classes", "joined"]
    assert here.classes == {"x": 2, "y": 1}
    assert "c" in here.pending


# -- time


def test_the_watermark_never_goes_back() -> None:
    here = shard()
    fold(here, event("a", NOW_MS), event("b", NOW_MS - 50_000, offset=1), label("x", True, NOW_MS - 10))
    assert here.watermark_ms == NOW_MS
    assert here.next_deadline_ms == NOW_MS + WAIT_MS  # also of the event that came late
    fold(here, tick(NOW_MS - 1))
    assert here.watermark_ms == NOW_MS


def test_a_time_far_ahead_is_scored_and_moves_nothing() -> None:
    here = shard()
    fold(here, event("a", NOW_MS))
    made = fold(here, event("b", NOW_MS + 10**12, offset=1, ahead=True))
    assert kinds(made) == ["Score"]
    assert here.watermark_ms == NOW_MS
    assert kinds(fold(here, label("b", True, NOW_MS + 10**12, ahead=True))) == ["joined"]
    assert here.watermark_ms == NOW_MS


def test_what_came_before_the_first_trusted_time_counts_from_it() -> None:
    """It neither expires nor is forgotten when time begins: an event is scored once, and its label is learned."""
    here = shard()
    fold(here, event("a", NOW_MS, ahead=True), label("z", True, NOW_MS, ahead=True))
    assert (here.watermark_ms, here.next_deadline_ms) == (None, None)  # no tick can be due: time has not begun
    assert kinds(fold(here, event("b", NOW_MS, offset=1))) == ["Score"]
    assert here.next_deadline_ms == NOW_MS + WAIT_MS
    assert kinds(fold(here, event("a", NOW_MS, offset=2))) == ["duplicate_event"]
    assert kinds(fold(here, label("a", True, NOW_MS + WAIT_MS))) == ["joined"]
    assert kinds(fold(here, tick(NOW_MS + WAIT_MS + 1))) == ["expired", "orphan"]


def test_expiry_goes_by_age_and_is_named_by_what_expires() -> None:
    here = shard()
    fold(here, event("a", NOW_MS), event("b", NOW_MS + 1, offset=1), label("c", True, NOW_MS + 2))
    made = chosen(fold(here, tick(NOW_MS + WAIT_MS + 3, number=4)), Outcome)
    assert [(one.kind, one.event_id, one.output_id) for one in made] == [
        ("expired", "a", "p.events-0-0-1"),
        ("expired", "b", "p.events-0-1-1"),
        ("orphan", "c", "p.labels-0-0-0"),
    ]
    assert here.next_deadline_ms is None


def test_an_id_does_not_depend_on_what_else_ends_at_the_same_record() -> None:
    """A slice that is folded again after other records gives the same thing the same id (at_least_once)."""
    ended_by_tick, ended_by_event = shard(), shard()
    last = event("c", NOW_MS + WAIT_MS + 9, offset=2)
    for here in (ended_by_tick, ended_by_event):
        fold(here, event("a", NOW_MS), event("b", NOW_MS + 1, offset=1))
    first = fold(ended_by_tick, tick(NOW_MS + WAIT_MS + 5), last)
    second = fold(ended_by_event, last)
    assert kinds(first) == kinds(second) == ["expired", "expired", "Score"]
    assert [one.output_id for one in first] == [one.output_id for one in second]


def test_outputs_that_no_input_causes_carry_the_latest_record_time() -> None:
    here = shard()
    fold(here, event("a", NOW_MS), malformed("empty", offset=1))
    made = only(fold(here, tick(NOW_MS + WAIT_MS + 1)), Outcome)
    assert made.stamp_ms == NOW_MS


# -- what is refused before it gets here


def test_a_malformed_record_is_rejected_and_moves_no_time() -> None:
    here = shard()
    made = only(step(here, malformed("not_json", offset=3)), Rejected)
    assert (made.output_id, made.reason, made.detail) == ("p.events-0-3-0", "not_json", "why")
    assert here.counts == {"rejected_not_json": 1}
    assert (here.watermark_ms, here.positions) == (None, {"p.events": 4})


# -- tasks


def test_regression_serves_numbers_and_learns() -> None:
    here = shard("regression")
    score, outcome = fold(here, event("e"), label("e", 3.5))
    assert isinstance(score, Score)
    assert score.prediction == Prediction(value=0.0)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.label) == ("joined", 3.5)
    assert here.evaluation.values()["MAE"] == 3.5


def test_multiclass_can_say_nothing_at_first() -> None:
    here = shard("multiclass")
    first, _, second = fold(here, event("e"), label("e", "rain"), event("f", offset=1))
    assert isinstance(first, Score)
    assert isinstance(second, Score)
    assert first.prediction.label is None
    assert second.prediction.label == "rain"


def test_anomaly_learns_at_the_event_and_labels_only_evaluate() -> None:
    here = shard("anomaly")
    score = only(step(here, event("e", word=False)), Score)
    assert score.prediction.label is None
    assert here.counts == {"scored": 1, "learned": 1}
    made = only(step(here, label("e", True)), Outcome)
    assert made.kind == "joined"
    assert here.counts == {"scored": 1, "learned": 1, "joined": 1}
    assert here.evaluation.values()["label_count"] == 1


def test_anomaly_without_labels_keeps_nothing_waiting() -> None:
    here = shard("anomaly", label=None)
    fold(here, event("e", word=False), event("f", offset=1, word=False))
    assert len(here.pending) == 0
    assert here.next_deadline_ms is None
    assert kinds(fold(here, event("e", offset=2, word=False))) == ["duplicate_event"]


def test_a_model_without_probabilities_serves_its_class() -> None:
    model = "VotingClassifier([GaussianNB(), GaussianNB()], use_probabilities=False)"
    voting = shard("multiclass", event=X_ALONE, model=model)
    fold(voting, event("e", word=False), label("e", "a"))
    made = only(step(voting, event("f", offset=1, word=False)), Score)
    assert made.prediction == Prediction(label="a")


# -- operators


def test_freeze_stops_learning_and_nothing_else() -> None:
    here = shard()
    made = fold(here, control("freeze"), event("e"), label("e", True), control("unfreeze", offset=1))
    assert kinds(made) == ["Score", "joined"]
    assert here.learner.version == ModelVersion(0, 0)
    assert here.evaluation.values()["label_count"] == 1
    fold(here, event("f", offset=1), label("f", True, offset=1))
    assert here.learner.version == ModelVersion(0, 1)
    assert here.counts["control_freeze"] == here.counts["control_unfreeze"] == 1


def test_reset_begins_with_an_untrained_model_as_a_new_generation() -> None:
    here = shard()
    fold(here, event("e"), label("e", True), control("reset"))
    made = only(step(here, event("f", offset=1)), Score)
    assert made.version == ModelVersion(1, 1)
    assert made.prediction.value == 0.5
    assert here.counts["scored"] == 2


# -- a model that breaks down


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


# -- drift


def test_a_rising_error_alerts_and_a_falling_one_is_counted() -> None:
    here = shard(
        event=X_ALONE,
        model="NoChangeClassifier()",
        drift={"error": "ADWIN(delta=0.002)", "warmup_labels": 0},
    )
    alerts: list[Alert] = []
    for number in range(3_000):
        right = number < 1_000 or number >= 2_000
        truth = True if right else number % 2 == 0
        alerts += chosen(fold(here, event(number, offset=number, word=False), label(number, truth)), Alert)
    (alert,) = alerts
    assert (alert.kind, alert.state) == ("concept_drift", "opened")
    assert alert.evidence["direction"] == "rise"
    assert alert.output_id.startswith("p.labels-0-")
    assert here.drifts[("error", "drift rise")] >= 1
    assert here.drifts[("error", "drift fall")] >= 1


# -- the whole


def test_a_summary_for_people() -> None:
    here = shard()
    fold(here, event("a"), event("b", offset=1), label("a", True), label("x", True, offset=1))
    summary = here.summary()
    assert (summary["pending"], summary["early"], summary["version"], summary["frozen"]) == (1, 1, "0.1", False)
    assert summary["counts"] == {"scored": 2, "joined": 1, "learned": 1}
    assert summary["metrics"]["label_count"] == 1


def test_features_are_seen_in_declared_order_without_the_omitted_ones() -> None:
    features = {"x": {"type": "number", "missing": "omit"}, "word": "string"}
    here = shard(event={"features": features})
    assert list(here.learner.features_of((1.0, "a")).items()) == [("x", 1.0), ("word", "a")]
    assert list(here.learner.features_of((None, "a")).items()) == [("word", "a")]


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
