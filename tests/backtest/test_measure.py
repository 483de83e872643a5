"""Tallies and their metrics against independent computations over the same pairs."""

from __future__ import annotations

import math
import pickle
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from river import metrics

from driftline.backtest.compare import BLOCKS_MIN, compare
from driftline.backtest.measure import is_exact, total_values
from driftline.backtest.tally import CELLS_MAX, SEGMENTS_MAX, Tally, Timeline, bins_of, score_at
from driftline.core.output import ModelVersion, Outcome, Prediction
from driftline.core.river.curve import bin_of
from driftline.core.task.cost import Cost
from tests.backtest import history

DAY_MS = 86_400_000


def outcome(number: int, p: float, y: bool, time_ms: int, delay_ms: int | None = 0, word: Any = 1.0) -> Outcome:
    said = Prediction(p > 0.5, {True: p, False: 1 - p}, p)
    came = None if delay_ms is None else time_ms + delay_ms
    version = ModelVersion(0, number)
    return Outcome(f"o-{number}", "joined", None, 0, number, time_ms, (word, 2.0, 3.0), said, version, y, came)


def pairs(count: int, seed: int = 1, skill: float = 2.0) -> list[Outcome]:
    source = random.Random(seed)
    made = []
    for number in range(count):
        y = source.random() < 0.2
        p = 1 / (1 + math.exp(-source.gauss(skill if y else -skill, 2)))
        made.append(outcome(number, p, y, history.START_MS + number * 60_000, source.choice([0, 5_000, DAY_MS, None])))
    return made


def tallied(outcomes: list[Outcome], segment: str | None = None, **more: Any) -> Tally:
    pipeline = history.pipeline(**more)
    if pipeline.decision is not None and (threshold := pipeline.decision.threshold) is not None:
        outcomes = [decided(one, threshold) for one in outcomes]
    tally = Tally(pipeline, segment)
    for first in range(0, len(outcomes), 500):
        tally.add(outcomes[first : first + 500])
    return tally


def decided(one: Outcome, threshold: float) -> Outcome:
    """The same pair as a pipeline with this threshold serves it."""
    served = one.prediction
    if served is None or served.value is None:
        return one
    return structs.replace(one, prediction=structs.replace(served, label=served.value >= threshold))


def test_binary_metrics_are_those_of_river() -> None:
    made = pairs(3_000)
    found = total_values(tallied(made), None)
    for name in ("Accuracy", "BalancedAccuracy", "Precision", "Recall", "F1", "LogLoss"):
        reference = getattr(metrics, name)()
        for one in made:
            said = one.prediction
            assert said is not None
            reference.update(one.label, said.label if reference.requires_labels else said.probabilities)
        assert found[name] == pytest.approx(reference.get(), rel=1e-12), name


def test_curves_are_those_of_the_exact_scores() -> None:
    made = pairs(1_200)
    scored = [(one.prediction.value or 0.0, bool(one.label)) for one in made if one.prediction]
    ups, downs = [p for p, y in scored if y], [p for p, y in scored if not y]
    auc = sum((a > b) + 0.5 * (a == b) for a in ups for b in downs) / (len(ups) * len(downs))
    hits = total = 0.0
    for rank, (_, y) in enumerate(sorted(scored, reverse=True), 1):
        hits += y
        total += y * hits / rank
    found = total_values(tallied(made), None)
    assert found["ROCAUC"] == pytest.approx(auc, abs=2e-4)
    assert found["AveragePrecision"] == pytest.approx(total / hits, abs=2e-3)


