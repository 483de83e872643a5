"""The binned curves against exact ones, for any scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.core.river.curve import OWN_METRICS, ROCAUC, AveragePrecision, Curve, bin_of

Pairs = list[tuple[bool, float]]

anything = st.floats(allow_nan=False)
probability = st.floats(0, 1) | st.floats(0, 1e-6) | st.floats(0, 1e-6).map(lambda gap: 1 - gap)
scores = probability | anything
pairs_of = st.lists(st.tuples(st.booleans(), scores), min_size=1, max_size=80)
mixed = pairs_of.filter(lambda pairs: len({y for y, _ in pairs}) == 2)
curves = st.sampled_from(list(OWN_METRICS.values()))


def exact_roc_auc(pairs: Pairs) -> float:
    """By its definition: every positive against every negative."""
    positives = [score for y, score in pairs if y]
    negatives = [score for y, score in pairs if not y]
    twice = sum(2 * (p > n) + (p == n) for p in positives for n in negatives)
    return twice / (2 * len(positives) * len(negatives))


def exact_average_precision(pairs: Pairs) -> float:
    """By its definition: the precision of `score >= threshold` at each positive's score."""
    positives = [score for y, score in pairs if y]
    precisions = []
    for threshold in positives:
        above = [y for y, score in pairs if score >= threshold]
        precisions.append(sum(above) / len(above))
    return math.fsum(precisions) / len(precisions)


def filled(curve: type, pairs: Pairs) -> Curve:
    made: Curve = curve()
    for y, score in pairs:
        made.update(y, score)
    return made


@given(scores, scores)
def test_a_higher_score_never_has_a_lower_bin(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bin_of(low) <= bin_of(high)


@given(st.floats(2**-60, 1 - 2**-50))
def test_a_bin_spans_a_few_percent_of_the_odds_at_most(p: float) -> None:
    """Two scores whose odds differ by 4% are never in one bin: what keeps a rare class apart."""
    odds = p / (1 - p) * 1.04
    if (higher := odds / (1 + odds)) - p > 2**-52:
        assert bin_of(higher) > bin_of(p)


def test_bins_by_hand() -> None:
    assert [bin_of(score) for score in (0.0, -0.0, 0.5, 1.0)] == [0, 0, 4096, 8192]
    assert bin_of(0.25) == 4096 - 64
    assert bin_of(0.75) == 4096 + 64
    assert bin_of(1e-300) == 0
    assert bin_of(-math.inf) < bin_of(-1e9) < bin_of(-1.0) < 0
    assert bin_of(1.0) < bin_of(1.001) < bin_of(50.0) < bin_of(51.0) < bin_of(1e19) < bin_of(math.inf)
    assert bin_of(-1e19) > bin_of(-1e30) == bin_of(-math.inf)


def test_what_is_not_a_number_has_no_bin() -> None:
    with pytest.raises(ValueError, match="not a number"):
        bin_of(math.nan)


@given(mixed)
def test_roc_auc_is_within_its_bounds_of_the_exact_one(pairs: Pairs) -> None:
    curve = filled(ROCAUC, pairs)
    assert isinstance(curve, ROCAUC)
    least, greatest = curve.bounds()
    exact = exact_roc_auc(pairs)
    assert least - 1e-12 <= exact <= greatest + 1e-12
    assert abs(curve.get() - exact) <= (greatest - least) / 2 + 1e-12


@given(mixed)
def test_average_precision_is_within_its_bounds_of_the_exact_one(pairs: Pairs) -> None:
    curve = filled(AveragePrecision, pairs)
    assert isinstance(curve, AveragePrecision)
    least, greatest = curve.bounds()
    assert least - 1e-12 <= exact_average_precision(pairs) <= greatest + 1e-12
    assert least - 1e-12 <= curve.get() <= greatest + 1e-12


@given(mixed.map(lambda pairs: [(y, bin_of(score) / 7.0) for y, score in pairs]))
def test_the_definitions_by_hand_agree_with_the_bounds_of_distinct_bins(pairs: Pairs) -> None:
    """The exact value of the bins themselves, taken as scores, is what `get` gives of them."""
    places = {score: place for place, score in enumerate(sorted({score for _, score in pairs}))}
    apart = [(y, places[score] / len(places)) for y, score in pairs]
    assert filled(ROCAUC, apart).get() == pytest.approx(exact_roc_auc(apart))
    assert filled(AveragePrecision, apart).get() == pytest.approx(exact_average_precision(apart))


ranks = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=2, max_size=60).filter(
    lambda pairs: len({y for y, _ in pairs}) == 2
)


@given(ranks, curves)
def test_a_monotone_transform_changes_nothing(pairs: list[tuple[bool, int]], curve: type) -> None:
    """As long as it keeps scores in bins of their own: units and calibration do not matter."""
    transforms = (lambda k: k / 100, lambda k: 1 / (1 + math.exp(20 - k)), lambda k: k - 20.0, lambda k: 1.1**k)
    values = [filled(curve, [(y, transform(k)) for y, k in pairs]).get() for transform in transforms]
    assert len(set(values)) == 1


@given(ranks)
def test_swapping_the_classes_mirrors_the_area(pairs: list[tuple[bool, int]]) -> None:
    straight = filled(ROCAUC, [(y, k / 100) for y, k in pairs]).get()
    swapped = filled(ROCAUC, [(not y, k / 100) for y, k in pairs]).get()
    assert straight + swapped == pytest.approx(1.0)


@given(pairs_of, pairs_of, st.randoms(use_true_random=False), curves)
def test_a_revert_undoes_an_update(kept: Pairs, undone: Pairs, rng: object, curve: type) -> None:
    straight, made = filled(curve, kept), filled(curve, kept + undone)
    undone = list(undone)
    rng.shuffle(undone)  # type: ignore[attr-defined]  # Hypothesis names no type
    for y, score in undone:
        made.revert(y, score)
    assert vars(made) == vars(straight)
    assert made.get() == straight.get() or math.isnan(straight.get())


@given(pairs_of, curves)
def test_probabilities_come_as_a_number_or_by_class(pairs: Pairs, curve: type) -> None:
    made: Curve = curve()
    for y, score in pairs:
        made.update(y, {True: score})
    assert vars(made) == vars(filled(curve, pairs))


@pytest.mark.parametrize("curve", OWN_METRICS.values())
def test_what_was_never_counted_cannot_be_reverted(curve: type) -> None:
    made = filled(curve, [(True, 0.5)])
    with pytest.raises(ValueError, match="was counted"):
        made.revert(False, 0.5)
    with pytest.raises(ValueError, match="no weights"):
        made.update(True, 0.5, 2.0)


def test_one_class_alone_has_no_curve() -> None:
    assert math.isnan(filled(ROCAUC, [(True, 0.5)]).get())
    assert math.isnan(filled(ROCAUC, [(False, 0.5)]).get())
    assert math.isnan(filled(AveragePrecision, [(False, 0.5)]).get())
    assert filled(AveragePrecision, [(True, 0.5)]).get() == 1.0
