"""`driftline verify`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import MOMENT, bootstrap_option, json_option, pipeline_option


@click.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--from",
    "from_ms",
    type=MOMENT,
    metavar="TIME",
    help="Begin at the last snapshot before this wall time, not at the beginning.",
)
@click.option("--to", "to_ms", type=MOMENT, metavar="TIME", help="End with what was committed by this wall time.")
@click.option("--outputs", is_flag=True, help="Compare every score, outcome, alert and rejected record, too.")
@json_option
@does("driftline.cli.verify:verify")
def verify() -> None:
    """Fold the journal again and compare: PASS, or the first difference.

    Reads Kafka only, and may run beside workers: it ends where the journal ended when it began. Times are ISO
    8601 or epoch seconds or milliseconds. Exit code 1: a difference was found.
    """
