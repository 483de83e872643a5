"""The guard's second model: it learns beside the first one, and is served where that one's prediction does not pass."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from driftline.backtest.guarded import Guarded
from driftline.cli.shards import _second
from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.oracle import Oracle
from driftline.core.output import MODEL, SECOND, Alert, Outcome, Output, Prediction, Score, Several
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.pipeline.foreign import parse_foreign
from driftline.core.record import Event
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt, begun_anew, refused_keys
from driftline.core.state.freeze import dump, frozen_digest, load
from driftline.core.state.soundness import sound
from driftline.core.stepwise import at_once
from driftline.operate.metric import _SECOND
from tests.core.guard.test_quarantine import BURST, CLEAN, HOLD, burst, pairs
from tests.core.guard.test_quarantine import control as ordered
from tests.support.schema import faults
from tests.support.small import NOW_MS, chosen, control, event, fold, label, small, source

OTHER = "Select('x') | StandardScaler() | LinearRegression(l2=0.1)"
RANGE: dict[str, Any] = {"range": {"min": -50, "max": 50, "action": "fallback"}}


def guarded(*then: Any, model: str = OTHER, task: str = "regression", **guard: Any) -> Pipeline:
    return small(task, guard={**(guard or RANGE), "fallback": [{"model": model}, *then]})


def says(here: Shard, value: float | None) -> None:
    """The first model says this number from here on."""
    here.learner.predict = lambda _: None if value is None else Prediction(value=value)


def lived(pipeline: Pipeline, count: int = 60) -> Shard:
    """A shard that learned that the label is twice x."""
    here = Shard(pipeline, 0)
    for number in range(count):
        x = float(number % 10)
        fold(here, event(number, NOW_MS + number, x, offset=number), label(number, 2 * x, NOW_MS, offset=number))
    return here


def one(here: Shard, name: object = "one", x: float = 4.0) -> Score:
    score: Score = chosen(fold(here, event(str(name), NOW_MS + 1_000, x, offset=900)), Score)[0]
    return score


def outcome(here: Shard, name: object = "one", value: float = 8.0) -> Outcome:
    ended: Outcome = chosen(fold(here, label(str(name), value, NOW_MS + 1_000, offset=900)), Outcome)[0]
    return ended


def test_it_is_served_where_a_rung_trips_on_the_first_one() -> None:
    here = lived(guarded({"value": 0}))
    says(here, 1e9)
    assert here.second is not None
    said = here.second.learner.predict((4.0, "a"))
    score = one(here)
    assert (score.guard, score.instead) == ("fallback", "second_model")
    assert score.prediction == said
    assert here.counts["instead_second_model"] == 1
    ended = outcome(here)
    assert {made.name: made.prediction.value for made in ended.unserved} == {
        MODEL: 1e9, SECOND: score.prediction.value,
    }  # fmt: skip
    value = orjson.loads(Encoder(here.pipeline, 0).encode(ended).value or b"")
    assert faults("outcome", value) == []
    assert value["second_model"] == {"model_version": "0.60", "prediction": score.prediction.value}
    assert [made["rung"] for made in value["unserved"]] == ["range"]


def test_what_it_said_of_events_that_passed_is_known_too_and_both_errors_are_counted() -> None:
    here = lived(guarded())
    assert here.guarded()["second_model"]["labels"] == 60
    says(here, 7.0)
    score = one(here)
    assert (score.guard, score.prediction.value) == ("served", 7.0)
    assert here.second is not None
    labels, first, own = here.second.labels, here.second.first_error, here.second.own_error
    ended = outcome(here, value=8.0)
    assert [made.name for made in ended.unserved] == [SECOND]
    assert here.second.labels == labels + 1
    assert here.second.first_error == first + 1.0
    assert here.second.own_error == own + abs(8.0 - (ended.unserved[0].prediction.value or 0))
    assert "unserved" not in orjson.loads(Encoder(here.pipeline, 0).encode(ended).value or b"")


def test_a_second_model_that_trips_too_falls_on_to_the_next_at_last_to_nothing() -> None:
    strict: dict[str, Any] = {"range": {"min": -1, "max": 1, "action": "fallback"}}
    here = lived(guarded({"value": 0}, **strict))
    assert (one(here).instead, one(here, 2).prediction.value) == ("value", 0.0)
    assert one(lived(guarded(**strict))).guard == "withheld"
    untrained: dict[str, Any] = {"untrained": {"labels_min": 5, "action": "fallback"}}
    assert one(Shard(guarded({"value": 3}, **untrained), 0)).instead == "value", "it has learned nothing either"


def test_a_model_that_is_reset_by_a_drift_is_stood_in_for() -> None:
    here = lived(guarded(untrained={"labels_min": 20, "action": "fallback"}))
    here.learner.reset()  # as a reaction does
    assert one(here).instead == "second_model"


def test_what_is_not_finite_or_raises_is_never_served() -> None:
    here = lived(guarded({"value": 0}))
    says(here, 1e9)
    assert here.second is not None
    here.second.learner.predict = lambda _: Prediction(value=math.inf)  # a learner checks it; so do the rungs
    assert one(here).instead == "value"

    def fails(_: object) -> Prediction:
        raise ZeroDivisionError("no")

    here.second.learner.predict = fails
    oracle = Oracle()
    made = fold(here, event("two", NOW_MS + 1_000, 4.0, offset=901), oracle=oracle)
    assert chosen(made, Score)[0].instead == "value"
    assert here.counts["second_failed"] == 1
    assert [name for name in oracle.found if name.startswith("second ")]
    again = lived(guarded({"value": 0}))
    says(again, 1e9)
    replayed = fold(again, event("two", NOW_MS + 1_000, 4.0, offset=901), oracle=Oracle(oracle.found))
    assert chosen(replayed, Score)[0].instead == "value", "a replay asks no model that raised then"


def test_reset_resets_both_freeze_stops_both_and_a_load_changes_the_first_alone() -> None:
    here = lived(guarded())
    assert here.second is not None
    fold(here, control("freeze"))
    one(here)
    outcome(here)
    assert (here.learner.known, here.second.learner.known) == (60, 60)
    fold(here, control("unfreeze", offset=1))
    here.learner.load(here.learner.model, b"", 7)
    assert (here.learner.known, here.second.learner.known) == (7, 60)
    fold(here, control("reset", offset=2))
    assert (here.learner.known, here.second.learner.known) == (0, 0)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "anomaly"])
def test_every_task_learns_it_and_keeps_it_through_a_restart(task: str) -> None:
    model = {
        "binary": "Select('x') | StandardScaler() | LogisticRegression(l2=0.1)",
        "multiclass": "Select('x') | GaussianNB()",
        "regression": OTHER,
        "anomaly": "HalfSpaceTrees(n_trees=2, height=3, window_size=20)",
    }[task]
    untrained = {"labels_min": 1_000, "action": "flag"}
    chosen_one = guarded(model=model, task=task, untrained=untrained)
    word = task != "anomaly"
    truth: Any = {"multiclass": "ab", "regression": (1.0, 2.0)}.get(task, (False, True))

    def records(first: int, count: int) -> list[Any]:
        made: list[Any] = []
        for number in range(first, first + count):
            made.append(event(number, NOW_MS + number, float(number % 7), offset=number, word=word))
            made.append(label(number, truth[number % 2], NOW_MS + number, offset=number))
        return made

    here = Shard(chosen_one, 0)
    fold(here, *records(0, 60))
    assert here.second is not None
    assert here.second.learner.learned == 60
    assert (here.second.labels > 0) == (task != "anomaly"), "an anomaly score has no error"
    there = load(chosen_one, 0, dump(here))
    at_once(sound(there))
    assert fold(here, *records(60, 60)) == fold(there, *records(60, 60))
    assert frozen_digest(chosen_one, 0, dump(here)) == frozen_digest(chosen_one, 0, dump(there))


def test_a_burst_that_is_undone_is_undone_in_both_and_learned_once_when_released() -> None:
    second = "Select('x') | StandardScaler() | LogisticRegression(l2=0.01)"
    guard = {"untrained": {"labels_min": 1, "action": "fallback"}, "fallback": [{"model": second}]}
    chosen_one = small(learning=HOLD, guard=guard, label={"wait": "1d"})
    here = Shard(chosen_one, 0)
    fold(here, *pairs(CLEAN))
    burst(here)
    held = len(here.quarantine.held)
    assert here.second is not None
    assert held > 0
    assert here.counts["quarantine_undone"] > 0
    assert here.learner.known == here.second.learner.known == CLEAN + BURST - held
    there = load(chosen_one, 0, dump(here))
    at_once(sound(there))
    released = fold(here, ordered("release", why="right")), fold(there, ordered("release", why="right"))
    assert released[0] == released[1]
    assert here.second.learner.known == here.learner.known == CLEAN + BURST


def test_without_a_copy_from_before_the_burst_it_begins_anew() -> None:
    """Else it would learn again what it already knows."""
    guard = {
        "untrained": {"labels_min": 1, "action": "fallback"},
        "fallback": [{"model": "Select('x') | GaussianNB()"}],
    }
    here = Shard(small(learning=HOLD, guard=guard, label={"wait": "1d"}), 0)
    fold(here, *pairs(CLEAN))
    assert here.second is not None
    records = list(pairs(BURST, flipped=True, first=CLEAN))
    fold(here, *records[:20])
    here.second.copies.forget()  # as where its last good copy took over
    fold(here, *records[20:])
    assert here.quarantine.held
    assert here.second.learner.generation == 1
    assert here.second.learner.known < BURST


def test_a_changed_file_keeps_it_or_begins_another() -> None:
    before = guarded()
    here = lived(before)
    for after, known in ((guarded({"value": 1}), 60), (guarded(model="Select('x') | LinearRegression()"), 0)):
        assert refused_keys(before.resolved(), after.resolved()) == []
        there = load(after, 0, dump(here))
        adopt(there, before)
        assert there.second is not None
        assert there.second.learner.known == known
        assert ("the guard's second model" in begun_anew(before, after)) == (known == 0)
    none = small("regression", guard={**RANGE, "fallback": ["last_good"]})
    there = load(none, 0, dump(here))
    adopt(there, before)
    assert there.second is None
    back = load(before, 0, dump(there))
    adopt(back, none)
    assert back.second is not None
    assert back.second.learner.known == 0


def test_a_parameter_of_it_may_change_and_it_begins_anew() -> None:
    model = "Select('x') | LinearRegression(l2=$second)"

    def at(value: float) -> Pipeline:
        return small("regression", params={"second": value}, guard={**RANGE, "fallback": [{"model": model}]})

    here = lived(at(0.1))
    assert refused_keys(at(0.1).resolved(), at(0.2).resolved()) == []
    there = load(at(0.2), 0, dump(here))
    assert there.second is not None
    assert there.second.learner.known == 0


@pytest.mark.parametrize(
    ("fallback", "place", "why"),
    [
        ([{"model": "Nonsense()"}], "guard.fallback.0.model", "Nonsense"),
        ([{"model": "Select('nope') | LinearRegression()"}], "guard.fallback.0.model", "not a declared feature"),
        ([{"model": "LogisticRegression()"}], "guard.fallback.0.model", "task regression"),
        ([{"model": "StandardScaler()"}], "guard.fallback.0.model", "task regression"),
        (["last_good", {"model": "PARegressor()"}, {"model": OTHER}], "guard.fallback.2", "third model"),
        ([{"model": OTHER}, {"model": OTHER}], "guard.fallback.1", "listed twice"),
        ([{"value": 1}, {"model": OTHER}], "guard.fallback.1", "never reached"),
    ],
)
def test_a_second_model_that_cannot_be_is_refused(fallback: list[Any], place: str, why: str) -> None:
    with pytest.raises(PipelineError) as refused:
        small("regression", guard={**RANGE, "fallback": fallback})
    problem = next(one for one in refused.value.problems if one.path == place)
    assert why in str(problem)


def test_features_that_it_alone_reads_are_used() -> None:
    model = "Select('x') | LinearRegression()"
    read = small(
        "regression",
        model=model,
        guard={**RANGE, "fallback": [{"model": "Select('word') | OneHotEncoder() | LinearRegression()"}]},
    )
    assert read.second is not None
    assert read.resolved()["guard"]["fallback"] == [{"model": "Select('word') | OneHotEncoder() | LinearRegression()"}]


def test_a_factory_of_another_is_not_called() -> None:
    foreign = guarded().resolved()
    foreign["guard"]["fallback"] = [{"model": "os:getcwd"}]
    with pytest.raises(PipelineError, match="so it is not called"):
        parse_foreign(foreign, guarded())
    foreign["guard"]["fallback"] = [{"model": "KNNRegressor(n_neighbors=999999999)"}]
    with pytest.raises(PipelineError, match="only built if it is in the pipeline file"):
        parse_foreign(foreign, guarded())


def test_a_state_of_a_second_model_that_none_of_ours_wrote_is_refused() -> None:
    here = lived(guarded())
    assert here.second is not None
    here.second.labels = -1
    with pytest.raises(Exception, match="second"):
        at_once(sound(here))


@pytest.mark.parametrize("fallback", [{"model": "Select('x') | GaussianNB()"}, {"value": 0.5}])
def test_what_waits_shares_no_object_that_a_restart_would_part(fallback: dict[str, Any]) -> None:
    """Else `check` takes the pipeline for one that is not deterministic."""
    guard: dict[str, Any] = {"untrained": {"labels_min": 1_000, "action": "fallback"}, "fallback": [fallback]}
    if "model" in fallback:
        guard["untrained"] = {"labels_min": 5, "action": "fallback"}
    both = Shard(small(guard=guard), 0), Shard(small(guard=guard), 0)
    for here in both:
        for number in range(20):
            fold(here, event(number, NOW_MS + number, float(number % 5), offset=number))
            fold(here, label(number, number % 5 > 2, NOW_MS + number, offset=number))
        here.learner.reset()
        scores = chosen(fold(here, *[event(one, NOW_MS + one, 1.0, offset=one) for one in (50, 51)]), Score)
        assert scores[0].guard == "fallback"
    restarted = load(both[1].pipeline, 0, dump(both[1]))
    made = [fold(here, label(50, True, NOW_MS + 60, offset=50)) for here in (both[0], restarted)]
    assert [digest_of(one) for one in made[0]] == [digest_of(one) for one in made[1]]


def test_a_report_a_scrape_and_status_have_both_errors() -> None:
    here = lived(guarded())
    guarded_by, off = Guarded(here.pipeline), list[float]()
    for value, name in ((1e9, "replaced"), (7.0, "passed")):
        says(here, value)
        one(here, name)
        ended = outcome(here, name, value=8.0)
        off += [abs(8.0 - (made.prediction.value or 0.0)) for made in ended.unserved if made.name == SECOND]
        guarded_by.add([ended])
    both = Guarded(here.pipeline)
    both.merge(guarded_by)
    found = both.second(here.counts)
    assert found is not None
    assert (found.served, found.labels, found.replaced) == (1, 2, 1)
    assert found.model_error == (1e9 - 8.0 + 1.0) / 2
    assert (found.replaced_error, found.second_error) == (off[0], sum(off) / 2)
    seen: Any = SimpleNamespace(summary=here.summary())
    scraped = {series.name: dict(series.read(seen)) for series in _SECOND}
    shown = here.guarded()["second_model"]
    assert scraped["driftline_guard_model_error"] == {("first",): shown["first_error"], ("second",): shown["error"]}
    assert scraped["driftline_guard_compared_labels"] == {(): 62}
    assert scraped["driftline_guard_second_failures"] == {(): 0}
    assert _second(here.guarded()["second_model"]).startswith("second model 0.62: served 1 times; mean error ")
    none = Guarded(small("regression", guard={**RANGE, "fallback": ["last_good"]}))
    assert none.second({}) is None


def ahead(model: str, other: str, **more: Any) -> Pipeline:
    """Daily demand, whose second model is another one."""
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": "forecast",
            "event": {"id": "id", "time": "at", "features": {"demand": "number"}, "context": {"item": "key"}},
            "forecast": {"by": "item", "target": "demand", "step": "1d", "horizons": 3, "season": 2, "window": 50},
            "model": model,
            "guard": {**RANGE, "fallback": [{"model": other}, {"value": 0}]},
            **more,
        }
    )


def observed(here: Shard, number: int, demand: float) -> list[Output]:
    """A day's demand."""
    at_ms = NOW_MS + number * 86_400_000
    source_of = source("p.events", number, time_ms=at_ms)
    return fold(here, Event(source_of, at_ms, at_ms, number, (demand,), context=("a",)))


