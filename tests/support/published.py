"""What is published, at once."""

from __future__ import annotations

from collections.abc import Iterable

from driftline.codec.encode import Digest, Message


def digest(messages: Iterable[Message]) -> str:
    """Over all that a slice publishes, hexadecimal."""
    made = Digest()
    made.add(messages)
    return made.hex()
