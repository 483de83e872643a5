"""The guard of forecasts: whatever a model forecasts, nothing leaves at any horizon that the limits exclude."""

from __future__ import annotations

import math
import random
from typing import Any

import orjson
import pytest

from driftline.backtest.guarded import Guarded
from driftline.core.forecast.level import Level
from driftline.core.guard.step import Step
from driftline.core.output import Decided, Prediction, Rejected, Review, Score, Several
from driftline.core.record import Control, Ruling, Source
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.schema import faults
from tests.support.series import Feed, outcome_of, pipeline, score_of
from tests.support.small import chosen

READY = 13  # days, after which a series of a weekly season is forecast
WEEK = (20.0, 22.0, 24.0, 26.0, 28.0, 40.0, 10.0)
NOTHING = Prediction()


def fed(guard: dict[str, Any], days: int = READY, **forecast: Any) -> Feed:
    """A series of two weeks, under a guard."""
    feed = Feed(pipeline(guard=guard, **forecast))
    for day in range(days):
        feed.give("a", day, WEEK[day % 7] + (day % 3 if day > READY else 0))
    return feed


def says(feed: Feed, *ahead: float | None) -> None:
    """The model forecasts this from here on; nothing finite where it says None."""
    answer = None if None in ahead else tuple(one for one in ahead if one is not None)
    feed.shard.learner.predict = lambda _: (
        Several(value=answer[0], ahead=answer) if answer is not None and all(map(math.isfinite, answer)) else None
    )


def served(feed: Feed, *ahead: float | None, day: int = READY, demand: float | None = None) -> Score:
    says(feed, *ahead)
    made = feed.give("a", day, WEEK[day % 7] if demand is None else demand)
    score = score_of(made)
    assert faults("score", orjson.loads(feed.encoder.encode(score).value or b"")) == []
    return score


def values(score: Score) -> tuple[float | None, ...]:
    assert score.forecast is not None
    return score.forecast.values


RANGE = {"range": {"min": 0, "max": 100}}


# -- the rungs


def test_each_horizon_is_clipped_by_itself_and_says_by_how_much() -> None:
    feed = fed(RANGE)
    score = served(feed, 20.0, -7.5, 1e9, 30.0)
    assert score.forecast is not None
    assert values(score) == (20.0, 0.0, 100.0, 30.0)
    assert score.guard == "clipped"
    assert score.forecast.guard == ("served", "clipped", "clipped", "served")
    assert [(trip.rung, trip.horizon, trip.limit, trip.excess) for trip in score.tripped] == [
        ("range", 2, 0.0, -7.5),
        ("range", 3, 100.0, 1e9 - 100),
    ]
    assert feed.shard.counts["guard_range_clip"] == 1  # of one forecast, whatever its horizons


def test_a_forecast_that_passes_changes_no_byte() -> None:
    guarded, plain = Feed(pipeline(guard={"range": {"min": -1e9, "max": 1e9}})), Feed(pipeline())
    for day in range(40):
        for feed in (guarded, plain):
            feed.give("a", day, WEEK[day % 7] + day % 3)
    assert guarded.published == plain.published


def test_intervals_end_where_the_range_does_and_never_turn_round() -> None:
    feed = fed({"range": {"min": 0, "max": 30}, "step": {"ratio_max": 2}, "fallback": "seasonal"}, days=40)
    cut = False
    for day in range(40, 60):
        score = served(feed, 29.0, 1.0, 900.0, 15.0, day=day)
        assert score.forecast is not None
        for value, low, high in zip(score.forecast.values, score.forecast.lower, score.forecast.upper, strict=True):
            assert value is None or 0 <= value <= 30
            if value is not None and low is not None and high is not None:
                assert 0 <= low <= value <= high <= 30
                cut = cut or high == 30
    assert cut


def test_an_interval_around_what_stands_in_for_no_finite_forecast_ends_where_the_range_does() -> None:
    feed = fed({"range": {"min": 0, "max": 24}, "fallback": {"value": 23.5}}, days=80)
    feed.shard.learner.fall_back = lambda: None  # type: ignore[method-assign]  # a copy that is no better
    score = served(feed, None, day=80)
    assert score.forecast is not None
    assert values(score) == (23.5,) * 4
    highest = [high for high in score.forecast.upper if high is not None]
    assert highest
    assert max(highest) == 24


