"""`driftline produce`: its options and its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from driftline.cli.lazy import does
from driftline.cli.option import (
    DURATION,
    MOMENT,
    Rows,
    bootstrap_option,
    json_option,
    label_delay_option,
    pipeline_option,
    row_options,
    together,
)


class RateType(click.ParamType):
    """Rows a second, or `max`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "max":
            return 0.0
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0.001 <= rate <= 1e9:
            self.fail(f"{value!r} is not a rate; give rows per second or max", param, ctx)
        return rate


@dataclass(frozen=True)
class Sending:
    """Which rows are sent, as of when, and how fast."""

    start_ms: int | None
    step_ms: int | None
    label_delay_ms: int
    limit: int | None
    rate: float
    labels: Path | None


def _check(rows: Rows, sending: Sending, **_: object) -> None:
    if rows.time_field is not None and (sending.start_ms is not None or sending.step_ms is not None):
        raise click.UsageError("--time excludes --start and --step: times are either read from the rows or counted")
    if sending.labels is not None and (rows.label is not None or sending.limit is not None):
        raise click.UsageError("--labels excludes --label and --limit: labels are in a file of their own")


@click.command()
@pipeline_option
@bootstrap_option
@row_options(
    label="The label field; required if the pipeline has labels.",
    event_id="The event id field [default: the pipeline's, else the row number].",
    time_field="The event time field [default: the pipeline's].",
)
@click.option("--start", "start_ms", type=MOMENT, help="Time of the first row, if rows have no time.")
@click.option(
    "--step",
    "step_ms",
    type=DURATION,
    help="Time between rows [default: 1s, or less so that the file spans at most a day].",
)
@label_delay_option("How long after its event a label is sent, in event time [default: 0].")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Labels in a file of their own, as JSON lines with id and time; instead of --label.",
)
@click.option("--limit", type=click.IntRange(1), help="Send at most this many rows.")
@click.option("--rate", type=RateType(), default="max", metavar="N|max", help="Rows per second [default: max].")
@json_option
@together("sending", Sending)
@does("driftline.cli.produce:produce", check=_check)
def produce() -> None:
    """Send each row as an event without its label, and the label later (--label-delay).

    Records are sent with the event's time. If rows have none, times are counted so that the last is now. Past times
    need topics that keep old records (`driftline topics create --retention unlimited`).

    Exit codes: 1 some rows were unusable and skipped; 3 Kafka is unavailable, refused a record, or acknowledged
    nothing for 30 s.
    """
