"""`driftline train`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.command.history import Files, history_options
from driftline.cli.lazy import does
from driftline.cli.option import json_option, pipeline_option


def _check(history: Files, **_: object) -> None:
    history.check()


@click.command()
@pipeline_option
@history_options
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="MODEL", help="Output file.")
@json_option
@does("driftline.cli.train:train", check=_check)
def train() -> None:
    """Train a model on historical data, as a worker would have, and write it to a file.

    `driftline control load MODEL` loads it into every shard, before the first event or at any later time. The data is a
    file of rows (--input) or two files of records (--events, --labels).

    Exit codes: 1 rows were skipped or rejected, or the model has diverged (its file says so, and `control load` warns);
    130 stopped by Ctrl-C, nothing was written.
    """
