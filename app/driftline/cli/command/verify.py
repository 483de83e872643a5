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
    help="Start from the last snapshot before this wall-clock time instead of the beginning.",
)
@click.option("--to", "to_ms", type=MOMENT, metavar="TIME", help="Stop at what was committed by this wall-clock time.")
@click.option("--outputs", is_flag=True, help="Also compare every score, outcome, alert and rejected record.")
@json_option
@does("driftline.cli.verify:verify")
def verify() -> None:
    """Replay the journal and compare its digests: PASS, or the first difference.

    Reads only, and may run beside workers: it stops at the journal's end when it started. Times are ISO 8601, or epoch
    seconds or milliseconds. Exit code 1: a difference was found.
    """
