"""Whether Kafka is available to this worker. Logged once when it becomes unavailable and once when it is back."""

from __future__ import annotations

import logging

from driftline.transport.clock import REAL, Clock

log = logging.getLogger(__name__)

PATIENCE_S = 1.0  # a broker that is restarted in turn with others is not worth a word


class Outage:
    """The one outage that may be going on, and how many there were.

    Args:
        clock: measures how long.

    Attributes:
        count: outages so far, the one going on included.
    """

    def __init__(self, clock: Clock = REAL) -> None:
        self._clock = clock
        self.count = 0
        self._since_s: float | None = None
        self._logged = False
        self._before_s = 0.0

    @property
    def on(self) -> bool:
        """Whether Kafka does not answer now."""
        return self._since_s is not None

    @property
    def total_s(self) -> float:
        """How long it did not answer, all outages together."""
        return self._before_s + self._lasts_s()

    def failed(self, error: BaseException | str) -> None:
        """Kafka did not answer."""
        if self._since_s is None:
            self._since_s = self._clock.now_s()
            self.count += 1
        if not self._logged and self._lasts_s() >= PATIENCE_S:
            self._logged = True
            log.warning("Kafka is unavailable: %s. Not ready; nothing is lost, and the worker keeps retrying", error)

    def answered(self) -> None:
        """Kafka answers."""
        if self._since_s is None:
            return
        lasted_s = self._lasts_s()
        self._before_s += lasted_s
        self._since_s = None
        if self._logged:
            self._logged = False
            log.warning("Kafka is available again after %.0f s", lasted_s)

    def _lasts_s(self) -> float:
        return 0.0 if self._since_s is None else self._clock.now_s() - self._since_s
