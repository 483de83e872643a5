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
    """Create or check a pipeline's topics."""


@topics.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Partitions of each topic [default: as the input topics, else DRIFTLINE_PARTITIONS or 4].",
)
@click.option("--replication", type=click.IntRange(1, 100), help="Replicas of each topic (DRIFTLINE_REPLICATION).")
@click.option(
    "--retention",
    "retention_ms",
    type=RetentionType(),
    metavar="DURATION|unlimited",
    help="Retention of inputs and outputs, such as 30d. Records with past times need unlimited: "
    "Kafka counts from the record's time.",
)
@json_option
@does("driftline.cli.topics:create")
def create() -> None:
    """Create missing topics; leave existing ones unchanged.

    Exit code 3: an existing topic does not suit the pipeline.
    """


@topics.command()
@pipeline_option
@bootstrap_option
@json_option
@does("driftline.cli.topics:check")
def check() -> None:
    """Check that the topics exist with the right settings (exit code 3 if not)."""
