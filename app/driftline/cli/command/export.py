"""`driftline export`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import MOMENT, bootstrap_option, json_option, pipeline_option

KINDS = ("joined", "assumed", "failed", "expired")


def _check(from_ms: int | None, to_ms: int | None, **_: object) -> None:
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise click.UsageError("--to must be later than --from")


@click.command()
@pipeline_option
@bootstrap_option
@click.option("--from", "from_ms", type=MOMENT, help="Events at or after this time.")
@click.option("--to", "to_ms", type=MOMENT, help="Events before this time.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="Kind of outcome; repeatable [default: joined and assumed].",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Output file, .csv or .parquet."
)
@json_option
@does("driftline.cli.export:export_command", check=_check)
def export() -> None:
    """Write outcomes as a table: the features when the event was scored, the score, the label and its delay. Reads
    only; joins no consumer group."""
