"""A monitor is its detector plus a memory: neither may change what the other sees."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
import river.drift
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.core.drift.change_point import BLOCKS, RECENT_MIN, Trail
from driftline.core.drift.monitors import Drift, DriftMonitors, Monitor
from driftline.core.drift.reference import Reference
from driftline.core.output import Prediction
from tests.support.watching import watching

drift: Any = river.drift  # River is untyped

DETECTORS: dict[str, Callable[[], Any]] = {
    "ADWIN()": drift.ADWIN,
    "PageHinkley()": lambda: drift.PageHinkley(threshold=5),
    "DDM()": drift.binary.DDM,
    "EDDM()": drift.binary.EDDM,
    "HDDMA()": drift.binary.HDDMA,
    "HDDMW()": drift.binary.HDDMW,
    "FHDDM()": drift.binary.FHDDM,
    "KSWIN()": lambda: drift.KSWIN(seed=1),
}

# Streams of bits as segments: how many labels, and how often wrong.
segments = st.lists(st.tuples(st.integers(1, 400), st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0])), max_size=6)
numbers = st.lists(st.integers(-5, 5) | st.floats(-1e6, 1e6), min_size=1, max_size=60)


def bits(parts: list[tuple[int, float]], seed: int) -> list[int]:
    rng = random.Random(seed)
    return [int(rng.random() < share) for count, share in parts for _ in range(count)]


def monitor(expression: str) -> Monitor:
    return Monitor("error", "error", expression, DETECTORS[expression](), bad="rise")


@pytest.mark.parametrize("expression", DETECTORS)
@given(segments, st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_a_monitor_finds_what_its_detector_finds_alone(
    expression: str, parts: list[tuple[int, float]], seed: int
) -> None:
    values = bits(parts, seed)
    alone, by_hand = DETECTORS[expression](), []
    for number, value in enumerate(values, 1):
        alone.update(1 - value if expression == "FHDDM()" else value)  # it reads 1 as right
        if alone.drift_detected:
            by_hand.append(number)
    watched = monitor(expression)
    found = [change for value in values if (change := watched.update(value)) and change.kind == "drift"]
    assert [change.observed for change in found] == by_hand
    assert [change.detection for change in found] == list(range(1, len(by_hand) + 1))


@pytest.mark.parametrize("expression", DETECTORS)
@given(segments, st.integers(0, 9), st.integers(0, 2_000))
@settings(max_examples=15, deadline=None)
def test_a_pickle_midway_changes_nothing(
    expression: str, parts: list[tuple[int, float]], seed: int, where: int
) -> None:
    straight, broken = monitor(expression), monitor(expression)
    for number, value in enumerate(bits(parts, seed)):
        if number == where:
            broken = pickle.loads(pickle.dumps(broken))
        assert broken.update(value) == straight.update(value)
    assert broken.state() == straight.state()


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(-1e9, 1e9)), max_size=150), st.integers(0, 150))
@settings(max_examples=40)
def test_all_monitors_of_a_shard_survive_a_pickle(stream: list[tuple[bool, float, float]], where: int) -> None:
    def build() -> DriftMonitors:
        return watching(
            "binary",
            ("amount",),
            error=[("DDM()", drift.binary.DDM(warm_start=5))],
            score=[("PageHinkley()", drift.PageHinkley(min_instances=5, threshold=0.5))],
            features={"amount": [("ADWIN()", drift.ADWIN(clock=1))]},
            warmup_labels=20,
            reference_size=25,
        )

    def fold(monitors: DriftMonitors, y: bool, p: float, amount: float) -> list[Drift]:
        said = Prediction(p > 0.5, {False: 1 - p, True: p}, p)
        return [*monitors.on_event((amount,)), *monitors.on_score(said), *monitors.on_label(y, said)]

    straight, broken = build(), build()
    for number, (y, p, amount) in enumerate(stream):
        if number == where:
            broken = pickle.loads(pickle.dumps(broken))
        assert fold(broken, y, p, amount) == fold(straight, y, p, amount)
    assert broken.state() == straight.state()


# -- the reference


@given(numbers, numbers, st.integers(1, 60))
def test_ranks_are_mid_ranks_in_the_first_values(values: list[float], asked: list[float], size: int) -> None:
    reference = Reference(size)
    for value in values:
        reference.collect(value, settled=True)
    assert reference.frozen == (len(values) >= size)
    if reference.frozen:
        kept = values[:size]
        for value in asked:
            below, equal = sum(v < value for v in kept), sum(v == value for v in kept)
            assert reference.rank(value) == pytest.approx((below + equal / 2) / size)


@given(numbers)
def test_ranks_average_one_half_over_the_reference_itself(values: list[float]) -> None:
    reference = Reference(len(values))
    for value in values:
        reference.collect(value, settled=True)
    assert sum(map(reference.rank, values)) / len(values) == pytest.approx(0.5)


@given(numbers, st.integers(1, 20), st.integers(0, 70))
def test_a_reference_slides_until_its_values_have_settled(values: list[float], size: int, warmup: int) -> None:
    reference = Reference(size)
    for number, value in enumerate(values, 1):
        reference.collect(value, settled=number > warmup)
    freezes_at = max(size, warmup + 1)
    assert reference.frozen == (len(values) >= freezes_at)
    if reference.frozen:
        assert reference.ordered == sorted(values[:freezes_at][-size:])


# -- the trail

steps = st.lists(st.integers(0, 9), max_size=3 * BLOCKS) | st.integers(0, 5_000).map(lambda n: [1] * n)


@given(steps, st.integers(0, 400), st.integers(1, 400))
def test_a_trail_loses_no_value_but_those_it_is_told_to_forget(values: list[int], keep: int, more: int) -> None:
    trail = Trail()
    for value in values:
        trail.append(value)
    change = trail.change()
    assert change.count_before + change.count_after == len(values)
    total = change.before * change.count_before + change.after * change.count_after
    assert total == pytest.approx(sum(values))
    trail.forget_before(keep)
    kept = trail.change()
    left = kept.count_before + kept.count_after
    assert left <= keep
    assert left >= min(keep, len(values)) * 7 // 8 - 1
    total = kept.before * kept.count_before + kept.after * kept.count_after
    assert total == pytest.approx(sum(values[len(values) - left :]))
    for _ in range(more):
        trail.append(2)
    assert sum(trail.change()[1::2]) == left + more


@given(st.integers(2, 20_000))
@settings(max_examples=50)
def test_there_is_always_a_before_and_an_after(count: int) -> None:
    trail = Trail()
    for number in range(count):
        trail.append(number % 2)
    change = trail.change()
    assert change.count_before >= change.count_after >= min(RECENT_MIN, count // 3)
    assert all(len(level) < BLOCKS for level in trail.levels)
