"""`python -m driftline` is the command `driftline`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from driftline.cli import main


def run() -> None:
    """The command, as a process of its own."""
    if sys.argv[1:2] == ["worker"]:
        signal.signal(signal.SIGTERM, _not_begun)
    main(prog_name="driftline")


def _not_begun(number: int, frame: FrameType | None) -> None:
    """SIGTERM to a worker that is still loading, which takes seconds: there is nothing to be finished yet.

    Without it the signal kills or, sent to the first process of a container, does nothing. Faust puts its own in place.
    """
    os.write(2, b"stopped before it began\n")
    os._exit(0)


if __name__ == "__main__":
    run()
