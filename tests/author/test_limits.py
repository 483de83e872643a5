"""Limits that are proposed: wide enough for what was seen and as much again, and never negative without need."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.author.limits import around, step_of_rows, step_of_series


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (3, 169, (0, 340)),
        (1, 977, (0, 2_000)),
        (-10, 10, (-30, 30)),
        (-9.37, -1.2, (-18, 0)),
        (0, 0, (0, 1)),
        (7, 7, (0, 14)),
        (0, 0.003, (0, 0.006)),
        (1e15, 1e15, (0, 2e15)),
        (-inf, inf, (-inf, inf)),
    ],
)
def test_limits(least: float, most: float, expected: tuple[float, float]) -> None:
    assert around(least, most) == pytest.approx(expected)


@given(st.floats(-1e15, 1e15), st.floats(-1e15, 1e15))
def test_what_was_seen_lies_within_with_a_margin(one: float, other: float) -> None:
    least, most = min(one, other), max(one, other)
    low, high = around(least, most)
    assert low <= least <= most <= high
    assert low < high
    assert low == 0 if least >= 0 else low <= least - (most - least)
    assert high == 0 or high >= most + (most - least)


def test_steps_are_within_a_series_and_let_all_labels_pass_but_one_in_a_thousand() -> None:
    keys = ["a", "b"] * 2_000
    labels = [(10.0 if key == "a" else 1000.0) * (1 + place % 3) for place, key in enumerate(keys)]
    labels[100] = 1e6  # a fault: two jumps of 4,000
    found = step_of_rows(keys, labels)
    assert found is not None
    assert found.ratio == 3.0
    assert step_of_rows(keys[:90], labels[:90]) is None
    assert step_of_rows(["a"] * 3, [None, "x", 1.0]) is None


def test_steps_of_forecasts_are_measured_from_the_season_and_the_latest_median() -> None:
    week = [20.0, 22.0, 24.0, 26.0, 28.0, 40.0, 1.0]  # closed on Sundays, which is no jump
    values = [week[day % 7] for day in range(700)]
    found = step_of_series(["a"] * 700, values, 7)
    assert found is not None
    assert found.ratio == 1.5  # the least there is
    alone = step_of_rows(["a"] * 700, values)
    assert alone is not None
    assert alone.ratio == 40.0  # from 40 to 1
    assert step_of_series(["a"] * 50, values[:50], 7) is None
