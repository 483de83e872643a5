"""What commands print: text of others is among it, so nothing in it may command a terminal."""

from __future__ import annotations

import click

from driftline.core.wording import escaped


def echo(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """Print text, its control characters but ends of lines and tabs as JSON writes them.

    Args:
        text: also JSON as bytes, which means the same afterwards.
        err: to stderr.
        nl: with an end of line.
    """
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    click.echo(escaped(shown, lines=True), err=err, nl=nl)
