"""`driftline control`: its options and its help."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from driftline.cli.lazy import does, found
from driftline.cli.option import DURATION, Command, bootstrap_option, json_option, pipeline_option
from driftline.core.shard.command import SILENCE_MAX_MS


class Where(NamedTuple):
    """Which pipeline, as the options before the command say it, or those behind it."""

    pipeline_file: Path | None
    overrides: tuple[str, ...]
    bootstrap: str | None
    timeout_s: float  # 0: do not wait
    as_json: bool = False


def _set_json(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        context.obj = context.obj._replace(as_json=True)


def sent_json_option(command: Command) -> Command:
    """`--json` of a command that is sent: in its `Where`."""
    return json_option(command, expose_value=False, callback=_set_json)


def _check_silence(span_ms: int, **_: object) -> None:
    if not 0 < span_ms <= SILENCE_MAX_MS:
        raise click.BadParameter("must be more than 0 and at most 365d", param_hint="--for")


def _set_where(context: click.Context, option: click.Parameter, value: Any) -> None:
    """An option that stands behind the command instead of before it."""
    where: Where = context.obj
    if value is None or value is False or value == ():
        return
    match option.name:
        case "overrides":
            context.obj = where._replace(overrides=(*where.overrides, *value))
        case "timeout_ms":
            context.obj = where._replace(timeout_s=value / 1000)
        case "no_wait":
            context.obj = where._replace(timeout_s=0)
        case name:
            context.obj = where._replace(**{str(name): value})


class Addressed(click.Group):
    """A group whose own options may stand behind its commands as well, where those of all other commands stand."""

    awaited = "command"

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        pipeline_option(cmd, expose_value=False, callback=_set_where)
        bootstrap_option(cmd, expose_value=False, callback=_set_where)
        waiting_options(cmd, self.awaited, None, expose_value=False, callback=_set_where)
        super().add_command(cmd, name)


def waiting_options(command: Command, awaited: str, timeout_ms: int | None, **attributes: Any) -> Command:
    """`--timeout` and `--no-wait`.

    Args:
        awaited: what a command sends, for the help.
        timeout_ms: unless the option says another.
        attributes: more of the options, as click has them.
    """
    text = f"Send the {awaited} without waiting for the shards."
    command = click.option("--no-wait", is_flag=True, help=text, **attributes)(command)
    return click.option(
        "--timeout",
        "timeout_ms",
        type=DURATION,
        default=timeout_ms,
        metavar="DURATION",
        help="How long to wait for the shards [30s].",
        **attributes,
    )(command)


def addressed(awaited: str) -> Callable[[Callable[[], None]], click.Group]:
    """A group of commands that go to the shards of one pipeline; each receives a `Where`.

    Args:
        awaited: what a command sends, for the help.
    """

    def group(function: Callable[[], None]) -> click.Group:
        @click.group(function.__name__, help=function.__doc__, cls=Addressed)
        @pipeline_option
        @bootstrap_option
        @partial(waiting_options, awaited=awaited, timeout_ms=30_000)
        @click.pass_context
        def made(
            context: click.Context,
            pipeline_file: Path | None,
            overrides: tuple[str, ...],
            bootstrap: str | None,
            timeout_ms: int,
            no_wait: bool,
        ) -> None:
            context.obj = Where(pipeline_file, overrides, bootstrap, 0 if no_wait else timeout_ms / 1000)

        made.awaited = awaited
        return made

    return group


@addressed("command")
def control() -> None:
    """Send a command to the shards of a pipeline.

    The command is written to every partition of the control topic; each shard carries it out on reading it, and
    a replay does so at the same point. Example: `driftline control -p FILE freeze`.

    Exit codes: 0 every shard accepted it; 1 a shard refused it; 5 a shard did not answer in time (the command stays in
    the topic and takes effect once a worker runs).
    """


def _plain(name: str, text: str) -> None:
    @control.command(name, help=text)
    @sent_json_option
    @click.pass_obj
    def plain(where: Where) -> None:
        found("driftline.cli.control:plain")(where, name)


_plain("freeze", "Keep scoring, but stop learning.")
_plain("unfreeze", "Resume learning.")
_plain("reset", "Replace the model by an untrained one (a new generation).")
_plain("snapshot", "Take a snapshot of every shard that has processed records since its last one.")


def _about_labels(name: str, text: str) -> None:
    @control.command(name, help=text)
    @sent_json_option
    @click.option("--why", default="", metavar="TEXT", help="The reason, which the alert about it publishes.")
    @click.pass_obj
    def about_labels(where: Where, why: str) -> None:
        found("driftline.cli.control:plain")(where, name, why)


_about_labels("release", "Learn all labels that `learning.quarantine` holds back, in order.")
_about_labels("drop", "Drop all labels that `learning.quarantine` holds back: they are never learned.")


@control.command()
@sent_json_option
@click.argument("episode")
@click.pass_obj
@does("driftline.cli.control:acknowledge")
def acknowledge() -> None:
    """Acknowledge EPISODE: no more alerts about it until it becomes critical or is resolved."""


@control.command()
@sent_json_option
@click.argument("episode")
@click.option(
    "--for", "span_ms", type=DURATION, required=True, metavar="DURATION", help="How long, in event time, such as 1h."
)
@click.pass_obj
@does("driftline.cli.control:silence", check=_check_silence)
def silence() -> None:
    """Silence EPISODE and later ones of the same signal: no notifications for a while.

    Alerts are still written to the alerts topic, marked as silenced.
    """


@control.command()
@sent_json_option
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.pass_obj
@does("driftline.cli.control:load")
def load() -> None:
    """Load MODEL, a file written by `driftline train`, into every shard (a new generation).

    The model is sent through the control topic in parts; each shard switches when it has read the last one. A worker
    that starts later loads it before its first event. An interrupted load changes nothing: repeat the command.
    """
