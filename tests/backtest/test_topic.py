"""What a range of times or offsets means where a topic has lost its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from app.backtest.span import Span, bounds_of
from app.engine.port import Place
from tests.support.small import small

KEPT_FROM, END, EVERY_MS = 1_500, 9_000, 1_000


class Kept:
    """A broker whose topics hold a record a second, of which retention took the first."""

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
    bounds = await bounds_of(kept, pipeline, 3, span)
    assert bounds.starts[pipeline.topics.events] == first
    told = (f"{pipeline.topics.labels}-3 begins at offset 1,500", f"{pipeline.topics.events}-3 begins at offset 1,500")
    assert bounds.cut == (told if is_cut else ())
