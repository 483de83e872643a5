"""Features of the event's time: where it is in the hour, the day, the week, the year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import cos, pi, sin
from typing import Final

from driftline.core.pipeline import CalendarFeature
from driftline.core.record import FeatureValue

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_WEEK_MS: Final = 7 * _DAY_MS
_MONDAY_MS: Final = 4 * _DAY_MS  # 1970 began on a Thursday
_LATEST_MS: Final = 253_402_300_799_999  # the end of the year 9999


def calendar_value(feature: CalendarFeature, time_ms: int) -> FeatureValue:
    """What the event's time gives: a whole number, or the sine or cosine of its place in the cycle."""
    local_ms = min(max(time_ms + feature.offset_ms, 0), _LATEST_MS)
    if feature.cyclic is not None:
        angle = 2 * pi * _share(feature.calendar, local_ms)
        return sin(angle) if feature.cyclic == "sin" else cos(angle)
    match feature.calendar:
        case "minute":
            return local_ms // _MINUTE_MS % 60
        case "hour":
            return local_ms // _HOUR_MS % 24
        case "weekday" | "weekend":
            weekday = (local_ms - _MONDAY_MS) // _DAY_MS % 7
            return weekday >= 5 if feature.calendar == "weekend" else weekday
    moment = _EPOCH + timedelta(milliseconds=local_ms)
    if feature.calendar == "yearday":
        return moment.timetuple().tm_yday
    return moment.day if feature.calendar == "day" else moment.month


def _share(cycle: str, local_ms: int) -> float:
    """How much of the cycle is over, from 0 to below 1: of the hour, the day, the week, the month or the year."""
    match cycle:
        case "minute":
            return local_ms % _HOUR_MS / _HOUR_MS
        case "hour":
            return local_ms % _DAY_MS / _DAY_MS
        case "weekday" | "weekend":
            return (local_ms - _MONDAY_MS) % _WEEK_MS / _WEEK_MS
    moment = _EPOCH + timedelta(milliseconds=local_ms)
    begin = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if cycle == "day":
        end = (begin + timedelta(days=32)).replace(day=1)
    else:
        begin = begin.replace(month=1)
        end = begin + timedelta(
            days=366 if begin.year % 4 == 0 and (begin.year % 100 or begin.year % 400 == 0) else 365
        )
    return (moment - begin) / (end - begin)
