"""The one rule by which all contenders are timed."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class Stopwatch:
    """Wall and CPU time of this process, from the first record in hand to the last score acknowledged."""

    def __init__(self) -> None:
        self._begun: tuple[float, float] | None = None
        self._ended = (0.0, 0.0)

    def begin(self) -> None:
        """A record is in hand; only the first call counts."""
        if self._begun is None:
            self._begun = (time.perf_counter(), time.process_time())

    def end(self) -> None:
        """Everything is learned and acknowledged."""
        self._ended = (time.perf_counter(), time.process_time())

    def report(self, scored: int, learned: int) -> None:
        """Print what was done and how long it took, as JSON."""
        if self._begun is None:
            raise RuntimeError("nothing was read")
        wall, cpu = (ended - begun for ended, begun in zip(self._ended, self._begun, strict=True))
        print(json.dumps({"scored": scored, "learned": learned, "wall_s": wall, "cpu_s": cpu}), flush=True)


def options() -> dict[str, Any]:
    """What the caller asked for."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given
