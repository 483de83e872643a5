"""`driftline explain`: explain the score of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from driftline.backtest.explain import Explanation, explain
from driftline.cli.echo import show
from driftline.cli.setting import pipeline_of, settings_of
from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.error import InputFileError, TopicError
from driftline.core.output import SECOND, Unserved
from driftline.core.pipeline import Pipeline
from driftline.core.wording import escaped
from driftline.ingest.feed import partition_of
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts

WEIGHTS_SHOWN = 20
ITEMS_SHOWN = 10
_VALUE_MAX = 300
_TIME_END_MS = 253_402_300_800_000  # the year 10000
HELD = "held"
DIFFERENT = 1  # exit code: what was derived is not what was served


def explain_command(
    pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None, event_id: str, as_json: bool
) -> None:
    """What `driftline explain` does."""
    if any("\ud800" <= sign <= "\udfff" for sign in event_id):
        raise InputFileError(f"--event {event_id!r} is not text in UTF-8, and no event has such an id")
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    found = asyncio.run(_explain(pipeline, settings, event_id))
    show(found, lambda: map(escaped, lines(found)), as_json=as_json)
    if not found.same and not found.made_by:
        raise click.exceptions.Exit(DIFFERENT)


async def _explain(pipeline: Pipeline, settings: Settings, event_id: str) -> Explanation:
    topic = pipeline.topics.scores
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if not (count := there.get(topic, 0)):
        raise TopicError(f"topic {topic} does not exist; check the pipeline file and the broker's address")
    likeliest = partition_of(event_id.encode(), count)
    partitions = [likeliest, *(number for number in range(count) if number != likeliest)]
    layout = layout_of(pipeline, there)
    return await explain(KafkaBroker(pipeline, settings), pipeline, layout, partitions, event_id, settings.ring)


def lines(found: Explanation) -> list[str]:
    """For a terminal."""
    served = found.served
    topic, partition, offset = found.place
    label = served.get("prediction")
    value = served.get("probability", label)
    shown = [
        f"event {served['event_id']} at {_when(served.get('event_time_ms'))} ({topic}-{partition}, offset {offset})",
        *(
            [f"scored {found.times} times, since its id was forgotten in between; this is the last score"]
            if found.times > 1
            else []
        ),
        f"{_scored(value, label if 'probability' in served else None)}, {served.get('guard')}",
        *_budgeted(served),
        *_guarded(found),
        *_reviewed(found),
        f"by model version {found.version}; recomputed from {found.began}: " + _comparison(found),
        "features",
        *(f"  {name} = {_cut(value)}" for name, value in found.features.items()),
    ]
    shown += _items(found)
    if found.weights:
        if found.intercept is None:
            shown.append("how each word moved the log odds (count x weight)")
        else:
            shown.append("contributions (value x weight), before the link function")
        shown += [
            f"  {one.adds:+.4f}  {one.name} ({_number(one.value)} x {_number(one.weight)})"
            for one in found.weights[:WEIGHTS_SHOWN]
        ]
        rest = found.weights[WEIGHTS_SHOWN:]
        if rest:
            shown.append(f"  {sum(one.adds for one in rest):+.4f}  {len(rest):,} others together")
        if found.intercept is not None:
            shown.append(f"  {found.intercept:+.4f}  intercept")
    elif found.river:
        shown += ["River's explanation", *(f"  {line}" for line in found.river.splitlines())]
    if found.labelled:
        shown.append(_label(found.outcome, deleted=found.outcomes_deleted))
    shown.append(f"open alerts at that time: {len(found.alerts) or 'none'}")
    shown += [f"  {alert.get('sentence')}" for alert in found.alerts]
    return shown


def _budgeted(served: Mapping[str, Any]) -> Iterator[str]:
    """How the decision stood to the budget of alarms."""
    budget = served.get("budget")
    if not budget:
        return
    yes, alarms, most = served.get("decision"), budget["alarms"], budget["most"]
    needed = f"a score of {_number(budget['threshold'])} was needed" if "threshold" in budget else ""
    if yes:
        yield f"an alarm, number {alarms:,} of {most:,} in its period" + (f"; {needed}" if needed else "")
    elif alarms >= most:
        yield f"no alarm: all {most:,} of its period were used"
    else:
        yield f"no alarm: {needed or 'too little was known to compare it with'}; {alarms:,} of {most:,} were used"


def _items(found: Explanation) -> Iterator[str]:
    """The candidates of a request: what was shown, and why."""
    if not found.items:
        return
    shown = {one["item"]: place + 1 for place, one in enumerate(found.served.get("slate", []))}
    yield f"candidates ({'explored' if found.served.get('explored') else 'the best known'}; shown ones by their place)"
    yield "  place  expected    bonus  popularity  propensity  item"
    kept = [one for place, one in enumerate(found.items) if place < ITEMS_SHOWN or one["item"] in shown]
    for one in kept:
        place = str(shown.get(one["item"], ""))
        yield (
            f"  {place:>5}  {one['expected']:8.4f} {one['bonus']:+8.4f}  {one['popularity']:10.4f}  "
            f"{one['propensity']:10.4f}  {_cut(one['item'])}"
        )
    if rest := len(found.items) - len(kept):
        yield f"  {rest:,} others"


def _guarded(found: Explanation) -> Iterator[str]:
    """What the guard did, and what the model had predicted."""
    for trip in found.tripped:
        beyond = "" if trip.limit is None or trip.excess is None else f", {trip.excess:+.6g} beyond {trip.limit:.6g}"
        of = f" ({trip.feature})" if trip.feature else f" at horizon {trip.horizon}" if trip.horizon else ""
        yield f"guard: {trip.rung}{of}{beyond}: {trip.action}"
    for made in found.unserved:
        if made.name == SECOND:
            yield f"the second model predicted {_number(_value_of(made))}, version {made.version}"
            continue
        if made.ahead:
            yield from _ahead(found, made.ahead)
            continue
        value = _value_of(made)
        instead = found.served.get("instead")
        yield f"the model predicted {_number(value)}" + (f"; served instead: {instead}" if instead else "")


def _reviewed(found: Explanation) -> Iterator[str]:
    """Of a prediction that was held: who decided what, when and why, or that it still waits."""
    review = found.review
    if review is None:
        if found.served.get("guard") == HELD:
            yield "review: its record has been deleted"
        return
    state, deadline = review.get("state"), _when(review.get("deadline_ms"))
    if state == HELD:
        yield f"review: no one has decided; the deadline is {deadline} (event time)"
        return
    who = "no one decided in time" if state == "overdue" else f"{state} by {review.get('by') or 'an unnamed sender'}"
    why = f": {review['why']}" if review.get("why") else ""
    yield f"review: {who} at {_when(found.reviewed_ms)}{why}; {_afterwards(review)}"


def _afterwards(review: dict[str, Any]) -> str:
    """What was served in the end."""
    served = review.get("served") or {}
    value = served.get("probability", served.get("prediction"))
    if review.get("forecast") is not None:
        return "the forecast decided on was served"
    return "nothing was served" if value is None else f"{_number(value)} was served"


def _value_of(made: Unserved) -> Any:
    return made.prediction.value if made.prediction.value is not None else made.prediction.label


def _ahead(found: Explanation, ahead: Sequence[float | None]) -> Iterator[str]:
    """What the model forecast at the horizons where something else was served."""
    forecast = found.served.get("forecast") or {}
    nothing = [None] * len(ahead)
    values, instead = forecast.get("values", nothing), forecast.get("instead", nothing)
    for horizon, (forecast, value, name) in enumerate(zip(ahead, values, instead, strict=False), 1):
        if forecast is not None and value != forecast:
            served = "nothing was served" if value is None else f"{_number(value)} was served"
            yield f"horizon {horizon}: the model forecast {_number(forecast)}; {served}{f' ({name})' if name else ''}"


def _scored(value: Any, label: Any) -> str:
    """What was served, which is nothing where the guard held or withheld it."""
    if value is None:
        return "no prediction"
    return f"score {_number(value)}" + ("" if label is None else f", class {label}")


def _comparison(found: Explanation) -> str:
    """Whether what was recomputed is what was served."""
    if found.same:
        return "identical"
    names = ("probability", "prediction")
    if found.made_by and all(found.served.get(name) == found.derived.get(name) for name in names):
        return f"the same prediction, in a record made by {found.made_by}"
    value = _number(found.derived.get("probability", found.derived.get("prediction")))
    return f"{value}, not verifiable: served by {found.made_by}" if found.made_by else f"DIFFERENT: {value}"


def _label(outcome: dict[str, Any] | None, *, deleted: bool) -> str:
    """How the wait for the label ended."""
    if outcome is None:
        return (
            "label: none yet, or its outcome has been deleted, as earlier ones have" if deleted else "label: none yet"
        )
    if outcome.get("label") is None:
        return f"label: {outcome.get('kind')}; {outcome.get('detail', '')}"
    came = outcome.get("label_time_ms")
    return f"label {outcome['label']}, {outcome.get('kind')}" + (f", arrived {_when(came)}" if came else "")


def _when(time_ms: Any) -> str:
    if type(time_ms) is not int or not 0 <= time_ms < _TIME_END_MS:
        return "-"
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def _cut(value: Any) -> str:
    """A value as it is written in Python; of a long text the beginning."""
    if isinstance(value, str) and len(value) > _VALUE_MAX:
        return f"{value[:_VALUE_MAX]!r} and {len(value) - _VALUE_MAX:,} characters more"
    return repr(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
