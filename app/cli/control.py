"""`driftline control`: a command to all shards of a pipeline, which they fold at a journaled position."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import orjson

from app.cli.option import DURATION, bootstrap_option, pipeline_of, pipeline_option, settings_of
from app.config import Settings
from app.core.error import TopicError
from app.core.pipeline import Pipeline, format_duration
from app.engine.client import admin, client_options, partition_counts, producer


@click.group()
def control() -> None:
    """Command the shards of a pipeline: freeze, unfreeze, reset, snapshot, acknowledge, silence.

    The command is written to every partition of the control topic; each shard folds it as soon as it reads it,
    and a replay folds it at the same place.
    """


def _plain(name: str, text: str) -> None:
    @control.command(name, help=text)
    @pipeline_option
    @bootstrap_option
    def plain(pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
        _send({"command": name}, pipeline_file, overrides, bootstrap)


_plain("freeze", "Go on scoring, and learn no more.")
_plain("unfreeze", "Learn again.")
_plain("reset", "Start again with an untrained model, as a new generation.")
_plain("snapshot", "Leave a snapshot of every shard that folded anything since its last one.")


@control.command()
@click.argument("episode")
@pipeline_option
@bootstrap_option
def acknowledge(episode: str, pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None) -> None:
    """Say that somebody cares for EPISODE: it is told again only when it becomes critical, and when it is over."""
    _send({"command": "acknowledge", "episode": episode}, pipeline_file, overrides, bootstrap)


@control.command()
@click.argument("episode")
@click.option("--for", "span_ms", type=DURATION, required=True, metavar="DURATION", help="In event time, as in 1h.")
@pipeline_option
@bootstrap_option
def silence(
    episode: str, span_ms: int, pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None
) -> None:
    """Notify nobody of EPISODE, nor of the next ones of the same signal, for a while.

    The alerts topic still gets every message; each says that it is silenced.
    """
    _send({"command": "silence", "episode": episode, "for_ms": span_ms}, pipeline_file, overrides, bootstrap)


def _send(
    command: dict[str, Any], pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None
) -> None:
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    episode = command.get("episode")
    if episode is not None and not episode.startswith(f"{pipeline.name}-"):
        raise click.BadParameter(
            f"{episode!r} is no episode of {pipeline.name}; `driftline tail alerts` shows their names",
            param_hint="EPISODE",
        )
    if command.get("for_ms") == 0:
        raise click.BadParameter("must be longer than 0", param_hint="--for")
    count = asyncio.run(_write(orjson.dumps(command), pipeline, settings))
    span = f" for {format_duration(command['for_ms'])} of event time" if "for_ms" in command else ""
    about = f" {episode}" if episode else ""
    shards = "1 shard" if count == 1 else f"{count} shards"
    click.echo(f"{command['command']}{about}{span}: written for {shards} of {pipeline.name}")


async def _write(command: bytes, pipeline: Pipeline, settings: Settings) -> int:
    """Write to every partition; returns how many there are."""
    options, topic = client_options(settings), pipeline.topics.control
    async with admin(options) as client:
        count = (await partition_counts(client)).get(topic, 0)
    if not count:
        raise TopicError(f"there is no topic {topic}; make it with `driftline topics create -p FILE`")
    async with producer(options, acks="all") as sender:
        for partition in range(count):
            await sender.send_and_wait(topic, command, partition=partition)
    return count
