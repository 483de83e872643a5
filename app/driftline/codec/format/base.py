"""What the codec asks of a record format.

    value ─ read ─ document ─ (key, headers, select: `codec/document`) ─ (id, time, features: `codec/decode`) ─ record

Shared by formats: `frame`, JSON with and without a schema registry's frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from driftline.codec.format.frame import read_json_key
from driftline.core.record import Headers

Document: TypeAlias = dict[str, Any]
Write: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any], str | int, int], bytes]


def unlike(_: Document) -> str | None:
    """No document is taken for one of this format."""
    return None


@dataclass(frozen=True)
class Format:
    """One record format.

    Args:
        read: the document of a value (of 1 byte to `limits.record_bytes_max`) and the record's headers. What
            `$envelope` leads into is put under `ENVELOPE`. Raises `RefusedError` or `PassedOverError`.
        write: the value that is read as a row, for rows of files: from the row, what it says of its envelope, its id
            and its time in ms. None where that is the row's JSON. Raises `TypeError`.
        read_key: a record's key that is not a scalar, as a document. Raises `RefusedError`.
        plain: values are JSON objects with nothing around them, so `codec/declared` may read them.
        textual: what `$envelope` leads to is text, whatever it means.
        looks_like: what a document seems to be that was read as plain JSON but is of this format, with its article.
    """

    read: Callable[[bytes, Headers], Document]
    write: Write | None
    read_key: Callable[[bytes], Any] = read_json_key
    plain: bool = False
    textual: bool = False
    looks_like: Callable[[Document], str | None] = unlike
