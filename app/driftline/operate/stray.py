"""A bound on what the log says of records that are ignored, or delivered to no one."""

from __future__ import annotations

import logging
import time

REPEAT_S = 600.0
STRAYS_MAX = 10


class Strays(logging.Filter):
    """Lets `STRAYS_MAX` warnings or errors of a kind through in `REPEAT_S`; its kind is the text, and the shard or
    webhook that it is of.

    Each names a record of a topic that is ignored or not delivered, and whoever may write there may write as many as he
    likes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or not isinstance(record.args, tuple) or not record.args:
            return True
        kind, now_s = (str(record.msg), str(record.args[0])), time.monotonic()
        began_s, count = self._logged.get(kind, (now_s, 0))
        if now_s - began_s >= REPEAT_S:
            began_s, count, before = now_s, 0, count - STRAYS_MAX
            if before > 0:
                record.msg, record.args = f"{record.getMessage()} (after {before} more like it)", ()
        self._logged[kind] = (began_s, count + 1)
        if count + 1 == STRAYS_MAX:
            more = f"(more like it are not logged for {REPEAT_S / 60:g} minutes)"
            record.msg, record.args = f"{record.getMessage()} {more}", ()
        return count < STRAYS_MAX