def test_a_limit_around_which_the_interval_is_too_wide_has_none() -> None:
    """Near 1e300 an interval has no width; around the limit that is served instead it has."""
    guard = {"range": {"min": -500, "max": 500}, "width": {"max": 1, "action": "withhold"}}
    feed = fed(guard, days=80)
    score = served(feed, *[1e300] * 4, day=80)
    assert score.forecast is not None
    assert values(score) == (500.0,) * 4
    assert score.forecast.upper == (None,) * 4


def test_finite_forecasts_whose_sum_is_not_are_compared_with_nothing_and_stop_nothing() -> None:
    feed = fed({**RANGE, "distribution": {"distance_max": 0.5, "latest": 20}})
    score = served(feed, *[1.7e308] * 4)
    assert values(score) == (100.0,) * 4
    assert [trip.rung for trip in score.tripped] == ["range"] * 4


def test_a_copy_that_cannot_say_anything_is_no_fallback() -> None:
    """A model of one series each has none of this one, once it has begun anew."""
    for guard, expected in ((None, None), ({**RANGE, "fallback": {"value": 7}}, 7.0)):
        feed = Feed(pipeline(guard=guard, model="HoltWinters(alpha=0.3)"))
        for day in range(READY):
            feed.give("a", day, WEEK[day % 7])
        answers = iter([None, Prediction()])
        feed.shard.learner.predict = lambda _, left=answers: next(left)  # type: ignore[misc]
        feed.shard.learner.fall_back = lambda: None  # type: ignore[method-assign]
        score = score_of(feed.give("a", READY, 20.0))
        assert score.prediction.value == expected
        assert score.guard == ("withheld" if expected is None else "fallback")
        assert score.instead == (None if expected is None else "value")


def test_a_step_is_measured_from_the_same_time_in_the_season_and_from_the_latest_median() -> None:
    feed = fed({"step": {"ratio_max": 1.5, "action": "withhold"}})
    score = served(feed, 40.0, 35.0, 13.5, 3.0, day=READY)  # 20, 22, 24 and 26 last week; the median is 24
    assert values(score) == (None, 35.0, None, None)
    assert score.guard == "withheld"
    assert score.prediction == NOTHING


def test_an_observation_beyond_the_limits_moves_nothing_until_the_series_has_settled() -> None:
    feed = fed({"step": {"ratio_max": 3, "settle": 10}, "fallback": "seasonal"})
    for day in range(READY, READY + 9):
        score = served(feed, 3.0, 3.0, 3.0, 3.0, day=day, demand=WEEK[day % 7] / 8)
        assert score.guard == "fallback"
        assert values(score) == tuple(WEEK[(day + h) % 7] for h in (1, 2, 3, 4))
    score = served(feed, 3.0, 3.0, 3.0, 3.0, day=READY + 9, demand=WEEK[(READY + 9) % 7] / 8)
    assert score.guard == "served"


def levels(feed: Feed) -> list[tuple[str, str]]:
    """State and sentence of all alerts about levels so far."""
    alerts = [orjson.loads(one) for one in feed.published if b'"level' in one and b'"sentence"' in one]
    return [(alert["state"], alert["sentence"]) for alert in alerts]


@pytest.mark.parametrize("per", [48.0, 1 / 48.0])
def test_a_series_never_moves_to_what_looks_like_another_unit_until_a_person_says_so(per: float) -> None:
    feed = Feed(pipeline(guard={"step": {"ratio_max": 3, "settle": 10}, "fallback": "seasonal"}))
    for day in range(60):
        odd = day >= READY
        score = served(feed, *[WEEK[0] / (per if odd else 1)] * 4, day=day, demand=WEEK[day % 7] / (per if odd else 1))
        if odd:
            assert score.guard == "fallback"
            assert values(score) == tuple(WEEK[(day + h) % 7] for h in (1, 2, 3, 4))
    far = "48 times smaller than" if per > 1 else "48 times as large as"
    assert [state for state, _ in levels(feed)][:1] == ["opened"]
    assert f"(item a) have been {far} their level for a while" in levels(feed)[0][1]
    assert feed.shard.guarded()["apart"] == 1
    for day in range(60, 66):  # the data is mended
        assert served(feed, *[WEEK[0]] * 4, day=day, demand=WEEK[day % 7]).guard == "served"
    assert feed.shard.guarded()["apart"] == 0
    assert levels(feed)[-1][0] == "resolved"


