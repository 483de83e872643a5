"""The command `driftline` as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "app.cli"]
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


def environment(**settings: str) -> dict[str, str]:
    """Ours without settings of the machine, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
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
