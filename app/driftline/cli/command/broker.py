"""`driftline broker`: its options and its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import json_option, kind_option, pipeline_option, together


@dataclass(frozen=True)
class Wanted:
    """Which broker is started, and the pipeline whose topics it holds."""

    kind: str
    port: int | None
    partitions: int
    data: Path | None
    pipeline_file: Path | None
    overrides: tuple[str, ...]


@click.command()
@kind_option("embedded: starts at once, in memory, no Java. kafka: a real Apache Kafka (Java 17, and Maven once).")
@click.option("--port", type=click.IntRange(1, 65_535), help="kafka: port on 127.0.0.1 [default: any free port].")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1_000),
    default=4,
    show_default=True,
    help="kafka: for topics created without a number. embedded: for the topics of -p.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="kafka: store topics in this folder [default: temporary, removed at exit].",
)
@pipeline_option
@json_option
@together("wanted", Wanted)
@does("driftline.cli.broker:broker")
def broker() -> None:
    """Run a local broker until SIGINT or SIGTERM. The first line printed is its address.

    It listens on 127.0.0.1 only. Its topics are lost when it stops, unless --data is given.
    """
