"""The command `driftline` as a user runs it: in a process of its own, or (quicker) in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Literal

from click.testing import CliRunner, Result

from driftline.cli import main

COMMAND = [sys.executable, "-m", "driftline"]
ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0

PIPELINE = """\
pipeline: cards
task: binary
event:
  id: id
  features:
    amount: number
    country: string
label: {id: id, value: fraud, wait: 7d}
model: |
  (Select('amount') | StandardScaler()) + (Select('country') | OneHotEncoder()) | LogisticRegression()
delivery: at_least_once
"""


def init(*arguments: str) -> Result:
    """`driftline init` in this process, without the trial of models."""
    return CliRunner().invoke(main, ["init", "--no-trial", *arguments])


def environment(**settings: str) -> dict[str, str]:
    """Ours without settings of the machine, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in this process: a second is saved on imports."""
    unset = dict.fromkeys((name for name in os.environ if name.startswith("DRIFTLINE_")), None)
    done = CliRunner().invoke(main, [*map(str, arguments)], env={**unset, **settings}, prog_name="driftline")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_process(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
    )


def start(*arguments: str | Path, **settings: str) -> subprocess.Popen[str]:
    """Start a command that goes on."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
    )


def line(process: subprocess.Popen[str], name: Literal["stdout", "stderr"]) -> str:
    """The next line that a command prints; nothing if it ends first, or is silent so long that it is killed."""
    stream = process.stdout if name == "stdout" else process.stderr
    assert stream is not None
    watch = Timer(TIMEOUT_S, process.kill)
    watch.start()
    try:
        return stream.readline()
    finally:
        watch.cancel()


def stop(process: subprocess.Popen[str]) -> None:
    """End a command that a failed test left behind, and close its pipes."""
    process.kill()
    process.communicate()
