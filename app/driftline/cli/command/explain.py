"""`driftline explain`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option


@click.command()
@pipeline_option
@bootstrap_option
@click.option("--event", "event_id", required=True, metavar="ID", help="The event's id.")
@json_option
@does("driftline.cli.explain:explain_command")
def explain() -> None:
    """Recompute an event's score from snapshot and journal, and show the model's version, the features and their
    weights, the label and when it arrived, and the alerts that were open.

    Exit code 1: the recomputed score differs from the served one.
    """
