"""What a range of times or offsets means where a topic has lost its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from driftline.backtest.span import Span, bounds_of
from driftline.core.place import Layout
from driftline.core.record import Source
from driftline.transport.port import Place
from tests.support.small import small

KEPT_FROM, END, EVERY_MS = 1_500, 9_000, 1_000


class Reading:
    """One record, of the offset that is asked for."""

    async def open(self, starts: Mapping[str, int]) -> None:
        ((self._topic, self._offset),) = starts.items()

    async def read(self, topic: str, count_max: int, stop: int | None = None) -> list[Source]:
        return [Source(topic, 3, self._offset, self._offset * EVERY_MS, None, b"{}")]

    async def close(self) -> None:
        pass


class Kept:
    """A broker whose topics hold a record a second, of which retention took the first."""

    def reader(self) -> Any:
        return Reading()

    async def beginnings(self, places: Iterable[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, KEPT_FROM)

    async def ends(self, places: Iterable[Place]) -> Mapping[Place, int]:
        return dict.fromkeys(places, END)

    async def offsets_at(self, places: Iterable[Place], time_ms: int) -> Mapping[Place, int]:
        return dict.fromkeys(places, min(max(time_ms // EVERY_MS, KEPT_FROM), END))


@pytest.mark.parametrize(
    ("span", "first", "is_cut"),
    [
        (Span(), KEPT_FROM, True),
        (Span(from_ms=100 * EVERY_MS, to_ms=2_000 * EVERY_MS), KEPT_FROM, True),
        (Span(from_ms=1_700 * EVERY_MS, to_ms=2_000 * EVERY_MS), 1_700, False),
    ],
)
async def test_a_range_that_retention_cut_is_told(span: Span, first: int, is_cut: bool) -> None:
    kept: Any = Kept()
    pipeline = small()
    bounds = await bounds_of(kept, pipeline, Layout(4), 3, span)
    assert bounds.starts[pipeline.topics.events] == first
    told = [
        (f"{name}-3 from offset 1,500",) if is_cut else () for name in (pipeline.topics.events, pipeline.topics.labels)
    ]
    assert [bounds.cut_events, bounds.cut_labels] == told


async def test_labels_that_retention_took_from_a_range_of_offsets_are_told() -> None:
    """Their events would count as having none, or the assumed one, without a word."""

    class Apart(Kept):
        async def beginnings(self, places: Iterable[Place]) -> Mapping[Place, int]:
            return {place: 0 if "events" in place.topic else KEPT_FROM for place in places}

    kept: Any = Apart()
    pipeline = small()
    labels = pipeline.topics.labels or ""
    early = await bounds_of(kept, pipeline, Layout(4), 3, Span(from_offset=1_000, to_offset=2_000))
    assert (early.cut_events, early.cut_labels) == ((), (f"{labels}-3 from offset 1,500",))
    late = await bounds_of(kept, pipeline, Layout(4), 3, Span(from_offset=1_600, to_offset=2_000))
    assert (late.cut_events, late.cut_labels, late.starts[labels]) == ((), (), 1_600)
