"""Drift monitors: what is watched, when it alerts, and what is said about the change."""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import river.drift
import river.linear_model
import river.naive_bayes
import river.preprocessing
import river.tree

from driftline.core.drift.change_point import Trail
from driftline.core.drift.monitors import Drift, DriftMonitors, Monitor
from driftline.core.drift.reference import Reference
from driftline.core.error import ExpressionError
from driftline.core.output import Prediction
from driftline.core.pipeline import parse_pipeline
from driftline.core.signal import Signal
from driftline.core.task import TaskName
from tests.support.watching import watching

drift: Any = river.drift  # River is untyped

RIGHT, WRONG = Prediction(True), Prediction(False)


def adwin() -> tuple[str, Any]:
    return "ADWIN(delta=0.002)", drift.ADWIN(delta=0.002)


def page_hinkley(threshold: float = 50.0) -> tuple[str, Any]:
    return "PageHinkley()", drift.PageHinkley(threshold=threshold)


def on_labels(monitors: DriftMonitors, wrong: Iterable[object]) -> list[tuple[int, Drift]]:
    """Feed errors; what was found, by the number of the label."""
    found = []
    for number, error in enumerate(wrong, 1):
        found += [(number, change) for change in monitors.on_label(True, WRONG if error else RIGHT)]
    return found


def flips(rng: random.Random, *parts: tuple[int, float]) -> list[bool]:
    """Errors as segments: how many, and how often wrong."""
    return [rng.random() < share for count, share in parts for _ in range(count)]


# -- the error


def test_a_rise_is_found_described_and_alerted() -> None:
    monitors = watching("binary", (), error=[adwin()])
    ((number, found),) = on_labels(monitors, flips(random.Random(1), (8_000, 0.05), (1_000, 0.25)))
    assert 8_000 < number < 8_200
    assert (found.signal, found.monitor, found.kind, found.direction) == ("error", "error", "drift", "rise")
    assert found.detector == "ADWIN(delta=0.002)"
    assert found.alerts
    assert found.observed == number
    assert found.detection == 1
    assert abs(number - found.count_after - 8_000) < 100
    assert found.before == pytest.approx(0.05, abs=0.01)
    assert found.after == pytest.approx(0.25, abs=0.15)  # of some 60 labels


def test_an_improvement_is_recorded_and_never_alerted() -> None:
    monitors = watching("binary", (), error=[adwin()])
    ((_, found),) = on_labels(monitors, flips(random.Random(2), (8_000, 0.3), (1_000, 0.05)))
    assert (found.direction, found.alerts) == ("fall", False)


@pytest.mark.parametrize("warmup", [2_999, 4_000])
def test_a_rise_within_the_warm_up_is_recorded_and_not_alerted(warmup: int) -> None:
    monitors = watching("binary", (), error=[adwin()], warmup_labels=warmup)
    ((number, found),) = on_labels(monitors, flips(random.Random(3), (2_500, 0.05), (1_000, 0.3)))
    assert 2_500 < number < 2_999
    assert (found.direction, found.alerts) == ("rise", False)


def test_the_first_label_after_the_warm_up_may_alert() -> None:
    stream = flips(random.Random(3), (2_500, 0.05), (1_000, 0.3))
    ((number, _),) = on_labels(watching("binary", (), error=[adwin()], warmup_labels=0), stream)
    for warmup, alerts in ((number - 1, True), (number, False)):
        ((_, found),) = on_labels(watching("binary", (), error=[adwin()], warmup_labels=warmup), stream)
        assert found.alerts is alerts


def test_the_detector_is_fed_from_the_first_label_on() -> None:
    stream = flips(random.Random(4), (8_000, 0.1), (1_000, 0.3))
    alone, expected = drift.ADWIN(delta=0.002), []
    for number, error in enumerate(stream, 1):
        alone.update(int(error))
        if alone.drift_detected:
            expected.append(number)
    monitors = watching("binary", (), error=[adwin()], warmup_labels=5_000)
    assert [number for number, _ in on_labels(monitors, stream)] == expected != []


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_no_false_alarm_on_errors_that_do_not_change(share: float) -> None:
    for seed in range(3):
        monitors = watching("binary", (), error=[adwin()])
        assert on_labels(monitors, flips(random.Random(seed), (20_000, share))) == []