def test_a_person_lets_a_series_move_by_the_pipeline_file() -> None:
    guard = {"step": {"ratio_max": 3, "settle": 10}, "fallback": "seasonal"}
    feed = fed(guard)
    for day in range(READY, READY + 20):
        assert served(feed, *[0.5] * 4, day=day, demand=WEEK[day % 7] / 48).guard == "fallback"
    after = pipeline(guard={**guard, "step": {**guard["step"], "settle_ratio_max": 50}})  # type: ignore[dict-item]  # a dict
    feed.shard = load(after, 0, dump(feed.shard))
    assert served(feed, *[0.5] * 4, day=READY + 20, demand=WEEK[(READY + 20) % 7] / 48).guard == "served"


MOVED = {"step": {"ratio_max": 3, "settle": 10}, "fallback": "seasonal"}


def moved(**forecast: Any) -> Feed:
    """A series whose observations lie far from its level, with an alert about that."""
    feed = fed(MOVED, **forecast)
    for day in range(READY, READY + 20):
        served(feed, *[0.5] * 4, day=day, demand=WEEK[day % 7] / 48)
    assert [state for state, _ in levels(feed)] == ["opened", "ongoing"]
    return feed


def test_the_alert_about_a_level_ends_where_another_pipeline_file_lets_the_series_move() -> None:
    feed = moved()
    before, step_form = feed.shard.pipeline, {"ratio_max": 3, "settle": 10, "settle_ratio_max": 50}
    feed.shard = load(pipeline(guard={**MOVED, "step": step_form}), 0, dump(feed.shard))
    adopt(feed.shard, before)
    for day in range(READY + 20, READY + 30):
        assert served(feed, *[0.5] * 4, day=day, demand=WEEK[day % 7] / 48).guard == "served"
    assert levels(feed)[-1][0] == "resolved"


def test_the_alert_about_a_level_ends_where_its_series_is_dropped() -> None:
    feed = moved(series_max=1)
    for day in range(READY + 20, READY + 30):
        feed.give("b", day, WEEK[day % 7])
    assert feed.shard.guarded()["apart"] == 0
    assert levels(feed)[-1][0] == "resolved"


def test_a_series_that_is_sold_no_more_moves_by_itself() -> None:
    feed = fed({"step": {"ratio_max": 3, "settle": 10}, "fallback": "seasonal"})
    for day in range(READY, READY + 9):
        assert served(feed, *[0.0] * 4, day=day, demand=0.0).guard == "fallback"
    assert served(feed, *[0.0] * 4, day=READY + 9, demand=0.0).guard == "served"
    assert feed.shard.guarded()["apart"] == 0


def test_quiet_days_do_not_lead_a_level_to_another_unit() -> None:
    """On Mondays one piece is sold, and any fraction of it lies within the tolerance."""
    guard = {"step": {"ratio_max": 3, "tolerance": 1, "settle": 1000}, "fallback": "seasonal"}
    week = (1.0, 22.0, 24.0, 26.0, 28.0, 40.0, 10.0)
    feed = Feed(pipeline(guard=guard))
    for day in range(READY + 1):
        feed.give("a", day, week[day % 7])
    for day in range(READY + 1, READY + 1 + 7 * 15):
        score = served(feed, *[0.5] * 4, day=day, demand=week[day % 7] / 48)
        assert [value for value in values(score) if value != 0.5] == [
            week[(day + h) % 7] for h in (1, 2, 3, 4) if (day + h) % 7
        ]


@pytest.mark.parametrize("per", [24.0, 48.0])
def test_a_small_seller_is_told_apart_too(per: float) -> None:
    """Of a few pieces a day, one day's may be so few that those of the next week, in pallets, are within the limits."""
    guard = {"step": {"ratio_max": 4, "tolerance": 1, "settle": 28, "action": "fallback"}, "fallback": "seasonal"}
    apart = 0
    for seed in range(10):
        rng, feed = random.Random(seed), Feed(pipeline(guard=guard))
        sold = [float(sum(rng.random() < 0.05 for _ in range(100))) for _ in range(140)]  # 5 a day
        for day, pieces in enumerate(sold[:70]):
            feed.give("a", day, pieces)
        for day in range(70, 140):
            score = served(feed, *[5 / per] * 4, day=day, demand=sold[day] / per)
            passed = [value for value in values(score) if value == 5 / per]
            assert not passed or day < 72, f"day {day} of seed {seed}: {passed} of forecasts in pallets were served"
            if day % 10 == 0:
                feed.shard = load(feed.shard.pipeline, 0, dump(feed.shard))
        apart += feed.shard.guarded()["apart"]
    assert apart == 10


