"""Models of items against ridge regression by numpy, their bounds, and pickling."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from driftline.core.digest import digest_of
from driftline.core.river.items import REFRESH, LinearItems, Popularity


def learned(model: Any, count: int, seed: int = 0) -> list[tuple[dict[str, Any], dict[str, float]]]:
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        x = {"a": float(random.normal()), "word": str(random.choice(["x", "y"])), "yes": bool(random.random() < 0.5)}
        rewards = {item: float(random.random() < 0.3) for item in random.choice(["i", "j", "k"], 2, replace=False)}
        model.learn_many(x, rewards)
        pairs.append((x, rewards))
    return pairs


def vector(x: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.array([1.0, x["a"], x["word"] == "x", x["word"] == "y", float(x["yes"])])


@pytest.mark.parametrize("count", [30, REFRESH, 2 * REFRESH + 50])
def test_estimates_are_those_of_ridge_regression(count: int) -> None:
    model = LinearItems(l2=2.0, half_life=None)
    pairs = learned(model, count)
    mean, number = 0.0, 0
    sums = {item: (2.0 * np.eye(5), np.zeros(5)) for item in "ijk"}
    for x, rewards in pairs:
        for item, reward in rewards.items():
            number += 1
            mean += (reward - mean) / number
            gram, moment = sums[item]
            sums[item] = (gram + np.outer(vector(x), vector(x)), moment + reward * vector(x))
    asked = {"a": 0.5, "word": "x", "yes": True}
    means, deviations = model.estimate(asked, ["i", "j", "k", "new"])
    for item, got, deviation in zip("ijk", means, deviations, strict=False):
        gram, moment = sums[item]
        prior = 2.0 * mean * np.eye(5)[0]
        assert got == pytest.approx(vector(asked) @ np.linalg.solve(gram, moment + prior), abs=1e-9)
        wanted = np.sqrt(model.noise * vector(asked) @ np.linalg.solve(gram, vector(asked)))
        assert deviation == pytest.approx(wanted, abs=1e-9)
    assert means[3] == pytest.approx(mean)
    assert deviations[3] > deviations[:3].max()


def test_the_past_fades_by_half_in_a_half_life() -> None:
    model, fading = Popularity(prior=1e-9, half_life=None), Popularity(prior=1e-9, half_life=REFRESH)
    for one in (model, fading):
        for _ in range(REFRESH):
            one.learn_many({}, {"a": 1.0})
        for _ in range(REFRESH // 2):
            one.learn_many({}, {"a": 0.0})
    assert model.estimate({}, ["a"])[0][0] == pytest.approx(2 / 3)
    assert fading.estimate({}, ["a"])[0][0] == pytest.approx(1 / 2)


@pytest.mark.parametrize("make", [lambda: LinearItems(items_max=3), lambda: Popularity(items_max=3)])
def test_the_item_that_was_learned_longest_ago_makes_room(make: Any) -> None:
    model = make()
    for item in ("a", "b", "c", "a", "d"):
        model.learn_many({"x": 1.0}, {item: 1.0})
    for _ in range(20):
        model.learn_many({"x": 1.0}, {"d": 0.0})
    means, deviations = model.estimate({"x": 1.0}, ["a", "b", "never seen"])
    assert model.evicted == 1
    assert means[1] == means[2]
    assert deviations[1] == deviations[2]
    assert means[0] > means[1]


def test_further_columns_are_ignored_and_counted() -> None:
    model = LinearItems(columns_max=3)
    model.learn_many({"a": 1.0, "b": 1.0, "c": 1.0, "d": "x"}, {"i": 1.0})
    assert model.ignored == 2
    before = model.estimate({"a": 1.0, "b": 1.0}, ["i"])[0][0]
    assert model.estimate({"a": 1.0, "b": 1.0, "c": 9.0}, ["i"])[0][0] == before


@pytest.mark.parametrize("make", [LinearItems, Popularity])
def test_a_copy_learns_and_answers_bit_for_bit_alike(make: Any) -> None:
    model = make(half_life=100)
    learned(model, 150)
    copy = pickle.loads(pickle.dumps(model))
    learned(model, 150, seed=1)
    learned(copy, 150, seed=1)
    assert digest_of(model) == digest_of(copy)
    asked = {"a": 0.5, "word": "y", "yes": False}
    assert model.estimate(asked, ["i"])[0].tobytes() == copy.estimate(asked, ["i"])[0].tobytes()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (LinearItems, {"l2": 0.0}),
        (LinearItems, {"columns_max": 0}),
        (Popularity, {"half_life": 0}),
        (Popularity, {"items_max": 0}),
    ],
)
def test_settings_out_of_bounds(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        kind(**settings)
