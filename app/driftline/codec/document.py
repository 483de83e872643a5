"""A record as the document that the pipeline's paths lead into.

    value ─ codec/format ─ key and headers under their roots ─ select

Each stage is there only where the pipeline asks for it; of most pipelines only plain JSON is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from driftline.codec.format import format_of
from driftline.codec.format.base import Document
from driftline.codec.header import read_headers
from driftline.codec.key import key_reader
from driftline.codec.reason import PassedOverError, RefusedError
from driftline.core.notation import HEADERS, KEY, Path, PathPart, parse_path
from driftline.core.pipeline.input import EventForm, LabelForm, Wanted
from driftline.core.record import Source

MISSING = object()  # what `find` gives where there is nothing


def find(document: object, keys: Sequence[PathPart]) -> Any:
    """The value at a path, or `MISSING`."""
    if len(keys) == 1 and isinstance(document, dict):
        (key,) = keys
        return document.get(key if type(key) is str else str(key), MISSING)
    found = document
    for key in keys:
        if isinstance(found, dict):
            found = found.get(str(key), MISSING)
        elif isinstance(found, list) and isinstance(key, int) and key < len(found):
            found = found[key]
        else:
            return MISSING
    return found


def sized(value: bytes | None, bytes_max: int) -> bytes:
    """A value that has bytes, and not too many.

    Raises:
        RefusedError: it has not.
    """
    if value is None:
        raise RefusedError("tombstone")
    if not value:
        raise RefusedError("empty")
    if len(value) > bytes_max:
        raise RefusedError("too_large", f"{len(value)} bytes (limit: {bytes_max})")
    return value


class Documents:
    """Reads the documents of one input.

    Args:
        form: how its records are read.
        bytes_max: of a value.

    Attributes:
        plain: the document is the value's JSON and nothing else, and each one is meant.
    """

    def __init__(self, form: EventForm | LabelForm, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        format_ = format_of(form.envelope)
        self._parse = format_.read
        paths = [parse_path(path) for path in form.paths]
        self._key = key_reader(form, paths)
        self._headers = {str(path[1]) for path in paths if path[0] == HEADERS}
        self._select = [_wanted(parse_path(path), wanted) for path, wanted in form.select.items()]
        self.plain = format_.plain and not self._key and not self._headers and not self._select

    def read(self, source: Source) -> Document:
        """The document of a record.

        Raises:
            RefusedError: it has none.
            PassedOverError: it is not meant.
        """
        value = source.value
        if self.plain and value and len(value) <= self._bytes_max:
            try:
                document = orjson.loads(value)
            except orjson.JSONDecodeError:
                pass
            else:
                if type(document) is dict:
                    return document
        return self._whole(source)

    def _whole(self, source: Source) -> Document:
        """What `read` gives, stage by stage."""
        if source.value is None:
            raise PassedOverError("tombstone")
        document = self._parse(sized(source.value, self._bytes_max), source.headers)
        if self.plain:
            return document
        if self._headers:
            document[HEADERS] = read_headers(source.headers, self._headers)
        if self._key is not None:
            document.pop(KEY, None)  # of the value itself
            if source.key is not None:
                document[KEY] = self._key(source.key)
        for path, wants in self._select:
            if not wants(find(document, path)):
                raise PassedOverError("unselected")
        return document


# -- select


def _wanted(path: Path, wanted: Sequence[Wanted]) -> tuple[Path, Callable[[object], bool]]:
    """Whether what is found at a path is one of these: of JSON by type as well, of a header by its text."""
    if path[0] == HEADERS:
        texts = {_as_text(value) for value in wanted}
        return path, lambda found: (None if found is MISSING else found) in texts
    exact = {(isinstance(value, bool), value) for value in wanted}

    def wants(found: object) -> bool:
        if found is MISSING:
            found = None
        if found is not None and not isinstance(found, bool | int | float | str):
            return False
        return (isinstance(found, bool), found) in exact

    return path, wants


def _as_text(value: Wanted) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
