"""`driftline status`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option

PATIENCE_S = 1.2  # in an outage a person wants to know within 3 s, and Python takes some of them on a busy machine


@click.command()
@pipeline_option
@bootstrap_option
@json_option
@click.option(
    "--timeout",
    "patience_s",
    type=click.FloatRange(0.1),
    default=PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for Kafka's first answer; all further reads may take five times as long.",
)
@does("driftline.cli.status:status")
def status() -> None:
    """Show every shard: positions, lag, pending events, labels learned, metrics, open alerts.

    Reads the journal, so no worker needs to run. Under load, numbers are up to a second old. Whatever cannot be read in
    time is listed as unknown.
    """
