"""Predictions that wait for a person: each is decided once, by whom it may concern or by its deadline."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.output import Decided, Outcome, Output, Prediction, Rejected, Review, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Record, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, frozen_digest, load
from tests.support.schema import faults
from tests.support.segment import in_parts
from tests.support.small import NOW_MS, chosen, event, fold, kinds, label, small, source

GUARD: dict[str, Any] = {
    "range": {"min": 0, "max": 50, "action": "hold"},
    "hold": {"wait": "10s", "then": "fallback"},
    "fallback": ["last_value", {"value": 7}],
}


def pipeline(**changes: Any) -> Pipeline:
    return small("regression", guard={**GUARD, **changes})


def shard(**changes: Any) -> Shard:
    return Shard(pipeline(**changes), 0)


def says(here: Shard, value: float) -> None:
    here.learner.predict = lambda _: Prediction(value=value)


def holding(here: Shard, *events: str, value: float = 99.0, at_ms: int = NOW_MS) -> list[Output]:
    """These events are held."""
    says(here, value)
    first = here.counts.get("scored", 0)
    return fold(here, *[event(one, at_ms, offset=first + number) for number, one in enumerate(events)])


def command(here: Shard, offset: int = 0, **document: Any) -> Record:
    """A decision, as it stands in the control topic."""
    value = orjson.dumps({"command": "review", "by": "ann", **document})
    return Decoder(here.pipeline).control(source("p.control", offset, value, NOW_MS))


def values(here: Shard, outputs: list[Output]) -> list[tuple[str, dict[str, Any]]]:
    encoder, made = Encoder(here.pipeline, 0), []
    for message in map(encoder.encode, outputs):
        value = orjson.loads(message.value or b"")
        assert faults({"scores": "score"}.get(message.kind, message.kind), value) == []
        made.append((message.kind, value))
    return made


def test_a_held_prediction_is_not_served_and_a_person_sees_all_that_matters() -> None:
    here = shard()
    says(here, 20.0)
    fold(here, event("before"))
    (_, score), (kind, review) = values(here, holding(here, "e"))
    assert (score["guard"], score["prediction"], "decision" in score) == ("held", None, False)
    assert kind == "review"
    assert {name: review[name] for name in ("state", "event_id", "prediction", "features", "last_value")} == {
        "state": "held", "event_id": "e", "prediction": 99.0, "features": {"x": 1.0, "word": "a"}, "last_value": 20.0,
    }  # fmt: skip
    assert review["deadline_ms"] == NOW_MS + 10_000 == here.next_deadline_ms
    assert review["at_deadline"] == {"prediction": 20.0, "instead": "last_value"}
    assert review["tripped"] == [{"rung": "range", "action": "hold", "limit": 50, "excess": 49}]


@pytest.mark.parametrize(
    ("decision", "state", "served"),
    [
        ({"decision": "approve"}, "approved", {"prediction": 99.0}),
        ({"decision": "edit", "value": 44}, "edited", {"prediction": 44.0}),
        ({"decision": "refuse", "why": "sensor"}, "refused", {"prediction": 7.0}),
    ],
)
def test_a_decision_is_served_published_and_judged_by_the_label(
    decision: dict[str, Any], state: str, served: dict[str, Any]
) -> None:
    here = shard()
    holding(here, "e")
    made = fold(here, command(here, event_id="e", **decision))
    (_, score), (_, review) = values(here, made)
    assert (score["guard"], score["event_id"], score["output_id"]) == (state, "e", "p.control-0-0-2")
    assert score["prediction"] == served["prediction"]
    assert score.get("instead") == ("value" if state == "refused" else None)
    assert (review["state"], review["served"], review["by"]) == (state, served, "ann")
    assert review.get("why") == decision.get("why")
    (outcome,) = chosen(fold(here, label("e", 50.0, NOW_MS + 1)), Outcome)
    assert outcome.prediction == Prediction(value=served["prediction"])
    assert outcome.unserved[0].prediction == Prediction(value=99.0)
    assert here.evaluation.values()["MAE"] == abs(50.0 - served["prediction"])
    assert here.kept.held == {}


def test_a_deadline_decides_also_on_a_tick() -> None:
    here = shard()
    holding(here, "e")
    assert fold(here, Tick(0, 5, NOW_MS + 10_000)) == []
    (_, score), (_, review) = values(here, fold(here, Tick(0, 6, NOW_MS + 10_001)))
    assert (score["guard"], score["prediction"], score["instead"]) == ("overdue", 7.0, "value")
    assert (score["output_id"], review["state"]) == ("tick-0-6-2", "overdue")
    assert here.kept.deadline_ms is None


def test_each_is_decided_once_and_what_is_not_held_is_refused() -> None:
    here = shard()
    holding(here, "e")
    approve: dict[str, Any] = {"event_id": "e", "decision": "approve"}
    assert kinds(fold(here, command(here, **approve))) == ["Decided", "Review"]
    (again,) = fold(here, command(here, 1, **approve))
    (never,) = fold(here, command(here, 2, **{**approve, "event_id": "f"}))
    (none,) = fold(here, command(here, 3, decision="refuse", rung="step"))
    assert [(one.reason, one.detail) for one in chosen([again, never, none], Rejected)] == [
        ("review_unknown", "event 'e' is not held: it was decided already, or never held"),
        ("review_unknown", "no event 'f' is held"),
        ("review_unknown", "rung 'step' holds no event"),
    ]
    assert fold(here, Tick(0, 6, NOW_MS + 50_000)) == []


def test_of_several_shards_only_the_one_that_holds_it_answers() -> None:
    here = Shard(small("regression", guard=GUARD, shards=2), 0)
    assert fold(here, command(here, event_id="elsewhere", decision="approve")) == []
    assert here.counts["review_elsewhere"] == 1


@pytest.mark.parametrize("value", [51, -0.001, "many", True, 1e400])
def test_an_edit_must_be_a_value_within_the_range(value: Any) -> None:
    here = shard()
    holding(here, "e")
    document: dict[str, Any] = {"event_id": "e", "decision": "edit", "value": value if value != 1e400 else 1e300}
    (made,) = fold(here, command(here, **document))
    assert isinstance(made, Rejected)
    assert made.reason == "review_invalid"
    assert list(here.kept.held) == ["e"]  # it waits on


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"decision": "dance", "event_id": "e"},
        {"decision": "approve"},
        {"decision": "approve", "event_id": "e", "rung": "range"},
        {"decision": "approve", "rung": "roof"},
        {"decision": "approve", "event_id": [1]},
        {"decision": "approve", "event_id": "e", "value": 3},
        {"decision": "edit", "event_id": "e"},
        {"decision": "edit", "event_id": "e", "value": {}},
        {"decision": "edit", "event_id": "e", "value": "x" * 2_000},
        {"decision": "refuse", "event_id": "e", "why": 3},
        {"command": "drop", "why": 3},
    ],
)
def test_a_decision_of_the_wrong_form_is_rejected(document: dict[str, Any]) -> None:
    here = shard()
    holding(here, "e")
    (made,) = fold(here, command(here, **document))
    assert isinstance(made, Rejected)
    assert made.reason in ("control_invalid", "id_type")
    assert list(here.kept.held) == ["e"]


def test_a_rung_is_decided_in_bulk() -> None:
    here = shard()
    holding(here, "a", "b", "c")
    made = fold(here, command(here, decision="approve", rung="range"))
    assert [one.event_id for one in chosen(made, Decided)] == ["a", "b", "c"]
    assert len({one.output_id for one in [*chosen(made, Decided), *chosen(made, Review)]}) == 6


def test_a_flood_is_held_up_to_the_maximum_and_the_rest_decided_at_once() -> None:
    here = shard(hold={"wait": "10s", "then": "fallback", "max": 2})
    scores = chosen(holding(here, "a", "b", "c", "d"), Score)
    assert [one.guard for one in scores] == ["held", "held", "fallback", "fallback"]
    assert [one.prediction.value for one in scores] == [None, None, 7.0, 7.0]
    assert here.counts["review_full"] == 2
    assert here.summary()["guard"]["held"] == 2


def test_an_event_that_is_held_is_not_held_twice() -> None:
    """The same id comes again: at once, and once its wait for a label is over but not the one for a person."""
    label_rules = {"id": "id", "value": "y", "wait": "1s"}
    guard = {**GUARD, "hold": {"wait": "1h", "then": "fallback"}}
    here = Shard(small("regression", guard=guard, label=label_rules, dedupe={"horizon": "2s"}), 0)
    holding(here, "e")
    (again,) = holding(here, "e")
    assert isinstance(again, Rejected)
    assert again.reason == "duplicate_event"
    fold(here, Tick(0, 9, NOW_MS + 60_000))
    says(here, 99.0)
    made = fold(here, event("e", NOW_MS + 60_000, offset=7))
    (score,) = chosen(made, Score)
    assert (score.guard, score.prediction.value) == ("fallback", 7)
    assert chosen(made, Review) == []
    assert list(here.kept.held) == ["e"]
    (decided,) = chosen(fold(here, command(here, decision="approve", event_id="e")), Decided)
    assert (decided.time_ms, decided.prediction.value) == (NOW_MS, 99.0)
    assert here.kept.held == {}


def test_a_label_that_comes_first_is_learned_and_the_decision_still_published() -> None:
    here = shard()
    holding(here, "e")
    (outcome,) = chosen(fold(here, label("e", 50.0, NOW_MS + 1)), Outcome)
    assert (outcome.kind, outcome.prediction) == ("joined", Prediction())
    assert here.evaluation.unanswered == 1
    assert kinds(fold(here, command(here, event_id="e", decision="approve"))) == ["Decided", "Review"]


def test_what_a_person_lets_pass_is_the_series_last_value() -> None:
    here = shard()
    holding(here, "e")
    fold(here, command(here, event_id="e", decision="edit", value=44))
    made = chosen(holding(here, "f"), Review)
    assert made[0].held.then == Prediction(value=44.0)


def test_held_before_time_began_waits_from_then_on() -> None:
    here = shard()
    says(here, 99.0)
    fold(here, event("ahead", NOW_MS, ahead=True))
    assert fold(here, event("first", NOW_MS, offset=1))[0].guard == "held"  # type: ignore[union-attr]
    assert [held.deadline_ms for held in here.kept.held.values()] == [NOW_MS + 10_000] * 2


def test_a_snapshot_keeps_what_is_held() -> None:
    here = shard()
    holding(here, "a", "b")
    there = load(here.pipeline, 0, dump(here))
    assert digest_of(there.kept) == digest_of(here.kept)
    decide = command(here, event_id="b", decision="approve")
    assert fold(there, decide) == fold(here, decide)
    assert fold(there, Tick(0, 9, NOW_MS + 99_000)) == fold(here, Tick(0, 9, NOW_MS + 99_000))


def test_a_guard_that_holds_no_more_still_decides_what_is_held() -> None:
    before = shard()
    holding(before, "e")
    here = load(small("regression", guard={"range": {"max": 50}}), 0, dump(before))
    adopt(here, before.pipeline)
    assert kinds(fold(here, Tick(0, 9, NOW_MS + 99_000))) == ["Decided"]  # there is no review topic any more


@pytest.mark.parametrize(
    ("guard", "why"),
    [
        ({"range": {"max": 5, "action": "hold"}}, "needs guard.hold"),
        ({"range": {"max": 5}, "hold": {"wait": "1h"}}, "no rung has the action hold"),
        ({"range": {"max": 5, "action": "hold"}, "hold": {"wait": "1h", "then": "fallback"}}, "needs guard.fallback"),
    ],
)
def test_a_hold_that_can_do_nothing_is_refused(guard: dict[str, Any], why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        small("regression", guard=guard)


def test_only_a_pipeline_that_holds_has_a_review_topic() -> None:
    assert pipeline().topics.review == "p.review"
    assert small("regression").topics.review is None


def test_what_is_decided_for_many_is_each_ones_own() -> None:
    """A snapshot in segments has what two events share twice, and so would not be what the journal makes."""
    guard = {"untrained": {"labels_min": 9, "action": "hold"}, "hold": {"wait": "10s", "then": "withhold"}}
    here = Shard(small(guard=guard, label={"second": "correct"}), 0)
    fold(here, event("e"), event("f", offset=1))
    assert kinds(fold(here, command(here, rung="untrained", decision="edit", value=0.25)))[::2] == ["Decided"] * 2
    fold(here, label("e", 1, NOW_MS + 1))
    assert frozen_digest(here.pipeline, 0, in_parts(here)) == frozen_digest(here.pipeline, 0, dump(here))
