"""`driftline control`: send a command to all shards of a pipeline; they obey at a journaled position."""

from __future__ import annotations

import asyncio
import getpass
import secrets
from pathlib import Path
from typing import Any

import click

from driftline.cli.command.control import Where
from driftline.cli.echo import echo, show
from driftline.cli.setting import pipeline_of, settings_of
from driftline.codec.command import BY_MAX, Sender, encode_command
from driftline.codec.inputs import layout_of
from driftline.codec.keyring import KeyRing
from driftline.codec.parts import parts, refusal
from driftline.config import Settings
from driftline.core.duration import format_duration
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.shard.upload import SIZE_MAX
from driftline.core.state.model_file import Trained, UnfitError, check_pipeline, check_versions, model_of, parse
from driftline.core.task import task_of
from driftline.kafka import topic, topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate import control as engine
from driftline.operate.status import read_status

REFUSED, UNANSWERED = 1, 5  # exit codes


def plain(where: Where, command: str, why: str = "") -> None:
    """What the commands about a whole pipeline do.

    Args:
        why: the reason, in the person's words.
    """
    _send({"command": command, **({"why": why} if why else {})}, where)


def acknowledge(where: Where, episode: str) -> None:
    """What `driftline control acknowledge` does."""
    _send({"command": "acknowledge", "episode": episode}, where)


def silence(where: Where, episode: str, span_ms: int) -> None:
    """What `driftline control silence` does."""
    _send({"command": "silence", "episode": episode, "for_ms": span_ms}, where)


def load(where: Where, model: Path) -> None:
    """What `driftline control load` does."""
    settings = settings_of(bootstrap=where.bootstrap)
    pipeline = pipeline_of(settings, where.pipeline_file, where.overrides)
    content = content_of(model)
    manifest = _fitting(model, content, pipeline, settings.ring)
    if manifest.diverged:
        echo(f"WARNING: {model}: {manifest.diverged}", err=True)
    sender = _sender(pipeline, settings)
    name = f"{sender.sent_ms:013d}-{secrets.token_hex(4)}"
    commands = list(parts(content, name, sender=sender, ring=settings.ring))
    unit = task_of(pipeline.task).learns_from
    text = f"load {name} (trained on {manifest.learned:,} {unit})"
    written = f"written in {_counted(len(commands), 'part')}"
    outcome = asyncio.run(engine.give(commands, pipeline, settings, where.timeout_s))
    for problem in asyncio.run(topic.check(pipeline, settings)):
        if problem.topic == pipeline.topics.control:
            echo(f"note: {problem}", err=True)
    _print_outcome(text, written, outcome, pipeline, where)


def content_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_MAX + 1)  # a device has no size, and no end
        if len(content) > SIZE_MAX:
            raise InputFileError(
                f"{path} is too large: the limit is {SIZE_MAX:,} bytes (64 MiB). Train a smaller model, or "
                "let a factory load it where the worker runs"
            )
        return content
    except OSError as error:
        raise InputFileError(f"cannot read {path} ({error.strerror}); `driftline train` writes model files") from error


