"""`driftline review`: list what the guard holds, and send decisions about it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from driftline.cli.command.control import Where
from driftline.cli.control import send_command
from driftline.cli.echo import show as echo_found
from driftline.cli.setting import pipeline_of, settings_of
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.timestamp import written
from driftline.core.wording import escaped
from driftline.kafka.broker import KafkaBroker
from driftline.operate.review import open_reviews, value_of

FEATURES_SHOWN = 6
HORIZONS_SHOWN = 7
COLUMNS = 80


def show(where: Where, as_json: bool) -> None:
    """What `driftline review list` does."""
    found = _open(where)[1]
    echo_found(found, lambda: listed(found), as_json=as_json)


def listed(found: list[dict[str, Any]]) -> Iterator[str]:
    """The reviews that wait, for a terminal."""
    if not found:
        yield "nothing waits for a review"
        return
    rungs = Counter(str((review.get("tripped") or [{}])[-1].get("rung")) for review in found)
    yield from _wrapped(
        f"{len(found):,} wait: " + ", ".join(f"{count:,} held by {rung}" for rung, count in rungs.items())
    )
    for review in found:
        for line in lines(review):
            yield from _wrapped(line)
    yield "decide: `driftline review approve`, `edit` or `refuse` (--rung: all of a rung)"


def _wrapped(line: str) -> Iterator[str]:
    """A line as a terminal of 80 columns shows it, without breaks in a word."""
    indent = "    " if line.startswith(" ") else "  "
    text = escaped(line)
    yield from wrap(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def approve(where: Where, event: str | None, rung: str | None, why: str) -> None:
    """What `driftline review approve` does."""
    _decide(where, "approve", event, rung, why)


def refuse(where: Where, event: str | None, rung: str | None, why: str) -> None:
    """What `driftline review refuse` does."""
    _decide(where, "refuse", event, rung, why)


def edit(where: Where, event: str, value: str, why: str) -> None:
    """What `driftline review edit` does."""
    _decide(where, "edit", event, None, why, value)


def _open(where: Where) -> tuple[Pipeline, list[dict[str, Any]]]:
    settings = settings_of(bootstrap=where.bootstrap)
    pipeline = pipeline_of(settings, where.pipeline_file, where.overrides)
    return pipeline, asyncio.run(open_reviews(KafkaBroker(pipeline, settings), pipeline, settings))


def _decide(
    where: Where, decision: str, event: str | None, rung: str | None, why: str, value: str | None = None
) -> None:
    command: dict[str, Any] = {"command": "review", "decision": decision}
    pipeline, found = _open(where)
    if event is None:
        command["rung"] = rung
    else:
        review = _held(event, found)
        command["event_id"] = review["event_id"]
        if value is not None:
            command["value"] = value_of(value, pipeline, review.get("prediction"))
    if why:
        command["why"] = why
    send_command(command, where, f"{decision} {event if event is not None else f'all held by {rung}'}")


def _held(event: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The review of a held event, whose id may be a number there.

    Raises:
        InputFileError: no such event is held.
    """
    for review in found:
        if str(review["event_id"]) == event:
            return review
    raise InputFileError(f"no event {event!r} is held; `driftline review list` shows those that are")


def lines(review: dict[str, Any]) -> list[str]:
    """One review, for a terminal."""
    trip = (review.get("tripped") or [{}])[-1]
    at = review.get("at_deadline") or {}
    instead = f" ({at['instead']})" if at.get("instead") else ""
    value = review.get("probability", review.get("prediction"))
    limit, excess = trip.get("limit"), trip.get("excess")
    beyond = "" if limit is None or excess is None else f", {excess:+.6g} beyond {limit:.6g}"
    last = f"; last value of its series {_short(review['last_value'])}" if "last_value" in review else ""
    features = list((review.get("features") or {}).items())
    more = ", ..." if len(features) > FEATURES_SHOWN else ""
    deadline_ms = review.get("deadline_ms")
    served = _short(at.get("probability", at.get("prediction")))
    until = written(deadline_ms, "%Y-%m-%d %H:%M:%S") if isinstance(deadline_ms, int) else "-"
    series = (review.get("forecast") or {}).get("series")
    of = f" of {', '.join(map(str, series.values()))}" if series else ""
    return [
        f"{review.get('event_id')}{of}: the model predicts {_short(value)}, held by {trip.get('rung')}{beyond}{last}",
        f"  {', '.join(f'{name}={_short(one)}' for name, one in features[:FEATURES_SHOWN])}{more}",
        *_ahead("the model forecasts", review.get("forecast")),
        *_ahead("instead", at.get("forecast")),
        f"  at {until} (event time) {served} is served{instead}",
    ]


def _ahead(what: str, forecast: dict[str, Any] | None) -> Iterator[str]:
    """The horizons of a forecast."""
    if forecast is not None:
        values = forecast.get("values", [])
        more = ", ..." if len(values) > HORIZONS_SHOWN else ""
        yield f"  {what}: {', '.join(map(_short, values[:HORIZONS_SHOWN]))}{more}"


def _short(value: object) -> str:
    """A value with six digits; none as such."""
    if value is None:
        return "nothing"
    return f"{value:.6g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
