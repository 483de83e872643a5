"""`driftline demo`: the main job, from nothing to an alert, in about half a minute.

Everything in it is what a user would run: a broker, a worker in a process of its own, a producer, a subscriber on
the alerts topic. The display shows what the worker's own /metrics page says and what the subscriber reads.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from driftline.cli import card_fraud, demo_demand, demo_news, spam_mail
from driftline.cli.card_fraud import STEP_MS
from driftline.cli.echo import echo
from driftline.cli.stage import (
    DRAIN_TIMEOUT_S,
    LAST_ALERTS_S,
    LOOK_EVERY_S,
    Running,
    Stage,
    bar,
    delivery,
    picture,
    running,
    stage,
)
from driftline.core.alert.kind import worded
from driftline.core.error import BrokerError
from driftline.core.task import SLATES
from driftline.core.wording import money
from driftline.ingest.feed import RowSender
from driftline.ingest.table import Sample

PARTITIONS = 2
LABEL_DELAY_MS = 900_000


@dataclass(frozen=True)
class Story:
    """A stream whose labels come later, and what changes in it.

    Args:
        pipeline: the file, with `{name}` and `{delivery}` to fill in.
        samples: makes the stream: how many, which is the first changed one, time of the first.
        things, thing: what events are called.
        changing: what changes.
        time, label: fields of the file that `--write` makes.
        metric: that the summary follows.
    """

    name: str
    pipeline: str
    samples: Callable[[int, int, int], Iterator[Sample]]
    things: str
    thing: str
    changing: str
    time: str
    label: str
    metric: str


STORIES = {
    "fraud": Story(
        "card-fraud", card_fraud.PIPELINE, card_fraud.payments,
        "payments", "payment", "fraud pattern", "paid_at", "is_fraud", "Accuracy",
    ),
    "spam": Story(
        "spam-mail", spam_mail.PIPELINE, spam_mail.messages,
        "messages", "message", "words of spam", "sent_at", "is_spam", "F1",
    ),
}  # fmt: skip
OWN_DEMOS = {SLATES: demo_news.demo, "demand": demo_demand.demo}  # they answer what they read, so they play otherwise
MESSAGES, MESSAGES_RATE_MAX = 9_000, 400.0


@dataclass
class Scene:
    """What the display and the summary show."""

    payments: int
    change_at: int
    story: Story = STORIES["fraud"]
    begun_s: float = field(default_factory=time.monotonic)
    sent: int = 0
    scored: int = 0
    joined: int = 0
    rejected: int = 0
    rolling: dict[str, float] = field(default_factory=dict)
    kpis: dict[tuple[str, str], float] = field(default_factory=dict)  # what is known, by name and unit
    track: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # labels learned, rolling metrics
    alerts: list[dict[str, Any]] = field(default_factory=list)


def demo(case: str, kind: str, count: int, rate: float, folder: Path | None, as_json: bool) -> None:
    """What `driftline demo` does."""
    if (own := OWN_DEMOS.get(case)) is not None:
        own(kind, folder, as_json)
        return
    story = STORIES[case]
    if case == "spam":
        count, rate = MESSAGES, min(rate, MESSAGES_RATE_MAX)
    if folder is not None:
        _write(folder, kind, count, story)
        return
    console = Console(stderr=as_json)
    scene = Scene(count, count * 8 // 15, story)
    text = story.pipeline.format(name=story.name, delivery=delivery(kind))
    with stage(kind, story.name, text, console) as made:
        asyncio.run(_play(scene, made, rate, console))
    if as_json:
        echo(orjson.dumps(summary(scene), option=orjson.OPT_INDENT_2))
    else:
        _print_summary(scene, kind, console)
    if not drift_alerted(scene):
        raise click.exceptions.Exit(1)


def _write(folder: Path, kind: str, count: int, story: Story) -> None:
    """The demo's events and its pipeline as files, for the other commands."""
    folder.mkdir(parents=True, exist_ok=True)
    start_ms = int(time.time() * 1000) - count * STEP_MS
    path = folder / f"{story.things}.jsonl"
    with path.open("wb") as file:
        for sample in story.samples(count, count * 8 // 15, start_ms):
            moment = datetime.fromtimestamp(sample.time_ms / 1000, UTC).isoformat(timespec="seconds")
            file.write(orjson.dumps({**sample.event, story.time: moment, story.label: sample.label}) + b"\n")
    (folder / "pipeline.yaml").write_text(story.pipeline.format(name=story.name, delivery=delivery(kind)))
    echo(f"wrote {path} ({count:,} {story.things}) and {folder / 'pipeline.yaml'}")


async def _play(scene: Scene, stage: Stage, rate: float, console: Console) -> None:
    async with running(stage, PARTITIONS) as worker, worker.alerts(scene.alerts.append) as listening:
        feed = RowSender(stage.pipeline, worker.settings, label_delay_ms=LABEL_DELAY_MS, rate=rate)
        start_ms = int(time.time() * 1000) - scene.payments * STEP_MS
        console.print(
            f"while it runs, the worker's page is at http://{worker.settings.web_host}:{worker.settings.web_port}/"
        )
        scene.begun_s = time.monotonic()
        feeding = asyncio.create_task(feed.run(scene.story.samples(scene.payments, scene.change_at, start_ms)))
        try:
            await _watch(scene, feed, feeding, listening, worker, console)
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})


