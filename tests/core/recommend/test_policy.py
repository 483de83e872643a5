"""A policy's shares add up, and a slate is drawn with exactly them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.recommend.policy import certain, draw, generator, shares_of

POLICIES = ("epsilon_greedy", "linucb", "thompson", "softmax", "popularity", "uniform")


def form(**settings: Any) -> RecommendForm:
    return RecommendForm(candidates="items", **settings)


def ranked(policy: Any, means: list[float], **settings: Any) -> np.ndarray[Any, Any]:
    values = np.array(means)
    shares, _ = shares_of(form(policy=policy, **settings), values, 0.1 + 0 * values, values[::-1], generator(1, "r"))
    return shares


@given(
    policy=st.sampled_from(POLICIES),
    means=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    slate=st.integers(1, 10),
    epsilon=st.floats(0, 1),
)
def test_shares_are_probabilities_that_add_up_to_the_slate(
    policy: str, means: list[float], slate: int, epsilon: float
) -> None:
    shares = ranked(policy, means, slate=slate, epsilon=epsilon, draws=20)
    count = min(slate, len(means))
    assert shares.min() >= epsilon * count / len(means) - 1e-9
    assert shares.max() <= 1 + 1e-9
    assert shares.sum() == pytest.approx(count)


def test_scores_beyond_any_number_are_a_softmax_too() -> None:
    assert ranked("softmax", [1e300, 0.0, -1e300], slate=1, epsilon=0, temperature=1e-12).tolist() == pytest.approx(
        [1.0, 0.0, 0.0], abs=1e-9
    )
    plain, far = ranked("softmax", [1.0, 0.5], slate=1, epsilon=0), ranked("softmax", [2.0, 0.0], slate=1, epsilon=0)
    assert far[0] > plain[0] > 0.5


@given(weights=st.lists(st.floats(0, 1), min_size=2, max_size=30), count=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_a_slate_has_its_size_and_no_item_without_a_share(weights: list[float], count: int, seed: int) -> None:
    count = min(count, len(weights) - 1)
    shares = ranked("softmax", weights, slate=count, epsilon=0.0)
    shares[0] = 0.0
    shares *= count / shares.sum()
    if shares.max() > 1:
        return
    slate = draw(shares, count, np.random.default_rng(seed))
    assert len(slate) == len(set(slate)) == count
    assert 0 not in slate


def test_items_are_drawn_as_often_as_their_shares_say() -> None:
    shares = np.array([0.9, 0.05, 0.35, 1.0, 0.2, 0.5])
    drawn = np.zeros(6)
    count = 20_000
    for number in range(count):
        drawn[draw(shares, 3, generator(42, number))] += 1
    noise = np.sqrt(shares * (1 - shares) / count)
    assert np.all(np.abs(drawn / count - shares) <= 4.5 * noise + 1e-12)


def test_thompson_shares_are_those_of_its_posterior() -> None:
    """Of two items, that one is drawn greater: the normal distribution function, known to 5 digits."""
    shares, _ = shares_of(
        form(policy="thompson", epsilon=0.0, draws=10_000),
        np.array([0.3, 0.2]), np.array([0.06, 0.08]), np.zeros(2), generator(42, "r"),
    )  # fmt: skip
    assert shares[0] == pytest.approx(0.84134, abs=4 * np.sqrt(0.84 * 0.16 / 10_000))


def test_what_each_policy_goes_by() -> None:
    means, deviations, popular = np.array([0.3, 0.2, 0.1]), np.array([0.0, 0.2, 0.0]), np.array([0.0, 0.1, 0.9])
    found = {
        policy: shares_of(form(policy=policy, epsilon=0.0), means, deviations, popular, generator(1, 1))[0].tolist()
        for policy in ("epsilon_greedy", "linucb", "popularity")
    }
    assert found == {"epsilon_greedy": [1, 0, 0], "linucb": [0, 1, 0], "popularity": [0, 0, 1]}
    assert certain(means, 2).tolist() == [1, 1, 0]


def test_softmax_gives_what_an_item_has_too_much_to_the_others() -> None:
    assert ranked("softmax", [5.0, 0.0, 0.0], slate=2, epsilon=0.0).tolist() == pytest.approx([1.0, 0.5, 0.5])
    assert ranked("softmax", [0.1, 0.0], temperature=0.1, epsilon=0.0)[0] == pytest.approx(np.e / (1 + np.e))


def test_random_numbers_are_those_of_seed_and_request() -> None:
    first = generator(1, "r1").random(3).tolist()
    assert generator(1, "r1").random(3).tolist() == first
    assert len({*first, *generator(2, "r1").random(3), *generator(1, "r2").random(3), *generator(1, 1).random(3)}) == 12
    assert generator(1, "1").random() != generator(1, 1).random()
