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
    """Derive the score that was served for one event again, from snapshot and journal: the model's version, the
    features, what each weighed, the label and when it came, the alerts that were open.

    Exit code 1: what was derived is not what was served.
    """
