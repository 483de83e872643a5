"""Bytes to records: every refusal with its reason, every time with its order, and nothing that raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.codec.decode import ABOUT_EPISODE, COMMANDS, REASONS, Decoder
from driftline.codec.inputs import Inputs
from driftline.core.pipeline import Pipeline
from driftline.core.record import Control, Event, InputRecord, Label, Malformed, Source
from tests.support.small import NOW_MS, event_bytes, label_bytes, small, source

DECODER = Decoder(small())
TIMED = Decoder(small(event={"time": "at"}, label={"time": "at"}))


def event(value: bytes | None, decoder: Decoder = DECODER, time_ms: int = NOW_MS) -> InputRecord:
    return decoder.event(source("p.events", 3, value, time_ms))


def label(value: bytes | None, decoder: Decoder = DECODER, time_ms: int = NOW_MS) -> InputRecord:
    return decoder.label(source("p.labels", 3, value, time_ms))


def reason(record: InputRecord) -> str:
    assert isinstance(record, Malformed), record
    assert record.reason in REASONS
    assert record.detail
    assert record.order_ms == max(record.source.record_time_ms, 0)
    return record.reason


def test_an_event_as_it_should_be() -> None:
    made = event(event_bytes("e", 2.5))
    origin = source("p.events", 3, event_bytes("e", 2.5))
    assert made == Event(origin, NOW_MS, NOW_MS, "e", (2.5, "a"), False)


def test_a_label_as_it_should_be() -> None:
    made = label(label_bytes(7, 1))
    assert made == Label(source("p.labels", 3, label_bytes(7, 1)), NOW_MS, NOW_MS, 7, True, False)


@pytest.mark.parametrize("decode", [DECODER.event, DECODER.label, DECODER.control])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "empty"),
        (b" ", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b'{"id": "\xff"}', "not_json"),
        (b'{"id": 1, "x": NaNs}', "not_json"),
        (b'{"id": 1, "x": Infinity', "not_json"),
        (b'{"id": 1, "x": NaN, "y": 1e999}', "not_json"),
        (b'{"id": 1, "x": 1e999}', "not_json"),
        (b'{"id": "\\ud800"}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, "not_json"),
        (b'{"id": 1} {"id": 2}', "not_json"),
        (b"null", "not_object"),
        (b"[1]", "not_object"),
        (b'"text"', "not_object"),
        (b"1", "not_object"),
    ],
)
def test_no_document(decode: Callable[[Source], InputRecord], value: bytes | None, why: str) -> None:
    assert reason(decode(source("t", 0, value))) == why


def test_the_longest_record() -> None:
    decoder = Decoder(small(limits={"record_bytes_max": 200}))
    fits = event_bytes("e", pad="x" * (200 - len(event_bytes("e", pad=""))))
    assert len(fits) == 200
    assert isinstance(event(fits, decoder), Event)
    assert reason(event(fits.replace(b'"pad":"', b'"pad":"x'), decoder)) == "too_large"
    assert reason(event(b"x" * 2_000_000)) == "too_large"


@pytest.mark.parametrize(
    ("event_id", "why"),
    [(None, "id_missing"), (True, "id_type"), ([1], "id_type"), ({}, "id_type"), (1e20, "id_type")],
)
@pytest.mark.parametrize("decode", [event, label])
def test_no_id(decode: Callable[[bytes], InputRecord], event_id: object, why: str) -> None:
    assert reason(decode(orjson.dumps({"id": event_id, "x": 1, "y": 1}))) == why


def test_an_id_is_text_or_a_whole_number_and_never_both() -> None:
    for event_id in ("", "7", 7, 0, -1, 2**63, 2**64 - 1, "x" * 1_000, "é\u0000"):
        made = event(orjson.dumps({"id": event_id, "x": 1}))
        assert isinstance(made, Event)
        assert made.event_id == event_id
        assert type(made.event_id) is type(event_id)
    assert reason(event(event_bytes("x" * 1_001))) == "id_too_long"
    assert reason(event(b'{"x": 1}')) == "id_missing"


def test_a_missing_feature_follows_its_rule() -> None:
    features = {
        "x": "number",
        "filled": {"type": "number", "missing": 9},
        "left_out": {"type": "boolean", "missing": "omit"},
    }
    decoder = Decoder(small(event={"features": features}, model="LogisticRegression()"))
    for missing in (b'{"id": 1, "x": 2}', b'{"id": 1, "x": 2, "filled": null, "left_out": null}'):
        made = event(missing, decoder)
        assert isinstance(made, Event)
        assert made.features == (2, 9, None)
    assert reason(event(b'{"id": 1, "filled": 1}', decoder)) == "feature_missing"
    assert reason(event(b'{"id": 1, "x": null}', decoder)) == "feature_missing"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("number", [0, -1, 2.5, 1e15, -1e15, 10**15], [True, "1", [], {}, [1]]),
        ("string", ["", "a", "x" * 1_000], [1, True, 1.5, [], {}]),
        ("boolean", [True, False], [0, 1, "true", [], {}]),
    ],
)
def test_a_feature_is_of_its_type(kind: str, good: list[Any], bad: list[Any]) -> None:
    decoder = Decoder(small(event={"features": {"f": kind}}, model="LogisticRegression()"))
    for value in good:
        made = event(orjson.dumps({"id": 1, "f": value}), decoder)
        assert isinstance(made, Event)
        assert made.features == (value,)
        assert type(made.features[0]) is type(value)
    for value in bad:
        assert reason(event(orjson.dumps({"id": 1, "f": value}), decoder)) == "feature_type"


@pytest.mark.parametrize("value", ["1.0000001e15", "-2e15", "1e16", "1e300", "-1e300", "99999999999999999999999"])
def test_a_number_beyond_the_limit(value: str) -> None:
    assert reason(event(b'{"id": 1, "x": %s}' % value.encode())) == "number_too_large"


def test_a_text_beyond_the_limit() -> None:
    assert reason(event(orjson.dumps({"id": 1, "x": 1, "word": "x" * 1_001}))) == "string_too_long"


def test_nesting_that_orjson_takes_is_refused_by_type_and_not_walked_into() -> None:
    for depth in (100, 1_000, 1_020):
        deep = b"[" * depth + b"]" * depth
        assert reason(event(b'{"id": 1, "x": %s}' % deep)) == "feature_type"
        assert reason(event(b'{"id": %s, "x": 1}' % deep)) == "id_type"
        assert reason(label(b'{"id": 1, "y": %s}' % deep)) == "label_type"
        assert reason(event(b'{"id": 1, "x": 1, "at": %s}' % deep, TIMED)) == "time_unreadable"
        assert reason(DECODER.control(source("p.control", 0, b'{"command": %s}' % deep))) == "control_unknown"
        assert isinstance(event(b'{"id": 1, "x": 1, "more": %s}' % deep), Event)


def test_paths_lead_into_objects_and_arrays() -> None:
    features = {"x": {"path": "a.b", "type": "number"}, "y": {"path": "list.1.v", "type": "number"}, "0": "number"}
    pipeline = small(event={"id": "meta.id", "features": features}, model="LogisticRegression()")
    decoder = Decoder(pipeline)
    document: dict[str, Any] = {"meta": {"id": "e"}, "a": {"b": 1}, "list": [0, {"v": 2}], "0": 3}
    made = event(orjson.dumps(document), decoder)
    assert isinstance(made, Event)
    assert (made.event_id, made.features) == ("e", (1, 2, 3))
    for way, value in (("a", 1), ("a", []), ("list", [0]), ("list", [0, 1]), ("list", {"0": 1}), ("a", {"c": 1})):
        assert reason(event(orjson.dumps({**document, way: value}), decoder)) == "feature_missing"
    by_key = event(orjson.dumps({**document, "list": {"1": {"v": 5}}}), decoder)
    assert isinstance(by_key, Event)
    assert by_key.features == (1, 5, 3)
    dotted = Decoder(
        small(event={"features": {"x": {"path": "a\\.b", "type": "number"}}}, model="LogisticRegression()")
    )
    made = event(b'{"id": 1, "a.b": 4}', dotted)
    assert isinstance(made, Event)
    assert made.features == (4,)


@pytest.mark.parametrize(
    ("written", "time_ms"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.25, 1_700_000_000_250),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123_456, 1_700_000_000_123),
        (1_700_000_000_123_456_789, 1_700_000_000_123),
        ("1700000000123456", 1_700_000_000_123),
        (0, 0),
        (-1, -1_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14T23:13:20.500+01:00", 1_700_000_000_500),
        ("2023-11-14", 1_699_920_000_000),
        ("1996-05-07T00:00:00Z", 831_427_200_000),
    ],
)
def test_times_as_users_write_them(written: object, time_ms: int) -> None:
    made = event(orjson.dumps({"id": 1, "x": 1, "at": written}), TIMED)
    assert isinstance(made, Event)
    assert (made.time_ms, made.order_ms, made.time_ahead) == (time_ms, time_ms, False)


@pytest.mark.parametrize("written", ["tomorrow", "", "14/11/2023", True, [], {}, 1e21, 1e300, -1e300, "10000-01-01"])
def test_no_time(written: object) -> None:
    assert reason(event(orjson.dumps({"id": 1, "x": 1, "at": written}), TIMED)) == "time_unreadable"
    assert reason(label(orjson.dumps({"id": 1, "y": 1, "at": written}), TIMED)) == "time_unreadable"


def test_a_missing_time() -> None:
    assert reason(event(event_bytes(1), TIMED)) == "time_missing"
    assert reason(event(event_bytes(1, at=None), TIMED)) == "time_missing"
    assert reason(event(event_bytes(1), time_ms=-1)) == "time_missing"  # and the record has none either


def test_a_time_far_ahead_is_marked_and_ordered_by_the_record() -> None:
    bound_ms = 3_600_000
    for ahead_ms, marked in ((0, False), (bound_ms, False), (bound_ms + 1, True), (10 * 365 * 86_400_000, True)):
        made = event(event_bytes(1, at=NOW_MS + ahead_ms), TIMED)
        assert isinstance(made, Event)
        assert made.time_ms == NOW_MS + ahead_ms
        assert made.time_ahead is marked
        assert made.order_ms == (NOW_MS if marked else made.time_ms)
        truth = label(label_bytes(1, at=NOW_MS + ahead_ms), TIMED)
        assert isinstance(truth, Label)
        assert (truth.time_ahead, truth.order_ms) == (marked, made.order_ms)


def test_a_record_without_a_timestamp_is_ordered_by_its_event_time() -> None:
    made = event(event_bytes(1, at=NOW_MS), TIMED, time_ms=-1)
    assert isinstance(made, Event)
    assert (made.time_ms, made.order_ms, made.time_ahead) == (NOW_MS, NOW_MS, False)


@pytest.mark.parametrize(
    ("value", "why"), [(b'{"id": 1}', "label_missing"), (b'{"id": 1, "y": null}', "label_missing")]
)
def test_a_missing_label(value: bytes, why: str) -> None:
    assert reason(label(value)) == why


@pytest.mark.parametrize("value", [2, "yes", [], 0.5])
def test_a_label_that_the_task_cannot_use(value: object) -> None:
    assert reason(label(label_bytes(1, value))) == "label_type"


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"episode": 7},
        {"episode": ""},
        {"episode": "x" * 1_001},
        {"episode": "x"},
        {"episode": "x", "for_ms": 0},
        {"episode": "x", "for_ms": -1},
        {"episode": "x", "for_ms": True},
        {"episode": "x", "for_ms": 1.5},
        {"episode": "x", "for_ms": "1h"},
        {"episode": "x", "for_ms": 10**12},
    ],
)
def test_a_silence_needs_an_episode_and_a_span(about: dict[str, object]) -> None:
    made = DECODER.control(source("p.control", 0, orjson.dumps({"command": "silence", **about})))
    assert reason(made) == "control_invalid"


def test_missing_features_are_marked() -> None:
    made = DECODER.event(source("p.events", 0, orjson.dumps({"id": 1, "x": 2})))
    assert isinstance(made, Event)
    assert made.missing == 0b10
    there = DECODER.event(source("p.events", 0, event_bytes(1)))
    assert isinstance(there, Event)
    assert there.missing == 0


def test_commands() -> None:
    for command in COMMANDS:
        if command in ("load", "review"):  # tests/core/fold/test_load.py, tests/core/guard/test_review.py
            continue
        about = {"episode": "p-0-error-l1", "for_ms": 1} if command in ABOUT_EPISODE else {}
        made = DECODER.control(source("p.control", 0, orjson.dumps({"command": command, "by": "me", **about})))
        assert isinstance(made, Control)
        assert (made.episode, made.span_ms) == (about.get("episode", ""), about.get("for_ms", 0))
        assert (made.command, made.order_ms) == (command, NOW_MS)
    for value in (
        b"{}",
        b'{"command": null}',
        b'{"command": "FREEZE"}',
        b'{"command": ["freeze"]}',
        b'{"command": {}}',
    ):
        assert reason(DECODER.control(source("p.control", 0, value))) == "control_unknown"


def test_inputs_in_the_order_of_their_rank() -> None:
    inputs = Inputs(small())
    assert inputs.topics == ("p.control", "p.labels", "p.events")
    assert inputs.rank == {"p.control": 0, "p.labels": 1, "p.events": 2}
    assert isinstance(inputs.decoders[1](source("p.labels", 0, label_bytes(1))), Label)
    assert isinstance(inputs.decoders[2](source("p.events", 0, event_bytes(1))), Event)
    without = Inputs(small("anomaly", label=None))
    assert without.topics == ("p.control", "p.events")
    assert isinstance(without.decoders[1](source("p.events", 0, event_bytes(1))), Event)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "x", "y", "at", "z"]), inner),
    max_leaves=12,
)
_DOCUMENTS = st.dictionaries(st.sampled_from(["id", "x", "word", "y", "at", "command"]), _JSON).map(orjson.dumps)


@given(value=st.none() | st.binary(max_size=60) | _DOCUMENTS, time_ms=st.integers(-1, 2**62))
@example(value=b'{"id":1,"x":1,"at":-62135596800}', time_ms=0)
@example(value=b'{"id":1,"x":1,"at":"0001-01-01T00:00:00+23:59"}', time_ms=0)
@example(value=b'{"id":1,"x":1,"at":"9999-12-31T23:59:59.999999-23:59"}', time_ms=0)
def test_decoding_is_total_and_pure(value: bytes | None, time_ms: int) -> None:
    for decoder in (DECODER, TIMED):
        for decode in (decoder.event, decoder.label, decoder.control):
            origin = source("t", 1, value, time_ms)
            record = decode(origin)
            assert record == decode(origin)
            assert record.source is origin
            if isinstance(record, Malformed):
                assert record.reason in REASONS


@pytest.mark.parametrize("pipeline", [small(), small("multiclass"), small("regression"), small("anomaly")])
def test_every_task_decodes_its_labels(pipeline: Pipeline) -> None:
    assert isinstance(Decoder(pipeline).label(source("p.labels", 0, label_bytes("e", 1))), Label)


@pytest.mark.parametrize(
    ("written", "read"), [(b"7.0", 7), (b"-0.0", 0), (b"1.5", 1.5), (b"9007199254740992.0", 2**53)]
)
@pytest.mark.parametrize("decode", [event, label])
def test_a_number_is_an_id_and_a_whole_one_equals_its_integer(
    decode: Callable[[bytes], InputRecord], written: bytes, read: float
) -> None:
    found = decode(b'{"id": ' + written + b', "x": 1, "y": 1}')
    assert isinstance(found, Event | Label)
    assert found.event_id == read
    assert type(found.event_id) is type(read)


def test_whole_numbers_that_no_float_tells_apart_are_no_ids() -> None:
    assert reason(event(b'{"id": 123456789012345678901234567890, "x": 1}')) == "id_type"
