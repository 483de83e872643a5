"""What commands print: text of others is among it, so nothing in it may command a terminal.

A command that has a result prints it through `show`: lines for people, or with `--json` one document whose form
`schemas/command.schema.json` has. Remarks go to stderr in both cases.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from types import TracebackType

import click

from driftline.core.wording import escaped
from driftline.operate.stray import Strays


def echo(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """Print text, its control characters but ends of lines and tabs as JSON writes them.

    Args:
        text: also JSON as bytes, which means the same afterwards.
        err: to stderr.
        nl: with an end of line.
    """
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    click.echo(escaped(shown, lines=True), err=err, nl=nl)


class Printed(logging.Handler):
    """What a command prints of its warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(Strays())

    def emit(self, record: logging.LogRecord) -> None:
        echo(self.format(record), err=True)


def show(document: object, lines: Callable[[], Iterable[str]], *, as_json: bool, indent: int = 2) -> None:
    """Print what a command found.

    Args:
        document: for programs: mappings, sequences, structs and what JSON has.
        lines: makes the same for people, where it is asked for.
        as_json: as `--json` has it.
        indent: of the document; below 0 it is one line, for a command that goes on.
    """
    if as_json:
        echo(_as_json(document, indent))
        return
    for line in lines():
        echo(line)


def _as_json(document: object, indent: int) -> bytes | str:
    import json  # only here: help should not wait for them

    import msgspec

    try:
        return msgspec.json.format(msgspec.json.encode(document), indent=indent)
    except UnicodeEncodeError:  # halves of characters, as of a file's name that is no UTF-8, have no other form
        return json.dumps(msgspec.to_builtins(document), indent=None if indent < 0 else indent)


def fall(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Instead of Python's own last words about an exception that nothing foresaw: they may hold text of others."""
    import traceback  # only here, as above

    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)
