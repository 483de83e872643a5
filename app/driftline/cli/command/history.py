"""The options that name files of a history, for several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from driftline.cli.option import DURATION, MOMENT, form_options, label_delay_option, together

if TYPE_CHECKING:
    from driftline.core.number import Decimal
    from driftline.core.timestamp import TimeForm

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option("--input", "path", type=_FILE, metavar="FILE", help="Rows: CSV or JSON lines, may be gzipped (.gz)."),
    click.option("--label", metavar="FIELD", help="With --input: the label field."),
    click.option("--id", "event_id", metavar="FIELD", help="With --input: the event id field."),
    click.option("--time", metavar="FIELD", help="The event time field."),
    click.option("--start", "start_ms", type=MOMENT, help="With --input: time of the first row, if rows have no time."),
    click.option("--step", "step_ms", type=DURATION, help="With --input: time between rows [default: 1s]."),
    label_delay_option("With --input: how long after its event a label arrives."),
    click.option("--events", type=_FILE, metavar="FILE", help="The events topic as JSON lines, may be gzipped (.gz)."),
    click.option("--labels", type=_FILE, metavar="FILE", help="The labels topic as JSON lines."),
    click.option("--label-time", metavar="FIELD", help="With --labels: the label time field."),
    click.option("--limit", type=click.IntRange(1), help="Read at most this many rows or events."),
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
        _refuse(_ROWS | _RECORDS | _EITHER, "needs files (--input, or --events and --labels)")

    def check(self) -> None:
        """Refuse what does not fit together, whatever the pipeline.

        Raises:
            UsageError: an option is missing, has no meaning here, or two exclude each other.
        """
        if self.path is not None and self.events is None and self.labels is None:
            _refuse(_RECORDS, "needs --labels, not --input")
            if self.time is not None and (self.start_ms is not None or self.step_ms is not None):
                raise click.UsageError(
                    "--time excludes --start and --step: times are either read from the rows or counted"
                )
        elif self.path is None and self.events is not None:
            _refuse(_ROWS, "needs --input, not --events")
        else:
            raise click.UsageError("give either --input FILE, or --events FILE and --labels FILE")


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options that name files, and hands them to it together, as `history: Files`."""
    gathered = together("history", Files)(command)
    for option in (form_options, *reversed(_OPTIONS)):
        option(gathered)
    return gathered


def _refuse(options: Mapping[str, str], why: str) -> None:
    """Options that would change nothing are a misunderstanding."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} {why}")