def test_forecasts_of_both_are_judged_at_each_horizon() -> None:
    pipeline = ahead("StandardScaler() | LinearRegression()", "SeasonalNaive()")
    here, encoder, guarded_by = Shard(pipeline, 0), Encoder(pipeline, 0), Guarded(pipeline)
    off, waiting, judged, replaced = [0.0, 0.0], dict[int, Any](), 0, 0
    for number in range(60):
        demand = float(10 + number % 2 + number % 5)
        if number == 30:
            here = load(pipeline, 0, dump(here))
            here.learner.predict = lambda _: Several(value=1e9, ahead=(1e9, 3.0, 1e9))
        made = observed(here, number, demand)
        ended = chosen(made, Outcome)[0]
        guarded_by.add([ended])
        assert faults("outcome", orjson.loads(encoder.encode(ended).value or b"")) == []
        if (found := ended.judged) is not None and found.second:
            for place, horizon in enumerate(found.horizons):
                first, own = waiting[number - horizon][horizon - 1], found.second[place]
                assert own == found.naive[place], "it forecasts the season before"
                off = [off[0] + abs(demand - first), off[1] + abs(demand - own)]
                judged, replaced = judged + 1, replaced + (not -50 <= first <= 50)
        score = chosen(made, Score)[0]
        if score.forecast is not None:
            unserved = score.unserved[0].ahead if score.unserved else (None,) * 3
            pairs = zip(unserved, score.forecast.values, strict=True)
            waiting[number] = [value if one is None else one for one, value in pairs]
    assert judged > 100
    shown = here.guarded()["second_model"]
    assert shown["labels"] == judged
    assert (shown["first_error"], shown["error"]) == pytest.approx((off[0] / judged, off[1] / judged))
    report = guarded_by.second(here.counts)
    assert report is not None
    assert (report.labels, report.replaced) == (judged, replaced)
    assert report.second_error == pytest.approx(off[1] / judged)


