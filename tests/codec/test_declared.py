"""What is read in one go is what the patient reader makes of it, whatever the bytes."""

from __future__ import annotations

import json
import os
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.codec import declared, decode
from driftline.codec.declared import EXACT_MAX, REST, SCALAR, SURPLUS_MAX, name_of, number_of, text_of
from driftline.codec.decode import Decoder
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Source
from tests.support.small import NOW_MS


def pipeline(**limits: Any) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": "multiclass",
            "event": {
                "id": "id",
                "time": "at",
                "features": {
                    "x": "number",
                    "größe": {"type": "number", "missing": 0},
                    "w": {"type": "string", "missing": "omit"},
                    "b": "boolean",
                },
            },
            "label": {"id": "id", "value": "y", "time": "at", "wait": "1d", "retract": True},
            "model": "GaussianNB()",
            "limits": limits,
        }
    )


def patient(of: Pipeline) -> Decoder:
    """A decoder that reads nothing in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "usual", lambda *_: lambda _: None)
        return Decoder(of)


PIPELINES = (pipeline(), pipeline(number_max=1e300, string_max=3), pipeline(number_max=7.5, record_bytes_max=60))
PAIRS = [(Decoder(one), patient(one)) for one in PIPELINES]

NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1", "7", "7.5", "7.6", "-7.5", "1e3", "1E3", "1e+3", "1e-400", "1e400", "-1e400", "1e15"]
    + ["1e16", "1e301", "01", "1.", ".5", "+1", "NaN", "Infinity", "-", "1" * 40, "0." + "3" * 40]
    + [str(EXACT_MAX + more) for more in (-1, 0, 1, 2)]
    + ["9223372036854775808", "18446744073709551616", "-9223372036854775809"]
)
TEXTS = st.sampled_from(
    [r'""', r'"a"', r'"abcd"', r'"\u00e9"', '"é"', r'"\ud83d\ude00"', r'"\ud800"', r'"\u0000"', r'"\x"', '"2024-01-05"']
)
TOKENS = (
    NUMBERS
    | TEXTS
    | st.sampled_from(["true", "false", "null", "[]", "[1]", "{}", '{"a":1}', "", "tru", '"\t"'])
    | st.floats(allow_nan=False).map(json.dumps)
    | st.integers().map(str)
    | st.text(max_size=5).map(json.dumps)
)
KEYS = st.sampled_from(['"id"', '"at"', '"x"', '"größe"', '"w"', '"b"', '"y"', r'"\u0069d"', '"other"'])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Mostly what the pipeline declares, with something changed, left out, added or twice."""
    event = draw(st.booleans())
    good = {'"id"': draw(st.sampled_from(['"e"', "5"])), '"at"': str(NOW_MS)}
    good |= {'"x"': "1.5", '"größe"': "3", '"w"': '"a"', '"b"': "true"} if event else {'"y"': draw(TEXTS | NUMBERS)}
    parts = [*good.items()]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(parts)))
        if draw(st.booleans()) and place < len(parts):
            parts[place] = (parts[place][0], draw(TOKENS))
        elif draw(st.booleans()):
            parts.insert(place, (draw(KEYS), draw(TOKENS)))
        else:
            parts = parts[:place] + parts[place + 1 :]
    space = draw(st.sampled_from(["", " ", "\n", "\x0b", "\ufeff"])) if draw(st.integers(0, 9)) == 0 else ""
    text = "{" + space + ",".join(f"{key}:{value}" for key, value in parts) + "}" + space
    made = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0 and made:
        place = draw(st.integers(0, len(made) - 1))
        made = made[:place] + bytes([draw(st.integers(0, 255))]) + made[place + 1 :]
    return made