def test_what_is_near_to_its_time_of_the_season_alone_counts_once_the_series_is_known_to_be_there() -> None:
    near = Step(4.0, math.inf, 1.0, "fallback").near
    week = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 100.0]
    level = Level(list(week), [10.0] * 9)
    level.take(6, 120.0, near)
    assert (level.at(6), level.doubtful) == (100.0, {6: 120.0})
    again = Level.load(level.dumped())
    assert (again.doubtful, again.values, again.beyond) == (level.doubtful, level.values, 0)
    again.take(7, 11.0, near)
    assert (again.at(6), again.at(7), again.doubtful) == (120.0, 11.0, {})
    level.take(7, 0.1, near)  # beyond both: what came before is in doubt
    assert (level.at(6), level.beyond, level.doubtful) == (100.0, 1, {})
    level.take(13, 110.0, near)
    assert (level.at(13), level.beyond) == (100.0, 1), "while it lasts, that says neither"
    slow = Level([10.0, 100.0], [1_000.0] * 9)
    for slot in (0, 1, 2):
        slow.take(slot, (11.0, 101.0)[slot % 2], near)
    assert (slow.values, slow.doubtful) == ([11.0, 101.0], {0: 11.0}), "a season has passed, and none was beyond"


def test_one_odd_day_is_forgotten() -> None:
    feed = fed({"step": {"ratio_max": 3, "settle": 10}, "fallback": "last_value"})
    assert served(feed, 900.0, 20.0, 20.0, 20.0, demand=900.0).forecast.values[0] == WEEK[(READY - 1) % 7]  # type: ignore[union-attr]  # it has one
    assert served(feed, 20.0, 20.0, 20.0, 20.0, day=READY + 1).guard == "served"
    level = feed.shard.history.series
    assert level is not None


@pytest.mark.parametrize(
    ("width", "wide"),
    [({"max": 1e-9}, True), ({"max": 1e9}, False), ({"ratio_max": 1e-9}, True), ({"ratio_max": 1e9}, False),
     ({"ratio_max": 1e-9, "tolerance": 1e9}, False)],
)  # fmt: skip
def test_an_interval_that_is_too_wide(width: dict[str, Any], wide: bool) -> None:
    feed = fed({"width": {**width, "action": "fallback"}, "fallback": "seasonal"}, days=40)
    score = served(feed, 20.0, 20.0, 20.0, 20.0, day=40)
    assert score.forecast is not None
    assert (score.guard == "fallback") == wide
    if wide:  # a fallback with as wide an interval has none
        assert score.forecast.lower == score.forecast.upper == (None,) * 4
        assert {trip.rung for trip in score.tripped} == {"width"}


def test_an_untrained_model_is_marked_once_for_all_horizons() -> None:
    score = served(fed({"untrained": {"labels_min": 500}}), 20.0, 20.0, 20.0, 20.0)
    assert score.guard == "flagged"
    assert [(trip.rung, trip.horizon) for trip in score.tripped] == [("untrained", 0)]


def test_an_unfamiliar_feature_is_named() -> None:
    feed = fed({"unfamiliar": {"score_max": 0.9, "action": "withhold"}}, days=40)
    says(feed, 20.0, 20.0, 20.0, 20.0)
    score = score_of(feed.give("a", 40, 25.0, promo=99.0))
    assert score.guard == "withheld"
    assert score.tripped[0].feature == "promo"


# -- fallbacks


def test_a_fallback_that_trips_falls_on_to_the_next_and_at_last_to_nothing() -> None:
    guard = {"range": {"min": 15, "max": 25, "action": "fallback"}, "fallback": ["seasonal", "last_value"]}
    score = served(fed(guard), 900.0, 900.0, 900.0, 900.0, demand=18.0)
    # the days after: 10 is no Saturday's value that may pass, the last observation is
    assert score.forecast is not None
    expected = [(WEEK[(READY + h) % 7], "seasonal") if 15 <= WEEK[(READY + h) % 7] <= 25 else (18.0, "last_value")
                for h in (1, 2, 3, 4)]  # fmt: skip
    assert list(zip(score.forecast.values, score.forecast.instead, strict=True)) == expected
    narrow = {"range": {"min": 200, "max": 201, "action": "fallback"}, "fallback": ["seasonal", "last_value"]}
    assert values(served(fed(narrow), 900.0, 900.0, 900.0, 900.0)) == (None,) * 4


