"""`driftline topics`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.lazy import does
from driftline.cli.option import DURATION, bootstrap_option, json_option, pipeline_option

UNLIMITED = -1  # as Kafka writes it


class RetentionType(click.ParamType):
    """A duration, or `unlimited`."""

    name = "retention"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "unlimited":
            return UNLIMITED
        return DURATION.convert(value, param, ctx)


@click.group()
def topics() -> None:
    """Create and check the topics of a pipeline."""


@topics.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Partitions of each topic [default: as the inputs have, else DRIFTLINE_PARTITIONS or 4].",
)
@click.option("--replication", type=click.IntRange(1, 100), help="Copies of each topic (DRIFTLINE_REPLICATION).")
@click.option(
    "--retention",
    "retention_ms",
    type=RetentionType(),
    metavar="DURATION|unlimited",
    help="How long inputs and outputs are kept, as in 30d. Records of past times need unlimited: "
    "Kafka counts from the record's own time.",
)
@json_option
@does("driftline.cli.topics:create")
def create() -> None:
    """Create the topics that are missing; leave the others as they are.

    Exit code 3 if a topic that was there already is not as the pipeline needs it.
    """


@topics.command()
@pipeline_option
@bootstrap_option
@json_option
@does("driftline.cli.topics:check")
def check() -> None:
    """Check that the topics are there and as the engine needs them (exit code 3 if not)."""
