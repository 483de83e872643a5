"""`python -m driftline` is the command `driftline`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import click

from driftline.cli import main
from driftline.cli.echo import fall


def run() -> None:
    """The command, as a process of its own."""
    sys.excepthook = fall
    if sys.argv[1:2] == ["worker"]:
        from driftline.operate import log  # only here: other commands should not pay for it

        as_json = log.asks_for_json(os.environ)
        signal.signal(signal.SIGTERM, partial(_not_begun, log.as_json if as_json else str))
        if as_json:
            log.write_json()
            sys.exit(_logged(log.log_end))
    main(prog_name="driftline")


def _logged(end: Callable[[str, int], None]) -> int:
    """The command with the message that it may end with as a line of the log; returns its exit code."""
    try:
        code = main(prog_name="driftline", standalone_mode=False)
    except click.ClickException as error:
        end(error.format_message(), error.exit_code)
        return error.exit_code
    return code if isinstance(code, int) else 0


def _not_begun(written: Callable[[str], str], number: int, frame: FrameType | None) -> None:
    """SIGTERM to a worker that is still loading, which takes seconds: there is nothing to be finished yet.

    Without it the signal kills or, sent to the first process of a container, does nothing. Faust puts its own in place.
    """
    os.write(2, written("stopped before it began").encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    run()
