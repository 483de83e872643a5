"""`driftline review`: its options and its help."""

from __future__ import annotations

from typing import get_args

import click

from driftline.cli.command.control import addressed, sent_json_option
from driftline.cli.lazy import does
from driftline.cli.option import json_option
from driftline.core.output import Rung

RUNGS = tuple(name for name in get_args(Rung) if name != "finite")  # of what is not finite, nothing could be held


def _check_which(event: str | None, rung: str | None, **_: object) -> None:
    if (event is None) == (rung is None):
        raise click.UsageError("name an EVENT, or all events that a rung holds with --rung")


_rung = click.option("--rung", type=click.Choice(RUNGS), help="All events that this rung of the guard holds.")
_why = click.option("--why", default="", metavar="TEXT", help="The reason, which is published with the decision.")


@addressed("decision")
def review() -> None:
    """Decide on predictions that the guard holds.

    A decision is a command like those of `driftline control`: journaled, and published with who made it (see
    DRIFTLINE_OPERATOR) and why. What no one decides is decided by `guard.hold` of the pipeline file.

    Exit codes: 0 the decision was accepted; 1 a shard refused it; 5 a shard did not answer in time.
    """


@review.command("list")
@json_option
@click.pass_obj
@does("driftline.cli.review:show")
def show() -> None:
    """List the held predictions, the earliest deadline first."""


@review.command()
@sent_json_option
@click.argument("event", required=False)
@_rung
@_why
@click.pass_obj
@does("driftline.cli.review:approve", check=_check_which)
def approve() -> None:
    """Serve the model's prediction of EVENT, even beyond the limits."""


@review.command()
@sent_json_option
@click.argument("event")
@click.argument("value")
@_why
@click.pass_obj
@does("driftline.cli.review:edit")
def edit() -> None:
    """Serve VALUE for EVENT: a number, a probability or a class, within the guard's range."""


@review.command()
@sent_json_option
@click.argument("event", required=False)
@_rung
@_why
@click.pass_obj
@does("driftline.cli.review:refuse", check=_check_which)
def refuse() -> None:
    """Do not serve the prediction of EVENT: serve what would have been served at the deadline, now."""
