"""Scores and outcomes as most are, and the frames of a digest: compiled, to the same bytes as in Python."""

from __future__ import annotations

import os
import struct
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.codec import encode
from driftline.codec.encode import Encoder, Message, framed, plain_framed
from driftline.core.output import (
    ModelVersion,
    Outcome,
    Output,
    Prediction,
    Rejected,
    Score,
    Several,
    Spent,
    Trip,
    Unserved,
)
from driftline.core.place import OWN
from driftline.core.record import Source
from tests.support.small import small

compiled = pytest.mark.skipif(encode.writer is None, reason="no C compiler was there at the installation")

FLOATS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1e15, 1e16, 1e-7]))
LABELS = st.one_of(st.booleans(), st.integers(-(2**63), 2**64 - 1), FLOATS, st.sampled_from(["a", 'ä\n"', ""]))
IDS = st.one_of(st.integers(-(2**53), 2**53), st.sampled_from(["e", "\u2028\\", "x" * 300]))
KEYS = st.one_of(
    st.none(), st.sampled_from([b"", b"k", b"k" * encode.KEY_BYTES_MAX, b"k" * (encode.KEY_BYTES_MAX + 1)])
)
TIMES = st.integers(-1, 2**42)
VERSIONS = st.builds(ModelVersion, st.integers(0, 2**40), st.integers(0, 2**40))
PLAIN = st.builds(Prediction, st.none() | LABELS, st.none(), st.none() | FLOATS)
OF_TWO = st.floats(0, 1).map(lambda share: Prediction(share > 0.5, {False: 1 - share, True: share}, share))
OF_CLASSES = st.builds(Prediction, LABELS, st.dictionaries(LABELS, st.floats(0, 1), max_size=3))
AHEAD = FLOATS.map(lambda value: Several(value=value, ahead=(value,)))
PREDICTIONS = st.one_of(OF_TWO, OF_TWO, PLAIN, OF_CLASSES, AHEAD)
ROWS = st.tuples(st.none() | FLOATS, st.none() | st.sampled_from(["word", "wört"]))
PARTITIONS = st.integers(0, 3)


