"""`driftline demo --case recommend`: slates that readers answer, until their taste changes, in about a minute.

A broker, a worker in a process of its own, and a client as users would write it: it sends requests, reads the slates
from the scores topic, shows them, and sends what was clicked. The readers are made (`cli.news`), so it is known what
the best slates would earn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from driftline.cli.echo import echo
from driftline.cli.news import PIPELINE, STEP_MS, NewsPage
from driftline.cli.stage import DRAIN_TIMEOUT_S, LAST_ALERTS_S, Running, Stage, bar, delivery, picture, running, stage
from driftline.core.error import BrokerError
from driftline.kafka.client import client_options, producer

NAME = "news"
PARTITIONS = 2
REQUESTS = 6_000
TOGETHER = 50  # requests that are shown before any is answered
ROLLING = 1_000  # requests


@dataclass
class Scene:
    """What the display shows and the summary says.

    Attributes:
        earned, best, popular: by request, the clicks to be expected of what was shown, of the best slate, and of the
            articles that most readers like.
    """

    page: NewsPage
    requests: int
    begun_s: float = field(default_factory=time.monotonic)
    clicks: int = 0
    explored: int = 0
    earned: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    popular: list[float] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def rolling(self, values: list[float], end: int | None = None) -> float:
        part = values[:end][-ROLLING:]
        return sum(part) / len(part) if part else 0.0


def demo(kind: str, folder: Path | None, as_json: bool) -> None:
    """What `driftline demo --case recommend` does."""
    if folder is not None:
        _write(folder, kind)
        return
    console = Console(stderr=as_json)
    scene = Scene(NewsPage(change_at=REQUESTS // 2), REQUESTS)
    with stage(kind, NAME, PIPELINE.format(name=NAME, delivery=delivery(kind)), console) as ready:
        asyncio.run(_play(scene, ready, console))
    made = summary(scene)
    if as_json:
        echo(orjson.dumps(made, option=orjson.OPT_INDENT_2))
    else:
        _print_summary(made, kind, console)
    if not made["alerts"] or any(alert["requests_after_change"] < 0 for alert in made["alerts"]):
        raise click.exceptions.Exit(1)


def _write(folder: Path, kind: str) -> None:
    """A log of the page as files, for backtests: requests with what was shown at random, and clicks."""
    from random import Random

    folder.mkdir(parents=True, exist_ok=True)
    page = NewsPage(change_at=REQUESTS // 2)
    start_ms = int(time.time() * 1000) - REQUESTS * STEP_MS
    clicks: list[dict[str, Any]] = []
    with (folder / "requests.jsonl").open("wb") as file:
        for index, request in enumerate(page.requests(REQUESTS, start_ms)):
            slate = Random(index).sample(request["articles"], 3)
            clicks += page.clicks(request, slate)
            shown = [{"item": article, "propensity": 3 / len(request["articles"])} for article in slate]
            file.write(orjson.dumps(_timed({**request, "shown": shown})) + b"\n")
    with (folder / "clicks.jsonl").open("wb") as file:
        for made in sorted(clicks, key=lambda one: one["at"]):
            file.write(orjson.dumps(_timed(made)) + b"\n")
    (folder / "pipeline.yaml").write_text(PIPELINE.format(name=NAME, delivery=delivery(kind)))
    written = ", ".join(str(folder / name) for name in ("requests.jsonl", "clicks.jsonl", "pipeline.yaml"))
    echo(f"wrote {written}: {REQUESTS:,} requests whose slates were drawn at random, and {len(clicks):,} clicks")


def _timed(record: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record["at"] / 1000, UTC)
    return {**record, "at": moment.isoformat(timespec="milliseconds")}


async def _play(scene: Scene, stage: Stage, console: Console) -> None:
    def note(alert: dict[str, Any]) -> None:
        scene.alerts.append({**alert, "served": len(scene.earned)})

    async with running(stage, PARTITIONS) as worker, worker.alerts(note):
        scene.begun_s = time.monotonic()
        with Live(_picture(scene), console=console, refresh_per_second=4) as live:
            await _serve(scene, worker, live)
            await asyncio.sleep(LAST_ALERTS_S)
            live.update(_picture(scene))


async def _serve(scene: Scene, worker: Running, live: Live) -> None:
    """Send requests, show the slates that come back, send the clicks."""
    topics = worker.pipeline.topics
    start_ms = int(time.time() * 1000) - scene.requests * STEP_MS
    liked = _liked(scene.page)
    scores = worker.records(topics.scores)
    async with producer(client_options(worker.settings)) as sender, aclosing(scores):
        for first in range(0, scene.requests, TOGETHER):
            waiting: dict[str, dict[str, Any]] = {}
            for index in range(first, min(first + TOGETHER, scene.requests)):
                request = scene.page.request(index, start_ms)
                waiting[request["request_id"]] = request
                await _send(sender, topics.events, request)
            await sender.flush()
            for request, score in await _answers(scores, waiting):
                slate = [item["item"] for item in score["slate"]]
                scene.explored += score["explored"]
                scene.earned.append(scene.page.expected(request, slate))
                scene.best.append(scene.page.best(request))
                scene.popular.append(scene.page.expected(request, liked[index >= (scene.page.change_at or 0)]))
                for made in scene.page.clicks(request, slate):
                    scene.clicks += 1
                    await _send(sender, topics.labels or "", made)
            await sender.flush()
            live.update(_picture(scene))


async def _send(sender: Any, topic: str, record: dict[str, Any]) -> None:
    """A request and its clicks have the same key, and so go to the same partition."""
    key = str(record["request_id"]).encode()
    await sender.send(topic, orjson.dumps(record), key=key, timestamp_ms=record["at"])


async def _answers(
    scores: AsyncIterator[dict[str, Any]], waiting: dict[str, dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The scores of all requests that wait."""
    found = []
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while waiting:
                score = await anext(scores)
                if (request := waiting.pop(score["event_id"], None)) is not None:
                    found.append((request, score))
    except TimeoutError:
        raise BrokerError(f"{len(waiting)} requests were not answered in time; the machine may be overloaded") from None
    return found


