"""`driftline produce`: its options and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driftline.cli.lazy import does
from driftline.cli.option import DURATION, MOMENT, bootstrap_option, form_options, json_option, pipeline_option


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
            self.fail(f"{value!r} is not a rate; give rows per second, or max", param, ctx)
        return rate


def _check(time_field: str | None, start_ms: int | None, step_ms: int | None, **_: object) -> None:
    if time_field is not None and (start_ms is not None or step_ms is not None):
        raise click.UsageError("--time takes times from the rows, --start and --step count them; give one of them")


@click.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--input",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="CSV with a header, or JSON lines; .gz may follow.",
)
@click.option("--label", metavar="FIELD", help="The field that holds the label; required if the pipeline has one.")
@click.option(
    "--id",
    "event_id",
    metavar="FIELD",
    help="The field that holds the event's id [default: the pipeline's, else the row's number].",
)
@click.option(
    "--time", "time_field", metavar="FIELD", help="The field that holds the event's time [default: the pipeline's]."
)
@form_options
@click.option("--start", "start_ms", type=MOMENT, help="Time of the first row, if no field holds times.")
@click.option(
    "--step",
    "step_ms",
    type=DURATION,
    help="Time from row to row [default: 1s, or less so that a long file spans one day at most].",
)
@click.option(
    "--label-delay",
    "label_delay_ms",
    type=DURATION,
    default=0,
    metavar="DURATION",
    help="How long after its event a label is known, in event time [default: 0].",
)
@click.option("--limit", type=click.IntRange(1), help="Send at most so many rows.")
@click.option("--rate", type=RateType(), default="max", metavar="N|max", help="Rows a second [default: max].")
@json_option
@does("driftline.cli.produce:produce", check=_check)
def produce() -> None:
    """Send each row, without its label, as an event, and its label as feedback, --label-delay later.

    Record times are event times. Rows without times of their own end now; records of past times need topics
    that keep them (`driftline topics create --retention unlimited`). Exit code 1: some rows were unusable
    and left out. 3: Kafka cannot be reached, refused a record, or acknowledged nothing for 30 s.
    """
