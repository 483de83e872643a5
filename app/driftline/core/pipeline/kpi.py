"""KPIs as a pipeline file declares them: what each kind of decision costs and brings, in a unit of the business.

kpi:
  fraud_loss:
    unit: EUR
    costs: {false_negative: TX_AMOUNT, false_positive: 5, true_positive: 5}
    by: COUNTRY
    target: 300
    limit: 500
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from driftline.core.error import Problem
from driftline.core.notation import Duration
from driftline.core.pipeline.feature import CalendarFeature, Feature, Form, HistoryFeature
from driftline.core.task import find_task

KPIS_MAX: Final = 10
_AMOUNT_MAX: Final = 1e9
SPAN_MS_MIN: Final = 60_000

Factor: TypeAlias = Annotated[float, Field(ge=0, le=_AMOUNT_MAX)]


class Price(Form):
    """What one decision costs, or brings: `plus`, and a field of the event `times` a factor."""

    field: str | None = Field(default=None, description="a number of the event: a feature, or of event.context")
    times: Factor = Field(default=1.0, description="factor of the field, as in 0.02")
    plus: Factor = Field(default=0.0, description="a fixed amount, in the KPI's unit")


_PRICE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _AMOUNT_MAX},
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {
                "field": {"type": ["string", "null"]},
                "times": {"type": "number", "minimum": 0, "maximum": _AMOUNT_MAX},
                "plus": {"type": "number", "minimum": 0, "maximum": _AMOUNT_MAX},
            },
            "additionalProperties": False,
        },
    ]
}


def _read_price(value: object) -> object:
    if isinstance(value, Price):
        return value
    if isinstance(value, str):
        return Price(field=value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value <= _AMOUNT_MAX:
            raise ValueError(f"must be from 0 to {_AMOUNT_MAX:,.0f}; a gain belongs in `values`, a loss in `costs`")
        return Price(plus=float(value))
    if isinstance(value, dict):
        return Price.model_validate(value)
    raise ValueError("write a number, a field of the event, or {field: NAME, times: FACTOR, plus: AMOUNT}")


Prices: TypeAlias = dict[str, Annotated[Price, BeforeValidator(_read_price), WithJsonSchema(_PRICE_SCHEMA)]]


class KpiForm(Form):
    """What decisions cost and bring, and how much of it is wanted."""

    unit: Annotated[str, Field(min_length=1, max_length=20, pattern=r"^[^\s{}][^\r\n{}]*$")] = Field(
        description="unit of the figures, as in EUR or orders"
    )
    costs: Prices = Field(
        default_factory=dict,
        description="what each kind of decision costs. binary, anomaly: true_positive, false_positive, "
        "false_negative, true_negative; multiclass: right, wrong; regression, forecast: over, under (a unit of "
        "difference); recommend: reward. A number, a field of the event, or {field, times, plus}",
    )
    values: Prices = Field(default_factory=dict, description="what each kind of decision brings, likewise")
    by: str | None = Field(default=None, description="a string or boolean of the event: break the KPI down by it")
    span_ms: Annotated[Duration, Field(ge=SPAN_MS_MIN)] = Field(
        default=86_400_000, alias="span", description="span of event time that target and limit are for, in UTC"
    )
    target: float | None = Field(
        default=None,
        description="what a span should come to: at most this for costs, at least this for values less costs. "
        "Judged once every label of the span has come or its wait is over",
    )
    limit: float | None = Field(default=None, description="a limit of the same kind, for a critical alert")
    horizon: Annotated[int, Field(ge=1)] = Field(default=1, description="task forecast: which forecast is acted on")

    @property
    def rising(self) -> bool:
        """Whether more is better: something is brought, not only lost."""
        return bool(self.values)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the event that it reads."""
        prices = [price.field for price in (*self.costs.values(), *self.values.values()) if price.field is not None]
        return tuple(dict.fromkeys([*prices, *([self.by] if self.by is not None else [])]))


