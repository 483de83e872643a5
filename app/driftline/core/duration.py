"""Durations as written in pipeline files and options: `500ms 30s 15m 12h 7d`."""

from __future__ import annotations

import re

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")
_DURATION_MAX_MS = 3_660 * _UNIT_MS["d"]
_DURATION_ALLOWED = "a whole number with a unit, as in 500ms, 30s, 15m, 12h or 7d, or 0"


def parse_duration(value: object) -> int:
    """Milliseconds of a duration as the file writes it.

    Args:
        value: text such as `15m`, or 0.

    Raises:
        ValueError: it is not written like that, not a whole number of milliseconds, or longer than ten years.
    """
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return 0
    if not isinstance(value, str):
        raise ValueError(f"write {_DURATION_ALLOWED}")
    text = value.strip()
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"write {_DURATION_ALLOWED}")
    number, unit = str(match[1]), str(match[2])
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * _UNIT_MS[unit]
    scale: int = 10 ** len(fraction)
    duration_ms, rest = divmod(scaled, scale)
    if rest:
        raise ValueError("is not a whole number of milliseconds")
    if duration_ms > _DURATION_MAX_MS:
        raise ValueError("is longer than the maximum of ten years (3660d)")
    return duration_ms


def format_duration(duration_ms: int) -> str | int:
    """The duration as the file writes it, in the largest unit that keeps it whole; 0 stays 0."""
    if duration_ms == 0:
        return 0
    for unit in ("d", "h", "m", "s"):
        if duration_ms % _UNIT_MS[unit] == 0:
            return f"{duration_ms // _UNIT_MS[unit]}{unit}"
    return f"{duration_ms}ms"


_ROUNDED = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))


def spoken(span_ms: int) -> str:
    """A span of time in words: `1 hour`, `90 minutes`; one that was measured is rounded: `about 4 hours`."""
    written = str(format_duration(span_ms))
    number, unit = written.rstrip("dhms"), written.lstrip("0123456789")
    if len(number) > 3 and unit != "d":
        for size_ms, rounded in _ROUNDED:
            if span_ms >= 2 * size_ms:
                return f"about {round(span_ms / size_ms):,} {rounded}s"
    word = {"d": "day", "h": "hour", "m": "minute", "s": "second", "ms": "millisecond"}.get(unit, "second")
    return f"{number} {word}{'' if number == '1' else 's'}"


def round_span(span_ms: float) -> int:
    """A measured span in whole units of which it has ten or more, for `spoken`: 2.4 hours are 144 minutes."""
    for size_ms, _ in _ROUNDED:
        if span_ms >= 10 * size_ms:
            return round(span_ms / size_ms) * size_ms
    return round(span_ms)