def test_what_is_not_finite_falls_back_at_every_horizon() -> None:
    score = served(fed({**RANGE, "fallback": ["seasonal", {"value": 1}]}), None)
    assert values(score) == tuple(WEEK[(READY + h) % 7] for h in (1, 2, 3, 4))
    assert score.guard == "fallback"
    assert score.tripped[0].rung == "finite"


def test_a_series_is_learned_and_judged_by_what_was_served() -> None:
    feed = fed({**RANGE})
    served(feed, 900.0, 20.0, 20.0, 20.0)
    learned = feed.shard.learner.learned
    outcome = outcome_of(feed.give("a", READY + 1, 50.0))
    assert feed.shard.learner.learned == learned + 1
    assert outcome.judged is not None
    assert outcome.judged.values[0] == 100.0
    assert outcome.judged.made[0] == 900.0
    assert outcome.judged.rungs[0] == "range"
    document = orjson.loads(feed.published[-2])
    assert document["forecast"]["unserved"][0] == 900.0
    assert faults("outcome", document) == []
    guarded = Guarded(feed.shard.pipeline)
    guarded.add([outcome])
    (rung,) = guarded.rungs(feed.shard.counts)
    assert (rung.name, rung.model_error, rung.served_error, rung.saved) == ("range", 850.0, 50.0, 800.0)


def test_what_is_withheld_is_neither_judged_nor_counted_as_an_answer() -> None:
    feed = fed({"range": {"max": 100, "action": "withhold"}})
    assert feed.shard.forecasts is not None
    served(feed, 900.0, 900.0, 900.0, 900.0)
    before, answered = feed.shard.forecasts.board.sums[:, 0].copy(), [0, 0, 0, 0]
    for day in (1, 2, 3, 4):
        says(feed, 20.0, 20.0, 20.0, 20.0)
        judged = outcome_of(feed.give("a", READY + day, 50.0)).judged
        assert judged is not None
        assert judged.values[day - 1] is None
        for horizon, value in zip(judged.horizons, judged.values, strict=True):
            answered[horizon - 1] += value is not None
    assert (feed.shard.forecasts.board.sums[:, 0] - before).tolist() == answered


# -- reviews

HOLD = {
    "range": {"max": 100, "action": "hold"},
    "step": {"ratio_max": 3, "tolerance": 1, "action": "flag", "settle": 1000},
    "fallback": "seasonal",
    "hold": {"wait": "2d", "then": "fallback"},
}


def ruled(feed: Feed, decision: Any, event_id: str, value: float | None = None) -> list[Any]:
    source = Source("demand.control", 0, feed.offset, 0, None, b"{}")
    ruling = Ruling(decision, event_id, "", value, "a promotion")
    feed.offset += 1
    return list(step(feed.shard, Control(source, 0, "review", by="ann", ruling=ruling)))


def test_a_forecast_is_held_whole_and_approved() -> None:
    feed = fed(HOLD)
    score = served(feed, 900.0, 20.0, 20.0, 20.0)
    assert (score.guard, score.forecast, score.prediction) == ("held", None, NOTHING)
    review = orjson.loads(feed.published[-1])
    assert faults("review", review) == []
    assert review["forecast"]["values"] == [900.0, 20.0, 20.0, 20.0]
    assert review["at_deadline"]["forecast"]["values"] == [WEEK[(READY + 1) % 7], 20.0, 20.0, 20.0]
    says(feed, 20.0, 20.0, 20.0, 20.0)
    first = outcome_of(feed.give("a", READY + 1, 50.0))
    assert first.judged is not None
    assert first.judged.values[0] is None
    made = ruled(feed, "approve", str(score.event_id))
    (decided,) = chosen(made, Decided)
    assert decided.forecast is not None
    assert decided.forecast.values == (900.0, 20.0, 20.0, 20.0)
    for one in chosen(made, Review):
        assert faults("review", orjson.loads(feed.encoder.encode(one).value or b"")) == []
    assert faults("score", orjson.loads(feed.encoder.encode(decided).value or b"")) == []
    second = outcome_of(feed.give("a", READY + 2, 50.0))
    assert second.judged is not None
    assert second.judged.values[:2] == (20.0, 20.0)  # of what is still to come, what was approved is judged


