"""Rules for paths into a record: its value, its key, its headers, the envelope around it."""

from __future__ import annotations

from collections.abc import Iterator

from driftline.core.error import Problem
from driftline.core.format import FORMATS
from driftline.core.notation import ENVELOPE, KEY, Path, format_path, parse_path
from driftline.core.pipeline.feature import Feature
from driftline.core.pipeline.input import EventForm, InputForm, LabelForm


def misplaced(section: str, form: EventForm | LabelForm) -> Iterator[Problem]:
    """Every path and setting of a section that cannot be, or means nothing.

    Args:
        section: `event` or `label`.
    """
    paths = dict(_places(section, form))
    for place, path in paths.items():
        if path[0] == ENVELOPE and not FORMATS[form.envelope].envelope:
            others = " or ".join(name for name, outline in FORMATS.items() if outline.envelope)
            text = f"{section}.envelope is {form.envelope}, which has no fields of its own; write {others}"
            yield Problem(place, format_path(path), text)
    yield from _keys(section, form, paths)
    if isinstance(form, EventForm):
        if form.hour and not form.time:
            yield Problem("event.hour", form.hour, "belongs to a date, and event.time is not set; name the date there")
        for place, name, feature in _read(form):
            if feature.text and feature.type != "number":
                text = f"is for number features, but this is a {feature.type}; remove it"
                yield Problem(f"event.{place}.{name}.text", feature.text, text)


def _read(form: EventForm) -> Iterator[tuple[str, str, Feature]]:
    """What is read of an event, with the section where it is declared."""
    yield from (("features", name, feature) for name, feature in form.plain.items())
    yield from (("context", name, field) for name, field in form.context.items())


def _places(section: str, form: EventForm | LabelForm) -> Iterator[tuple[str, Path]]:
    yield f"{section}.id", parse_path(form.id)
    if form.time:
        yield f"{section}.time", parse_path(form.time)
    if isinstance(form, EventForm):
        if form.hour:
            yield "event.hour", parse_path(form.hour)
        for place, name, feature in _read(form):
            yield f"event.{place}.{name}.path", feature.keys
    else:
        if form.item:
            yield "label.item", parse_path(form.item)
        yield "label.value", parse_path(form.value)
    for path in form.select:
        yield f"{section}.select.{path}", parse_path(path)


def _keys(section: str, form: InputForm, paths: dict[str, Path]) -> Iterator[Problem]:
    """What is asked of the record's key must agree on what the key is."""
    whole = [place for place, path in paths.items() if path == (KEY,)]
    parts = [place for place, path in paths.items() if path[0] == KEY and len(path) > 1]
    if form.key != "text" and not whole and not parts:
        yield Problem(f"{section}.key", form.key, f"has no effect, since no path in {section} uses $key")
    if parts and form.key in ("integer", "binary"):
        yield Problem(
            f"{section}.key", form.key, f"{parts[0]} refers to a field of a JSON key; write json, or remove it"
        )
    if parts and whole:
        text = f"uses the key as a single value, but {parts[0]} refers to a field of it; use one of the two"
        yield Problem(whole[0], "$key", text)