def test_decisions_are_at_the_pipelines_threshold_and_cost_what_the_matrix_says() -> None:
    made = pairs(2_000)
    found = total_values(tallied(made, decision={"threshold": 0.8}), Cost(fp=1, fn=20))
    fp = sum(not one.label and (one.prediction.value or 0) >= 0.8 for one in made if one.prediction)
    fn = sum(bool(one.label) and (one.prediction.value or 0) < 0.8 for one in made if one.prediction)
    assert found["CostPerEvent"] == pytest.approx((fp + 20 * fn) / 2_000)


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_accuracy_is_that_of_the_decisions_on_answered_events(threshold: float) -> None:
    made = pairs(2_000)
    silent = [Outcome("u", "joined", None, 0, 1, 1, (1.0,) * 3, Prediction(), ModelVersion(0, 0), False, 2)] * 100
    found = total_values(tallied([*made, *silent], decision={"threshold": threshold}), None)
    right = sum(((one.prediction.value or 0) >= threshold) == one.label for one in made if one.prediction)
    assert found["Accuracy"] == pytest.approx(right / 2_000)
    assert right != sum(one.prediction.label == one.label for one in made if one.prediction)


def test_regression_metrics_are_those_of_river() -> None:
    source = random.Random(2)
    chosen = history.pipeline(model="StandardScaler() | LinearRegression()", task="regression", metrics=["MAE"])
    made, references = [], [metrics.MAE(), metrics.RMSE(), metrics.R2()]
    for number in range(500):
        y, said = source.gauss(10, 3), source.gauss(10, 3)
        version = ModelVersion(0, number)
        value = Prediction(value=said)
        made.append(Outcome("o", "joined", None, 0, number, number, (1.0,) * 3, value, version, y, number))
        for reference in references:
            reference.update(y, said)
    tally = Tally(chosen, None)
    tally.add(made)
    found = total_values(tally, None)
    for reference in references:
        assert found[type(reference).__name__] == pytest.approx(reference.get(), rel=1e-9)


def test_breakdowns_add_up_to_the_whole() -> None:
    made = pairs(4_000)
    made = [
        outcome(n, one.prediction.value or 0.0, bool(one.label), one.event_time_ms or 0, 0, n % 7)
        for n, one in enumerate(made)
        if one.prediction
    ]
    tally = tallied(made, "x1")
    assert tally.segments is not None
    for cells in (tally.timeline.cells, tally.ages, tally.segments.cells, tally.segments.parts()[1]):
        assert cells.sums.sum(axis=0) == pytest.approx(tally.total.sums[0])
        assert cells.curve.sum() == tally.total.curve.sum()
    assert tally.segments.parts()[0] == [*"0123456", "(others)"]


def test_two_partitions_add_up_to_one() -> None:
    made = pairs(3_000)
    whole, odd, even = tallied(made, "x1"), tallied(made[1::2], "x1"), tallied(made[::2], "x1")
    odd.merge(even)
    assert odd.total.sums == pytest.approx(whole.total.sums)
    assert odd.timeline.starts_ms == whole.timeline.starts_ms
    assert odd.timeline.cells.sums == pytest.approx(whole.timeline.cells.sums)


@given(st.lists(st.floats(min_value=-1e30, max_value=1e30), min_size=1, max_size=50))
def test_bins_are_those_of_the_core(scores: list[float]) -> None:
    assert bins_of(np.array(scores)).tolist() == [bin_of(score) for score in scores]


def test_a_bins_score_is_its_least() -> None:
    every = np.arange(1, 7_000)
    assert [bin_of(float(score)) for score in score_at(every)] == every.tolist()


@given(st.floats(min_value=0, max_value=1))
def test_a_bin_begins_at_its_score_and_no_lower(score: float) -> None:
    (place,) = bins_of(np.array([score]))
    (least,) = score_at(np.array([place]))
    assert least <= score
    assert place == 0 or bin_of(math.nextafter(least, 0)) < bin_of(least) == place


@given(st.lists(st.integers(min_value=0, max_value=4 * 10**12), min_size=1, max_size=200))
def test_timeline_keeps_every_count_at_its_time(times: list[int]) -> None:
    line = Timeline(1, 0)
    for time_ms in times:
        places = line.places(np.array([time_ms]))
        line.cells.add(places, np.ones((1, 1)), None, None)
    assert line.cells.sums.sum() == len(times)
    assert len(line.starts_ms) <= CELLS_MAX
    expected: dict[int, int] = {}
    for time_ms in times:
        start_ms = time_ms // line.width_ms * line.width_ms
        expected[start_ms] = expected.get(start_ms, 0) + 1
    kept = {start: int(line.cells.sums[n, 0]) for n, start in enumerate(line.starts_ms) if line.cells.sums[n, 0]}
    assert kept == expected


