"""Journal entries and the chain that ties each to the one before."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driftline.codec.journal import (
    CHAIN_START,
    COUNT_MAX,
    Entry,
    EpochEntry,
    Link,
    Range,
    SliceEntry,
    chained,
    decode_link,
    encode_link,
    follows,
    link,
)
from driftline.core.error import InvariantError
from tests.support.absurd import changed

SLICE = SliceEntry(
    number=3,
    inputs={"p.events": Range(10, 14, 3), "p.labels": Range(0, 1, 1)},
    tick_ms=None,
    outputs=4,
    digest="ab" * 16,
    watermark_ms=1_700_000_000_000,
    epoch=1,
)
TICK = SliceEntry(number=4, inputs={}, tick_ms=5, outputs=0, digest="cd" * 16, watermark_ms=5, epoch=1)
EPOCH = EpochEntry(
    number=1,
    reason="first",
    state="fresh",
    positions={"p.events": 10, "p.labels": 0, "p.control": 0},
    slice_number=2,
    pipeline={"pipeline": "p", "limits": {"number_max": 1e15}},
    versions={"app": "1"},
    arithmetic="00",
)


@pytest.mark.parametrize("entry", [SLICE, TICK, EPOCH])
def test_a_link_comes_back_as_it_was(entry: Entry) -> None:
    linked = link(entry, CHAIN_START, {"pending": 3})
    assert decode_link(encode_link(linked)) == linked
    assert decode_link(encode_link(link(entry, CHAIN_START))).note is None


def test_an_entry_is_readable_json() -> None:
    value = orjson.loads(encode_link(link(SLICE, CHAIN_START)))
    assert value["kind"] == "slice"
    assert value["inputs"]["p.events"] == {"start": 10, "stop": 14, "count": 3}
    assert value["merge"] == "time-1"
    assert value["chain"] == link(SLICE, CHAIN_START).chain
    assert orjson.loads(encode_link(link(EPOCH, CHAIN_START)))["kind"] == "epoch"


def test_a_chain_holds_over_the_wire_and_in_order_only() -> None:
    chain = CHAIN_START
    made: list[Link] = []
    for entry in (EPOCH, SLICE, TICK):
        made.append(link(entry, chain))
        chain = made[-1].chain
    first, second, third = (decode_link(encode_link(linked)) for linked in made)
    assert follows(first, CHAIN_START)
    assert follows(second, first.chain)
    assert follows(third, second.chain)
    assert not follows(third, first.chain)
    assert not follows(first, first.chain)
    assert len({linked.chain for linked in made}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"number": 4},
        {"outputs": 5},
        {"digest": "ac" * 16},
        {"epoch": 2},
        {"watermark_ms": None},
        {"tick_ms": 1},
        {"merge": "time-2"},
        {"inputs": {"p.events": Range(10, 15, 3), "p.labels": Range(0, 1, 1)}},
        {"inputs": {"p.events": Range(10, 14, 4), "p.labels": Range(0, 1, 1)}},
    ],
)
def test_an_entry_that_was_changed_follows_nothing(change: dict[str, Any]) -> None:
    linked = link(SLICE, CHAIN_START)
    assert not follows(structs.replace(linked, entry=structs.replace(SLICE, **change)), CHAIN_START)


def test_a_changed_pipeline_breaks_the_chain_and_a_note_does_not() -> None:
    linked = link(EPOCH, CHAIN_START, {"pending": 1})
    changed = structs.replace(EPOCH, pipeline={"pipeline": "p", "limits": {"number_max": 1e16}})
    assert not follows(structs.replace(linked, entry=changed), CHAIN_START)
    assert follows(structs.replace(linked, note=None), CHAIN_START)


@pytest.mark.parametrize("entry", [SLICE, EPOCH])
def test_an_entry_with_an_absurd_field_is_none_or_can_be_chained(entry: Entry) -> None:
    """So numbers that follow from those in it can be written, and what it names can be looked up."""
    document = orjson.loads(encode_link(link(entry, CHAIN_START)))
    refused = 0
    for what, absurd in changed(document):
        try:
            linked = decode_link(orjson.dumps(absurd))
        except InvariantError:
            refused += 1
            continue
        made = linked.entry
        assert 0 <= made.number <= COUNT_MAX, what
        chained(structs.replace(made, number=made.number + 1))
        if isinstance(made, SliceEntry):
            assert all(0 <= part.start < part.stop <= COUNT_MAX for part in made.inputs.values()), what
        else:
            assert all(0 <= offset <= COUNT_MAX for offset in made.positions.values()), what
    assert refused > 50


def test_what_is_too_deep_to_be_chained_follows_nothing() -> None:
    """JSON is read deeper than it is written."""
    deep: bytes = b'{"a":' * 300 + b"1" + b"}" * 300
    value = encode_link(link(EPOCH, CHAIN_START)).replace(b'"pipeline":{', b'"pipeline":{"deep":' + deep + b",")
    assert not follows(decode_link(value), CHAIN_START)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"chain": "x"}',
        b'{"chain": "x", "kind": "other"}',
        encode_link(link(SLICE, CHAIN_START)).replace(b'"number":3', b'"number":"3"'),
        encode_link(link(SLICE, CHAIN_START)).replace(b'"digest"', b'"digested"'),
        encode_link(link(SLICE, CHAIN_START)).replace(b'"chain"', b'"chained"'),
        encode_link(link(EPOCH, CHAIN_START)).replace(b'"fresh"', b'"stale"'),
    ],
)
def test_what_is_no_entry_is_told_with_what_to_do(value: bytes | None) -> None:
    with pytest.raises(InvariantError, match="only Driftline may write to it"):
        decode_link(value)


_RANGES = st.tuples(st.integers(0, 2**61), st.integers(1, 10**6), st.integers(0, 2**60)).map(
    lambda of: Range(of[0], of[0] + of[1] + of[2], of[1])
)


@given(
    number=st.integers(1, 2**62),
    inputs=st.dictionaries(st.text(min_size=1, max_size=9).filter(lambda name: ":" not in name), _RANGES, max_size=3),
    tick_ms=st.none() | st.integers(-(2**62), 2**62),
    previous=st.text("0123456789abcdef", min_size=32, max_size=32),
)
def test_any_slice_survives_the_wire(number: int, inputs: dict[str, Range], tick_ms: int | None, previous: str) -> None:
    entry = structs.replace(SLICE, number=number, inputs=inputs, tick_ms=tick_ms)
    linked = decode_link(encode_link(link(entry, previous)))
    assert linked.entry == entry
    assert follows(linked, previous)
