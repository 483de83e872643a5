"""Time is an argument: what the engine knows of it comes from one `Clock`, so that a simulation can bring its own.

Waits go through the event loop's timers, which a simulation replaces with the loop; this is for the readings.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct


class Clock(Struct, frozen=True):
    """Three clocks.

    Args:
        now_s: seconds that never go back, from anywhere; measures how long things take.
        wall_s: seconds since 1970-01-01T00:00Z, for stamps that people read.
        cpu_s: seconds of CPU time that this thread has had; measures how much was computed, whatever else ran on the
            machine meanwhile.
    """

    now_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time
    cpu_s: Callable[[], float] = time.thread_time


REAL = Clock()
"""This machine's."""
