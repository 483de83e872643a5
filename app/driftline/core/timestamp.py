"""Times as users and programs write them, one by one (`parse_time`) or as a column that is written in one way.

Read without asking: ISO 8601 in its variants, a month's name or a year that stands first, RFC 1123, 2822 and 850, and
numbers: since 1970 in seconds, milliseconds, micro- or nanoseconds, distinguished by their size, or digits that are a
calendar date (`20230115`). UTC counts where no zone is named. A zone is an offset or a well-known abbreviation: what a
city's name means depends on tables that differ between machines.

`05/01/2024` has two meanings. A column can tell which, as soon as one of its days is beyond 12 (`find_time_form`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone

from msgspec import Struct

SECONDS_BELOW = 1e11  # an epoch number below it is in seconds (until the year 5138), from it on in milliseconds,
MILLIS_BELOW = 1e14  # from here on in microseconds,
MICROS_BELOW = 1e17  # and from here on in nanoseconds
TIME_MAX_MS = 253_402_300_799_999  # the end of the year 9999

ISO = "%Y-%m-%dT%H:%M:%S+00:00"
TEXT_MAX = 150  # characters of a time; the patterns below take the square of a text's length where it is not one

_DIGITS = re.compile(r"[0-9]{4,19}(?:\.0*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]{4,},[0-9]*")  # more than three digits: it separates no thousands
_EPOCH = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE]\+?[0-9]{1,2})?")
_CALENDAR = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}  # by the number of digits
_CALENDAR_HOURS = 10  # digits of %Y%m%d%H, which are epoch seconds as well: only a column tells
_YEARS = range(1900, 2101)  # of dates in digits

_MONTHS = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
]  # fmt: skip
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS_EAST: Mapping[str, float] = {
    "z": 0, "ut": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3,
    "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "jst": 9, "kst": 9,
    "etc/utc": 0, "etc/gmt": 0, "universal": 0, "zulu": 0,
}  # fmt: skip

_CLOCK = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?(?![A-Za-z]))?"
)
_ZONE = (
    r"(?P<zone>[A-Za-z][A-Za-z/_]*)?\s?(?P<offset>[+-][0-9]{1,2}(?::?[0-9]{2})?)?"
    r"(?:\s*\[(?P<place>[^\]]*)\])?(?:\s*\([^)]*\))?"
)
_WEEKDAY = r"(?:(?P<weekday>[A-Za-z]{3,9})\.?,?\s+)?"
_REST = rf"(?:(?:,?\s+|[Tt:]){_CLOCK}\s*{_ZONE})?"
_WRITTEN = tuple(
    re.compile(_WEEKDAY + date + rest)
    for date, rest in (
        (r"(?P<year>[0-9]{4})(?P<sep>[-/.])(?P<month>[0-9]{1,2})(?P=sep)(?P<day>[0-9]{1,2})", _REST),
        (r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})(?P<day>)", ""),
        (r"(?P<day>[0-9]{1,2})[-/. ]\s*(?P<name>[A-Za-z]{3,9})\.?,?[-/. ]\s*(?P<year>[0-9]{4}|[0-9]{2})", _REST),
        (r"(?P<name>[A-Za-z]{3,9})\.?\s+(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>[0-9]{4})", _REST),
        (
            rf"(?P<name>[A-Za-z]{{3}})\s+(?P<day>[0-9]{{1,2}})\s+{_CLOCK}\s*(?P<zone>[A-Z]+)?\s+(?P<year>[0-9]{{4}})",
            r"(?P<offset>)(?P<place>)",
        ),
    )
)
_ORDERED = re.compile(
    _WEEKDAY + r"(?P<first>[0-9]{1,2})(?P<sep>[-/.])(?P<last>[0-9]{1,2})(?P=sep)(?P<year>[0-9]{4}|[0-9]{2})" + _REST
)


def parse_time(value: object) -> int:
    """Epoch milliseconds of a time.

    Args:
        value: text as above, or a number since 1970, or digits of a date.

    Raises:
        ValueError: it is neither, has two meanings, or lies beyond the year 9999; the text says which.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = repr(value) if value is None or isinstance(value, bool) else f"a value of type {type(value).__name__}"
        raise ValueError(f"{what} is neither text nor a number")  # not walked into: it may be nested without end
    return _of_number(value)


