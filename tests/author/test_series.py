"""Which tables hold series that can be forecast, and by what they are named."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import pi, sin
from typing import Any

import pytest

from driftline.author.profile import profile
from driftline.author.series import DAY_MS, HOUR_MS, Found, find_series

START = datetime(2024, 1, 1, tzinfo=UTC)


def found_in(rows: list[dict[str, Any]], label: str = "units", *, whole: bool = True) -> Found | None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return find_series(profile(columns, label), columns, label, whole=whole)


def shops(days: int = 60, *, by_series: bool = False) -> list[dict[str, Any]]:
    rng = random.Random(2)
    rows = [
        {
            "date": (START + timedelta(day)).date().isoformat(), "store": store, "item": item, "price": rng.random(),
            "units": round(20 * store + item + 10 * sin(2 * pi * day / 7) + rng.gauss(0, 1)),
        }
        for day in range(days) for store in range(1, 4) for item in range(1, 5)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row["item"], row["store"])) if by_series else rows


@pytest.mark.parametrize("by_series", [False, True])
def test_the_fewest_fields_by_which_times_are_alone_name_a_series(*, by_series: bool) -> None:
    found = found_in(shops(by_series=by_series))
    assert found is not None
    assert found.by == ("store", "item")
    assert (found.step_ms, found.series, found.length, found.season) == (DAY_MS, 12, 60, 7)
    assert found.amounts


def test_a_key_with_one_value_so_far_names_a_series_where_there_are_more_rows() -> None:
    rows = [row for row in shops(by_series=True) if row["item"] == 1]
    part, all_there_are = found_in(rows, whole=False), found_in(rows)
    assert part is not None
    assert all_there_are is not None
    assert part.by == ("store", "item")
    assert part.constant == ("item",)
    assert all_there_are.by == ("store",)


def hours(**more: Callable[[datetime], Any]) -> list[dict[str, Any]]:
    rng = random.Random(4)
    rows = []
    for number in range(24 * 30):
        at = START + timedelta(hours=number)
        units = 50 + 30 * sin(2 * pi * at.hour / 24) - 20 * (at.weekday() >= 5) + rng.gauss(0, 3)
        rows.append({**{name: made(at) for name, made in more.items()}, "x": rng.random(), "units": units})
    return rows


def test_a_date_and_the_hour_beside_it_are_one_time() -> None:
    found = found_in(hours(dteday=lambda at: at.date().isoformat(), hr=lambda at: at.hour))
    assert found is not None
    assert (found.by, found.hour, found.step_ms, found.season, found.cycles) == ((), "hr", HOUR_MS, 168, (24,))


def test_a_few_steps_may_be_left_out() -> None:
    rows = hours(time=lambda at: at.isoformat())
    found = found_in([row for number, row in enumerate(rows) if number % 25])
    assert found is not None
    assert found.step_ms == HOUR_MS


def test_months_are_a_step() -> None:
    rows = [
        {"month": f"{2000 + n // 12}-{n % 12 + 1:02d}-01", "x": n % 5, "units": 100.0 + 50 * (n % 12 == 11) + n % 3}
        for n in range(120)
    ]
    found = found_in(rows)
    assert found is not None
    assert (found.step_ms, found.season) == (2_629_800_000, 12)


def times(gap: Callable[[random.Random], float], units: Callable[[random.Random], float]) -> list[dict[str, Any]]:
    rng, at, rows = random.Random(5), START, []
    for _ in range(800):
        at += timedelta(hours=gap(rng))
        rows.append({"time": at.isoformat(), "x": rng.random(), "units": units(rng)})
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        times(lambda rng: rng.expovariate(1.0), lambda rng: rng.random()),  # payments, trips
        times(lambda rng: 1.0, lambda rng: rng.random()),  # numbers of one thing after another
        [{**row, "date": "2024-01-01"} for row in shops()],
    ],
    ids=["irregular", "unrelated", "one time"],
)
def test_tables_that_hold_no_series(rows: list[dict[str, Any]]) -> None:
    assert found_in(rows) is None
