"""Times as users write them: ISO 8601, or a number since 1970 in seconds or milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

SECONDS_BELOW = 1e11  # an epoch number below it is in seconds (until the year 5138), from it on in milliseconds
TIME_MAX_MS = 253_402_300_799_999  # the end of the year 9999


def parse_time(value: object) -> int:
    """Epoch milliseconds of a time.

    Args:
        value: ISO 8601 text (UTC where it names no zone), or a number since 1970 in seconds (below 1e11) or
            milliseconds.

    Raises:
        ValueError: it is neither, or lies beyond the year 9999; the text says which.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r:.80} is not ISO 8601") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.80} is neither text nor a number")
    if not abs(value) <= TIME_MAX_MS:
        raise ValueError(f"{value!r:.80} lies beyond the year 9999")
    return round(value * 1000 if abs(value) < SECONDS_BELOW else value)
