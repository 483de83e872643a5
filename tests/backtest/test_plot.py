"""The axes of plots: readable whatever one candidate does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from driftline.backtest import plot
from driftline.backtest.plot import readable_span
from driftline.backtest.trace import Point, Trace


def test_lines_of_one_size_keep_the_whole_axis() -> None:
    assert readable_span([[0.3, 0.2, 0.25], [0.4, 0.35, 0.5]]) is None
    assert readable_span([[0.0, 0.0], [0.0]]) is None
    assert readable_span([[], []]) is None


@pytest.mark.parametrize("wild", [[30.0] * 20, [1e9, 1e12, 1e15], [-1e6] * 3])
def test_one_line_that_runs_away_leaves_the_others_readable(wild: list[float]) -> None:
    tame = [[0.3 + 0.01 * n for n in range(20)], [0.42 - 0.005 * n for n in range(20)]]
    span = readable_span([*tame, wild])
    assert span is not None
    low, high = span
    assert low < 0.3 < 0.49 < high
    assert high - low < 0.5
    assert not any(low <= value <= high for value in wild)


def test_a_first_block_before_anything_was_learned_is_cut() -> None:
    span = readable_span([[1e6, *([20.0, 21.0, 19.0, 20.5] * 5)]])
    assert span is not None
    assert 15 < span[0] < 19
    assert 21 < span[1] < 30


def test_two_lines_far_apart_are_both_shown_where_neither_is_out_of_all_measure() -> None:
    assert readable_span([[0.2, 0.3, 0.25], [0.8, 0.9, 0.7]]) is None


def test_intervals_are_drawn_stretch_by_stretch() -> None:
    """An area over observations without an interval would be drawn across them."""
    known = [(1.0, 2.0), (1.5, 2.5), (None, None), (None, None), (3.0, 4.0)]
    points = [Point(1_000 * n, 2.0, 2.0, low, high, None) for n, (low, high) in enumerate(known)]
    one = SimpleNamespace(traces=[Trace("a", points)], horizons=[1])
    report = SimpleNamespace(source=SimpleNamespace(counted=False))
    figure = plot.forecasts(report, one, 0)  # type: ignore[arg-type]  # what it reads of a report
    areas = [(list(trace.x), list(trace.y)) for trace in figure.data if trace.fill == "tonexty"]
    assert [edge for _, edge in areas] == [[2.0, 2.5], [4.0]]
    assert [len(times) for times, _ in areas] == [2, 1]