def check_kpi(draft: Mapping[str, Any], _: Any = None) -> Iterator[Problem]:
    """Every fault of the KPIs that can be seen without the model."""
    kpis: Mapping[str, KpiForm] = draft.get("kpi") or {}
    task, event = find_task(draft.get("task")), draft.get("event")
    if len(kpis) > KPIS_MAX:
        yield Problem("kpi", len(kpis), f"has too many KPIs; at most {KPIS_MAX}")
    if kpis and task is not None and not task.ahead and "label" in draft and draft["label"] is None:
        yield Problem("kpi", None, "needs labels, which say what a decision came to: declare `label`, or remove it")
        return
    for name, form in kpis.items():
        place = f"kpi.{name}"
        if not name.isprintable() or not 1 <= len(name) <= 60:
            yield Problem("kpi", name[:60], "a KPI's name has 1 to 60 printable characters")
        if not form.costs and not form.values:
            yield Problem(place, None, "prices nothing: add costs or values")
        if task is not None:
            yield from _kinds(place, form, task.consequences.kinds, task.name)
            if task.decides and not task.probability and "decision" in draft and draft["decision"] is None:
                yield Problem(place, None, "needs `decision`, which says which scores are acted on")
            if form.horizon > 1 and not task.ahead:
                yield Problem(f"{place}.horizon", form.horizon, f"is for task forecast; remove it for {task.name}")
            forecast = draft.get("forecast")
            if task.ahead and forecast is not None and form.horizon > forecast.horizons:
                text = f"is beyond forecast.horizons = {forecast.horizons}"
                yield Problem(f"{place}.horizon", form.horizon, text)
        if form.target is not None and form.limit is not None:
            beyond = form.target < form.limit if form.rising else form.target > form.limit
            if beyond:
                side = "below" if form.rising else "above"
                yield Problem(f"{place}.target", form.target, f"is {side} the limit, so it could never be missed alone")
        if event is not None:
            yield from _fields(place, form, {**event.features, **event.context})


def _kinds(place: str, form: KpiForm, kinds: tuple[str, ...], task: str) -> Iterator[Problem]:
    for section, prices in (("costs", form.costs), ("values", form.values)):
        for kind in prices:
            if kind not in kinds:
                close = get_close_matches(kind, kinds, n=1, cutoff=0.6)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                text = f"is not a kind of decision of task {task}: {', '.join(kinds)}{hint}"
                yield Problem(f"{place}.{section}.{kind}", None, text)


def _fields(place: str, form: KpiForm, declared: Mapping[str, Any]) -> Iterator[Problem]:
    for section, prices in (("costs", form.costs), ("values", form.values)):
        for kind, price in prices.items():
            if price.field is not None:
                yield from _field(f"{place}.{section}.{kind}", price.field, declared, ("number",))
    if form.by is not None:
        yield from _field(f"{place}.by", form.by, declared, ("string", "boolean", "key"))


def _field(place: str, name: str, declared: Mapping[str, Any], types: tuple[str, ...]) -> Iterator[Problem]:
    found = declared.get(name)
    if found is None:
        close = get_close_matches(name, declared, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else f"; declared: {', '.join(list(declared)[:30])}"
        yield Problem(place, name, f"is neither a declared feature nor in event.context{hint}")
    elif isinstance(found, HistoryFeature | CalendarFeature):
        yield Problem(place, name, "is computed; use a field of the event")
    elif isinstance(found, Feature) and found.type not in types:
        yield Problem(place, name, f"is a {found.type}; needs a {' or '.join(types)}")


def kpi_fields(draft: Mapping[str, Any]) -> tuple[str, ...]:
    """The declared fields that KPIs read."""
    kpis: Mapping[str, KpiForm] = draft.get("kpi") or {}
    return tuple(dict.fromkeys(name for form in kpis.values() for name in form.fields))
