"""The rung `distribution`: predictions that pass one by one, and are absurd together."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.guard import distribution
from driftline.core.guard.distribution import SAMPLE, Outputs
from driftline.core.output import Alert, Prediction, Score, Several
from driftline.core.river.ahead import Asked
from driftline.core.shard.state import Shard
from driftline.core.state import form
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.core.guard.test_guard import outline, served, shard, value_of
from tests.support import series
from tests.support.series import Feed, score_of
from tests.support.small import NOW_MS, chosen, event, fold, small

DISTRIBUTION = {"distance_max": 0.3, "latest": 100}


def guarded(**changes: Any) -> Shard:
    return shard(distribution={**DISTRIBUTION, **changes}, range={"min": -1e9}, fallback=[{"value": 7}])


def draws(count: int, middle: float = 0.0, seed: int = 1) -> list[float]:
    rng = random.Random(f"{seed} {middle}")
    return [rng.gauss(middle, 1.0) for _ in range(count)]


def test_a_shift_of_all_predictions_trips_and_single_ones_do_not() -> None:
    here = guarded(action="fallback")
    before = served(here, *draws(SAMPLE + 500))
    assert {score.guard for score in before} == {"served"}
    assert {score.guard for score in served(here, 3.0, -3.0, 5.0, -5.0)} == {"served"}
    after = served(here, *draws(300, middle=1.5))
    first = next(place for place, score in enumerate(after) if score.guard == "fallback")
    assert 20 <= first <= 100
    assert outline(after[first + 20 :]) == [("fallback", 7.0)] * (280 - first)
    trip = after[-1].tripped[-1]
    assert (trip.rung, trip.action, trip.limit) == ("distribution", "fallback", 0.3)
    assert 0 < (trip.excess or 0) <= 0.7
    assert value_of(here, after[-1])["tripped"][0]["rung"] == "distribution"
    again = served(here, *draws(300, seed=2))
    assert again[-1].guard == "served"  # the model is itself again


def test_a_constant_is_told_from_what_varied() -> None:
    here = guarded()
    served(here, *draws(SAMPLE + 200))
    assert served(here, *[0.0] * 150)[-1].guard == "flagged"


def test_the_reference_follows_what_changes_slowly_and_not_what_it_objects_to() -> None:
    here = guarded()
    rng = random.Random(3)
    slowly = served(here, *[rng.gauss(place / 5_000, 1.0) for place in range(12_000)])
    assert sum(score.guard == "flagged" for score in slowly) == 0
    sudden = served(here, *draws(3 * SAMPLE, middle=9.0))
    assert all(score.guard == "flagged" for score in sudden[200:])


def test_it_begins_anew_with_another_model_and_another_limit() -> None:
    here = guarded()
    served(here, *draws(SAMPLE + 200))
    assert here.kept.outputs.edges
    here.learner.reset()
    assert {score.guard for score in served(here, *draws(300, middle=9.0))} == {"served"}
    assert len(here.kept.outputs.sample) == 300
    changed = small("regression", guard={"distribution": {"distance_max": 0.5}})
    restored = load(changed, 0, dump(here))
    adopt(restored, here.pipeline)
    assert restored.kept.outputs.sample == []


def test_predictions_of_a_model_that_is_marked_are_no_reference() -> None:
    here = shard(distribution=DISTRIBUTION, untrained={"labels_min": 5})
    served(here, *draws(50))
    assert here.kept.outputs.sample == []


def says_class(here: Shard, *names: Any) -> list[Score]:
    """What is served where the model says these classes."""
    left, first = iter(names), here.counts.get("scored", 0)
    here.learner.predict = lambda _: Prediction(label=next(left))
    records = [event(number, NOW_MS + number, offset=number) for number in range(first, first + len(names))]
    return chosen(fold(here, *records), Score)


def classes(count: int, weights: tuple[int, ...] = (5, 3, 2), seed: int = 1) -> list[str]:
    return random.Random(seed).choices("abc", weights, k=count)


def test_a_shift_of_classes_trips_whatever_their_number() -> None:
    here = shard("multiclass", distribution={**DISTRIBUTION, "action": "fallback"}, fallback=[{"value": "c"}])
    assert {score.guard for score in says_class(here, *classes(SAMPLE + 500))} == {"served"}
    assert here.kept.outputs.ranks == {"a": 0, "b": 1, "c": 2}
    twin = load(here.pipeline, 0, dump(here))
    form.conform(twin.kept, type(twin.kept))
    rare = classes(150, weights=(1, 1, 8), seed=2)
    after = says_class(here, *rare)
    assert (after[-1].guard, after[-1].prediction.label) == ("fallback", "c")
    assert [score.guard for score in says_class(twin, *rare)] == [score.guard for score in after]
    assert says_class(here, *classes(150, seed=3))[-1].guard == "served"
    unknown = says_class(here, *["new"] * 100)
    assert unknown[-1].guard == "fallback"
    assert says_class(here, math.nan)[0].prediction.label is not None, "of a class that equals none: nothing is counted"


def test_classes_that_stay_as_they_are_never_trip_be_they_two_or_a_hundred() -> None:
    for count in (2, 10, 100):
        outputs, rng = Outputs(), random.Random(count)
        for _ in range(20_000):
            name = f"{min(rng.randrange(count), rng.randrange(count))}"
            assert outputs.take(name, 200) <= 0.3
            outputs.accept(name, classes=True)


def test_forecasts_are_compared_by_how_far_they_are_from_the_season_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "SAMPLE", 100)
    guard = {"distribution": {"distance_max": 0.5, "latest": 50, "action": "fallback"}, "fallback": ["seasonal"]}
    feed, rng, away = Feed(series.pipeline(guard=guard)), random.Random(4), 0.0

    def forecast(asked: Asked) -> Several:
        ahead = tuple([base + asked.scale * rng.gauss(away, 1) for base in asked.bases])
        return Several(value=ahead[0], ahead=ahead)

    feed.shard.learner.predict = forecast
    found: list[Score] = []
    for day in range(260):
        away = 0.0 if day < 200 else 2.0
        for item, size in (("a", 10.0), ("b", 1_000.0)):
            score = score_of(feed.give(item, day, size * (1 + 0.1 * rng.gauss(0, 1) + 0.5 * (day % 7 == 0))))
            found += [score] if score.forecast is not None else []
    assert {score.guard for score in found[:-120]} == {"served"}
    first = next(place for place, score in enumerate(found[-120:]) if score.guard == "fallback")
    assert 10 <= first <= 50
    last = found[-1]
    assert [(trip.rung, trip.horizon) for trip in last.tripped] == [("distribution", 0)]
    assert last.forecast is not None
    assert (set(last.forecast.instead), last.forecast.values) == ({"seasonal"}, last.forecast.naive)
    assert digest_of(load(feed.shard.pipeline, 0, dump(feed.shard)).kept) == digest_of(feed.shard.kept)


@pytest.mark.parametrize("seed", range(5))
def test_predictions_that_stay_as_they_are_never_trip(seed: int) -> None:
    outputs, rng = Outputs(), random.Random(seed)
    for _ in range(50_000):
        value = rng.lognormvariate(0, 1)
        assert outputs.take(value, 200) <= 0.3
        outputs.accept(value)
    assert sum(outputs.usual) == SAMPLE


def test_a_restored_state_is_sound_and_goes_on_the_same() -> None:
    here = guarded()
    served(here, *draws(SAMPLE + 150))
    twin = load(here.pipeline, 0, dump(here))
    more = draws(150, middle=1.0)
    assert outline(served(here, *more)) == outline(served(twin, *more))
    assert digest_of(here.kept) == digest_of(twin.kept)
    form.conform(here.kept, type(here.kept))
    here.kept.outputs.counts[0] += 1
    with pytest.raises(form.UnsoundError):
        form.conform(here.kept, type(here.kept))


def test_an_alert_says_how_far_apart_they_are() -> None:
    here = small("regression", guard={"distribution": DISTRIBUTION, "range": {"min": -1e9}})
    one = Shard(here, 0)
    served(one, *draws(SAMPLE + 200))
    one.learner.predict = lambda _: Prediction(value=5.0)
    made = fold(one, *[event(number, NOW_MS + number, offset=number) for number in range(2_000, 2_200)])
    alert = next(made for made in chosen(made, Alert) if made.kind == "guard")
    assert "are distributed unlike earlier ones" in alert.sentence
    assert alert.evidence["signal"] == "distribution"
