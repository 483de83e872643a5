"""The curves of the page: bounded, and without values where nothing was measured."""

from __future__ import annotations

import orjson

from driftline.web.board import Board
from driftline.web.curve import Curve, Point, rows_of
from tests.support.boards import NOW_MS, note


def test_a_curve_keeps_its_whole_span_and_is_finest_at_its_end() -> None:
    curve = Curve(100)
    for time_ms in range(10_000):
        curve.add(Point(0, time_ms, time_ms, {"a": float(time_ms)}, {}))
    times = [point.time_ms for point in curve.points]
    assert len(times) <= 100
    assert times[0] == 0
    assert times[-25:] == list(range(9_975, 10_000))
    assert times == sorted(times)


def test_time_that_goes_back_makes_no_point() -> None:
    curve = Curve(100)
    assert curve.add(Point(0, 10, 1, {"a": 1.0}, {}))
    assert not curve.add(Point(0, 9, 2, {"a": 2.0}, {}))
    assert not curve.add(Point(0, 10, 3, {"a": 1.0}, {}))
    assert curve.add(Point(0, 10, 4, {"a": 2.0}, {})), "the same time with other numbers"
    assert [point.window for point in curve.points] == [{"a": 2.0}]


def test_points_name_their_metrics_once() -> None:
    points = [Point(0, 1, 1, {"a": 1 / 3}, {}, {"full": 0.5}), Point(0, 2, 2, {}, {"b": None})]
    packed = rows_of(points)
    assert packed == {
        "names": ["a", "b"],
        "more": ["full"],
        "rows": [[0, 1, 1, [0.333333, None], [None, None], [0.5]], [0, 2, 2, [None, None], [None, None], [None]]],
    }


def test_a_metric_ends_with_the_last_label_and_begins_with_some() -> None:
    """A flat curve would say that the model is as good as ever, when no one knows."""
    there = Board()
    there.begin(1)
    for minute, labels in enumerate([5, 30, 40, 40, 40, 45]):
        metrics = {"Accuracy": 0.9, "label_count": labels}
        there.take_entry(
            0, NOW_MS + minute, note(watermark_ms=NOW_MS + minute, metrics=metrics, window_metrics=metrics)
        )
    assert [point.window.get("Accuracy") for point in there.fresh] == [None, 0.9, 0.9, None, None, 0.9]


def test_a_note_of_the_same_time_without_new_labels_keeps_the_metric() -> None:
    there = Board()
    there.begin(1)
    for labels, pending in ((30, 1), (40, 1), (40, 2)):
        metrics = {"Accuracy": labels / 100, "label_count": labels}
        there.take_entry(0, NOW_MS, note(metrics=metrics, window_metrics=metrics, pending=pending))
    (point,) = there.shards[0].curve.points
    assert (point.window, point.total, point.more["waiting"]) == ({"Accuracy": 0.4}, {"Accuracy": 0.4}, 2)


def test_points_that_each_name_other_metrics_stay_few() -> None:
    points = [Point(0, time, time, {f"w{time}-{name}": 1.0 for name in range(40)}, {}) for time in range(500)]
    rows = rows_of(points)
    assert rows["names"] == [f"w499-{name}" for name in range(40)]
    assert len(orjson.dumps(rows)) < 500_000
