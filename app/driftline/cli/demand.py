"""Made demand of stores and items, for `driftline demo --case demand` and for tests: what is in it is known exactly.

Each store sells each item every day. Demand is a count around a mean that is a product: of the item and the store, of
the day in the week (its shape differs by item), of a slow trend, of a promotion (announced by nothing, in some weeks of
some items), of a shift of all demand from one day on, and of noise beyond that of counting. Made from a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, sqrt
from random import Random
from typing import Any, Final

DAY_MS: Final = 86_400_000
PROMOTED: Final = 1.6
SHIFTED: Final = 1.5
_WEEKS: Final = (
    (0.8, 0.8, 0.85, 0.95, 1.2, 1.4, 1.0),
    (1.0, 1.05, 1.05, 1.05, 1.1, 0.95, 0.8),
    (0.7, 0.75, 0.8, 0.9, 1.25, 1.5, 1.1),
)
NOISE: Final = 0.12  # standard deviation of the logarithm
PROMOTED_SHARE: Final = 0.06

PIPELINE: Final = """\
# Daily demand by store and item, forecast for the next {horizons} days after each observation.
pipeline: {name}
task: forecast
topics: {{events: {name}.sales}}
delivery: {delivery}
event:
  id: sale_id
  time: day
  features:
    demand: number
    promo: number
    weekday: {{calendar: weekday, cyclic: true}}
    weekend: {{calendar: weekend}}
  context: {{store: key, item: key}}
forecast:
  by: [store, item]
  target: demand
  step: 1d
  horizons: {horizons}
  season: 7
  interval: 0.9
  transform: sqrt           # counts: their noise grows with their size
model: SeasonalRegression()
guard:
  untrained: {{labels_min: 500, action: flag}}                  # observations
  range: {{min: 0, max: 5000, action: clip}}
  step: {{ratio_max: 4, tolerance: 1, settle: 28, action: fallback}}     # a wrong unit, not a promotion
  fallback: [seasonal, last_value]
metrics: [MAE, RMSE]
drift:
  error: ADWIN(delta=0.002)
  warmup_labels: 1500       # observations
"""


class Usual:
    """The mean demand of each store and item by day, without promotions and shifts.

    Args:
        random: what sizes and trends are drawn from.
    """

    def __init__(self, stores: int, items: int, random: Random) -> None:
        self.sizes = [random.lognormvariate(0.0, 0.5) for _ in range(stores)]
        self.means = [random.lognormvariate(2.7, 0.6) for _ in range(items)]
        self.trends = [random.gauss(0.0, 0.0008) for _ in range(items)]

    def mean(self, store: int, item: int, day: int) -> float:
        week = _WEEKS[item % len(_WEEKS)][day % 7]
        return self.sizes[store] * self.means[item] * week * exp(self.trends[item] * day)


def sales(
    stores: int, items: int, days: int, shift_at: int, start_ms: int, seed: int = 7, rise: float = SHIFTED
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The time and the event of each sale, day by day.

    Args:
        shift_at: number of the first day on which all demand is `rise` times as large.
        start_ms: of the first day.
    """
    random = Random(seed)
    usual = Usual(stores, items, random)
    for day in range(days):
        for store in range(stores):
            for item in range(items):
                promo = promoted(store, item, day, seed)
                mean = usual.mean(store, item, day)
                mean *= (PROMOTED if promo else 1.0) * (rise if day >= shift_at else 1.0)
                demand = _count(random, mean * exp(random.gauss(0.0, NOISE)))
                yield (
                    start_ms + day * DAY_MS,
                    {
                        "sale_id": f"{day}-{store}-{item}",
                        "day": start_ms + day * DAY_MS,
                        "store": f"s{store:02d}",
                        "item": f"i{item:02d}",
                        "promo": int(promo),
                        "demand": demand,
                    },
                )


def promoted(store: int, item: int, day: int, seed: int = 7) -> bool:
    """Whole weeks, and all stores of one region together."""
    return Random(f"{seed} {store % 5} {item} {day // 7}").random() < PROMOTED_SHARE


def _count(random: Random, mean: float) -> int:
    """A Poisson draw: by its definition where it is small, by the normal distribution where it is large."""
    if mean > 50:
        return max(0, round(random.gauss(mean, sqrt(mean))))
    product, count, least = random.random(), 0, exp(-mean)
    while product > least:
        product *= random.random()
        count += 1
    return count
