"""How good forecasts are, and what they cost: the figures of docs/forecast.md.

`python -m benchmarks.forecast bikes FILE` forecasts hourly rentals for the next 24 hours (`hour.csv` of UCI 275, plain
or gzipped). `python -m benchmarks.forecast demand` does so for the made sales of 50 stores x 20 items, 14 days ahead,
with a shift half way; `--stores`, `--items` and `--days` make fewer. `python -m benchmarks.forecast kinds` makes other
kinds of series: intermittent, trending, of several levels, a random walk, with outliers, of two seasons.
`python -m benchmarks.forecast oracle` prints what no model or interval could better on the made sales.

Each prints what `SeasonalRegression` reaches beside the seasonal naive forecast and, with `--models`, beside others;
coverage after the shift by when forecasts were served; and CPU time of the fold per observation.
"""

from __future__ import annotations

import csv
import gzip
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import click
import numpy as np

from driftline.cli.demand import DAY_MS, NOISE, PROMOTED, PROMOTED_SHARE, SHIFTED, Usual, promoted, sales
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Judged, Outcome
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Source
from driftline.core.shard.state import Shard

MODEL = "SeasonalRegression()"
OTHERS = (
    "BayesianLinearRegression()",
    "HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality={season})",
    "SNARIMAX(p=2, d=0, q=0, m={season}, sp=1, sd=1)",
)
START_MS = 1_577_836_800_000  # 2020-01-01, a Wednesday
WINDOW = 500  # observations
PAIRS = 5  # a season apart, before the first forecast
Row = tuple[int, dict[str, Any]]


# -- what is forecast


