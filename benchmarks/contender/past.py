"""The six history features of `benchmarks.case` as one writes them by hand: a dict of cards, a deque a window."""

from __future__ import annotations

from collections import deque
from typing import Final

MINUTE_MS: Final = 60_000


class _Window:
    """Values of the last while, with their count and sum."""

    __slots__ = ("over_ms", "total", "values")

    def __init__(self, minutes: int) -> None:
        self.over_ms = minutes * MINUTE_MS
        self.values: deque[tuple[int, float]] = deque()
        self.total = 0.0

    def add(self, time_ms: int, value: float) -> None:
        self.values.append((time_ms, value))
        self.total += value

    def forget(self, time_ms: int) -> None:
        values, least_ms = self.values, time_ms - self.over_ms
        while values and values[0][0] <= least_ms:
            self.total -= values.popleft()[1]


class _Card:
    __slots__ = ("labels", "last_ms", "m1", "m5", "m15")

    def __init__(self) -> None:
        self.m1, self.m5, self.m15, self.labels = _Window(1), _Window(5), _Window(15), _Window(5)
        self.last_ms: int | None = None


class Past:
    """What is known of each card; in memory alone, without bounds, and lost when the process ends."""

    def __init__(self) -> None:
        self.cards: dict[int, _Card] = {}

    def complete(self, features: dict[str, float], card: int, time_ms: int) -> None:
        """Add the features, and the event to the past."""
        known = self.cards.get(card)
        if known is None:
            known = self.cards[card] = _Card()
        windows = (known.m1, known.m5, known.m15)
        for window in (*windows, known.labels):
            window.forget(time_ms)
        m5, m15, labels = known.m5, known.m15, known.labels
        features["count_1m"] = len(known.m1.values)
        features["count_5m"] = len(m5.values)
        features["mean_5m"] = m5.total / len(m5.values) if m5.values else 0.0
        features["mean_15m"] = m15.total / len(m15.values) if m15.values else 0.0
        features["since"] = 0.0 if known.last_ms is None else (time_ms - known.last_ms) / 1000
        features["label_5m"] = labels.total / len(labels.values) if labels.values else 0.0
        for window in windows:
            window.add(time_ms, features["x1"])
        known.last_ms = time_ms

    def label(self, card: int, time_ms: int, label: float) -> None:
        """A label has come."""
        self.cards[card].labels.add(time_ms, label)
