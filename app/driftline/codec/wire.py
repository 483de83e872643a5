"""Records as a pipeline reads them: the way of `document`, backwards.

A document, as paths lead into it, becomes a key, a value and headers. So rows of a file, and labels made of them, go to
topics whose ids are in keys, or whose values are in envelopes, and backtests of files read what they would there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from driftline.codec.document import MISSING, find
from driftline.codec.format import format_of
from driftline.codec.format.base import Document
from driftline.codec.json import parse_json, write_json
from driftline.core.notation import ENVELOPE, HEADERS, KEY, ROOTS, Path, parse_path
from driftline.core.pipeline.input import EventForm, LabelForm
from driftline.core.record import Headers


class Sent(NamedTuple):
    """What is sent of a record."""

    key: bytes
    value: bytes
    headers: Headers = ()


class Wire:
    """Writes the records of one input.

    Args:
        form: how they are read.

    Attributes:
        plain: the document is the value's JSON and nothing else.
    """

    def __init__(self, form: EventForm | LabelForm) -> None:
        self._form = form
        self._id = parse_path(form.id)
        paths = [parse_path(path) for path in form.paths]
        self._roots = {name: root for name, root in ROOTS.items() if any(path[0] == root for path in paths)}
        self._select = [(parse_path(path), wanted[0]) for path, wanted in form.select.items() if None not in wanted]
        self._commas = _commas(form)
        self._write = format_of(form.envelope).write
        self.plain = not self._roots and not self._select and self._write is None

    def id_of(self, event_id: str | int) -> str | int:
        """An id as it is read again: text where its place knows no numbers."""
        untyped = self._id[0] == HEADERS or (self._id == (KEY,) and self._form.key == "text")
        return str(event_id) if untyped else event_id

    def rooted(self, row: Document) -> Document:
        """A row whose fields `$key`, `$headers`, `$envelope` are where paths lead to, if the pipeline asks for them."""
        for name, root in self._roots.items():
            if name in row:
                row[root] = row.pop(name)
        return row

    def write(self, document: Mapping[str, Any], event_id: str | int, time_ms: int) -> Sent:
        """The record of a document, which stays as it is.

        Args:
            event_id: of the event that it is, or is about: the key where the pipeline says nothing of it.
            time_ms: the time that the record is about.

        Raises:
            TypeError: something cannot be written as JSON, or the key not as the pipeline wants it.
        """
        if self.plain:
            return Sent(str(event_id).encode(), write_json(document))
        whole = dict(document)
        for path, wanted in self._select:
            if find(whole, path) in (MISSING, None):  # a row without it is meant
                whole = _placed(whole, path, wanted)
        key, headers, around = whole.pop(KEY, MISSING), whole.pop(HEADERS, {}), whole.pop(ENVELOPE, {})
        value = write_json(whole) if self._write is None else self._write(whole, around, event_id, time_ms)
        written = tuple((name, self._header(name, one)) for name, one in headers.items() if one is not None)
        return Sent(str(event_id).encode() if key is MISSING else self._key(key), value, written)

    def read(self, line: bytes) -> tuple[bytes | None, bytes, Headers]:
        """Key, value and headers of a line of JSON that stands for a record as it is in the topic.

        Raises:
            ValueError: it asks for a key or headers that cannot be written.
        """
        if not any(f'"{name}"'.encode() in line for name in self._roots):
            return None, line, ()
        try:
            row = parse_json(line)
        except orjson.JSONDecodeError:
            return None, line, ()
        if not isinstance(row, dict):
            return None, line, ()
        row = self.rooted(row)
        key, headers = row.pop(KEY, None), row.pop(HEADERS, {})
        if not isinstance(headers, dict):
            raise ValueError("$headers is not an object")
        written = tuple((name, self._header(name, one)) for name, one in headers.items() if one is not None)
        try:
            return None if key is None else self._key(key), write_json(row), written
        except TypeError as error:
            raise ValueError(str(error)) from None

    def _key(self, key: object) -> bytes:
        form = self._form.key
        if isinstance(key, dict | list) or form == "json":
            return orjson.dumps(key)
        if form == "text":
            return _as_text(key).encode()
        try:
            number = int(str(key))
            return b"%d" % number if form == "integer" else number.to_bytes(8, signed=True)
        except (ValueError, OverflowError):
            raise TypeError(f"the key {key!r:.80} is not a whole number, but key: {form} needs one") from None

    def _header(self, name: str, value: object) -> bytes:
        text = _as_text(value)
        return (text.replace(".", ",") if name in self._commas and not isinstance(value, str) else text).encode()


def _commas(form: EventForm | LabelForm) -> frozenset[str]:
    """Headers that hold numbers with a decimal comma."""
    if isinstance(form, LabelForm):
        places = [parse_path(form.value)] if form.text == "comma" else []
    else:
        places = [feature.keys for feature in form.read.values() if feature.text == "comma"]
    return frozenset(str(path[1]) for path in places if path[0] == HEADERS)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _placed(document: Document, path: Path, value: object) -> Document:
    """The document with a value at a path; what lies on the way is copied."""
    inner = document
    for key in path[:-1]:
        found = inner.get(str(key), {})
        if not isinstance(found, dict):
            raise TypeError(f"cannot set {'.'.join(map(str, path))}: {key} is not an object")
        within = dict(found)
        inner[str(key)] = within
        inner = within
    inner[str(path[-1])] = value
    return document


def set_path(document: dict[str, Any], keys: Path, value: object) -> None:
    """Set the value at a path, making the objects on its way.

    Raises:
        ValueError: something else than an object is in the way.
    """
    inner: Any = document
    for key in keys[:-1]:
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise ValueError(f"cannot set {'.'.join(map(str, keys))}: {key} is not an object")
    inner[str(keys[-1])] = value
