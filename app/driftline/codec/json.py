"""JSON, with the bare NaN and Infinity that many programs write into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_BARE_WORD = rb"[-+]?\b(?:nan|inf|infinity)\b"
_UP_TO_BARE = re.compile(  # texts, words and what stands between them; of a megabyte in a third of a second at most
    rb'((?:[^"\w+-]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[-+]+(?=[-+])|(?!%b)(?:[-+]?\w++|[-+]))*+)(%b)'
    % (_BARE_WORD, _BARE_WORD),
    re.IGNORECASE | re.DOTALL,
)
_BARE = re.compile(rb"nan|inf", re.IGNORECASE)
_BARE_MAX = 10_000  # words of a record, those within its texts included
_MARK = "\0bare "  # a text that stands for a bare word until the document is read


class NotFinite(float):
    """A bare NaN or Infinity of a document that is otherwise JSON: no value, but one that can be named."""

    def __new__(cls, word: str) -> NotFinite:
        made = super().__new__(cls, word)
        made.word = word
        return made

    word: str

    def __repr__(self) -> str:
        return self.word


def parse_json(value: bytes) -> Any:
    """JSON; bare NaN and Infinity, as many programs write them, become `NotFinite`.

    No more than `_BARE_MAX`: each costs some microseconds, of which a record of a megabyte could ask for a second.

    Raises:
        orjson.JSONDecodeError: it is not JSON; without such words or with them.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        if not 0 < len(_BARE.findall(value)) <= _BARE_MAX:
            raise
        marked = mark_bare(value)
        if marked == value:
            raise
        return _unmarked(orjson.loads(marked))


def write_json(document: Mapping[str, Any]) -> bytes:
    """JSON; a `NotFinite` is written as the bare word that it was.

    Raises:
        TypeError: something in it has no form in JSON.
    """
    return orjson.dumps(document, default=_bare)


def mark_bare(value: bytes) -> bytes:
    """The bytes with a text in place of each bare word."""
    pieces: list[bytes] = []
    at = 0
    while (found := _UP_TO_BARE.match(value, at)) is not None:
        pieces += (found[1], b'"\\u0000bare %s"' % found[2])
        at = found.end()
    return b"".join((*pieces, value[at:]))


def _unmarked(document: Any) -> Any:
    """The document with `NotFinite` where a bare word stood. Not by recursion: nesting may be deep."""
    whole = [document]
    todo: list[Any] = [whole]
    while todo:
        inner = todo.pop()
        for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
            if isinstance(value, dict | list):
                todo.append(value)
            elif isinstance(value, str) and value.startswith(_MARK):
                inner[key] = _not_finite(value)
    return whole[0]


def _not_finite(marked: str) -> object:
    try:
        return NotFinite(marked.removeprefix(_MARK))
    except ValueError:  # the text itself came so
        return marked


def _bare(value: object) -> object:
    if isinstance(value, NotFinite):
        return orjson.Fragment(value.word.encode())
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
