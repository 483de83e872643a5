"""`driftline demo`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import json_option, kind_option
from driftline.core.task import SLATES

CASES = ("fraud", "spam", SLATES, "demand")


@click.command()
@click.option(
    "--case",
    type=click.Choice(CASES),
    default=CASES[0],
    show_default=True,
    help="fraud: card payments; spam: messages in new words; recommend: a news page whose readers' taste changes; "
    "demand: sales of stores and items, which shift.",
)
@kind_option("embedded: nothing to install, at least once. kafka: a real Kafka (needs Java), exactly once.")
@click.option("--payments", "count", type=click.IntRange(20_000), default=30_000, show_default=True, help="Case fraud.")
@click.option(
    "--rate", type=click.FloatRange(100), default=1_200.0, show_default=True, help="Case fraud: payments per second."
)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Only write the data and pipeline.yaml to this folder, to try the other commands.",
)
@json_option
@does("driftline.cli.demo:demo")
def demo() -> None:
    """Stream data whose pattern changes midway, and watch for the alert.

    Starts a broker and a worker, stops both at the end and leaves nothing behind. Exit code 1: no alert after the
    change, or an alert before it.
    """
