"""Commands to bytes: each says for which pipeline it is, by whom, when it was sent, a nonce, and all that signed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Struct

from driftline.codec.keyring import KeyRing
from driftline.codec.seal import Signature

BY_MAX = 100  # characters
NONCE = re.compile(r"[0-9a-f]{32}")
SIGNATURE = Signature(b"signature", b"driftline command\n")


class Sender(Struct, frozen=True):
    """Who sends a command, when, to which pipeline.

    Args:
        nonce: 32 hexadecimal digits, alike in all parts of a load and otherwise never used again.
    """

    pipeline: str
    by: str
    sent_ms: int
    nonce: str


def encode_command(command: Mapping[str, Any], sender: Sender, ring: KeyRing) -> bytes:
    """A command's JSON, signed if there is a key."""
    document = {
        **command,
        "pipeline": sender.pipeline,
        "by": sender.by,
        "sent_ms": sender.sent_ms,
        "nonce": sender.nonce,
    }
    return SIGNATURE.put(orjson.dumps(document), "", ring)


def sender_of(document: Mapping[str, Any]) -> Sender:
    """What a command says of its sender: empty or 0 where it says nothing that can be."""
    pipeline, by, sent_ms, nonce = (document.get(name) for name in ("pipeline", "by", "sent_ms", "nonce"))
    return Sender(
        pipeline if isinstance(pipeline, str) else "",
        "".join(filter(str.isprintable, by))[:BY_MAX] if isinstance(by, str) else "",
        sent_ms if type(sent_ms) is int and 0 <= sent_ms < 2**53 else 0,
        nonce if isinstance(nonce, str) and NONCE.fullmatch(nonce) else "",
    )


def has_signature(value: bytes | None) -> bool:
    """Whether a command carries a signature, of whichever key."""
    return SIGNATURE.on(value)


def is_signed(value: bytes | None, ring: KeyRing) -> bool:
    """Whether one of the keys signed a command."""
    return SIGNATURE.verifies(value, "", ring)