def _fails(_: object) -> Prediction:
    raise ZeroDivisionError("no")


@pytest.mark.parametrize("task", ["regression", "forecast"])
def test_exceptions_of_it_are_an_alert_that_ends(task: str) -> None:
    limits: dict[str, Any] = {"limits": {"model_error_max": 5}}
    if task == "forecast":
        here = Shard(ahead("SeasonalNaive()", "StandardScaler() | LinearRegression()", **limits), 0)
    else:
        here = Shard(small("regression", guard={**RANGE, "fallback": [{"model": OTHER}, {"value": 0}]}, **limits), 0)
    second = here.second
    assert second is not None

    def lives(first: int, last: int, *, failing: bool = False) -> list[Alert]:
        made = list[Output]()
        for number in range(first, last):
            if failing:  # anew: it was put back
                second.learner.predict = _fails
            if task == "forecast":
                made += observed(here, number, 10.0)
            else:
                made += fold(here, event(number, NOW_MS + number * 60_000, 1.0, offset=number))
        return [one for one in chosen(made, Alert) if one.kind == "model_failure"]

    assert lives(0, 20) == []
    (alert,) = lives(20, 26, failing=True)
    assert (alert.state, alert.kind, alert.severity) == ("opened", "model_failure", "warning")
    assert alert.sentence.startswith("The second model of p failed on 5 of its last 1,000 calls")
    assert here.counts["second_failed"] == 6
    states = [one.state for one in lives(26, 1_200)]
    assert states[-1] == "resolved"
    assert set(states[:-1]) <= {"ongoing"}


