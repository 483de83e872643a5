"""`driftline state`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option


@click.group()
def state() -> None:
    """Save what every shard has learned to a file, and restore it: a backup, another cluster, other versions."""


@state.command()
@pipeline_option
@bootstrap_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="STATE", help="The file.")
@json_option
@does("driftline.cli.state:save")
def save() -> None:
    """Write the state of every shard to STATE: model, metrics, drift detectors, and the events that wait.

    Reads Kafka only, and may run beside workers: it saves up to where the journal ended when it looked. Where these
    versions cannot follow the journal, the newest snapshot is copied as it is, for the versions that made it.
    """


@state.command()
@pipeline_option
@bootstrap_option
@click.argument("state", type=click.Path(path_type=Path), metavar="STATE")
@click.option("--replace", is_flag=True, help="Also where journals hold a state: it gives way to the saved one.")
@click.option(
    "--start",
    default="earliest",
    show_default=True,
    metavar="earliest|latest|TIME",
    help="Where the inputs of an empty journal are read from.",
)
@json_option
@does("driftline.cli.state:restore")
def restore() -> None:
    """Put the states of STATE, a file of `driftline state save`, to work; stop the workers first.

    The file is checked whole before any of it is used, and nothing is written unless every shard can go on from it.
    With another number of partitions the model goes on with its metrics and drift detectors, without waiting events.
    Where a journal has been written, inputs go on where it stands; otherwise at --start: ids that the state remembers
    are not learned again.
    """
