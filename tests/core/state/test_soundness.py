"""Without a key, what a state holds in bulk is looked at before it is put to work: every event, early label and key."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from driftline.core.error import SnapshotError
from driftline.core.guard.quarantine import Pair
from driftline.core.label.ledger import Ledger
from driftline.core.pickle.allowlist import common
from driftline.core.pickle.reader import Thaw
from driftline.core.pickle.writer import pickled
from driftline.core.shard.state import Shard
from driftline.core.state import freeze
from driftline.core.state.freeze import Frozen, load, view_of
from driftline.engine.trial import check_works
from tests.fuzz.hostile import Stream, remembering
from tests.fuzz.judge import Judge
from tests.support.segment import in_parts
from tests.support.series import Feed
from tests.support.series import pipeline as forecasting

PIPELINE = remembering("regression")
LEDGER, HISTORY = 0, 1  # segments, in the order of a snapshot

Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def lived() -> Shard:
    judge = Judge(PIPELINE, every_schema=False)
    stream = Stream(1, PIPELINE)
    for _ in range(900):
        judge.feed(stream.next()[1])
    assert len(judge.shard.pending) > 20
    assert len(judge.shard.early) > 3
    return judge.shard


def numbers(change: Change) -> Callable[[Shard], Frozen]:
    """A snapshot whose numbers beside the segments are changed."""

    def made(shard: Shard) -> Frozen:
        frozen, view = in_parts(shard), view_of(shard)
        state = {name: getattr(shard, name) for name in freeze.KEPT}
        state["pending"] = [dict(view.ledger.numbers), view.ledger.kept]
        state["history"] = [dict(keys.numbers) for keys in view.history]
        view.release()
        change(state)
        state["pending"] = tuple(state["pending"])
        return Frozen(pickled(state), frozen.segments)

    return made


def segment(number: int, change: Callable[[list[Any], list[Any]], None]) -> Callable[[Shard], Frozen]:
    """A snapshot with one segment changed."""

    def made(shard: Shard) -> Frozen:
        frozen = in_parts(shard)
        segments = list(frozen.segments)
        body, marks = (list(Thaw(b"".join(part), common(), "snapshot").read()) for part in segments[number])
        change(body, marks)
        segments[number] = ([pickled(tuple(body))], [pickled(tuple(marks))])
        return Frozen(frozen.rest, segments)

    return made


def last_waiting(body: list[Any], value: object) -> None:
    place = max(slot for slot, kept in enumerate(body[3]) if kept is not None)
    body[3][place] = value


def last_past(body: list[Any], value: object) -> None:
    place = max(slot for slot, kept in enumerate(body[2]) if kept is not None)
    body[2][place] = value


def spoilt_past(body: list[Any], change: Change) -> None:
    place = max(slot for slot, kept in enumerate(body[2]) if kept is not None)
    past = msgspec.msgpack.decode(body[2][place])
    change(past)
    body[2][place] = msgspec.msgpack.encode(past)


def early(name: str, value: object) -> Change:
    return lambda state: vars(state["early"]).__setitem__(name, value)


def pair() -> Pair:
    """A pair without features."""
    return Pair("e-0-0-1", "a", (), True, 0, 0)


HOSTILE: dict[str, Callable[[Shard], Frozen]] = {
    "the next event is far away": numbers(lambda state: state["pending"][0].update(end=2**50, remembered=2**50)),
    "an id is remembered nowhere": numbers(lambda state: state["pending"][0].update(remembered=0)),
    "time has no beginning": numbers(lambda state: state["pending"][0].update(origin_ms=2**70)),
    "no id may be remembered": numbers(lambda state: state["pending"][0].update(id_max=0)),
    "a label to be corrected twice": numbers(
        lambda state: state["pending"].__setitem__(1, array("q", [3, 3]).tobytes())
    ),
    "an event of no bytes": segment(LEDGER, lambda body, _: last_waiting(body, b"")),
    "an event of few fields": segment(LEDGER, lambda body, _: last_waiting(body, msgspec.msgpack.encode([1, None]))),
    "an event that is a number": segment(LEDGER, lambda body, _: last_waiting(body, 5)),
    "two events of one id": segment(LEDGER, lambda body, _: body.__setitem__(1, [7] * len(body[1]))),
    "a fate that is none": segment(LEDGER, lambda _, marks: marks.__setitem__(1, b"c" * len(marks[1]))),
    "fewer events than were": segment(LEDGER, lambda _, marks: marks.__setitem__(1, marks[1][:-1])),
    "a label of no time": segment(LEDGER, lambda _, marks: marks[2].update({0: ("then", 1, True, 4)})),
    "a past of no bytes": segment(HISTORY, lambda body, _: last_past(body, b"")),
    "a past of another length": segment(HISTORY, lambda body, _: spoilt_past(body, lambda past: past.pop())),
    "a past without parts": segment(HISTORY, lambda body, _: spoilt_past(body, lambda past: past.__setitem__(1, 5))),
    "a past at no time": segment(HISTORY, lambda body, _: spoilt_past(body, lambda past: past.__setitem__(0, 2**63))),
    "columns that are not alike": segment(HISTORY, lambda body, _: spoilt_past(body, lambda past: past[1][-1].pop())),
    "a sum that is text": segment(
        HISTORY, lambda body, _: spoilt_past(body, lambda past: past[1].__setitem__(2, ["x"]))
    ),
    "a count too large for an entry": numbers(lambda state: state["history"][0].update(evicted=2**70)),
    "segments in another's place": numbers(lambda state: state["history"][0].update(next=2**60)),
    "many labels of an event": numbers(early("each_max", 2**40)),
    "no room for early labels": numbers(early("early_max", -1)),
    "early labels without an origin": numbers(early("_origin_ms", "then")),
    "a count of strays that is text": numbers(lambda state: setattr(state["strays"], "look_at", "soon")),
    "a sample of strays that is none": numbers(lambda state: setattr(state["strays"], "gone", [])),
    "a pair of too few features": numbers(lambda state: state["quarantine"].held.append(pair())),
    "a learned pair of too few features": numbers(lambda state: state["quarantine"].recent.append(pair())),
    "a copy that is no model": numbers(lambda state: setattr(state["quarantine"], "older", b"none")),
    "a later copy that is no model": numbers(lambda state: setattr(state["quarantine"], "newer", b"none")),
    "a good copy that is no model": numbers(lambda state: setattr(state["learner"], "_good", b"none")),
}


def test_what_is_ours_is_sound(lived: Shard) -> None:
    check_works(load(PIPELINE, 0, in_parts(lived)))


def test_series_of_forecasts_are_sound() -> None:
    feed = Feed(forecasting())
    for day in range(30):
        for item in "abc":
            feed.give(item, 20_000 + day, 1.0 + day % 7)
    check_works(load(feed.shard.pipeline, 0, freeze.dump(feed.shard)))


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_is_refused(name: str, lived: Shard) -> None:
    own = load(PIPELINE, 0, in_parts(lived))
    with pytest.raises(SnapshotError):
        check_works(load(PIPELINE, 0, HOSTILE[name](own)))


def test_events_far_apart_are_found_at_once() -> None:
    """Whatever lies between has long been forgotten: it is not walked through."""
    shard = Shard(PIPELINE, 0)
    view = shard.pending.view()
    ledger = Ledger.begun({**view.numbers, "end": 2**40, "remembered": 2**40}, view.kept)
    assert ledger.next_deadline_ms is None
    assert ledger.young(0) == 0