def test_more_segments_than_shown_are_others() -> None:
    made = [outcome(n, 0.5, True, history.START_MS + n, 0, f"city {n % 60}") for n in range(600)]
    tally = tallied(made, "x1")
    assert tally.segments is not None
    assert tally.segments.cells.sums[SEGMENTS_MAX, 0] == 10 * (60 - SEGMENTS_MAX)


def numbered(count: int, seed: int, middle: float, scale: float) -> list[Outcome]:
    source = random.Random(seed)
    made = []
    for number in range(count):
        word = None if number % 50 == 0 else middle + source.gauss(0, scale)
        made.append(outcome(number, source.random(), source.random() < 0.5, history.START_MS + number, 0, word))
    return made


@pytest.mark.parametrize(("middle", "scale"), [(0.0, 1.0), (1e6, 10.0), (-300.0, 40.0), (0.0, 1e9)])
def test_quarters_of_a_number_are_of_all_partitions(middle: float, scale: float) -> None:
    made = [numbered(1_500, seed, middle + (seed - 1.5) * scale, scale / 2) for seed in range(4)]
    first, *others = (tallied(one, "x1") for one in made)
    for other in others:
        first.merge(pickle.loads(pickle.dumps(other)))
    assert first.segments is not None
    names, cells = first.segments.parts()
    assert [name.split()[0] for name in names[:1]] == ["below"]
    assert (len(names), names[4:]) == (6, ["(none)", "(others)"])
    assert cells.sums[4:, 0].tolist() == [120, 0]
    assert cells.sums[:, 0].sum() == 6_000
    assert cells.sums[:4, 0] == pytest.approx([5_880 / 4] * 4, rel=0.15)
    edges = [float(names[0].split()[1]), float(names[1].split()[2]), float(names[3].split()[0])]
    numbers = [float(one.features[0]) for some in made for one in some if one.features and one.features[0] is not None]
    for place, edge in enumerate(edges, 1):
        below = sum(number < edge for number in numbers)
        assert cells.sums[:place, 0].sum() == pytest.approx(below, abs=30)  # edges are told in a few digits


def test_a_part_with_few_numbers_and_one_with_many_add_up() -> None:
    few = [outcome(n, 0.5, True, history.START_MS + n, 0, float(n % 3)) for n in range(300)]
    for order in (1, -1):
        first, other = [tallied(few, "x1"), tallied(numbered(1_000, 1, 1.0, 1.0), "x1")][::order]
        first.merge(other)
        assert first.segments is not None
        names, cells = first.segments.parts()
        assert len(names) == 6
        assert cells.sums[:, 0].sum() == 1_300


# -- how sure


def test_equal_candidates_are_not_told_apart() -> None:
    made = pairs(2_000)
    (found,) = compare(("a", tallied(made)), {"b": tallied(made)}, None)
    assert {one.difference for one in found.differences} == {0.0}
    assert {one.verdict for one in found.differences} == {"no clear difference"}


def test_a_better_candidate_is_called_better_and_a_worse_one_worse() -> None:
    good, bad = tallied(pairs(4_000, skill=2.5)), tallied(pairs(4_000, skill=0.5))
    (found,) = compare(("bad", bad), {"good": good}, None)
    assert {one.verdict for one in found.differences if one.metric in ("LogLoss", "ROCAUC")} == {"better"}
    (found,) = compare(("good", good), {"bad": bad}, None)
    assert {one.verdict for one in found.differences if one.metric in ("LogLoss", "ROCAUC")} == {"worse"}


