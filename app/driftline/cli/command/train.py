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
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, metavar="MODEL", help="Where the model file goes."
)
@json_option
@does("driftline.cli.train:train", check=_check)
def train() -> None:
    """Fold a history as a worker would have, and keep the model in a file.

    `driftline control load MODEL` puts it to work in every shard, before the first event or in the middle of them.
    The history is a file of rows (--input) or two files of records (--events, --labels).

    Exit code 1: rows were left out or rejected; 130: stopped by Ctrl-C, nothing was written.
    """
