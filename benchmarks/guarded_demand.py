"""What a wrong unit does to orders, with and without a guard: made demand, in pieces until half way, then in pallets.

    python -m benchmarks.guarded_demand [--days 200] [--stores 3] [--items 6] [--per-pallet 48]

Each order is the forecast of the next day. It is held against what was really sold, in pieces; a factor is counted of
sales of 5 pieces and more. The sales, and so the table, are made from a seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import yaml

from benchmarks.machine import versions
from driftline.cli.demand import DAY_MS, PIPELINE, sales
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, Decided, Score
from driftline.core.pipeline import parse_pipeline
from driftline.core.record import Event, Source
from driftline.core.shard.state import Shard

TOLD_MIN = 5  # pieces, below which a factor says little
WRONG = 10.0  # times
HOLD = {"hold": {"wait": "2d", "then": "fallback"}}


def pipelines() -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compared: the demo's pipeline without its guard, with it, and with a person who is asked."""
    document: dict[str, Any] = yaml.safe_load(PIPELINE.format(name="demand", horizons=14, delivery="exactly_once"))
    guard = document.pop("guard")
    yield "no guard", document
    yield "the guard of examples/demand", {**document, "guard": guard}
    yield (
        "the same, with step: hold",
        {**document, "guard": {**guard, **HOLD, "step": {**guard["step"], "action": "hold"}}},
    )


class Orders:
    """What was ordered after the fault, and what was sold."""

    def __init__(self) -> None:
        self.factors: list[float] = []
        self.errors: list[float] = []
        self.none = 0

    def add(self, forecast: float | None, sold: float) -> None:
        if forecast is None:
            self.none += 1
            return
        self.errors.append(abs(forecast - sold))
        if sold >= TOLD_MIN:
            less = max(forecast, 0.01)
            self.factors.append(max(less / sold, sold / less))

    def row(self) -> str:
        wrong = sum(factor > WRONG for factor in self.factors) / max(len(self.factors), 1)
        mean = sum(self.errors) / max(len(self.errors), 1)
        return f"{len(self.errors):6,} {self.none:5,} {mean:9.2f} {wrong:8.1%} {max(self.factors, default=0.0):9.1f}"


def run(document: dict[str, Any], asked: argparse.Namespace, name: str) -> None:
    """Fold the sales, and print what came of them."""
    shard, half = Shard(parse_pipeline(document), 0), asked.days // 2
    next_day: dict[str, dict[int, float | None]] = {}  # by series and day
    spans = {"before": Orders(), "first 28 days": Orders(), "later": Orders()}
    guard, held = document.get("guard"), 0
    seen: dict[str, str] = {}
    beyond, blank = 0, (None,) * (len(shard.pipeline.event.features) - 2)  # calendar features are computed
    for offset, (time_ms, sale) in enumerate(sales(asked.stores, asked.items, asked.days, asked.days + 1, 0)):
        day, series = time_ms // DAY_MS, f"{sale['store']} {sale['item']}"
        sold = float(sale["demand"])
        given = sold / asked.per_pallet if day >= half else sold
        known = next_day.setdefault(series, {})
        if day in known:
            span = "before" if day <= half else "first 28 days" if day <= half + 28 else "later"
            spans[span].add(known.pop(day), sold)
        source = Source("demand.sales", 0, offset, time_ms, None, b"{}")
        features = (given, float(sale["promo"]), *blank)
        context = (sale["store"], sale["item"])
        event = Event(source, time_ms, time_ms, features=features, event_id=sale["sale_id"], context=context)
        for made in step(shard, event, Oracle()).outputs:
            if isinstance(made, Score | Decided):
                held += made.guard == "held"
                if made.forecast is not None:
                    if isinstance(made, Score):
                        known[day + 1] = made.forecast.values[0]
                    numbers = [*made.forecast.values, *made.forecast.lower, *made.forecast.upper]
                    if guard is not None:
                        low, high = guard["range"]["min"], guard["range"]["max"]
                        beyond += sum(one is not None and not low <= one <= high for one in numbers)
                elif made.guard == "held":
                    known[day + 1] = None
            elif isinstance(made, Alert) and day >= half and made.kind == "guard":
                seen.setdefault(str(made.evidence["signal"]), f"day {day - half}: {made.sentence}")
    print(f"\n{name}: held {held:,}, served values and bounds beyond the range {beyond:,}")
    for span, orders in spans.items():
        print(f"  {span:14} {orders.row()}")
    if guard is not None:
        print(f"  trips: {shard.guarded()['tripped']}")
    for sentence in seen.values() or ("nothing",):
        print(f"  a planner saw: {sentence}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--stores", type=int, default=3)
    parser.add_argument("--items", type=int, default=6)
    parser.add_argument("--per-pallet", type=float, default=48.0)
    asked = parser.parse_args()
    print(f"{versions()}\n{'':16} orders  none   mean err  >10 times    worst")
    for name, document in pipelines():
        run(document, asked, name)


if __name__ == "__main__":
    main()
