"""Bad input, case by case: a stated result, counted, and nothing else is any different.

Forty good events with their labels flow through decoding, merge, step and encoding in small slices. Each test adds one
bad record in their midst, says what becomes of it, and holds everything that was published of the good ones, byte for
byte, against a run without it. Good records take even offsets, bad ones an odd one, so that no id moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from msgspec import structs

from driftline.codec.encode import Message
from driftline.core.output import Outcome, Output, Rejected, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.engine.fold import Folded, Folder
from tests.support.schema import check
from tests.support.small import NOW_MS, small

COUNT = 40
MIDDLE = 20
STEP_MS = 1_000
DELAY_MS = 5_000
WAIT_MS = 100_000
EVENTS, LABELS = "p.events", "p.labels"


@dataclass
class Run:
    """What a stream made.

    Attributes:
        outputs: by the record that their id names (topic and offset; `tick`), with what was published: the end of an
            event's wait stands with the event.
    """

    shard: Shard
    outputs: dict[tuple[str, int], list[tuple[Output, Message]]] = field(default_factory=dict)

    def of(self, source: Source) -> list[Output]:
        """The outputs of one record."""
        return [output for output, _ in self.outputs.get((source.topic, source.offset), [])]

    def but(self, *sources: Source) -> dict[tuple[str, int], list[Message]]:
        """Everything published but of these records."""
        left_out = {(source.topic, source.offset) for source in sources}
        return {
            place: [message for _, message in made] for place, made in self.outputs.items() if place not in left_out
        }


def pipeline(**sections: Any) -> Pipeline:
    return small(event={"time": "at"}, label={"time": "at", "wait": f"{WAIT_MS}ms"}, **sections)


def event(number: int, *, offset: int | None = None, value: bytes | object | None = ..., **changed: Any) -> Source:
    """An event of the stream, or a bad one: other bytes, other fields (... leaves one out), another place."""
    time_ms = NOW_MS + number * STEP_MS
    document = {"id": number, "at": time_ms, "x": (number * 7 % 11) - 5.0, "word": "ab"[number % 2], **changed}
    raw = orjson.dumps({name: one for name, one in document.items() if one is not ...}) if value is ... else value
    at = 2 * number if offset is None else offset
    return Source(EVENTS, 0, at, time_ms, b"%d" % number, raw)  # type: ignore[arg-type]  # bytes or None by now


def label(number: int, *, offset: int | None = None, delay_ms: int = DELAY_MS, **changed: Any) -> Source:
    time_ms = NOW_MS + number * STEP_MS + delay_ms
    document = {"id": number, "at": time_ms, "y": int((number * 7 % 11) - 5.0 > 0), **changed}
    at = 2 * number if offset is None else offset
    return Source(LABELS, 0, at, time_ms, b"%d" % number, orjson.dumps(document))


def good(*, without: Sequence[Source] = ()) -> list[Source]:
    left_out = {(source.topic, source.offset) for source in without}
    stream = [event(number) for number in range(COUNT)] + [label(number) for number in range(COUNT)]
    return [source for source in stream if (source.topic, source.offset) not in left_out]


def run(sources: Sequence[Source], chosen: Pipeline | None = None, *, tick_ms: int | None = None) -> Run:
    """Fold a stream in slices of seven records."""
    shard = Shard(chosen or pipeline(), 0)
    outputs: list[Output] = []
    folder = Folder(shard, dict.fromkeys(("p.control", LABELS, EVENTS), 0), outputs.append)
    for topic in (LABELS, EVENTS):
        folder.receive(topic, sorted((one for one in sources if one.topic == topic), key=lambda one: one.offset))
    made = Run(shard)
    while folder.waiting:
        _keep(made, outputs, folder.fold([True] * 3, 7, lambda _: False))
    if tick_ms is not None:
        _keep(made, outputs, folder.tick(99, tick_ms))
    assert len(
        {message.kind + output.output_id for pairs in made.outputs.values() for output, message in pairs}
    ) == sum(map(len, made.outputs.values()))
    return made


def _keep(made: Run, outputs: list[Output], folded: Folded) -> None:
    for output, message in zip(outputs, folded.messages, strict=True):
        head, _, origin = output.output_id.rpartition("-")[0].partition("-0-")
        made.outputs.setdefault((head, int(origin)), []).append((output, message))
    outputs.clear()


WITHOUT = run(good())


def assert_rejected(bad: Source, reason: str, chosen: Pipeline | None = None) -> Rejected:
    """The bad record is on the rejected topic as it came, counted, and nothing else changed."""
    with_it = run([*good(), bad], chosen)
    made = with_it.of(bad)
    assert len(made) == 1
    assert isinstance(made[0], Rejected)
    assert made[0].reason == reason
    assert with_it.but(bad) == (run(good(), chosen) if chosen else WITHOUT).but()
    counts = dict(with_it.shard.counts)
    assert counts.pop(f"rejected_{reason}") == 1
    assert counts == WITHOUT.shard.counts
    ((_, message),) = with_it.outputs[bad.topic, bad.offset]
    headers = dict(message.headers)
    assert headers["driftline.reason"] == reason.encode()
    assert headers["driftline.offset"] == b"%d" % bad.offset
    if "driftline.truncated_bytes" not in headers:
        assert message.value == bad.value
    assert with_it.shard.positions[bad.topic] == max(bad.offset + 1, 2 * COUNT - 1)
    return made[0]


def bad_event(value: bytes | object | None = ..., **changed: Any) -> Source:
    return event(MIDDLE, offset=2 * MIDDLE + 1, value=value, **{"id": "bad", **changed})


def bad_label(number: int, **changed: Any) -> Source:
    return label(number, offset=2 * MIDDLE + 1, **changed)


def test_the_good_stream_is_good() -> None:
    counts = WITHOUT.shard.counts
    assert counts == {"scored": COUNT, "joined": COUNT, "learned": COUNT}
    assert sum(len(made) for made in WITHOUT.outputs.values()) == 2 * COUNT


def test_not_json() -> None:
    assert_rejected(bad_event(b'{"id": "bad", "x": 1'), "not_json")


def test_not_utf_8() -> None:
    assert_rejected(bad_event(b'{"id": "bad", "at": 1, "x": 1, "word": "\xff\xfe"}'), "not_json")


def test_empty() -> None:
    assert_rejected(bad_event(b""), "empty")


def test_tombstone() -> None:
    """A deleted key is no fault: nothing is published, and it is counted."""
    bad = bad_event(None)
    with_it = run([*good(), bad])
    assert with_it.of(bad) == []
    assert with_it.but() == WITHOUT.but()
    assert with_it.shard.counts == {**WITHOUT.shard.counts, "passed_events_tombstone": 1}
    assert with_it.shard.positions == WITHOUT.shard.positions


def test_two_megabytes() -> None:
    """A valid event, but for its size."""
    bad = bad_event(pad="x" * 2_000_000)
    assert_rejected(bad, "too_large")


def test_nesting_deeper_than_a_parser_goes() -> None:
    assert_rejected(bad_event(b'{"id": "bad", "pad": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not_json")


def test_nesting_deeper_than_pythons_stack() -> None:
    """orjson takes a thousand levels, more than `repr` can walk."""
    deep = b"[" * 1_020 + b"]" * 1_020
    made = assert_rejected(bad_event(b'{"id": "bad", "at": %d, "word": "a", "x": %s}' % (NOW_MS, deep)), "feature_type")
    assert made.detail == "x must be a number, not an array"


def test_missing_id() -> None:
    assert_rejected(bad_event(id=...), "id_missing")


def test_missing_feature() -> None:
    made = assert_rejected(bad_event(x=...), "feature_missing")
    assert "x" in made.detail


def test_null_feature() -> None:
    assert_rejected(bad_event(x=None), "feature_missing")


@pytest.mark.parametrize("changed", [{"x": "1.5"}, {"x": True}, {"x": [1]}, {"word": 5}])
def test_wrong_type_of_a_feature(changed: dict[str, Any]) -> None:
    assert_rejected(bad_event(**changed), "feature_type")


def test_wrong_type_of_an_id() -> None:
    assert_rejected(bad_event(id=[1]), "id_type")


def test_wrong_type_of_a_label() -> None:
    assert_rejected(bad_label(MIDDLE, y="yes"), "label_type")


def test_wrong_type_of_a_time() -> None:
    assert_rejected(bad_event(at="yesterday"), "time_unreadable")


@pytest.mark.parametrize(
    ("number", "reason"), [(b"NaN", "feature_missing"), (b"-Infinity", "feature_missing"), (b"1e999", "not_json")]
)
def test_nan_or_1e999(number: bytes, reason: str) -> None:
    made = assert_rejected(bad_event(b'{"id": "bad", "at": %d, "word": "a", "x": %s}' % (NOW_MS, number)), reason)
    assert reason == "not_json" or number.decode() in str(made.detail)


@pytest.mark.parametrize("x", [1.1e15, -1e16, 1e160, 10**16])
def test_a_number_beyond_1e15(x: float) -> None:
    """One 1e160 makes StandardScaler|LogisticRegression NaN for ever."""
    assert_rejected(bad_event(x=x), "number_too_large")


def test_a_class_beyond_64_bits() -> None:
    """A whole number that JSON could carry in and not out: the outcome could never be written."""
    classes = pipeline(
        task="multiclass", model="(Select('x') + Select('word') | OneHotEncoder()) | NoChangeClassifier()"
    )
    assert_rejected(bad_label(MIDDLE, y=1e300), "label_type", classes)


REGRESSION = {"task": "regression", "model": "(Select('x') + Select('word') | OneHotEncoder()) | LinearRegression()"}


@pytest.mark.parametrize(
    ("number", "reason"), [(b"NaN", "label_type"), (b"Infinity", "label_type"), (b"-1e999", "not_json")]
)
def test_a_regression_label_of_nan(number: bytes, reason: str) -> None:
    """The event goes on waiting for a label."""
    value = b'{"id": %d, "at": %d, "y": %s}' % (MIDDLE, NOW_MS, number)
    bad = structs.replace(bad_label(MIDDLE), value=value)
    assert_rejected(bad, reason, pipeline(**REGRESSION))


@pytest.mark.parametrize("y", [1e300, -1e300, 1.1e15, 10**16])
def test_a_regression_label_of_1e300(y: float) -> None:
    """A linear model that learned one would be infinite for ever; the event goes on waiting for a label."""
    made = assert_rejected(bad_label(MIDDLE, y=y), "label_type", pipeline(**REGRESSION))
    assert made.detail is not None
    assert made.detail.startswith("a label must be a number of at most 1e+15, not ")


@pytest.mark.parametrize("before_ms", [1, 3_000, 10**11, NOW_MS + 10**12])
def test_a_label_delay_below_zero(before_ms: int) -> None:
    """The label says that it was known before its event: it is joined and learned as any, at the event, and the delay
    counts as none."""
    early = label(MIDDLE, at=NOW_MS + MIDDLE * STEP_MS - before_ms)
    made = run([*good(without=[label(MIDDLE)]), early], pipeline(metric_by={"ages": ["2s", "1m"]}))
    assert made.shard.counts == WITHOUT.shard.counts
    outcome, message = next(
        (output, message) for output, message in made.outputs[EVENTS, 2 * MIDDLE] if isinstance(output, Outcome)
    )
    assert (outcome.kind, outcome.event_id) == ("joined", MIDDLE)
    check(message)
    assert orjson.loads(message.value or b"")["label_delay_ms"] == -before_ms
    summary = made.shard.summary()
    assert summary["label_delay_ms"]["0.5"] == run(good()).shard.summary()["label_delay_ms"]["0.5"]
    assert made.shard.maturity.delays.counts[-1] == 1
    assert [part["label_count"] for part in summary["by_age"].values()] == [1, COUNT - 1, 0]
    assert made.shard.watermark_ms == WITHOUT.shard.watermark_ms


def test_unknown_extra_fields() -> None:
    """The event is as good as without them."""
    plain = event(MIDDLE)
    more = event(MIDDLE, extra={"deep": [1, {"x": 9}]}, y=1, X=2, **{"": None})
    made = run([*good(without=[plain]), more])
    assert made.but() == WITHOUT.but()
    assert made.shard.counts == WITHOUT.shard.counts


def test_a_label_for_an_unknown_event() -> None:
    """It is held for its event; when that never comes, it is an orphan, and nothing was learned from it."""
    bad = bad_label(MIDDLE, id="nobody")
    with_it = run([*good(), bad])
    assert with_it.but(bad) == WITHOUT.but()
    assert with_it.of(bad) == []
    assert (len(with_it.shard.early), with_it.shard.counts) == (1, WITHOUT.shard.counts)
    end_ms = NOW_MS + 10 * WAIT_MS
    later = run([*good(), bad], tick_ms=end_ms)
    ((orphan, message),) = later.outputs[bad.topic, bad.offset]
    assert isinstance(orphan, Outcome)
    assert (orphan.kind, orphan.event_id, orphan.prediction) == ("orphan", "nobody", None)
    assert message.kind == "outcomes"
    assert later.shard.counts == {**WITHOUT.shard.counts, "orphan": 1}


def test_the_same_event_twice() -> None:
    again = event(MIDDLE, offset=2 * MIDDLE + 1)
    made = assert_rejected(again, "duplicate_event")
    assert made.detail == f"event id {MIDDLE} was already scored"


def test_the_same_event_twice_after_its_label() -> None:
    again = event(MIDDLE + 15, offset=2 * (MIDDLE + 15) + 1, id=MIDDLE)
    assert_rejected(again, "duplicate_event")


def test_a_label_twice() -> None:
    """The first one stands, whatever the second says."""
    bad = bad_label(MIDDLE, y=0)
    assert orjson.loads(label(MIDDLE).value or b"")["y"] == 1
    with_it = run([*good(), bad])
    (made,) = with_it.of(bad)
    assert isinstance(made, Outcome)
    assert (made.kind, made.event_id, made.label, made.version) == ("duplicate", MIDDLE, False, None)
    assert with_it.but(bad) == WITHOUT.but()
    assert with_it.shard.counts == {**WITHOUT.shard.counts, "duplicate": 1}


def test_a_label_twice_before_its_event() -> None:
    rest = good(without=[label(MIDDLE)])
    first = label(MIDDLE, delay_ms=-2_500, y=1, offset=25)  # behind the label of event 12, sent at the same time
    second = label(MIDDLE, delay_ms=-1_500, y=0, offset=27)
    once = run([*rest, first])
    twice = run([*rest, first, second])
    assert once.of(first) == []
    (made,) = twice.of(second)
    assert isinstance(made, Outcome)
    assert (made.kind, made.label) == ("duplicate", False)
    assert twice.but(second) == once.but()
    assert twice.shard.counts == {**once.shard.counts, "duplicate": 1}


def test_a_label_before_its_event() -> None:
    """It waits, and is learned as soon as the event is scored: as if it had come right behind it."""
    rest = good(without=[label(MIDDLE)])
    early = label(MIDDLE, delay_ms=-2_500, offset=25)  # behind the label of event 12, sent at the same time
    prompt = label(MIDDLE, delay_ms=1, offset=31)
    before, behind = run([*rest, early]), run([*rest, prompt])
    assert before.of(early) == []
    score, outcome = before.of(event(MIDDLE))
    _, joined = behind.of(event(MIDDLE))
    assert isinstance(score, Score)
    assert isinstance(outcome, Outcome)
    assert isinstance(joined, Outcome)
    assert (outcome.kind, outcome.label, outcome.prediction) == ("joined", joined.label, joined.prediction)
    assert score.version == outcome.version == joined.version  # scored before it was learned
    assert score == behind.of(event(MIDDLE))[0]
    assert before.but(early, event(MIDDLE)) == behind.but(prompt, event(MIDDLE))
    assert before.shard.counts == behind.shard.counts == WITHOUT.shard.counts


def test_a_time_in_the_far_future() -> None:
    """The event is scored and learned from; its time moves no watermark, so nothing expires for it."""
    plain, far = event(MIDDLE), event(MIDDLE, at="2999-12-31T23:59:59Z")
    with_it = run([*good(without=[plain]), far])
    score, outcome = with_it.of(far)
    assert isinstance(score, Score)
    assert score.time_ms > NOW_MS * 2
    assert with_it.shard.watermark_ms == WITHOUT.shard.watermark_ms
    assert with_it.but(far) == WITHOUT.but(plain)
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.event_time_ms) == ("joined", score.time_ms)
    assert with_it.shard.counts == {**WITHOUT.shard.counts, "time_ahead": 1}


def test_a_label_time_in_the_far_future() -> None:
    plain, far = label(MIDDLE), label(MIDDLE, at="2999-12-31T23:59:59Z")
    with_it = run([*good(without=[plain]), far])
    assert with_it.shard.watermark_ms == WITHOUT.shard.watermark_ms
    assert with_it.shard.counts == {**WITHOUT.shard.counts, "time_ahead": 1}
    _, outcome = with_it.of(event(MIDDLE))
    assert isinstance(outcome, Outcome)
    assert (outcome.kind, outcome.label) == ("joined", True)


def test_a_time_that_goes_back() -> None:
    """The event is scored in its place; the watermark stays, and neither it nor its neighbours expire early."""
    plain, back = event(MIDDLE), event(MIDDLE, at=NOW_MS - 3_600_000)
    with_it = run([*good(without=[plain]), back])
    score, outcome = with_it.of(back)
    assert isinstance(score, Score)
    assert score.time_ms == NOW_MS - 3_600_000
    assert with_it.shard.watermark_ms == WITHOUT.shard.watermark_ms
    assert with_it.but(back) == WITHOUT.but(plain)
    assert isinstance(outcome, Outcome)
    assert outcome.kind == "joined"
    assert with_it.shard.counts == WITHOUT.shard.counts


def test_all_of_it_at_once_stops_nothing() -> None:
    """Every bad event in one stream: each is told once, and the good ones are as they were."""
    values: list[bytes | None] = [b"", None, b"{", b"\xff", b"[]", b"{}", b"[" * 5_000, b'{"id": {}}', b"x" * 2_000_000]
    bad = [event(number, offset=2 * number + 1, value=value) for number, value in enumerate(values)]
    with_it = run([*good(), *bad])
    assert with_it.but(*bad) == WITHOUT.but()
    assert all(isinstance(one, Rejected) for source in bad for one in with_it.of(source))
    told = {name: count for name, count in with_it.shard.counts.items() if name.startswith("rejected_")}
    assert sum(told.values()) == len(values) - 1
    assert with_it.shard.counts["passed_events_tombstone"] == 1
