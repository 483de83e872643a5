"""`driftline broker`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import json_option, pipeline_option


@click.command()
@click.option(
    "--kind",
    type=click.Choice(["embedded", "kafka"]),
    default="embedded",
    show_default=True,
    help="embedded: up at once, in memory, no Java. kafka: a real Apache Kafka (Java 17; Maven once).",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="kafka: the port on 127.0.0.1 [default: a free one].")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_000),
    default=4,
    show_default=True,
    help="kafka: of topics created without a number. embedded: of the topics of -p.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="kafka: keep topics in this folder [default: a temporary one, removed at the end].",
)
@pipeline_option
@json_option
@does("driftline.cli.broker:broker")
def broker() -> None:
    """Run a broker until SIGINT or SIGTERM; the first line printed is its address.

    It listens on 127.0.0.1 only and stops with this command. Its topics are lost then, unless --data keeps them.
    """
