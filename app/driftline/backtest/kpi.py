"""KPIs over a backtest: what the decisions of a candidate came to, and would have come to at other thresholds.

Counted of the labelled events that everything else in the report is of, from the same prices as live
(`core.metric.kpi`), in whole millionths: what was served live adds up to the same figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from driftline.core.metric.account import MICRO, Account, add_up
from driftline.core.metric.price import MISSING, OTHER, SEGMENTS_MAX, Plan
from driftline.core.output import Outcome, Priced
from driftline.core.pipeline import Pipeline


class KpiSegment(Struct, frozen=True):
    """Known figures of one segment."""

    name: str
    events: int
    total: float


class KpiThreshold(Struct, frozen=True):
    """The decision threshold that would have been best in hindsight, and what it would have come to.

    Args:
        threshold: above 1, every decision is negative.
        events: labelled events with a score, of which it is.
        served: what these came to as they were served.
    """

    threshold: float
    total: float
    served: float
    events: int


class KpiReport(Struct, frozen=True):
    """One KPI of one candidate.

    Args:
        better: `lower` of costs, `higher` of values less costs.
        events, total: of events with a label; `assumed_events`, `assumed_total`: with an assumed one.
        by_kind: known events and their total, by kind of decision.
        lacking: events without an amount, by why.
    """

    name: str
    unit: str
    better: str
    events: int
    total: float
    assumed_events: int
    assumed_total: float
    by_kind: dict[str, dict[str, float]]
    lacking: dict[str, int]
    by: str | None
    segments: list[KpiSegment]
    best: KpiThreshold | None


class KpiTally:
    """What is kept of a candidate's KPIs.

    Args:
        bins: of scores, where decisions at other thresholds are to be priced; 0 else.
    """

    def __init__(self, pipeline: Pipeline, bins: int) -> None:
        self._plan = Plan(pipeline)
        self._bins = bins
        self._totals = {name: Account() for name in pipeline.kpi}
        self._parts: dict[str, dict[str, Account]] = {name: {} for name in pipeline.kpi}
        # By KPI: (if decided as no, as yes) x bin of the score, of known labels; and what they came to as served.
        self._curves: dict[str, NDArray[np.int64]] = {
            name: np.zeros((2, bins), dtype=np.int64) for name in pipeline.kpi
        }
        self._scored = {name: [0, 0] for name in pipeline.kpi}

    def add(self, outcomes: Sequence[Outcome], bins: NDArray[np.int64] | None) -> None:
        """Take in events that have their label.

        Args:
            bins: of their scores, -1 where there is none.
        """
        places = bins.tolist() if bins is not None and self._bins else [-1] * len(outcomes)
        for outcome, place in zip(outcomes, places, strict=True):
            for priced in outcome.priced:
                if priced.kpi in self._totals:
                    self._add(outcome, priced, place)

    def _add(self, outcome: Outcome, priced: Priced, place: int) -> None:
        name, ended = priced.kpi, outcome.ended
        assumed = ended == "assumed"
        accounts = [self._totals[name]]
        terms, stakes = self._plan.each[name], outcome.stakes
        if terms.by >= 0 and stakes is not None:
            accounts.append(self._part(name, stakes.values[terms.by]))
        for account in accounts:
            account.settle(priced, assumed=assumed)
            if ended == "corrected" and outcome.previous_label is not None:
                account.settle(self._before(outcome, name), assumed=False, times=-1)
        if place >= 0 and not assumed and stakes is not None and not priced.lacking and ended != "corrected":
            self._curve(outcome, priced, place)

    def _part(self, name: str, value: Any) -> Account:
        parts, segment = self._parts[name], MISSING if value is None else str(value)
        if segment not in parts and len(parts) >= SEGMENTS_MAX:
            segment = OTHER
        if segment not in parts:
            parts[segment] = Account()
        return parts[segment]

    def _before(self, outcome: Outcome, name: str) -> Priced:
        """What the event had come to under the label that was corrected."""
        stakes, prediction, label = outcome.stakes, outcome.prediction, outcome.previous_label
        if stakes is None or prediction is None or label is None:
            return Priced(name, "", 0, 0)
        return self._plan.price(name, stakes.values, label, prediction, stakes.decision)

    def _curve(self, outcome: Outcome, priced: Priced, place: int) -> None:
        stakes, prediction, label, name = outcome.stakes, outcome.prediction, outcome.label, priced.kpi
        if stakes is None or prediction is None or label is None:
            return
        both = [self._plan.price(name, stakes.values, label, prediction, yes) for yes in (False, True)]
        if both[0].lacking or both[1].lacking:
            return
        self._curves[name][:, place] += [self._figure(name, one) for one in both]
        self._scored[name][0] += 1
        self._scored[name][1] += self._figure(name, priced)

    def _figure(self, name: str, priced: Priced) -> int:
        return priced.value - priced.cost if self._plan.each[name].form.rising else priced.cost

    def merge(self, other: KpiTally) -> None:
        """Add the tally of another partition."""
        for name, total in self._totals.items():
            self._totals[name] = add_up([total, other._totals[name]])
            for segment, part in other._parts[name].items():
                target = segment if segment in self._parts[name] or len(self._parts[name]) < SEGMENTS_MAX else OTHER
                self._parts[name][target] = add_up([self._parts[name].get(target, Account()), part])
            self._curves[name] += other._curves[name]
            self._scored[name] = [a + b for a, b in zip(self._scored[name], other._scored[name], strict=True)]

    def report(self, score_at: NDArray[np.float64] | None) -> list[KpiReport]:
        """All of it.

        Args:
            score_at: the least score of each bin.
        """
        return [self._report(name, score_at) for name in self._totals]

    def _report(self, name: str, score_at: NDArray[np.float64] | None) -> KpiReport:
        form = self._plan.each[name].form
        values = self._totals[name].values(rising=form.rising)
        known, assumed = values["known"], values["assumed"]
        parts = {
            segment: part.values(rising=form.rising)["known"] for segment, part in sorted(self._parts[name].items())
        }
        return KpiReport(
            name,
            form.unit,
            "higher" if form.rising else "lower",
            known["events"],
            known["total"],
            assumed["events"],
            assumed["total"],
            {kind: {"events": one["events"], "total": one["total"]} for kind, one in known["by_kind"].items()},
            values["lacking"],
            form.by,
            [KpiSegment(segment, one["events"], one["total"]) for segment, one in parts.items()],
            None if score_at is None else self._best(name, score_at),
        )

    def _best(self, name: str, score_at: NDArray[np.float64]) -> KpiThreshold | None:
        """Of all thresholds that bins distinguish, and of deciding nothing as yes."""
        events, served = self._scored[name]
        if not events:
            return None
        no, yes = self._curves[name]
        totals = np.concatenate([[0], np.cumsum(no)]) + np.concatenate([np.cumsum(yes[::-1])[::-1], [0]])
        place = int(totals.argmax() if self._plan.each[name].form.rising else totals.argmin())
        threshold = float(score_at[place]) if place < len(score_at) else math.nextafter(1.0, 2.0)
        return KpiThreshold(threshold, float(totals[place]) / MICRO, served / MICRO, events)
