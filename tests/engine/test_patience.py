"""When an input at its end is waited for, and when not."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.fold.merge import Merge
from driftline.core.record import Event, Label, Source
from driftline.engine.patience import ASK_MAX_S, Patience
from driftline.transport.clock import Clock
from driftline.transport.port import Place
from tests.support.small import NOW_MS, source

DAY_MS = 86_400_000
CONTROL, LABELS, EVENTS = PLACES = tuple(Place(f"p.{kind}", 0) for kind in ("control", "labels", "events"))


class Scene:
    """One shard's inputs, with a wall clock in hand; NOW_MS is its beginning."""

    def __init__(self, patience_s: float = 0.5) -> None:
        self.now_s = 100.0
        clock = Clock(lambda: self.now_s, lambda: NOW_MS / 1000 + self.now_s - 100.0)
        self.patience = Patience(PLACES, clock, patience_s)
        self.merge: Merge[Source] = Merge([_label, _label, _event])
        self.answers = dict.fromkeys(PLACES, 0)
        self.ends = [True, True, True]
        self.watermark_ms: int | None = None

    def looks(self, place: Place) -> int:
        return self.answers[place]

    def answer(self, times: int = 1) -> None:
        """Kafka answers for every input."""
        for place in PLACES:
            self.answers[place] += times

    def receive(self, rank: int, *times_ms: int) -> None:
        topic = PLACES[rank].topic
        records = [source(topic, place, b"{}", time_ms) for place, time_ms in enumerate(times_ms)]
        self.merge.push(rank, records)
        self.patience.came(rank, records)

    def holds(self) -> bool:
        """Whether records in hand are held back, though every input is at its end."""
        feed: Any = self
        return not self.merge.ready(self.patience.at_end(self.ends, self.merge, self.watermark_ms, feed))

    def fold(self) -> None:
        """Take all that is in hand."""
        for _, record in self.merge.take(100, [True] * 3):
            self.watermark_ms = max(self.watermark_ms or 0, record.order_ms)


def _label(of: Source) -> Label:
    return Label(of, of.record_time_ms, of.record_time_ms, of.offset, 1)


def _event(of: Source) -> Event:
    return Event(of, of.record_time_ms, of.record_time_ms, of.offset, ())


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.watermark_ms = NOW_MS - 100 * DAY_MS
    made.answer()
    return made


def test_answers_alone_are_not_enough_while_the_input_had_records_just_now(scene: Scene) -> None:
    scene.receive(1, NOW_MS - 100 * DAY_MS)
    scene.fold()
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    assert scene.holds()
    scene.answer(2)
    scene.now_s += 0.4
    assert scene.holds()  # its last record came less than the patience ago
    scene.now_s += 0.2
    assert not scene.holds()
    assert scene.patience.records_max == 1


def test_the_patience_alone_is_not_enough_without_an_answer(scene: Scene) -> None:
    """As when this process stood still: what is known of the end is as old as before."""
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    assert scene.holds()
    scene.now_s += 1.0
    scene.answer(1)
    assert scene.holds()  # it may have been under way before the event came
    scene.answer(1)
    assert not scene.holds()


def test_a_broker_that_does_not_answer_is_waited_for_within_a_bound(scene: Scene) -> None:
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    assert scene.holds()
    scene.now_s += ASK_MAX_S
    assert scene.holds()
    scene.now_s += 0.6
    assert not scene.holds()


def test_records_that_came_after_the_last_answer_are_not_taken_yet(scene: Scene) -> None:
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    assert scene.holds()
    scene.now_s += 1.0
    scene.answer(2)
    scene.receive(2, NOW_MS - 98 * DAY_MS)
    assert not scene.holds()
    assert scene.patience.records_max == 1
    scene.fold()
    scene.receive(2, NOW_MS - 97 * DAY_MS)
    assert scene.holds()


def test_a_label_that_comes_meanwhile_goes_first(scene: Scene) -> None:
    scene.receive(2, NOW_MS - 90 * DAY_MS)
    assert scene.holds()
    scene.receive(1, NOW_MS - 95 * DAY_MS)
    feed: Any = scene
    at_end = scene.patience.at_end(scene.ends, scene.merge, scene.watermark_ms, feed)
    assert [rank for rank, _ in scene.merge.take(10, at_end)] == [1, 2]


def test_a_live_pipeline_never_waits() -> None:
    scene = Scene()
    for _ in range(50):
        scene.now_s += 0.1
        now_ms = int(NOW_MS + (scene.now_s - 100) * 1000)
        scene.receive(2, now_ms)
        assert not scene.holds()
        scene.fold()


def test_a_live_pipeline_whose_records_are_late_all_alike_does_not_wait() -> None:
    """Event times lie an hour back, and pass as fast as the wall clock."""
    scene = Scene()
    late_ms = 3_600_000
    scene.watermark_ms = NOW_MS - late_ms
    waits = 0
    for _ in range(100):
        scene.now_s += 0.1
        scene.answer()
        scene.receive(2, int(NOW_MS + (scene.now_s - 100) * 1000) - late_ms)
        waits += scene.holds()
        scene.fold()
    assert not waits


def test_without_patience_the_last_answer_counts() -> None:
    scene = Scene(0.0)
    scene.watermark_ms = NOW_MS - 100 * DAY_MS
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    assert not scene.holds()


def test_answers_that_came_while_nothing_was_held_count(scene: Scene) -> None:
    """An input that runs dry when all else was received long ago, and answered for since, is not asked again."""
    scene.receive(1, NOW_MS - 100 * DAY_MS)
    scene.receive(2, NOW_MS - 99 * DAY_MS)
    for _ in range(3):
        assert not scene.holds()
        scene.answer()
    assert not scene.holds()
    scene.merge.take(1, [True] * 3)
    scene.watermark_ms = NOW_MS - 100 * DAY_MS
    scene.now_s += 1.0
    assert not scene.holds()
    assert scene.patience.records_max == 1
