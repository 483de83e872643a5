"""The guard: whatever a model says, nothing leaves that the limits exclude, and every prediction is accounted for."""

from __future__ import annotations

import math
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.output import Alert, Outcome, Prediction, Score, Trip, Unserved
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.schema import faults
from tests.support.small import NOW_MS, chosen, control, event, fold, kinds, label, small

HOUR_MS = 3_600_000
X_ALONE: dict[str, Any] = {"features": {"x": "number"}}


def says(here: Shard, *values: float | None) -> None:
    """The model says these numbers from here on, one an event."""
    left = iter(values)

    def predict(_: object) -> Prediction | None:
        value = next(left)
        return None if value is None or not math.isfinite(value) else Prediction(value=value)

    here.learner.predict = predict


def shard(task: str = "regression", **guard: Any) -> Shard:
    return Shard(small(task, guard=guard), 0)


def served(here: Shard, *values: float | None, at_ms: int = NOW_MS, every_ms: int = 1_000) -> list[Score]:
    """What is served of predictions, one event each."""
    says(here, *values)
    first = here.counts.get("scored", 0)
    numbers = range(first, first + len(values))
    made = [step(here, event(number, at_ms + (number - first) * every_ms, offset=number)) for number in numbers]
    return [score for outputs in made for score in chosen(outputs, Score)]


def value_of(here: Shard, score: Score) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(Encoder(here.pipeline, 0).encode(score).value or b"")
    assert faults("score", value) == []
    return value


def outline(scores: list[Score]) -> list[tuple[str, float | None]]:
    return [(score.guard, score.prediction.value) for score in scores]


# -- the rungs


def test_a_range_clips_to_the_nearer_limit_and_says_by_how_much() -> None:
    here = shard(range={"min": 0, "max": 100})
    below, within, above, edge = served(here, -7.5, 40.0, 1e9, 100.0)
    assert outline([below, within, above, edge]) == [
        ("clipped", 0.0), ("served", 40.0), ("clipped", 100.0), ("served", 100.0),
    ]  # fmt: skip
    assert below.tripped == (Trip("range", "clip", 0.0, -7.5),)
    assert above.tripped == (Trip("range", "clip", 100.0, 1e9 - 100),)
    assert value_of(here, above)["tripped"] == [{"rung": "range", "action": "clip", "limit": 100, "excess": 1e9 - 100}]
    assert "tripped" not in value_of(here, within)
    assert here.counts["guard_range_clip"] == 2


@pytest.mark.parametrize(
    ("action", "guard", "value"),
    [("flag", "flagged", 500.0), ("withhold", "withheld", None), ("fallback", "fallback", 12.0)],
)
def test_what_is_done_beyond_a_limit(action: str, guard: str, value: float | None) -> None:
    here = shard(range={"max": 100, "action": action}, fallback={"value": 12})
    (score,) = served(here, 500.0)
    assert outline([score]) == [(guard, value)]
    assert score.instead == ("value" if action == "fallback" else None)


def test_a_flag_lets_go_on_to_the_rungs_behind_it() -> None:
    here = shard(untrained={"labels_min": 5}, range={"max": 100})
    (score,) = served(here, 1e6)
    assert outline([score]) == [("clipped", 100.0)]
    assert [trip.rung for trip in score.tripped] == ["untrained", "range"]


def test_an_untrained_model_is_flagged_until_it_has_learned_enough_and_again_after_a_reset() -> None:
    here = Shard(small("regression", guard={"untrained": {"labels_min": 2}}), 0)
    guards = []
    for number in range(4):
        made = fold(here, event(number, offset=number), label(number, 5.0, offset=number))
        guards += [one.guard for one in chosen(made, Score)]
    assert guards == ["flagged", "flagged", "served", "served"]
    (after,) = chosen(fold(here, control("reset"), event("r", offset=9)), Score)
    assert after.tripped == (Trip("untrained", "flag", 2, -2),)
    assert not here.episodes.open  # a new model that is only marked is no incident