def mostly(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Seldom None: an outcome that lacks one thing of seven is no test of the others."""
    return st.integers(0, 19).flatmap(lambda number: values if number else st.none())


SCORES = st.builds(
    Score,
    st.sampled_from(["p.events-0-1-0", "ä"]),
    st.builds(Source, st.just("p.events"), PARTITIONS, st.integers(0, 9), TIMES, KEYS, st.just(b"v")),
    IDS,
    TIMES,
    PREDICTIONS,
    st.none() | st.booleans(),
    st.sampled_from(["served", "withheld"]),
    VERSIONS,
    ROWS,
    st.integers(0, 10**6),
    st.sampled_from([(), (), (), (Trip("range", "flag", 1.0, 0.5),)]),
    st.sampled_from([None, None, None, "last_value"]),
    budget=st.sampled_from([None, None, None, Spent(1, 2, 0.5)]),
)
OUTCOMES = st.builds(
    Outcome,
    st.just("p.events-0-1-1"),
    st.sampled_from(["joined", "expired", "failed", "orphan", "corrected"]),
    KEYS,
    TIMES,
    IDS,
    mostly(TIMES),
    mostly(ROWS),
    mostly(PREDICTIONS),
    mostly(VERSIONS),
    mostly(LABELS),
    mostly(TIMES),
    st.sampled_from([None, None, None, "why" * 300]),
    st.sampled_from([None, None, None, True, 1e16]),
    st.sampled_from([OWN, 0, 1, 2]),
    st.sampled_from([(), (), (), (Unserved("m", Prediction(True), ModelVersion(0, 1), "range"),)]),
)
REJECTED = st.just(
    Rejected("p.events-0-1-0", Source("p.events", 0, 1, 5, None, b"bad", (("h", None),)), "not_json", "why")
)
OUTPUTS = st.lists(st.one_of(SCORES, OUTCOMES, REJECTED), max_size=8)
COUNTS = dict.fromkeys(("p.scores", "p.outcomes", "p.rejected"), 3)
ENCODERS = [
    Encoder(small(), 2),
    Encoder(small(), 1, COUNTS),
    Encoder(small("regression", limits={"output_bytes_max": 1024}), 0),
    Encoder(small(limits={"number_max": 1e300}), 0),
    Encoder(small(decision={"budget": 3, "per": "1d"}), 0),
    Encoder(small("recommend"), 0),
]


def written_by(encoder: Encoder, outputs: list[Output], *, plainly: bool) -> list[Message] | str:
    try:
        return encoder.plainly(outputs) if plainly else encoder.encode_all(outputs)
    except Exception as raised:  # noqa: BLE001 - of outputs that a pipeline never makes: the same of both
        return repr(raised)


@compiled
@given(OUTPUTS)
def test_outputs_are_the_same_bytes_compiled(outputs: list[Output]) -> None:
    for encoder in ENCODERS:
        assert written_by(encoder, outputs, plainly=False) == written_by(encoder, outputs, plainly=True)


@compiled
@given(OUTPUTS)
def test_a_digest_is_made_over_the_same_bytes_compiled(outputs: list[Output]) -> None:
    messages = ENCODERS[1].plainly(outputs)
    assert framed(messages) == plain_framed(messages)


@compiled
@pytest.mark.parametrize("key", [None, b"", b"key"])
@pytest.mark.parametrize("value", [None, b"", b"value"])
@pytest.mark.parametrize("headers", [(), (("name", b"text"), ("none", None))])
def test_any_message_is_framed_the_same(key: bytes | None, value: bytes | None, headers: Any) -> None:
    messages = [Message("t", 0, b"k", b"{}", 2**62, (), "scores"), Message("t", 1, key, value, 0, headers, "rejected")]
    assert framed(messages) == plain_framed(messages)
    assert plain_framed(messages)[1] == 2 + len(value or b"")


@compiled
def test_a_time_that_is_not_whole_is_framed_by_neither() -> None:
    messages = [Message("t", 0, None, b"{}", 1.5, (), "scores")]  # type: ignore[arg-type]  # what the type excludes
    for frame in (framed, plain_framed):
        with pytest.raises(struct.error):
            frame(messages)


@compiled
def test_most_are_written_compiled_and_the_rest_plainly() -> None:
    """Else the comparisons above would compare Python with itself."""
    encoder = ENCODERS[0]
    assert encoder.encode_all.__self__ is not encoder  # type: ignore[attr-defined]  # of a method
    source = Source("p.events", 0, 1, 5, b"k", b"v")
    half = Prediction(True, {False: 0.5, True: 0.5}, 0.5)
    version = ModelVersion(0, 1)
    usual = Score("p.events-0-1-0", source, "e", 5, half, None, "served", version)
    other = Score("p.events-0-1-0", source, "e", 5, half, None, "flagged", version, tripped=(Trip("range", "flag"),))
    outcome = Outcome("o", "joined", b"k", 5, "e", 5, (1.0, "a"), half, version, True, 6)
    asked: list[Output] = []

    def plainly(output: Output) -> Message:
        asked.append(output)
        return encoder.encode(output)

    terms = encode.Terms("p", "p.scores", "p.outcomes", {0: 0, OWN: 0}, {0: 0, OWN: 0}, lambda *values: values, 10**6)
    assert encode.writer is not None
    messages = encode.writer(terms, plainly).encode_all([usual, other, outcome])
    assert [message.kind for message in messages] == ["scores", "scores", "outcomes"]
    assert asked == [other]


def test_it_is_compiled_in_ci() -> None:
    assert encode.writer is not None or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"


def test_where_it_was_not_built_python_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "driftline.codec._usual", None)  # an import of it raises
    spec = find_spec("driftline.codec.encode")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone.writer is None
    assert alone.framed is alone.plain_framed
    encoder = alone.Encoder(small(), 0)
    assert encoder.encode_all == encoder.plainly
