"""`driftline demo --case demand`: sales of stores and items, forecast day by day, until demand shifts.

A broker, a worker in a process of its own, and a producer that sends each day's sales (`cli.demand`); the display shows
what came back on the outcomes topic: how far off the forecasts were, beside the seasonal naive ones, and how many sales
lay inside their intervals.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from driftline.cli.demand import DAY_MS, PIPELINE, sales
from driftline.cli.echo import echo
from driftline.cli.stage import DRAIN_TIMEOUT_S, LAST_ALERTS_S, Running, Stage, bar, delivery, picture, running, stage
from driftline.core.error import BrokerError
from driftline.kafka.client import client_options, producer

NAME = "demand"
STORES, ITEMS, DAYS, SHIFT_AT, HORIZONS = 5, 8, 140, 90, 7
ROLLING = 7 * STORES * ITEMS  # observations: a week
_COUNT = STORES * ITEMS * DAYS


@dataclass
class Scene:
    """What came back, by observation: mean error of its forecasts, the same of the naive ones, share inside."""

    begun_s: float = field(default_factory=time.monotonic)
    settled: int = 0
    errors: list[tuple[float, float, float]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def rolling(self, end: int | None = None) -> tuple[float, float, float]:
        part = self.errors[:end][-ROLLING:]
        served, naive, inside = (sum(one[n] for one in part) / max(len(part), 1) for n in range(3))
        return served, naive, inside

    def take(self, outcome: dict[str, Any]) -> None:
        self.settled += 1
        judged, y = outcome.get("forecast"), outcome["label"]
        if judged is None:
            return
        count = len(judged["horizons"])
        error, naive = (sum(abs(value - y) for value in judged[key]) / count for key in ("values", "naive"))
        bounds = [(low, high) for low, high in zip(judged["lower"], judged["upper"], strict=True) if low is not None]
        if bounds:
            self.errors.append((error, naive, sum(low <= y <= high for low, high in bounds) / len(bounds)))


def demo(kind: str, folder: Path | None, as_json: bool) -> None:
    """What `driftline demo --case demand` does."""
    if folder is not None:
        _write(folder, kind)
        return
    console, scene = Console(stderr=as_json), Scene()
    with stage(kind, NAME, _pipeline(kind), console) as ready:
        asyncio.run(_play(scene, ready, console))
    made = summary(scene)
    if as_json:
        echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
    else:
        _print_summary(made, kind, console)
    if not made["alerts"] or any(one["observations_after_shift"] < 0 for one in made["alerts"]):
        raise click.exceptions.Exit(1)


def _pipeline(kind: str) -> str:
    return PIPELINE.format(name=NAME, delivery=delivery(kind), horizons=HORIZONS)


def _write(folder: Path, kind: str) -> None:
    """The sales and the pipeline as files, for the other commands."""
    folder.mkdir(parents=True, exist_ok=True)
    start_ms = _start_ms()
    with (folder / "sales.jsonl").open("wb") as file:
        for _, event in sales(STORES, ITEMS, DAYS, SHIFT_AT, start_ms):
            file.write(orjson.dumps(event) + b"\n")
    (folder / "pipeline.yaml").write_text(_pipeline(kind))
    echo(f"wrote {folder / 'sales.jsonl'} ({_COUNT:,} sales of {STORES * ITEMS} series) and {folder / 'pipeline.yaml'}")


def _start_ms() -> int:
    """So many whole days ago that the last day is today."""
    return (int(time.time() * 1000) // DAY_MS - DAYS + 1) * DAY_MS


async def _play(scene: Scene, stage: Stage, console: Console) -> None:
    def note(alert: dict[str, Any]) -> None:
        scene.alerts.append({**alert, "settled": scene.settled})

    async with running(stage, 1) as worker, worker.alerts(note):
        scene.begun_s = time.monotonic()
        with Live(_picture(scene), console=console, refresh_per_second=4) as live:
            await _serve(scene, worker, live)
            await asyncio.sleep(LAST_ALERTS_S)
            live.update(_picture(scene))


async def _serve(scene: Scene, worker: Running, live: Live) -> None:
    """Send each day's sales, and read what became of them before the next day."""
    topics, sent = worker.pipeline.topics, 0
    outcomes = worker.records(topics.outcomes)
    async with producer(client_options(worker.settings)) as sender, aclosing(outcomes):
        for time_ms, event in sales(STORES, ITEMS, DAYS, SHIFT_AT, _start_ms()):
            key = f"{event['store']}-{event['item']}".encode()
            await sender.send(topics.events, orjson.dumps(event), key=key, timestamp_ms=time_ms)
            sent += 1
            if sent % (STORES * ITEMS):
                continue
            await sender.flush()
            try:
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    while scene.settled < sent:
                        scene.take(await anext(outcomes))
            except TimeoutError:
                missing = sent - scene.settled
                text = f"{missing} sales were not settled in time; the machine may be overloaded"
                raise BrokerError(text) from None
            live.update(_picture(scene))


def _picture(scene: Scene) -> Group:
    share = scene.settled / _COUNT
    shifted = scene.settled > SHIFT_AT * STORES * ITEMS
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    numbers.add_row("sales", Text(f"{bar(share)}  demand {'SHIFTED' if shifted else 'as usual'}"))
    error, naive, inside = scene.rolling()
    numbers.add_row("last week", f"off by {error:.2f}   seasonal naive {naive:.2f}   inside the interval {inside:.0%}")
    return picture(numbers, scene.alerts)


def summary(scene: Scene) -> dict[str, Any]:
    """The demo in numbers."""
    shift = SHIFT_AT * STORES * ITEMS
    young = scene.settled - len(scene.errors)  # of those before the first intervals there are no errors
    weeks = {"before": shift - young, "after": shift - young + ROLLING, "end": None}
    return {
        "sales": scene.settled,
        "series": STORES * ITEMS,
        "shifted_at": shift,
        "alerts": [
            {"sentence": alert["sentence"], "observations_after_shift": alert["settled"] - shift}
            for alert in scene.alerts
        ],
        "weeks": {
            name: dict(zip(("error", "seasonal_naive", "inside"), scene.rolling(end), strict=True))
            for name, end in weeks.items()
        },
        "seconds": round(time.monotonic() - scene.begun_s, 1),
    }


def _print_summary(made: dict[str, Any], kind: str, console: Console) -> None:
    console.print(f"\n{made['sales']:,} sales of {made['series']} series in {made['seconds']} s ({kind} broker)")
    table = Table("a week", "off by", "seasonal naive", "inside the interval", box=None)
    names = {"before": "before the shift", "after": "just after it", "end": "at the end"}
    for name, one in made["weeks"].items():
        table.add_row(names[name], f"{one['error']:.2f}", f"{one['seasonal_naive']:.2f}", f"{one['inside']:.0%}")
    console.print(table)
    for alert in made["alerts"]:
        console.print(f"an alert came {alert['observations_after_shift']:,} sales after the shift")
    if not made["alerts"]:
        console.print("no alert: the demo failed", style="bold red")
    console.print("\nnext:")
    console.print("  driftline demo --case demand --write example      the same sales as files, to try models on:")
    console.print("  driftline backtest -p example/pipeline.yaml --input example/sales.jsonl --out example/report")
