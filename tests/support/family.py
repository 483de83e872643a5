"""Which processes a process has started, directly or not: to see that none is left when it is gone."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Known(NamedTuple):
    """A process; its start time tells it from a later one with the same number."""

    pid: int
    started: str


def descendants(pid: int) -> set[Known]:
    """Children of a process, and theirs, as they are now."""
    children: dict[int, list[Known]] = defaultdict(list)
    for known, parent in _processes().items():
        children[parent].append(known)
    found: set[Known] = set()
    left = [pid]
    while left:
        for known in children.get(left.pop(), ()):
            found.add(known)
            left.append(known.pid)
    return found


def command_of(known: Known) -> str:
    """The command line of a process; empty once it has ended."""
    place = Path(f"/proc/{known.pid}/cmdline")
    try:
        if place.parent.parent.joinpath("self").exists():
            return place.read_text().replace("\0", " ")
    except OSError:
        return ""
    asked = ["ps", "-o", "args=", "-p", str(known.pid)]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


def alive(family: set[Known]) -> set[Known]:
    """Those that still run."""
    return family & _processes().keys()


def _processes() -> dict[Known, int]:
    """Every process, and its parent's number; those that have ended and wait to be reaped are left out."""
    if Path("/proc/self/stat").exists():
        return dict(_of_linux())
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state=,lstart="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return {Known(int(row[0]), row[3]): int(row[1]) for row in rows if not row[2].startswith("Z")}


def _of_linux() -> list[tuple[Known, int]]:
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # ended just now
            continue
        state, parent, started = fields[0], int(fields[1]), fields[19]
        if state != "Z":
            found.append((Known(int(place.name), started), parent))
    return found
