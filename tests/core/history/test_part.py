"""The functions that are made for the commonest windows do what the general ones do, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from driftline.core.history.part import Column, Part, Window, window_count, window_mean, window_sum
from driftline.core.history.plan import WindowReader, window_filler

COLUMNS: dict[str, tuple[Column, ...]] = {
    "count": (("count", None),),
    "sum": (("count", None), ("sum", 0)),
    "two sums": (("count", None), ("sum", 0), ("sum", 1)),
}


def window(kept: str, over_ms: int | None) -> Window:
    columns = COLUMNS[kept]
    return Window(over_ms, columns, {source: 0 for kind, source in columns if source is not None})


def stream(seed: int, add: Callable[[Part, int, int, Any], bool], looked: Callable[[Part, int], None]) -> list[Any]:
    """Values of one key: some late, some after a long pause, some at once; what was said of each, and the part."""
    rng, part, time_ms, newest_ms = random.Random(seed), list[Any](), 1_600_000_000_000, 0
    said: list[Any] = []
    for _ in range(400):
        time_ms += rng.choice((0, 1, rng.randrange(100), rng.randrange(3_000), rng.randrange(100_000)))
        at_ms = time_ms - rng.choice((0, 0, 0, rng.randrange(20_000)))
        newest_ms = max(newest_ms, at_ms)
        said.append(add(part, at_ms, newest_ms, (rng.choice((-0.0, 0.1, rng.gauss(0, 9))), rng.random())))
        looked(part, newest_ms + rng.choice((0, rng.randrange(200_000))))
    return [said, part]


@pytest.mark.parametrize("kept", COLUMNS)
@pytest.mark.parametrize("over_ms", [10_000, 60_000, None])
def test_what_is_added_and_read_in_one_go_is_what_is_added_and_read_one_by_one(kept: str, over_ms: int | None) -> None:
    one = window(kept, over_ms)
    read: list[list[Any]] = [[], []]
    sums = [place for (kind, _), place in one.place_of.items() if kind == "sum"]
    wanted = [(0, window_count, 2, 2, "none")]
    wanted += [(1 + number, window_sum, place, 2, "none") for number, place in enumerate(sums)]
    wanted += [(3 + number, window_mean, place, 2, "none") for number, place in enumerate(sums)]
    reader = WindowReader(0, one, False, tuple(wanted))
    made = window_filler(reader)

    def looked(into: list[Any], fill: Any) -> Callable[[Part, int], None]:
        def look(part: Part, now_ms: int) -> None:
            values: list[Any] = [None] * 5
            fill(values, [part], now_ms, 0)
            into.append(values)

        return look

    for seed in range(10):
        fast = stream(seed, one.adder(), looked(read[0], made))
        slow = stream(seed, one.add, looked(read[1], reader.fill_in))
        assert repr(fast) == repr(slow)  # as text: -0.0 equals 0.0
    assert repr(read[0]) == repr(read[1])
    assert any("none" in values for values in read[0]) or over_ms is None


def test_a_window_with_more_than_counts_and_sums_is_read_one_by_one() -> None:
    one = Window(1_000, (("count", None), ("count", 0), ("sum", 0)), {0: 1})
    assert one.adder() == one.add
    reader = WindowReader(0, one, True, ((0, window_mean, 4, 3, None),))
    assert window_filler(reader) == reader.fill_in
