"""A snapshot's manifest, made up."""

from __future__ import annotations

from typing import Any

from driftline.codec.manifest import Manifest, state_digest

_FIELDS: dict[str, Any] = {
    "format": 1,
    "slot": 0,
    "partition": 3,
    "journal_offset": 41,
    "chain": "ab" * 16,
    "slice_number": 7,
    "epoch": 1,
    "positions": {"p.events": 10},
    "chunks": 2,
    "size_bytes": 600_000,
    "digest": state_digest(b"state"),
    "pipeline": {"pipeline": "p"},
    "versions": {"app": "1"},
    "arithmetic": "00",
    "taken_ms": 5,
}


def manifest(**fields: Any) -> Manifest:
    """A manifest with these fields, and others as they may be."""
    return Manifest(**{**_FIELDS, **fields})