def test_no_class_served_counts_as_wrong() -> None:
    def until_found(prediction: Prediction) -> list[int]:
        monitors = watching("multiclass", (), error=[adwin()])
        served = [Prediction("a")] * 6_000 + [prediction] * 500
        return [n for n, said in enumerate(served, 1) for change in monitors.on_label("a", said) if change.alerts]

    assert until_found(Prediction()) == until_found(Prediction("b")) != []
    assert until_found(Prediction("a")) == []


def test_later_detections_start_from_the_change_before() -> None:
    stream = flips(random.Random(5), (6_000, 0.05), (3_000, 0.3), (3_000, 0.6))
    first, second = (found for _, found in on_labels(watching("binary", (), error=[adwin()]), stream))
    assert (first.detection, second.detection) == (1, 2)
    assert second.before == pytest.approx(0.3, abs=0.03)
    assert second.after == pytest.approx(0.6, abs=0.1)
    assert second.observed > 9_000 > second.count_before


def test_a_regressions_error_is_ranked_in_the_errors_at_the_end_of_the_warm_up() -> None:
    rng = random.Random(6)
    monitors = watching("regression", (), error=[adwin()], warmup_labels=1_000, reference_size=400)
    found = []
    for number in range(1, 6_001):
        spread = 100.0 if number <= 600 else 1.0 if number <= 4_000 else 2.0
        change = monitors.on_label(rng.gauss(0, spread), Prediction(value=0.0))
        found += [(number, each) for each in change]
    ((number, rise),) = found
    assert 4_000 < number < 4_400
    assert (rise.direction, rise.alerts) == ("rise", True)
    assert rise.before == pytest.approx(0.5, abs=0.05)
    assert rise.after > 0.6
    assert rise.observed == number
    assert rise.count_before + rise.count_after == number - 1_001
    assert monitors.on_label(3.0, Prediction()) == ()


# -- scores and features


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_a_score_alerts_both_ways(shift: float) -> None:
    rng = random.Random(7)
    monitors = watching("binary", (), score=[adwin()], warmup_labels=0)
    monitors.on_label(True, RIGHT)
    found: list[Drift] = []
    for number in range(4_000):
        p = 0.5 + rng.uniform(-0.2, 0.2) + (shift if number >= 3_000 else 0)
        found += monitors.on_score(Prediction(p > 0.5, {True: p, False: 1 - p}, p))
    (change,) = found
    assert change.signal == "score"
    assert change.alerts
    assert change.direction == ("rise" if shift > 0 else "fall")
    assert change.after - change.before == pytest.approx(shift, abs=0.05)


def test_scores_do_not_alert_while_the_model_warms_up() -> None:
    monitors = watching("multiclass", (), score=[page_hinkley(5)], warmup_labels=10)
    quiet = [monitors.on_score(Prediction("a", {"a": p, "b": 1 - p})) for p in [0.5] * 100 + [0.9] * 20]
    (early,) = (change for changes in quiet for change in changes)
    assert not early.alerts
    for _ in range(11):
        monitors.on_label("a", Prediction("a"))
    late = [monitors.on_score(Prediction("a", {"a": p, "b": 1 - p})) for p in [0.5] * 100]
    assert [change.alerts for changes in late for change in changes] == [True]


def test_anomaly_scores_count_their_own_warm_up_and_are_ranked() -> None:
    rng = random.Random(8)
    monitors = watching("anomaly", (), score=[adwin()], warmup_labels=500, reference_size=300)
    found: list[Drift] = []
    for number in range(4_000):
        score = 0.0 if number < 150 else rng.lognormvariate(0, 1) * (2 if number >= 3_000 else 1)
        found += monitors.on_score(Prediction(value=score))
    (change,) = found
    assert (change.direction, change.alerts) == ("rise", True)
    assert change.before == pytest.approx(0.5, abs=0.05)


def test_a_score_that_is_not_there_is_not_watched() -> None:
    monitors = watching("multiclass", (), score=[adwin()])
    for nothing in (Prediction(), Prediction("a"), Prediction("a", {})):
        assert monitors.on_score(nothing) == ()
    assert monitors.direct[Signal.SCORE][0].observed == 0