def test_a_step_is_measured_from_the_last_accepted_value_of_its_own_series() -> None:
    here = Shard(small("regression", guard={"by": "word", "step": {"ratio_max": 2, "action": "withhold"}}), 0)
    says(here, 10.0, 1000.0, 21.0, 20.0, 5.0, 1500.0)
    words = ["a", "b", "a", "a", "a", "b"]
    made = [
        structs.replace(event(number, NOW_MS + number, offset=number), features=(1.0, word))
        for number, word in enumerate(words)
    ]
    scores = chosen(fold(here, *made), Score)
    assert outline(scores) == [
        ("served", 10.0), ("served", 1000.0), ("withheld", None), ("served", 20.0), ("withheld", None),
        ("served", 1500.0),
    ]  # fmt: skip
    assert scores[2].tripped == (Trip("step", "withhold", 20.0, 1.0),)
    assert scores[4].tripped == (Trip("step", "withhold", 10.0, -5.0),)


def test_a_series_moves_to_another_level_with_its_labels() -> None:
    here = shard(step={"ratio_max": 2, "action": "withhold"})
    assert [score.guard for score in served(here, 10.0, 50.0, 50.0)] == ["served", "withheld", "withheld"]
    step(here, label(1, 48.0, NOW_MS + 10))
    assert [score.guard for score in served(here, 50.0, 10.0, 24.0)] == ["served", "withheld", "served"]


def test_a_small_change_passes_however_many_times_it_is() -> None:
    here = shard(step={"ratio_max": 2, "tolerance": 3, "action": "clip"})
    assert outline(served(here, 0.0, 3.0, 6.5, -9.0)) == [
        ("served", 0.0), ("served", 3.0), ("clipped", 6.0), ("clipped", 3.0),
    ]  # fmt: skip


def test_a_clipped_step_never_leads_out_of_the_range() -> None:
    here = shard(range={"max": 100}, step={"ratio_max": 2, "action": "clip"})
    served(here, 50.0)
    fold(here, label(0, 1_000.0))  # the truth lies beyond what may be served
    here.kept.series[b""][0] = None
    (score,) = served(here, 10.0)
    assert outline([score]) == [("withheld", None)]  # 500 would be the nearest that the step allows


def test_a_number_beyond_all_that_was_learned_from_is_unfamiliar_and_named() -> None:
    here = shard(unfamiliar={"score_max": 0.9, "action": "withhold"})
    for number in range(50):
        fold(here, event(number, NOW_MS + number, number % 10 * 1.0, offset=number), label(number, 1.0, offset=number))
    made = fold(here, *[event(f"n{x}", NOW_MS + 100, x, offset=200 + place)
                        for place, x in enumerate((0.0, 9.8, 10.0, -5.0))])  # fmt: skip
    scores = chosen(made, Score)
    assert [one.guard for one in scores] == [
        "served",
        "served",
        "withheld",
        "withheld",
    ]  # a tenth of the span is margin
    (trip,) = scores[2].tripped
    assert (trip.rung, trip.limit, trip.feature) == ("unfamiliar", 0.9, "x")
    assert trip.excess == pytest.approx(1 - 2 / 51 - 0.9)
    assert value_of(here, scores[2])["tripped"][0]["feature"] == "x"


def test_a_text_is_as_unfamiliar_as_new_ones_are_rare() -> None:
    def after(words: list[str]) -> str:
        here = shard(unfamiliar={"score_max": 0.9})
        for number, word in enumerate(words):
            fold(here, structs.replace(event(number, offset=number), features=(1.0, word)), label(number, 1.0))
        new = structs.replace(event("new", offset=999), features=(1.0, "never seen"))
        return chosen(step(here, new), Score)[0].guard  # type: ignore[no-any-return]

    assert after(["a", "b"] * 30) == "flagged"
    assert after([f"id {number}" for number in range(60)]) == "served"  # every text is a new one
    assert after(["a"] * 5) == "served"  # little is known
    assert after(["a" * 300] * 60) == "served"  # prose


def test_what_is_not_learned_is_not_familiar() -> None:
    here = shard(unfamiliar={"score_max": 0.5})
    fold(here, *[event(number, NOW_MS, 1.0, offset=number) for number in range(20)])
    assert here.kept.known == []
    fold(here, control("freeze"), label(0, 1.0), control("unfreeze"))
    assert here.kept.known == []


