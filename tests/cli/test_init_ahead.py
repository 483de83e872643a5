"""`driftline init` of series: a pipeline that forecasts, chosen by trial, and plain words where nothing is better."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from math import pi, sin
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from driftline.config import load_pipeline
from driftline.core.pipeline.guard import Untrained
from tests.cli.command import init as quick
from tests.cli.command import run
from tests.cli.test_init import written
from tests.cli.test_selection import init, table_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bikes(days: int = 60) -> list[tuple[Any, ...]]:
    rng, rows = random.Random(1), []
    for number in range(days * 24):
        day, hour = date(2024, 1, 1) + timedelta(number // 24), number % 24
        busy = 40 + 35 * sin(2 * pi * (hour - 8) / 24) - 15 * (day.weekday() >= 5) + rng.gauss(0, 4)
        casual = max(0, round(busy * 0.3))
        rows.append((number + 1, day, hour, round(rng.random(), 2), casual, casual + max(0, round(busy * 0.7))))
    return rows


def shops(days: int = 80) -> list[tuple[Any, ...]]:
    rng, days_of = random.Random(2), [date(2024, 1, 1) + timedelta(day) for day in range(days)]
    week = [8 * sin(2 * pi * day / 7) for day in range(days)]
    return [
        (days_of[day], store, item, round(20 * store + item + week[day] + rng.gauss(0, 4)))
        for day in range(days) for store in (1, 2) for item in (1, 2, 3)
    ]  # fmt: skip


def backtested(data: str, file: str) -> dict[str, Any]:
    done = run("backtest", "-p", file, "--input", data, "--json")
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads(done.stdout)["candidates"][0]["metrics"]
    return metrics


def test_hourly_counts_of_a_date_and_an_hour(folder: Path) -> None:
    header = ("instant", "dteday", "hr", "temp", "casual", "cnt")
    data = written("bikes.csv", header, bikes())
    shown = init("--input", data, "--label", "cnt")
    assert "one series of cnt, a number every 1h: forecast, 24 steps ahead" in shown
    found = table_of(shown)
    mase = {name: cells[0] for name, cells in found.items()}
    assert mase["baseline: seasonal naive"] > 1.1 * min(mase.values())
    pipeline = load_pipeline(folder / "bikes.yaml")
    assert pipeline.event.hour == "hr"
    assert pipeline.forecast is not None
    assert (pipeline.forecast.season, pipeline.forecast.cycles, pipeline.forecast.by) == (168, (24,), ())
    metrics = backtested(data, "bikes.yaml")
    assert metrics["MASE"] < 0.95 * metrics["NaiveMASE"]


def test_daily_sales_of_stores_and_items(folder: Path) -> None:
    data = written("sales.csv", ("date", "store", "item", "sales"), shops())
    shown = init("--input", data, "--label", "sales", "--task", "forecast")
    assert "6 series of sales by store and item, a number every 1d: forecast, 14 steps ahead" in shown
    mase = {name: cells[0] for name, cells in table_of(shown).items()}
    assert max(mase["seasonal regression"], mase["linear, Bayesian"]) < 0.9 * mase["baseline: seasonal naive"]
    pipeline = load_pipeline(folder / "sales.yaml")
    assert pipeline.forecast is not None
    assert pipeline.forecast.by == ("store", "item")
    assert "Tried on" in (folder / "sales.yaml").read_text()
    guard = pipeline.guard
    assert guard is not None
    assert (guard.untrained, guard.fallback) == (Untrained(labels_min=100), ("seasonal", "last_value"))
    assert guard.step is not None
    assert 1 < (guard.step.ratio_max or 0) < 20
    assert guard.step.action == "fallback"
    done = run("check", "-p", "sales.yaml")  # with a model that stands between two solutions, as after a restart
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = backtested(data, "sales.yaml")
    assert metrics["MASE"] < 0.9 * metrics["NaiveMASE"]


def test_where_nothing_beats_the_seasonal_naive_forecast_it_is_written_and_said(folder: Path) -> None:
    """Each day is the same day of the week before, and a change that nobody can know."""
    rng, values = random.Random(8), [500.0, 900.0, 400.0, 700.0, 600.0, 800.0, 300.0]
    while len(values) < 250:
        values.append(values[-7] + rng.gauss(0, 30))
    rows = [(date(2024, 1, 1) + timedelta(day), round(value, 1)) for day, value in enumerate(values)]
    shown = init("--input", written("week.csv", ("day", "units"), rows), "--label", "units")
    assert "NO MODEL BEATS THE BASELINE" in shown
    assert "SeasonalNaive()" in load_pipeline(folder / "week.yaml").model


def test_a_label_that_comes_later_or_another_task_is_no_series(folder: Path) -> None:
    data = written("sales.csv", ("date", "store", "item", "sales"), shops(40))
    for options in (("--label-delay", "1d"), ("--task", "regression")):
        done: Result = quick("--input", data, "--label", "sales", "--force", *options)
        assert done.exit_code == 0, done.output
        assert load_pipeline(folder / "sales.yaml").task == "regression"
        delayed = "--label-delay" in options
        assert ("6 series of sales by store and item, a number every 1d; --label-delay" in done.output) is delayed
        assert ("--label sales --label-delay 1d" in (folder / "sales.yaml").read_text()) is delayed


def test_a_forecast_is_asked_for_and_there_is_no_series() -> None:
    rng = random.Random(3)
    rows = [(1_700_000_000 + rng.randrange(10**7), rng.random()) for _ in range(300)]
    done = quick("--input", written("trips.csv", ("time", "fare"), rows), "--label", "fare", "--task", "forecast")
    assert done.exit_code == 2
    assert "no series of fare at a regular step" in done.output
    done = quick("--input", "trips.csv", "--label", "fare")
    assert done.exit_code == 2
    assert "no usable feature; there are no other fields" in done.output
    done = quick("--input", "trips.csv", "--task", "forecast")
    assert done.exit_code == 2
    assert "needs a number to forecast" in done.output


def test_plans_for_each_step_to_come_are_proposed_as_known_ahead(folder: Path) -> None:
    rng, horizons = random.Random(5), range(1, 15)
    promo = {(day, item): rng.random() < 0.25 for day in range(120) for item in (1, 2)}
    rows = [
        (
            date(2024, 1, 1) + timedelta(day), item, int(promo[day, item]),
            *(int(promo[day + horizon, item]) for horizon in horizons),
            round((20 + item + 4 * (day % 7)) * (2 if promo[day, item] else 1) + rng.gauss(0, 1)),
        )
        for day in range(100) for item in (1, 2)
    ]  # fmt: skip
    header = ("day", "item", "promo", *(f"promo_{horizon}" for horizon in horizons), "sold")
    data = written("planned.csv", header, rows)
    shown = init("--input", data, "--label", "sold")
    assert "2 series of sold by item, a number every 1d: forecast, 14 steps ahead" in shown
    assert "promo_1 and so on: taken for what is known of each step before it comes" in " ".join(shown.split())
    pipeline = load_pipeline(folder / "planned.yaml")
    assert pipeline.forecast is not None
    assert pipeline.forecast.known_ahead == {"promo_planned": "promo_{h}"}
    assert pipeline.model.strip() == "SeasonalRegression()"
