"""`driftline tail`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, pipeline_option

KINDS = ("scores", "outcomes", "alerts", "rejected")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@pipeline_option
@bootstrap_option
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record, not with the next one.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many records.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Stop when nothing has come for so many seconds.",
)
@click.option("--pretty", is_flag=True, help="Alerts for people, in 80 columns, instead of JSON lines.")
@does("driftline.cli.tail:tail")
def tail() -> None:
    """Print records of KIND as JSON lines: scores, outcomes, alerts or rejected.

    Only committed records are shown where the pipeline's delivery is exactly_once. Exit code 1: --timeout
    came before --limit.
    """
