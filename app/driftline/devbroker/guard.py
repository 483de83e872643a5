"""Runs a program and stops it when its own parent dies.

    python -m driftline.devbroker.guard [--remove DIR] [--grace SECONDS] -- COMMAND ...

A JVM does not notice that its parent is gone. The guard does: it holds the reading end of a pipe from the
parent, and an end of file there, like SIGTERM, ends the program (SIGTERM, then SIGKILL). On Linux the kernel
also kills the program should the guard itself be killed. The first line of output is JSON:
{"pid": the program's process id}.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

GRACE_S = 20.0
PR_SET_PDEATHSIG = 1


def run(command: list[str], remove: str | None, grace_s: float) -> int:
    """Run the command until it ends, the parent goes, or a SIGTERM comes.

    Args:
        command: the program and its arguments.
        remove: a folder to delete when the parent is gone; one that is there does that itself, or starts
            the program again on what is in it.
        grace_s: between SIGTERM and SIGKILL.

    Returns:
        The program's exit status, negative for a signal.
    """
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)

    def wake(number: int, frame: FrameType | None) -> None:
        """A signal only wakes the loop below; `set_wakeup_fd` writes its number."""

    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, wake)
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_parent(),  # noqa: PLW1509  # unsafe with threads; the guard has none
    )
    parent = os.getppid()
    try:
        print(json.dumps({"pid": child.pid}), flush=True)
        _watch(child, wake_read, parent)
    except BrokenPipeError:
        pass  # the parent was gone before it read the line
    finally:
        _end(child, grace_s)
        if remove is not None and _orphaned(parent):
            shutil.rmtree(remove, ignore_errors=True)
    return child.wait()


def _watch(child: subprocess.Popen[bytes], wake_read: int, parent: int) -> None:
    """Return when the child has ended or must."""
    while child.poll() is None and not _orphaned(parent):
        # The time-out is for a pipe that a process forked from our parent still holds open.
        ready, _, _ = select.select([0, wake_read], [], [], 1.0)
        if wake_read in ready and set(os.read(wake_read, 4_096)) & {signal.SIGTERM, signal.SIGINT}:
            return


def _orphaned(parent: int) -> bool:
    """Whether the parent is gone: the pipe from it has ended, or another process has taken its place."""
    ended = bool(select.select([0], [], [], 0)[0]) and not os.read(0, 4_096)
    return ended or os.getppid() != parent


def _end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, then SIGKILL; a program stopped by SIGSTOP is woken, or it could not act on the SIGTERM."""
    if child.poll() is None:
        child.terminate()
        child.send_signal(signal.SIGCONT)
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _die_with_parent() -> Callable[[], object] | None:
    """What the child runs before the program: ask the kernel to kill it when the guard dies (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Parse the arguments and run the command."""
    parser = argparse.ArgumentParser(prog="driftline.devbroker.guard")
    parser.add_argument("--remove", metavar="DIR", help="delete this folder when the parent is gone")
    parser.add_argument("--grace", type=float, default=GRACE_S, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs="+", help="after --, the program and its arguments")
    given = parser.parse_args(arguments)
    status = run(given.command, given.remove, given.grace)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
