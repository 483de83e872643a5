"""What a pipeline file may say of history and calendar features, and what it is told where it may not."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from math import pi, sin
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.core.error import PipelineError
from driftline.core.history.calendar import calendar_value
from driftline.core.history.history import History
from driftline.core.pipeline import CalendarFeature, parse_pipeline
from driftline.core.pipeline.feature import CalendarPart, parse_past
from driftline.core.record import Event, Malformed
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import refused_keys
from tests.core.history.test_history import pipeline
from tests.support.folding import step
from tests.support.small import NOW_MS, small, source

COUNT = {"history": "count", "by": "who", "over": "1d"}


def problems(features: dict[str, Any], **sections: Any) -> dict[str, str]:
    with pytest.raises(PipelineError) as caught:
        pipeline(features, **sections)
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("form", "path", "text"),
    [
        ({"history": "cuont", "by": "who"}, "history", "not a history function"),
        ({"history": "mean", "by": "who"}, "history", "needs a field"),
        ({"history": "count(amount)", "by": "who"}, "history", "takes no field"),
        ({"history": "lag(amount)", "by": "who"}, "history", "number of values to look back"),
        ({"history": "lag(amount, 0)", "by": "who"}, "history", "number of values to look back"),
        ({"history": "mean(word)", "by": "who"}, "history", "is a string, but mean needs a number"),
        ({"history": "last(who)", "by": "who"}, "history", "is a key, but last needs a number"),
        ({"history": "mean(amuont)", "by": "who"}, "history", "did you mean 'amount'?"),
        ({"history": "mean(x)", "by": "who"}, "history", "names itself"),
        ({"history": "mean(other)", "by": "who"}, "history", "is itself a history feature"),
        ({"history": "count", "by": "x"}, "by", "names itself"),
        ({"history": "count", "by": ["who", "who"]}, "by", "is listed twice"),
        ({"history": "count", "by": "whom"}, "by", "is neither a declared feature nor in event.context"),
        ({"history": "count", "by": "y"}, "by", "would reveal the label"),
        ({"history": "mean(y)", "by": "who"}, "history", "would reveal the label"),
        ({"history": "count", "by": "long"}, "by", "has type text"),
        ({"history": "count", "by": "hour_sin"}, "by", "is cyclic"),
        ({"history": "mean(hour)", "by": "who"}, "history", "is computed from the event's time"),
        ({"history": "count", "by": "who", "missing": "reject"}, "missing", "have no past"),
        ({"history": "count", "by": "who", "missing": "none"}, "missing", "must be a number"),
        ({"history": "last(amount)", "by": "who", "over": "1d"}, "over", "remove it"),
        ({"history": "decayed_mean(amount)", "by": "who"}, "half_life", "is required"),
        ({"history": "count", "by": "who", "half_life": "1d"}, "half_life", "is only for decayed_mean"),
        ({"history": "count", "by": "who", "over": "31ms"}, "over", "greater than or equal to 32"),
        ({"history": "count", "by": "who", "ovr": "1d"}, "ovr", "unknown key; did you mean 'over'?"),
        ({"calendar": "hours"}, "calendar", "did you mean 'hour'?"),
        ({"calendar": "hour", "zone": "Europe/Berlin"}, "zone", "an offset such as"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(form: dict[str, Any], path: str, text: str) -> None:
    features = {
        "y": "number",
        "long": "text",
        "hour": {"calendar": "hour"},
        "hour_sin": {"calendar": "hour", "cyclic": "sin"},
        "other": COUNT,
        "x": form,
    }
    found = problems(features)
    assert text in found[f"event.features.x.{path}"], found


@pytest.mark.parametrize("text", ["mean( x )", " mean (x)", "mean(x) ", "mean(\nx)"])
def test_blanks_in_a_function_do_not_matter(text: str) -> None:
    assert parse_past(text) == parse_past("mean(x)")


@pytest.mark.parametrize(
    "text", ["mean(" + " " * 100_000, "mean(" + " " * 100_000 + "x", " " * 100_000 + "mean", "count"]
)
def test_a_function_is_read_in_a_time_that_its_length_allows(text: str) -> None:
    """Documents of others are read with it: such a text took the cube of its length."""
    begun_s = time.process_time()
    with suppress(ValueError):
        parse_past(text.replace("{}", " " * 100_000))
    assert time.process_time() - begun_s < 1


def test_label_history_needs_labels_that_are_numbers() -> None:
    risk = {"x": {"history": "label_mean", "by": "word"}}
    model = {"model": "Select('amount') | StandardScaler() | GaussianNB()"}
    assert "use label_count" in problems(risk, task="multiclass", **model)["event.features.x.history"]
    pipeline({"x": {"history": "label_count", "by": "word"}}, task="multiclass", **model)
    document = {**pipeline({}).resolved(), "task": "anomaly", "model": "HalfSpaceTrees()", "label": None, "drift": {}}
    document["event"]["features"] |= risk
    document["topics"]["labels"] = None
    document["metrics"] = []
    with pytest.raises(PipelineError, match="needs labels"):
        parse_pipeline(document)


def test_an_id_is_no_feature_and_context_is_for_histories() -> None:
    assert "declare it in event.context" in problems({"x": "key"})["event.features.x.type"]
    event = {"context": {"who": "key", "amount": "number", "text": "text"}}
    found = problems({"x": COUNT}, event=event)
    assert "is already a feature" in found["event.context.amount"]
    assert "is not used by any" in found["event.context.text"]
    assert "must be one of key" in found["event.context.text.type"]


def test_a_file_is_read_back_as_it_was_resolved_and_short_forms_are_written_out() -> None:
    features = {"x": COUNT, "hour": {"calendar": "hour", "cyclic": True}, "day": {"calendar": "weekday"}}
    given = pipeline({"x": COUNT}).resolved()
    given["event"]["features"] |= features
    chosen = parse_pipeline({**given, "model": "Discard('word') | StandardScaler() | LogisticRegression()"})
    document = chosen.resolved()
    assert parse_pipeline(document) == chosen
    assert chosen.event.names == ("amount", "word", "x", "hour_sin", "hour_cos", "day")
    assert document["event"]["features"]["x"] == {
        "history": "count",
        "by": ["who"],
        "over": "1d",
        "missing": {"value": 0},
    }
    assert document["event"]["features"]["hour_sin"] == {"calendar": "hour", "cyclic": "sin", "zone": "UTC"}


def test_a_pipeline_without_history_says_nothing_of_it() -> None:
    document = small().resolved()
    assert list(document["event"]) == ["envelope", "key", "select", "id", "time", "features"]
    assert list(document["event"]["features"]["x"]) == ["path", "type", "missing", "text"]


def test_another_history_is_refused_for_a_running_pipeline_and_more_keys_are_not() -> None:
    before = pipeline({"x": COUNT})
    longer = pipeline({"x": {**COUNT, "over": "7d"}})
    assert refused_keys(before.resolved(), longer.resolved()) == ["event.features.x.over"]
    assert refused_keys(before.resolved(), pipeline({}).resolved()) != []
    assert refused_keys(before.resolved(), pipeline({"x": COUNT}, event={"keys_max": 7}).resolved()) == []


# -- what comes


def read(who: object, **more: object) -> Event | Malformed:
    chosen = pipeline({"x": COUNT})
    value = orjson.dumps({"id": 1, "amount": 1.5, "word": "a", "who": who, **more})
    record = Decoder(chosen).event(source("p.events", 0, value))
    assert isinstance(record, Event | Malformed)
    return record


@pytest.mark.parametrize("who", [None, ""])
def test_an_event_without_a_key_is_scored_and_has_no_past(who: object) -> None:
    record = read(who)
    assert isinstance(record, Event)
    here = Shard(pipeline({"x": COUNT}), 0)
    for _ in range(2):
        here.pending.id_max = 1
        assert type(step(here, record)[0]).__name__ in ("Score", "Rejected")
    assert here.history.summary()["who"] == {
        "keys": 0, "keys_max": 100_000, "evicted": 0, "late": 0, "without_key": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("who", "reason"),
    [({"a": 1}, "feature_type"), ([1], "feature_type"), ("k" * 1_000_000, "string_too_long"), (1e300, "feature_type")],
)
def test_a_key_that_can_be_none_is_rejected_with_its_reason(who: object, reason: str) -> None:
    record = read(who)
    assert isinstance(record, Malformed)
    assert record.reason in (reason, "too_large")


def test_a_key_of_changing_type_is_one_key() -> None:
    chosen = pipeline({"x": COUNT})
    here = Shard(chosen, 0)
    for number, who in enumerate((7, "7", 7.0)):
        value = orjson.dumps({"id": number, "amount": 1.5, "who": who})
        step(here, Decoder(chosen).event(source("p.events", number, value, NOW_MS + number)))
    assert len(here.history.keys[0]) == 1
    assert here.counts["scored"] == 3


def test_keys_of_several_fields_do_not_run_into_each_other() -> None:
    chosen = pipeline({"x": {"history": "count", "by": ["who", "where"]}})
    history = History(chosen)
    for number, (who, where) in enumerate([("a", "bc"), ("ab", "c"), ("1:a", "b")]):
        record = Event(source("p.events", number), NOW_MS, NOW_MS, number, (1.0, None, None), context=(who, where))
        history.take(history.complete(record, NOW_MS))
    assert len(history.keys[0]) == 3


def test_times_that_go_back_a_day_are_counted_and_leave_the_window_as_it_is() -> None:
    chosen = pipeline({"x": {"history": "count", "by": "who", "over": "1h"}})
    history, seen = History(chosen), []
    for number, time_ms in enumerate([NOW_MS, NOW_MS - 86_400_000, NOW_MS + 1]):
        record = Event(source("p.events", number), time_ms, time_ms, number, (1.0, None, None), context=("a",))
        completed = history.complete(record, NOW_MS)
        seen.append(completed.features[2])
        history.take(completed)
    assert seen == [0, 1, 1]
    assert history.summary()["who"]["late"] == 1


def test_a_time_that_is_not_trusted_does_not_make_the_next_events_late() -> None:
    chosen = pipeline({"x": {"history": "count", "by": "who", "over": "1h"}})
    history, seen = History(chosen), []
    for number, (time_ms, ahead) in enumerate([(NOW_MS, False), (NOW_MS + 10**11, True), (NOW_MS + 2, False)]):
        record = Event(source("p.events", number), NOW_MS, time_ms, number, (1.0, None, None), ahead, context=("a",))
        completed = history.complete(record, NOW_MS)
        seen.append(completed.features[2])
        history.take(completed)
    assert seen == [0, 1, 2]


def test_a_long_text_is_cut_and_not_refused() -> None:
    chosen = pipeline({"long": {"type": "text", "chars_max": 5}})
    for text in ("short", "longer than that"):
        value = orjson.dumps({"id": 1, "amount": 1.5, "word": "a", "long": text})
        record = Decoder(chosen).event(source("p.events", 0, value))
        assert isinstance(record, Event)
        assert record.features == (1.5, "a", text[:5])


# -- calendar


@pytest.mark.parametrize(
    ("part", "zone", "expected"),
    [
        ("minute", "UTC", 5), ("hour", "UTC", 23), ("hour", "+02:00", 1), ("weekday", "UTC", 4),
        ("weekday", "+02:00", 5),
        ("weekend", "UTC", False), ("weekend", "+02:00", True), ("day", "UTC", 29), ("month", "+02:00", 3),
        ("yearday", "UTC", 60), ("day", "-05:30", 29),
    ],
)  # fmt: skip
def test_calendar_features_are_of_the_events_time(part: Any, zone: str, expected: object) -> None:
    time_ms = int(datetime(2008, 2, 29, 23, 5, 59, tzinfo=UTC).timestamp() * 1000)
    assert calendar_value(CalendarFeature(calendar=part, zone=zone), time_ms) == expected


_SHARES: tuple[tuple[CalendarPart, float], ...] = (
    ("hour", 0.75), ("weekday", 4.75 / 7), ("month", (31 + 28.75) / 366), ("day", 28.75 / 29),
)  # fmt: skip


def test_a_cyclic_feature_is_a_place_on_a_circle() -> None:
    time_ms = int(datetime(2008, 2, 29, 18, tzinfo=UTC).timestamp() * 1000)
    for part, share in _SHARES:
        made = calendar_value(CalendarFeature(calendar=part, cyclic="sin"), time_ms)
        assert made == pytest.approx(sin(2 * pi * share)), part
