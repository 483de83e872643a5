"""Records as they are on real topics: numbers as text, ids in keys and headers, envelopes, frames, and what is not
meant."""

from __future__ import annotations

import base64
import json
import random
import re
import struct
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.codec.json import NotFinite, mark_bare, parse_json
from driftline.core.error import PipelineError
from driftline.core.notation import ENVELOPE, HEADERS, KEY, format_path
from driftline.core.pipeline import Pipeline, parse_path, parse_pipeline
from driftline.core.record import Event, Headers, InputRecord, Label, Malformed, Passed, Source
from tests.support.small import NOW_MS, small

NUMBER = {"x": "number"}


def decoder(features: dict[str, Any] | None = None, task: str = "binary", **sections: Any) -> Decoder:
    event = {"features": features or NUMBER, **sections.pop("event", {})}
    models = {"binary": "LogisticRegression()", "regression": "LinearRegression()"}
    return Decoder(small(task, event=event, model=models[task], **sections))


def source(value: object, key: bytes | None = None, headers: Headers = ()) -> Source:
    raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
    return Source("p.events", 0, 1, NOW_MS, key, raw, headers)


def event(record: InputRecord) -> Event:
    assert isinstance(record, Event), record
    return record


def label(record: InputRecord) -> Label:
    assert isinstance(record, Label), record
    return record


def refused(record: InputRecord, reason: str, *words: str) -> None:
    assert isinstance(record, Malformed), record
    assert record.reason == reason, record
    for word in words:
        assert word in record.detail, record.detail


def passed(record: InputRecord, kind: str) -> None:
    assert isinstance(record, Passed), record
    assert record.kind == kind


