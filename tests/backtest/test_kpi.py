"""KPIs of a backtest: the same figure as live, and the threshold that a search over all of them finds."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from driftline.backtest.kpi import KpiTally
from driftline.backtest.tally import Tally, score_at
from driftline.core.output import Outcome
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.pipelines import pipeline

STEP_MS = 60_000
START_MS = 18_000 * 86_400_000
COSTS = {"false_negative": "amount", "false_positive": 5, "true_positive": 1}


def served(count: int) -> tuple[Pipeline, Shard, list[Outcome]]:
    """Payments with their labels just after them, the large ones more often fraud."""
    chosen = pipeline(kpi={"fraud_loss": {"unit": "EUR", "costs": COSTS, "by": "country"}}, decision={"threshold": 0.5})
    shard, draw, found = Shard(chosen, 0), Random(5), list[Outcome]()
    for number in range(count):
        time_ms, amount = START_MS + number * STEP_MS, draw.choice([5.0, 20.0, 90.0, 240.0])
        event = Source(chosen.topics.events, 0, number, time_ms, None, b"")
        label = Source(str(chosen.topics.labels), 0, number, time_ms, None, b"")
        step(shard, Event(event, time_ms, time_ms, f"e{number}", (amount, draw.choice("AB"))))
        fraud = draw.random() < 0.02 + amount / 500
        made = step(shard, Label(label, time_ms, time_ms + 1, f"e{number}", fraud))
        found += [one for one in made if isinstance(one, Outcome)]
    return chosen, shard, found


def test_the_figure_is_that_of_the_shard() -> None:
    chosen, shard, made = served(300)
    tally = Tally(chosen, None)
    tally.add(made)
    assert tally.kpis is not None
    (found,) = tally.kpis.report(None)
    live = shard.kpis.summary()["fraud_loss"]
    assert (found.total, found.events) == (live["total"]["known"]["total"], 300)
    assert {one.name: one.total for one in found.segments} == {
        name: part["known"]["total"] for name, part in live["by_segment"].items()
    }


def test_the_best_threshold_is_that_of_a_search() -> None:
    chosen, _, made = served(400)
    whole = Tally(chosen, None)
    whole.add(made)
    assert whole.kpis is not None
    (found,) = whole.kpis.report(score_at(np.arange(whole.measure.bins)))
    assert found.best is not None

    def cost(threshold: float) -> float:
        total = 0.0
        for one in made:
            assert one.prediction is not None
            assert one.prediction.value is not None
            assert one.features is not None
            yes, amount = one.prediction.value >= threshold, float(one.features[0] or 0)
            total += (1 if yes else amount) if one.label else (5 if yes else 0)
        return total

    assert found.best.served == found.total == cost(0.5)
    assert found.best.total == pytest.approx(cost(found.best.threshold))
    exact = min(cost(one.prediction.value or 0.0) for one in made if one.prediction)
    assert found.best.total <= 1.02 * exact  # bins of 1% of the odds may cut between two scores
    assert found.best.total < found.best.served


def test_parts_add_up() -> None:
    chosen, _, made = served(200)
    bins = np.arange(len(made))
    whole, first, second = (KpiTally(chosen, len(made)) for _ in range(3))
    whole.add(made, bins)
    first.add(made[:90], bins[:90])
    second.add(made[90:], bins[90:])
    first.merge(second)
    scores = np.linspace(0, 1, len(made))
    assert first.report(scores) == whole.report(scores)
