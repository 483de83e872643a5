"""`driftline produce`: send a data file as events and delayed labels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from driftline.cli.command.produce import Sending
from driftline.cli.echo import echo, show
from driftline.cli.option import Rows
from driftline.cli.progress import rows_progress
from driftline.cli.setting import pipeline_of, settings_of
from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.duration import format_duration
from driftline.core.error import InputFileError, TopicError
from driftline.core.pipeline import Pipeline
from driftline.ingest.column import Fields
from driftline.ingest.feed import Fed, RowSender
from driftline.ingest.label_file import LabelFile
from driftline.ingest.table import Sample, Table
from driftline.kafka import topic, topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate.joined import Meeting, Met

SHOWN_EVERY_S = 0.2
REPEAT_S = 5.0
PART = 1  # exit code: rows were left out


def produce(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    rows: Rows,
    sending: Sending,
    as_json: bool,
) -> None:
    """What `driftline produce` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    if pipeline.label is not None and rows.label is None and sending.labels is None:
        raise click.UsageError(
            f"pipeline {pipeline.name} learns from labels: name the field with --label FIELD, or their file with "
            "--labels FILE"
        )
    labels = LabelFile(sending.labels, pipeline) if sending.labels is not None else None
    counted = (sending.start_ms, sending.step_ms)
    fields = Fields(rows.label, rows.event_id, rows.time_field, *counted, rows.decimal, rows.time_form)
    label_delay_ms = sending.label_delay_ms
    now_ms = time.time_ns() // 1_000_000
    table = Table(rows.path, pipeline, fields, now_ms=now_ms, lead_ms=label_delay_ms, limit=sending.limit)
    table.file.check_features()
    if not table.count:
        raise InputFileError(f"no records in {rows.path}")
    if pipeline.label is not None and label_delay_ms >= pipeline.label.wait_ms:
        _warn_of_the_wait(label_delay_ms, pipeline.label.wait_ms)
    feed = RowSender(pipeline, settings, label_delay_ms=label_delay_ms, rate=sending.rate or None)
    try:
        met = asyncio.run(_send(pipeline, settings, table, feed, labels))
    except KeyboardInterrupt:
        fed = feed.fed
        text = (
            f"stopped: {fed.events:,} events and {fed.labels:,} labels of {table.count:,} rows were sent and remain "
            "in Kafka"
        )
        echo(text, err=True)
        raise
    _report(table, labels, feed.fed, pipeline, met, as_json)


def _warn_of_the_wait(label_delay_ms: int, wait_ms: int) -> None:
    """A label that comes when the wait of its event is over, or just then, is lost for learning."""
    delay, wait = format_duration(label_delay_ms), format_duration(wait_ms)
    if label_delay_ms > wait_ms:
        text = f"labels arrive after label.wait ({wait}) and are not learned; set a longer wait"
    else:
        text = f"labels arrive just as label.wait ({wait}) ends; any later ones are lost"
    echo(f"warning: with --label-delay {delay} {text}", err=True)


async def _send(
    pipeline: Pipeline, settings: Settings, table: Table, feed: RowSender, labels: LabelFile | None
) -> Met | None:
    """Send all rows; what became of their labels, where a worker runs."""
    if await topic.embedded(settings):
        await topic.create(pipeline, settings)  # else each would appear on first use, whenever that is
    meeting = await _meeting(pipeline, settings)
    showing = asyncio.create_task(_show(feed.fed, table.count))
    try:
        samples = _kept(table.samples(), await topic.kept_ms(pipeline, settings))
        await feed.run(samples, labels.labels() if labels is not None else None)
    finally:
        showing.cancel()
        await asyncio.wait([showing])
    return await meeting.end() if meeting is not None else None


async def _meeting(pipeline: Pipeline, settings: Settings) -> Meeting | None:
    """Looks after the labels, if a worker was ever there to join them."""
    if pipeline.label is None:
        return None
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if not set(topic_rule.names(pipeline).values()) <= there.keys():
        return None
    meeting = Meeting(KafkaBroker(pipeline, settings), pipeline, layout_of(pipeline, there))
    return meeting if await meeting.begin() else None


