"""Signatures inside JSON: an HMAC over all the other bytes and over what it is for, as the document's last key.

Seals are those of journal entries. The chain in an entry is a digest that anybody can compute: it ties the entry to all
before it. The seal, over the entry with its chain and its note, is what needs the key. So a sealed entry vouches for
everything that its chain follows, whoever signed that and when: a journal that began without a key, or under one that
is given up, stays whole.
"""

from __future__ import annotations

import re

from driftline.codec.keyring import KeyRing

_END = re.compile(rb'([0-9a-f]{64})"\}')  # of a document with a signature


class Signature:
    """One kind of signature.

    Args:
        name: the key that carries it.
        context: what it is for, so that one kind is never taken for another.
    """

    def __init__(self, name: bytes, context: bytes) -> None:
        self._mark = b',"%s":"' % name
        self._context = context

    def put(self, value: bytes, place: str, ring: KeyRing) -> bytes:
        """A JSON object with its signature by the first key; as it is without keys.

        Args:
            place: where it holds.
        """
        if not ring:
            return value
        return b'%s%s%s"}' % (value[:-1], self._mark, ring.sign(self._signed(value, place)).encode())

    def on(self, value: bytes | None) -> bool:
        """Whether there is one, of whichever key."""
        return bool(self._split(value)[1])

    def verifies(self, value: bytes | None, place: str, ring: KeyRing) -> bool:
        """Whether one of the keys signed it."""
        body, signature = self._split(value)
        return ring.verifies(self._signed(body, place), signature) if signature else False

    def current(self, value: bytes | None, place: str, ring: KeyRing) -> bool:
        """Whether the first key signed it; without keys, whether nothing did."""
        body, signature = self._split(value)
        return ring.signs(self._signed(body, place), signature)

    def _signed(self, body: bytes, place: str) -> bytes:
        return b"%s%s\n%s" % (self._context, place.encode(), body)

    def _split(self, value: bytes | None) -> tuple[bytes, str]:
        """A document without its signature, and that; empty without one.

        The mark cannot stand in a text of JSON, whose quotes are escaped. What is deeper in the document may have that
        name too; only its own last key ends where the document ends.
        """
        found = value.rfind(self._mark) if value is not None else -1
        if value is None or found < 0 or (end := _END.fullmatch(value, found + len(self._mark))) is None:
            return value or b"", ""
        return value[:found] + b"}", end[1].decode()


SEAL = Signature(b"seal", b"driftline journal\n")


def seal(value: bytes, place: str, ring: KeyRing) -> bytes:
    """A journal entry with its seal.

    Args:
        place: topic and partition, as in `p.journal-0`.
    """
    return SEAL.put(value, place, ring)


def has_seal(value: bytes | None) -> bool:
    """Whether an entry carries a seal, of whichever key."""
    return SEAL.on(value)


def is_sealed(value: bytes | None, place: str, ring: KeyRing) -> bool:
    """Whether one of the keys sealed an entry."""
    return SEAL.verifies(value, place, ring)


def is_current(value: bytes | None, place: str, ring: KeyRing) -> bool:
    """Whether the first key sealed an entry; without keys, whether nothing did."""
    return SEAL.current(value, place, ring)