@pytest.mark.parametrize("parted", [False, True])
def test_scores_of_an_untrained_model_are_compared_with_nothing(parted: bool) -> None:
    made = pairs(2_000)
    guard = {"untrained": {"labels_min": 150, "action": "flag"}}
    guarded, plain = tallied(made, guard=guard), tallied(made)
    if parted:
        guarded, rest = tallied(made[1_000:], guard=guard), tallied(made[:1_000], guard=guard)
        guarded.merge(rest)
    assert (guarded.untrained, guarded.untrained_ms) == (150, made[149].event_time_ms)
    assert (plain.untrained, plain.untrained_ms) == (0, None)
    for base, rival in ((guarded, plain), (plain, guarded)):
        (found,) = compare(("a", base), {"b": rival}, None)
        assert 150 <= found.left_out < 200  # whole stretches of time
        assert found.events + found.left_out == 2_000
    (all_left_out,) = compare(("a", tallied(made[:100], guard=guard)), {"b": tallied(made[:100])}, None)
    assert (all_left_out.events, all_left_out.left_out) == (0, 100)
    assert {one.verdict for one in all_left_out.differences} == {"too little data"}


def test_few_stretches_of_time_give_no_interval() -> None:
    made = [outcome(n, 0.4, n % 2 == 0, history.START_MS + n % 4) for n in range(300)]
    (found,) = compare(("a", tallied(made)), {"b": tallied(made)}, None)
    assert found.blocks < BLOCKS_MIN
    assert {one.verdict for one in found.differences} == {"too little data"}
    assert "No intervals" in found.method


