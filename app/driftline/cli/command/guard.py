"""`driftline guard`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.command.history import Files, history_options
from driftline.cli.lazy import does
from driftline.cli.option import json_option, pipeline_option


def _check(history: Files, **_: object) -> None:
    history.check()


@click.group()
def guard() -> None:
    """Find limits for predictions."""


@guard.command()
@pipeline_option
@history_options
@json_option
@does("driftline.cli.guard:suggest", check=_check)
def suggest() -> None:
    """Propose a guard from history: a section to paste into the pipeline file.

    The history is processed without a guard, to see labels, jumps and intervals, and then with the proposed one, to
    count how often each rung would have tripped. Of a guard in the file, only `by` is used.
    """