def test_too_many_yes_within_a_window_are_refused_and_the_window_moves_on() -> None:
    guard = {"share": {"positive_max": 0.2, "window": "100s", "action": "fallback"}, "fallback": {"value": 0}}
    here = Shard(small(guard=guard, decision={"threshold": 0.8}), 0)

    def yes(count: int, at_ms: int, *, of: float = 0.9) -> list[str]:
        here.learner.predict = lambda _: Prediction(of >= 0.8, {False: 1 - of, True: of}, of)
        first = here.counts.get("scored", 0)
        made = fold(here, *[event(first + one, at_ms, offset=first + one) for one in range(count)])
        assert all(one.decision == one.prediction.label for one in chosen(made, Score))
        return [one.guard for one in chosen(made, Score)]

    assert yes(80, NOW_MS, of=0.3) == ["served"] * 80
    assert yes(20, NOW_MS + 10_000) == ["served"] * 20  # 20 of 100 are no more than a fifth
    assert yes(1, NOW_MS + 20_000) == ["fallback"]
    assert yes(1, NOW_MS + 30_000, of=0.3) == ["served"]  # a no is no trouble
    assert yes(5, NOW_MS + 500_000) == ["served"] * 5  # few are in the window
    assert len(here.kept.crowds) <= 10


def test_a_fallback_that_is_a_yes_does_not_pass_where_there_are_too_many() -> None:
    guard = {"share": {"positive_max": 0.01, "action": "fallback"}, "fallback": [{"value": 0.9}]}
    here = Shard(small(guard=guard), 0)
    here.learner.predict = lambda _: Prediction(True, {False: 0.1, True: 0.9}, 0.9)
    made = chosen(fold(here, *[event(number, offset=number) for number in range(101)]), Score)
    assert [one.guard for one in made] == ["served"] * 99 + ["withheld"] * 2


# -- fallbacks


def test_a_fallback_that_trips_itself_falls_on_to_the_next() -> None:
    here = shard(range={"min": 0, "max": 100, "action": "fallback"}, fallback=["last_good", "last_value", {"value": 7}])
    assert outline(served(here, 900.0)) == [("fallback", 7.0)]  # there is no copy, and no last value
    served(here, 30.0)
    assert [score.instead for score in served(here, 900.0)] == ["last_value"]
    here.learner.load(here.learner.model, b"of a model", 50)
    here.learner.ask_good = lambda *_: (Prediction(value=-3.0), 50)  # type: ignore[method-assign]  # beyond the range
    assert outline(served(here, 900.0)) == [("fallback", 30.0)]
    here.learner.ask_good = lambda *_: (Prediction(value=60.0), 50)  # type: ignore[method-assign]
    assert [score.instead for score in served(here, 900.0)] == ["last_good"]
    assert outline(served(here, 900.0)) == [("fallback", 60.0)]


def test_nothing_is_served_where_no_fallback_may_be() -> None:
    here = shard(range={"max": 100, "action": "fallback"}, fallback="last_value")
    assert outline(served(here, 900.0)) == [("withheld", None)]


def test_the_last_good_copy_is_asked_first_where_a_rung_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.model.learner.COPY_EVERY", 3)
    here = shard(range={"max": 100, "action": "last_good"}, fallback={"value": 7})
    for number in range(3):
        fold(here, event(f"l{number}", offset=100 + number), label(f"l{number}", 50.0, offset=number))
    expected = here.learner.ask_good((1.0, "a"), "call", _oracle())[0]
    (score,) = served(here, 900.0)
    assert score.instead == "last_good"
    assert expected is not None
    assert score.prediction == expected
    assert expected.value is not None


def _oracle() -> Any:
    from driftline.core.oracle import Oracle

    return Oracle()


def test_a_model_that_does_not_pass_is_not_kept_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.model.learner.COPY_EVERY", 2)
    here = shard(range={"max": 1, "action": "withhold"})
    served(here, 5.0)
    here.learner.attach(here.pipeline)
    fold(here, label(0, 1.0), event("b", offset=5), label("b", 1.0, offset=1))
    assert here.learner.learned == 2
    assert here.learner.good is None


