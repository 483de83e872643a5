"""`driftline init`: its options and its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import json_option, label_delay_option, row_options, together
from driftline.core.task import TASK_NAMES, TaskName


@dataclass(frozen=True)
class Wanted:
    """Which pipeline file is asked for, and how its model is chosen."""

    task: TaskName | None
    name: str | None
    output: Path | None
    label_delay_ms: int
    tried: bool
    force: bool
    labels: Path | None = None


@click.command(short_help="Write a pipeline file for a data file.")
@row_options(
    label="The field to predict; without it, events get anomaly scores.",
    event_id="The field with a unique id [default: inferred from the data].",
    time_field="The event time field [default: inferred from the data].",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Labels in a file of their own, with the event's id; written beside the output as NAME.joined.csv.",
)
@click.option("--task", type=click.Choice(TASK_NAMES), help="What to predict [default: inferred from the data].")
@click.option("--name", metavar="NAME", help="The pipeline's name [default: from the file name].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Output file, - for standard output [default: NAME.yaml].",
)
@label_delay_option("How long after its event a label arrives, for the trial of models [default: at once].")
@click.option("--trial/--no-trial", "tried", default=True, help="Try models and baselines on the first rows.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@json_option
@together("wanted", Wanted)
@does("driftline.cli.init:init")
def init() -> None:
    """Write a commented pipeline file for a data file.

    A handful of models and baselines are tried on the first rows, and the best one is written.

    Fields that a model would memorize, such as ids, or that reveal the label are left out, with the reason in a
    comment. Review the file, then run `driftline check`.
    """
