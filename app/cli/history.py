"""A history of files as several commands read it, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.backtest.history import LogSource, TableSource
from app.backtest.run import HistorySource
from app.core.pipeline import Pipeline
from app.engine.table import Fields

SAID_EVERY_S = 5.0


def source_of(
    pipeline: Pipeline,
    path: Path | None,
    fields: Fields,
    label_delay_ms: int,
    events: Path | None,
    labels: Path | None,
    label_time: str | None,
    limit: int | None,
) -> tuple[HistorySource, list[str]] | None:
    """The history that the options name, and its files; None where they fit no one history.

    Args:
        path: of `--input`.
        fields: of it; its `time` is also the field of the events' times of `--events`.

    Raises:
        UsageError: an option is missing, or two exclude each other.
    """
    if path is not None and events is None and labels is None:
        if fields.time is not None and (fields.start_ms is not None or fields.step_ms is not None):
            raise click.UsageError("--time takes times from the rows, --start and --step count them; give one of them")
        if pipeline.label is not None and fields.label is None:
            raise click.UsageError(f"pipeline {pipeline.name} learns from labels: name the field with --label FIELD")
        return TableSource(path, fields, label_delay_ms, limit), [str(path)]
    if path is None and events is not None:
        names = [str(name) for name in (events, labels) if name is not None]
        return LogSource(events, labels, fields.time, label_time, limit), names
    return None


@contextmanager
def bar(quiet: bool) -> Iterator[Any]:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    begun_s = said_s = time.monotonic()
    if quiet or not console.is_terminal:

        def say(done: int, total: int) -> None:
            nonlocal said_s
            now_s = time.monotonic()
            if not quiet and now_s - said_s >= SAID_EVERY_S:
                said_s = now_s
                rate = done / max(now_s - begun_s, 1e-9)
                click.echo(f"{done:,} of {total:,} rows, {rate:,.0f} a second", err=True)

        yield say
        return
    columns = (
        TextColumn("rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        row = progress.add_task("rows", total=None, rate="")

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begun_s, 1e-9)
            progress.update(row, completed=done, total=total, rate=f"{rate:,.0f}")

        yield show
