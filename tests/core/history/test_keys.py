"""The keys of a history: held, evicted, packed into segments, in snapshots by parts."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.error import InvariantError
from driftline.core.history import keys as module
from driftline.core.history.keys import SEGMENT, Keys, KeyState
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, dump_body, dump_marks, load
from tests.core.history.test_history import Seen, event, pipeline, served, stream
from tests.support.segment import in_parts
from tests.support.small import NOW_MS


def name(number: int) -> bytes:
    return b"key %d" % number


def contents(keys: Keys) -> dict[bytes, Any]:
    """Every key's past, the least recently used first."""
    return {key: keys.find(key) for segment in keys.segments for key in segment.keys if key is not None}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_keys_are_an_ordered_dict_with_a_bound(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small segments, so that they fill, merge and go; and with states taken and read on the way."""
    monkeypatch.setattr(module, "SEGMENT", 8)
    rng, keys, like = random.Random(seed), Keys(1, ("who",), 50), OrderedDict[bytes, list[Any]]()
    evicted = 0
    for turn in range(5_000):
        key = name(int(rng.paretovariate(0.7)) % 200)
        assert keys.find(key) == like.get(key)
        like[key] = [turn, [turn]]
        like.move_to_end(key)
        keys.keep(key, [turn, [turn]])
        if len(like) > 50:
            like.popitem(last=False)
            evicted += 1
        if turn % 1_000 == 999:
            keys = read(keys)
    assert keys.evicted == evicted > 0
    assert list(contents(keys).items()) == list(like.items())
    assert sum(len(segment.keys) for segment in keys.segments) < 4 * 50 + 8


def test_one_key_with_all_the_traffic_leaves_no_trace_in_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fills segment after segment, each of which it leaves empty."""
    monkeypatch.setattr(module, "SEGMENT", 4)
    keys = Keys(1, ("who",), 2)
    for turn in range(50):
        keys.keep(b"busy", [turn])
        assert len(keys.segments) <= 2
    for number in range(9):
        keys.keep(name(number), [number])
    assert contents(keys) == {name(7): [7], name(8): [8]}
    assert digest_of(read(keys)) == digest_of(keys)


def read(keys: Keys) -> Keys:
    """What its state makes."""
    state = keys.__getstate__()
    made = Keys(keys.store, keys.by, keys.keys_max)
    made.begin(state["numbers"])
    for parts in state["segments"]:
        made.take_up(KeyState(*parts))
    made.whole()
    assert digest_of(made) == digest_of(keys)
    return made


def test_a_view_stays_as_it_is_while_keys_are_used() -> None:
    keys = Keys(1, ("who",), 100_000)
    for number in range(3 * SEGMENT):
        keys.keep(name(number), [number])
    view = keys.view()
    before = [dump_body(segment.state()) + dump_marks(segment.state()) for segment in view.segments]
    for number in range(0, 3 * SEGMENT, 5):
        keys.keep(name(number), [-number])
    after = [dump_body(segment.state()) + dump_marks(segment.state()) for segment in view.segments]
    assert before == after
    view.release()
    assert keys.find(name(5)) == [-5]


FEATURES = {
    "count": {"history": "count", "by": "who", "over": "1d"},
    "risk": {"history": "label_mean", "by": ["who", "where"], "over": "7d"},
}


@pytest.mark.parametrize("whole", [True, False], ids=["in one", "in parts"])
def test_a_history_goes_on_from_a_snapshot(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT", 4)
    chosen = pipeline(FEATURES, event={"keys_max": 5})
    here, seen = Shard(chosen, 0), stream(400, 7)
    for one in seen:
        one.who = one.who and f"{one.who} {int(one.amount) % 5}"
    for number, one in enumerate(seen[:300]):
        served(here, event(chosen, number, one))
    there = load(chosen, 0, dump(here) if whole else in_parts(here))
    assert digest_of(there.history) == digest_of(here.history)
    for number, one in enumerate(seen[300:], 300):
        assert served(here, event(chosen, number, one)) == served(there, event(chosen, number, one))
    assert digest_of(there.history) == digest_of(here.history)
    assert here.history.summary()["who"]["evicted"] > 0


def test_fewer_keys_may_be_kept_from_a_deploy_on() -> None:
    before, after = (pipeline(FEATURES, event={"keys_max": most}) for most in (100, 2))
    here = Shard(before, 0)
    for number in range(5):
        served(here, event(before, number, Seen(NOW_MS + number, f"who {number}", "north", 1.0, None, None)))
    there = load(after, 0, dump(here))
    adopt(there, before)
    assert len(there.history.keys[0]) == 5
    served(there, event(after, 9, Seen(NOW_MS + 9, "who 0", "north", 1.0, None, None)))
    assert there.history.summary()["who"] == {
        "keys": 2, "keys_max": 2, "evicted": 3, "late": 0, "without_key": 0,
    }  # fmt: skip
    assert there.history.keys[0].find(b"who 0") is not None


@pytest.mark.parametrize(
    "segment",
    [
        KeyState(1 << 40, [b"a"], [], False),
        KeyState(1 << 40, [b"a"], [None], False),
        KeyState(1 << 40, ["a"], [b"b"], False),  # type: ignore[list-item]  # what a state of others may hold
        KeyState(9 << 40, [b"a"], [b"b"], False),
        KeyState(5, [b"a"], [b"b"], False),
    ],
)
def test_a_segment_that_is_not_whole_is_refused(segment: KeyState) -> None:
    history = Shard(pipeline({"count": FEATURES["count"]}), 0).history
    history.begin([keys.numbers() for keys in history.keys])
    with pytest.raises(InvariantError):
        history.take_up(segment)
    with pytest.raises(InvariantError, match="lacks"):
        history.whole()
