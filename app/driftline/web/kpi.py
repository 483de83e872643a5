"""KPIs as the page shows them: of all shards together, with what is known and what is estimated never added up.

Each shard judges its own part against target and limit, so those are shown beside the figures of a shard's span only
where there is one shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from driftline.web.record import NAME_MAX, NAMES_MAX, PARTS, Account, Kpi, Span, Sum, cut

SPANS_SHOWN = 8


def kpis_of(notes: Iterable[Mapping[str, Kpi]]) -> list[dict[str, Any]]:
    """All KPIs.

    Args:
        notes: of each shard, its KPIs by name.
    """
    by_name: dict[str, list[Kpi]] = {}
    for note in notes:
        for name, kpi in list(note.items())[:NAMES_MAX]:
            by_name.setdefault(name, []).append(kpi)
    return [_kpi(name, kpis) for name, kpis in by_name.items()]


def _kpi(name: str, kpis: list[Kpi]) -> dict[str, Any]:
    first = kpis[0]
    spans: dict[int, list[Span]] = {}
    segments: dict[str, list[Account]] = {}
    for kpi in kpis:
        for span in kpi.spans:
            spans.setdefault(span.start_ms, []).append(span)
        for segment, account in kpi.by_segment.items():
            segments.setdefault(segment, []).append(account)
    shown = sorted(segments, key=lambda segment: -abs(_added([one.known for one in segments[segment]]).total or 0))
    return {
        "name": cut(name, NAME_MAX),
        "unit": cut(first.unit, NAME_MAX),
        "better": cut(first.better, NAME_MAX),
        "span_ms": first.span_ms,
        "bounds": {"target": first.target, "limit": first.limit},
        "judged": len(kpis) == 1,
        "total": _figures([kpi.total for kpi in kpis]),
        "spans": [
            {"start_ms": start_ms, "ended": all(span.ended for span in spans[start_ms]), **_figures(spans[start_ms])}
            for start_ms in sorted(spans)[-SPANS_SHOWN:]
        ],
        "by": cut(first.by, NAME_MAX),
        "segments": [{"name": cut(one, NAME_MAX), **_figures(segments[one])} for one in shown[:NAMES_MAX]],
    }


def _figures(accounts: Iterable[Account]) -> dict[str, Any]:
    accounts = list(accounts)
    added = {part: _added([getattr(account, part) for account in accounts]) for part in PARTS}
    lacking = sum(count for account in accounts for count in account.lacking.values())
    return {part: [one.events, one.total] for part, one in added.items()} | {"lacking": lacking}


def _added(sums: Iterable[Sum]) -> Sum:
    """The same part of several shards; without a total where one of them has events and none."""
    sums = list(sums)
    unknown = any(one.total is None and one.events for one in sums)
    return Sum(sum(one.events for one in sums), None if unknown else sum(one.total or 0.0 for one in sums))
