"""History features against an independent computation: all events kept in a list, and the definition applied to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

import pytest
from msgspec import Struct

from driftline.core.history.part import BUCKETS
from driftline.core.output import Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, FeatureValue, Label, LabelValue, Record
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.small import NOW_MS, source

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


def pipeline(features: dict[str, Any], **sections: Any) -> Pipeline:
    """Events with an amount and a word; who, where and demand are read for histories."""
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": "binary",
            "event": {
                "id": "id",
                "context": {
                    name: kind
                    for name, kind in {"who": "key", "where": "key", "demand": "number"}.items()
                    if any(name in str(feature) for feature in features.values())
                },
                "features": {"amount": "number", "word": {"type": "string", "missing": "omit"}, **features},
                **sections.pop("event", {}),
            },
            "label": {"id": "id", "value": "y", "wait": "30d", **sections.pop("label", {})},
            "model": "Select('amount') | StandardScaler() | LogisticRegression()",
            "drift": {"error": "none", "features": dict.fromkeys(("word", *features), "ADWIN()")},
            **sections,
        }
    )


class Seen(Struct):
    """An event as it came."""

    time_ms: int
    who: str | None
    where: str | None
    amount: float
    word: str | None
    demand: float | None


def event(chosen: Pipeline, number: int, seen: Seen) -> Event:
    context = tuple(getattr(seen, name) for name in chosen.event.context)
    plain = {"amount": seen.amount, "word": seen.word}
    features = tuple(plain.get(name) for name in chosen.event.names)
    origin = source("p.events", number, time_ms=seen.time_ms)
    return Event(origin, seen.time_ms, seen.time_ms, number, features, context=context)


def label(number: int, value: LabelValue | None, time_ms: int, offset: int) -> Label:
    return Label(source("p.labels", offset, time_ms=time_ms), time_ms, time_ms, number, value)


def served(here: Shard, record: Record) -> dict[str, FeatureValue]:
    """What the model saw of an event."""
    score = next(made for made in step(here, record) if isinstance(made, Score))
    return dict(zip(here.pipeline.event.names, score.features, strict=True))


def stream(count: int, seed: int, *, late: float = 0.1) -> list[Seen]:
    """Events mostly in order of time; some are late, by minutes or by more than any window."""
    rng, time_ms, made = random.Random(seed), NOW_MS, []
    for _ in range(count):
        time_ms += int(rng.expovariate(1 / (20 * MINUTE_MS)))
        back_ms = rng.choice([MINUTE_MS, HOUR_MS, 30 * HOUR_MS, 40 * DAY_MS]) if rng.random() < late else 0
        made.append(
            Seen(
                time_ms - int(back_ms * rng.random()),
                rng.choice(["ann", "bob", "cy", None]),
                rng.choice(["north", "south"]),
                rng.gauss(1000, 3),
                rng.choice(["red", "green", "blue", None]),
                None if rng.random() < 0.2 else float(rng.randint(0, 9)),
            )
        )
    return made


# -- against the definition


def window(past: Sequence[Seen], time_ms: int, over_ms: int | None) -> list[Seen]:
    """The events of a key that a window holds: those of the last 32 buckets, up to the newest time of the key."""
    if over_ms is None:
        return list(past)
    at_ms = max([time_ms, *(one.time_ms for one in past)])
    return [one for one in past if one.time_ms * BUCKETS // over_ms > at_ms * BUCKETS // over_ms - BUCKETS]


def spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


OF: dict[str, Callable[[list[float]], float]] = {
    "sum": sum, "mean": fmean, "min": min, "max": max, "std": spread, "distinct": lambda values: len(set(values)),
}  # fmt: skip


def defined(form: dict[str, Any], past: Sequence[Seen], time_ms: int, over_ms: int | None) -> float:
    """What a feature is by its definition; 0 without a value."""
    name, _, inside = form["history"].rstrip(")").partition("(")
    source_name, _, back = inside.partition(",")
    if name == "count":
        return len(window(past, time_ms, over_ms))
    if name == "since_last":
        newest_ms = max((one.time_ms for one in past), default=None)
        return 0 if newest_ms is None else max(time_ms - newest_ms, 0) / 1000
    known = past if name in ("lag", "last") else window(past, time_ms, over_ms)
    values = [value for one in known if (value := getattr(one, source_name)) is not None]
    if name in ("lag", "last"):
        place = int(back or 1)
        return values[-place] if len(values) >= place else 0
    return OF[name](values) if values else 0


BYS: tuple[Any, ...] = ("who", ["who", "where"], [])
FORMS: dict[str, dict[str, Any]] = {
    f"{name} of {by} over {over}": {"history": name, "by": by, **({"over": over} if over else {})}
    for name in ("count", "sum(amount)", "mean(demand)", "std(amount)", "min(demand)", "max(amount)", "distinct(word)")
    for by in BYS
    for over in ("3h", "7d", None)
}
FORMS |= {
    f"{name} of {by}": {"history": name, "by": by}
    for name in ("last(amount)", "lag(demand, 3)", "lag(demand, 7)", "since_last")
    for by in BYS[::2]
}
OVER_MS = {"3h": 3 * HOUR_MS, "7d": 7 * DAY_MS, None: None}


def key_of(seen: Seen, by: Any) -> tuple[Any, ...]:
    names = [by] if isinstance(by, str) else by
    return tuple(getattr(seen, name) for name in names)


@pytest.mark.parametrize("seed", [1, 2])
def test_history_features_equal_the_definition_on_a_stream_with_late_events(seed: int) -> None:
    chosen = pipeline({f"f{number}": form for number, form in enumerate(FORMS.values())})
    here, past = Shard(chosen, 0), list[Seen]()
    for number, seen in enumerate(stream(200, seed)):
        values = served(here, event(chosen, number, seen))
        for place, (name, form) in enumerate(FORMS.items()):
            key = key_of(seen, form["by"])
            known = [one for one in past if key_of(one, form["by"]) == key and None not in key]
            expected = defined(form, known, seen.time_ms, OVER_MS[form.get("over")])
            assert values[f"f{place}"] == pytest.approx(expected, rel=1e-9, abs=1e-9), (number, name)
        past.append(seen)
    held = here.history.summary()
    assert held["who"]["late"] > 0
    assert held["who"]["without_key"] == sum(one.who is None for one in past)


def test_a_window_holds_nothing_older_than_it_says_and_all_that_is_younger_than_31_of_its_32_buckets() -> None:
    chosen = pipeline({"count": {"history": "count", "by": "who", "over": "1d"}})
    here, past = Shard(chosen, 0), list[int]()
    for number, seen in enumerate(stream(600, 3, late=0)):
        seen.who = "ann"
        count = served(here, event(chosen, number, seen))["count"]
        ages = [seen.time_ms - time_ms for time_ms in past]
        assert isinstance(count, int)
        assert sum(age <= DAY_MS * 31 // 32 for age in ages) <= count <= sum(age < DAY_MS for age in ages)
        past.append(seen.time_ms)


def test_a_decayed_mean_counts_half_after_each_half_life() -> None:
    chosen = pipeline({"mean": {"history": "decayed_mean(amount)", "by": "who", "half_life": "1h"}})
    here, past = Shard(chosen, 0), list[Seen]()
    for number, seen in enumerate(stream(300, 4)):
        mean = served(here, event(chosen, number, seen))["mean"]
        own = [one for one in past if one.who == seen.who is not None]
        newest_ms = max((one.time_ms for one in own), default=0)
        weights = [2.0 ** (-(newest_ms - one.time_ms) / HOUR_MS) for one in own]
        total = sum(weight * one.amount for weight, one in zip(weights, own, strict=True))
        assert mean == pytest.approx(total / sum(weights) if own else 0, rel=1e-9)
        past.append(seen)


# -- labels

RISK = {
    "risk": {"history": "label_mean", "by": "who", "over": "7d"},
    "known": {"history": "label_count", "by": "who"},
    "spread": {"history": "label_std", "by": "who", "over": "7d"},
    "before": {"history": "label_lag(2)", "by": "who"},
}


class Known(Struct):
    """A label that has come."""

    number: int
    who: str | None
    value: float
    came_ms: int


def check_risk(values: dict[str, FeatureValue], known: Sequence[Known], who: str | None, now_ms: int) -> None:
    own = [one for one in known if one.who == who is not None]
    recent = [one.value for one in own if one.came_ms * 32 // (7 * DAY_MS) > now_ms * 32 // (7 * DAY_MS) - 32]
    assert values["known"] == len(own)
    assert values["risk"] == pytest.approx(fmean(recent) if recent else 0, rel=1e-9, abs=1e-9)
    assert values["spread"] == pytest.approx(spread(recent) if recent else 0, rel=1e-6, abs=1e-6)
    assert values["before"] == (own[-2].value if len(own) > 1 else 0)


@pytest.mark.parametrize("seed", [5, 6])
def test_label_history_knows_a_label_from_when_it_came_and_never_before(seed: int) -> None:
    chosen = pipeline(RISK)
    here, known, rng = Shard(chosen, 0), list[Known](), random.Random(seed)
    waiting: list[tuple[int, int, Seen, bool]] = []
    now_ms = 0
    for number, seen in enumerate(stream(800, seed, late=0.05)):
        due = sorted(entry for entry in waiting if entry[0] <= max(now_ms, seen.time_ms))
        for came_ms, about, whose, value in due:
            now_ms = max(now_ms, came_ms)
            step(here, label(about, value, came_ms, about))
            known.append(Known(about, whose.who, float(value), now_ms))
        waiting = [entry for entry in waiting if entry not in due]
        now_ms = max(now_ms, seen.time_ms)
        check_risk(served(here, event(chosen, number, seen)), known, seen.who, now_ms)
        waiting.append((seen.time_ms + rng.randint(HOUR_MS, 10 * DAY_MS), number, seen, rng.random() < 0.3))
    assert len(known) > 200


EXTREMES = {
    "least": {"history": "label_min", "by": "who", "over": "2h", "missing": -1},
    "most": {"history": "label_max", "by": "who", "over": "2h", "missing": -1},
    "kinds": {"history": "label_distinct", "by": "who", "over": "2h"},
    "ever": {"history": "label_max", "by": "who", "missing": -1},
}
NUMBERS: dict[str, Any] = {"task": "regression", "model": "Select('amount') | StandardScaler() | LinearRegression()"}


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_least_greatest_and_distinct_labels_stand_corrections_and_retractions(seed: int) -> None:
    chosen = pipeline(EXTREMES, label={"second": "correct", "retract": True}, **NUMBERS)
    here, rng, known = Shard(chosen, 0), random.Random(seed), dict[int, tuple[int, float]]()
    offset = 0
    for number in range(300):
        time_ms = NOW_MS + number * MINUTE_MS
        values = served(here, event(chosen, number, Seen(time_ms, "ann", "north", 1.0, None, None)))
        own = [value for _, value in known.values()]
        bucket_ms = 2 * HOUR_MS // 32
        now = [value for at, value in known.values() if at // bucket_ms > time_ms // bucket_ms - 32]
        wanted = {"least": min(now, default=-1), "most": max(now, default=-1), "kinds": len(set(now))}
        assert {name: values[name] for name in (*wanted, "ever")} == {**wanted, "ever": max(own, default=-1)}, number
        for _ in range(rng.choice((0, 1, 2))):
            offset += 1
            about, value = rng.randrange(max(0, number - 5), number + 1), float(rng.randrange(12))
            came_ms = known.get(about, (time_ms, 0))[0]
            if about in known and rng.random() < 0.3:
                step(here, label(about, None, time_ms, offset))
                del known[about]
                continue
            step(here, label(about, value, time_ms, offset))
            known[about] = (came_ms, value)
    assert here.counts["corrected"] > 20
    assert here.counts["retracted"] > 20


def test_classes_are_counted_as_distinct_labels() -> None:
    model = {"task": "multiclass", "model": "Select('amount') | StandardScaler() | GaussianNB()"}
    chosen = pipeline({"kinds": {"history": "label_distinct", "by": "who"}}, **model)
    here, told = Shard(chosen, 0), []
    for number, value in enumerate(["a", "b", "a", "c", "c"]):
        seen = Seen(NOW_MS + number, "ann", "north", 1.0, None, None)
        told.append(served(here, event(chosen, number, seen))["kinds"])
        step(here, label(number, value, NOW_MS + number, number))
    assert told == [0, 1, 2, 2, 3]


def test_a_label_that_has_not_come_changes_nothing() -> None:
    """The same events, with labels that differ only in what has not come yet: the same features."""
    chosen = pipeline(RISK)
    seen = [Seen(NOW_MS + number * HOUR_MS, "ann", "north", 1.0, None, None) for number in range(10)]
    made = []
    for value in (True, False):
        here = Shard(chosen, 0)
        values = [served(here, event(chosen, number, one)) for number, one in enumerate(seen[:9])]
        step(here, label(0, value, seen[8].time_ms + 1, 0))
        made.append((values, served(here, event(chosen, 9, seen[9]))))
    assert made[0][0] == made[1][0]
    assert made[0][1]["risk"] == 1.0
    assert made[1][1] == {**made[0][1], "risk": 0.0}


@pytest.mark.parametrize("case", ["corrected", "retracted", "labelled again", "assumed"])
def test_a_label_that_is_taken_back_leaves_as_it_came(case: str) -> None:
    """The history is then as if only the last label had come."""
    section: dict[str, Any] = {"second": "correct", "retract": True, "missing": {"assume": 0}, "late": "correct"}
    chosen = pipeline(RISK, label=section)
    here = Shard(chosen, 0)
    seen = [Seen(NOW_MS + number * HOUR_MS, "ann", "north", 1.0, None, None) for number in range(4)]
    for number in (0, 1):
        served(here, event(chosen, number, seen[number]))
    step(here, label(1, True, seen[1].time_ms + 1, 0))
    if case == "assumed":
        later = Seen(NOW_MS + 40 * DAY_MS, "ann", "north", 1.0, None, None)
        values = served(here, event(chosen, 2, later))
        assert (values["known"], values["risk"]) == (2, 0.0)  # that of 0 was assumed a moment ago; that of 1 is old
        return
    step(here, label(0, True, seen[1].time_ms + 2, 1))
    step(here, label(0, None if case != "corrected" else False, seen[1].time_ms + 3, 2))
    if case == "labelled again":
        step(here, label(0, False, seen[1].time_ms + 4, 3))
    values = served(here, event(chosen, 2, seen[2]))
    if case == "retracted":
        assert (values["known"], values["risk"], values["before"]) == (1, 1.0, 0)
    else:
        assert (values["known"], values["risk"]) == (2, 0.5)
        assert values["spread"] == pytest.approx(0.5**0.5)


def test_early_labels_count_once_their_event_is_scored() -> None:
    chosen = pipeline(RISK)
    here = Shard(chosen, 0)
    step(here, label(0, True, NOW_MS - 5, 0))
    first = served(here, event(chosen, 0, Seen(NOW_MS, "ann", "north", 1.0, None, None)))
    second = served(here, event(chosen, 1, Seen(NOW_MS + 1, "ann", "north", 1.0, None, None)))
    assert (first["known"], second["known"], second["risk"]) == (0, 1, 1.0)
