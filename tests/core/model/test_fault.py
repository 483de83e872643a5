"""A model that raises costs the record at which it raised, and nothing else."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from msgspec import structs

from driftline.core.digest import digest_of
from driftline.core.error import ExpressionError, InvariantError
from driftline.core.fault import BURST, BURST_CALLS, REST_CALLS, WINDOW_CALLS, Faults, last_line
from driftline.core.model import learner
from driftline.core.model.learner import SINCE_MAX, SINCE_MIN
from driftline.core.oracle import FOUND_MAX, Oracle
from driftline.core.output import Alert, Outcome, Output, Rejected, Score
from driftline.core.pickle.writer import pickled
from driftline.core.pipeline import Pipeline
from driftline.core.record import Label, Record
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from tests.support import poisonous
from tests.support.folding import step
from tests.support.poisonous import BAD
from tests.support.small import NOW_MS, event, fold, label, small


def chosen(factory: str, **rules: str) -> Pipeline:
    rules = {"quiet": "500ms"} | rules
    return small(model=f"tests.support.poisonous:{factory}", event={"features": {"x": "number"}}, alerts=rules)


def pairs(count: int, bad: Sequence[int] = (), *, late: int = 3, seed: int = 1) -> list[Record]:
    """Events and, some events later, their labels; those in `bad` are such that the model raises."""
    rng = random.Random(seed)
    made: list[Record] = []
    for number in range(count + late):
        time_ms = NOW_MS + number
        if number < count:
            x = BAD if number in bad else rng.gauss(0, 1)
            made.append(structs.replace(event(number, time_ms, offset=number), features=(x,)))
        if number >= late:
            made.append(label(number - late, rng.random() < 0.5, time_ms, offset=number - late))
    return made


def of(made: Sequence[Output], kind: type[Output]) -> list[Output]:
    return [output for output in made if isinstance(output, kind)]


def model_of(shard: Shard) -> bytes:
    return digest_of((shard.learner.model, shard.learner.learned, shard.learner.generation))


AT = SINCE_MIN  # learn calls, after which the next copy is made


@pytest.mark.parametrize(
    "bad", [[0], [5], [5, 6, 7], [AT - 1], [AT], [AT + 1], [AT + 600], [3, AT - 1, AT, AT + 1, AT + 900]]
)
def test_a_pair_that_cannot_be_learned_leaves_the_model_as_if_it_had_not_come(bad: list[int]) -> None:
    count = AT + 1_000
    here, there = Shard(chosen("learns_badly"), 0), Shard(chosen("learns_badly"), 0)
    made = fold(here, *pairs(count, bad))
    unlabelled = [one for one in pairs(count, bad) if not (isinstance(one, Label) and one.event_id in bad)]
    fold(there, *unlabelled)
    assert model_of(here) == model_of(there)
    failed = [one for one in of(made, Outcome) if isinstance(one, Outcome) and one.kind == "failed"]
    assert [one.event_id for one in failed] == bad
    assert {one.detail for one in failed} == {"and that is too much"}
    assert here.counts["failed"] == len(bad)
    assert here.counts["learned"] == count - len(bad) == here.learner.learned


@pytest.mark.parametrize("bad", [[0], [5], [AT], [20, 21, 22, AT + 900]])
def test_an_event_that_cannot_be_scored_leaves_the_model_as_if_it_had_not_come(bad: list[int]) -> None:
    here, there = Shard(chosen("scores_badly"), 0), Shard(chosen("scores_badly"), 0)
    made = fold(here, *pairs(AT + 1_000, bad))
    fold(there, *[record for record in pairs(AT + 1_000, bad) if getattr(record, "event_id", None) not in bad])
    assert model_of(here) == model_of(there)
    rejected = of(made, Rejected)
    assert [(one.source.offset, one.reason, one.detail) for one in rejected if isinstance(one, Rejected)] == [
        (number, "model_error", "and that is too much") for number in bad
    ]
    assert here.counts["rejected_model_error"] == len(bad)


def test_a_replay_passes_over_the_calls_that_the_journal_names() -> None:
    for factory, bad in (("learns_badly", [5, 9]), ("scores_badly", [5, 9])):
        here = Shard(chosen(factory), 0)
        oracle = Oracle()
        made = fold(here, *pairs(30, bad), oracle=oracle)
        assert len(oracle.found) == 2
        with poisonous.disarmed():
            again, careless = Shard(chosen(factory), 0), Shard(chosen(factory), 0)
            assert fold(again, *pairs(30, bad), oracle=Oracle(oracle.found)) == made
            assert fold(careless, *pairs(30, bad)) != made
        assert model_of(again) == model_of(here)
        assert digest_of(again.learner.faults) == digest_of(here.learner.faults)


def test_a_shard_from_a_snapshot_goes_back_no_further_than_it_knows() -> None:
    pipeline = chosen("learns_badly")
    records = pairs(60, [40])
    whole, first = Shard(pipeline, 0), Shard(pipeline, 0)
    fold(whole, *records)
    fold(first, *records[:50])
    second = load(pipeline, 0, dump(first))
    fold(second, *records[50:])
    assert model_of(second) == model_of(whole)


def test_a_storm_calls_the_model_seldom_and_loses_no_event() -> None:
    storm = range(100, 5_100)
    here = Shard(chosen("scores_badly"), 0)
    before = dict(poisonous.calls)
    made = fold(here, *pairs(7_000, storm))
    raised = [one for one in made if isinstance(one, Rejected)]
    assert len(raised) < BURST + len(storm) / REST_CALLS * 2
    scores = [one for one in made if isinstance(one, Score)]
    assert len(scores) + len(raised) == 7_000
    withheld = [one.event_id for one in scores if one.guard == "withheld"]
    assert withheld[0] == 100 + BURST
    assert len(withheld) >= len(storm) - len(raised)
    assert max(int(one) for one in withheld) < storm.stop + REST_CALLS
    assert poisonous.calls["score"] - before["score"] < 7_000 - len(withheld) + 100
    states = [(one.state, one.severity) for one in made if isinstance(one, Alert)]
    assert states == [("opened", "warning"), ("ongoing", "critical"), ("resolved", "critical")]
    episodes = {one.episode for one in made if isinstance(one, Alert)}
    assert len(episodes) == 1
    assert not here.learner.faults.open


def test_a_storm_that_lasts_is_told_now_and_then() -> None:
    rules = {"quiet": "500ms", "ongoing": "1s"}
    here = Shard(chosen("scores_badly", **rules), 0)
    alerts = [one for one in fold(here, *pairs(7_000, range(100, 5_100))) if isinstance(one, Alert)]
    assert [one.state for one in alerts] == ["opened", *["ongoing"] * 6, "resolved"]
    assert {one.severity for one in alerts[1:]} == {"critical"}
    told = [one.time_ms or 0 for one in alerts]
    assert min(later - earlier for earlier, later in itertools.pairwise(told[1:7])) >= 1_000


def test_labels_in_a_storm_are_failed_and_told_of() -> None:
    here = Shard(chosen("learns_badly"), 0)
    made = fold(here, *pairs(2_000, range(100, 600)))
    failed = [one for one in made if isinstance(one, Outcome) and one.kind == "failed"]
    assert {one.event_id for one in failed} >= set(range(100, 600))
    assert any("rests" in (one.detail or "") for one in failed)
    assert here.counts["failed"] + here.counts["joined"] == 2_000
    assert here.counts["learned"] == here.counts["joined"]


def test_few_exceptions_alert_nobody_and_as_many_as_are_allowed_do() -> None:
    pipeline = chosen("scores_badly")
    limit = pipeline.limits.model_error_max
    some = [number * 40 for number in range(limit)]
    assert not of(fold(Shard(pipeline, 0), *pairs(1_000, some[:-1])), Alert)
    (alert,) = of(fold(Shard(pipeline, 0), *pairs(some[-1] + 1, some)), Alert)
    assert isinstance(alert, Alert)
    assert alert.state == "opened"
    assert f"{limit} of the last 1,000" in alert.sentence


def test_faults_are_forgotten_by_calls() -> None:
    faults = Faults()
    for _ in range(BURST - 1):
        faults.calls += 1
        faults.add()
    assert (faults.resting, faults.recent_count) == (0, BURST - 1)
    faults.calls += BURST_CALLS
    faults.add()
    assert faults.resting == 0
    faults.calls += WINDOW_CALLS
    assert faults.recent_count == 0


def test_what_one_slice_names_is_bounded() -> None:
    oracle = Oracle()
    for number in range(FOUND_MAX + 50):
        oracle.add(str(number), "x")
    assert len(oracle.found) == FOUND_MAX


def test_a_model_that_raises_at_what_it_learned_before_is_not_gone_on_with() -> None:
    here = Shard(chosen("learns_badly"), 0)
    with poisonous.disarmed():
        for record in pairs(20, [5]):
            step(here, record)
    with pytest.raises(InvariantError, match="not deterministic"):
        fold(here, *pairs(40, [30])[23:])


def test_the_last_line_of_any_exception() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert last_line(ValueError("a\nb")) == "b"
    assert last_line(ValueError()) == "ValueError"
    assert "MuteError" in last_line(MuteError())
    assert len(last_line(ValueError("x" * 10_000))) == 200


def test_copies_are_made_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SINCE_MIN <= SINCE_MAX
    here, made = Shard(chosen("learns_badly"), 0), 0

    def counted(model: object) -> bytes:
        nonlocal made
        made += 1
        return pickled(model)

    monkeypatch.setattr(learner, "pickled", counted)
    fold(here, *pairs(SINCE_MAX - 10))
    assert made >= 1


def test_a_model_that_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(ExpressionError, match="cannot be pickled"):
        Shard(chosen("locked_up"), 0)


class Panic(BaseException):
    """What River's parts in Rust raise: no Exception."""


