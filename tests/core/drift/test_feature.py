"""What is watched besides error and score: loss, categories, seasons, missing values, labels; and many at once."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import river.drift

from driftline.author.proof import synthetic_records
from driftline.core.digest import digest_of
from driftline.core.drift.change_point import Trail
from driftline.core.drift.feature import VocabularyWatch
from driftline.core.drift.monitor import Monitor
from driftline.core.drift.monitors import Chosen, Drift, DriftMonitors, corrected
from driftline.core.drift.reference import SLOTS, Season
from driftline.core.error import ExpressionError
from driftline.core.output import Prediction
from driftline.core.pipeline import parse_pipeline
from driftline.core.record import FeatureValue
from driftline.core.shard.state import Shard
from driftline.core.signal import LOSS_MAX, Signal, loss_of
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.watching import watching

drift: Any = river.drift  # River is untyped

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def adwin(delta: float = 0.002, **more: Any) -> Chosen:
    return Chosen(f"ADWIN(delta={delta})", drift.ADWIN(delta=delta), **more)


def of_feature(chosen: Chosen, kind: str = "number", **more: Any) -> DriftMonitors:
    return watching("binary", ("f",), features={"f": [chosen]}, types={"f": kind}, **more)


def on_events(monitors: DriftMonitors, values: Iterable[FeatureValue], step_ms: int = 0) -> list[tuple[int, Drift]]:
    return [
        (number, one)
        for number, value in enumerate(values)
        for one in monitors.on_event((value,), number * step_ms)
        if one.kind == "drift"
    ]


# -- loss


def rare(count: int, positives: float, served: float, seed: int) -> Iterator[tuple[bool, Prediction]]:
    """Labels of which a share are true, always served as false, with one probability."""
    rng = random.Random(seed)
    for _ in range(count):
        yield rng.random() < positives, Prediction(False, {True: served, False: 1 - served}, served)


def test_the_loss_tells_what_the_error_of_a_rare_class_hides() -> None:
    """The model goes on to say no; it only becomes less sure of it, where it was right."""
    monitors = watching("binary", (), error=[adwin()], loss=[adwin()])
    found: list[Drift] = []
    for said in (rare(8_000, 0.01, 0.01, 1), rare(2_000, 0.01, 0.2, 2)):
        found += [one for y, prediction in said for one in monitors.on_label(y, prediction)]
    (change,) = found
    assert (change.signal, change.direction, change.alerts) == ("loss", "rise", True)
    assert change.before == pytest.approx(0.056, abs=0.01)  # in nats, as LogLoss has it
    assert change.after == pytest.approx(0.99 * -math.log(0.8) + 0.01 * -math.log(0.2), abs=0.08)


def test_the_loss_of_one_label_is_bounded() -> None:
    assert loss_of(True, Prediction(True, {True: 1.0}, 1.0)) == 0.0
    assert loss_of(True, Prediction(False, {True: 0.0, False: 1.0}, 0.0)) == 1.0
    assert loss_of("c", Prediction("a", {"a": 0.5, "b": 0.5})) == 1.0
    assert loss_of(True, Prediction(True, {True: 0.5, False: 0.5}, 0.5)) == pytest.approx(math.log(2) / LOSS_MAX)
    assert loss_of(True, Prediction(True)) is None
    assert loss_of(True, Prediction(True, {})) is None


def test_a_falling_loss_is_an_improvement() -> None:
    monitors = watching("binary", (), loss=[adwin()], warmup_labels=0)
    found = [one for y, p in [*rare(4_000, 0.5, 0.1, 1), *rare(2_000, 0.01, 0.1, 2)] for one in monitors.on_label(y, p)]
    assert found
    assert not any(one.alerts for one in found)


# -- texts and booleans


def words(count: int, seed: int, **shares: float) -> list[str]:
    return random.Random(seed).choices(list(shares), list(shares.values()), k=count)


def test_a_text_that_comes_more_often_is_named() -> None:
    monitors = of_feature(adwin(), "string")
    values = words(6_000, 1, NL=70, BE=20, DE=10) + words(1_500, 2, NL=40, BE=50, DE=10)
    found = on_events(monitors, values)
    assert {one.signal: one.direction for _, one in found} == {"rate:f=NL": "fall", "rate:f=BE": "rise"}
    assert all(6_000 < number < 6_400 and one.alerts for number, one in found)
    assert found[0][1].before == pytest.approx(0.7 if "NL" in found[0][1].signal else 0.2, abs=0.03)


def test_new_texts_are_told_as_novelty_once_they_are_many() -> None:
    monitors = of_feature(adwin(), "string")
    values = words(6_000, 1, NL=70, BE=20, DE=10) + words(1_500, 2, NL=56, BE=16, DE=8, XX=20)
    found = {one.signal: one for _, one in on_events(monitors, values)}
    assert found["novelty:f"].alerts
    assert found["novelty:f"].before == 0
    assert found["novelty:f"].after == pytest.approx(0.2, abs=0.08)
    back = on_events(monitors, words(3_000, 3, NL=70, BE=20, DE=10))
    assert [one.alerts for _, one in back if one.signal == "novelty:f"] == [False]  # fewer new ones: as it was before


def prose(count: int, seed: int, other: float = 0.0) -> list[str]:
    """Texts of ten words, a share of them from another vocabulary."""
    rng = random.Random(seed)
    letters = str.maketrans("0123456789", "abcdefghij")
    return [
        " ".join(f"{'n' if rng.random() < other else 'w'}{rng.randrange(3_000)}".translate(letters) for _ in range(10))
        for _ in range(count)
    ]


def test_words_that_were_not_seen_lately_are_noticed() -> None:
    monitors = of_feature(adwin(), "text")
    assert not any(one.alerts for _, one in on_events(monitors, prose(6_000, 1)))
    found = on_events(monitors, prose(1_000, 2, other=0.3))
    assert [(one.signal, one.direction, one.alerts) for _, one in found[:1]] == [("vocabulary:f", "rise", True)]
    assert found[0][0] < 300
    assert found[0][1].after > 2 * found[0][1].before


@pytest.mark.parametrize(
    ("first", "then", "new"),
    [
        ("to be", "To BE", 0.0),  # in either case
        ("paid 10.50", "paid 99.17", 0.0),  # any amount of a length
        ("to be", "to be or", 1 / 3),
        ("to be", "be be be not", 1 / 2),  # each word once
        ("straße", "STRASSE", 0.0),
        ("to be", "… !", None),
        ("to be", "", None),
    ],
)
def test_what_a_new_word_is(first: str, then: str, new: float | None) -> None:
    watch = VocabularyWatch("f", [], 0, 10)
    watch.share_of_new(first)
    assert watch.share_of_new(then) == new


def test_words_are_forgotten_little_by_little_and_memory_stays_as_it_is() -> None:
    """A text that comes every now and then is known, one from long ago is new again, and other values say nothing."""
    watch = VocabularyWatch("f", [], 0, 10)
    size = len(pickle.dumps(watch))
    words = [f"{'abcdefghij'[number % 10]}{'yz'[number % 2] * (number // 10)}" for number in range(400)]
    rng = random.Random(1)
    watch.share_of_new(" ".join(words))
    shares = []
    for _ in range(40):
        texts = [" ".join(words[start : start + 20]) for start in range(0, 400, 20)]
        shares.append(sum(watch.share_of_new(text) or 0 for text in texts) / 20)
        for _ in range(20):
            watch.share_of_new(" ".join("".join(rng.choices("abcdefgh", k=9)) for _ in range(200)))
    assert 0.05 < sum(shares[1:]) / len(shares[1:]) < 0.2  # 4,000 others came between: an eighth of the slots
    assert len(pickle.dumps(watch)) == size
    assert watch.observe(None, None) == watch.observe(1.5, None) == []


def test_only_frequent_texts_have_a_rate_and_of_two_one_is_enough() -> None:
    many = of_feature(adwin(), "string", reference_size=500, categories_max=3)
    on_events(many, words(600, 1, a=5, b=4, c=3, d=2, e=1))
    assert list(many.state()) == ["novelty:f", "rate:f=a", "rate:f=b", "rate:f=c"]
    two = of_feature(adwin(), "string", reference_size=500)
    on_events(two, words(600, 1, yes=9, no=1))
    assert list(two.state()) == ["novelty:f", "rate:f=yes"]


def test_long_texts_have_short_names_of_their_own() -> None:
    monitors = of_feature(adwin(), "string", reference_size=9)
    on_events(monitors, ["x" * 900 + "1"] * 5 + ["x" * 900 + "2"] * 3 + ["y"])
    names = list(monitors.state())
    assert len(set(names)) == 4
    assert max(map(len, names)) < 60


def test_a_boolean_is_watched_by_its_rate_with_any_detector() -> None:
    rng = random.Random(4)
    for chosen in (adwin(), Chosen("HDDMA()", drift.binary.HDDMA())):
        monitors = of_feature(chosen, "boolean")
        values = [rng.random() < (0.2 if number < 3_000 else 0.4) for number in range(4_000)]
        found = [one for number, one in on_events(monitors, values) if number > 3_000]
        assert found[0].direction == "rise"
        assert (found[0].unit, found[0].alerts) == ("bit", True)


# -- missing values


@pytest.mark.parametrize(("fill", "gap"), [(None, None), (0.0, 0.0), (0.0, None)])
def test_a_feature_that_is_missing_more_often_alerts_and_one_less_often_does_not(fill: Any, gap: Any) -> None:
    rng = random.Random(5)
    monitors = watching("binary", ("f",), missing={"f": [adwin()]}, fills={"f": fill})
    rates = [0.02] * 3_000 + [0.3] * 2_000 + [0.02] * 3_000
    found = on_events(monitors, [gap if rng.random() < rate else rng.gauss(9, 1) for rate in rates])
    assert [(one.signal, one.direction, one.alerts) for _, one in found] == [
        ("missing:f", "rise", True),
        ("missing:f", "fall", False),
    ]


# -- labels


def test_labels_that_stop_coming_are_told_and_their_return_is_not() -> None:
    rng = random.Random(6)
    monitors = watching("binary", (), label_rate=[adwin()])
    found: list[Drift] = []
    for number in range(9_000):
        rate = 0.9 if not 4_000 <= number < 6_000 else 0.5
        found += monitors.on_value(Signal.LABEL_RATE, rng.random() < rate)
    assert [(one.direction, one.alerts) for one in found] == [("fall", True), ("rise", False)]
    assert found[0].before == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("expression", ["HDDMA", "FHDDM"])
def test_one_sided_detectors_find_a_falling_label_rate(expression: str) -> None:
    rng = random.Random(7)
    chosen = Chosen(expression, getattr(drift.binary, expression)())
    monitors = watching("binary", (), label_rate=[chosen])
    found: list[Drift] = []
    for number in range(1, 4_000):
        found += monitors.on_value(Signal.LABEL_RATE, rng.random() < (0.95 if number < 3_000 else 0.5))
    (first, *_) = [one for one in found if one.kind == "drift"]
    assert (first.direction, first.alerts) == ("fall", True)
    assert first.observed > 3_000


def test_labels_that_come_later_are_told() -> None:
    rng = random.Random(8)
    monitors = watching("binary", (), label_delay=[adwin()])
    found: list[Drift] = []
    for number in range(6_000):
        found += monitors.on_value(Signal.LABEL_DELAY, int(rng.expovariate(1 / (1_000 if number < 4_000 else 3_000))))
    (change,) = found
    assert (change.signal, change.direction, change.alerts) == ("label_delay", "rise", True)


# -- seasons


def by_day(number: int, rng: random.Random, shift: float = 0.0) -> float:
    return 10 * math.sin(2 * math.pi * number / 1_000) + rng.gauss(shift, 1)


def test_a_season_compares_like_with_like() -> None:
    """A thousand values a day that follow the hour: without the season every morning is a drift."""
    rng = random.Random(9)
    values = [by_day(number, rng, 0.7 if number >= 9_000 else 0.0) for number in range(12_000)]
    plain = on_events(of_feature(adwin()), values)
    assert len(plain) > 15
    ((number, found),) = on_events(of_feature(adwin(season_ms=DAY_MS)), values, DAY_MS // 1_000)
    assert 9_000 < number < 9_500
    assert (found.signal, found.direction, found.alerts) == ("feature:f", "rise", True)


@pytest.mark.parametrize(("step_ms", "known_after"), [(HOUR_MS, 300), (HOUR_MS // 10, 600)])
def test_a_season_is_not_known_before_enough_values_and_two_whole_periods(step_ms: int, known_after: int) -> None:
    """The first period does not count: only its second half is seen."""
    season = Season(DAY_MS, 300)
    seen = 0
    while not season.frozen:
        assert season.rank(1.0, DAY_MS // 2 + seen * step_ms) is None
        seen += 1
    assert seen == known_after + 1


def test_a_season_s_window_is_bounded_and_spread_over_its_time() -> None:
    season = Season(DAY_MS, 2_400)
    for second in range(0, 4 * 86_400, 3):
        season.rank(float(second), second * 1_000)
    assert season.frozen
    assert sum(map(len, season.window)) <= 2_400
    for slot, kept in enumerate(season.window):
        assert len(kept) >= 100 / 2
        days = {int(value // 86_400) for value in kept}
        assert days == {0, 1, 2}, slot


def test_slots_without_values_are_passed_over() -> None:
    season = Season(DAY_MS, 50)
    for number in range(250):
        season.rank(number % 7, number // 12 * DAY_MS + number % 12 * HOUR_MS)
    assert season.frozen
    assert season.rank(3, 13 * HOUR_MS) is None
    assert season.passed == 1
    rank = season.rank(3, 5 * HOUR_MS)
    assert rank is not None
    assert 0.1 < rank < 0.9
    assert len(season.window) == SLOTS


def test_a_time_that_is_not_trusted_is_not_compared() -> None:
    monitors = of_feature(adwin(season_ms=DAY_MS))
    assert monitors.on_event((1.0,), None) == ()
    assert monitors.state()["feature:f"]["observed"] == 0  # type: ignore[index]  # a summary


def test_raw_numbers_are_fed_as_they_are() -> None:
    monitors = of_feature(adwin(raw=True))
    rng = random.Random(10)
    ((_, found),) = on_events(monitors, [rng.gauss(50 if number < 2_000 else 90, 1) for number in range(2_500)])
    assert found.before == pytest.approx(50, abs=1)
    assert found.after > 55  # the best guess so soon after
    assert found.unit == "raw"


# -- warnings of a second, looser detector


def run(monitor: Monitor, rates: Iterable[float], seed: int) -> list[Drift]:
    rng = random.Random(seed)
    found = [monitor.update(float(rng.random() < rate)) for rate in rates]
    return [one for one in found if one is not None]


def test_a_looser_detector_warns_before_the_drift() -> None:
    monitor = Monitor("error", "error", "A", drift.ADWIN(delta=1e-6), looser=drift.ADWIN(delta=0.2), act="swap")
    warning, *_, last = run(monitor, [0.1] * 3_000 + [0.2] * 1_500, 11)
    assert (warning.kind, warning.direction, warning.alerts, warning.act) == ("warning", "rise", False, "swap")
    assert (last.kind, last.alerts, last.act) == ("drift", True, "swap")
    assert 3_000 < warning.observed < last.observed


def test_a_looser_detector_does_not_warn_of_an_improvement() -> None:
    monitor = Monitor("error", "error", "A", drift.ADWIN(delta=1e-6), looser=drift.ADWIN(delta=0.2), act="swap")
    assert [one.kind for one in run(monitor, [0.3] * 3_000 + [0.1] * 150, 12)] == []
    assert monitor.warning_count == 0


@pytest.mark.parametrize(("act", "kinds"), [("swap", ["warning", "calm"]), ("reset", ["warning"])])
def test_a_warning_is_over_after_its_span(act: Any, kinds: list[str]) -> None:
    monitor = Monitor(
        "error",
        "error",
        "A",
        drift.ADWIN(delta=1e-9),
        looser=drift.DummyDriftDetector(t_0=400),
        act=act,
        warning_span=100,
    )
    found = run(monitor, [0.1] * 350 + [0.25] * 50 + [0.1] * 150, 13)
    assert [one.kind for one in found] == kinds
    assert [one.observed for one in found] == [400, 500][: len(kinds)]


# -- many at once


DETECTORS: list[tuple[Callable[[], Any], str, float]] = [
    (lambda: drift.ADWIN(delta=0.01), "delta", 0.001),
    (lambda: drift.KSWIN(alpha=0.01, seed=7), "alpha", 0.001),
    (lambda: drift.binary.HDDMA(drift_confidence=0.01), "drift_confidence", 0.001),
    (lambda: drift.binary.HDDMW(drift_confidence=0.01), "drift_confidence", 0.001),
    (lambda: drift.binary.FHDDM(confidence_level=0.01), "confidence_level", 0.001),
]


@pytest.mark.parametrize(("make", "name", "tenth"), DETECTORS)
def test_one_of_ten_gets_a_tenth_of_the_confidence(make: Callable[[], Any], name: str, tenth: float) -> None:
    own = corrected(make(), 10)
    assert getattr(own, name) == pytest.approx(tenth)
    assert type(own) is type(make())
    if name == "alpha":
        assert own.seed == 7


def test_alone_or_without_a_confidence_a_detector_stays() -> None:
    single, plain = drift.ADWIN(), drift.PageHinkley()
    assert corrected(single, 1) is single
    assert corrected(plain, 10) is plain


def documented(**watched: Any) -> Any:
    return {
        "pipeline": "p",
        "task": "binary",
        "event": {
            "id": "id",
            "features": {"a": "number", "b": {"type": "number", "missing": "omit"}, "c": "string", "d": "boolean"},
        },
        "label": {"id": "id", "value": "y", "wait": "1h"},
        "model": "GaussianNB()",
        "drift": watched,
    }


def test_a_pipeline_s_detectors_on_events_are_a_family() -> None:
    watched = {"features": {"a": "ADWIN(delta=0.3)", "c": "ADWIN()", "d": "DDM()"}, "missing": {"b": "ADWIN()"}}
    monitors = DriftMonitors.of(parse_pipeline(documented(**watched, error="ADWIN()")))
    (_, first), (_, flag) = monitors.features
    assert first.expression == "ADWIN(delta=0.3), as one of 14"  # a, novelty and ten rates of c, d, missing b
    assert first.detector.delta == pytest.approx(0.3 / 14)  # type: ignore[attr-defined]  # ADWIN
    assert (flag.expression, monitors.direct[Signal.ERROR][0].expression) == ("DDM()", "ADWIN()")
    alone = DriftMonitors.of(parse_pipeline(documented(**watched, correction="none")))
    assert alone.features[0][1].detector.delta == 0.3  # type: ignore[attr-defined]  # ADWIN


def test_of_fifty_features_that_do_not_change_none_alerts() -> None:
    rng = random.Random(14)
    names = [f"f{number}" for number in range(50)]
    document = documented(features=dict.fromkeys(names, "ADWIN(delta=0.3)"))
    document["event"]["features"] = dict.fromkeys(names, "number")
    alerts = {}
    for correction in ("none", "bonferroni"):
        document["drift"]["correction"] = correction
        monitors = DriftMonitors.of(parse_pipeline(document))
        alerts[correction] = sum(len(monitors.on_event([rng.gauss(0, 1) for _ in names])) for _ in range(5_000))
    assert alerts["none"] > 3
    assert alerts["bonferroni"] == 0


def test_the_features_that_moved_most_are_told_with_a_drift() -> None:
    rng = random.Random(15)
    names = ("a", "b", "c", "d")
    monitors = watching("binary", names, features={name: [adwin()] for name in names}, reference_size=1_000)
    found: list[Drift] = []
    for number in range(5_000):
        late = number >= 4_000
        values = (rng.gauss(0.5 * late, 1), rng.gauss(0, 1), rng.gauss(-0.3 * late, 1), rng.gauss(0.2 * late, 1))
        found += monitors.on_event(values)
    last = found[-1]
    assert [move.signal for move in last.moved] == ["feature:a", "feature:c", "feature:d", "feature:b"]
    largest = last.moved[0]
    assert largest.before == pytest.approx(0.5, abs=0.05)
    assert largest.after - largest.before == pytest.approx(0.14, abs=0.05)  # of the ranks; .5 spreads of a normal
    assert largest.size == pytest.approx(0.5, abs=0.15)


def test_around_splits_a_trail_where_it_is_told_to() -> None:
    trail = Trail()
    for number in range(5_000):
        trail.append(1.0 if number >= 4_800 else 0.0)
    change = trail.around(200)
    assert change.count_after == pytest.approx(200, rel=1 / 8)
    assert (change.before, change.after) == (0.0, 1.0)
    assert change.count_before + change.count_after == 5_000
    assert Trail().around(5) == (0.0, 0, 0.0, 0)


# -- what does not fit


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"loss": [("DDM()", drift.binary.DDM())]}, r"drift\.loss: DDM\(\) takes right or wrong"),
        ({"label_delay": [("DDM()", drift.binary.DDM())]}, r"drift\.label_delay"),
        ({"features": {"f": [Chosen("A", drift.ADWIN(), drift.binary.DDM())]}}, r"drift\.features\.f"),
        ({"missing": {"g": [("A", drift.ADWIN())]}}, r"drift\.missing\.g: no such feature"),
    ],
)
def test_what_does_not_fit_is_refused(asked: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        watching("binary", ("f",), **asked)


def test_everything_together_survives_a_pickle() -> None:
    def build() -> DriftMonitors:
        return DriftMonitors.of(
            parse_pipeline(
                documented(
                    error={"detector": "DDM()", "reaction": "swap"},
                    loss="ADWIN(clock=1)",
                    label_rate="FHDDM(sliding_window_size=30)",
                    label_delay={"detector": "PageHinkley(threshold=2)", "warning": "ADWIN(clock=1)"},
                    features={
                        "a": [{"detector": "ADWIN(clock=1)", "season": "10s"}, {"detector": "KSWIN()", "raw": True}],
                        "c": "ADWIN(clock=1)",
                        "d": "HDDMA()",
                    },
                    missing={"b": "EDDM()"},
                    reference_size=100,
                    warmup_labels=10,
                )
            )
        )

    def show(monitors: DriftMonitors, number: int, rng: random.Random) -> list[Drift]:
        late = number > 500
        p = min(0.99, max(0.01, rng.gauss(0.7 if late else 0.3, 0.1)))
        gap = None if rng.random() < (0.5 if late else 0.1) else 1.0
        event = (rng.gauss(number % 10 + 3 * late, 1), gap, rng.choice("abcd" if late else "abc"), rng.random() < p)
        return [
            *monitors.on_event(event, number * 1_000),
            *monitors.on_label(rng.random() < 0.3, Prediction(p > 0.5, {True: p, False: 1 - p}, p)),
            *monitors.on_value(Signal.LABEL_RATE, rng.random() > (0.7 if late else 0.1)),
            *monitors.on_value(Signal.LABEL_DELAY, rng.randrange(99) + 300 * late),
        ]

    straight, broken = build(), build()
    first, second = random.Random(16), random.Random(16)
    signals = set()
    for number in range(1_000):
        if number % 90 == 0:
            broken = pickle.loads(pickle.dumps(broken))
        found = show(straight, number, first)
        assert show(broken, number, second) == found
        signals |= {one.signal for one in found}
    assert broken.state() == straight.state()
    assert signals >= {"error", "loss", "label_rate", "label_delay", "feature:a", "novelty:c", "feature:d", "missing:b"}


def test_a_shard_that_watches_everything_goes_on_from_its_bytes() -> None:
    document = documented(
        error={"detector": "ADWIN()", "warning": "ADWIN(delta=0.5, clock=4)", "reaction": "swap"},
        loss="ADWIN(clock=4)",
        label_rate="FHDDM(sliding_window_size=30)",
        label_delay="ADWIN(clock=4)",
        features={"a": {"detector": "ADWIN()", "season": "20s"}, "c": "ADWIN(clock=4)", "d": "HDDMA()"},
        missing={"b": "ADWIN(clock=4)"},
        reference_size=60,
        warmup_labels=50,
    )
    document["model"] = "(Select('a', 'b', 'd') | StandardScaler()) + (Select('c') | OneHotEncoder()) | GaussianNB()"
    pipeline = parse_pipeline(document)
    straight, broken = Shard(pipeline, 0), Shard(pipeline, 0)
    records = synthetic_records(pipeline, 400)
    for number, record in enumerate(records):
        if number % 57 == 0:
            broken = load(pipeline, 0, dump(broken))
        assert step(broken, record) == step(straight, record)
    assert straight.monitors.state() == broken.monitors.state()
    assert len(straight.monitors.state()) > 10
    through = [load(pipeline, 0, dump(one)) for one in (straight, broken)]
    assert digest_of(through[0].monitors) == digest_of(through[1].monitors)
    assert digest_of(through[0].reactor) == digest_of(through[1].reactor)