async def _watch(
    scene: Scene,
    feed: RowSender,
    feeding: asyncio.Task[Any],
    listening: asyncio.Task[None],
    worker: Running,
    console: Console,
) -> None:
    """Show what happens, until everything that was sent is scored and learned."""
    drained_by_s = float("inf")
    with Live(_picture(scene), console=console, refresh_per_second=4, transient=False) as live:
        while scene.joined < scene.payments:
            if listening.done():
                listening.result()
            if worker.process.poll() is not None:
                raise BrokerError("the worker stopped before the end of the stream; run `driftline worker` to see why")
            if feeding.done():
                feeding.result()
                drained_by_s = min(drained_by_s, time.monotonic() + DRAIN_TIMEOUT_S)
            if time.monotonic() > drained_by_s:
                raise BrokerError(
                    f"{scene.payments - scene.joined} labels were not joined in time; the machine may be overloaded"
                )
            scene.sent = feed.fed.rows
            page = await worker.page("/metrics")
            if page is not None:
                read_metrics(scene, page)
            live.update(_picture(scene))
            await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.sleep(LAST_ALERTS_S)
        live.update(_picture(scene))


def read_metrics(scene: Scene, page: str) -> None:
    scored = joined = rejected = learned = 0.0
    rolling: dict[str, list[float]] = {}
    kpis: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "driftline_scores_total":
                scored += sample.value
            elif sample.name == "driftline_labels_joined_total":
                joined += sample.value
            elif sample.name == "driftline_rejected_total":
                rejected += sample.value
            elif sample.name == "driftline_labels_learned":
                learned += sample.value
            elif sample.name == "driftline_metric" and sample.labels["span"] == "window":
                rolling.setdefault(sample.labels["metric"], []).append(sample.value)
            elif sample.name == "driftline_kpi" and sample.labels["part"] == "known":
                name = (sample.labels["kpi"], sample.labels["unit"])
                kpis[name] = kpis.get(name, 0.0) + sample.value
    scene.scored, scene.joined, scene.rejected = int(scored), int(joined), int(rejected)
    scene.kpis = kpis or scene.kpis
    scene.rolling = {name: sum(values) / len(values) for name, values in rolling.items() if name != "label_count"}
    if learned:  # not `joined`, which counts what is committed: the metrics are of the model as it is
        scene.track.append((int(learned), scene.rolling))


def _picture(scene: Scene) -> Group:
    elapsed_s = time.monotonic() - scene.begun_s
    changed = scene.sent > scene.change_at
    numbers = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    done = scene.sent / scene.payments
    numbers.add_row("stream", Text(f"{bar(done)}  {scene.story.changing} {'CHANGED' if changed else 'unchanged'}"))
    rate = f"{scene.scored / max(elapsed_s, 0.1):,.0f} per second"
    numbers.add_row(scene.story.things, f"{scene.sent:,} sent   {scene.scored:,} scored   {rate}")
    numbers.add_row("labels", f"{scene.joined:,} joined and learned")
    rolling = "   ".join(f"{name} {value:.3f}" for name, value in sorted(scene.rolling.items()))
    numbers.add_row("rolling", rolling or "...")
    return picture(numbers, scene.alerts)


# -- what it came to


