"""A record's key, read as the pipeline specifies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from driftline.codec.format import format_of
from driftline.codec.reason import RefusedError
from driftline.core.notation import KEY, Path
from driftline.core.pipeline.input import InputForm


def key_reader(form: InputForm, paths: Sequence[Path]) -> Callable[[bytes], Any] | None:
    """How the key is read; None where no path leads to it."""
    asked = [path for path in paths if path[0] == KEY]
    if not asked:
        return None
    if form.key == "json" or any(len(path) > 1 for path in asked):
        return format_of(form.envelope).read_key
    return {"text": _text, "integer": _integer, "binary": _binary}[form.key]


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        remedy = "; declare `key: binary`" if len(key) in (4, 8) else ""
        raise RefusedError("key_unreadable", f"the key is not UTF-8 text ({len(key)} bytes){remedy}") from None


def _integer(key: bytes) -> int:
    text = key.decode("latin-1")
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20:
        return int(text)
    remedy = "; declare `key: binary`" if len(key) in (4, 8) else ""
    raise RefusedError("key_unreadable", f"the key is not a whole number in digits ({len(key)} bytes){remedy}")


def _binary(key: bytes) -> int:
    """The big-endian bytes of Kafka's IntegerSerializer and LongSerializer."""
    if len(key) in (2, 4, 8):
        return int.from_bytes(key, signed=True)
    raise RefusedError("key_unreadable", f"the key has {len(key)} bytes; a binary whole number has 2, 4 or 8")