def test_a_panic_costs_the_record_and_not_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard(chosen("learns_badly"), 0)
    fold(shard, *pairs(20))

    def panic(*_: object) -> None:
        raise Panic("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(shard.learner, "predict", panic)
    (made,) = step(shard, structs.replace(event("hit", NOW_MS + 100, offset=100), features=(1.0,)))
    assert isinstance(made, Rejected)
    assert (made.reason, "Option::unwrap" in made.detail) == ("model_error", True)
    made_after = step(shard, structs.replace(event("after", NOW_MS + 101, offset=101), features=(1.0,)))
    assert [type(one) for one in made_after] == [Score]
    for stop in (KeyboardInterrupt, SystemExit):
        monkeypatch.setattr(shard.learner, "predict", lambda *_, stop=stop: (_ for _ in ()).throw(stop))
        with pytest.raises(stop):
            step(shard, structs.replace(event(str(stop), NOW_MS + 102, offset=102), features=(1.0,)))


@pytest.mark.parametrize(("raised", "expected"), [(Panic, InvariantError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_a_panic_at_what_was_learned_before_says_so(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], expected: type[BaseException]
) -> None:
    """It ended the worker without a word of what to do; a person's stop is no fault of the model."""
    here = Shard(chosen("learns_badly"), 0)
    fold(here, *pairs(20))

    def learn_one(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(poisonous.Poisonous, "learn_one", learn_one)  # of the copy that it goes back to
    with pytest.raises(expected) as told:
        fold(here, *pairs(40, [30])[23:])
    assert expected is KeyboardInterrupt or "Mend the model" in str(told.value)
