"""`driftline export`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import MOMENT, bootstrap_option, pipeline_option

KINDS = ("joined", "assumed", "failed", "expired")


def _check(from_ms: int | None, to_ms: int | None, **_: object) -> None:
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise click.UsageError("--to must lie behind --from")


@click.command()
@pipeline_option
@bootstrap_option
@click.option("--from", "from_ms", type=MOMENT, help="Events from this time on.")
@click.option("--to", "to_ms", type=MOMENT, help="Events before this time.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="Which outcomes; may be repeated [default: joined and assumed].",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Write it: .csv or .parquet."
)
@does("driftline.cli.export:export_command", check=_check)
def export() -> None:
    """Write outcomes as a table: features as they were when the event was served, what was served, the label and its
    delay. Joins no group and changes nothing."""
