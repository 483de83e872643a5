"""`driftline init`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import form_options
from driftline.core.task import TASK_NAMES


@click.command(short_help="Write a pipeline file for a data file.")
@click.option(
    "--input",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="CSV with a header, or JSON lines; .gz may follow.",
)
@click.option("--label", metavar="FIELD", help="The field to predict; without it, anomalies are scored.")
@click.option(
    "--id", "event_id", metavar="FIELD", help="The field that tells events apart [default: inferred from the data]."
)
@click.option(
    "--time",
    "time_field",
    metavar="FIELD",
    help="The field that holds the event's time [default: inferred from the data].",
)
@form_options
@click.option("--task", type=click.Choice(TASK_NAMES), help="What to predict [default: inferred from the data].")
@click.option("--name", metavar="NAME", help="The pipeline's name [default: the file's].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write [default: NAME.yaml; - for standard output].",
)
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@does("driftline.cli.init:init")
def init() -> None:
    """Write a commented pipeline file for a data file.

    Fields that would be learned by heart or give the label away are left out, with the reason beside them. Look
    through the file, then run `driftline check`.
    """