@given(documents() | st.binary(max_size=20), st.sampled_from(range(len(PAIRS))), st.sampled_from([-1, 0, NOW_MS]))
@example(b'{"id":"e","at":1,"x":1e400,"w":"a","b":true}', 0, NOW_MS)
@example(b'{"id":"e","at":1,"x":1,"w":"\xff","b":true}', 0, NOW_MS)
@example(b'{"id":"e","at":1,"x":1,"x":2,"w":"a","b":true}', 0, NOW_MS)
def test_both_readers_make_the_same_of_any_bytes(value: bytes, place: int, time_ms: int) -> None:
    quick, slow = PAIRS[place]
    source = Source("p.events", 0, 1, time_ms, None, value)
    assert repr(quick.event(source)) == repr(slow.event(source))
    assert repr(quick.label(source)) == repr(slow.label(source))


def test_what_is_declared_and_nothing_else_is_read_in_one_go() -> None:
    read = declared.usual([(("id",), name_of(3)), (("x",), number_of(10.0)), (("w",), text_of(2))], 60)
    assert read(b'{"w": "ab", "x": 1.5, "id": "e"}') == ("e", 1.5, "ab")
    assert read(b'{"id": 5, "x": -10, "w": ""}') == (5, -10, "")
    for other in (
        None,
        b"",
        b"[]",
        b'{"id": "e", "x": 1.5}',
        b'{"id": "e", "x": 1.5, "w": "ab", "more": 1}',
        b'{"id": "e", "x": 10.5, "w": "ab"}',
        b'{"id": "e", "x": true, "w": "ab"}',
        b'{"id": "e", "x": null, "w": "ab"}',
        b'{"id": "long", "x": 1, "w": "ab"}',
        b'{"id": "e", "x": 1, "w": "long"}',
        b'{"id": "e", "x": 1, "w": "ab"}' + b" " * 60,
    ):
        assert read(other) is None, other


def test_paths_that_are_no_key_of_their_own_are_left_to_the_patient_reader() -> None:
    for places in ([("id",), ("a", "b")], [("id",), ("id",)], [("id",), ('a"b',)]):
        read = declared.usual([(path, SCALAR) for path in places], 100)
        assert read(orjson.dumps({"".join(path): 1 for path in places})) is None


