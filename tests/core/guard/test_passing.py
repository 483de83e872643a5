"""Whether nothing trips, in one go: sure where no rung objects and all is known, the same in Python and compiled."""

from __future__ import annotations

import copy
from dataclasses import astuple
from random import Random
from typing import Any

import pytest

from driftline.core.guard import passing
from driftline.core.guard.base import Case
from driftline.core.guard.familiar import plainly_familiar
from driftline.core.guard.kept import BLOCK, CLEAN, Kept
from driftline.core.guard.passing import Limits, PlainPassing
from driftline.core.guard.rungs import Rungs
from driftline.core.guard.share import EVENTS_MIN
from tests.support.small import NOW_MS, small

BOTH = list(dict.fromkeys([PlainPassing, passing.Passing]))
WINDOW_MS = 60_000
GUARD: dict[str, Any] = {
    "untrained": {"labels_min": 5},
    "range": {"min": 0.0, "max": 1.0},
    "step": {"ratio_max": 2, "difference_max": 0.3, "tolerance": 0.05},
    "unfamiliar": {"score_max": 0.5},
    "share": {"positive_max": 0.4, "window": "1m"},
    "fallback": "last_value",
}
NAMES = [name for name in GUARD if name != "fallback"]


def rungs_of(*names: str) -> Rungs:
    pipeline = small("binary", guard={"fallback": "last_value", **{name: GUARD[name] for name in names}})
    assert pipeline.guard is not None
    return Rungs(pipeline, pipeline.guard)


def limits_of(rungs: Rungs, *, plain: bool = True) -> Limits:
    return Limits(rungs.limits, 0 if rungs.share is None else WINDOW_MS, plain=plain)


def objects(rungs: Rungs, kept: Kept, key: bytes | None, value: float | None, learned: int) -> bool:
    """Whether a rung objects to a prediction that was counted."""
    found = None if key is None else kept.series.get(key)
    case = Case(value, learned, () if found is None else (found[0], found[1]))
    case.features, case.known = (value,), kept.known
    case.crowd = kept.crowd_all[1], kept.crowd_all[0]
    return any(limit.beyond(case) is not None for limit in rungs.limits)


@pytest.mark.parametrize("names", [(name,) for name in NAMES] + [tuple(NAMES), ("range", "step"), ("share", "step")])
@pytest.mark.parametrize("made", BOTH)
def test_it_is_sure_just_where_no_rung_objects(made: type[PlainPassing], names: tuple[str, ...]) -> None:
    rng, rungs = Random(7), rungs_of(*names)
    one, kept, plain, beside = made(limits_of(rungs)), Kept(), PlainPassing(limits_of(rungs)), Kept()
    sure, time_ms = 0, NOW_MS
    for number in range(1_000):
        time_ms += rng.choice((0, 0, 100, 5_000, -300))
        value = rng.choice((rng.random(), rng.random(), 0.0, 1.0, 1.5, -0.1, None))
        key = rng.choice((b"", b"a", None))
        learned = rng.choice((number, number, 4))
        clean, remembered = kept.clean, copy.deepcopy(kept.series)
        passes = one.take(kept, key, (value,), value, learned, time_ms)
        assert passes == plain.take(beside, key, (value,), value, learned, time_ms)
        new = value is not None and key is not None and key not in remembered
        strange = "unfamiliar" in names and not plainly_familiar(kept.known, (value,))
        kept.series, now = remembered, kept.series
        assert passes == (not new and not strange and not objects(rungs, kept, key, value, learned))
        kept.series = now
        sure += passes
        if passes:
            assert kept.clean == min(CLEAN, clean + 1)
        for each in (kept, beside):
            if new and key is not None and value is not None:
                each.accept(key, value, time_ms, 0, 10)
            if value is not None and rng.random() < 0.3 and each is kept:
                kept.label(b"", value, time_ms, 0, 10)
                beside.label(b"", value, time_ms, 0, 10)
            each.learn((value,))
        assert repr(astuple(kept)) == repr(astuple(beside))
    assert 100 < sure < 1_000


@pytest.mark.parametrize("made", BOTH)
def test_a_prediction_is_counted_whatever_it_is(made: type[PlainPassing]) -> None:
    one, kept = made(limits_of(rungs_of("share"))), Kept()
    for number in range(BLOCK + 5):
        one.count(kept, (0.9, 0.1, None)[number % 3], NOW_MS + number)
    assert (kept.filled, kept.trips_before) == (5, {})
    assert kept.crowd_all == [70, 35]  # what is no number is no part of a share
    one.count(kept, 0.9, NOW_MS + 2 * WINDOW_MS)
    assert kept.crowd_all == [1, 1]


@pytest.mark.parametrize("made", BOTH)
@pytest.mark.parametrize("time_ms", [2**63 - 1, 2**60, 2**60 // 6_000 * 6_000, -1, -(2**60), 1 - 2**63])
def test_a_window_is_found_of_any_time(made: type[PlainPassing], time_ms: int) -> None:
    """Ten times a time need not fit into 64 bits."""
    one, kept = made(limits_of(rungs_of("share"))), Kept()
    for at_ms in (time_ms - 1, time_ms, time_ms):
        one.count(kept, 0.9, at_ms)
    assert kept.crowd_all == [3, 3]
    assert kept.crowds[-1][0] == time_ms * 10 // WINDOW_MS
    one.count(kept, 0.9, 0)
    assert kept.crowd_all == ([1, 1] if time_ms <= -WINDOW_MS else [4, 4])


@pytest.mark.skipif(not passing.is_compiled, reason="compiled counts trust lengths; build with a C compiler: make dev")
def test_counts_of_another_length_are_refused() -> None:
    one = passing.Passing(limits_of(rungs_of("share")))
    cases: list[tuple[list[list[int]], list[int]]] = [([[]], [0, 0]), ([[1, 2]], [0, 0]), ([], []), ([], [1, 2, 3])]
    for crowds, crowd_all in cases:
        kept = Kept(crowds=crowds, crowd_all=crowd_all)
        with pytest.raises(ValueError, match="three things"):
            one.count(kept, 0.9, NOW_MS)


@pytest.mark.parametrize("made", BOTH)
def test_the_share_says_nothing_before_there_are_enough(made: type[PlainPassing]) -> None:
    one, kept = made(limits_of(rungs_of("share"))), Kept()
    found = [one.take(kept, None, (), 0.9, 0, NOW_MS) for _ in range(EVENTS_MIN + 1)]
    assert found == [True] * (EVENTS_MIN - 1) + [False] * 2


@pytest.mark.parametrize("made", BOTH)
def test_what_it_does_not_know_it_is_never_sure_of(made: type[PlainPassing]) -> None:
    kept = Kept()
    plain = made(limits_of(rungs_of("range")))
    assert plain.take(kept, None, (), 0.5, 0, NOW_MS)
    assert not plain.take(kept, None, (), 1, 0, NOW_MS)  # a model of the user's own may say any kind of number
    assert not made(limits_of(rungs_of("range"), plain=False)).take(kept, None, (), 0.5, 0, NOW_MS)
    pipeline = small("binary", guard={"distribution": {"distance_max": 0.5}})
    assert pipeline.guard is not None
    other = made(limits_of(Rungs(pipeline, pipeline.guard)))
    assert not other.take(kept, None, (), 0.5, 0, NOW_MS)
