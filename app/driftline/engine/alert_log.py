"""A line of the worker's log for each alert, once it is committed: what opened, lasts or is over, in its own words.

Alerts are bounded by their episodes, but a worker may have many shards and catch up on months in a minute. So at most
`LINES_MAX` lines are written in `SPAN_S`; those beyond are counted, and the count is a line of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from driftline.core.output import Alert
from driftline.transport.clock import REAL, Clock

log = logging.getLogger(__name__)

LINES_MAX = 30
SPAN_S = 60.0


class AlertLog:
    """Writes the alerts of one shard to the log.

    Attributes:
        left_out: alerts of the present span that got no line.
    """

    def __init__(self, clock: Clock = REAL) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._lines = 0
        self.left_out = 0

    def committed(self, alerts: Sequence[Alert]) -> None:
        """These alerts are readable by everybody from now on."""
        now_s = self._clock.now_s()
        if now_s >= self._until_s:
            self.flush()
            self._until_s, self._lines = now_s + SPAN_S, 0
        for alert in alerts:
            if self._lines >= LINES_MAX:
                self.left_out += 1
                continue
            self._lines += 1
            level = logging.WARNING if alert.severity == "critical" and alert.state != "resolved" else logging.INFO
            log.log(level, "alert %s (%s): %s [%s]", alert.state, alert.severity, alert.sentence, alert.episode)

    def flush(self) -> None:
        """Say how many had no line, if any."""
        if self.left_out:
            log.info(
                "%d more alerts got no line here, of which there are %d a minute; `driftline tail alerts` has all",
                self.left_out,
                LINES_MAX,
            )
            self.left_out = 0
