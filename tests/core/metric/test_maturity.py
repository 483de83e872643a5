"""Metrics that know that labels are late: checked against the same pairs, put together by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import frexp
from typing import Any

import pytest
from msgspec import structs
from river import metrics

from driftline.core.alert.episode import Sign
from driftline.core.error import PipelineError
from driftline.core.metric.maturity import MISSING, OTHER, SPAN_LABELS_MAX, Delays, Expected
from driftline.core.output import Outcome
from driftline.core.record import Label, Record, Tick
from driftline.core.river.calibration import ECE, Brier
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.small import NOW_MS, event, fold, label, small

SECOND = 1_000


OMITTED = {"features": {"x": "number", "word": {"type": "string", "missing": "omit"}}}


def stream(
    count: int, delays_ms: Sequence[int], words: Sequence[str | None] = ("a", "b"), seed: int = 3
) -> list[Record]:
    """Events a second apart, and their labels after the delays in turn; a negative delay stands for no label."""
    rng = random.Random(seed)
    made: list[tuple[int, int, Record]] = []
    for number in range(count):
        time_ms = NOW_MS + number * SECOND
        x, word = rng.gauss(0, 1), words[number % len(words)]
        one = event(number, time_ms, x, offset=number)
        made.append((time_ms, 1, structs.replace(one, features=(x, word))))
        delay_ms = delays_ms[number % len(delays_ms)]
        if delay_ms >= 0:
            y = rng.random() < (0.9 if x > 0 else 0.1)
            made.append((time_ms + delay_ms, 0, label(number, y, time_ms + delay_ms, offset=number)))
    made.sort(key=lambda one: one[:2])
    return [record for _, _, record in made]


def shard(**sections: Any) -> Shard:
    sections.setdefault("metrics", ["Accuracy", "LogLoss"])
    return Shard(small(**sections), 0)


def joined(here: Shard, records: Sequence[Record]) -> list[Outcome]:
    return [one for one in fold(here, *records) if isinstance(one, Outcome) and one.kind == "joined"]


def accuracy(outcomes: Sequence[Outcome]) -> float | None:
    known = [one for one in outcomes if one.prediction is not None and one.prediction.label is not None]
    return sum(one.prediction.label == one.label for one in known if one.prediction) / len(known) if known else None


def test_coverage_counts_events_whose_wait_is_over() -> None:
    here = shard(label={"wait": "10s"})
    fold(here, *stream(100, [1_000, -1, 1_000, -1]))
    summary = here.summary()
    assert here.maturity.scored == 100
    assert here.maturity.joined == 50
    assert here.maturity.unlabelled == here.counts["expired"] > 30
    over = [number for number in range(100) if NOW_MS + 1_000 * number + 10_000 < here.now_ms]
    assert here.pending.young(here.now_ms) == 100 - len(over)
    assert summary["coverage"] == 1 - here.counts["expired"] / len(over)
    assert shard().summary()["coverage"] is None


def test_before_any_wait_is_over_there_is_no_coverage() -> None:
    here = shard(label={"wait": "1h"})
    fold(here, *stream(100, [0, -1]))
    assert here.maturity.joined == 50
    assert here.summary()["coverage"] is None
    fold(here, Tick(0, 1, here.now_ms + 3_600_001))
    assert here.summary()["coverage"] == 0.5


def test_waits_that_are_over_are_counted_however_much_is_forgotten() -> None:
    rng = random.Random(4)
    here = shard(label={"wait": "1h"}, dedupe={"horizon": "2h"})
    at_ms, times = NOW_MS, []
    for number in range(20_000):
        at_ms += rng.randrange(2_000)
        times.append(at_ms)
        fold(here, event(number, at_ms))
        if rng.random() < 0.99 or 6_000 < number < 15_000:  # whole segments are gone
            fold(here, label(number, True, at_ms))
        if not number % 1_000:
            assert here.pending.young(at_ms) == sum(one + 3_600_000 >= at_ms for one in times)
    assert 0.99 < here.summary()["coverage"] < 1


def test_of_several_labels_coverage_counts_the_first() -> None:
    here = shard(label={"wait": "10s", "labels_max": 10})
    for number in range(100):
        at_ms = NOW_MS + 1_000 * number
        fold(here, event(number, at_ms))
        if number % 2:
            fold(here, *[label(number, again % 2 == 0, at_ms) for again in range(10)])
    fold(here, Tick(0, 1, NOW_MS + 10**6))
    assert (here.maturity.joined, here.maturity.unlabelled) == (50, 50)
    assert here.summary()["coverage"] == 0.5
    assert here.evaluation.label_count == 500


def test_delay_quantiles_are_right_to_a_tenth() -> None:
    rng = random.Random(1)
    delays = [int(rng.lognormvariate(10, 2)) for _ in range(5_000)]
    kept = Delays()
    for delay_ms in delays:
        kept.add(delay_ms)
    delays.sort()
    for share in (0.01, 0.5, 0.9, 0.99):
        found = kept.quantile_ms(share)
        exact = delays[int(share * len(delays))]
        assert found is not None
        assert exact / 1.1 <= found <= exact * 1.1
    assert len(kept.counts) < 800
    assert Delays().quantile_ms(0.5) is None


@pytest.mark.parametrize("bits", [*range(1, 66)])
def test_delays_lie_in_sixteen_bins_a_doubling(bits: int) -> None:
    for delay_ms in {(1 << bits) + more for more in (-1, 0, 1)} | {(1 << bits) * 33 // 32, (1 << bits) * 17 // 16 - 1}:
        kept = Delays()
        kept.add(delay_ms)
        share, exponent = frexp(delay_ms)
        assert kept.counts == {16 * exponent + int(share * 32) - 16: 1}
        kept.remove(delay_ms)
        assert (kept.counts, kept.count) == ({}, 0)


def test_a_delay_below_zero_counts_as_none() -> None:
    kept = Delays()
    kept.add(-5)
    kept.add(0)
    assert kept.quantile_ms(0.99) == 0.0
    kept.add(2**62)
    assert kept.count == 3


def test_metrics_by_age_of_the_label() -> None:
    here = shard(label={"wait": "1h"}, metric_by={"ages": ["5s", "30s"]})
    outcomes = joined(here, stream(600, [0, 5_000, 29_999, 30_000, 60_000]))
    told = here.summary()["by_age"]
    assert list(told) == ["< 5000 ms", "< 30000 ms", ">= 30000 ms"]
    bounds = [(0, 5_000), (5_000, 30_000), (30_000, 10**9)]
    for (least, most), values in zip(bounds, told.values(), strict=True):
        part = [one for one in outcomes if least <= (one.label_time_ms or 0) - (one.event_time_ms or 0) < most]
        assert values["label_count"] == len(part) > 50
        assert values["Accuracy"] == accuracy(part)


def test_metrics_by_segment_are_bounded() -> None:
    words = [f"w{number}" for number in range(50)] + [None]
    here = shard(
        metric_by={"segment": "word", "segment_max": 3},
        event=OMITTED,
    )
    records = stream(510, [1_000], words)
    outcomes = joined(here, records)
    told = here.summary()["by_segment"]
    assert list(told) == ["w0", "w1", "w2", OTHER]
    part = [one for one in outcomes if one.features is not None and one.features[1] == "w1"]
    assert told["w1"]["Accuracy"] == accuracy(part)
    assert sum(values["label_count"] for values in told.values()) == 510
    early = shard(
        metric_by={"segment": "word"},
        event=OMITTED,
    )
    fold(early, *stream(4, [0], [None]))
    assert list(early.summary()["by_segment"]) == [MISSING]


def test_metrics_over_a_span_of_time() -> None:
    here = shard(metric_span="100s")
    outcomes = joined(here, stream(500, [1_000]))
    assert here.watermark_ms is not None
    part = [one for one in outcomes if (one.label_time_ms or 0) > here.watermark_ms - 100_000]
    told = here.summary()["span"]
    assert told["label_count"] == len(part) == 100
    assert told["Accuracy"] == accuracy(part)
    crowded = shard(metric_span="30d")
    fold(crowded, *stream(SPAN_LABELS_MAX + 100, [0]))
    assert crowded.summary()["span"]["label_count"] == SPAN_LABELS_MAX


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_expected_accuracy_of_calibrated_predictions_is_near_the_real_one(threshold: float) -> None:
    rng = random.Random(5)
    kept, right = Expected(5_000), 0
    for _ in range(5_000):
        p = rng.random()
        y = rng.random() < p
        kept.sureness.append(p if p >= threshold else 1 - p)
        kept.joined(p, y)
        right += (p >= threshold) == y
    told = kept.values()
    assert told["reliable"] is True
    assert abs(told["accuracy"] - right / 5_000) < 0.02
    assert told["calibration_error"] < 0.05


def test_expected_accuracy_is_not_relied_on_uncalibrated_or_after_a_drift() -> None:
    rng = random.Random(5)
    sure, fresh = Expected(100), Expected(100)
    for number in range(400):
        sure.joined(0.99, rng.random() < 0.5)
        p = rng.random()
        fresh.joined(p, rng.random() < p)
        if number == 350:
            fresh.drifted()
    assert sure.values()["reliable"] is False
    assert fresh.values()["reliable"] is False
    assert Expected(10).values() == {"accuracy": None, "events": 0, "calibration_error": None, "reliable": False}


def test_a_rise_of_the_error_makes_the_estimate_unreliable() -> None:
    here = shard(metric_window=200, drift={"error": ["ADWIN()"], "warmup_labels": 0})
    records = stream(3_000, [0])
    fold(here, *records[:4_000])
    assert here.maturity.expected is not None
    assert here.maturity.expected.labels_until_reliable == 0
    turned = [structs.replace(one, value=not one.value) if isinstance(one, Label) else one for one in records[4_000:]]
    for record in turned:
        step(here, record)
        if here.maturity.expected.labels_until_reliable:
            break
    assert here.drifts[("error", "drift rise")] == 1
    assert here.summary()["expected"]["reliable"] is False


def test_an_open_drift_of_the_concept_makes_the_estimate_unreliable() -> None:
    here = shard(metric_window=200, drift={"error": ["ADWIN()"], "warmup_labels": 0})
    fold(here, *stream(2_000, [0]))
    assert here.maturity.expected is not None
    here.maturity.expected.pairs.extend((0.5, number % 2 == 0) for number in range(200))  # calibrated
    assert here.summary()["expected"]["reliable"] is True
    sign = Sign("concept_drift", "critical", "It is wrong more often.", "It has been right for {}.", {})
    here.episodes.sign(here.pipeline.alerts, "error", sign, here.moment("l1"), holds=False)
    assert here.summary()["expected"]["reliable"] is False


def test_brier_and_calibration_error_by_hand() -> None:
    brier, ece = Brier(), ECE(bins=2)
    for p, y in ((0.2, False), (0.4, True), (0.9, True), (1.0, False)):
        brier.update(y, {True: p, False: 1 - p})
        ece.update(y, {True: p, False: 1 - p})
    assert brier.get() == pytest.approx((0.04 + 0.36 + 0.01 + 1.0) / 4)
    assert ece.get() == pytest.approx((abs(0.6 - 1) + abs(1.9 - 1)) / 4)
    brier.revert(False, 1.0)
    ece.revert(False, 1.0)
    assert brier.get() == pytest.approx((0.04 + 0.36 + 0.01) / 3)
    assert ece.get() == pytest.approx((abs(0.6 - 1) + abs(0.9 - 1)) / 3)
    assert Brier().get() != Brier().get()  # not a number without labels
    with pytest.raises(ValueError, match="bins"):
        ECE(bins=1)


@pytest.mark.parametrize("bins", [2, 10, 7])
def test_many_pairs_at_once_count_as_one_by_one(bins: int) -> None:
    source = random.Random(5)
    pairs = [(source.choice([0.0, 1.0, source.random()]), source.random() < 0.3) for _ in range(2_000)]
    single, many = ECE(bins), ECE(bins)
    for probability, positive in pairs:
        single.update(positive, probability)
    many.update_all(pairs[:700])
    many.update_all(pairs[700:])
    assert (many.count, many.get().hex()) == (single.count, single.get().hex())
    assert many.excess == single.excess


def test_calibration_metrics_are_told_like_others() -> None:
    here = shard(metrics=["Brier()", "ECE(bins=5)", "LogLoss"])
    outcomes = joined(here, stream(300, [1_000]))
    theirs = metrics.MSE()
    for one in outcomes:
        if one.prediction is not None and one.prediction.value is not None:
            theirs.update(float(bool(one.label)), one.prediction.value)
    assert here.evaluation.values()["Brier()"] == pytest.approx(theirs.get(), rel=1e-12)
    assert here.evaluation.values()["ECE(bins=5)"] is not None
    assert here.evaluation.window_values()["Brier()"] is not None


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"segment": "x"}, "is a number"),
        ({"segment": "nothing"}, "is not a feature"),
        ({"ages": ["1d", "1h"]}, "must be in ascending order"),
        ({"segment_max": 0}, "metric_by.segment_max"),
        ({"segment_max": 10_000_000}, "metric_by.segment_max"),
    ],
)
def test_splits_that_cannot_be(split: dict[str, Any], told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        small(metric_by=split)
