"""`driftline control`: a command to all shards of a pipeline, which they fold at a journaled position."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson

from app.cli.option import DURATION, bootstrap_option, pipeline_of, pipeline_option, settings_of
from app.codec.decode import SILENCE_MAX_MS
from app.config import Settings
from app.core.error import TopicError
from app.core.pipeline import Pipeline, format_duration
from app.engine.client import admin, client_options, partition_counts, producer


@click.group()
@pipeline_option
@bootstrap_option
@click.pass_context
def control(
    context: click.Context, pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None
) -> None:
    """Command the shards of a pipeline: freeze, unfreeze, reset, snapshot, acknowledge, silence.

    The command is written to every partition of the control topic; each shard folds it as soon as it reads it,
    and a replay folds it at the same place. As in `driftline control -p FILE freeze`.
    """
    context.obj = _Where(pipeline_file, overrides, bootstrap)


class _Where(NamedTuple):
    """Which pipeline, as the options before the command say it."""

    pipeline_file: Path | None
    overrides: tuple[str, ...]
    bootstrap: str | None


def _plain(name: str, text: str) -> None:
    @control.command(name, help=text)
    @click.pass_obj
    def plain(where: _Where) -> None:
        _send({"command": name}, where)


_plain("freeze", "Go on scoring, and learn no more.")
_plain("unfreeze", "Learn again.")
_plain("reset", "Start again with an untrained model, as a new generation.")
_plain("snapshot", "Leave a snapshot of every shard that folded anything since its last one.")


@control.command()
@click.argument("episode")
@click.pass_obj
def acknowledge(where: _Where, episode: str) -> None:
    """Say that somebody cares for EPISODE: it is told again only when it becomes critical, and when it is over."""
    _send({"command": "acknowledge", "episode": episode}, where)


@control.command()
@click.argument("episode")
@click.option("--for", "span_ms", type=DURATION, required=True, metavar="DURATION", help="In event time, as in 1h.")
@click.pass_obj
def silence(where: _Where, episode: str, span_ms: int) -> None:
    """Notify nobody of EPISODE, nor of the next ones of the same signal, for a while.

    The alerts topic still gets every message; each says that it is silenced.
    """
    if not 0 < span_ms <= SILENCE_MAX_MS:
        raise click.BadParameter("must be longer than 0, and at most 365d", param_hint="--for")
    _send({"command": "silence", "episode": episode, "for_ms": span_ms}, where)


def _send(command: dict[str, Any], where: _Where) -> None:
    settings = settings_of(bootstrap=where.bootstrap)
    pipeline = pipeline_of(settings, where.pipeline_file, where.overrides)
    episode = command.get("episode")
    if episode is not None and not episode.startswith(f"{pipeline.name}-"):
        raise click.BadParameter(
            f"{episode!r} is no episode of {pipeline.name}; `driftline tail alerts` shows their names",
            param_hint="EPISODE",
        )
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