def test_the_value_of_a_season_ago() -> None:
    day = 24 * HOUR_MS
    here = shard(range={"max": 100, "action": "fallback"}, fallback={"seasonal": "1d"})
    noon = NOW_MS - NOW_MS % day + 12 * HOUR_MS
    served(here, 10.0, 20.0, at_ms=noon, every_ms=HOUR_MS)
    assert outline(served(here, 900.0, at_ms=noon + HOUR_MS)) == [("withheld", None)]  # no season has passed
    assert outline(served(here, 900.0, 900.0, 900.0, at_ms=noon + day, every_ms=HOUR_MS)) == [
        ("fallback", 10.0), ("fallback", 20.0), ("withheld", None),
    ]  # fmt: skip


def test_the_label_stands_in_place_of_what_was_predicted_then() -> None:
    day = 24 * HOUR_MS
    here = shard(range={"max": 100, "action": "fallback"}, fallback={"seasonal": "1d"})
    served(here, 10.0)
    fold(here, label(0, 33.0))
    assert outline(served(here, 900.0, at_ms=NOW_MS + day)) == [("fallback", 33.0)]


def test_what_is_not_finite_falls_back_too() -> None:
    here = shard(range={"max": 100}, fallback={"value": 7})
    here.learner.fall_back = lambda: None  # type: ignore[method-assign]  # the copy is as broken as the model
    says(here, math.nan, math.nan)
    score, alert = step(here, event("a"))
    assert isinstance(score, Score)
    assert outline([score]) == [("fallback", 7.0)]
    assert score.tripped == (Trip("finite", "fallback"),)
    assert isinstance(alert, Alert)
    assert alert.kind == "model_failure"


# -- what is known of it afterwards


def test_the_outcome_says_what_the_model_made() -> None:
    here = shard(range={"min": 0})
    (score,) = served(here, -5.0)
    (outcome,) = chosen(fold(here, label(0, 2.0)), Outcome)
    assert (outcome.prediction, outcome.version) == (Prediction(value=0.0), score.version)
    assert outcome.unserved == (Unserved("model", Prediction(value=-5.0), score.version, "range"),)
    value = orjson.loads(Encoder(here.pipeline, 0).encode(outcome).value or b"")
    assert value["unserved"] == [{"rung": "range", "prediction": -5.0}]
    assert faults("outcome", value) == []
    assert here.evaluation.values()["MAE"] == 2.0  # of what was served


def test_an_alert_tells_of_it_and_is_critical_where_most_do_not_pass() -> None:
    here = Shard(
        small("regression", guard={"range": {"max": 10}}, alerts={"quiet": "1m", "guard_max": 0, "unmatched_max": 1}), 0
    )
    says(here, *[50.0] * 200)
    (first,) = chosen(fold(here, event(0)), Alert)
    assert (first.kind, first.state, first.severity, first.episode) == (
        "guard",
        "opened",
        "warning",
        "p-0-guard:range-e0",
    )
    assert first.sentence == (
        "A prediction of p is 40 above its limit of 10; the limit was served instead. "
        "The guard objected to 1 of the last 1 predictions."
    )
    assert first.runbook.endswith("#guard")
    more = chosen(fold(here, *[event(number, NOW_MS + number, offset=number) for number in range(1, 150)]), Alert)
    assert [(one.state, one.severity) for one in more] == [("ongoing", "critical")]
    says(here, *[5.0] * 350)  # two blocks without any, and a minute in which there is no other
    calm = [event(f"c{number}", NOW_MS + 1_000 + number * 1_000, offset=500 + number) for number in range(350)]
    (last,) = chosen(fold(here, *calm), Alert)
    assert (last.state, last.sentence) == (
        "resolved", "The guard of p (range) has stopped few predictions for 1 minute: 0 of the last 159.",
    )  # fmt: skip


@pytest.mark.parametrize("rate", [0.09, 0.1, 0.103, 0.11])
def test_a_rung_near_its_limit_does_not_flap(rate: float) -> None:
    """Each block of predictions is a matter of chance: at 10.3% a rung with a limit of 10% sent 74 messages."""
    chance = random.Random(3)
    here = Shard(small("regression", guard={"range": {"max": 10}}, alerts={"quiet": "1m", "unmatched_max": 1}), 0)
    made = []
    for number in range(4_000):
        says(here, 50.0 if chance.random() < rate else 5.0)
        made += chosen(fold(here, event(number, NOW_MS + number * 30_000, offset=number)), Alert)
    assert len(made) <= 6


