"""Outputs to bytes: the values that users read, the bounds that always hold, and the digest over everything
published."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.codec.encode import KEY_BYTES_MAX, Encoder, Message
from driftline.core.output import Alert, ModelVersion, Outcome, Output, Prediction, Rejected, Score
from driftline.core.record import Headers, Source
from tests.support.published import digest
from tests.support.small import NOW_MS, small

VERSION = ModelVersion(1, 20)
ENCODER = Encoder(small(), 2)
HALF = Prediction(label=True, probabilities={False: 0.25, True: 0.75}, value=0.75)


def score(prediction: Prediction = HALF, decision: bool | None = None, **more: Any) -> Score:
    made = {
        "topic": "p.events",
        "partition": 2,
        "offset": 5,
        "record_time_ms": NOW_MS,
        "key": b"k",
        "value": b"v",
        **more,
    }
    return Score("p.events-2-5-0", Source(**made), "e", NOW_MS - 5, prediction, decision, "served", VERSION)


def outcome(**changed: Any) -> Outcome:
    fields: dict[str, Any] = {
        "output_id": "o-1",
        "kind": "joined",
        "key": b"k",
        "stamp_ms": NOW_MS,
        "event_id": 7,
        "event_time_ms": NOW_MS - 50,
        "features": (1.5, None),
        "prediction": HALF,
        "version": VERSION,
        "label": True,
        "label_time_ms": NOW_MS - 20,
        "detail": None,
    }
    return Outcome(**{**fields, **changed})


def alert(**changed: Any) -> Alert:
    fields: dict[str, Any] = {
        "output_id": "a-1",
        "stamp_ms": NOW_MS,
        "time_ms": NOW_MS - 1,
        "episode": "p-0-error-1",
        "state": "opened",
        "kind": "concept_drift",
        "severity": "warning",
        "audience": ("data_science",),
        "sentence": "Since about 5 labels ago, p has been wrong more often.",
        "evidence": {"before": 0.1, "after": 0.3},
        "positions": {"p.events": 6},
        "update": 1,
        "opened_ms": NOW_MS - 1,
        "opened_at": {"p.events": 6},
        "runbook": "docs/runbook.md#concept-drift",
    }
    return Alert(**{**fields, **changed})


def rejected(
    value: bytes | None = b"bad", headers: Headers = (("h", b"1"),), detail: str = "why", **more: Any
) -> Rejected:
    made = {"topic": "p.events", "partition": 2, "offset": 5, "record_time_ms": NOW_MS, "key": b"k", **more}
    return Rejected("p.events-2-5-0", Source(value=value, headers=headers, **made), "not_json", detail)


def value_of(output: Output, encoder: Encoder = ENCODER) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(encoder.encode(output).value or b"null")
    return value


def test_a_score() -> None:
    message = ENCODER.encode(score(decision=True))
    assert (message.kind, message.key, message.timestamp_ms, message.headers) == ("scores", b"k", NOW_MS, ())
    assert orjson.loads(message.value or b"") == {
        "output_id": "p.events-2-5-0",
        "pipeline": "p",
        "event_id": "e",
        "event_time_ms": NOW_MS - 5,
        "prediction": True,
        "probability": 0.75,
        "guard": "served",
        "model_version": "1.20",
        "learned": 0,
        "decision": True,
    }
    assert "decision" not in value_of(score())
    assert ENCODER.encode(score(record_time_ms=-1)).timestamp_ms == 0


@pytest.mark.parametrize(
    ("prediction", "told"),
    [
        (Prediction(label="rain"), {"prediction": "rain"}),
        (Prediction(value=2.5), {"prediction": 2.5}),
        (Prediction(value=0.0), {"prediction": 0.0}),
        (Prediction(), {"prediction": None}),
        (Prediction(label=False, probabilities={}), {"prediction": False, "probabilities": {}}),
        (Prediction(label=False, probabilities={False: 1.0}, value=0.0), {"prediction": False, "probability": 0.0}),
        (
            Prediction(label="a", probabilities={"a": 0.6, 2: 0.3, True: 0.1}),
            {"prediction": "a", "probabilities": {"a": 0.6, "2": 0.3, "true": 0.1}},
        ),
    ],
)
def test_predictions(prediction: Prediction, told: dict[str, Any]) -> None:
    value = value_of(score(prediction))
    assert {name: value[name] for name in ("prediction", "probability", "probabilities") if name in value} == told


def test_an_outcome() -> None:
    message = ENCODER.encode(outcome())
    assert (message.kind, message.key, message.timestamp_ms) == ("outcomes", b"k", NOW_MS)
    assert orjson.loads(message.value or b"") == {
        "output_id": "o-1",
        "pipeline": "p",
        "kind": "joined",
        "event_id": 7,
        "event_time_ms": NOW_MS - 50,
        "features": {"x": 1.5, "word": None},
        "prediction": True,
        "probability": 0.75,
        "model_version": "1.20",
        "label": True,
        "label_time_ms": NOW_MS - 20,
        "label_delay_ms": 30,
    }


def test_an_outcome_without_a_label_or_without_an_event() -> None:
    expired = value_of(
        outcome(kind="expired", label=None, label_time_ms=None, detail="no label arrived within label.wait")
    )
    assert not {"label", "label_time_ms", "label_delay_ms"} & set(expired)
    assert expired["detail"] == "no label arrived within label.wait"
    orphan = value_of(outcome(kind="orphan", event_time_ms=None, features=None, prediction=None, version=None))
    assert set(orphan) == {"output_id", "pipeline", "kind", "event_id", "label", "label_time_ms"}
    assert value_of(outcome(label=False))["label"] is False
    assert value_of(outcome(label=0))["label"] == 0


def test_an_alert() -> None:
    message = ENCODER.encode(alert())
    assert (message.kind, message.key, message.timestamp_ms) == ("alerts", b"p-0-error-1", NOW_MS)
    assert orjson.loads(message.value or b"") == {
        "output_id": "a-1",
        "pipeline": "p",
        "episode": "p-0-error-1",
        "state": "opened",
        "kind": "concept_drift",
        "severity": "warning",
        "audience": ["data_science"],
        "sentence": "Since about 5 labels ago, p has been wrong more often.",
        "time_ms": NOW_MS - 1,
        "evidence": {"before": 0.1, "after": 0.3},
        "positions": {"p.events": 6},
        "update": 1,
        "opened_ms": NOW_MS - 1,
        "opened_at": {"p.events": 6},
        "runbook": "docs/runbook.md#concept-drift",
        "acknowledged": False,
        "silenced": False,
        "announced": True,
        "flapping": False,
    }


def test_a_rejected_record_is_as_it_came_with_the_reason_in_its_headers() -> None:
    message = ENCODER.encode(rejected(b"\xff\x00"))
    assert (message.kind, message.key, message.value, message.timestamp_ms) == ("rejected", b"k", b"\xff\x00", NOW_MS)
    assert message.headers == (
        ("h", b"1"),
        ("driftline.output_id", b"p.events-2-5-0"),
        ("driftline.reason", b"not_json"),
        ("driftline.detail", b"why"),
        ("driftline.topic", b"p.events"),
        ("driftline.partition", b"2"),
        ("driftline.offset", b"5"),
    )
    assert ENCODER.encode(rejected(None)).value is None
    assert ENCODER.encode(rejected(b"")).value == b""
    detail = dict(ENCODER.encode(rejected(detail="é" * 2_000)).headers)["driftline.detail"]
    assert detail == ("é" * 500).encode()


def test_a_rejected_record_beyond_the_limit_keeps_its_reason_and_what_fits_of_its_bytes() -> None:
    message = ENCODER.encode(rejected(b"x" * 2_000_000))
    headers = dict(message.headers)
    assert len(message.value or b"") == small().limits.output_bytes_max - len(b"h1") - 10
    assert headers["h"] == b"1"
    assert headers["driftline.truncated_bytes"] == b"2000000"
    assert headers["driftline.reason"] == b"not_json"
    heavy = ENCODER.encode(rejected(b"x", headers=(("h", b"y" * 1_000_000),)))
    assert "h" not in dict(heavy.headers)
    assert heavy.value == b"x"
    assert ENCODER.encode(rejected(None, headers=(("h", b"y" * 1_000_000),))).value is None


def test_a_value_beyond_the_limit_is_a_stub_that_says_why() -> None:
    encoder = Encoder(small(limits={"output_bytes_max": 300}), 2)
    classes: dict[Any, float] = {f"class {number}": 0.01 for number in range(100)}
    stub = encoder.encode(score(Prediction(label="class 1", probabilities=classes)))
    size = len(ENCODER.encode(score(Prediction(label="class 1", probabilities=classes))).value or b"")
    assert orjson.loads(stub.value or b"") == {
        "output_id": "p.events-2-5-0",
        "pipeline": "p",
        "event_id": "e",
        "stub": f"{size} bytes exceed limits.output_bytes_max",
    }
    assert (stub.kind, stub.key, stub.timestamp_ms) == ("scores", b"k", NOW_MS)
    assert value_of(outcome(features=("x" * 400, None)), encoder)["event_id"] == 7
    assert value_of(alert(sentence="x" * 400), encoder)["episode"] == "p-0-error-1"


def test_a_key_beyond_the_limit_is_left_out() -> None:
    longest = b"k" * KEY_BYTES_MAX
    assert ENCODER.encode(score(key=longest)).key == longest
    assert ENCODER.encode(score(key=longest + b"k")).key is None
    assert ENCODER.encode(outcome(key=longest + b"k")).key is None
    assert ENCODER.encode(rejected(key=longest + b"k")).key is None
    assert ENCODER.encode(score(key=None)).key is None


@given(
    value=st.none() | st.binary(max_size=3_000),
    headers=st.lists(st.tuples(st.text(max_size=300), st.none() | st.binary(max_size=900)), max_size=4).map(tuple),
    detail=st.text(max_size=900),
)
def test_rejected_records_always_fit(value: bytes | None, headers: Headers, detail: str) -> None:
    """Value and the record's own headers stay within the limit; ours add no more than a few kilobytes."""
    encoder = Encoder(small(limits={"output_bytes_max": 1_000}), 2)
    message = encoder.encode(rejected(value, headers, detail))
    ours = sum(len(name) + len(data or b"") for name, data in message.headers if name.startswith("driftline."))
    every = sum(len(name.encode()) + len(data or b"") for name, data in message.headers)
    assert len(message.value or b"") + every - ours <= 1_000 + 3 * 4 * 300  # header names count as characters
    assert ours <= 3_000