def bikes(path: Path) -> Iterator[Row]:
    """Rentals by hour, with the weather of that hour."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            day = datetime.fromisoformat(row["dteday"]).replace(tzinfo=UTC)
            numbers = {name: float(row[name]) for name in ("temp", "hum", "windspeed", "weathersit", "workingday")}
            yield int(day.timestamp() * 1000) + int(row["hr"]) * 3_600_000, {"y": float(row["cnt"]), **numbers}


BIKES: dict[str, Any] = {
    "features": {
        "y": "number", "temp": "number", "hum": "number", "windspeed": "number", "weathersit": "number",
        "workingday": "number", "hour": {"calendar": "hour", "cyclic": True}, "weekend": {"calendar": "weekend"},
    },
    "forecast": {"step": "1h", "horizons": 24, "season": 168, "cycles": [24], "transform": "sqrt"},
}  # fmt: skip
DAILY: dict[str, Any] = {
    "features": {
        "y": "number", "weekday": {"calendar": "weekday", "cyclic": True}, "weekend": {"calendar": "weekend"},
    },
    "forecast": {"by": "series", "step": "1d", "horizons": 14, "season": 7},
}  # fmt: skip


def demand(stores: int, items: int, days: int, shift_at: int) -> Iterator[Row]:
    """Sales, with the promotion of the day, and those of the days after it as they are planned."""
    horizons = range(1, DAILY["forecast"]["horizons"] + 1)
    for place, (time_ms, event) in enumerate(sales(stores, items, days, shift_at, START_MS)):
        day, (store, item) = place // (stores * items), divmod(place % (stores * items), items)
        row = {"series": f"{event['store']}-{event['item']}", "y": event["demand"], "promo": event["promo"]}
        yield time_ms, row | {f"promo_{h}": float(promoted(store, item, day + h)) for h in horizons}


def kind(name: str, series: int = 20, days: int = 400, seed: int = 3) -> Iterator[Row]:
    """Made series that nothing here was chosen by; see the module."""
    rng = np.random.default_rng(seed)
    at = np.arange(days)
    size = rng.lognormal(2.5, 0.7, series)[:, None]
    week = 1 + 0.3 * np.sin(2 * np.pi * (at + rng.integers(0, 7, series)[:, None]) / 7)
    if name == "intermittent":
        values = (rng.poisson(size * week * 0.03) * rng.integers(1, 4, (series, days))).astype(float)
    elif name == "trend":
        slopes = rng.normal(0, 0.004, series)[:, None]
        values = size * week * np.exp(slopes * at + rng.normal(0, 0.1, (series, days)))
    elif name == "levels":
        level = np.ones((series, days))
        for one in level:
            for since in rng.choice(days, 5, replace=False):
                one[since:] *= np.exp(rng.normal(0, 0.5))
        values = rng.poisson(size * week * level).astype(float)
    elif name == "walk":
        values = np.cumsum(rng.normal(0, 1, (series, days)), axis=1) + 50
    elif name == "outliers":
        values = np.maximum(size * week + rng.normal(0, 2, (series, days)), 0)
        values[rng.random((series, days)) < 0.01] *= 10
    else:
        raise ValueError(f"{name!r} is not a kind of series")
    for day in range(days):
        for number in range(series):
            yield START_MS + day * DAY_MS, {"series": f"s{number:02d}", "y": float(values[number, day])}


KINDS = {"intermittent": "sqrt", "trend": "none", "levels": "sqrt", "walk": "none", "outliers": "none"}


# -- the fold


def pipeline_of(case: dict[str, Any], model: str, **changes: Any) -> Pipeline:
    forecast = {"target": "y", **case["forecast"], **changes}
    context = {"series": "key"} if "by" in forecast else {}
    event = {"id": "id", "time": "time", "features": case["features"], "context": context}
    return parse_pipeline(
        {"pipeline": "measured", "task": "forecast", "event": event, "forecast": forecast, "model": model}
    )


class Run:
    """One model over the observations.

    Attributes:
        judged: of each observation: number, truth, forecasts.
    """

    def __init__(self, pipeline: Pipeline, rows: Iterable[Row]) -> None:
        self.shard = Shard(pipeline, 0)
        self.judged: list[tuple[int, float, Judged]] = []
        names = [name for name, one in pipeline.event.features.items() if not hasattr(one, "calendar")]
        places = [names.index(name) if name in names else None for name in pipeline.event.features]
        events = []
        for offset, (time_ms, row) in enumerate(rows):
            key = str(row.get("series", ""))
            values = tuple([None if place is None else row[names[place]] for place in places])
            source = Source("measured.events", 0, offset, time_ms, key.encode(), b"")
            context = (key,) if pipeline.event.context else ()
            events.append(Event(source, time_ms, time_ms, event_id=str(offset), features=values, context=context))
        begun = time.process_time()
        for number, event in enumerate(events):
            for made in step(self.shard, event, Oracle()).outputs:
                if isinstance(made, Outcome) and made.judged is not None and isinstance(made.label, int | float):
                    self.judged.append((number, float(made.label), made.judged))
        self.ms = (time.process_time() - begun) * 1000 / len(events)

    def board(self) -> dict[str, Any]:
        forecasts = self.shard.forecasts
        return {} if forecasts is None else forecasts.board.values()


def say(name: str, run: Run) -> None:
    board = run.board()
    total, each = board["metrics"], board["by_horizon"]
    covered = [value for value in each["Coverage"] if value is not None]
    click.echo(
        f"{name:34.34} MASE {total['MASE']:.3f}  seasonal naive {total['NaiveMASE']:.3f}  "
        f"coverage {min(covered, default=0):.3f} to {max(covered, default=0):.3f}  "
        f"width {total['Width'] or 0:.2f}  pinball {total['Pinball'] or 0:.3f}  {run.ms:.2f} ms"
    )


def say_after(run: Run, shift_ms: int, step_ms: int) -> None:
    """Coverage and width by horizon of forecasts that were served from the shift on, in runs of `WINDOW` of them; and
    what those cost that were served before it, which could not know, and had their truth after it."""
    found: dict[int, list[tuple[int, bool, float]]] = defaultdict(list)
    for _, y, judged in run.judged:
        for horizon, low, high in zip(judged.horizons, judged.lower, judged.upper, strict=True):
            if low is not None and high is not None:
                found[horizon].append((judged.time_ms - horizon * step_ms, low <= y <= high, high - low))
    for horizon, all_of in found.items():
        before = np.mean([width for at, _, width in all_of if shift_ms - 20 * step_ms <= at < shift_ms - 14 * step_ms])
        after = [one for one in all_of if one[0] >= shift_ms]
        shares = [
            np.mean([inside for _, inside, _ in after[n : n + WINDOW]]) for n in range(0, len(after) - WINDOW, WINDOW)
        ]
        widths = [np.mean([width for at, _, width in after if at == shift_ms + n * step_ms]) for n in (7, 14, 21, 28)]
        of_all = [inside for _, inside, _ in all_of]
        across = [inside for at, inside, _ in all_of if shift_ms - horizon * step_ms <= at < shift_ms]
        needed = (0.89 * len(of_all) - sum(of_all) + sum(inside for _, inside, _ in after)) / max(len(after), 1)
        click.echo(
            f"  horizon {horizon:2}: {len(across) / len(of_all):.2f} were served before the shift and judged after it, "
            f"{np.mean(across):.2f} of them inside; for 0.89 of all, {needed:.3f} had to be after it, "
            f"{np.mean([inside for _, inside, _ in after]):.3f} were"
        )
        click.echo(
            f"    inside, by {WINDOW} forecasts after the shift "
            + " ".join(f"{share:.2f}" for share in shares)
            + f"; width before {before:.1f}, 7, 14, 21, 28 steps after "
            + " ".join(f"{width:.1f}" for width in widths)
        )


# -- what could be reached


class World:
    """Made sales whose law is known; an oracle knows it, and the day of the shift.

    Attributes:
        mean: of each sale, by day and series, without promotions.
        promo: whether it was promoted.
        sold: how much.
    """

    def __init__(self, stores: int, items: int, days: int, seed: int) -> None:
        self.shift_at = days // 2
        usual, series = Usual(stores, items, Random(seed)), [(s, i) for s in range(stores) for i in range(items)]
        rises = [SHIFTED if day >= self.shift_at else 1.0 for day in range(days)]
        self.mean = np.array([[usual.mean(s, i, day) * rise for s, i in series] for day, rise in enumerate(rises)])
        made = [event for _, event in sales(stores, items, days, self.shift_at, START_MS, seed)]
        self.promo = np.array([event["promo"] for event in made], bool).reshape(self.mean.shape)
        self.sold = np.array([event["demand"] for event in made], float).reshape(self.mean.shape)

    def mase(self, *, planned: bool) -> float:
        """Of the mean as a forecast, over the days that have one a season before.

        Args:
            planned: promotions are known ahead.
        """
        errors = np.abs(self.sold - self.mean * np.where(self.promo & planned, PROMOTED, 1.0))[7:]
        moved = np.abs(self.sold[7:] - self.sold[:-7])
        scales = np.cumsum(moved, axis=0) / np.arange(1, len(moved) + 1)[:, None]
        return float(np.mean(errors[PAIRS:] / scales[PAIRS - 1 : -1]))

    def inside(self, share: float, *, planned: bool, rng: np.random.Generator, draws: int = 1_000) -> Any:
        """Whether each sale after the shift lay in an interval around the root of its mean that holds a share."""
        found = []
        for mean, promo, sold in zip(self.mean, self.promo, self.sold, strict=True):
            known = mean * np.where(promo & planned, PROMOTED, 1.0)
            promoted_too = (rng.random((draws, len(mean))) < PROMOTED_SHARE) & (not planned)
            drawn = known * np.where(promoted_too, PROMOTED, 1.0) * np.exp(rng.normal(0, NOISE, (draws, len(mean))))
            off = np.abs(np.sqrt(np.vstack([rng.poisson(drawn), sold])) - np.sqrt(known))
            off += rng.random(off.shape) * 1e-9  # equal counts in any order
            found.append(off[-1] <= np.quantile(off[:-1], share, axis=0))
        return np.array(found)[self.shift_at :]


@click.group()
def main() -> None:
    """Measure forecasts."""


@main.command("bikes")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--rows", "rows_max", default=20_000, show_default=True)
@click.option("--models", is_flag=True, help="Also other models.")
def measure_bikes(path: Path, rows_max: int, models: bool) -> None:
    rows = [row for number, row in enumerate(bikes(path)) if number < rows_max]
    for model in (MODEL, *(OTHERS if models else ())):
        named = model.format(season=168)
        say(named, Run(pipeline_of(BIKES, named), rows))


@main.command("demand")
@click.option("--stores", default=50, show_default=True)
@click.option("--items", default=20, show_default=True)
@click.option("--days", default=200, show_default=True)
@click.option("--models", is_flag=True, help="Also other models.")
def measure_demand(stores: int, items: int, days: int, models: bool) -> None:
    case = {**DAILY, "features": {**DAILY["features"], "promo": "number"}}
    rows = list(demand(stores, items, days, days // 2))
    for model in (MODEL, *(OTHERS if models else ())):
        named = model.format(season=7)
        run = Run(pipeline_of(case, named, transform="sqrt"), rows)
        say(named, run)
        if model == MODEL:
            say_after(run, START_MS + days // 2 * DAY_MS, DAY_MS)
            planned = {**case, "features": {**case["features"], "promo_{h}": "number"}}
            known = {"known_ahead": {"planned": "promo_{h}"}}
            say(f"{named}, promotions known ahead", Run(pipeline_of(planned, named, transform="sqrt", **known), rows))


@main.command("kinds")
@click.option("--series", default=20, show_default=True)
@click.option("--days", default=400, show_default=True)
def measure_kinds(series: int, days: int) -> None:
    for name, transform in KINDS.items():
        say(name, Run(pipeline_of(DAILY, MODEL, transform=transform), list(kind(name, series, days))))


@main.command("oracle")
@click.option("--stores", default=10, show_default=True)
@click.option("--items", default=10, show_default=True)
@click.option("--days", default=120, show_default=True)
@click.option("--seeds", default=10, show_default=True)
def measure_oracle(stores: int, items: int, days: int, seeds: int) -> None:
    worlds, rng = [World(stores, items, days, 7 + seed) for seed in range(seeds)], np.random.default_rng(1)
    for planned in (False, True):
        name = f"promotions {'known ahead' if planned else 'not known'}"
        click.echo(f"{name}: MASE of the mean {np.mean([world.mase(planned=planned) for world in worlds]):.3f}")
        for share in (0.9, 0.911):
            runs = []
            for world in worlds:
                inside = world.inside(share, planned=planned, rng=rng).ravel()
                runs += [np.mean(inside[n : n + WINDOW]) for n in range(WINDOW, len(inside) - WINDOW, WINDOW)]
            near = np.mean([0.87 <= run <= 0.93 for run in runs])
            held = f"{np.mean(runs):.3f} inside, {near:.3f} of {len(runs)} runs within 0.87 to 0.93"
            click.echo(f"  intervals of {share}: {held}")


if __name__ == "__main__":
    main()