def _kept(samples: Iterator[Sample], kept_ms: int | None) -> Iterator[Sample]:
    """The rows, unless the broker would throw them away as too old as soon as it looks."""
    for sample in samples:
        if kept_ms is not None and sample.time_ms < time.time_ns() // 1_000_000 - kept_ms:
            raise TopicError(
                f"the rows start at {_shown(sample.time_ms)}, but the topics keep records for only "
                f"{kept_ms / 86_400_000:.1f} days: Kafka goes by a record's time and would delete these "
                "within minutes. Set unlimited retention (`driftline topics create --retention unlimited`, or "
                "kafka-configs --alter with retention.ms=-1), or drop --time and --start to count times up to now"
            )
        yield sample
        break
    yield from samples


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


async def _show(fed: Fed, total: int) -> None:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    begun = time.monotonic()
    if not console.is_terminal:
        while True:
            await asyncio.sleep(REPEAT_S)
            if fed.rows < total:
                echo(f"{fed.rows:,} of {total:,} rows, {_rate(fed.rows, begun)} per second", err=True)
            else:
                echo(f"{fed.rows:,} of {total:,} rows, not all acknowledged by Kafka yet", err=True)
    with rows_progress(console) as progress:
        bar = progress.add_task("rows", total=total, rate="")
        while True:
            await asyncio.sleep(SHOWN_EVERY_S)
            progress.update(bar, completed=fed.rows, rate=_rate(fed.rows, begun))


def _rate(rows: int, begun: float) -> str:
    return f"{rows / max(time.monotonic() - begun, 1e-9):,.0f}"


def _met(met: Met, labels: int) -> str:
    """How many labels found their events, and what became of the others."""
    rest = {kind: count for kind, count in met.ends.items() if kind != "joined"}
    rest |= {"still waiting for their events": met.early} if met.early else {}
    text = f"{met.joined:,} of {labels:,} labels were joined to their events by the worker"
    if rest:
        text += "; others: " + ", ".join(f"{count:,} {kind}" for kind, count in rest.items())
    return text + (f"; {met.behind:,} records are still unread" if met.behind else "")


def _report(
    table: Table, labels: LabelFile | None, fed: Fed, pipeline: Pipeline, met: Met | None, as_json: bool
) -> None:
    """Say what was sent and what was not, and set the exit code."""
    files = [(table.path, table.bad), *([] if labels is None else [(labels.path, labels.bad)])]
    document = {
        **asdict(fed),
        "outcomes": met.ends if met is not None else None,
        "early": met.early if met is not None else None,
        "unread": met.behind if met is not None else None,
        "bad_rows": sum(bad.count for _, bad in files),
        "bad_lines": [line for _, bad in files for line in bad.lines],
        "events_topic": pipeline.topics.events,
        "labels_topic": pipeline.topics.labels,
    }
    rate = fed.rows / max(fed.seconds, 1e-9)
    lines = [
        f"sent {fed.events:,} events to {pipeline.topics.events}"
        + (f" and {fed.labels:,} labels to {pipeline.topics.labels}" if pipeline.label else "")
        + f" in {fed.seconds:.1f} s ({rate:,.0f} rows per second)",
        *([_met(met, fed.labels)] if met is not None else []),
    ]
    show(document, lambda: lines, as_json=as_json)
    if not as_json:
        for path, bad in files:
            for line in bad.lines:
                echo(f"skipped: {path}, {line}", err=True)
            if bad.count > len(bad.lines):
                echo(f"skipped: {bad.count - len(bad.lines):,} more rows of {path}", err=True)
        if fed.disordered:
            echo(
                f"warning: {fed.disordered:,} rows have an earlier time than the row before; sort the file by time "
                "for the order of a live stream",
                err=True,
            )
        for row in fed.ahead_rows:
            echo(f"warning: time far ahead of neighbouring rows, sent with their time instead: {row}", err=True)
        if fed.ahead > len(fed.ahead_rows):
            echo(f"warning: {fed.ahead - len(fed.ahead_rows):,} more rows are far ahead", err=True)
        if fed.unlabelled:
            echo(f"{fed.unlabelled:,} rows have no label", err=True)
    if not fed.rows:
        raise InputFileError(f"no records in {table.path}{table.bad.first}")
    if pipeline.label is not None and not fed.labels:
        if labels is not None:
            raise InputFileError(f"no labels in {labels.path}{labels.bad.first}")
        raise InputFileError(f"no row of {table.path} has a label; check --label")
    if any(bad.count for _, bad in files):
        raise click.exceptions.Exit(PART)
