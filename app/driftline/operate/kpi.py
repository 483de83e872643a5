"""KPIs for people and for Prometheus, from what a shard's summary says of them: known and estimated figures apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from driftline.core.alert.kpi import span_text
from driftline.core.wording import money

PARTS: Final = ("known", "assumed", "waiting", "expired")
"""What is known of events: a label came, one was assumed, one may still come, none came."""


class _Sum(Struct):
    """How many events, and what they came to."""

    events: int
    total: float | None


class _Account(Struct):
    known: _Sum
    assumed: _Sum
    waiting: _Sum
    expired: _Sum
    lacking: dict[str, int]


class _Span(_Account):
    start_ms: int
    ended: bool


class KpiNote(Struct):
    """A KPI in the note of a journal entry, as far as it is shown."""

    unit: str
    target: float | None
    limit: float | None
    span_ms: int
    total: _Account
    spans: list[_Span]


class KpiSeries:
    """The series of pipelines with KPIs."""

    def __init__(self) -> None:
        of = ["partition", "kpi", "unit"]
        self._total = GaugeMetricFamily(
            "driftline_kpi",
            "KPIs since the first event: known and assumed from labels; waiting and expired are estimates.",
            labels=[*of, "part"],
        )
        self._events = GaugeMetricFamily("driftline_kpi_events", "Events behind these figures.", labels=[*of, "part"])
        self._kinds = GaugeMetricFamily(
            "driftline_kpi_decisions", "Events with a label, by kind of decision.", labels=[*of, "decision"]
        )
        self._by = GaugeMetricFamily(
            "driftline_kpi_by_segment", "Known figures of KPIs by segment.", labels=[*of, "segment"]
        )
        self._span = GaugeMetricFamily("driftline_kpi_span", "Known figures of the latest span that ended.", labels=of)
        self._bounds = GaugeMetricFamily(
            "driftline_kpi_bound", "Target and limit of a span, from the pipeline file.", labels=[*of, "bound"]
        )
        self._lacking = GaugeMetricFamily(
            "driftline_kpi_events_without_amount", "Events with a label and no usable amount.", labels=[*of, "reason"]
        )

    def add(self, partition: str, kpis: Mapping[str, Any]) -> None:
        for name, kpi in kpis.items():
            of, total = [partition, name, kpi["unit"]], kpi["total"]
            for part in PARTS:
                self._events.add_metric([*of, part], total[part]["events"])
                if total[part]["total"] is not None:
                    self._total.add_metric([*of, part], total[part]["total"])
            for kind, one in total["known"]["by_kind"].items():
                self._kinds.add_metric([*of, kind], one["events"])
            for why, count in total["lacking"].items():
                self._lacking.add_metric([*of, why], count)
            for segment, one in kpi.get("by_segment", {}).items():
                self._by.add_metric([*of, segment], one["known"]["total"])
            if ended := [span for span in kpi["spans"] if span["ended"]]:
                self._span.add_metric(of, ended[-1]["known"]["total"])
            for bound in ("target", "limit"):
                if kpi[bound] is not None:
                    self._bounds.add_metric([*of, bound], kpi[bound])

    def families(self) -> Iterator[Metric]:
        if self._events.samples:
            yield from (
                self._total, self._events, self._kinds, self._by, self._span, self._bounds, self._lacking,
            )  # fmt: skip


def kpi_lines(name: str, kpi: Mapping[str, Any]) -> Iterator[str]:
    """A KPI in sentences: in total, then by its latest spans."""
    yield f"{name}: {_figures(kpi['total'], kpi['unit'])}"
    bounds = [f"{bound} {money(kpi[bound], kpi['unit'])}" for bound in ("target", "limit") if kpi[bound] is not None]
    for span in kpi["spans"][-3:]:
        state = "" if span["ended"] else " (labels still to come)"
        against = f"; {', '.join(bounds)}" if bounds else ""
        yield f"{name} {span_text(span['start_ms'], kpi['span_ms'])}{state}: {_figures(span, kpi['unit'])}{against}"


def _figures(account: Mapping[str, Any], unit: str) -> str:
    """What is known, then what is not, each with the number of events behind it."""
    known = account["known"]
    parts = [f"{money(known['total'], unit)} known from {known['events']:,} labels"]
    if (assumed := account["assumed"])["events"]:
        parts.append(f"{money(assumed['total'], unit)} by {assumed['events']:,} assumed labels")
    for part, what in (("waiting", "that wait for a label"), ("expired", "that never got one")):
        one = account[part]
        if one["events"]:
            amount = "no estimate" if one["total"] is None else f"estimated {money(one['total'], unit)}"
            parts.append(f"{amount} for {one['events']:,} events {what}")
    parts += [f"{count:,} events without an amount ({why})" for why, count in account["lacking"].items()]
    return "; ".join(parts)
