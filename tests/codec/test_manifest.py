"""Snapshots as records: chunks that make the bytes again, and a manifest that nobody changes unseen."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from driftline.codec.journal import COUNT_MAX
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import (
    CHUNK_BYTES,
    Manifest,
    chunk_key,
    decode_index,
    decode_manifest,
    encode_manifest,
    manifest_key,
    split,
    state_digest,
)
from driftline.core.error import SnapshotError
from tests.support.absurd import changed
from tests.support.manifest import manifest

KEY = KeyRing((b"a key of the deployment",))
MANIFEST = manifest()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_chunks_make_the_bytes_again(size: int) -> None:
    frozen = bytes(index % 251 for index in range(size))
    chunks = list(split(frozen))
    assert b"".join(chunks) == frozen
    assert len(chunks) == -(-size // CHUNK_BYTES)
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)


def test_keys_are_apart_by_slot_and_part() -> None:
    keys = {chunk_key(slot, number) for slot in (0, 1) for number in range(12)} | {manifest_key(0), manifest_key(1)}
    assert len(keys) == 26
    assert manifest_key(1) == b"1/manifest"
    assert chunk_key(1, 10) == b"1/10"


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode_manifest(encode_manifest(MANIFEST, NO_KEYS), NO_KEYS) == MANIFEST
    signed = decode_manifest(encode_manifest(MANIFEST, KEY), KEY)
    assert signed.signature
    assert Manifest(**orjson.loads(encode_manifest(MANIFEST, NO_KEYS))) == MANIFEST


def test_without_a_key_a_signed_manifest_is_read() -> None:
    assert decode_manifest(encode_manifest(MANIFEST, KEY), NO_KEYS).chain == MANIFEST.chain


def test_with_a_key_an_unsigned_or_foreign_manifest_is_refused() -> None:
    for value in (encode_manifest(MANIFEST, NO_KEYS), encode_manifest(MANIFEST, KeyRing((b"another key",)))):
        with pytest.raises(SnapshotError, match="not signed with a key"):
            decode_manifest(value, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"journal_offset": 42},
        {"chain": "ac" * 16},
        {"positions": {"p.events": 11}},
        {"digest": state_digest(b"other")},
        {"partition": 0},
        {"slot": 1},
        {"pipeline": {"pipeline": "q"}},
        {"versions": {"app": "2"}},
        {"taken_ms": 6},
    ],
)
def test_with_a_key_no_word_of_it_can_be_changed(change: dict[str, Any]) -> None:
    value = orjson.dumps({**orjson.loads(encode_manifest(MANIFEST, KEY)), **change})
    with pytest.raises(SnapshotError, match="not signed with a key"):
        decode_manifest(value, KEY)


DEEP = encode_manifest(MANIFEST, NO_KEYS).replace(b'{"pipeline":"p"}', b'{"a":' * 300 + b"1" + b"}" * 300)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b"\xff", b'{"format": "1"}', DEEP])
def test_what_is_no_manifest_is_refused(value: bytes) -> None:
    for key in (NO_KEYS, KEY):
        with pytest.raises(SnapshotError, match="cannot be read"):
            decode_manifest(value, key)


def test_of_absurd_fields_a_manifest_is_refused_or_its_numbers_have_successors() -> None:
    """The next slice and the next epoch are numbered from it, and their entries must be written."""
    refused = 0
    for what, absurd in changed(orjson.loads(encode_manifest(MANIFEST, NO_KEYS))):
        try:
            found = decode_manifest(orjson.dumps(absurd), NO_KEYS)
        except SnapshotError:
            refused += 1
            continue
        assert all(0 <= one <= COUNT_MAX for one in (found.slice_number, found.epoch, *found.positions.values())), what
    assert refused > 100


@pytest.mark.parametrize(
    "value", [b"", b"\xc1", b"\xa1\xff", b"\x91\x95\x01\xc2\x00\x92\xa1\xff\x01\x90", b"\x91" * 5_000]
)
def test_what_is_no_index_is_refused(value: bytes) -> None:
    """A digest that is no UTF-8 ended the worker at each start, where anyone may write snapshots."""
    with pytest.raises(SnapshotError, match="index cannot be read"):
        decode_index(value)
