"""Seals: with a key, each journal entry carries an HMAC over its bytes and its place, so that only who has the key can
write one that is accepted.

The chain in an entry is a digest that anybody can compute: it ties the entry to all before it. The seal, over the
entry with its chain and its note, is what needs the key. So a sealed entry vouches for everything that its chain
follows, whoever signed that and when: a journal that began without a key, or under one that is given up, stays whole.
"""

from __future__ import annotations

from app.codec.keyring import KeyRing

_MARK = b',"seal":"'
_CONTEXT = b"driftline journal\n"


def seal(value: bytes, place: str, ring: KeyRing) -> bytes:
    """An entry's JSON with its seal as the last key; as it is without keys.

    Args:
        place: topic and partition, as in `p.journal-0`.
    """
    return b'%s,"seal":"%s"}' % (value[:-1], ring.sign(_sealed(value, place)).encode()) if ring else value


def has_seal(value: bytes | None) -> bool:
    """Whether an entry carries a seal, of whichever key."""
    return value is not None and _MARK in value


def is_sealed(value: bytes | None, place: str, ring: KeyRing) -> bool:
    """Whether one of the keys sealed an entry."""
    body, mark = _split(value)
    return ring.verifies(_sealed(body, place), mark) if mark else False


def is_current(value: bytes | None, place: str, ring: KeyRing) -> bool:
    """Whether the first key sealed an entry; without keys, whether nothing did."""
    body, mark = _split(value)
    return ring.signs(_sealed(body, place), mark)


def _sealed(body: bytes, place: str) -> bytes:
    return b"%s%s\n%s" % (_CONTEXT, place.encode(), body)


def _split(value: bytes | None) -> tuple[bytes, str]:
    """An entry without its seal, and the seal; empty without one.

    The mark cannot stand in a text of JSON, whose quotes are escaped; of several, the last is the entry's own.
    """
    found = value.rfind(_MARK) if value is not None else -1
    if value is None or found < 0:
        return value or b"", ""
    return value[:found] + b"}", value[found + len(_MARK) :].removesuffix(b'"}').decode("utf-8", "replace")
