"""The command `driftline`.

Each command is declared in the module of `cli.command` that has its name, and imported only when it is called; what
it does is imported only when it is done (`cli.lazy`): River and Faust take seconds to load, and `--help` should
not. What goes wrong on purpose (`DriftlineError`) ends in its text on stderr and its exit code:

    0 done · 1 done in part, or a fault without a code of its own · 2 wrong usage, file or setting · 3 Kafka
    4 recovery · 5 no worker answered in time · 70 a broken invariant · 130 interrupted
    141 whoever read the output went away
"""

from __future__ import annotations

import logging
import os
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import click

from driftline import __version__
from driftline.cli.echo import Printed, echo
from driftline.cli.lazy import found
from driftline.core.error import DependencyError, DriftlineError
from driftline.core.wording import escaped

COMMANDS: dict[str, str] = {
    "init": "Write a pipeline file for a data file.",
    "check": "Check a pipeline file: settings, resources, determinism.",
    "topics": "Create or check a pipeline's topics.",
    "broker": "Run a local broker.",
    "worker": "Run a worker: score, learn, detect drift.",
    "produce": "Send a data file as events and delayed labels.",
    "tail": "Print scores, outcomes, alerts or rejected records as they arrive.",
    "control": "Send a command: freeze, reset, load, acknowledge, silence, ...",
    "guard": "Find limits for predictions, from history.",
    "review": "Decide on held predictions: list, approve, edit, refuse.",
    "status": "Show every shard: positions, lag, pending events, metrics.",
    "digest": "Summarize a span of time for a role: KPIs, changes, actions, open decisions.",
    "card": "Write the model card of a generation: data, labels, metrics, KPIs, limits, known troubles.",
    "verify": "Replay the journal and check that it gives the same outputs.",
    "state": "Save the state to a file, or restore it.",
    "train": "Train a model on historical data, for `control load`.",
    "backtest": "Evaluate and compare pipelines on historical data.",
    "export": "Write outcomes to CSV or Parquet, to train elsewhere.",
    "explain": "Explain the score of an event.",
    "demo": "Watch a model run into drift, with no setup.",
}
RIVER = ("0.26.1", "0.27")  # from this release on, up to and without that one; as pyproject.toml has it
COMPILED = (
    "driftline.codec._declared",
    "driftline.codec._usual",
    "driftline.core.guard._familiar",
    "driftline.core.guard._passing",
    "driftline.core.model.fast._leaf",
    "driftline.core.model.fast._weighted",
)
INTERRUPTED = 130
UNREAD = 141  # as of a program that SIGPIPE ends


class Failure(click.ClickException):
    """A `DriftlineError` in click's terms."""

    def __init__(self, error: DriftlineError) -> None:
        super().__init__(escaped(str(error), lines=True))
        self.exit_code = error.exit_code


class Commands(click.Group):
    """Commands by name, imported when called; errors become exit codes here, for all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        check_river()
        command: click.Command = found(f"driftline.cli.command.{cmd_name}:{cmd_name}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DriftlineError as error:
            raise Failure(error) from error
        except click.ClickException as error:
            error.message = escaped(error.message, lines=True)  # it may name columns of a file
            raise
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
            f"this Driftline needs River >= {RIVER[0]} and < {RIVER[1]}, but {found} is installed: "
            f'pip install "river>={RIVER[0]},<{RIVER[1]}", or install a Driftline that supports it. To keep a state '
            "from another River, run `driftline state save` there first"
        )


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        echo(f"driftline, version {__version__}")
        if not all(map(find_spec, COMPILED)):
            echo("compiled part missing: same results, but slower. If you have a C compiler: make clean install")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def main() -> None:
    """Driftline keeps a machine-learning model alive in production: it scores events from Kafka, learns from
    delayed labels, and alerts on drift.

    Set the broker's address with --bootstrap or DRIFTLINE_BOOTSTRAP, and its security with
    DRIFTLINE_SECURITY_PROTOCOL, DRIFTLINE_SASL_* and DRIFTLINE_SSL_*.
    """
    # Without a handler of its own, Python prints a library's warnings bare; the worker sets up real logging.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.lastResort = Printed()
