"""`driftline topics`: create or check a pipeline's topics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from driftline.cli.echo import echo, show
from driftline.cli.setting import outline_of, settings_of
from driftline.core.error import TopicError
from driftline.kafka import topic, topic_rule


def create(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    retention_ms: int | None,
    as_json: bool,
) -> None:
    """What `driftline topics create` does."""
    settings = settings_of(bootstrap=bootstrap, replication=replication)
    pipeline = outline_of(settings, pipeline_file, overrides)
    made = asyncio.run(topic.create(pipeline, settings, partitions=partitions, retention_ms=retention_ms))
    problems = asyncio.run(topic.check(pipeline, settings))
    topics = [
        {"topic": one.plan.name, "kind": one.plan.kind, "created": one.made, "partitions": one.partitions}
        for one in made
    ]
    lines = [
        f"{'created' if one.made else 'exists':9}  {one.plan.name}  ({one.plan.kind}, {one.partitions} partitions)"
        for one in made
    ]
    show({"topics": topics, "problems": _problems(problems)}, lambda: lines, as_json=as_json)
    _finish(problems, as_json)


def check(pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None, as_json: bool) -> None:
    """What `driftline topics check` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    problems = asyncio.run(topic.check(pipeline, settings))
    ok = not any(one.fatal for one in problems)
    lines = [] if problems else [f"the topics of {pipeline.name} are fine"]
    show({"ok": ok, "problems": _problems(problems)}, lambda: lines, as_json=as_json)
    _finish(problems, as_json)


def _problems(problems: list[topic_rule.TopicProblem]) -> list[dict[str, object]]:
    return [{"topic": one.topic, "message": one.message, "fatal": one.fatal} for one in problems]


def _finish(problems: list[topic_rule.TopicProblem], as_json: bool) -> None:
    """Print the problems for people, and set the exit code."""
    if not as_json:
        for one in problems:
            echo(f"{'error' if one.fatal else 'warning'}: {one}", err=True)
    if any(one.fatal for one in problems):
        raise click.exceptions.Exit(TopicError.exit_code)