def test_where_most_records_are_others_it_seldom_tries() -> None:
    read = declared.usual([(("id",), SCALAR)], 100)
    good, other = b'{"id": 1}', b'{"id": 1, "more": 2}'
    for _ in range(300):  # as many of the one as of the other are worth a try
        assert read(other) is None
        assert read(good) == (1,)
    for _ in range(SURPLUS_MAX // 2):  # two of three are not
        assert read(other) is None
        assert read(good) == (1,)
        assert read(other) is None
    for _ in range(SURPLUS_MAX // 2):
        assert read(other) is None
    assert [read(good) for _ in range(REST)] == [None] * REST
    assert read(good) == (1,)


# -- compiled

compiled = pytest.mark.skipif(declared.reader is None, reason="no C compiler was there at the installation")
OTHERS: list[dict[str, Any]] = [
    {
        "event": {
            "id": "id",
            "features": {"x": "number", "gap": {"history": "since_last", "by": "w"}},
            "context": {"w": "key"},
        }
    },
    {"event": {"id": "id", "time": "at", "features": {"x": "number"}}, "label": {"positive": "fraud"}},
    {"event": {"id": "id", "features": {"x": "number"}}, "label": {"text": True}},
]


def other_pipeline(document: dict[str, Any]) -> Pipeline:
    label = {"id": "id", "value": "y", "wait": "1d", **document.get("label", {})}
    common = {"pipeline": "p", "task": "binary", "model": "LogisticRegression()"}
    return parse_pipeline({**common, "event": document["event"], "label": label})


COMPILED = [*PIPELINES, *map(other_pipeline, OTHERS)]
TRUTHS = st.sampled_from(["true", "false", "0", "1", "1.0", "2", "null", '"fraud"', '"1"', '"1,5"', '"true"'])
TIMES = st.sampled_from([str(NOW_MS), str(NOW_MS + 10**9), "1", str(10**13), str(10**19), '"2024-01-05"', "1.5e12"])


@st.composite
def good(draw: st.DrawFn) -> bytes:
    """What one of the pipelines declares, or nearly."""
    fields = {"id": draw(st.sampled_from(['"e"', "5"])), "x": draw(NUMBERS), "w": draw(TEXTS), "y": draw(TRUTHS)}
    fields["at"] = draw(TIMES)
    names = draw(st.sampled_from([("id", "x", "w"), ("id", "at", "x"), ("id", "x"), ("id", "y"), ("id", "at", "y")]))
    return ("{" + ",".join(f'"{name}":{fields[name]}' for name in names) + "}").encode("utf-8", "surrogatepass")


@compiled
@given(
    documents() | good() | st.none(),
    st.sampled_from(COMPILED),
    st.sampled_from([-1, 0, NOW_MS, NOW_MS - 10**9, 2**63 - 1, 2**64]),
)
def test_the_compiled_reader_makes_the_same_of_any_bytes(value: bytes | None, one: Pipeline, time_ms: int) -> None:
    decoder, source = Decoder(one), Source("p.events", 0, 1, time_ms, None, value)  # new: none rests
    assert repr(decoder.read_event(source)) == repr(decoder.event(source))
    assert repr(decoder.read_label(source)) == repr(decoder.label(source))


@compiled
def test_records_as_declared_are_read_compiled_and_the_rest_is_left_to_python() -> None:
    """Else the comparison above would compare Python with itself."""
    form = declared.form_of([(("id",), name_of(3)), (("at",), SCALAR), (("x",), number_of(10.0))])
    assert form is not None
    assert declared.reader is not None
    asked: list[Source] = []
    means = declared.Declared(form, 60, timed=True, ahead_max_ms=1_000)
    read = declared.reader(means, asked.append).event

    def source(value: bytes | None, time_ms: int = NOW_MS) -> Source:
        return Source("p.events", 0, 1, time_ms, b"k", value)

    usual = source(b'{"x": 1.5, "at": %d, "id": "e"}' % NOW_MS)
    assert read(usual) == Event(usual, NOW_MS, NOW_MS, "e", (1.5,))
    ahead = source(b'{"x": 1.5, "at": %d, "id": 7}' % (NOW_MS + 1_001))
    assert read(ahead) == Event(ahead, NOW_MS, NOW_MS + 1_001, 7, (1.5,), time_ahead=True)
    assert not asked
    others = [source(None), source(b"[]"), source(b'{"id": "e", "x": 1}'), source(b'{"id": "e", "x": 1, "at": "2024"}')]
    for other in others:
        read(other)
    assert asked == others


@compiled
def test_the_compiled_reader_seldom_tries_where_most_records_are_others() -> None:
    form = declared.form_of([(("id",), SCALAR)])
    assert form is not None
    assert declared.reader is not None
    asked: list[Source] = []
    read = declared.reader(declared.Declared(form, 60, timed=False, ahead_max_ms=0), asked.append).event
    good, other = (Source("p.events", 0, 1, NOW_MS, None, value) for value in (b'{"id": 1}', b"{}"))
    for _ in range(SURPLUS_MAX):
        read(other)
    asked.clear()
    for _ in range(REST):
        read(good)
    assert len(asked) == REST
    assert read(good) == Event(good, NOW_MS, NOW_MS, 1, ())


def test_a_decoder_reads_compiled_where_it_can() -> None:
    decoder = Decoder(PIPELINES[0])
    assert (decoder.read_event == decoder.event) is (declared.reader is None)
    assert (decoder.read_label == decoder.label) is (declared.reader is None)
    assert declared.reader is not None or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"


def test_where_nothing_was_compiled_python_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "reader", None)
    decoder = Decoder(PIPELINES[0])
    assert decoder.read_event == decoder.event
    assert decoder.read_label == decoder.label
