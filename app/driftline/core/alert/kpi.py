"""The wording of alerts about KPIs: in the KPI's own name and unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from driftline.core.alert.condition import Condition
from driftline.core.alert.episode import Sign
from driftline.core.duration import spoken
from driftline.core.timestamp import written
from driftline.core.wording import money

if TYPE_CHECKING:
    from driftline.core.metric.kpi import Judged
    from driftline.core.pipeline import Pipeline

DAY_MS: Final = 86_400_000


def span_text(start_ms: int, span_ms: int) -> str:
    """A span of a KPI, as text that follows a sentence: `on 2018-06-03`, `in the 1 hour from 2018-06-03 14:00 UTC`."""
    if span_ms == DAY_MS:
        return f"on {written(start_ms, '%Y-%m-%d')}"
    return f"in the {spoken(span_ms)} from {written(start_ms, '%Y-%m-%d %H:%M')} UTC"


def kpi_sign(pipeline: Pipeline, found: Judged) -> Sign:
    """A KPI is beyond its limit, or missed its target, in a span."""
    form, name = found.form, found.name.replace("_", " ")
    verb = "came to" if found.ended else "is already"
    side = "below" if form.rising else "above"
    sentence = (
        f"The {name} of {pipeline.name} {span_text(found.start_ms, form.span_ms)} {verb} "
        f"{money(found.total, form.unit)}, {side} its {found.passed} of {money(found.bound, form.unit)}."
    )
    if found.waiting:
        events = "event of that span has" if found.waiting == 1 else "events of that span have"
        sentence += f" {found.waiting:,} {events} no label yet."
    evidence: dict[str, object] = {
        "signal": found.name, "bound": found.passed, "value": found.total, "limit": found.bound, "unit": form.unit,
        "start_ms": found.start_ms, "span_ms": form.span_ms, "count": found.known, "waiting": found.waiting,
    }  # fmt: skip
    calm = f"The {name} of {pipeline.name} has stayed within its {found.passed}"
    return Condition.KPI.sign("critical" if found.passed == "limit" else "warning", sentence, calm, evidence)
