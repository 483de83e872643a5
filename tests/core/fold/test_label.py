"""The life of a label: second, late, early, several, and taken back. Each way ends in the outcomes, counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from driftline.codec.decode import Decoder
from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.output import ModelVersion, Outcome, Output
from driftline.core.record import Label, LabelValue, Malformed
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.schema import check
from tests.support.small import NOW_MS, event, fold, kinds, label, label_bytes, small, source, tick

WAIT_MS = 100_000
CORRECT: dict[str, Any] = {"second": "correct"}
RETRACT: dict[str, Any] = {"retract": True}
LATE: dict[str, Any] = {"missing": {"assume": 0}, "late": "correct"}


def shard(task: str = "binary", **label_section: Any) -> Shard:
    return Shard(small(task, label=label_section, metrics=None if task != "regression" else ["MAE"]), 0)


def one(made: list[Output]) -> Outcome:
    assert len(made) == 1, made
    assert isinstance(made[0], Outcome)
    return made[0]


def metrics_of(here: Shard) -> dict[str, Any]:
    return {**here.evaluation.values(), **{f"window {k}": v for k, v in here.evaluation.window_values().items()}}


# -- second labels


def test_another_label_corrects_the_first() -> None:
    here = shard(**CORRECT)
    first, _ = fold(here, event("e", NOW_MS, 2.0), label("e", True, NOW_MS + 5))
    made = one(fold(here, label("e", False, NOW_MS + 50, offset=7)))
    assert (made.kind, made.label, made.previous_label, made.output_id) == ("corrected", False, True, "p.labels-0-7-0")
    assert (made.features, made.prediction, made.version) == ((2.0, "a"), first.prediction, ModelVersion(0, 0))  # type: ignore[union-attr]  # a score
    assert (made.event_time_ms, made.label_time_ms) == (NOW_MS, NOW_MS + 50)
    assert here.counts == {"scored": 1, "joined": 1, "corrected": 1, "learned": 2}
    assert here.evaluation.values()["Accuracy"] == 1.0  # an untrained model says False
    assert here.evaluation.values()["label_count"] == 1
    assert here.maturity.joined == 1


def test_an_equal_second_label_is_a_duplicate() -> None:
    here = shard(**CORRECT)
    fold(here, event("e"), label("e", True))
    made = one(fold(here, label("e", True, offset=1)))
    assert (made.kind, made.detail) == ("duplicate", "the event already has this label")
    assert here.counts["learned"] == 1


def test_a_label_may_be_corrected_again_and_again() -> None:
    here = shard(**CORRECT)
    fold(here, event("e"), label("e", True))
    made = [one(fold(here, label("e", value, offset=at))) for at, value in enumerate((False, True, False), 1)]
    assert [(each.kind, each.label, each.previous_label) for each in made] == [
        ("corrected", False, True),
        ("corrected", True, False),
        ("corrected", False, True),
    ]
    assert here.evaluation.label_count == 1


def test_a_correction_has_its_time() -> None:
    here = shard(**CORRECT, correct_for="10s")
    fold(here, event("e"), event("f", offset=1), label("e", True), label("f", True, offset=1))
    assert kinds(fold(here, label("e", False, NOW_MS + 10_000, offset=2))) == ["corrected"]
    made = one(fold(here, label("f", False, NOW_MS + 10_001, offset=3)))
    assert (made.kind, made.detail) == (
        "duplicate",
        "the label can no longer be corrected: it is past correct_for or correct_max",
    )
    assert here.counts["uncorrectable"] == 1


def test_so_many_events_may_be_corrected() -> None:
    here = shard(**CORRECT, correct_max=1)
    fold(here, event("e"), event("f", offset=1), label("e", True), label("f", True, offset=1))
    again = fold(here, label("e", False, offset=2), label("f", False, offset=3))
    assert kinds(again) == ["duplicate", "corrected"]


def test_a_correction_stays_possible_when_the_id_is_forgotten() -> None:
    here = Shard(small(label=CORRECT, dedupe={"max": 1}), 0)
    fold(here, event("e"), label("e", True), event("f", offset=1), event("g", offset=2))
    assert kinds(fold(here, label("e", False, offset=1), event("e", offset=3))) == ["corrected", "duplicate_event"]


def test_detectors_hear_of_a_pair_once() -> None:
    here = shard(**CORRECT)
    fold(here, event("e"), label("e", True), label("e", False, offset=1))
    assert here.monitors.label_count == 1


def test_another_early_label_takes_the_place_of_the_one_held() -> None:
    here = shard(**CORRECT)
    assert fold(here, label("e", True)) == []
    made = one(fold(here, label("e", False, offset=1)))
    assert (made.kind, made.previous_label, made.features) == ("corrected", True, None)
    assert kinds(fold(here, label("e", False, offset=2))) == ["duplicate"]
    _, joined = fold(here, event("e"))
    assert isinstance(joined, Outcome)
    assert (joined.kind, joined.label, joined.output_id) == ("joined", False, "p.events-0-0-1")


def test_a_corrected_regression_label_replaces_the_error() -> None:
    here = shard("regression", **CORRECT)
    fold(here, event("e"), label("e", 5.0))
    assert here.evaluation.values()["MAE"] == 5.0
    fold(here, label("e", 2, offset=1))
    assert here.evaluation.values() == {"MAE": 2.0, "label_count": 1}
    assert here.evaluation.window_values() == {"MAE": 2.0, "label_count": 1}


# -- late labels


def test_a_late_label_corrects_the_assumption() -> None:
    here = shard(**LATE)
    fold(here, event("e"))
    assert one(fold(here, tick(NOW_MS + WAIT_MS + 1))).kind == "assumed"
    assert (here.evaluation.values()["Accuracy"], here.maturity.coverage) == (1.0, 0.0)
    made = one(fold(here, label("e", True, NOW_MS + WAIT_MS + 50)))
    assert (made.kind, made.label, made.previous_label) == ("corrected", True, False)
    assert (here.evaluation.values()["Accuracy"], here.maturity.coverage) == (0.0, 1.0)
    assert here.evaluation.label_count == 1
    assert here.counts["learned"] == 2
    assert kinds(fold(here, label("e", False, NOW_MS + WAIT_MS + 60))) == ["duplicate"]  # `second` is `ignore`


def test_a_late_label_that_was_assumed_right_is_told() -> None:
    here = shard(**LATE)
    fold(here, event("e"), tick(NOW_MS + WAIT_MS + 1))
    made = one(fold(here, label("e", False, NOW_MS + WAIT_MS + 50)))
    assert (made.kind, made.detail) == ("late", "the label arrived after the wait and is the one that was assumed")
    assert (here.counts["learned"], here.evaluation.label_count, here.maturity.coverage) == (1, 1, 1.0)


def test_a_late_label_after_the_time_for_corrections_is_late() -> None:
    here = shard(**LATE, correct_for="1s")
    fold(here, event("e"), tick(NOW_MS + WAIT_MS + 1))
    assert kinds(fold(here, label("e", True, NOW_MS + WAIT_MS + 1_002))) == ["late"]
    assert here.counts["uncorrectable"] == 1


# -- retractions


@pytest.mark.parametrize("also", [{}, CORRECT])
def test_a_label_is_taken_back_and_may_come_anew(also: dict[str, Any]) -> None:
    here = shard(**RETRACT, **also)
    untouched = metrics_of(here)
    fold(here, event("e"), label("e", True, NOW_MS + 5))
    made = one(fold(here, label("e", None, NOW_MS + 9, offset=1)))
    assert (made.kind, made.label, made.previous_label, made.label_time_ms) == ("retracted", None, True, NOW_MS + 9)
    assert made.features == (1.0, "a")
    assert metrics_of(here) == untouched
    assert here.counts == {"scored": 1, "joined": 1, "learned": 1, "retracted": 1}
    assert (here.maturity.joined, here.maturity.coverage) == (0, 0.0)
    assert kinds(fold(here, label("e", None, offset=2))) == ["unretracted"]
    again = one(fold(here, label("e", False, offset=3)))
    assert (again.kind, again.output_id, again.previous_label) == ("joined", "p.labels-0-3-0", None)
    assert (here.counts["learned"], here.maturity.coverage) == (2, 1.0)


def test_a_held_label_is_taken_back() -> None:
    here = shard(**RETRACT)
    fold(here, label("e", True))
    made = one(fold(here, label("e", None, offset=1)))
    assert (made.kind, made.previous_label, made.features) == ("retracted", True, None)
    assert len(here.early) == 0
    assert kinds(fold(here, event("e"))) == ["Score"]


def test_with_nothing_to_retract_that_is_told_and_counted() -> None:
    here = shard(**RETRACT, missing={"assume": 0})
    unknown = one(fold(here, label("x", None)))
    assert (unknown.kind, unknown.detail) == ("unretracted", "no label of this event is known")
    fold(here, event("e"))
    waits = one(fold(here, label("e", None, offset=1)))
    assert (waits.kind, waits.detail) == ("unretracted", "the event has no label")
    fold(here, tick(NOW_MS + WAIT_MS + 1))
    assert kinds(fold(here, label("e", None, NOW_MS + WAIT_MS + 1, offset=2))) == ["unretracted"]
    assert here.counts["unretracted"] == 3
    assert here.evaluation.label_count == 1  # the assumption stands


def test_a_label_is_taken_back_within_its_time() -> None:
    here = shard(**RETRACT, correct_for="10s")
    fold(here, event("e"), label("e", True))
    assert kinds(fold(here, label("e", None, NOW_MS + 10_001, offset=2))) == ["unretracted"]
    assert here.counts["uncorrectable"] == 1
    assert here.evaluation.label_count == 1


def test_null_is_a_missing_label_unless_the_pipeline_retracts() -> None:
    for section, kind in (({}, Malformed), (RETRACT, Label)):
        decode = Decoder(small(label=section)).label
        assert isinstance(decode(source("p.labels", 0, label_bytes("e", None))), kind)
        without = decode(source("p.labels", 0, b'{"id": "e"}'))
        assert isinstance(without, Malformed)
        assert without.reason == "label_missing"


# -- several labels


def test_an_event_takes_several_labels_until_its_deadline() -> None:
    here = shard(labels_max=3)
    fold(here, event("e", NOW_MS, 2.0))
    made = fold(here, label("e", True, NOW_MS + 1), label("e", True, NOW_MS + 2, offset=1))
    assert kinds(made) == ["joined", "joined"]
    assert [each.output_id for each in made] == ["p.labels-0-0-0", "p.labels-0-1-0"]
    assert (here.counts["learned"], here.evaluation.label_count, len(here.pending)) == (2, 2, 1)
    assert fold(here, tick(NOW_MS + WAIT_MS + 1)) == []  # it had labels: nothing expires
    assert len(here.pending) == 0
    assert kinds(fold(here, label("e", False, NOW_MS + WAIT_MS + 2, offset=2))) == ["duplicate"]


def test_no_more_than_so_many() -> None:
    here = shard(labels_max=2)
    fold(here, event("e"), label("e", True), label("e", True, offset=1))
    assert len(here.pending) == 0
    made = one(fold(here, label("e", True, offset=2)))
    assert (made.kind, made.detail) == (
        "duplicate",
        "the event already has as many labels as labels_max allows",
    )


def test_several_labels_may_come_before_their_event() -> None:
    here = shard(labels_max=2)
    assert kinds(fold(here, *(label("e", value, offset=at) for at, value in enumerate((True, False, True))))) == [
        "duplicate"
    ]
    made = fold(here, event("e"))
    assert kinds(made) == ["Score", "joined", "joined"]
    assert [each.label for each in made if isinstance(each, Outcome)] == [True, False]


def test_an_event_without_any_of_several_expires() -> None:
    here = shard(labels_max=2)
    fold(here, event("e"))
    assert kinds(fold(here, tick(NOW_MS + WAIT_MS + 1))) == ["expired"]


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"late": "correct"}, "label.late"),
        ({"second": "correct", "labels_max": 2}, "label.second"),
        ({"retract": True, "labels_max": 2}, "label.retract"),
        ({"labels_max": 0}, "label.labels_max"),
        ({"second": "replace"}, "label.second"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(section: dict[str, Any], path: str) -> None:
    with pytest.raises(PipelineError) as caught:
        small(label=section)
    assert [problem.path for problem in caught.value.problems] == [path]


# -- all of it


def test_any_course_of_corrections_leaves_the_metrics_of_the_labels_that_stand() -> None:
    sections: dict[str, Any] = {
        "label": {**CORRECT, **RETRACT, **LATE},
        "metrics": ["Accuracy", "F1", "LogLoss", "ROCAUC", "Brier"],
        "metric_window": 50,
        "metric_by": {"segment": "word", "ages": ["10s"]},
    }
    rng = random.Random(3)
    here = Shard(small(**sections), 0)
    encode = Encoder(here.pipeline, here.number).encode
    truth: dict[int, LabelValue] = {}
    served: dict[int, Any] = {}
    for number in range(600):
        now_ms = NOW_MS + number * 1_000
        made = step(here, event(number, now_ms, rng.gauss(0, 2), offset=number))
        about = number - rng.choice([0, 1, 5, 50, 120])
        if about >= 0:
            value: bool | None = rng.choice([True, False, None])
            made += step(here, label(about, value, now_ms, offset=number))
        for output in made:
            message = encode(output)
            if isinstance(output, Outcome):
                check(message)
                if output.kind in ("joined", "assumed", "corrected", "retracted") and output.features is not None:
                    truth.pop(int(output.event_id), None)
                    served[int(output.event_id)] = output.prediction
                    if output.label is not None:
                        truth[int(output.event_id)] = output.label
    assert {"corrected", "retracted", "unretracted", "assumed", "late"} <= set(here.counts)
    fresh = Shard(small(**sections), 0).evaluation
    for number, stands in truth.items():
        fresh.update(stands, served[number])
    assert here.evaluation.values() == pytest.approx(fresh.values(), rel=1e-12)
    assert here.evaluation.window_values() == pytest.approx(fresh.window_values(), rel=1e-12)
    by_age = [part.label_count for part in here.maturity.ages]
    assert sum(by_age) == here.maturity.joined == here.maturity.delays.count
    thawed = load(here.pipeline, 0, dump(here))
    again = load(here.pipeline, 0, dump(thawed))
    assert digest_of(thawed.pending) == digest_of(again.pending) == digest_of(here.pending)
