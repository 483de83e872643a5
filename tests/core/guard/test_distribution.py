"""The rung `distribution`: predictions that pass one by one, and are absurd together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.guard.distribution import SAMPLE, Outputs
from driftline.core.output import Alert, Prediction
from driftline.core.shard.state import Shard
from driftline.core.state import form
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.core.guard.test_guard import outline, served, shard, value_of
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
