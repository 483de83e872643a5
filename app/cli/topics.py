"""`driftline topics`: make the topics that a pipeline needs, or see whether they are as they must be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from app.broker import topic
from app.cli.option import (
    DURATION,
    bootstrap_option,
    json_option,
    outline_of,
    pipeline_option,
    settings_of,
)
from app.core.error import TopicError


class RetentionType(click.ParamType):
    """A duration, or `unlimited`."""

    name = "retention"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "unlimited":
            return topic.UNLIMITED
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
def create(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    retention_ms: int | None,
    as_json: bool,
) -> None:
    """Create the topics that are missing; leave the others as they are.

    Exit code 3 if a topic that was there already is not as the pipeline needs it.
    """
    settings = settings_of(bootstrap=bootstrap, replication=replication)
    pipeline = outline_of(settings, pipeline_file, overrides)
    made = asyncio.run(topic.create(pipeline, settings, partitions=partitions, retention_ms=retention_ms))
    problems = asyncio.run(topic.check(pipeline, settings))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "topics": [
                        {
                            "topic": one.plan.name,
                            "kind": one.plan.kind,
                            "created": one.made,
                            "partitions": one.partitions,
                        }
                        for one in made
                    ],
                    "problems": _problems(problems),
                }
            )
        )
    else:
        for one in made:
            click.echo(
                f"{'created' if one.made else 'was there':9}  {one.plan.name}  "
                f"({one.plan.kind}, {one.partitions} partitions)"
            )
    _finish(problems, as_json)


@topics.command()
@pipeline_option
@bootstrap_option
@json_option
def check(pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None, as_json: bool) -> None:
    """Check that the topics are there and as the engine needs them (exit code 3 if not)."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    problems = asyncio.run(topic.check(pipeline, settings))
    if as_json:
        click.echo(json.dumps({"ok": not any(one.fatal for one in problems), "problems": _problems(problems)}))
    elif not problems:
        click.echo(f"the topics of {pipeline.name} are as they must be")
    _finish(problems, as_json)


def _problems(problems: list[topic.TopicProblem]) -> list[dict[str, object]]:
    return [{"topic": one.topic, "message": one.message, "fatal": one.fatal} for one in problems]


def _finish(problems: list[topic.TopicProblem], as_json: bool) -> None:
    """Print the problems for people, and set the exit code."""
    if not as_json:
        for one in problems:
            click.echo(f"{'error' if one.fatal else 'warning'}: {one}", err=True)
    if any(one.fatal for one in problems):
        raise click.exceptions.Exit(TopicError.exit_code)