def drift_alerted(scene: Scene) -> bool:
    """Whether drift was alerted after the change, and not before."""
    return bool(scene.alerts) and all(_after_change(scene, alert) > 0 for alert in scene.alerts)


def _after_change(scene: Scene, alert: dict[str, Any]) -> int:
    """What the signal counts, of changed events, when the alert was raised; below zero: too early."""
    observed, counted = alert["evidence"].get("observed"), _counted(scene, alert)
    if counted == "labels" and observed is not None:
        return int(observed) - scene.change_at
    read: Counter[str] = Counter()
    for place, offset in alert["positions"].items():
        read[place.partition(":")[0]] += int(offset)
    events = read.pop(f"{scene.story.name}.{scene.story.things}", 0)
    read.pop(f"{scene.story.name}.control", None)
    return (sum(read.values()) if counted == "labels" else events) - scene.change_at


def _counted(scene: Scene, alert: dict[str, Any]) -> str:
    """What the signal of an alert counts: labels, or events."""
    return scene.story.things if str(alert["evidence"].get("signal", "")).startswith("vocabulary") else "labels"


def _came(scene: Scene, alert: dict[str, Any]) -> str:
    """How soon an alert came."""
    counted, number = _counted(scene, alert), _after_change(scene, alert)
    early = counted != "labels" and number * STEP_MS < LABEL_DELAY_MS
    return f"alert ({worded(alert['kind'])}): {number:,} {counted} later" + (
        ", before the first of their labels" if early else ""
    )


def summary(scene: Scene) -> dict[str, Any]:
    """The demo in numbers."""
    change = scene.change_at
    before = [values for learned, values in scene.track if 0.8 * change < learned < change]
    after = [values for learned, values in scene.track if learned > change]
    key = scene.story.metric
    worst = min((values[key] for values in after if key in values), default=None)
    return {
        scene.story.things: scene.payments,
        "scored": scene.scored,
        "labels_joined": scene.joined,
        "rejected": scene.rejected,
        f"changed_at_{scene.story.thing}": change,
        "alerts": [
            {
                "episode": alert["episode"],
                f"{_counted(scene, alert)}_after_change": _after_change(scene, alert),
                "sentence": alert["sentence"],
            }
            for alert in scene.alerts
        ],
        f"rolling_{key.lower()}": {
            "before": before[-1].get(key) if before else None,
            "worst": worst,
            "end": after[-1].get(key) if after else None,
        },
        "kpis": {name: {"known": round(total, 2), "unit": unit} for (name, unit), total in scene.kpis.items()},
        "seconds": round(time.monotonic() - scene.begun_s, 1),
    }


def _print_summary(scene: Scene, kind: str, console: Console) -> None:
    made = summary(scene)
    story = scene.story
    rolling = made[f"rolling_{story.metric.lower()}"]
    shown = {name: "-" if value is None else f"{value:.3f}" for name, value in rolling.items()}
    console.print()
    console.print(
        f"{made['scored']:,} {story.things} scored, {made['labels_joined']:,} labels learned in {made['seconds']} s "
        f"({PARTITIONS} partitions, one model, {kind} broker, {'exactly' if kind == 'kafka' else 'at least'} once)"
    )
    console.print(f"{story.changing} changed at {story.thing} {scene.change_at:,}; the model was not informed")
    for alert in scene.alerts:
        console.print(_came(scene, alert))
    if not made["alerts"]:
        console.print("no alert: the demo failed", style="bold red")
    console.print(
        f"rolling {story.metric.lower() if story.metric == 'Accuracy' else story.metric}: {shown['before']} before, "
        f"{shown['worst']} at worst, {shown['end']} at the end "
        "(the model kept learning)"
    )
    for (kpi, unit), total in scene.kpis.items():
        console.print(f"{kpi.replace('_', ' ')}: {money(total, unit)} in all, by the labels that came")
    called = sys.argv[0]
    name = called if called.endswith("bin/driftline") and not Path(called).is_absolute() else "driftline"
    console.print("\nnext:")
    case = "" if story is STORIES["fraud"] else " --case spam"
    console.print(f"  {name} demo{case} --write example     files to try the other commands with")
    console.print(f"  {name} init --input DATA.csv --label FIELD     a pipeline file for your own data")
    console.print("  README.md, Use it     your own broker and worker, its page, digests")
    if kind == "embedded":
        console.print(f"  {name} demo --kind kafka     with exactly once (needs Java)")
