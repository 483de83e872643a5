"""KPIs for Prometheus, from what a shard's summary says of them: known and estimated figures apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from driftline.operate.kpi import PARTS


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
