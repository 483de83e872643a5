"""A record to be written, whatever it holds."""

from __future__ import annotations

from msgspec import Struct

from driftline.core.record import Headers


class Write(Struct, frozen=True, gc=False):
    """A record to be written.

    Args:
        timestamp_ms: None takes the wall clock.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None = None
    headers: Headers = ()


def write_bytes(write: Write) -> int:
    """Bytes of key, value and headers."""
    headers = write.headers
    size = len(write.key or b"") + len(write.value or b"")
    return size + sum(len(name.encode()) + len(value or b"") for name, value in headers)