@pytest.mark.slow
def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Noise that lasts: blocks of 50 events in which one candidate is better or worse by chance."""
    held = 0
    trials = 60
    for trial in range(trials):
        source = random.Random(trial)
        sides: list[list[Outcome]] = [[], []]
        tilt = 0.0
        for number in range(3_200):
            if number % 50 == 0:
                tilt = source.gauss(0, 0.15)
            y = source.random() < 0.5
            for side, sign in zip(sides, (1, -1), strict=True):
                right = source.random() < 0.7 + sign * tilt
                side.append(outcome(number, 0.8 if right == y else 0.2, y, history.START_MS + number * 60_000))
        (found,) = compare(("a", tallied(sides[0])), {"b": tallied(sides[1])}, None)
        (accuracy,) = (one for one in found.differences if one.metric == "Accuracy")
        assert accuracy.low is not None
        assert accuracy.high is not None
        held += accuracy.low <= 0 <= accuracy.high
    assert held >= 0.85 * trials  # 95% asked; 60 trials scatter by 3 points, short series cost some


# -- curves, exactly


def scikit_curves(scores: list[float], labels: list[bool]) -> tuple[float, float]:
    """Both as scikit-learn defines them: the trapezoids under the ROC curve, and `sum((R_n - R_n-1) * P_n)`, over the
    thresholds that occur."""
    positives, negatives = sum(labels), len(labels) - sum(labels)
    points = [(0.0, 0.0)]
    average = recall_before = 0.0
    for threshold in sorted(set(scores), reverse=True):
        tp = sum(label for score, label in zip(scores, labels, strict=True) if score >= threshold)
        fp = sum(not label for score, label in zip(scores, labels, strict=True) if score >= threshold)
        points.append((fp / negatives, tp / positives))
        average += (tp / positives - recall_before) * tp / (tp + fp)
        recall_before = tp / positives
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
    return area, average


def rare(count: int, seed: int = 4, positive: float = 0.02) -> list[tuple[float, bool]]:
    """As fraud has it: few positives, and nearly all scores in a corner, many of them tied."""
    source = random.Random(seed)
    made = []
    for _ in range(count):
        y = source.random() < positive
        odds = source.gauss(-5 if y else -7, 1.5)
        score = 1 / (1 + math.exp(-odds))
        made.append((round(score, 4) if source.random() < 0.5 else score, y))
    return made


def outcomes_of(scored: list[tuple[float, bool]]) -> list[Outcome]:
    return [outcome(number, p, y, history.START_MS + number * 1_000, 0) for number, (p, y) in enumerate(scored)]


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_exact_over_everything(seed: int) -> None:
    scored = rare(1_500, seed)
    area, average = scikit_curves([p for p, _ in scored], [y for _, y in scored])
    tally = tallied(outcomes_of(scored))
    found = total_values(tally, None)
    assert found["ROCAUC"] == pytest.approx(area, abs=1e-12)
    assert found["AveragePrecision"] == pytest.approx(average, abs=1e-12)
    binned = total_values(tally, None, exact=False)
    assert binned["ROCAUC"] != found["ROCAUC"]
    assert binned["ROCAUC"] == pytest.approx(area, abs=0.01)


@pytest.mark.parametrize(
    ("scored", "area", "average"),
    [
        ([(0.1, False), (0.4, False), (0.35, True), (0.8, True)], 0.75, 0.8333333333333333),  # scikit-learn's own
        ([(0.5, True), (0.5, False)], 0.5, 0.5),
        ([(0.0, True), (-0.0, False)], 0.5, 0.5),
        ([(0.9, True), (0.1, False)], 1.0, 1.0),
        ([(0.1, True), (0.9, False)], 0.0, 0.5),
        ([(0.5, True)], math.nan, 1.0),
        ([(0.5, False)], math.nan, math.nan),
    ],
)
def test_curves_of_a_few(scored: list[tuple[float, bool]], area: float, average: float) -> None:
    found = total_values(tallied(outcomes_of(scored)), None)
    assert found["ROCAUC"] == pytest.approx(area, nan_ok=True)
    assert found["AveragePrecision"] == pytest.approx(average, nan_ok=True)


def test_curves_of_no_score_at_all() -> None:
    nothing = [Outcome("o", "joined", None, 0, 1, 1, (1.0,) * 3, Prediction(), ModelVersion(0, 0), True, 2)]
    found = total_values(tallied(nothing), None)
    assert math.isnan(found["ROCAUC"])
    assert math.isnan(found["AveragePrecision"])


def test_partitions_add_up_to_exact_curves() -> None:
    scored = rare(1_200)
    one, other = tallied(outcomes_of(scored[:500])), tallied(outcomes_of(scored[500:]))
    one.merge(pickle.loads(pickle.dumps(other)))  # as another process sends it
    whole = total_values(tallied(outcomes_of(scored)), None)
    assert total_values(one, None) == pytest.approx(whole, rel=1e-12, nan_ok=True)


def test_beyond_a_bound_nothing_is_kept_and_curves_are_binned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.metric.exact.LABELS_MAX", 1_000)
    made = outcomes_of(rare(1_600))
    within, beyond = tallied(made[:1_000]), tallied(made[:1_001])
    assert (is_exact(within), is_exact(beyond)) == (True, False)
    assert beyond.scores is not None
    assert beyond.scores.curve() is None
    assert len(pickle.dumps(beyond.scores)) < 500
    assert total_values(beyond, None) == pytest.approx(total_values(beyond, None, exact=False), rel=0, nan_ok=True)
    for first, second in ((made[:600], made[600:]), (made[:1_200], made[1_200:]), (made[:200], made[200:])):
        together = tallied(first)
        together.merge(tallied(second))
        assert not is_exact(together)
        assert together.scores is not None
        assert together.scores.count == 1_600
        assert total_values(together, None)["ROCAUC"] == total_values(tallied(made), None, exact=False)["ROCAUC"]


def test_a_comparison_is_exact_where_everything_is_compared() -> None:
    scored = rare(2_000)
    base = tallied(outcomes_of(scored))
    rival = tallied(outcomes_of([(min(1.0, p * 1.01 + 1e-4 * y), y) for p, y in scored]))
    (found,) = compare(("base", base), {"rival": rival}, None)
    assert (found.left_out, found.binned) == (0, [])
    by_name = {one.metric: one for one in found.differences}
    for name in ("ROCAUC", "AveragePrecision"):
        assert by_name[name].baseline == total_values(base, None)[name]
        assert by_name[name].candidate == total_values(rival, None)[name]