def _of_number(value: int | float) -> int:
    size = abs(value)
    if not size <= TIME_MAX_MS * 1e6:
        raise ValueError(f"{value!r:.80} lies beyond the year 9999")
    if size >= 1e7 and float(value).is_integer() and (found := _calendar(str(int(value)))) is not None:
        return found
    if size < SECONDS_BELOW:
        return round(value * 1_000)
    if size < MILLIS_BELOW:
        return round(value)
    for unit in (1_000, 1_000_000):
        if size < MILLIS_BELOW * unit:
            return _rounded(value, unit)
    raise ValueError(f"{value!r:.80} lies beyond the year 9999")


def _rounded(value: int | float, unit: int) -> int:
    return (value + unit // 2) // unit if isinstance(value, int) else round(value / unit)


def _calendar(digits: str) -> int | None:
    """Epoch milliseconds of a date in digits, of this century or the last; None for digits that are none."""
    form = _CALENDAR.get(len(digits))
    if form is None or int(digits[:4]) not in _YEARS or digits[4:6] > "12" or digits[6:8] > "31":
        return None
    try:
        return _epoch_ms(datetime.strptime(digits, form).replace(tzinfo=UTC))
    except ValueError:
        return None


def _of_text(value: str) -> int:
    text = _short(value)
    if text is None:
        raise ValueError(f"{value[:80]!r:.80} and on, {len(value):,} characters, is no time")
    if _DIGITS.fullmatch(text) or _EPOCH.fullmatch(text):
        if len(text) == 8 and text.isdigit():  # ISO 8601, whatever its century
            return _epoch_ms(_zoned(_iso(text, value)))
        return _of_number(int(text) if text.isdigit() else float(text))
    try:
        return _epoch_ms(_zoned(datetime.fromisoformat(text)))
    except ValueError:
        pass
    for written in _WRITTEN:
        if found := written.fullmatch(text):
            return _epoch_ms(_made(found.groupdict(), value))
    if found := _ORDERED.fullmatch(text):
        return _epoch_ms(_of_ordered(found, value))
    _iso(text, value)
    raise ValueError(_unread(value))


def _short(value: object) -> str | None:
    """A text without the blanks around it; None for what is not a text, or longer than a time can be."""
    text = value.strip() if isinstance(value, str) else None
    return text if text is not None and len(text) <= TEXT_MAX else None


def _of_ordered(found: re.Match[str], value: str) -> datetime:
    """A date whose day and month only their order tells apart: no one writes a month first before points.

    Raises:
        ValueError: it has no points.
    """
    parts = found.groupdict()
    if parts["sep"] != "." or len(parts["year"]) == 2:
        raise ValueError(f"{value!r:.80} may have its day or its month first")
    return _made(_sorted(parts, day_first=True), value)


def _sorted(parts: dict[str, str | None], *, day_first: bool) -> dict[str, str | None]:
    day, month = ("first", "last") if day_first else ("last", "first")
    return {**parts, "day": parts[day], "month": parts[month]}


def _iso(text: str, value: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_unread(value)) from None


def _unread(value: str) -> str:
    return f"{value!r:.80} is not ISO 8601, nor another time that can be read"


def _made(parts: Mapping[str, str | None], value: str) -> datetime:
    """A moment out of its parts.

    Raises:
        ValueError: a part is impossible, or names a zone that is not an offset.
    """
    weekday, name = (parts.get("weekday") or "mon").lower(), parts.get("name")
    month = _month(name) if name is not None else int(parts["month"] or 0)
    if weekday[:3] not in _DAYS or month is None:
        raise ValueError(_unread(value))
    year = int(parts["year"] or 0)
    if year < 100:
        year += 2000 if year < 50 else 1900  # RFC 2822, 4.3
    hour, half = int(parts.get("hour") or 0), (parts.get("half") or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(f"{value!r:.80} has no such hour")
        hour = hour % 12 + 12 * (half == "p")
    if hour > 24 or (hour == 24 and parts.get("minute") != "00"):
        raise ValueError(f"{value!r:.80} has no such hour")
    micros = int((parts.get("fraction") or "").ljust(6, "0")[:6] or 0)
    try:
        moment = datetime(
            year, month, int(parts["day"] or 1), hour % 24, int(parts.get("minute") or 0),
            min(int(parts.get("second") or 0), 59), micros, _zone_of(parts, value),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{value!r:.80}: {error}" if repr(value)[:20] not in str(error) else str(error)) from None
    return moment + timedelta(days=hour == 24 and moment.minute == moment.second == 0)


def _month(name: str) -> int | None:
    """The number of a month by its English name or the first letters of it, as in Mar or Sept."""
    found = [number for number, month in enumerate(_MONTHS, 1) if month.startswith(name.lower())]
    return found[0] if found and len(name) >= 3 else None


def _zone_of(parts: Mapping[str, str | None], value: str) -> timezone:
    """The zone: an offset counts before a name. `GMT+0100` is one hour east, as JavaScript writes it."""
    offset, zone, place = parts.get("offset"), (parts.get("zone") or "").lower(), (parts.get("place") or "").lower()
    if offset:
        hours, minutes = offset[1:3].rstrip(":"), offset[-2:] if len(offset) > 3 else "0"
        east = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-east if offset[0] == "-" else east)
    if zone and zone not in _HOURS_EAST:
        raise ValueError(f"{value!r:.80} names the zone {parts.get('zone')!r:.40}; write its offset, as in +02:00")
    if not zone and place and place not in _HOURS_EAST:
        raise ValueError(f"{value!r:.80} names the zone {parts.get('place')!r:.40}; write its offset, as in +02:00")
    return timezone(timedelta(hours=_HOURS_EAST[zone or place or "z"]))


def _zoned(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _epoch_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def written(time_ms: int, form: str = ISO) -> str:
    """A time in UTC as people read it. Records may carry any 64 bits as their time: what is in no calendar is written
    as its number.

    Args:
        form: as `strftime` takes it.
    """
    if not 0 <= time_ms <= TIME_MAX_MS:
        return f"{time_ms} ms"
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)


def exactly(time_ms: int) -> str:
    """A time in a calendar as options take it, to the millisecond."""
    return f"{written(time_ms, '%Y-%m-%dT%H:%M:%S')}.{time_ms % 1000:03d}Z"


# -- a column of times

_EXCEL_1970 = 25_569  # the day number of 1970-01-01
_EXCEL = range(32_874, 73_051)  # 1990 to 2099
_YEAR_MS = 366 * 86_400_000
_CONTRADICTORY_MAX = 0.01
_UNITS = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # in milliseconds
FORMS = ("day-first", "month-first", "excel", *_UNITS)


class TimeForm(Struct, frozen=True):
    """How a column writes its times.

    Args:
        name: empty for what `parse_time` reads by itself; `day-first` or `month-first` of `05/01/2024`; `s`, `ms`, `us`
            or `ns` since 1970; `excel` for day numbers of a spreadsheet; or a pattern of `strptime`.
    """

    name: str = ""

    def read(self, value: object) -> int:
        """Epoch milliseconds of one of its times.

        Raises:
            ValueError: it is none, or not written in this form.
        """
        name = self.name
        if not name:
            return parse_time(value)
        if name in ("day-first", "month-first"):
            text = _short(value)
            found = _ORDERED.fullmatch(text) if text is not None else None
            if found is None:
                return parse_time(value)
            return _epoch_ms(_made(_sorted(found.groupdict(), day_first=name == "day-first"), str(value)))
        if "%" in name:
            text = str(value).strip()
            try:
                if len(text) > TEXT_MAX:
                    raise ValueError
                return _epoch_ms(_zoned(datetime.strptime(text, name)))  # noqa: DTZ007 - UTC where there is no zone
            except ValueError:
                raise ValueError(f"{text!r:.80} is not written as {name!r}") from None
        number = _number_of(value)
        if number is None:
            raise ValueError(f"{value!r:.80} is not a number, and the times are in the form {name}")
        return self._scaled(number)

    def _scaled(self, number: int | float) -> int:
        if self.name == "excel":
            time_ms = (number - _EXCEL_1970) * 86_400_000
        elif self.name in ("us", "ns") and isinstance(number, int):
            return _rounded(number, 1_000 if self.name == "us" else 1_000_000)
        else:
            time_ms = number * _UNITS[self.name]
        if not abs(time_ms) <= TIME_MAX_MS:
            raise ValueError(f"{number!r:.80} lies beyond the year 9999")
        return round(time_ms)


PLAIN = TimeForm()


def time_form(text: str) -> TimeForm:
    """A form as a user states it.

    Raises:
        ValueError: it is none.
    """
    if text not in FORMS and "%" not in text:
        raise ValueError(f"write {', '.join(FORMS)} or a pattern as in '%d/%m/%Y %H:%M', not {text!r:.80}")
    return TimeForm(text)


def _number_of(value: object) -> int | float | None:
    if isinstance(value, str):
        text = _short(value) or ""
        if _DECIMAL_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        return None if not _EPOCH.fullmatch(text) else int(text) if text.isdigit() else float(text)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


class Times:
    """What a column's values say about how its times are written: `add` them, then ask `form`."""

    def __init__(self) -> None:
        self._count = self._numbers = self._recent = self._hours = self._serials = 0
        self._first: object = None
        self._ordered: dict[str, list[str]] = {"day-first": [], "month-first": [], "": []}  # the first of each
        self._deciding = {"day-first": 0, "month-first": 0, "": 0}
        self._short_year: str | None = None

    def is_open(self) -> bool:
        """Whether its dates are numbers with slashes or hyphens of which none so far shows which is the day."""
        return bool(self._deciding[""]) and not self._deciding["day-first"] and not self._deciding["month-first"]

    def are_serials(self) -> bool:
        """Whether all may be day numbers of a spreadsheet."""
        return 0 < self._serials == self._numbers == self._count

    def add(self, values: Iterable[object]) -> None:
        for value in values:
            self._count += 1
            if isinstance(value, str) and value[4:5] == "-" and value[:4].isdigit():
                continue  # ISO 8601, mostly
            number = _number_of(value)
            if number is not None:
                self._add_number(value, number)
            elif (text := _short(value)) is not None and isinstance(value, str) and (found := _ORDERED.fullmatch(text)):
                self._add_ordered(value, found.groupdict())

    def _add_number(self, value: object, number: int | float) -> None:
        if not self._numbers:
            self._first = value
        self._numbers += 1
        try:
            self._recent += abs(_of_number(number)) >= _YEAR_MS
        except ValueError:
            self._recent += 1
        self._serials += int(number) in _EXCEL
        digits = str(int(number))
        if len(digits) == _CALENDAR_HOURS:
            self._hours += digits[8:] < "24" and _calendar(digits[:8]) is not None

    def _add_ordered(self, value: str, parts: Mapping[str, str | None]) -> None:
        first, last = int(parts["first"] or 0), int(parts["last"] or 0)
        order = "day-first" if first > 12 >= last else "month-first" if last > 12 >= first else ""
        if parts["sep"] == "." and not order:
            order = "day-first"
        if not self._deciding[order]:
            self._ordered[order].append(value)
        self._deciding[order] += 1
        if len(parts["year"] or "") == 2:
            self._short_year = self._short_year or value

    def form(self) -> TimeForm:
        """The form.

        Raises:
            ValueError: it cannot be known; the text is a question, and how to answer it.
        """
        if 2 * self._numbers > self._count:
            return self._form_of_numbers()
        if any(self._deciding.values()):
            return self._form_of_dates()
        return PLAIN

    def _form_of_numbers(self) -> TimeForm:
        if self._hours == self._numbers:
            return TimeForm("%Y%m%d%H")
        if self._recent:
            return PLAIN
        first = _number_of(self._first)
        if self._serials == self._numbers:
            raise ValueError(
                f"{first!r:.40} and the others may be day numbers of a spreadsheet (--time-format excel) or seconds of "
                "1970 (--time-format s); say which"
            )
        raise ValueError(
            f"{first!r:.40} and the others would all be times of 1970. If they count from a beginning of their own, "
            "say in which unit (--time-format s, ms, us or ns); if they are dates, how they are written (as in "
            "--time-format %Y%m); or count times by --start and --step"
        )

    def _form_of_dates(self) -> TimeForm:
        if self._short_year is not None:
            raise ValueError(
                f"{self._short_year!r:.40} has two digits for its year; say how dates are written, as in "
                "--time-format %d/%m/%y"
            )
        days, months = self._deciding["day-first"], self._deciding["month-first"]
        if not days and not months:
            raise ValueError(
                f"{self._ordered[''][0]!r:.40} may have its day or its month first, and no other date in the column "
                "tells; say which: --time-format day-first or --time-format month-first"
            )
        if min(days, months) > _CONTRADICTORY_MAX * max(days, months):
            raise ValueError(
                f"{self._ordered['day-first'][0]!r:.40} has its day first and {self._ordered['month-first'][0]!r:.40} "
                "its month; say which rows are right: --time-format day-first or --time-format month-first"
            )
        return TimeForm("day-first" if days > months else "month-first")