def test_a_features_shift_is_found_in_its_ranks() -> None:
    rng = random.Random(9)
    monitors = watching("binary", ("country", "amount"), features={"amount": [adwin()]})
    found: list[Drift] = []
    for number in range(9_000):
        shift = 0.4 if number >= 6_000 else 0.0
        found += monitors.on_event(("NL", rng.lognormvariate(3 + shift, 1)))
    (change,) = found
    assert (change.signal, change.monitor) == ("feature:amount", "feature:amount")
    assert (change.direction, change.alerts) == ("rise", True)
    assert change.before == pytest.approx(0.5, abs=0.03)
    assert abs(change.observed - change.count_after - 6_000) < 150


def test_no_false_alarm_on_skewed_features_that_do_not_change() -> None:
    for seed in range(3):
        rng = random.Random(seed)
        monitors = watching("binary", ("amount",), features={"amount": [adwin()]})
        assert not any(monitors.on_event((rng.lognormvariate(3, 2),)) for _ in range(12_000))


def test_values_that_are_no_numbers_are_passed_over() -> None:
    monitors = watching("binary", ("amount",), features={"amount": [adwin()]})
    for value in (None, "much", 3, 2.5):
        assert monitors.on_event((value,)) == ()
    assert monitors.state()["feature:amount"] == {
        "detector": "ADWIN(delta=0.002)",
        "observed": 2,
        "watching": False,
        "drifts": 0,
        "warnings": 0,
    }


# -- detectors of other kinds


def test_several_detectors_watch_one_signal_side_by_side() -> None:
    chosen = [adwin(), page_hinkley(), ("HDDMA()", drift.binary.HDDMA())]
    monitors = watching("binary", (), error=chosen)
    assert list(monitors.state()) == ["error", "error#2", "error#3"]
    found = on_labels(monitors, flips(random.Random(1), (8_000, 0.05), (2_000, 0.4)))
    assert {change.monitor for _, change in found if change.alerts} == {"error", "error#2", "error#3"}
    assert all(number > 8_000 and change.alerts for number, change in found if change.kind == "drift")


@pytest.mark.parametrize("name", ["DDM", "EDDM", "HDDMA", "HDDMW"])
def test_a_warning_zone_is_told_once_and_never_alerted(name: str) -> None:
    stream = flips(random.Random(11), (3_000, 0.1), (2_000, 0.2))
    alone, zones, before = getattr(drift.binary, name)(), [], False
    for number, error in enumerate(stream, 1):
        alone.update(int(error))
        now = alone.warning_detected and not alone.drift_detected
        if now and not before:
            zones.append(number)
        before = now
    monitors = watching("binary", (), error=[(name, getattr(drift.binary, name)())], warmup_labels=0)
    warnings = [(n, change) for n, change in on_labels(monitors, stream) if change.kind == "warning"]
    assert [number for number, _ in warnings] == zones != []
    assert [change.detection for _, change in warnings] == list(range(1, len(zones) + 1))
    assert not any(change.alerts for _, change in warnings)


def test_river_s_fhddm_reads_one_as_right() -> None:
    """Against its documentation, which says that 1 means wrong. It is shown the opposite of what the others are."""
    for stream, fires in (([0] * 300 + [1] * 300, False), ([1] * 300 + [0] * 300, True)):
        detector = drift.binary.FHDDM()
        fired = False
        for bit in stream:
            detector.update(bit)
            fired = fired or detector.drift_detected
        assert fired is fires


