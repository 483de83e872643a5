"""KPIs for people, from what a shard's summary says of them: known and estimated figures apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

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
