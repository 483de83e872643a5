"""Produce requests, put together in one go.

aiokafka encodes a request from the inside out, and at each level copies the batches that are in it: of a whole slice,
two milliseconds. Here the pieces are collected along the request's own schema and joined once.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Array, Bytes, Int32, Schema


def joined(request: Any) -> bytes:
    """The bytes of a request, as its own `encode` would make them."""
    pieces: list[bytes] = []
    _collect(request.SCHEMA, [request.__dict__[name] for name in request.SCHEMA.names], pieces)
    return b"".join(pieces)


def _collect(kind: Any, value: Any, pieces: list[bytes]) -> None:
    if type(kind) is Schema:
        for field, item in zip(kind.fields, value, strict=True):
            _collect(field, item, pieces)
    elif type(kind) is Array and value is not None:
        pieces.append(Int32.encode(len(value)))
        for item in value:
            _collect(kind.array_of, item, pieces)
    elif kind is Bytes and value is not None:
        pieces += (Int32.encode(len(value)), value)
    else:
        pieces.append(kind.encode(value))


def install() -> None:
    """Encode all versions of aiokafka's produce request so, in this process."""
    for kind in ProduceRequest._CLASSES:
        kind.encode = joined
