"""Keeps aiokafka's log readable: while a broker is away it tells each failed attempt as an error, thousands a minute.

What the engine does about it is told by the engine itself. Of aiokafka's own errors, one of a kind is let through
now and then, with the number of those that were left out.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

SAID_EVERY_S = 600.0
NEVER = "Group Coordinator Request failed: %s"  # also while a new Kafka makes its first group; outages tell otherwise


class Seldom(logging.Filter):
    """Lets one record of a kind through every `SAID_EVERY_S`; kinds are told by the text before its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now_s = str(record.msg), time.monotonic()
        if kind == NEVER:
            return False
        if now_s - self._said_s.get(kind, -SAID_EVERY_S) < SAID_EVERY_S:
            self._left_out[kind] += 1
            return False
        self._said_s[kind] = now_s
        if left_out := self._left_out.pop(kind, 0):
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", ()
        return True


class Unread(logging.Filter):
    """Drops asyncio's complaint of errors that nobody read, where they are aiokafka's: it sets one on several futures.

    Whoever waited for the commit has had it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or not type(error).__module__.startswith("aiokafka")


def quieten() -> None:
    """Put the filters on all of aiokafka's loggers and asyncio's, and aiokafka's warnings away."""
    logging.getLogger("asyncio").addFilter(Unread())
    seldom = Seldom()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(seldom)
