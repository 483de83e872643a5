"""What one event costs and brings under a KPI, known by its label or estimated by its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from driftline.core.metric.account import AMOUNT_MAX, MICRO, Account
from driftline.core.output import Prediction, Priced
from driftline.core.record import FeatureValue, LabelValue
from driftline.core.task import task_of

if TYPE_CHECKING:
    from driftline.core.pipeline import KpiForm, Pipeline, Price
    from driftline.core.record import Event
    from driftline.core.task.consequence import Consequences

SEGMENTS_MAX: Final = 20
OTHER, MISSING = "(other)", "(missing)"


class _Price(Struct, frozen=True):
    """A price, with the place of its field in the layout; -1 without a field."""

    place: int
    times: float
    plus: float


class Terms(Struct, frozen=True):
    """A KPI, as it is computed."""

    form: KpiForm
    costs: Mapping[str, _Price]
    values: Mapping[str, _Price]
    by: int


class Plan:
    """How the events of a pipeline are priced.

    Attributes:
        fields: that prices and segments are of.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.consequences: Consequences = task_of(pipeline.task).consequences
        event, kpis = pipeline.event, pipeline.kpi
        self.fields = tuple(dict.fromkeys(name for form in kpis.values() for name in form.fields))
        features, context = list(event.features), list(event.context)
        self._places = [
            (True, features.index(name)) if name in event.features else (False, context.index(name))
            for name in self.fields
        ]
        self.wait_ms = pipeline.label.wait_ms if pipeline.label is not None else 0
        self.each = {name: self._terms(form) for name, form in kpis.items()}

    def _terms(self, form: KpiForm) -> Terms:
        def priced(prices: Mapping[str, Price]) -> dict[str, _Price]:
            return {
                kind: _Price(-1 if price.field is None else self.fields.index(price.field), price.times, price.plus)
                for kind, price in prices.items()
            }

        by = -1 if form.by is None else self.fields.index(form.by)
        return Terms(form, priced(form.costs), priced(form.values), by)

    def read(self, event: Event) -> tuple[FeatureValue, ...]:
        """The fields of an event; None where one is missing, whatever stands in for it before the model."""
        features, context, missing = event.features, event.context, event.missing
        return tuple(
            [
                (None if missing >> place & 1 else features[place]) if of_features else context[place]
                for of_features, place in self._places
            ]
        )

    def price(
        self, name: str, values: Sequence[FeatureValue], label: LabelValue, prediction: Prediction, yes: bool | None
    ) -> Priced:
        """What an event came to under a KPI.

        Args:
            values: of `fields`.
            yes: the decision.
        """
        came = self.consequences.of(label, prediction, yes)
        if came is None:
            return Priced(name, "", 0, 0)
        kind, size = came
        terms = self.each[name]
        cost = self._amount(terms.costs.get(kind), values, size)
        value = self._amount(terms.values.get(kind), values, size)
        if isinstance(cost, str):
            return Priced(name, kind, 0, 0, lacking=cost)
        if isinstance(value, str):
            return Priced(name, kind, 0, 0, lacking=value)
        return Priced(name, kind, round(cost), round(value))

    def estimate(self, name: str, values: Sequence[FeatureValue], prediction: Prediction, yes: bool | None) -> Priced:
        """What an event may come to, by what its model says; `estimated` is false where it says nothing."""
        likely = self.consequences.likely(prediction, yes)
        if likely is None:
            return Priced(name, "", 0, 0)
        terms = self.each[name]
        totals = [0.0, 0.0]
        for kind, probability in likely:
            for place, prices in enumerate((terms.costs, terms.values)):
                amount = self._amount(prices.get(kind), values, 1.0)
                if isinstance(amount, str):
                    return Priced(name, "", 0, 0, lacking=amount)
                totals[place] += probability * amount
        return Priced(name, "", round(totals[0]), round(totals[1]), estimated=True)

    def _amount(self, price: _Price | None, values: Sequence[FeatureValue], size: float) -> float | str:
        """In millionths; or why there is none."""
        if price is None:
            return 0.0
        amount = price.plus
        if price.place >= 0:
            field, value = self.fields[price.place], values[price.place]
            if value is None:
                return f"{field} is missing"
            if isinstance(value, bool | str) or not isfinite(value):
                return f"{field} is not a number"
            if value < 0:
                return f"{field} is negative"
            amount += price.times * value
        if not abs(amount * size) <= AMOUNT_MAX:
            return "the amount is too large"
        return amount * size * MICRO

    def segment(self, terms: Terms, values: Sequence[FeatureValue], parts: Mapping[str, Account]) -> str | None:
        """The segment of an event; None where the KPI has none."""
        if terms.by < 0:
            return None
        value = values[terms.by]
        name = MISSING if value is None else str(value)
        return name if name in parts or len(parts) < SEGMENTS_MAX else OTHER