@pytest.mark.parametrize(
    ("task", "asked", "says"),
    [
        ("binary", {"score": [("DDM()", drift.binary.DDM())]}, r"drift\.score: DDM\(\) takes right or wrong"),
        ("regression", {"error": [("DDM()", drift.binary.DDM())]}, "takes right or wrong"),
        ("binary", {"features": {"a": [("DDM()", drift.binary.DDM())]}}, r"drift\.features\.a: DDM\(\)"),
        ("binary", {"error": [("SGD()", object())]}, r"drift\.error: SGD\(\) is not a drift detector"),
        ("binary", {"features": {"b": [adwin()]}}, r"drift\.features\.b: no such feature"),
        ("anomaly", {"error": [adwin()]}, "have no error"),
    ],
)
def test_a_detector_that_does_not_fit_its_signal_is_refused(task: TaskName, asked: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        watching(task, ("a",), **asked)


def test_without_detectors_nothing_is_made() -> None:
    monitors = watching("binary", ("a",))
    empty: Sequence[Drift] = ()
    assert monitors.on_event((1.0,)) is monitors.on_score(RIGHT) is monitors.on_label(True, RIGHT)
    assert monitors.on_event((1.0,)) == empty
    assert monitors.state() == {}


def test_a_pipeline_gets_its_monitors() -> None:
    pipeline = parse_pipeline(
        {
            "pipeline": "it",
            "task": "binary",
            "event": {"id": "id", "features": {"a": "number", "b": "number"}},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": "LogisticRegression()",
            "drift": {
                "error": ["ADWIN(delta=0.01)", "PageHinkley()"],
                "score": "KSWIN()",
                "features": {"b": "ADWIN()"},
                "warmup_labels": 7,
                "reference_size": 9,
            },
        }
    )
    monitors = DriftMonitors.of(pipeline)
    assert list(monitors.state()) == ["error", "error#2", "score", "feature:b"]
    assert monitors.warmup_labels == 7
    ((place, feature),) = monitors.features
    assert place == 1
    assert feature.reference is not None
    assert feature.reference.size == 9
    assert [monitor.reference for monitor in (*monitors.direct[Signal.ERROR], *monitors.direct[Signal.SCORE])] == [
        None,
        None,
        None,
    ]


# -- the trail


def test_a_change_point_is_found_to_within_an_eighth_of_its_age() -> None:
    rng = random.Random(12)
    for age in (60, 300, 2_000, 9_000):
        trail = Trail()
        for number in range(20_000):
            trail.append(rng.gauss(0.0 if number < 20_000 - age else 1.0, 0.3))
        change = trail.change()
        assert change.count_after == pytest.approx(age, rel=1 / 8, abs=3)
        assert (change.before, change.after) == pytest.approx((0.0, 1.0), abs=0.15)


def test_a_cold_start_is_not_what_a_fresh_change_is_compared_with() -> None:
    """At first the model was worse than the drift makes it now: it is a rise all the same."""
    stream = flips(random.Random(13), (500, 0.9), (20_000, 0.1), (100, 0.3))
    fires_at_the_end = ("Dummy", drift.DummyDriftDetector(t_0=len(stream)))
    ((_, found),) = on_labels(watching("binary", (), error=[fires_at_the_end]), stream)
    assert found.direction == "rise"
    assert found.before == pytest.approx(0.1, abs=0.01)
    assert found.count_after < 200


def test_a_trail_stays_small() -> None:
    trail = Trail()
    for number in range(100_000):
        trail.append(number & 1)
    assert sum(map(len, trail.levels)) < 32 * 13


def test_one_value_has_no_before() -> None:
    trail = Trail()
    assert trail.change() == (0.0, 0, 0.0, 0)
    trail.append(1)
    assert trail.change() == (1.0, 0, 1.0, 1)
    always = drift.DummyDriftDetector(t_0=1)
    found = Monitor("score", "score", "Dummy", always, bad="both", reference=Reference(1))
    assert found.update(5.0) is None
    change = found.update(5.0)
    assert change is not None
    assert (change.before, change.after, change.count_before, change.count_after) == (0.5, 0.5, 0, 1)


# -- SEA concepts: abrupt changes at 12,500, 25,000 and 37,500

DATA = os.environ.get("DRIFTLINE_DATA")
SEA: dict[str, tuple[Callable[[], Any], list[int]]] = {
    "logistic regression": (
        lambda: river.preprocessing.StandardScaler() | river.linear_model.LogisticRegression(),
        [25_248, 37_824],
    ),
    "naive Bayes": (river.naive_bayes.GaussianNB, [13_024, 38_688]),
    "Hoeffding tree": (river.tree.HoeffdingTreeClassifier, [25_408, 39_968]),
}


@pytest.mark.skipif(DATA is None, reason="set DRIFTLINE_DATA to a folder with sea_50k.csv.gz")
@pytest.mark.parametrize("name", SEA)
def test_rises_on_sea(name: str) -> None:
    build, expected = SEA[name]
    model, monitors, alerts = build(), watching("binary", (), error=[adwin()]), []
    with gzip.open(Path(DATA or "") / "sea_50k.csv.gz", "rt") as lines:
        for number, row in enumerate(csv.DictReader(lines), 1):
            y = row.pop("class") == "1"
            x = {key: float(value) for key, value in row.items()}
            said = Prediction(model.predict_one(x))
            alerts += [number for change in monitors.on_label(y, said) if change.alerts]
            model.learn_one(x, y)
    assert alerts == expected
