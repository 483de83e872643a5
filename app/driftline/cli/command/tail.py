"""`driftline tail`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, pipeline_option

KINDS = ("scores", "outcomes", "alerts", "rejected", "review")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@pipeline_option
@bootstrap_option
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record instead of the next one.")
@click.option("--limit", type=click.IntRange(1), help="Stop after this many records.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Stop after this many seconds without a record.",
)
@click.option("--pretty", is_flag=True, help="Print alerts as readable text, in 80 columns, instead of JSON lines.")
@does("driftline.cli.tail:tail")
def tail() -> None:
    """Print the records of an output topic as JSON lines as they arrive.

    If the pipeline's delivery is exactly_once, only committed records are shown. Exit code 1: --timeout was reached
    before --limit.
    """
