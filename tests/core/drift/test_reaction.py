"""What a shard does to its model at a drift: once a change, as the journal can tell again, and never to its harm."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.drift.monitor import Drift
from driftline.core.drift.reaction import Background, Reactor
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, ModelVersion, Output
from driftline.core.record import Event, Label, Record
from driftline.core.river.building import build_model
from driftline.core.river.learning_rate import Boosted, boost, rates
from driftline.core.shard.state import Shard
from driftline.core.signal import Signal
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support import poisonous
from tests.support.folding import step
from tests.support.poisonous import BAD
from tests.support.small import NOW_MS, chosen, control, event, fold, label, small

pytestmark = pytest.mark.slow

FLIP = 1_000  # the event from which on the truth is the opposite
WARMUP = 300
ADWIN = "ADWIN(delta=0.002)"
SWAP = {"detector": ADWIN, "warning": "ADWIN(delta=0.2, clock=8)", "reaction": "swap"}
EARLY = {"detector": ADWIN, "warning": "DummyDriftDetector(t_0=70)", "reaction": "swap"}  # warns without a cause


def shard(watched: Any, model: str = "GaussianNB()", **drift: Any) -> Shard:
    return Shard(pipeline(watched, model, **drift), 0)


def pipeline(watched: Any, model: str = "GaussianNB()", **drift: Any) -> Any:
    document = {"error": watched, "warmup_labels": WARMUP, **drift}
    return small(event={"features": {"x": "number"}}, model=model, drift=document)


def stream(count: int, flips: Sequence[int] = (FLIP,), seed: int = 1, bad: Sequence[int] = ()) -> list[Record]:
    """Events, each with its label; the truth turns round at each flip."""
    rng, made, truth = random.Random(seed), list[Record](), True
    for number in range(count):
        truth = truth != (number in flips)
        x = rng.gauss(0, 1)
        y = (x > 0) == truth if rng.random() > 0.05 else rng.random() < 0.5
        x = BAD if number in bad else x
        made += [
            event(number, NOW_MS + number, x, offset=number, word=False),
            label(number, y, NOW_MS + number, offset=number),
        ]
    return made


def changes(made: Sequence[Output]) -> list[Any]:
    return [one for one in chosen(made, Alert) if one.kind == "model_change"]


def pairs_of(records: Sequence[Record]) -> list[tuple[Any, Any]]:
    events = [one for one in records if isinstance(one, Event)]
    labels = [one for one in records if isinstance(one, Label)]
    return [(one.features[0], other.value) for one, other in zip(events, labels, strict=True)]


def test_alert_is_the_default_and_changes_nothing() -> None:
    here = shard(ADWIN)
    made = fold(here, *stream(2_000))
    assert [one.kind for one in chosen(made, Alert)] == ["concept_drift"]
    assert here.learner.version == ModelVersion(0, 2_000)


def test_reset_begins_again_as_a_new_generation_and_tells_it() -> None:
    here, records = shard({"detector": ADWIN, "reaction": "reset"}), stream(1_500)
    made = fold(here, *records)
    drift, change = chosen(made, Alert)
    assert (drift.kind, drift.evidence["model_version"].partition(".")[0]) == ("concept_drift", "0")
    at = int(change.output_id.split("-")[-2])
    assert FLIP < at < FLIP + 200
    assert (change.kind, change.state, change.episode) == ("model_change", "resolved", f"p-0-model_change-l{at}")
    assert change.evidence == {
        "reaction": "reset", "signal": "error", "detector": ADWIN, "detection": 1,
        "learned": 0, "model_version": f"1.{at + 1}",
    }  # fmt: skip
    assert "untrained" in change.sentence
    assert here.learner.version == ModelVersion(1, 1_500)
    assert here.counts["reaction_reset"] == 1
    alone = build_model(here.pipeline)
    for x, y in pairs_of(records)[at + 1 :]:
        alone.learn_one({"x": x}, y)
    assert digest_of(here.learner.model) == digest_of(alone)


def test_swap_puts_the_model_to_work_that_learned_from_the_warning_on() -> None:
    here, records = shard(SWAP), stream(1_500)
    began: int | None = None
    for place, record in enumerate(records):
        before = here.reactor.background
        step(here, record)
        if before is None and here.reactor.background is not None:
            began = place // 2
        if here.counts.get("reaction_swap"):
            break
    else:
        raise AssertionError("no swap")
    assert began is not None
    assert FLIP < began < place // 2
    assert here.learner.generation == 1
    assert here.reactor.background is None
    alone = build_model(here.pipeline)
    for x, y in pairs_of(records)[began + 1 : place // 2 + 1]:
        alone.learn_one({"x": x}, y)
    assert digest_of(here.learner.model) == digest_of(alone)
    assert here.learner.known == place // 2 - began


def test_a_swap_says_how_much_the_second_model_has_learned() -> None:
    (change,) = changes(fold(shard(SWAP), *stream(1_500)))
    assert change.evidence["reaction"] == "swap"
    assert change.evidence["learned"] > 10
    assert f"the last {change.evidence['learned']} labels" in change.sentence


def test_without_a_warning_before_swap_is_a_reset() -> None:
    swapped, reset = shard({"detector": ADWIN, "reaction": "swap"}), shard({"detector": ADWIN, "reaction": "reset"})
    (change,), (other,) = (changes(fold(one, *stream(1_500))) for one in (swapped, reset))
    assert (change.evidence["reaction"], change.evidence["learned"]) == ("swap", 0)
    assert change.sentence == other.sentence
    assert digest_of(swapped.learner.model) == digest_of(reset.learner.model)


def test_a_warning_that_passes_drops_the_background_model() -> None:
    here = shard(EARLY, warning_span=50)
    began = dropped = 0
    for record in stream(900):
        before = here.reactor.background
        step(here, record)
        began += before is None and here.reactor.background is not None
        dropped += before is not None and here.reactor.background is None
    assert began == dropped > 0
    assert here.learner.generation == 0


def test_boost_raises_the_rates_for_a_while_and_keeps_what_was_learned() -> None:
    model = "StandardScaler() | LogisticRegression()"
    here = shard({"detector": ADWIN, "reaction": "boost"}, model, boost_factor=3.0, boost_labels=100)
    records = stream(1_500)
    (change,) = changes(fold(here, *records))
    at = int(change.output_id.split("-")[-2])
    assert change.evidence["learned"] == at + 1
    assert here.learner.version == ModelVersion(1, 1_500)
    alone = build_model(here.pipeline)
    last = alone["LogisticRegression"]
    for number, (x, y) in enumerate(pairs_of(records)):
        fast = at < number <= at + 100
        last.optimizer.lr.learning_rate = last.intercept_lr.learning_rate = 0.03 if fast else 0.01
        alone.learn_one({"x": x}, y)
    mine = here.learner.model["LogisticRegression"]
    assert dict(mine.weights) == pytest.approx(dict(last.weights), rel=1e-12)
    assert mine.intercept == pytest.approx(last.intercept, rel=1e-12)


def test_a_second_boost_does_not_pile_up() -> None:
    model = build_model(pipeline(ADWIN, "StandardScaler() | LogisticRegression()"))
    assert boost(model, 5, 10) == 2
    assert boost(model, 5, 10) == 2
    for part, name in rates(model):
        rate = getattr(part, name)
        assert isinstance(rate, Boosted)
        assert not isinstance(rate.rate, Boosted)
        assert [rate.get(7), rate.get(16), rate.get(17)] == [0.05, 0.05, 0.01]


def test_a_model_that_raises_after_a_boost_is_put_back_boosted() -> None:
    watched = {"detector": ADWIN, "reaction": "boost"}
    here = Shard(pipeline(watched, "tests.support.poisonous:learns_badly", boost_labels=200), 0)
    there = Shard(pipeline(watched, "tests.support.poisonous:learns_badly", boost_labels=200), 0)
    records = stream(1_500, bad=[1_090])
    fold(here, *records)
    fold(there, *(one for one in records if getattr(one, "event_id", None) != 1_090))
    assert here.counts["failed"] == 1
    assert here.learner.generation == there.learner.generation == 1
    assert digest_of(here.learner.model) == digest_of(there.learner.model)


def test_one_change_is_one_reaction() -> None:
    watched = [{"detector": expression, "reaction": "reset"} for expression in (ADWIN, "DDM()", "PageHinkley()")]
    here = shard(watched)
    made = fold(here, *stream(2_500))
    assert sum(monitor.drift_count > 0 for monitor in here.monitors.direct[Signal.ERROR]) >= 2
    assert here.drifts[("error", "drift rise")] >= 2
    assert here.learner.generation == len(changes(made)) == 1


@pytest.mark.parametrize(("cooldown", "generation"), [(5_000, 1), (500, 3)])
def test_further_changes_are_reacted_to_after_the_cooldown(cooldown: int, generation: int) -> None:
    here = shard({"detector": ADWIN, "reaction": "reset"}, cooldown_labels=cooldown)
    fold(here, *stream(4_000, [1_000, 2_000, 3_000]))
    assert here.learner.generation == generation


def test_an_improvement_and_a_rise_in_the_warm_up_are_not_reacted_to() -> None:
    here = shard({"detector": ADWIN, "reaction": "reset"}, "NoChangeClassifier()", warmup_labels=1_500)
    records = [
        one
        for number in range(3_000)
        for one in (
            event(number, NOW_MS + number, offset=number, word=False),
            label(number, not 1_000 <= number < 2_000 or number % 2 == 0, NOW_MS + number, offset=number),
        )
    ]
    fold(here, *records)
    assert here.drifts[("error", "drift rise")] > 0
    assert here.drifts[("error", "drift fall")] > 0
    assert here.learner.generation == 0


def test_while_an_operator_holds_learning_nothing_is_done_to_the_model() -> None:
    here = shard({"detector": ADWIN, "reaction": "reset"})
    records = stream(1_500)
    fold(here, *records[:1_800], control("freeze"), *records[1_800:])
    assert here.counts["reaction_held"] >= 1
    assert here.learner.version == ModelVersion(0, 900)


def test_an_operator_s_reset_forgets_the_background_model() -> None:
    here = shard(EARLY)
    for record in stream(FLIP):
        step(here, record)
        if here.reactor.background is not None:
            break
    assert here.reactor.background is not None
    fold(here, control("reset"))
    assert here.reactor.background is None


def test_a_background_model_goes_on_with_the_monitor_that_it_was_begun_at() -> None:
    here = shard(EARLY)
    for record in stream(FLIP):
        step(here, record)
        if here.reactor.background is not None:
            break
    for watched, name in ((["DDM()", EARLY], "error#2"), ("DDM()", None)):
        there = load(shard(watched).pipeline, 0, dump(here))
        adopt(there, here.pipeline)
        background = there.reactor.background
        assert (background.monitor if background is not None else None) == name


# -- models that raise


def warned(watched: Any = EARLY, factory: str = "learns_badly") -> Shard:
    """A shard between a warning and its drift, with a model that may raise."""
    here = shard(watched, f"tests.support.poisonous:{factory}")
    for record in stream(FLIP):
        step(here, record)
        if here.reactor.background is not None:
            return here
    raise AssertionError("no warning")


def test_a_background_model_that_raises_is_dropped_and_named_in_the_journal() -> None:
    here = warned()
    before = here.learner.learned
    there = load(here.pipeline, 0, dump(here))
    records: list[Record] = [event("e", NOW_MS + 9_000, 1.0, word=False), label("e", True, NOW_MS + 9_000)]
    with poisonous.disarmed():
        background = here.reactor.background
        assert background is not None
        background.model = _Raises()
        oracle = Oracle()
        made = fold(here, *records, oracle=oracle)
    assert here.counts["background_failed"] == 1
    assert here.reactor.background is None
    assert here.learner.learned == before + 1
    assert oracle.found == {"background learn p.events-0-0-1": "ZeroDivisionError: of its own"}
    # A replay finds one that does not raise, and drops it at the same place without asking.
    beside = there.reactor.background
    assert beside is not None
    assert fold(there, *records, oracle=Oracle(oracle.found)) == made
    assert there.reactor.background is None
    assert (there.counts, digest_of(there.learner.model)) == (here.counts, digest_of(here.learner.model))


class _Raises:
    def learn_one(self, x: object, y: object) -> None:
        raise ZeroDivisionError("of its own")


def test_a_model_that_cannot_be_built_leaves_the_one_that_serves() -> None:
    here = shard({"detector": ADWIN, "reaction": "reset"})
    drift = Drift("error", "error", ADWIN, "drift", "rise", 0.1, 0.5, 900, 60, 960, 1, True, "reset")
    broken = small(model="tests.support.poisonous:learns_badly", event={"features": {"x": "number"}}).model_copy(
        update={"model": "tests.support.poisonous:nothing_of_the_kind"}
    )
    model = here.learner.model
    oracle = Oracle()
    assert here.reactor.note(drift, here.learner, broken, "error drift 1", oracle) is None
    assert (here.learner.model, here.learner.generation) == (model, 0)
    assert "nothing_of_the_kind" in oracle.found["model error drift 1"]
    # At a replay it could be built, and is not.
    oracle = Oracle(oracle.found)
    assert here.reactor.note(drift, here.learner, here.pipeline, "error drift 1", oracle) is None
    assert here.learner.generation == 0


# -- nothing is lost at a crash


@pytest.mark.parametrize("watched", [SWAP, EARLY, {"detector": "DDM()", "reaction": "swap"}])
def test_a_crash_between_warning_and_drift_changes_nothing(watched: Any) -> None:
    straight, records = shard(watched), stream(1_300)
    at, made = list[int](), list[Output]()
    for place, record in enumerate(records):
        made += step(straight, record)
        background = straight.reactor.background
        if background is not None and background.learned in (0, 1, 7, 40):
            at.append(place)
    assert at
    assert straight.learner.generation == 1
    for place in at[:: max(1, len(at) // 6)]:
        here = Shard(straight.pipeline, 0)
        before = fold(here, *records[: place + 1])
        here = load(here.pipeline, 0, dump(here))
        assert isinstance(here.reactor.background, Background)
        assert before + fold(here, *records[place + 1 :]) == made
        assert digest_of(here.learner.model) == digest_of(straight.learner.model)


def test_the_reactor_is_as_the_pipeline_says() -> None:
    reactor = Reactor.of(pipeline(ADWIN, cooldown_labels=7, boost_factor=2.5, boost_labels=9))
    assert (reactor.cooldown, reactor.factor, reactor.count) == (7, 2.5, 9)
