"""Learning rates inside a model: found, and raised for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from river import optim

from driftline.core.river.seed import parts


class Boosted(optim.base.Scheduler):
    """A learning rate that is multiplied for its first `count` steps from now on.

    Args:
        rate: the schedule that it takes the place of.
        factor: what the rate is multiplied by.
        count: for how many steps.
    """

    def __init__(self, rate: optim.base.Scheduler, factor: float, count: int) -> None:
        self.rate = rate
        self.factor = factor
        self.count = count
        self.begun: int | None = None

    def get(self, t: int) -> float:
        if self.begun is None:
            self.begun = t
        rate = float(self.rate.get(t))
        return rate * self.factor if t < self.begun + self.count else rate


def boost(model: Any, factor: float, count: int) -> int:
    """Multiply every learning rate inside a model, for a while; returns how many there are."""
    found = 0
    for part, name in rates(model):
        rate = getattr(part, name)
        setattr(part, name, Boosted(rate.rate if isinstance(rate, Boosted) else rate, factor, count))
        found += 1
    return found


def rates(model: Any) -> Iterator[tuple[Any, str]]:
    """Every learning rate inside a model: whose it is, and the attribute's name."""
    owners = [part for _, part in parts(model) if not isinstance(part, Boosted)]
    for part in owners:
        for name, value in sorted(getattr(part, "__dict__", {}).items()):
            if isinstance(value, optim.base.Scheduler):
                yield part, name
