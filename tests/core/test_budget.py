"""Decisions under a budget: never more than it, about as many, and by a threshold that is what its definition says."""

from __future__ import annotations

import pickle
from collections import Counter
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.core.budget import PERIOD_PARTS, PERIODS, Budget

DAY = 86_400_000


def decided(
    scores: list[float], times: list[int], most: int, per_ms: int = DAY, budget: Budget | None = None
) -> list[bool]:
    budget = budget or Budget()
    return [budget.decide(score, time, most, per_ms, 0) for score, time in zip(scores, times, strict=True)]


def days(count: int, each: int, seed: int = 1) -> tuple[list[float], list[int]]:
    rng = np.random.default_rng(seed)
    return rng.random(count * each).tolist(), (np.arange(count * each) * (DAY // each)).tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400_000), st.sampled_from([0.1, 0.5, 0.5000001, 0.9, 1.0])), max_size=300),
    st.integers(0, 7),
)
def test_no_period_has_more_than_its_budget(steps: list[tuple[int, float]], most: int) -> None:
    times = np.cumsum([step for step, _ in steps]).tolist() if steps else []
    alarms = decided([score for _, score in steps], times, most, per_ms=3_600_000)
    found = Counter(time // 3_600_000 for time, alarm in zip(times, alarms, strict=True) if alarm)
    assert all(count <= most for count in found.values())


def test_the_budget_is_used_on_the_highest_scores() -> None:
    scores, times = days(10, 1_000)
    alarms = decided(scores, times, 20)
    for day in range(1, 10):
        part = slice(1_000 * day, 1_000 * (day + 1))
        chosen = [score for score, alarm in zip(scores[part], alarms[part], strict=True) if alarm]
        assert len(chosen) in (19, 20)
        highest = set(sorted(scores[part])[-40:])
        assert sum(score in highest for score in chosen) >= 15  # of twenty, among the forty highest in hindsight


def test_a_flood_of_high_scores_does_not_use_it_up_at_once() -> None:
    scores, times = days(6, 1_000)
    flooded = [score + (1.0 if place >= 5_000 else 0.0) for place, score in enumerate(scores)]
    alarms = decided(flooded, times, 20)[5_000:]
    assert sum(alarms) == 20
    assert sum(alarms[:40]) <= 14  # of 20 that a threshold from the days before would give


def test_scores_that_fall_leave_no_day_without_alarms() -> None:
    scores, times = days(6, 1_000)
    fallen = [score * (0.1 if place >= 5_000 else 1.0) for place, score in enumerate(scores)]
    assert sum(decided(fallen, times, 20)[5_000:]) == 20


def test_equal_scores_are_taken_in_turn() -> None:
    """As a model that has learned nothing, or is sure of too many, gives them; more of them than are kept."""
    _, times = days(4, 1_000)
    for alarms in (decided([0.5] * 4_000, times, 20), decided([place % 2 * 0.5 for place in range(4_000)], times, 20)):
        for day in range(1, 4):
            part = alarms[1_000 * day : 1_000 * (day + 1)]
            assert sum(part) >= 19
            assert 8 <= sum(part[:500]) <= 12


def test_before_anything_is_known_nothing_is_an_alarm() -> None:
    budget = Budget()
    assert not budget.decide(1.0, 5 * DAY, 10, DAY, 0)
    assert budget.threshold == inf


def expected(scores: list[float], times: list[int], time: int, least: float) -> float:
    """How many scores of at least this are to come, by the definition, over all scores that came."""
    now, day = time % DAY, time // DAY
    backs, first = [day - at // DAY for at in times], times[0]
    known = range(1, min(PERIODS, day) + 1)
    shares = {back: 0.5**back for back in known}
    kept = sum(
        shares[back] / sum(shares.values())
        for score, at, back in zip(scores, times, backs, strict=True)
        if back in shares and at % DAY >= now and score >= least
    )
    parts = [[at % DAY * PERIOD_PARTS // DAY for at, back in zip(times, backs, strict=True) if back in shares]]
    counts = np.bincount(parts[0], minlength=PERIOD_PARTS)
    until = np.interp(now, np.arange(PERIOD_PARTS + 1) * DAY // PERIOD_PARTS, [0, *np.cumsum(counts)])
    so_far = sum(back == 0 and score >= least for score, back in zip(scores, backs, strict=True))
    passed = now / DAY
    prior = 0.25 * (1 - passed) / (0.25 * (1 - passed) + passed)
    assert first < DAY
    return float(prior * kept + (1 - prior) * (counts.sum() - until) / until * so_far)


def test_the_threshold_is_the_least_that_leaves_room() -> None:
    rng = np.random.default_rng(5)
    scores, times = rng.normal(size=3_000).tolist(), np.sort(rng.integers(0, 6 * DAY, 3_000)).tolist()
    times[0] = 0
    budget, most, looked = Budget(), 25, 0
    for place, (score, time) in enumerate(zip(scores, times, strict=True)):
        used, slot = budget.used if time // DAY == budget.period else 0, budget.slot
        budget.decide(score, time, most, DAY, 0)
        if place < 2_500 or budget.slot == slot or place % 3:
            continue
        room, known = most - used, (scores[:place], times[:place], time)
        looked += 1
        if budget.threshold > -inf:
            assert expected(*known, budget.threshold) > room
            assert expected(*known, float(np.nextafter(budget.threshold, inf))) <= room + 1e-9
        else:
            assert expected(*known, -inf) <= room + 1e-9
    assert looked > 50


def test_it_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    scores, times = days(5, 700)
    whole, budget = decided(scores, times, 9), Budget()
    first = decided(scores[:2_345], times[:2_345], 9, budget=budget)
    assert first + decided(scores[2_345:], times[2_345:], 9, budget=pickle.loads(pickle.dumps(budget))) == whole


def test_another_model_begins_anew_within_the_same_budget() -> None:
    scores, times = days(3, 1_000)
    budget = Budget()
    decided(scores[:2_900], times[:2_900], 20, budget=budget)
    used = budget.used
    later = [budget.decide(score, time, 20, DAY, 1) for score, time in zip(scores[2_900:], times[2_900:], strict=True)]
    assert budget.past == []
    assert used + sum(later) <= 20


@pytest.mark.parametrize("most", [1, 100])
def test_what_is_kept_is_bounded(most: int) -> None:
    scores, times = days(9, 3_000)
    budget = Budget()
    decided(scores, times, most, budget=budget)
    assert len(budget.past) == PERIODS
    assert len(pickle.dumps(budget)) < 60_000