def _liked(page: NewsPage) -> list[list[str]]:
    """The three articles that earn most if all are shown the same, before and after the change: by the truth."""
    found = []
    for first in (0, page.change_at or 0):
        requests = [page.request(first + number) for number in range(300)]
        articles = requests[0]["articles"]
        earned = {article: sum(page.probability(request, article) for request in requests) for article in articles}
        found.append(sorted(articles, key=lambda article: -earned[article])[:3])
    return found


def _picture(scene: Scene) -> Group:
    done = len(scene.earned)
    changed = done > (scene.page.change_at or 0)
    share = done / scene.requests
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    numbers.add_row("requests", Text(f"{bar(share)}  readers' taste {'CHANGED' if changed else 'unchanged'}"))
    explored = scene.explored / done if done else 0.0
    numbers.add_row("served", f"{done:,} slates of 3   {scene.clicks:,} clicks   {explored:.0%} explored")
    earned, best, popular = (scene.rolling(values) for values in (scene.earned, scene.best, scene.popular))
    numbers.add_row("clicks a slate", f"{earned:.2f}   best possible {best:.2f}   most popular {popular:.2f}")
    return picture(numbers, scene.alerts)


def summary(scene: Scene) -> dict[str, Any]:
    """The demo in numbers."""
    change = scene.page.change_at or 0
    parts = {"before": change, "after": min(change + ROLLING, scene.requests), "end": None}
    return {
        "requests": len(scene.earned),
        "clicks": scene.clicks,
        "share_explored": scene.explored / max(len(scene.earned), 1),
        "changed_at_request": change,
        "alerts": [
            {"sentence": alert["sentence"], "requests_after_change": alert["served"] - change} for alert in scene.alerts
        ],
        "clicks_per_slate": {
            name: {
                "served": scene.rolling(scene.earned, end),
                "best": scene.rolling(scene.best, end),
                "most_popular": scene.rolling(scene.popular, end),
            }
            for name, end in parts.items()
        },
        "seconds": round(time.monotonic() - scene.begun_s, 1),
    }


def _print_summary(made: dict[str, Any], kind: str, console: Console) -> None:
    console.print(
        f"\n{made['requests']:,} slates served, {made['clicks']:,} clicks in {made['seconds']} s ({kind} broker)"
    )
    table = Table("clicks a slate", "served", "best possible", "most popular", "share of the best", box=None)
    names = {"before": "before the change", "after": "just after it", "end": "at the end"}
    for name, one in made["clicks_per_slate"].items():
        share = one["served"] / one["best"] if one["best"] else 0.0
        cells = (f"{one[key]:.2f}" for key in ("served", "best", "most_popular"))
        table.add_row(names[name], *cells, f"{share:.0%}")
    console.print(table)
    for alert in made["alerts"]:
        console.print(f"an alert came {alert['requests_after_change']:,} requests after the change")
    if not made["alerts"]:
        console.print("no alert: the demo failed", style="bold red")
    console.print("\nnext:")
    console.print("  driftline demo --case recommend --write example     a log to try other policies on:")
    console.print(
        "  driftline backtest -p example/pipeline.yaml --events example/requests.jsonl --labels example/clicks.jsonl "
        "--grid recommend.policy=thompson,popularity,uniform"
    )