def message(kind: str, key: bytes | None, value: bytes | None, stamp_ms: int, headers: Headers = ()) -> Message:
    return Message(f"p.{kind}", 2, key, value, stamp_ms, headers, kind=kind)


MESSAGES = [
    message("scores", b"k", b"v", 1),
    message("outcomes", b"k", b"v", 1),
    message("scores", b"k", b"v", 2),
    message("scores", b"kv", b"", 1),
    message("scores", b"", b"kv", 1),
    message("scores", None, b"kv", 1),
    message("scores", b"kv", None, 1),
    message("scores", b"k", b"v", 1, (("h", b"1"),)),
    message("scores", b"k", b"v", 1, (("h", None),)),
    message("scores", b"k", b"v", 1, (("h", b""),)),
    message("scores", b"k", b"v", 1, (("h", b"\x00"),)),
    message("scores", b"k", b"v", 1, (("h1", b""),)),
    message("scores", b"k", b"v", 1, (("h", b"1"), ("i", b"2"))),
    message("scores", b"k", b"v", 1, (("h", b"1\x00i\x002"),)),
]


def test_the_digest_tells_every_part_apart() -> None:
    for one, other in combinations(MESSAGES, 2):
        assert digest([one]) != digest([other]), (one, other)
    assert len(digest([])) == 32
    assert digest([]) != digest(MESSAGES[:1])


def test_the_digest_depends_on_order_and_number() -> None:
    a, b = MESSAGES[:2]
    assert digest([a, b]) != digest([b, a])
    assert digest([a, a]) != digest([a])
    assert digest([a, b]) == digest(iter([a, b]))
    assert digest([a]) == "9d2f1ee5721eb329113ffe2c8afbb521"  # journals of earlier versions rest on it
