"""JSON objects as the bytes of a value or a key, with and without the frame of a schema registry's serializer."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from driftline.codec.json import parse_json
from driftline.codec.reason import RefusedError
from driftline.core.record import Headers


class Frame(NamedTuple):
    """A frame's schema, as 4 or 8 bytes of an id or the 16 of a version's UUID, and what follows the frame."""

    schema: bytes
    content: bytes

    def __str__(self) -> str:
        if len(self.schema) > 8:
            return f"the bytes look like AWS Glue's frame (schema version {self.schema.hex()})"
        return f"the bytes look like a schema registry's frame (schema id {int.from_bytes(self.schema)})"


def find_frame(value: bytes) -> Frame | None:
    """The frame that a value seems to be in.

    Confluent's is a zero byte and the schema's id in four bytes (Apicurio also writes eight), before Protobuf followed
    by indexes; AWS Glue's is a three, the compression, and the schema version's UUID.
    """
    if len(value) > 18 and value[0] == 3 and value[1] in (0, 5):
        return Frame(value[2:18], value[18:])
    if len(value) < 6 or value[0] != 0:
        return None
    end = 9 if not _looks_like_json(value[5:]) and _looks_like_json(value[9:]) else 5
    return Frame(value[1:end], value[end:])


def plain_object(value: bytes, _: Headers = ()) -> dict[str, Any]:
    """The JSON object that a value (of at least one byte) is.

    Raises:
        RefusedError: it is none.
    """
    if value[0] in _FIRST and (frame := find_frame(value)):
        remedy = "what follows is JSON: declare `envelope: registry_json` to read it"
        raise RefusedError("registry_frame", f"{frame}; {remedy if _looks_like_json(frame.content) else _BINARY}")
    return _object(value)


def framed_object(value: bytes, _: Headers = ()) -> dict[str, Any]:
    """The JSON object that a value (of at least one byte) is, or that follows its frame.

    Raises:
        RefusedError: there is none.
    """
    if value[0] in _FIRST and (frame := find_frame(value)):
        if not _looks_like_json(frame.content):
            raise RefusedError("registry_frame", f"{frame}; {_BINARY}")
        value = frame.content
    return _object(value)


def read_json_key(key: bytes) -> Any:
    """The JSON that a record's key is, or that follows its frame.

    Raises:
        RefusedError: there is none.
    """
    frame = find_frame(key)
    try:
        return parse_json(frame.content if frame else key)
    except orjson.JSONDecodeError as error:
        raise RefusedError("key_unreadable", f"the key is not JSON: {error}") from None


_FIRST = frozenset({0, 3})  # bytes of a frame; no JSON begins so
_BINARY = "what follows is not JSON but Avro or Protobuf: convert it to JSON before Driftline reads it"


def _looks_like_json(content: bytes) -> bool:
    return content.lstrip()[:1] == b"{"


def _object(value: bytes) -> dict[str, Any]:
    try:
        document = parse_json(value)
    except orjson.JSONDecodeError as error:
        raise RefusedError("not_json", str(error)) from None
    if not isinstance(document, dict):
        raise RefusedError("not_object", f"the value is a JSON {type(document).__name__}")
    return document
