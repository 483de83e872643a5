"""KPIs for Prometheus, from what a shard's summary says of them: known and estimated figures apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from driftline.operate.kpi import PARTS
from driftline.operate.series import Seen, Series, Values, each, gauge, one


def _kpi(name: str, text: str, read: Callable[[Mapping[str, Any]], Values], *labels: str) -> Series[Seen]:
    """A metric of every KPI."""

    def of_all(seen: Seen) -> Values:
        for kpi, summary in seen.summary.get("kpi", {}).items():
            for values, number in read(summary):
                yield (kpi, summary["unit"], *values), number

    return gauge(name, text, of_all, "kpi", "unit", *labels)


def _parts(what: str) -> Callable[[Mapping[str, Any]], Values]:
    return lambda kpi: each({part: kpi["total"][part][what] for part in PARTS})


def _latest_span(kpi: Mapping[str, Any]) -> Values:
    ended = [span for span in kpi["spans"] if span["ended"]]
    return one(ended[-1]["known"]["total"]) if ended else []


def _by_kind(kpi: Mapping[str, Any]) -> Values:
    return each({kind: events["events"] for kind, events in kpi["total"]["known"]["by_kind"].items()})


def _by_segment(kpi: Mapping[str, Any]) -> Values:
    return each({segment: account["known"]["total"] for segment, account in kpi.get("by_segment", {}).items()})


KPIS: Final = (
    _kpi(
        "driftline_kpi",
        "KPIs since the first event: known and assumed from labels; waiting and expired are estimates.",
        _parts("total"),
        "part",
    ),
    _kpi("driftline_kpi_events", "Events behind these figures.", _parts("events"), "part"),
    _kpi("driftline_kpi_decisions", "Events with a label, by kind of decision.", _by_kind, "decision"),
    _kpi("driftline_kpi_by_segment", "Known figures of KPIs by segment.", _by_segment, "segment"),
    _kpi("driftline_kpi_span", "Known figures of the latest span that ended.", _latest_span),
    _kpi(
        "driftline_kpi_bound",
        "Target and limit of a span, from the pipeline file.",
        lambda kpi: each({bound: kpi[bound] for bound in ("target", "limit")}),
        "bound",
    ),
    _kpi(
        "driftline_kpi_events_without_amount",
        "Events with a label and no usable amount.",
        lambda kpi: each(kpi["total"]["lacking"]),
        "reason",
    ),
)
"""The metrics of pipelines with KPIs."""
