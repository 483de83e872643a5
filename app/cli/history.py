"""A history of files as several commands read it, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.backtest.history import LogSource, TableSource
from app.backtest.run import HistorySource
from app.cli.option import DURATION, MOMENT, form_options
from app.core.error import InputFileError
from app.core.moment import TimeForm
from app.core.number import Decimal
from app.core.pipeline import Pipeline
from app.core.record import Malformed
from app.engine.table import Fields

SAID_EVERY_S = 5.0

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--input", "path", type=_FILE, metavar="FILE", help="Rows: CSV or JSON lines; .gz may follow."),
    click.option("--label", metavar="FIELD", help="With --input: the field that holds the label."),
    click.option("--id", "event_id", metavar="FIELD", help="With --input: the field that holds the event's id."),
    click.option("--time", metavar="FIELD", help="The field that holds the event's time."),
    click.option(
        "--start", "start_ms", type=MOMENT, help="With --input: time of the first row, if no field holds times."
    ),
    click.option("--step", "step_ms", type=DURATION, help="With --input: time from row to row [default: 1s]."),
    click.option(
        "--label-delay",
        "label_delay_ms",
        type=DURATION,
        default=0,
        metavar="DURATION",
        help="With --input: how much later a label is known.",
    ),
    click.option("--events", type=_FILE, metavar="FILE", help="The events topic as JSON lines; .gz may follow."),
    click.option("--labels", type=_FILE, metavar="FILE", help="The labels topic as JSON lines."),
    click.option("--label-time", metavar="FIELD", help="With --labels: the field that holds the label's time."),
    click.option("--limit", type=click.IntRange(1), help="Read at most so many rows or events."),
)
_ROWS = {
    "label": "--label",
    "event_id": "--id",
    "start_ms": "--start",
    "step_ms": "--step",
    "label_delay_ms": "--label-delay",
    "decimal": "--decimal",
    "time_form": "--time-format",
}
_RECORDS = {"label_time": "--label-time"}
_EITHER = {"time": "--time", "limit": "--limit"}


@dataclass(frozen=True)
class Files:
    """The files that the options name, and how to read them; see `history_options`."""

    path: Path | None
    label: str | None
    event_id: str | None
    time: str | None
    start_ms: int | None
    step_ms: int | None
    label_delay_ms: int
    events: Path | None
    labels: Path | None
    label_time: str | None
    limit: int | None
    decimal: Decimal | None
    time_form: TimeForm | None

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return any(file is not None for file in (self.path, self.events, self.labels))

    def check_none(self) -> None:
        """Refuse options that are about files, where there are none.

        Raises:
            UsageError: one is given.
        """
        _refuse(_ROWS | _RECORDS | _EITHER, "is for files (--input, or --events and --labels)")

    def source(self, pipeline: Pipeline) -> tuple[HistorySource, list[str]]:
        """The history that they are, and their names.

        Raises:
            UsageError: an option is missing, has no meaning here, or two exclude each other.
        """
        if self.path is not None and self.events is None and self.labels is None:
            _refuse(_RECORDS, "goes with --labels, not with --input")
            if self.time is not None and (self.start_ms is not None or self.step_ms is not None):
                raise click.UsageError(
                    "--time takes times from the rows, --start and --step count them; give one of them"
                )
            if pipeline.label is not None and self.label is None:
                raise click.UsageError(
                    f"pipeline {pipeline.name} learns from labels: name the field with --label FIELD"
                )
            if pipeline.label is None and self.label is not None:
                raise click.UsageError(
                    f"pipeline {pipeline.name} has no section `label`, so nothing is measured against --label "
                    f"{self.label}: give the pipeline one, or leave out --label"
                )
            fields = Fields(
                self.label, self.event_id, self.time, self.start_ms, self.step_ms, self.decimal, self.time_form
            )
            rows = TableSource(self.path, fields, self.label_delay_ms, self.limit)
            return rows, rows.names
        if self.path is None and self.events is not None:
            _refuse(_ROWS, "goes with --input, not with --events")
            records = LogSource(self.events, self.labels, self.time, self.label_time, self.limit)
            return records, records.names
        raise click.UsageError("give one history: --input FILE, or --events FILE and --labels FILE")


def look_through(history: Files, pipeline: Pipeline) -> dict[str, Any]:
    """Read the files as a backtest of this pipeline would, without a fold.

    Returns:
        rows, bad, bad_lines, unlabelled, and rejected (records of two files that the pipeline rejects).

    Raises:
        InputFileError: they cannot be read, no label means anything to the pipeline, or no row can be used.
    """
    source, names = history.source(pipeline)
    opened = source.open(pipeline)
    records = rejected = 0
    for batch in opened.batches():
        records += len(batch)
        rejected += sum(isinstance(record, Malformed) for record in batch)
    if not records:
        raise InputFileError(f"there are no records in {' and '.join(names)}{opened.bad.first}")
    return {
        "rows": opened.done,
        "bad": opened.bad.count,
        "bad_lines": opened.bad.lines,
        "unlabelled": opened.unlabelled,
        "rejected": rejected,
    }


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options that name files, and hands them to it together, as `history: Files`."""

    @wraps(command)
    def gathered(**given: Any) -> Any:
        files = Files(**{name: given.pop(name) for name in Files.__dataclass_fields__})
        return command(history=files, **given)

    for option in (form_options, *reversed(_OPTIONS)):
        option(gathered)
    return gathered


def _refuse(options: Mapping[str, str], why: str) -> None:
    """Options that would change nothing are a misunderstanding."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} {why}")


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
    with rows_progress(console) as progress:
        row = progress.add_task("rows", total=None, rate="")

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begun_s, 1e-9)
            progress.update(row, completed=done, total=total, rate=f"{rate:,.0f}")

        yield show


def rows_progress(console: Console) -> Progress:
    """A bar for rows, whose tasks have a field `rate`."""
    return Progress(
        TextColumn("rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