def _fitting(path: Path, content: bytes, pipeline: Pipeline, ring: KeyRing) -> Trained:
    """What the file says of itself, if a shard would take it.

    Raises:
        InputFileError: no shard would.
    """
    try:
        manifest, frozen = parse(content)
        if ring and (refused := refusal(content, ring)) is not None:
            raise UnfitError(refused)
        check_pipeline(manifest, pipeline)
        try:
            check_versions(manifest)
        except UnfitError as error:  # what counts is what the workers run
            echo(f"note: {error}; a worker with other versions rejects it too", err=True)
        else:
            model_of(pipeline, frozen)
    except UnfitError as error:
        raise InputFileError(f"{path}: {error}") from error
    return manifest


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _send(command: dict[str, Any], where: Where) -> None:
    settings = settings_of(bootstrap=where.bootstrap)
    pipeline = pipeline_of(settings, where.pipeline_file, where.overrides)
    episode = command.get("episode")
    if episode is not None and not episode.startswith(f"{pipeline.name}-"):
        raise click.BadParameter(
            f"{episode!r} is not an episode of {pipeline.name}; `driftline tail alerts` lists them",
            param_hint="EPISODE",
        )
    value = encode_command(command, _sender(pipeline, settings), settings.ring)
    outcome = asyncio.run(engine.give([value], pipeline, settings, where.timeout_s))
    if episode is not None and len(outcome.verdicts) < outcome.shards:
        known = asyncio.run(_open_episodes(pipeline, settings))
        if known is not None and episode not in known:
            text = f"according to the journal, episode {episode} is not open: its shard will refuse the command"
            echo(f"note: {text}", err=True)
    span = f" for {format_duration(command['for_ms'])} of event time" if "for_ms" in command else ""
    about = f" {episode}" if episode else ""
    _print_outcome(f"{command['command']}{about}{span}", "written", outcome, pipeline, where)


def send_command(command: dict[str, Any], where: Where, what: str) -> None:
    """Send a command to every shard, and print what became of it.

    Raises:
        Exit: not every shard has accepted it.
    """
    settings = settings_of(bootstrap=where.bootstrap)
    pipeline = pipeline_of(settings, where.pipeline_file, where.overrides)
    value = encode_command(command, _sender(pipeline, settings), settings.ring)
    outcome = asyncio.run(engine.give([value], pipeline, settings, where.timeout_s))
    _print_outcome(what, "written", outcome, pipeline, where)


def _sender(pipeline: Pipeline, settings: Settings) -> Sender:
    return engine.sender(pipeline, settings.operator or _user())


def _user() -> str:
    """The user of this machine, as far as it has a name."""
    try:
        return getpass.getuser()[:BY_MAX]
    except (OSError, KeyError):
        return ""


def _print_outcome(what: str, written: str, outcome: engine.Outcome, pipeline: Pipeline, where: Where) -> None:
    """Print what became of a command, and end with the code for it.

    Raises:
        Exit: not every shard has accepted it.
    """
    refused = {shard: verdict for shard, verdict in sorted(outcome.verdicts.items()) if verdict.reason}
    accepted = sorted(outcome.verdicts.keys() - refused.keys())
    silent = [shard for shard in range(outcome.shards) if shard not in outcome.verdicts] if where.timeout_s else []
    document = {
        "pipeline": pipeline.name,
        "command": what,
        "shards": outcome.shards,
        "waited": bool(where.timeout_s),
        "accepted": accepted,
        "refused": [{"shard": shard, "reason": one.reason, "detail": one.detail} for shard, one in refused.items()],
        "unanswered": silent,
    }
    lines = []
    if not where.timeout_s:
        lines = [f"{what}: {written} for {_counted(outcome.shards, 'shard')} of {pipeline.name}"]
    elif accepted:
        lines = [f"{what}: accepted by {_counted(len(accepted), 'shard')} of {pipeline.name}"]
    show(document, lambda: lines, as_json=where.as_json)
    for shard, verdict in refused.items():
        echo(f"{what}: shard {shard} refused it ({verdict.reason}): {verdict.detail}", err=True)
    if silent:
        echo(
            f"{what}: {written} for {_counted(outcome.shards, 'shard')} of {pipeline.name}, but no answer from "
            f"{', '.join(map(str, silent))} within {where.timeout_s:g} s; the command takes effect once a worker runs",
            err=True,
        )
    if refused or silent:
        raise click.exceptions.Exit(REFUSED if refused else UNANSWERED)


async def _open_episodes(pipeline: Pipeline, settings: Settings) -> set[str] | None:
    """Names of the alerts that are open, as far as the journal shows; None where topics are missing."""
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if not set(topic_rule.names(pipeline).values()) <= there.keys():
        return None
    shards = await read_status(KafkaBroker(pipeline, settings), pipeline, layout_of(pipeline, there))
    return {name for shard in shards for name in (shard.note or {}).get("episodes", ())}