def problems(**sections: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        small(**{"model": "LogisticRegression()", **sections})
    return str(caught.value)


# -- numbers as text


@pytest.mark.parametrize(
    ("text", "written", "number"),
    [
        (True, "12.50", 12.5),
        (True, " -3 ", -3),
        (True, "1e3", 1000.0),
        (True, "1,234.50", 1234.5),
        (True, 7, 7),
        (True, 7.5, 7.5),
        ("comma", "12,50", 12.5),
        ("comma", "1.234,5", 1234.5),
        ("comma", "12", 12),
    ],
)
def test_numbers_as_text_where_the_file_says_so(text: object, written: object, number: float) -> None:
    of = decoder({"x": {"type": "number", "text": text}})
    made = event(of.event(source({"id": 1, "x": written})))
    assert made.features == (number,)
    assert type(made.features[0]) is type(number)


def test_a_number_as_text_is_refused_by_default_and_the_reason_names_the_remedy() -> None:
    refused(decoder().event(source({"id": 1, "x": "12.50"})), "feature_type", "{type: number, text: true}")
    refused(decoder().event(source({"id": 1, "x": "12,5"})), "feature_type", "text: comma")
    refused(decoder().event(source({"id": 1, "x": "n/a"})), "feature_type", "missing", "text: true")
    record = decoder().event(source({"id": 1, "x": "twelve"}))
    assert isinstance(record, Malformed)
    assert record.detail == "x must be a number, not 'twelve'"
    of = decoder({"x": {"type": "number", "text": "comma"}})
    refused(of.event(source({"id": 1, "x": "12.50"})), "feature_type", "x is '12.50'", "decimal comma")
    of = decoder({"x": {"type": "number", "text": True}})
    refused(of.event(source({"id": 1, "x": "1e16"})), "number_too_large")
    refused(of.event(source({"id": 1, "x": True})), "feature_type")


@pytest.mark.parametrize("word", ["", "  ", "NaN", "null", "NA", "-", "Infinity", "-inf"])
def test_words_for_missing_where_text_is_allowed(word: str) -> None:
    made = event(decoder({"x": {"type": "number", "text": True, "missing": 3}}).event(source({"id": 1, "x": word})))
    assert (made.features, made.missing) == ((3,), 1)
    of = decoder({"x": {"type": "number", "text": True}})
    refused(of.event(source({"id": 1, "x": word})), "feature_missing", repr(word), "counts as missing")


@pytest.mark.parametrize("kind", ["number", "boolean"])
def test_an_empty_text_is_a_missing_number_or_boolean(kind: str) -> None:
    for word in ("", " "):
        made = event(decoder({"x": {"type": kind, "missing": "omit"}}).event(source({"id": 1, "x": word})))
        assert (made.features, made.missing) == ((None,), 1)
        refused(decoder({"x": kind}).event(source({"id": 1, "x": word})), "feature_missing", repr(word))
    made = event(decoder({"x": {"type": "string", "missing": "none"}}).event(source({"id": 1, "x": ""})))
    assert (made.features, made.missing) == (("",), 0)


def test_labels_written_as_text() -> None:
    of = decoder(task="regression", label={"text": "comma"})
    assert label(of.label(source({"id": 1, "y": "1.234,5"}))).value == 1234.5
    refused(of.label(source({"id": 1, "y": ""})), "label_missing")
    refused(of.label(source({"id": 1, "y": "much"})), "label_type")
    refused(decoder(task="regression").label(source({"id": 1, "y": "7.5"})), "label_type", "label.text")
    of = decoder(label={"text": True})
    assert [label(of.label(source({"id": 1, "y": y}))).value for y in ("1", "0", "true", "False")] == [1, 0, 1, 0]
    words = decoder(label={"text": True, "positive": "1"})
    assert label(words.label(source({"id": 1, "y": "1"}))).value is True


# -- bare words


@pytest.mark.parametrize("word", ["NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"])
def test_bare_words_count_as_missing_and_are_named(word: str) -> None:
    value = b'{"id": 1, "x": %s, "more": ["NaN", {"Infinity": NaN}]}' % word.encode()
    made = event(decoder({"x": {"type": "number", "missing": 0}}).event(source(value)))
    assert (made.features, made.missing) == ((0,), 1)
    refused(decoder().event(source(value)), "feature_missing", word)
    of = decoder({"x": {"type": "string", "missing": "omit"}})
    assert event(of.event(source(value))).features == (None,)
    refused(decoder().event(source(b'{"id": %s, "x": 1}' % word.encode())), "id_type", word)
    refused(decoder(task="regression").label(source(b'{"id": 1, "y": %s}' % word.encode())), "label_type", word)
    timed = decoder(event={"time": "at"})
    refused(timed.event(source(b'{"id": 1, "x": 1, "at": %s}' % word.encode())), "time_unreadable", word)


def test_a_record_without_the_feature_that_is_nan_is_read_as_it_stands() -> None:
    made = event(decoder().event(source(b'{"id": 1, "x": 2.5, "unused": NaN}')))
    assert made.features == (2.5,)


def test_texts_are_not_touched_where_bare_words_are_read() -> None:
    text = 'a NaN \\" Infinity \\\\'
    found = parse_json(b'{"NaN": "%s", "a": [NaN, "\\u0000bare x"], "n": -Infinity}' % text.encode())
    assert found["NaN"] == json.loads(f'"{text}"')
    assert isinstance(found["a"][0], NotFinite)
    assert found["a"][1] == "\0bare x"
    assert repr(found["n"]) == "-Infinity"


@pytest.mark.parametrize(
    "value", [b"NaN5", b"{NaN}", b'{"a": NaN, "b": "open', b'{"a": NaN, "b": "\\', b'{"a": NaN, "b": 1e999}', b"1NaN"]
)
def test_what_is_not_json_besides_is_refused(value: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        parse_json(value)


def test_bad_json_of_many_quotes_is_read_in_linear_time() -> None:
    for value in (b'{"NaN": "' + b'\\"' * 400_000, b'"NaN' + b'"' * 400_000, b"NaN " * 200_000):
        with pytest.raises(orjson.JSONDecodeError):
            parse_json(value)


# -- key and headers


def test_the_id_in_the_key_and_the_rest_in_headers() -> None:
    of = decoder(
        {
            "x": "number",
            "amount": {"path": "$headers.amount", "type": "number"},
            "night": {"path": "$headers.is\\.night", "type": "boolean"},
            "country": {"path": "$headers.country", "type": "string", "missing": "none"},
        },
        event={"id": "$key", "time": "$headers.ce_time"},
    )
    headers = (("ce_time", b"2024-03-01T10:00:00Z"), ("amount", b"12.5"), ("is.night", b"true"), ("more", b"\xff"))
    made = event(of.event(source({"x": 1}, b"order-7", headers)))
    assert (made.event_id, made.time_ms, made.features) == ("order-7", 1_709_287_200_000, (1, 12.5, True, "none"))
    made = event(of.event(source({"x": 1}, b"12", (*headers[1:], ("ce_time", b"1709287200000")))))
    assert (made.event_id, made.time_ms) == ("12", 1_709_287_200_000)
    refused(of.event(source({"x": 1}, None, headers)), "id_missing")
    refused(of.event(source({"x": 1}, b"\xff", headers)), "key_unreadable", "UTF-8")
    refused(of.event(source({"x": 1}, b"k", (*headers, ("country", b"\xff")))), "feature_type", "country")
    refused(of.event(source({"x": 1}, b"k", (*headers, ("amount", b"much")))), "feature_type", "amount")


@pytest.mark.parametrize(
    ("form", "key", "read"),
    [
        ("text", b"0012", "0012"),
        ("json", b'"a"', "a"),
        ("json", b"12", 12),
        ("integer", b"12", 12),
        ("integer", b"-12", -12),
        ("binary", struct.pack(">i", 1234), 1234),
        ("binary", struct.pack(">q", -5), -5),
        ("binary", b"1234", 825373492),
    ],
)
def test_keys_as_the_pipeline_says(form: str, key: bytes, read: object) -> None:
    of = decoder(event={"id": "$key", "key": form}, label={"id": "$key", "key": form})
    made, joined = event(of.event(source({"x": 1}, key))), label(of.label(source({"y": 1}, key)))
    assert made.event_id == joined.event_id == read
    assert type(made.event_id) is type(read)


def test_keys_that_are_something_else() -> None:
    refused(decoder(event={"id": "$key"}).event(source({"x": 1}, struct.pack(">i", -7))), "key_unreadable", "binary")
    of = decoder(event={"id": "$key", "key": "integer"})
    refused(of.event(source({"x": 1}, struct.pack(">i", 7))), "key_unreadable", "key: binary")
    refused(of.event(source({"x": 1}, b"a")), "key_unreadable")
    refused(decoder(event={"id": "$key", "key": "binary"}).event(source({"x": 1}, b"abc")), "key_unreadable")
    refused(decoder(event={"id": "$key.id"}).event(source({"x": 1}, b"{")), "key_unreadable", "JSON")


def test_a_key_of_json_is_led_into() -> None:
    of = decoder(event={"id": "$key.order.id"}, label={"id": "$key.id", "value": "$headers.fraud"})
    assert event(of.event(source({"x": 1}, b'{"order": {"id": 5}}'))).event_id == 5
    made = label(of.label(source({}, struct.pack(">bI", 0, 3) + b'{"id": 5}', (("fraud", b"1"),))))
    assert (made.event_id, made.value) == (5, True)
    refused(of.label(source({}, b'{"id": 5}')), "label_missing")


def test_no_key_of_the_value_passes_for_a_root() -> None:
    of = decoder(event={"id": "$key"})
    refused(of.event(source(b'{"\\u0000key": "forged", "x": 1}')), "id_missing")
    of = decoder({"x": {"path": "$headers.x", "type": "number", "missing": 0}})
    assert event(of.event(source(b'{"id": 1, "\\u0000headers": {"x": 5}}'))).features == (0,)


def test_paths_with_roots() -> None:
    assert parse_path("$key") == (KEY,)
    assert parse_path("$key.a.0") == (KEY, "a", 0)
    assert parse_path("$headers.a\\.b") == (HEADERS, "a.b")
    assert parse_path("$envelope.source.table") == (ENVELOPE, "source", "table")
    assert parse_path("\\$key") == ("$key",)
    assert parse_path("$id.a") == ("$id", "a")
    assert parse_path("a.$key") == ("a", "$key")
    for text in ("$key.a", "$headers.a\\.b", "\\$key.a", "$envelope.op", "\\$id"):
        assert parse_path(format_path(parse_path(text))) == parse_path(text)
    for wrong, words in (
        ("$headers", "NAME"),
        ("$headers.a.b", "backslash"),
        ("$header.a", "$headers"),
        ("$Key", "$key"),
    ):
        with pytest.raises(ValueError, match=words.replace("$", "\\$")):
            parse_path(wrong)


# -- select, tombstones, deletes


def test_select_passes_others_over() -> None:
    select = {"type": ["created", "paid"], "$headers.version": 2, "shop.test": False, "deleted": None}
    of = decoder(event={"select": select})
    good = {"id": 1, "x": 1, "type": "paid", "shop": {"test": False}}
    headers = (("version", b"2"),)
    assert event(of.event(source(good, headers=headers))).features == (1,)
    assert event(of.event(source({**good, "deleted": None}, headers=headers))).features == (1,)
    for other in ({"type": "shipped"}, {"type": ["paid"]}, {"type": None}, {"shop": {"test": 0}}, {"deleted": True}):
        passed(of.event(source({**good, **other}, headers=headers)), "unselected")
    passed(of.event(source(good)), "unselected")
    passed(of.event(source({"type": "shipped"})), "unselected")  # before anything else of it is looked at
    refused(of.event(source(b"{")), "not_json")
    plain = decoder(label={"select": {"kind": 1}})
    assert label(plain.label(source({"id": 1, "y": 1, "kind": 1.0}))).value is True
    for kind in (True, "1", 2):
        passed(plain.label(source({"id": 1, "y": 1, "kind": kind})), "unselected")


def test_tombstones_are_passed_over_and_hold_nobody_back() -> None:
    for record in (decoder().event(source(None)), decoder().label(source(None))):
        passed(record, "tombstone")
        assert record.order_ms < -(2**53)
    refused(decoder().control(source(None)), "tombstone")


# -- envelopes


def change(op: str, before: object = None, after: object = None, **more: object) -> dict[str, object]:
    return {"op": op, "before": before, "after": after, "ts_ms": NOW_MS - 5, "source": {"table": "orders"}, **more}


@pytest.mark.parametrize("schema", [True, False])
def test_debezium(schema: bool) -> None:
    def wrapped(document: object) -> Source:
        key: object = {"schema": {}, "payload": {"id": 9}} if schema else {"id": 9}
        return source({"schema": {}, "payload": document} if schema else document, orjson.dumps(key))

    event_form = {"envelope": "debezium", "id": "$key.id", "time": "$envelope.ts_ms"}
    of = decoder({"x": "number", "table": {"path": "$envelope.source.table", "type": "string"}}, event=event_form)
    for op in "cur":
        made = event(of.event(wrapped(change(op, after={"id": 9, "x": 2}))))
        assert (made.event_id, made.time_ms, made.features) == (9, NOW_MS - 5, (2, "orders"))
    assert event(of.event(wrapped(change("c", after='{"id": 9, "x": 3}')))).features == (3, "orders")  # MongoDB
    passed(of.event(wrapped(change("d", before={"id": 9}))), "deleted")
    passed(of.event(wrapped(change("t"))), "unselected")
    passed(of.event(source(None)), "tombstone")
    if schema:
        passed(of.event(wrapped(None)), "tombstone")
    refused(of.event(wrapped(change("c"))), "envelope", "after")
    refused(of.event(wrapped({"id": 9, "x": 1})), "envelope", "Debezium")
    created = decoder(event={**event_form, "select": {"$envelope.op": ["c", "r"]}})
    passed(created.event(wrapped(change("u", after={"id": 9, "x": 2}))), "unselected")
    framed = wrapped(change("c", after={"id": 9, "x": 2}))
    framed = source(struct.pack(">bI", 0, 7) + (framed.value or b""), framed.key)
    assert event(of.event(framed)).event_id == 9


def test_a_change_event_without_the_envelope_names_it() -> None:
    refused(decoder().event(source({"payload": change("d")})), "id_missing", "envelope: debezium")
    refused(decoder().event(source({"specversion": "1.0", "data": {}})), "id_missing", "envelope: cloudevents")


def test_cloudevents_in_both_modes() -> None:
    of = decoder(event={"envelope": "cloudevents", "id": "$envelope.id", "time": "$envelope.time"})
    attributes = {"specversion": "1.0", "id": "A-1", "time": "2024-03-01T10:00:00Z", "source": "/shop", "type": "paid"}
    headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    data = {"x": 4}
    encoded = base64.b64encode(orjson.dumps(data)).decode()
    for record in (
        source(data, headers=headers),
        source({**attributes, "data": data}),
        source({**attributes, "data_base64": encoded}),
    ):
        made = event(of.event(record))
        assert (made.event_id, made.time_ms, made.features) == ("A-1", 1_709_287_200_000, (4,))
    refused(of.event(source(data)), "envelope", "specversion")
    refused(of.event(source({**attributes, "data": [1]})), "envelope", "list")
    refused(of.event(source({**attributes, "data_base64": "!"})), "envelope", "base64")
    refused(of.event(source({**attributes, "data_base64": 5})), "envelope", "base64")
    refused(of.event(source({k: v for k, v in attributes.items() if k != "id"} | {"data": data})), "id_missing")
    passed(of.event(source(None, headers=headers)), "tombstone")
    wanted = decoder(event={"envelope": "cloudevents", "id": "$envelope.id", "select": {"$envelope.type": "refunded"}})
    passed(wanted.event(source(data, headers=headers)), "unselected")


def test_frames_of_schema_registries_are_named_and_read_where_declared() -> None:
    framed = struct.pack(">bI", 0, 42) + b'{"id": 1, "x": 2}'
    refused(decoder().event(source(framed)), "registry_frame", "schema id 42", "envelope: registry_json")
    refused(decoder().label(source(struct.pack(">bI", 0, 42) + b"\x02\x06abc")), "registry_frame", "Avro")
    glue = b"\x03\x00" + b"\x11" * 16 + b'{"id": 1}'
    refused(decoder().event(source(glue)), "registry_frame", "Glue", "11" * 16)
    refused(decoder().event(source(b"\0")), "not_json")
    of = decoder(event={"envelope": "registry_json"})
    assert event(of.event(source(framed))).features == (2,)
    assert event(of.event(source(b'{"id": 1, "x": 2}'))).features == (2,)
    assert event(of.event(source(struct.pack(">bQ", 0, 42) + b'{"id": 1, "x": 2}'))).features == (2,)
    refused(of.event(source(struct.pack(">bI", 0, 42) + b"\x02\x06abc")), "registry_frame", "Avro")


# -- declarations


@pytest.mark.parametrize(
    ("sections", "place", "words"),
    [
        ({"event": {"id": "$envelope.id"}}, "event.id", "event.envelope is none"),
        ({"label": {"time": "$envelope.ts_ms"}}, "label.time", "label.envelope is none"),
        ({"event": {"envelope": "debezum"}}, "event.envelope", "did you mean 'debezium'"),
        ({"event": {"key": "json"}}, "event.key", "no path in event uses $key"),
        ({"event": {"id": "$key.id", "key": "integer"}}, "event.key", "write json"),
        ({"event": {"id": "$key", "select": {"$key.a": 1}}}, "event.id", "use one of the two"),
        ({"event": {"select": {"a": []}}}, "event.select", "at least one value"),
        ({"event": {"select": ["a"]}}, "event.select", "mapping"),
        ({"event": {"select": {"a": {"b": 1}}}}, "event.select", "single value"),
        ({"event": {"select": {"a..b": 1}}}, "event.select", "empty"),
        ({"event": {"features": {"x": {"type": "string", "text": True}}}}, "event.features.x.text", "number features"),
        ({"event": {"features": {"x": {"type": "number", "text": "yes"}}}}, "event.features.x.text", "comma"),
        ({"event": {"id": "$header.id"}}, "event.id", "did you mean $headers"),
        ({"task": "multiclass", "model": "GaussianNB()", "label": {"text": True}}, "label.text", "classes"),
    ],
)
def test_a_declaration_that_cannot_be(sections: dict[str, Any], place: str, words: str) -> None:
    told = problems(**sections)
    assert place in told
    assert words in told


def test_declarations_are_what_they_were_when_read_again() -> None:
    pipeline = small(
        event={
            "envelope": "debezium",
            "id": "$key.id",
            "select": {"$envelope.op": ["c", "r"], "a": None, "b": True, "c": 1},
            "features": {"x": {"type": "number", "text": True}, "y": {"type": "number", "text": "comma"}},
        },
        label={"key": "integer", "id": "$key", "text": False},
        model="LogisticRegression()",
    )
    document = orjson.loads(orjson.dumps(pipeline.resolved()))
    assert parse_pipeline(document) == pipeline
    assert document["event"]["select"] == {"$envelope.op": ["c", "r"], "a": [None], "b": [True], "c": [1]}
    assert document["event"]["features"]["x"]["text"] == "point"


def test_a_document_of_before_means_what_it_meant() -> None:
    pipeline: Pipeline = small()
    document = pipeline.resolved()
    for section in ("event", "label"):
        for key in ("envelope", "key", "select", "text"):
            document[section].pop(key, None)
    for feature in document["event"]["features"].values():
        del feature["text"]
    assert parse_pipeline(document) == pipeline


def test_so_many_bare_words_are_no_json() -> None:
    """Each of them costs a call, which JSON does not."""
    assert len(parse_json(b"[" + b"NaN," * 9_999 + b"NaN]")) == 10_000
    with pytest.raises(orjson.JSONDecodeError):
        parse_json(b"[" + b"NaN," * 10_000 + b"NaN]")


STRING_OR_BARE = re.compile(rb'(?is)"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[-+]?\b(?:nan|inf|infinity)\b')
PIECES = (
    b"nan", b"NaN", b"-inf", b"+Infinity", b"infin", b'"', b"\\", b'\\"', b"x", b" ", b",", b"null", b"-1", b"n", b"i",
    b"+", b"--", b'"nan"', b"_", b"\n", b"\xc3\xa9", b"[", b"1e5",
)  # fmt: skip


def test_bare_words_are_found_as_if_each_text_were_looked_at() -> None:
    """The plain way to say it, which takes a second for a megabyte of empty texts."""
    rng = random.Random(7)
    for _ in range(20_000):
        value = b"".join(rng.choice(PIECES) for _ in range(rng.randint(0, 12)))
        plain = STRING_OR_BARE.sub(lambda m: m[0] if m[0][:1] == b'"' else b'"\\u0000bare %s"' % m[0], value)
        assert mark_bare(value) == plain