def test_an_answer_of_it_that_is_not_finite_is_an_alert() -> None:
    here = lived(guarded({"value": 0}))
    assert here.second is not None
    here.second.learner.predict = lambda _: None
    made = fold(here, event("two", NOW_MS + 1_000, 4.0, offset=901))
    (alert,) = chosen(made, Alert)
    assert alert.sentence.startswith("The second model of p returned a prediction that is not a finite number")
    assert chosen(made, Score)[0].guard == "served"


def test_whatever_both_say_the_sums_of_their_errors_stay_numbers() -> None:
    pipeline = guarded(range={"max": 1e308, "min": -1e308, "action": "flag"})
    here = lived(pipeline, 5)
    for name in range(100, 103):
        says(here, 1.7e308)
        one(here, name)
        outcome(here, str(name), value=-1e15)
    assert 1e307 < here.guarded()["second_model"]["first_error"] < math.inf
    here.learner.predict = lambda _: None
    at_once(sound(load(pipeline, 0, dump(here))))


def test_forecasts_learn_it_and_serve_it_at_the_horizons_that_trip() -> None:
    chosen_one = ahead("StandardScaler() | LinearRegression()", "SeasonalNaive()")
    here, scores = Shard(chosen_one, 0), list[Score]()
    for number in range(30):
        if number == 25:
            here.learner.predict = lambda _: Several(value=1e9, ahead=(1e9, 3.0, 1e9))
        scores += chosen(observed(here, number, float(10 + number % 2)), Score)
    latest = scores[-1].forecast
    assert latest is not None
    assert (latest.instead[0], latest.instead[1], latest.instead[2]) == ("second_model", None, "second_model")
    assert (latest.values[0], latest.values[2]) == (latest.naive[0], latest.naive[2])
    assert here.counts["instead_second_model"] == 5
    assert here.second is not None
    assert here.second.learner.learned == here.learner.learned
    there = load(chosen_one, 0, dump(here))
    at_once(sound(there))
    assert frozen_digest(chosen_one, 0, dump(here)) == frozen_digest(chosen_one, 0, dump(there))
