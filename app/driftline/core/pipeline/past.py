"""Rules for what only history features need: their fields, their windows, and the context that is read for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from driftline.core.error import Problem
from driftline.core.notation import parse_path
from driftline.core.pipeline.feature import (
    CONTEXT_TYPES,
    FEATURE_TYPES,
    CalendarFeature,
    Feature,
    HistoryFeature,
    Past,
)
from driftline.core.pipeline.forecast import forecast_fields
from driftline.core.pipeline.guard import GuardForm
from driftline.core.pipeline.input import EventForm, LabelForm
from driftline.core.pipeline.kpi import kpi_fields
from driftline.core.task import find_task

_OF_NUMBERS = ("sum", "mean", "min", "max", "std", "last", "lag", "decayed_mean")
_WITHOUT_WINDOW = ("last", "lag", "decayed_mean")


def check_history(event: EventForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    """Every fault of the context and of features that are computed."""
    yield from _types(event)
    for name, feature in event.features.items():
        if isinstance(feature, HistoryFeature):
            yield from _history(name, feature, event, draft)
    used = {field for one in event.features.values() if isinstance(one, HistoryFeature) for field in _fields(one)}
    guard: GuardForm | None = draft.get("guard")
    used |= set(guard.by) if guard is not None else set()
    used |= {*forecast_fields(draft), *kpi_fields(draft)}
    for name in event.context:
        if name in event.features:
            yield Problem(f"event.context.{name}", None, "is already a feature; history features can use that one")
        elif name not in used:
            yield Problem(
                f"event.context.{name}", None, "is not used by any history feature, the guard or a KPI; remove it"
            )


def _fields(feature: HistoryFeature) -> tuple[str, ...]:
    source = feature.past.source
    return (*feature.by, *([source] if source is not None else []))


def _types(event: EventForm) -> Iterator[Problem]:
    for name, feature in event.plain.items():
        place = f"event.features.{name}"
        if feature.type not in FEATURE_TYPES:
            text = "an id is of no use to a model; declare it in event.context, and use it in `by` of history features"
            yield Problem(f"{place}.type", feature.type, text)
        if feature.chars_max is not None and feature.type != "text":
            yield Problem(f"{place}.chars_max", feature.chars_max, "is only for type text; remove it")
    for name, field in event.context.items():
        if field.type not in CONTEXT_TYPES:
            yield Problem(f"event.context.{name}.type", field.type, f"must be one of {', '.join(CONTEXT_TYPES)}")


def _history(name: str, feature: HistoryFeature, event: EventForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    place, past = f"event.features.{name}", feature.past
    for field in feature.by:
        if (fault := _unusable(name, field, event, draft)) is not None:
            yield Problem(f"{place}.by", field, fault)
        elif feature.by.count(field) > 1:
            yield Problem(f"{place}.by", field, "is listed twice")
    if past.source is not None:
        yield from _source(name, past, event, draft)
    yield from _window(place, feature, past)
    if past.of_label:
        yield from _of_label(place, feature, past, draft)
    fill = feature.fill
    if feature.missing == "reject":
        yield Problem(
            f"{place}.missing", "reject", "first events have no past, so all would be rejected; write a number, or omit"
        )
    elif fill is not None and (isinstance(fill, bool | str) or not isinstance(fill, int | float)):
        yield Problem(f"{place}.missing", fill, "must be a number, or omit: history features are numbers")


def _unusable(name: str, field: str, event: EventForm, draft: Mapping[str, Any]) -> str | None:
    """Why a history feature cannot use a field; None where it can."""
    if field == name:
        return "names itself"
    found = event.features.get(field) or event.context.get(field)
    if found is None:
        declared = [*event.plain, *event.context]
        close = get_close_matches(field, declared, n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]!r}?" if close else f"; declared: {', '.join(declared[:30])}"
        return f"is neither a declared feature nor in event.context{hint}"
    if isinstance(found, HistoryFeature):
        return "is itself a history feature; use a field of the event"
    if isinstance(found, CalendarFeature):
        return "is cyclic; use one without `cyclic`" if found.cyclic else None
    label: LabelForm | None = draft.get("label")
    if label is not None and parse_path(label.value) == found.keys:
        return f"has the path of the label ({label.value}), so it would reveal the label; use label_mean or the like"
    return "has type text; declare it as a string" if found.type == "text" else None


def _source(name: str, past: Past, event: EventForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    place, source = f"event.features.{name}.history", past.source or ""
    fault = _unusable(name, source, event, draft)
    found = event.features.get(source) or event.context.get(source)
    if fault is not None:
        yield Problem(place, source, fault)
    elif not isinstance(found, Feature):
        yield Problem(place, source, "is computed from the event's time; use a field of the event")
    elif past.name in _OF_NUMBERS and found.type not in ("number", "boolean"):
        yield Problem(place, source, f"is a {found.type}, but {past.name} needs a number; distinct takes any type")


def _window(place: str, feature: HistoryFeature, past: Past) -> Iterator[Problem]:
    if past.name in _WITHOUT_WINDOW and feature.over_ms is not None:
        yield Problem(f"{place}.over", None, f"{past.name} uses the latest values, however old; remove it")
    if past.name == "decayed_mean" and feature.half_life_ms is None:
        yield Problem(f"{place}.half_life", None, "is required for decayed_mean, as in half_life: 7d")
    if past.name != "decayed_mean" and feature.half_life_ms is not None:
        yield Problem(f"{place}.half_life", None, "is only for decayed_mean; remove it")


def _of_label(place: str, feature: HistoryFeature, past: Past, draft: Mapping[str, Any]) -> Iterator[Problem]:
    task = find_task(draft.get("task"))
    if "label" in draft and draft["label"] is None:
        yield Problem(f"{place}.history", feature.history, "needs labels: declare `label`, or remove it")
    elif task is not None and task.labels.textual and past.name not in ("count", "distinct"):
        text = f"needs numeric or binary labels, but task {task.name} has classes: use label_count or label_distinct"
        yield Problem(f"{place}.history", feature.history, text)
