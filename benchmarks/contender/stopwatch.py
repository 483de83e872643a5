"""The one rule by which all contenders are timed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class Stopwatch:
    """Times of this process, from the first record in hand to the last score acknowledged.

    By the wall clock, its CPU time, and how long it was ready to run and another process had its core.
    """

    def __init__(self) -> None:
        self._begun: tuple[float, ...] | None = None
        self._ended: tuple[float, ...] = ()

    def begin(self) -> None:
        """A record is in hand; only the first call counts."""
        if self._begun is None:
            self._begun = _now()

    def end(self) -> None:
        """Everything is learned and acknowledged."""
        self._ended = _now()

    def report(self, scored: int, learned: int, **more: float) -> None:
        """Print what was done and how long it took, as JSON."""
        if self._begun is None:
            raise RuntimeError("nothing was read")
        wall, cpu, held = (ended - begun for ended, begun in zip(self._ended, self._begun, strict=True))
        found = {"scored": scored, "learned": learned, "wall_s": wall, "cpu_s": cpu, "held_s": held, **more}
        print(json.dumps(found), flush=True)


def _now() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), _held_s()


def _held_s() -> float:
    """Time spent in the run queue, as Linux counts it; 0 elsewhere."""
    try:
        return int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def options() -> dict[str, Any]:
    """What the caller asked for."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given
