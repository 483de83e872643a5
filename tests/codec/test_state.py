"""The first line of a state file: what is long is not read before it is known to be ours."""

from __future__ import annotations

import orjson
import pytest

import driftline.codec.state as state
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import RESTORED, Manifest
from driftline.codec.state import FORMAT, KIND, SavedShard, StateFile, StateFileError, decode_line, encode_line

OURS, OTHER = KeyRing((b"the key of this year",)), KeyRing((b"a stranger's own key",))
MANIFEST = Manifest(3, RESTORED, 0, 5, "0" * 32, 1, 1, {"e": 1}, 1, 10, "0" * 64, {"a": "b" * 500}, {}, "", 0)
FILE = StateFile(KIND, FORMAT, "p", 1, 0, [SavedShard(MANIFEST, {"learned": 5})])


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "UNSEALED_BYTES_MAX", 500)


@pytest.mark.parametrize("ring", [NO_KEYS, OURS])
def test_there_and_back(ring: KeyRing) -> None:
    assert decode_line(encode_line(FILE, ring), ring).shards == FILE.shards


@pytest.mark.usefixtures("bound")
def test_a_long_line_is_read_if_a_key_sealed_it() -> None:
    line = encode_line(FILE, OURS)
    assert decode_line(line, OURS).shards == FILE.shards
    for ring in (NO_KEYS, OTHER):
        with pytest.raises(StateFileError, match="it is not read"):
            decode_line(line, ring)
    with pytest.raises(StateFileError, match="DRIFTLINE_SNAPSHOT_KEY"):
        encode_line(FILE, NO_KEYS)


@pytest.mark.usefixtures("bound")
@pytest.mark.parametrize("ring", [NO_KEYS, OURS])
def test_a_long_line_of_a_stranger_is_not_parsed(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    line = encode_line(FILE, OURS)[:-80] + b"[]," * 500

    def parsed(line: bytes) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(orjson, "loads", parsed)
    with pytest.raises(StateFileError, match="it is not read"):
        decode_line(line, ring)


def test_a_line_that_was_written_before_lines_were_sealed_is_read() -> None:
    document = orjson.loads(encode_line(FILE, OURS))
    del document["seal"]
    assert decode_line(orjson.dumps(document) + b"\n", OURS).shards == FILE.shards