def test_few_trips_are_counted_and_raise_no_alert() -> None:
    here = shard(range={"max": 10})
    rare = [50.0 if number % 12 == 0 else 5.0 for number in range(300)]
    says(here, *rare)
    assert not chosen(fold(here, *[event(number, NOW_MS + number, offset=number) for number in range(300)]), Alert)
    often = [50.0 if number % 6 == 0 else 5.0 for number in range(300)]
    says(here, *often)
    made = chosen(fold(here, *[event(number, NOW_MS + number, offset=number) for number in range(300, 600)]), Alert)
    assert [(one.kind, one.state, one.severity) for one in made] == [("guard", "opened", "warning")]
    assert made[0].evidence["tripped"] / made[0].evidence["count"] > 0.1


def test_the_summary_counts_what_tripped_and_what_was_served() -> None:
    here = shard(range={"max": 10, "action": "fallback"}, fallback=["last_value", {"value": 1}])
    served(here, 50.0, 5.0, 50.0, 50.0)
    assert here.summary()["guard"] == {
        "tripped": {"range fallback": 3}, "instead": {"last_value": 2, "value": 1}, "series": 1, "evicted": 0,
        "without_key": 0, "held": 0, "apart": 0,
    }  # fmt: skip
    assert "guard" not in Shard(small(), 0).summary()


# -- other tasks


def test_probabilities_have_a_range_and_keep_agreeing_with_class_and_decision() -> None:
    here = Shard(small(guard={"range": {"max": 0.9}}, decision={"threshold": 0.95}), 0)
    here.learner.predict = lambda _: Prediction(True, {False: 0.01, True: 0.99}, 0.99)
    (score,) = step(here, event("a"))[:1]
    assert isinstance(score, Score)
    assert score.prediction == Prediction(False, {False: 1 - 0.9, True: 0.9}, 0.9)
    assert (score.decision, score.guard) == (False, "clipped")


def test_classes_fall_back_to_a_class() -> None:
    here = Shard(small("multiclass", guard={"untrained": {"labels_min": 1, "action": "fallback"},
                                            "fallback": {"value": "unknown"}}), 0)  # fmt: skip
    (score,) = chosen(step(here, event("a")), Score)
    assert (score.prediction, score.guard) == (Prediction("unknown"), "fallback")


def test_an_anomaly_model_learns_from_what_is_withheld() -> None:
    guard = {"untrained": {"labels_min": 3, "action": "withhold"}}
    here = Shard(small("anomaly", label=None, guard=guard), 0)
    made = fold(here, *[event(number, NOW_MS + number, offset=number, word=False) for number in range(5)])
    assert [one.guard for one in chosen(made, Score)] == ["withheld"] * 3 + ["served"] * 2


# -- bounds, state, replays


def test_only_so_many_series_are_remembered_the_least_recently_used_go() -> None:
    here = Shard(
        small("regression", guard={"by": "word", "step": {"ratio_max": 2, "action": "withhold"}, "keys_max": 2}), 0
    )
    says(here, *[10.0] * 10)
    for number, word in enumerate(["a", "b", "a", "c"]):
        step(here, structs.replace(event(number, offset=number), features=(1.0, word)))
    assert list(here.kept.series) == [b"a", b"c"]
    assert here.kept.evicted == 1


def test_an_event_without_a_key_has_no_series() -> None:
    features = {"x": "number", "word": {"type": "string", "missing": "omit"}}
    here = Shard(small("regression", event={"features": features},
                       model="Select('x') | StandardScaler() | LinearRegression()",
                       guard={"by": "word", "step": {"ratio_max": 2}, "fallback": "last_value"}), 0)  # fmt: skip
    says(here, 10.0, 500.0)
    made = [structs.replace(event(number, offset=number), features=(1.0, None)) for number in range(2)]
    assert [one.guard for one in chosen(fold(here, *made), Score)] == ["served", "served"]
    assert here.kept.keyless == 2


