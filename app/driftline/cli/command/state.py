"""`driftline state`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option


@click.group()
def state() -> None:
    """Save the state of all shards to a file and restore it, for backups, another cluster or other versions."""


@state.command()
@pipeline_option
@bootstrap_option
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="STATE", help="Output file.")
@json_option
@does("driftline.cli.state:save")
def save() -> None:
    """Write the state of every shard to STATE: model, metrics, drift detectors, pending events.

    Reads only, and may run beside workers: it saves the state at the journal's end when it started. Where these
    versions cannot replay the journal, the newest snapshot is copied unchanged, for the versions that wrote it.
    """


@state.command()
@pipeline_option
@bootstrap_option
@click.argument("state", type=click.Path(path_type=Path), metavar="STATE")
@click.option("--replace", is_flag=True, help="Replace any state that is already in the journals.")
@click.option(
    "--start",
    default="earliest",
    show_default=True,
    metavar="earliest|latest|TIME",
    help="Where to start reading inputs if the journal is empty.",
)
@json_option
@does("driftline.cli.state:restore")
def restore() -> None:
    """Restore STATE, a file written by `driftline state save`. Stop the workers first.

    The whole file is checked first, and nothing is written unless every shard can continue from it. With another number
    of partitions, the model, its metrics and drift detectors are kept, but not the pending events. If the journal has
    entries, inputs continue from its position, otherwise from --start; events whose ids the state remembers are not
    learned twice.
    """
