"""Seals: over an entry's bytes and its place, by any key of the ring."""

from __future__ import annotations

import orjson
import pytest

from driftline.codec.journal import CHAIN_START, SliceEntry, decode_link, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.seal import has_seal, is_current, is_sealed, seal

OLD, NEW = KeyRing((b"the key of last year",)), KeyRing((b"the key of this year",))
BOTH = KeyRing((*NEW.keys, *OLD.keys))
LINKED = link(SliceEntry(1, {}, 5, 0, "0" * 32, 5, 1), CHAIN_START, {"seal": ',"seal":"', "nested": {"seal": "x"}})
VALUE = encode_link(LINKED)


def test_an_entry_is_read_as_without_its_seal() -> None:
    assert decode_link(seal(VALUE, "p.journal-0", NEW)) == LINKED
    assert orjson.loads(seal(VALUE, "p.journal-0", NEW)).keys() - orjson.loads(VALUE).keys() == {"seal"}


def test_without_keys_nothing_changes() -> None:
    assert seal(VALUE, "p.journal-0", NO_KEYS) == VALUE
    assert is_current(encode_link(link(LINKED.entry, CHAIN_START)), "p.journal-0", NO_KEYS)
    assert not is_sealed(VALUE, "p.journal-0", NO_KEYS)


def test_every_key_verifies_and_the_first_is_current() -> None:
    old, new = seal(VALUE, "p.journal-0", OLD), seal(VALUE, "p.journal-0", BOTH)
    assert is_sealed(old, "p.journal-0", BOTH)
    assert is_sealed(new, "p.journal-0", NEW)
    assert not is_sealed(old, "p.journal-0", NEW)
    assert is_current(new, "p.journal-0", BOTH)
    assert not is_current(old, "p.journal-0", BOTH)
    assert not is_current(old, "p.journal-0", NO_KEYS)
    assert has_seal(old)


@pytest.mark.parametrize("byte", [0, 1, 20, len(VALUE) // 2, len(VALUE) - 2, len(VALUE) + 20])
def test_no_byte_can_be_changed(byte: int) -> None:
    sealed = seal(VALUE, "p.journal-0", NEW)
    changed = sealed[:byte] + bytes([sealed[byte] ^ 1]) + sealed[byte + 1 :]
    assert not is_sealed(changed, "p.journal-0", NEW)


@pytest.mark.parametrize("place", ["p.journal-1", "q.journal-0"])
def test_it_holds_in_its_place_alone(place: str) -> None:
    assert not is_sealed(seal(VALUE, "p.journal-0", NEW), place, NEW)


@pytest.mark.parametrize("value", [None, b"", b"{}", VALUE, VALUE[:-1] + b',"seal":""}', VALUE + b',"seal":"\xff"}'])
def test_what_has_no_seal(value: bytes | None) -> None:
    assert not is_sealed(value, "p.journal-0", NEW)


@pytest.mark.parametrize("deep", ["x", "0" * 64])
def test_a_seal_deeper_in_an_entry_is_none(deep: str) -> None:
    """A parameter of the pipeline may have that name, and an epoch carries the whole pipeline."""
    value = orjson.dumps({"kind": "epoch", "pipeline": {"params": {"rate": 1, "seal": deep}}})
    assert not has_seal(value)
    assert is_current(value, "p.journal-0", NO_KEYS)
    assert is_current(seal(value, "p.journal-0", NEW), "p.journal-0", NEW)
