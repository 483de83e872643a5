"""Times in the spellings that users and programs write, and columns whose dates have two meanings."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from driftline.core.timestamp import TimeForm, Times, parse_time, time_form

MARCH = datetime(2024, 3, 1, 13, 5, tzinfo=UTC)
MARCH_MS = round(MARCH.timestamp() * 1000)


def utc(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


@pytest.mark.parametrize(
    "value",
    [
        "2024-03-01T13:05:00Z", "2024-03-01T13:05:00z", "2024-03-01 13:05", "2024-03-01T14:05:00+01:00",
        "2024-03-01 15:05:00 +0200", "20240301T130500Z", "2024-W09-5T13:05", "2024-03-01 13:05:00,000",
        "2024-03-01 13:05:00 UTC", "2024-03-01 13:05 GMT", "2024-03-01 08:05:00 EST", "2024-03-01T13:05:00Z[UTC]",
        "2024-03-01T14:05:00+01:00[Europe/Paris]", "2024-03-01T13:05:00[Etc/UTC]", " 2024-03-01T13:05:00Z ",
        "2024/03/01 13:05:00", "2024.03.01 13:05", "2024-3-1 1:05 PM",
        "Fri, 01 Mar 2024 13:05:00 GMT", "Fri, 1 Mar 2024 14:05:00 +0100", "Friday, 01-Mar-24 13:05:00 GMT",
        "Fri Mar  1 13:05:00 2024", "Fri Mar 01 13:05:00 UTC 2024", "01/Mar/2024:13:05:00 +0000",
        "Fri Mar 01 2024 14:05:00 GMT+0100 (Central European Standard Time)", "Mar 1, 2024 1:05 PM",
        "March 1st, 2024 13:05", "01.03.2024 13:05",
        1709298300, 1709298300.0, 1709298300_000, 1709298300_000_000, 1709298300_000_000_000, "1709298300",
        "1709298300000", 202403011305, 20240301130500, "202403011305",
    ],
)  # fmt: skip
def test_spellings_of_one_moment(value: Any) -> None:
    assert parse_time(value) == MARCH_MS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (20230115, "2023-01-15T00:00:00"), (20230115.0, "2023-01-15T00:00:00"), ("20230115", "2023-01-15T00:00:00"),
        ("18500101", "1850-01-01T00:00:00"), (20231345, "1970-08-23T03:49:05"), ("2024-02", "2024-02-01T00:00:00"),
        ("1612011200000", "2021-01-30T12:53:20"), ("2024-03-01T24:00:00", "2024-03-02T00:00:00"),
        (0, "1970-01-01T00:00:00"),
        (1.5e9, "2017-07-14T02:40:00"), (99_999_999_999, "5138-11-16T09:46:39"), (-86_400, "1969-12-31T00:00:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59"),
    ],
)  # fmt: skip
def test_numbers_and_edges(value: Any, expected: str) -> None:
    assert utc(parse_time(value)) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "not ISO 8601"), ("2024-13-01", "month"), ("31.02.2024", "day"), ("", "not ISO 8601"),
        ("05/01/2024 00:00", "day or its month first"), ("25/01/2024", "day or its month first"),
        ("2024-03-01T13:05:00[Europe/Paris]", "zone 'Europe/Paris'"), ("2024-03-01 13:05 IST", "zone 'IST'"),
        ("2024-03-01 25:00", "hour"), ("2024-03-01 13:05 PM", "hour"), (1e30, "year 9999"), (float("nan"), "year 9999"),
        (True, "neither text nor a number"), (None, "neither text nor a number"), ([], "neither text nor a number"),
        ("2024-03-01 12:00 America/New_York", "zone 'America/New_York'"),
    ],
)  # fmt: skip
def test_what_is_no_time_says_why(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_time(value)


def form_of(*values: Any) -> TimeForm:
    times = Times()
    times.add(values)
    return times.form()


@pytest.mark.parametrize(
    ("values", "name", "last"),
    [
        (["2024-03-01T00:00:00Z"], "", "2024-03-01T00:00:00"),
        (["05/01/2024 00:00", "25/01/2024 10:30"], "day-first", "2024-01-25T10:30:00"),
        (["05/01/2024", "1/25/2024 3:05 PM", "05/02/2024"], "month-first", "2024-05-02T00:00:00"),
        (["05-01-2024", "25-01-2024", "06-01-2024"], "day-first", "2024-01-06T00:00:00"),
        (["05.01.2024", "06.01.2024"], "day-first", "2024-01-06T00:00:00"),
        (["25/01/2024"] * 200 + ["01/25/2024", "02/01/2024"], "day-first", "2024-01-02T00:00:00"),
        ([2023010112, 2023013123], "%Y%m%d%H", "2023-01-31T23:00:00"),
        (["20230115", "20230116"], "", "2023-01-16T00:00:00"),
        ([0, 1_600_000_000], "", "2020-09-13T12:26:40"),
        ([], "", None),
    ],
)
def test_form_of_a_column(values: list[Any], name: str, last: str | None) -> None:
    form = form_of(*values)
    assert form.name == name
    if last is not None:
        assert utc(form.read(values[-1])) == last


@pytest.mark.parametrize(
    ("values", "question"),
    [
        (["05/01/2024 00:00", "06/01/2024"], "'05/01/2024 00:00' may have its day or its month first.*--time-format"),
        (["25/01/2024", "01/25/2024"], "'25/01/2024' has its day first and '01/25/2024' its month"),
        (["3/1/24"], "two digits for its year"),
        (["45000.00069", "45001"], "spreadsheet"),
        ([0, 1, 172_792], "1970"),
        ([2021, 2022], "1970"),
        (["202301", "202302"], "1970"),
        ([1.0, 2.0], "1970"),
    ],
)
def test_columns_that_nobody_can_be_sure_of_are_a_question(values: list[Any], question: str) -> None:
    with pytest.raises(ValueError, match=question):
        form_of(*values)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("day-first", "03/04/2024", "2024-04-03T00:00:00"), ("month-first", "03/04/24", "2024-03-04T00:00:00"),
        ("excel", "45000.5", "2023-03-15T12:00:00"), ("excel", "45000,5", "2023-03-15T12:00:00"),
        ("s", "1700000000,0", "2023-11-14T22:13:20"), ("excel", 45000, "2023-03-15T00:00:00"),
        ("s", 60, "1970-01-01T00:01:00"),
        ("ms", "60000", "1970-01-01T00:01:00"), ("us", 60_000_000, "1970-01-01T00:01:00"),
        ("ns", 60_000_000_000, "1970-01-01T00:01:00"), ("%d.%m.%y %H", "01.02.24 07", "2024-02-01T07:00:00"),
        ("%Y%m", 202402, "2024-02-01T00:00:00"), ("day-first", "2024-02-03", "2024-02-03T00:00:00"),
    ],
)  # fmt: skip
def test_a_form_that_is_stated(name: str, value: Any, expected: str) -> None:
    assert utc(time_form(name).read(value)) == expected


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("day-first", "01/25/2024", "month"), ("excel", "2024-01-01", "not a number"), ("s", "x", "not a number"),
        ("excel", "45,000", "not a number"), ("excel", "45000,5,1", "not a number"),
        ("%Y", "2024-01", "not written as '%Y'"), ("excel", 1e12, "9999"),
    ],
)  # fmt: skip
def test_a_value_that_contradicts_its_columns_form(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        time_form(name).read(value)


def test_an_unknown_form_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="day-first, month-first, excel"):
        time_form("american")


def test_a_column_stays_open_until_one_date_decides() -> None:
    times = Times()
    times.add(["05/01/2024"])
    assert times.is_open()
    times.add(["13/01/2024"])
    assert not times.is_open()


LONG = [
    "2024-03-01 13:05" + " " * 500_000 + "[a] x", "2024-03-01 13:05" + " " * 500_000 + "(",
    "1/2/2024 13:05" + " " * 500_000 + "x",
    "Mar 1 13:05" + " " * 500_000 + "x", "9" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("value", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("form", ["", "day-first", "%Y-%m-%d %H:%M x", "s"])
def test_what_is_too_long_for_a_time_is_refused_at_once(value: str, form: str) -> None:
    """The patterns take the square of a text's length: a record of a megabyte took for hours."""
    begun_s = time.process_time()
    with pytest.raises(ValueError, match="is no time|is not"):
        TimeForm(form).read(value)
    Times().add([value])
    assert time.process_time() - begun_s < 1


def test_a_column_of_day_numbers_is_looked_at_one_by_one_and_not_in_a_range() -> None:
    class Counted(float):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return float(self) == other

        __hash__ = float.__hash__

    times = Times()
    times.add([Counted(45_292.25)])
    assert times.are_serials()
    assert Counted.compared < 10
