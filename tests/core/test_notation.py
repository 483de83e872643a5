"""Durations and paths, as files write them."""

from __future__ import annotations

import pytest

from driftline.core.duration import format_duration, parse_duration
from driftline.core.pipeline import format_path, parse_path


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("12h", 43_200_000), ("7d", 604_800_000), ("1.5h", 5_400_000)],
)
def test_duration(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize("zero", [0, "0", "0s"])
def test_zero_needs_no_unit(zero: object) -> None:
    assert parse_duration(zero) == 0


@pytest.mark.parametrize(
    "wrong",
    [30, 1.5, True, False, None, "", "30", "-1s", "1 week", "1S", "1e3s", "٣s", "0.5ms", "99999d", "9" * 50 + "s", [1]],
)
def test_what_is_no_duration(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"unit|milliseconds|ten years"):
        parse_duration(wrong)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(0, 0), (1, "1ms"), (90_000, "90s"), (60_000, "1m"), (86_400_000, "1d"), (1_500, "1500ms")],
)
def test_durations_are_written_in_the_largest_whole_unit(duration_ms: int, text: object) -> None:
    assert format_duration(duration_ms) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("id", ("id",)),
        ("card.country", ("card", "country")),
        ("items.0.price", ("items", 0, "price")),
        (r"a\.b", ("a.b",)),
        (r"a\\.b", ("a\\", "b")),
        (r"items.\0", ("items", "0")),
        ("007", ("007",)),
        ("-1", ("-1",)),
        ("ключ.é", ("ключ", "é")),
    ],
)
def test_path(text: str, parts: tuple[str | int, ...]) -> None:
    assert parse_path(text) == parts
    assert parse_path(format_path(parts)) == parts


@pytest.mark.parametrize("wrong", ["", ".", "a.", ".a", "a..b", "a\\", "x" * 1_001])
def test_what_is_no_path(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"key|characters|backslash"):
        parse_path(wrong)