GUARD = {
    "by": "word",
    "untrained": {"labels_min": 3},
    "range": {"min": -5, "max": 15},
    "step": {"ratio_max": 3, "tolerance": 2},
    "unfamiliar": {"score_max": 0.8},
    "fallback": ["last_value", {"seasonal": "1m"}, {"value": 0}],
}


def test_a_snapshot_at_any_moment_changes_nothing() -> None:
    one = two = Shard(small("regression", guard=GUARD), 0)
    rng, made, again = random.Random(4), [], []
    two = load(one.pipeline, 0, dump(one))
    for number in range(120):
        record = structs.replace(
            event(number, NOW_MS + number * 2_000, offset=number), features=(rng.gauss(0, 4), rng.choice("ab"))
        )
        truth = label(number, rng.gauss(0, 30), NOW_MS + number * 2_000 + 1, offset=number)
        made += fold(one, record, truth)
        again += fold(two, record, truth)
        if number % 7 == 0:
            two = load(two.pipeline, 0, dump(two))
    assert made == again
    assert digest_of(one.kept) == digest_of(two.kept)
    assert {score.guard for score in chosen(made, Score)} == {"flagged", "served", "fallback", "clipped"}


def test_a_guard_that_never_trips_changes_no_byte() -> None:
    here, there = Shard(small("regression"), 0), Shard(small("regression", guard={"range": {"min": -1e12}}), 0)
    encode = Encoder(here.pipeline, 0).encode
    for number in range(50):
        pair = (
            event(number, NOW_MS + number, number % 7 - 3.0, offset=number),
            label(number, number % 5, NOW_MS + number, offset=number),
        )
        plain, guarded = fold(here, *pair), fold(there, *pair)
        assert kinds(plain) == ["Score", "joined"]
        assert [encode(one) for one in plain] == [encode(one) for one in guarded]


# -- whatever a model says

HOSTILE = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 99.999, 100.0, 100.00000000000001]),
    st.floats(-200, 200),
)
ACTIONS = st.sampled_from(["clip", "fallback", "withhold", "last_good"])


@given(
    values=st.lists(HOSTILE, min_size=1, max_size=30),
    labels=st.lists(st.floats(-1e6, 1e6), max_size=30),
    on_range=ACTIONS,
    on_step=st.one_of(ACTIONS, st.just("flag")),
    untrained=st.sampled_from(["flag", "fallback", "withhold"]),
    fallback=st.permutations(["last_good", "last_value", {"seasonal": "1m"}]),
    constant=st.booleans(),
)
def test_nothing_beyond_the_limits_is_ever_served(
    values: list[float], labels: list[float], on_range: str, on_step: str, untrained: str, fallback: list[Any],
    constant: bool,
) -> None:  # fmt: skip
    here = shard(
        range={"min": 0, "max": 100, "action": on_range},
        step={"ratio_max": 3, "difference_max": 40, "tolerance": 1, "action": on_step},
        untrained={"labels_min": 4, "action": untrained},
        fallback=[*fallback, *([{"value": 50}] if constant else [])],
    )
    rest, trips, instead = iter(labels), 0, 0
    for number, value in enumerate(values):
        says(here, value, value)
        here.learner.fall_back = lambda: None  # type: ignore[method-assign]  # the copy says the same
        (score,) = chosen(step(here, event(number, NOW_MS + number * 7_000, offset=number)), Score)
        served_value = score.prediction.value
        assert served_value is None or 0 <= served_value <= 100
        assert (score.guard == "withheld") == (served_value is None)
        assert (score.guard == "served") == (not score.tripped)
        trips += len(score.tripped)
        instead += score.instead is not None
        assert not faults("score", value_of(here, score))
        if score.guard == "served":
            assert served_value == value
        if (truth := next(rest, None)) is not None:
            here.learner.attach(here.pipeline)
            fold(here, label(number, truth, NOW_MS + number * 7_000, offset=number))
    guard = here.summary()["guard"]
    assert (sum(guard["tripped"].values()), sum(guard["instead"].values())) == (trips, instead)
    assert here.counts["scored"] == len(values)
