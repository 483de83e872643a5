"""What a label makes of a shard, one step at a time."""

from __future__ import annotations

from driftline.core.output import ModelVersion, Outcome, Score
from tests.support.folding import step
from tests.support.poisonous import BAD
from tests.support.small import NOW_MS, chosen, event, fold, kinds, label, only, shard, tick

WAIT_MS = 100_000
X_ALONE = {"features": {"x": "number"}}


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
