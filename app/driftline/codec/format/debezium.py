"""Debezium's change events, with and without the schema that Kafka Connect puts beside them.

Source: https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.codec.format.base import Document, Format
from driftline.codec.format.frame import framed_object, read_json_key
from driftline.codec.json import parse_json, write_json
from driftline.codec.reason import PassedOverError, RefusedError
from driftline.core.notation import ENVELOPE
from driftline.core.record import Headers


def read(value: bytes, _: Headers) -> Document:
    """The row after an insert, an update or a snapshot's read."""
    document = framed_object(value)
    change = document.get("payload", document)
    if change is None:  # a tombstone, as Connect writes it beside a schema
        raise PassedOverError("tombstone")
    operation = change.get("op") if isinstance(change, dict) else None
    if operation == "d":
        raise PassedOverError("deleted")
    if operation in ("t", "m"):  # the table was emptied; a message of the database's log
        raise PassedOverError("unselected")
    if operation not in ("c", "u", "r"):
        raise RefusedError("envelope", "not a Debezium change event: op, in payload or at the top, is not c, u, r or d")
    row = change.get("after")
    if isinstance(row, str):  # as of MongoDB
        try:
            row = parse_json(row.encode())
        except ValueError as error:
            raise RefusedError("envelope", f"`after` is a string but not JSON: {error}") from None
    if not isinstance(row, dict):
        raise RefusedError("envelope", f"a change event of op {operation} has no row in `after`")
    return {**row, ENVELOPE: change}


def read_key(key: bytes) -> Any:
    """The key's row, without the schema that may stand beside it."""
    found = read_json_key(key)
    return found["payload"] if isinstance(found, dict) and found.keys() == {"schema", "payload"} else found


def write(row: Mapping[str, Any], around: Mapping[str, Any], _: str | int, time_ms: int) -> bytes:
    """An insert of the row."""
    return write_json({"before": None, "after": row, "op": "c", "ts_ms": time_ms, **around})


def looks_like(document: Document) -> str | None:
    change = document.get("payload", document)
    found = isinstance(change, dict) and "op" in change and "after" in change
    return "a Debezium change event" if found else None


FORMAT = Format(read, write, read_key, looks_like=looks_like)
