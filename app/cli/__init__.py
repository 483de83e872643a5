"""The command `driftline`.

Every command is a module of its own and is imported only when it is called: River and Faust take seconds to
load, and `--help` should not. What goes wrong on purpose (`DriftlineError`) ends in its text on stderr and
its exit code:

    0 done · 1 done in part, or a fault without a code of its own · 2 wrong usage, file or setting · 3 Kafka
    4 recovery · 5 no worker answered in time · 70 a broken invariant · 130 interrupted
    141 whoever read the output went away
"""

from __future__ import annotations

import logging
import os
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import click

from app import __version__
from app.core.error import DependencyError, DriftlineError
from app.core.weighted import arithmetic

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("app.cli.init:init", "Write a pipeline file for a data file."),
    "check": ("app.cli.check:check", "Check a pipeline file: resolved settings, needs, determinism."),
    "topics": ("app.cli.topics:topics", "Create and check the topics of a pipeline."),
    "broker": ("app.cli.broker:broker", "Run a broker on this machine until stopped."),
    "worker": ("app.cli.worker:worker", "Score, learn and watch: run a worker."),
    "produce": ("app.cli.produce:produce", "Send a data file as events and later labels."),
    "tail": ("app.cli.tail:tail", "Print scores, outcomes, alerts or rejected records as they come."),
    "control": ("app.cli.control:control", "Command the shards: freeze, reset, acknowledge an alert, silence it ..."),
    "status": ("app.cli.status:status", "Show every shard: positions, lag, pending, metrics."),
    "verify": ("app.cli.verify:verify", "Prove from the topics that what was published is what the fold makes."),
    "state": ("app.cli.state:state", "Save what was learned to a file, and restore it, here or elsewhere."),
    "train": ("app.cli.train:train", "Make a model from history, for `control load`."),
    "backtest": ("app.cli.backtest:backtest", "What would these pipelines have done on this history?"),
    "export": ("app.cli.export:export_command", "Write outcomes as CSV or Parquet, for training elsewhere."),
    "explain": ("app.cli.explain:explain_command", "Why did this event get its score?"),
    "demo": ("app.cli.demo:demo", "Watch a model meet drift, from nothing to an alert."),
}
RIVER = ("0.26.1", "0.27")  # from this release on, up to and without that one; as pyproject.toml has it
INTERRUPTED = 130
UNREAD = 141  # as of a program that SIGPIPE ends


class Failure(click.ClickException):
    """A `DriftlineError` in click's terms."""

    def __init__(self, error: DriftlineError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code


class Commands(click.Group):
    """Commands by name, imported when called; errors become exit codes here, for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (place, _) in COMMANDS.items() if find_spec(place.partition(":")[0])]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        check_river()
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DriftlineError as error:
            raise Failure(error) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed goes nowhere
            raise click.exceptions.Exit(UNREAD) from None


def check_river() -> None:
    """Whether the River that is installed is one that this version knows. It is not imported, which takes seconds.

    Raises:
        DependencyError: it is another, or none.
    """
    try:
        found = metadata.version("river")
    except metadata.PackageNotFoundError:
        found = "none"
    numbers = [tuple(int(part) for part in text.split(".") if part.isdecimal()) for text in (found, *RIVER)]
    if not numbers[1] <= numbers[0] < numbers[2]:
        raise DependencyError(
            f"this Driftline needs River from {RIVER[0]} on and below {RIVER[1]}, and {found} is installed: "
            f'pip install "river>={RIVER[0]},<{RIVER[1]}", or take a Driftline that knows this River. A state that '
            "another River learned goes with it: `driftline state save` there first"
        )


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"driftline, version {__version__}")
        if arithmetic != "compiled":
            click.echo("without its compiled part: the same results, slower. With a C compiler: make clean install")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show it and exit.")
def main() -> None:
    """Driftline keeps a machine-learning model alive in production: it scores events from Kafka, learns from
    labels that come later, and alerts when the world drifts.

    The broker's address is --bootstrap or DRIFTLINE_BOOTSTRAP; DRIFTLINE_SECURITY_PROTOCOL, _SASL_* and
    _SSL_* set its security.
    """
    # Without a handler of its own, Python prints a library's warnings bare; the worker sets up real logging.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
