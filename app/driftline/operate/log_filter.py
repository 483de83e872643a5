"""Keeps the log readable.

While a broker is away aiokafka logs each failed attempt as an error, thousands a minute. What the engine does about it
is logged by the engine itself (`outage`), so messages that a broker did not answer are dropped. Of its other errors
one of a kind is let through now and then, with its cause in a line and the number of those that were left out. Of an
error that ends the worker, mode logs twice what the command then prints. What Faust and mode log of their own services
(`[^--Monitor]: Starting...`) means nothing to whoever runs a pipeline: it is left out but at DEBUG.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from aiohttp.http_exceptions import HttpProcessingError

from driftline.operate.stray import REPEAT_S, Strays

NEVER = (
    "Group Coordinator Request failed",  # also while a new Kafka makes its first group
    "FindCoordinator Request failed",
    "Unable connect to",
    "Unable to update metadata",
    "Failed fetch messages",
    "Failed fetch offsets",
    "Error sending ",
    "Heartbeat session expired",
    "Heartbeat send request failed",
    "LeaveGroup request failed",
)
AWAY = frozenset({"KafkaConnectionError", "NodeNotReadyError", "RequestTimedOutError"})  # what it raises then
STRAYS = ("driftline.engine.recovery", "driftline.operate.notify")
OURS = ("driftline.main", "driftline.web.server")  # modules with services of mode
CRASHED = ("Crashed reason=", "We experienced a crash!")


class Seldom(logging.Filter):
    """Lets one record of a kind through every `REPEAT_S`; its kind is the text before its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_s: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now_s = str(record.msg), time.monotonic()
        if kind.startswith(NEVER):
            return False
        if record.exc_info:
            error = record.exc_info[1]
            if type(error).__name__ in AWAY:
                return False
            record.msg, record.args = f"{record.getMessage()}: {error!r}", ()
            record.exc_info = record.exc_text = None
        if now_s - self._logged_s.get(kind, -REPEAT_S) < REPEAT_S:
            self._left_out[kind] += 1
            return False
        self._logged_s[kind] = now_s
        if left_out := self._left_out.pop(kind, 0):
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", ()
        return True


class Unread(logging.Filter):
    """Drops asyncio's complaint of errors that no one read, where they are aiokafka's: it sets one on several futures.

    Whoever waited for the commit has had it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or not type(error).__module__.startswith("aiokafka")


class Exhausted(logging.Filter):
    """Lets asyncio's complaint that no connection can be accepted through once in `REPEAT_S`, with what to do.

    asyncio writes it with a traceback at each attempt, many times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_s = -REPEAT_S

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith("socket.accept() out of system resource"):
            return True
        if time.monotonic() - self._logged_s < REPEAT_S:
            return False
        self._logged_s = time.monotonic()
        record.msg = "out of file descriptors: /metrics and /health do not respond; raise `ulimit -n`"
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


class Malformed(logging.Filter):
    """Lets aiohttp's complaint of a request that is none through once in `REPEAT_S`, in one line.

    It writes one with a traceback for each, and whoever reaches the port may send as many as he likes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged_s = -REPEAT_S

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        if time.monotonic() - self._logged_s < REPEAT_S:
            return False
        self._logged_s = time.monotonic()
        record.msg = f"{record.getMessage()}: {type(error).__name__} (not logged again for {REPEAT_S / 60:g} minutes)"
        record.args, record.exc_info, record.exc_text = (), None, None
        return True


class Once(logging.Filter):
    """Drops mode's two accounts of an error that ends the worker."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in str(record.msg) for text in CRASHED)


class Chatter(logging.Filter):
    """Drops what mode logs of services that start and stop, in whose module's name it does so."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")


def quieten(level: str = "INFO") -> None:
    """Put the filters on all of aiokafka's loggers, asyncio's and mode's, and aiokafka's warnings away.

    Args:
        level: of the log; at DEBUG the services of Faust are logged as well.
    """
    if level != "DEBUG":
        for name in OURS:
            logging.getLogger(name).addFilter(Chatter())
        for name in ("faust", "mode"):
            logging.getLogger(name).setLevel(logging.WARNING)
    for complaint in (Unread(), Exhausted()):
        logging.getLogger("asyncio").addFilter(complaint)
    logging.getLogger("aiohttp.server").addFilter(Malformed())
    for name in STRAYS:
        logging.getLogger(name).addFilter(Strays())
    for name in ("driftline.main", "mode.services", "mode.worker", "faust.worker"):
        logging.getLogger(name).addFilter(Once())
    seldom = Seldom()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(seldom)
