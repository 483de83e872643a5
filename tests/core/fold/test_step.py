"""One step at a time: what each record makes of a shard, exactly."""

from __future__ import annotations

from driftline.core.output import Alert, ModelVersion, Outcome, Prediction, Rejected, Score
from tests.support.folding import step
from tests.support.small import NOW_MS, chosen, control, event, fold, kinds, label, malformed, only, shard, tick

WAIT_MS = 100_000
X_ALONE = {"features": {"x": "number"}}


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
