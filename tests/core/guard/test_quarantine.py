"""The learning guard: labels that contradict the model are found, held back, and learned or dropped once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import pytest
from msgspec import structs

from driftline.core.alert.suspect import Burst, suspect_sign
from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.guard.suspicion import BEGIN, BLOCK, Suspicion, code_of
from driftline.core.output import Alert, ModelVersion, Outcome, Output, Prediction, Rejected, Unserved
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import CommandName, Control, Record, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.small import NOW_MS, event, fold, label, small, source

HOLD: dict[str, Any] = {"quarantine": {"action": "hold", "wait": "1d"}}
CLEAN, BURST = BEGIN + 4 * BLOCK, 400  # pairs before the burst, and of it
TWO = (False, True)


def pairs(count: int, *, flipped: bool = False, first: int = 0) -> Iterator[Record]:
    """Events that the model predicts well, with their labels, one pair a second."""
    rng = Random(first)
    for number in range(first, first + count):
        x = rng.gauss(0, 1)
        truth = (x > 0) != (rng.random() < 0.05)
        at_ms = NOW_MS + 1_000 * number
        yield event(number, at_ms, x, offset=number)
        yield label(number, truth != (flipped and rng.random() < 0.6), at_ms, offset=number)


def control(command: CommandName, offset: int = 0, why: str = "") -> Record:
    return Control(source("p.control", offset), 0, command, by="ann", why=why)


@cache
def _trained(kind: str) -> bytes:
    here = Shard(pipeline(kind), 0)
    fold(here, *pairs(CLEAN))
    return dump(here)


def pipeline(kind: str = "hold") -> Pipeline:
    learning: dict[str, Any] = {
        "hold": HOLD,
        "learn": {"quarantine": {"action": "hold", "wait": "1d", "then": "learn"}},
        "small": {"quarantine": {"action": "hold", "wait": "1d", "max": 150}},
        "tiny": {"quarantine": {"action": "hold", "wait": "1d", "max": 10}},
        "alert": {"quarantine": "alert"},
        "none": {"quarantine": "none"},
        "correct": HOLD,
    }[kind]
    changes: dict[str, Any] = {"label": {"second": "correct", "retract": True}} if kind == "correct" else {}
    return small(learning=learning, drift={"error": []}, **changes)


def shard(kind: str = "hold") -> Shard:
    """One whose model has learned `CLEAN` pairs."""
    return load(pipeline(kind), 0, _trained(kind))


def alerts(outputs: list[Output]) -> list[Alert]:
    return [one for one in outputs if isinstance(one, Alert) and one.kind == "quarantine"]


def burst(here: Shard, count: int = BURST) -> list[Output]:
    return fold(here, *pairs(count, flipped=True, first=CLEAN))


def accounted(here: Shard) -> None:
    """Every joined pair is in exactly one place."""
    count = Counter(here.counts)
    still = len(here.quarantine.held)
    gone = count["quarantine_dropped"] + count["quarantine_released"] + count["quarantine_withdrawn"]
    assert count["quarantine_held"] == gone + still
    fates = count["learned"] - count["quarantine_undone"] + count["quarantine_dropped"] + still
    assert fates + count["quarantine_withdrawn"] + count["unlearned"] == count["joined"] + count["corrected"]
    if here.learner.generation < 5:
        assert here.learner.known == count["learned"] - count["quarantine_undone"]


# -- the test


def fed(rate: float, count: int, seed: int, test: Suspicion, odds: float = 1e7) -> int | None:
    """At which of some labels they become suspect, where a share of them contradicts."""
    rng = Random(seed)
    for number in range(count):
        if test.take(6 + (rng.random() < rate), 0, TWO, odds) == "opened":
            return number
    return None


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_are_suspect_within_300(seed: int) -> None:
    test = Suspicion()
    assert fed(0.15, 10_000, seed, test) is None
    found = fed(0.15 * 0.7 + 0.85 * 0.3, 2_000, seed + 100, test)
    assert found is not None
    assert found < 300
    assert abs(test.number - test.first - found) < 150


def test_confidence_that_changes_its_meaning_is_no_burst() -> None:
    """After a split of a tree, or of predictions that were stale: sure ones are wrong more often, unsure ones less."""
    rng, test = Random(2), Suspicion()

    def feed(sure: float, unsure: float, count: int) -> list[str]:
        found = []
        for _ in range(count):
            cell, rate = (3, sure) if rng.random() < 0.5 else (11, unsure)
            found.append(test.take(2 * cell + (rng.random() < rate), 0, TWO, 1e7))
        return [one for one in found if one]

    assert feed(0.02, 0.3, 10_000) == []
    assert feed(0.2, 0.1, 2_000) == []
    assert max(test.bets) > 1.0
    assert feed(0.4, 0.45, 500) == ["opened"]


def test_a_test_from_before_all_labels_were_tested_goes_on() -> None:
    test = Suspicion()
    fed(0.1, 10_000, 1, test)
    reduced: Any = test.__reduce_ex__(2)
    now = reduced[2][1]
    then = {name: part for name, part in now.items() if name not in ("all_gains", "all_bets")}
    old = Suspicion.__new__(Suspicion)
    old.__setstate__((None, then))
    assert (old.number, old.reference) == (test.number, test.reference)
    assert fed(0.1, 2 * BLOCK, 2, old) is None
    assert len(old.all_gains) == 2
    assert fed(0.5, 300, 3, old) is not None


def test_labels_that_contradict_more_at_hardly_any_odds_are_soon_suspect() -> None:
    assert fed(0.15, 20_000, 1, Suspicion(), odds=3.0) is not None


def test_nothing_is_suspect_before_the_reference_is_known() -> None:
    assert fed(0.5, BEGIN, 1, Suspicion()) is None


def test_a_slow_change_moves_the_reference() -> None:
    test, rng = Suspicion(), Random(3)
    for number in range(200_000):
        assert test.take(6 + (rng.random() < 0.05 + 0.05 * number / 200_000), 0, TWO, 1e7) == ""


def test_a_burst_that_ends_is_calm_again_and_one_that_lasts_is_believed() -> None:
    test = Suspicion()
    fed(0.1, 10_000, 1, test)
    assert fed(0.5, 300, 2, test) is not None
    turns = [test.take(6 + (number % 10 == 0), 0, TWO, 1e7) for number in range(200)]
    assert turns.count("calm") == 1
    assert not test.suspect
    assert fed(0.5, 3_000, 3, test) is not None
    for number in range(3_000):
        test.take(6 + number % 2, 0, TWO, 1e7)
    test.believe(TWO)
    assert fed(0.5, 20_000, 4, test) is None


def test_another_model_has_a_reference_of_its_own() -> None:
    test = Suspicion()
    fed(0.1, 10_000, 1, test)
    assert test.take(7, 3, TWO, 1e7) == ""
    assert not test.rates
    assert test.take(7, 2, TWO, 1e7) == ""
    assert sum(test.latest) == 1
    for number in range(2 * BLOCK + BEGIN):
        test.take(6 + number % 2, 3, TWO, 1e7)
    assert test.rates[3] > 0.5


@pytest.mark.parametrize(
    ("prediction", "truth", "code"),
    [
        (Prediction(True, None, 0.9999), True, 30),
        (Prediction(True, None, 0.9999), False, 31),
        (Prediction(False, None, 0.0), True, 1),
        (Prediction(True, None, 0.45), True, 2 * 7 + 1),  # below a half, whatever the pipeline's threshold
        (Prediction("a", {"a": 0.75, "b": 0.25}), "a", 2 * 10),
        (Prediction("a", {"a": 0.75, "b": 0.25}), "b", 2 * 10 + 1),
        (Prediction("a"), "b", 1),
        (Prediction(), "b", -1),
    ],
)  # fmt: skip
def test_the_cell_of_a_pair(prediction: Prediction, truth: Any, code: int) -> None:
    assert code_of(prediction, (), truth) == code
    served = Prediction(False, None, 0.5)
    assert code_of(served, (Unserved("model", prediction, ModelVersion(0, 0)),), truth) == code


# -- holding


def test_a_burst_is_held_from_its_beginning() -> None:
    here, clean = shard(), shard()
    before = digest_of(here.learner.model)
    made = burst(here)
    (opened,) = alerts(made)
    assert (opened.state, opened.severity) == ("opened", "critical")
    assert "contradict its predictions" in opened.sentence
    assert "They are not learned until" in opened.sentence
    assert len(here.quarantine.held) > BURST - 30
    accounted(here)
    known = here.learner.known
    fold(clean, *list(pairs(BURST, flipped=True, first=CLEAN))[: 2 * (known - clean.learner.known)])
    assert clean.learner.known == known
    assert digest_of(here.learner.model) == digest_of(clean.learner.model)  # as if the burst had not come
    assert digest_of(here.learner.model) != before or known == CLEAN
    held = [one for one in made if isinstance(one, Outcome) and one.detail is not None]
    assert {one.detail for one in held} == {"held back from learning: the labels contradict the model"}


@pytest.mark.parametrize(("command", "decision"), [("release", "release"), ("drop", "drop")])
def test_a_person_decides_once(command: CommandName, decision: str) -> None:
    here = shard()
    burst(here)
    held = list(here.quarantine.held)
    learned = here.counts["learned"]
    (said,) = alerts(fold(here, control(command, why="the feed was\nmended")))
    assert said.state == "resolved"
    assert said.evidence["why"] == "the feed was\\u000amended"
    assert " (the feed was\\u000amended)." in said.sentence
    assert said.evidence["decision"] == decision
    assert said.evidence["pairs"] == len(held)
    assert "A command from ann" in said.sentence
    assert not here.quarantine.held
    assert here.counts["learned"] - learned == (len(held) if command == "release" else 0)
    accounted(here)
    if command == "release":  # all that came, in order: as if nothing had been held
        plain = load(pipeline("none"), 0, _trained("none"))
        burst(plain)
        assert digest_of(here.learner.model) == digest_of(plain.learner.model)
        (rejected,) = [one for one in fold(here, control(command, 1)) if isinstance(one, Rejected)]
        assert rejected.reason == "quarantine_empty"


def test_after_a_drop_what_is_still_suspect_is_held_and_later_pairs_are_learned_again() -> None:
    here = shard()
    burst(here)
    fold(here, control("drop"), *pairs(20, flipped=True, first=CLEAN + BURST))
    assert len(here.quarantine.held) == 20
    learned = here.counts["learned"]
    made = fold(here, *pairs(200, first=CLEAN + BURST + 20))
    assert [one.evidence["over"] for one in alerts(made)] == [True]
    assert here.counts["learned"] > learned
    accounted(here)


@pytest.mark.parametrize(("kind", "fate"), [("hold", "quarantine_dropped"), ("learn", "quarantine_released")])
def test_the_deadline_decides_also_on_an_idle_input(kind: str, fate: str) -> None:
    here = shard(kind)
    burst(here)
    count, deadline_ms = len(here.quarantine.held), here.quarantine.deadline_ms
    assert deadline_ms is not None
    assert here.next_deadline_ms is not None
    assert here.next_deadline_ms <= deadline_ms
    fold(here, Tick(0, 1, deadline_ms))
    assert len(here.quarantine.held) == count
    (said,) = alerts(fold(here, Tick(0, 2, deadline_ms + 1)))
    assert "The pipeline file" in said.sentence
    assert "because no one decided in time" in said.sentence
    assert here.counts[fate] == count
    assert not here.quarantine.held
    assert not here.quarantine.test.suspect
    accounted(here)
    learned = here.counts["learned"]
    fold(here, *pairs(10, flipped=True, first=CLEAN + 100_000))
    assert here.counts["learned"] == learned + 10  # how things are
    accounted(here)


def test_at_the_bound_all_are_decided() -> None:
    here = shard("small")
    made = burst(here)
    assert [one.evidence.get("why") for one in alerts(made)] == [None, "150 were held"]
    assert here.counts["quarantine_dropped"] == 150
    assert not here.quarantine.held
    accounted(here)


def test_a_burst_beyond_the_bound_is_decided_as_soon_as_it_is_found() -> None:
    here = shard("tiny")
    (decided,) = alerts(burst(here))
    assert decided.evidence["why"] == "10 were held"
    assert here.counts["quarantine_dropped"] == here.counts["quarantine_held"] > 10
    assert not here.quarantine.held
    accounted(here)


def test_a_correction_takes_the_place_of_what_is_held() -> None:
    here = shard("correct")
    made = burst(here)
    pair = here.quarantine.held[-1]
    count, at_ms = len(here.quarantine.held), NOW_MS + 1_000 * (CLEAN + BURST)
    assert isinstance(made[-1], Outcome)
    fold(here, label(pair.event_id, not pair.label, at_ms, offset=10_000))
    assert len(here.quarantine.held) == count
    assert here.quarantine.held[-1].label == (not pair.label)
    fold(here, label(pair.event_id, None, at_ms, offset=10_001))
    assert len(here.quarantine.held) == count - 1
    assert here.counts["quarantine_withdrawn"] == 2
    accounted(here)


def test_a_restart_changes_nothing() -> None:
    here = shard()
    records = list(pairs(BURST, flipped=True, first=CLEAN))
    for cut in (100, 300, 700):
        there = shard()
        fold(there, *records[:cut])
        there = load(pipeline(), 0, dump(there))
        fold(there, *records[cut:], control("release"))
        if cut == 100:
            fold(here, *records, control("release"))
        assert digest_of(dump_of(there)) == digest_of(dump_of(here))


def dump_of(here: Shard) -> Any:
    return here.quarantine, here.learner.model, here.counts, here.episodes


def test_frozen_learning_holds_nothing_and_a_release_must_wait() -> None:
    here = shard()
    burst(here)
    fold(here, control("freeze"))
    held = len(here.quarantine.held)
    fold(here, *pairs(10, flipped=True, first=CLEAN + BURST))
    assert len(here.quarantine.held) == held
    assert here.counts["unlearned"] == 10
    (rejected,) = [one for one in fold(here, control("release", 1)) if isinstance(one, Rejected)]
    assert rejected.reason == "quarantine_frozen"
    assert len(here.quarantine.held) == held
    accounted(here)


# -- the dry run, and freeze_on


def test_the_dry_run_alerts_and_learns_all() -> None:
    here, plain = shard("alert"), load(pipeline("none"), 0, _trained("none"))
    (opened,) = alerts(burst(here))
    assert opened.severity == "warning"
    assert "They are learned anyway." in opened.sentence
    assert alerts(burst(plain)) == []
    assert digest_of(here.learner.model) == digest_of(plain.learner.model)
    assert here.learner.generation == 0
    assert not here.quarantine.held
    assert here.quarantine.older is None
    assert small().quarantine is not None
    assert small().resolved().get("learning") is None


def test_one_source_of_wrong_labels_is_named() -> None:
    here, rng = shard("alert"), Random(5)
    made: list[Output] = []
    for number in range(CLEAN, CLEAN + BURST):
        x, word = rng.gauss(0, 1), rng.choice(("a", "b", "c"))
        at_ms = NOW_MS + 1_000 * number
        truth = (x > 0) != (word == "b")
        one = structs.replace(event(number, at_ms, offset=number), features=(x, word))
        made += fold(here, one, label(number, truth, at_ms, offset=number))
    (opened,) = alerts(made)
    assert opened.evidence["where"] == "word = b"
    assert "comes from word = b" in opened.sentence


UNKNOWN = "Either these labels are wrong or the world has changed; nothing shows yet which."


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({}, UNKNOWN),
        ({"where": "word = b", "share": 0.9}, UNKNOWN),
        ({"sure": 0.5, "unsure": 0.55}, "Evidence for faulty labels: confident predictions"),
        ({"sure": 0.5, "unsure": 0.55, "where": "word = b", "share": 0.9}, UNKNOWN),
        ({"sure": 0.18, "unsure": 0.31}, UNKNOWN),
        ({"sure": 0.1, "unsure": 0.4}, "Evidence for a real change: mostly unsure predictions"),
        ({"inputs": ("features",)}, "Evidence for a real change: inputs changed"),
        ({"where": "labels of partition 2", "share": 0.9}, "Evidence for faulty labels: 90.0% of the surplus comes"),
    ],
)
def test_only_what_tells_faulty_labels_from_a_change_is_evidence(changes: dict[str, Any], evidence: str) -> None:
    plain = Burst(62, 24, 10.0, None, None, (), "", 0.0, 0, 0, 0, over=False)
    sentence = suspect_sign(small(), structs.replace(plain, **changes)).sentence
    assert f"They are learned anyway. {evidence}" in sentence
    assert ("; 90.0% of the surplus comes from word = b. They" in sentence) == ("word" in changes.get("where", ""))


def test_an_alert_may_stop_learning_while_it_is_open() -> None:
    here = load(small(learning={"quarantine": "alert", "freeze_on": ["quarantine"]}, drift={"error": []}), 0,
                _trained("alert"))  # fmt: skip
    burst(here)
    assert bool(here.stopped)
    assert here.counts["unlearned"] > BURST - 200
    unlearned, at_ms = here.counts["unlearned"], NOW_MS + 1_000 * (CLEAN + BURST + 20_000)
    fold(here, *pairs(300, first=CLEAN + BURST))
    fold(here, event("x", at_ms, offset=90_000), label("x", True, at_ms, offset=90_000))
    assert not bool(here.stopped)  # an hour after the last suspect label
    learned = here.counts["learned"]
    fold(here, *pairs(10, first=CLEAN + 50_000))
    assert here.counts["learned"] == learned + 10
    assert here.counts["unlearned"] >= unlearned


def test_a_file_that_holds_no_more_decides_at_the_deadline() -> None:
    here = shard()
    burst(here)
    held, deadline_ms = len(here.quarantine.held), here.quarantine.deadline_ms or 0
    after = load(pipeline("none"), 0, dump(here))
    adopt(after, pipeline())
    fold(after, *pairs(10, first=CLEAN + BURST))
    assert len(after.quarantine.held) == held
    fold(after, Tick(0, 2, deadline_ms + 1))
    assert after.counts["quarantine_dropped"] == held
    accounted(after)


# -- the file


@pytest.mark.parametrize(
    ("task", "learning", "why"),
    [
        ("regression", {"quarantine": "hold"}, "is for classes; write none for task regression"),
        ("binary", {"quarantine": {"then": "learn"}}, "is for action: hold"),
        ("binary", {"freeze_on": ["performance", "performance"]}, "is listed twice"),
        ("binary", {"freeze_on": "model_change"}, "is over as soon as it is reported"),
        ("binary", {**HOLD, "freeze_on": "quarantine"}, "quarantine holds them already"),
        ("binary", {"freeze_on": ["weather"]}, "weather"),
    ],
)
def test_a_section_that_cannot_be_meant(task: str, learning: dict[str, Any], why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        small(task, learning=learning)


@pytest.mark.parametrize("learning", [HOLD, {"freeze_on": ["data_drift"]}, {"quarantine": "none"}])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_section_is_written_as_it_was_read(task: str, learning: dict[str, Any]) -> None:
    if task == "regression" and learning == HOLD:
        learning = {"freeze_on": "data_drift"}
    made = small(task, learning=learning)
    assert parse_pipeline(made.resolved()) == made