def test_a_refused_forecast_and_one_that_is_overdue_are_served_as_the_deadline_would() -> None:
    feed = fed(HOLD)
    score = served(feed, 900.0, 20.0, 20.0, 20.0)
    (decided,) = chosen(ruled(feed, "refuse", str(score.event_id)), Decided)
    assert decided.forecast is not None
    assert decided.forecast.values == (WEEK[(READY + 1) % 7], 20.0, 20.0, 20.0)
    served(feed, 900.0, 20.0, 20.0, 20.0, day=READY + 1)
    says(feed, 20.0, 20.0, 20.0, 20.0)
    late = [one for day in (2, 3, 4) for one in chosen(feed.give("a", READY + day, WEEK[(READY + day) % 7]), Decided)]
    assert [one.guard for one in late] == ["overdue"]


def test_a_forecast_cannot_be_edited_to_one_number() -> None:
    feed = fed(HOLD)
    score = served(feed, 900.0, 20.0, 20.0, 20.0)
    (rejected,) = chosen(ruled(feed, "edit", str(score.event_id), 20.0), Rejected)
    assert rejected.reason == "review_invalid"
    assert feed.shard.kept.held


def test_an_approval_says_that_the_series_is_where_its_observations_are() -> None:
    feed = fed({**HOLD, "range": {"max": 1000}, "step": {"ratio_max": 3, "action": "hold", "settle": 1000}})
    scores = [served(feed, 300.0, 300.0, 300.0, 300.0, day=READY + n, demand=300.0) for n in range(2)]
    assert [score.guard for score in scores] == ["held", "held"]
    ruled(feed, "approve", str(scores[-1].event_id))
    assert served(feed, 250.0, 250.0, 250.0, 250.0, day=READY + 2, demand=250.0).tripped == ()


# -- any model, any moment


ODD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0, 1e-300, 5.0, 100.0)
ACTIONS = ("flag", "clip", "fallback", "last_good", "withhold", "hold")


@pytest.mark.parametrize("seed", range(12))
def test_nothing_beyond_the_limits_is_ever_served_and_every_moment_can_be_restored(seed: int) -> None:
    rng = random.Random(seed)
    actions = rng.choice(ACTIONS), rng.choice(ACTIONS)
    guard = {
        "range": {"min": 5, "max": 100, "action": actions[0]},
        "step": {"ratio_max": 3, "tolerance": 2, "action": actions[1]},
        "fallback": ["last_good", "seasonal", "last_value", {"value": 7}],
        **({"hold": {"wait": "2d", "then": "fallback"}} if "hold" in actions else {}),
    }
    feed = fed(guard, transform=rng.choice(("none", "sqrt", "log")))
    twin, scores = fed(guard, transform=feed.shard.pipeline.forecast.transform), 0  # type: ignore[union-attr]  # it has one
    for place in range(40):
        answer = [rng.choice(ODD) if rng.random() < 0.2 else rng.uniform(-50, 150) for _ in range(4)]
        demand = rng.choice((20.0, 25.0, 0.5, 900.0, 0.0))
        if rng.random() < 0.2:
            feed.shard = load(feed.shard.pipeline, 0, dump(feed.shard))
        made = []
        for one in (feed, twin):
            says(one, *answer)
            made = one.give("a", READY + place, demand)
            for score in (*chosen(made, Score), *chosen(made, Decided)):
                scores += 1
                if score.forecast is not None:
                    check(score, actions[0])
        assert feed.published[-len(made) :] == twin.published[-len(made) :]
    assert scores >= 80


def check(score: Score | Decided, action: str) -> None:
    """What must be true of all that is served under a range from 5 to 100."""
    assert score.forecast is not None
    forecast = score.forecast
    for value, low, high in zip(forecast.values, forecast.lower, forecast.upper, strict=True):
        if value is None:
            continue
        assert math.isfinite(value)
        if low is not None and high is not None:
            assert low <= value <= high
        if action != "flag" and score.guard != "approved":
            assert 5 <= value <= 100
            assert low is None or low >= 5
            assert high is None or high <= 100
    assert score.prediction.value == forecast.values[0]
    if any(one in ("fallback", "withheld", "clipped") for one in forecast.guard):
        assert score.tripped
