"""`driftline control`: its options and its help."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click

from driftline.cli.lazy import does, found
from driftline.cli.option import DURATION, bootstrap_option, pipeline_option
from driftline.core.shard.command import SILENCE_MAX_MS


class Where(NamedTuple):
    """Which pipeline, as the options before the command say it."""

    pipeline_file: Path | None
    overrides: tuple[str, ...]
    bootstrap: str | None
    timeout_s: float  # 0: do not wait


def _check_silence(span_ms: int, **_: object) -> None:
    if not 0 < span_ms <= SILENCE_MAX_MS:
        raise click.BadParameter("must be longer than 0, and at most 365d", param_hint="--for")


@click.group()
@pipeline_option
@bootstrap_option
@click.option("--timeout", "timeout_ms", type=DURATION, default=30_000, metavar="DURATION", help="Wait for [30s].")
@click.option("--no-wait", is_flag=True, help="Only write the command.")
@click.pass_context
def control(
    context: click.Context,
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    timeout_ms: int,
    no_wait: bool,
) -> None:
    """Command the shards of a pipeline: freeze, unfreeze, reset, load, snapshot, acknowledge, silence.

    The command is written to every partition of the control topic; each shard folds it as soon as it reads it,
    and a replay folds it at the same place. As in `driftline control -p FILE freeze`.

    Exit code 0: every shard has taken it. 1: a shard refused it. 5: a shard did not answer in time; the command is
    written, and is taken once a worker runs.
    """
    context.obj = Where(pipeline_file, overrides, bootstrap, 0 if no_wait else timeout_ms / 1000)


def _plain(name: str, text: str) -> None:
    @control.command(name, help=text)
    @click.pass_obj
    def plain(where: Where) -> None:
        found("driftline.cli.control:plain")(where, name)


_plain("freeze", "Keep scoring, but stop learning.")
_plain("unfreeze", "Resume learning.")
_plain("reset", "Start again with an untrained model, as a new generation.")
_plain("snapshot", "Take a snapshot of every shard that processed anything since its last one.")


@control.command()
@click.argument("episode")
@click.pass_obj
@does("driftline.cli.control:acknowledge")
def acknowledge() -> None:
    """Acknowledge EPISODE: it is reported again only when it becomes critical and when it is resolved."""


@control.command()
@click.argument("episode")
@click.option("--for", "span_ms", type=DURATION, required=True, metavar="DURATION", help="In event time, as in 1h.")
@click.pass_obj
@does("driftline.cli.control:silence", check=_check_silence)
def silence() -> None:
    """Silence EPISODE, and later ones of the same signal, for a while: nobody is notified.

    Every message still goes to the alerts topic, marked as silenced.
    """


@control.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.pass_obj
@does("driftline.cli.control:load")
def load() -> None:
    """Put MODEL, a file of `driftline train`, to work in every shard, as a new generation.

    It travels in the control topic, in parts; each shard changes its model at the last of them. A worker that starts
    later folds it before its first event. A load that breaks off changes nothing: give the command again.
    """
