"""`driftline verify`: replay the journal and check that it gives the same outputs."""

from __future__ import annotations

import asyncio
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from driftline.cli.echo import show
from driftline.cli.setting import pipeline_of, settings_of
from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.error import TopicError
from driftline.core.pipeline import Pipeline
from driftline.core.wording import escaped
from driftline.kafka import topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate.verify import OnProgress, ShardAudit, Span, audit_shards

DIFFERENT = 1  # exit code


def verify(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    from_ms: int | None,
    to_ms: int | None,
    outputs: bool,
    as_json: bool,
) -> None:
    """What `driftline verify` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    span = Span(from_ms, to_ms, outputs, settings.ring)
    begun = datetime.now(UTC)
    audits = asyncio.run(_audit(pipeline, settings, span))
    seconds = (datetime.now(UTC) - begun).total_seconds()
    show(report(audits, seconds), lambda: lines(audits, seconds, outputs=outputs), as_json=as_json)
    if any(audit.difference is not None for audit in audits):
        raise click.exceptions.Exit(DIFFERENT)


async def _audit(pipeline: Pipeline, settings: Settings, span: Span) -> Sequence[ShardAudit]:
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    missing = sorted(set(topic_rule.names(pipeline).values()) - set(there))
    if missing:
        raise TopicError(f"missing topics: {', '.join(missing)}; create them with `driftline topics create -p FILE`")
    layout = layout_of(pipeline, there)
    with _progress(layout.shards) as watch:
        return await audit_shards(KafkaBroker(pipeline, settings), pipeline, layout, span, watch)


@contextmanager
def _progress(shards: int) -> Iterator[OnProgress]:
    """A bar on stderr, over the journals of all shards; none where that is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("shard 0", total=shards)

        def watch(shard: int, done: int, total: int) -> None:
            bar.update(task, description=f"shard {shard}", completed=shard + done / max(total, 1))

        yield watch


def report(audits: Sequence[ShardAudit], seconds: float) -> dict[str, Any]:
    """All of it, for a program."""
    difference = next((audit.difference for audit in audits if audit.difference is not None), None)
    return {
        "verdict": "PASS" if difference is None else "DIFFERENT",
        "difference": None if difference is None else msgspec.to_builtins(difference) | {"text": str(difference)},
        "slices": sum(audit.slices for audit in audits),
        "records": sum(audit.records for audit in audits),
        "outputs": _sums(audits, "outputs"),
        "repeats": _sums(audits, "repeats"),
        "removed": _sums(audits, "removed"),
        "unverifiable": sum(audit.unverifiable + audit.passed_over for audit in audits),
        "seconds": round(seconds, 3),
        "shards": [msgspec.to_builtins(audit) for audit in audits],
    }


def lines(audits: Sequence[ShardAudit], seconds: float, *, outputs: bool) -> Iterator[str]:
    """The same for a person, in lines that fit a terminal."""
    made = report(audits, seconds)
    for audit in audits:
        if audit.start != "the beginning":
            yield f"shard {audit.shard} is verified from"
            yield f"  {audit.start}"
    found = next((audit.difference for audit in audits if audit.difference is not None), None)
    shards = "1 shard" if len(audits) == 1 else f"{len(audits)} shards"
    counted = f"{made['slices']:,} slices, {made['records']:,} records, {shards}, {seconds:.1f} s"
    if found is None:
        yield f"PASS  {counted}"
    else:
        where = f"shard {found.shard}" + ("" if found.slice is None else f", slice {found.slice}")
        yield f"DIFFERENT  {where}, {found.place}"
        yield f"  {found.field}"
        yield f"    expected  {'nothing' if found.expected is None else found.expected}"
        yield f"    found     {'nothing' if found.found is None else found.found}"
        if found.note:
            yield f"  {found.note}"
        yield f"after {counted}; anything later was not compared"
    if outputs:
        for name, count in made["outputs"].items():
            more = [f"{made[what][name]:,} {what}" for what in ("repeats", "removed") if made[what][name]]
            yield f"  {count:>12,} {name}" + (f"  ({', '.join(more)})" if more else "")
    yield from _unverifiable(audits)


def _unverifiable(audits: Sequence[ShardAudit]) -> Iterator[str]:
    for audit in audits:
        if audit.epochs_unverifiable:
            epochs = ", ".join(map(str, audit.epochs_unverifiable))
            yield (
                f"shard {audit.shard}: {audit.unverifiable + audit.passed_over:,} slices of epoch {epochs} are not "
                "verifiable here:"
            )
            for made_by in audit.made_by:
                yield from _wrapped(f"they differ, but they or the state they continue were made by {escaped(made_by)}")
            if audit.passed_over:
                yield f"  {audit.passed_over:,} of them: inputs deleted, or a pipeline that cannot be built"
        if audit.off_chain:
            yield f"shard {audit.shard}: {audit.off_chain:,} journal entries outside the chain were ignored"


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 78, initial_indent="  ", subsequent_indent="  ")


def _sums(audits: Sequence[ShardAudit], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for audit in audits:
        total.update(getattr(audit, name))
    return dict(total)
