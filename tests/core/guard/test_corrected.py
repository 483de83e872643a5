"""Labels that are corrected after a prediction was decided: they are taken back as they were put in, whatever that was.

Every figure is recounted from the outcomes: what each label was held against stands in there.
"""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.core.label.life import State
from driftline.core.output import Decided, Outcome, Output, Prediction
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Record, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.folding import step

START_MS = 18_000 * 86_400_000
RULES: list[dict[str, Any]] = [
    {"second": "correct", "retract": True},
    {"missing": {"assume": 3}, "late": "correct", "second": "correct", "retract": True},
    {"second": "correct", "correct_max": 2},
    {"labels_max": 2},
    {"missing": {"assume": 3}},
]


def orders(label: dict[str, Any], **changes: Any) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": "regression",
            "event": {"id": "id", "features": {"x": "number"}},
            "label": {"id": "id", "value": "y", "wait": "20s", **label},
            "model": "StandardScaler() | LinearRegression()",
            "metrics": ["MAE"],
            "kpi": {"waste": {"unit": "EUR", "costs": {"over": 2, "under": 5}}},
            "guard": {
                "range": {"min": 0, "max": 50, "action": "hold"},
                "step": {"difference_max": 20, "action": "clip"},
                "hold": {"wait": "10s", "then": "fallback"},
                "fallback": [{"value": 7}],
            },
            "drift": "none",
            **changes,
        }
    )


def source(topic: str, offset: int, time_ms: int, value: bytes | None = None) -> Source:
    return Source(f"p.{topic}", 0, offset, time_ms, b"k", value)


def says_so(shard: Shard, prediction: Prediction) -> None:
    """The model says this from now on."""
    shard.learner.predict = lambda _: prediction


def records(draw: random.Random, pipeline: Pipeline) -> list[tuple[float, Record]]:
    """Events, decisions about them, and what comes of their labels, each with what the model says then."""
    decode = Decoder(pipeline).control
    found: list[tuple[int, float, Record]] = []
    for number in range(60):
        time_ms = START_MS + number * 700
        says = draw.choice([10.0, 30.0, 45.0, 80.0, 99.0, -20.0])
        event = Event(source("events", number, time_ms), time_ms, time_ms, f"e{number}", (1.0,))
        found.append((time_ms, says, event))
        if draw.random() < 0.6:
            at_ms = time_ms + draw.randrange(1, 15_000)
            value = {"decision": draw.choice(["approve", "edit", "refuse"]), "event_id": f"e{number}", "value": 33}
            if value["decision"] != "edit":
                del value["value"]
            written = orjson.dumps({"command": "review", **value})
            found.append((at_ms, 0.0, decode(source("control", number, at_ms, written))))
        for again in range(draw.choice([0, 1, 1, 2, 3])):
            at_ms = time_ms + draw.randrange(1, 40_000)
            truth = draw.choice([0.0, 3.0, 20.0, 60.0, None])
            one = Label(source("labels", number * 10 + again, at_ms), at_ms, at_ms, f"e{number}", truth)
            found.append((at_ms, 0.0, one))
    end_ms = START_MS + 200_000
    found.append((end_ms, 0.0, Tick(0, 1, end_ms)))
    return [(says, record) for _, says, record in sorted(found, key=lambda one: one[0])]


def recounted(outputs: list[Output]) -> tuple[list[float], int]:
    """Errors of all labels that hold in the end, and what they cost, in millionths."""
    held: dict[Any, list[tuple[float, int]]] = {}
    served: dict[Any, Prediction] = {}
    judged: dict[Any, Prediction] = {}
    for made in outputs:
        if isinstance(made, Decided):
            served[made.event_id] = made.prediction
        if not isinstance(made, Outcome) or made.prediction is None:
            continue
        if made.kind in ("joined", "assumed") and made.event_id not in judged:
            judged[made.event_id] = served.get(made.event_id, made.prediction)
            assert made.prediction == judged[made.event_id]
        if made.kind in ("corrected", "retracted"):
            assert made.prediction == judged[made.event_id]
        if made.kind in ("corrected", "retracted"):
            held[made.event_id].clear()
        if made.label is not None and made.kind in ("joined", "assumed", "corrected"):
            value = made.prediction.value
            error = 0.0 if value is None else value - float(made.label)
            cost = round((2 * error if error > 0 else -5 * error) * 1e6)
            assert made.priced[0].cost == cost
            held.setdefault(made.event_id, []).append((-1.0 if value is None else abs(error), cost))
    every = [one for labels in held.values() for one in labels]
    return [error for error, _ in every if error >= 0], sum(cost for _, cost in every)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_the_labels_that_hold(rules: dict[str, Any], seed: int) -> None:
    draw, pipeline = random.Random(seed), orders(rules)
    shard = Shard(pipeline, 0)
    outputs: list[Output] = []
    for says, record in records(draw, pipeline):
        says_so(shard, Prediction(value=says))
        outputs += step(shard, record)
        if draw.random() < 0.1:
            shard = load(pipeline, 0, dump(shard))
        errors, cost = recounted(outputs)
        found = shard.evaluation.values()
        assert found["MAE"] == (pytest.approx(sum(errors) / len(errors), abs=1e-9) if errors else None)
        total = shard.kpis.each["waste"].total
        assert total.known_sum()[1] + sum(cell[1] for cell in total.assumed.values()) == cost
    assert any(isinstance(made, Decided) for made in outputs)
    assert shard.kept.decided == {}
    assert shard.kpis.each["waste"].total.waiting == [0, 0, 0, 0]


def frauds(threshold: float, **changes: Any) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": "binary",
            "event": {"id": "id", "features": {"x": "number"}},
            "label": {"id": "id", "value": "y", "wait": "20s", "second": "correct"},
            "model": "StandardScaler() | LogisticRegression()",
            "metrics": ["Accuracy"],
            "decision": {"threshold": threshold},
            "kpi": {"loss": {"unit": "EUR", "costs": {"false_negative": 100, "false_positive": 5}}},
            "guard": {"range": {"max": 0.6, "action": "hold"}, "hold": {"wait": "10s"}},
            "drift": "none",
            **changes,
        }
    )


def decided(shard: Shard, says: float = 0.7) -> None:
    """An event is held, and approved."""
    shard.learner.predict = lambda _: Prediction(says >= 0.5, {False: 1 - says, True: says}, says)
    step(shard, Event(source("events", 0, START_MS), START_MS, START_MS, "e", (1.0,)))
    written = orjson.dumps({"command": "review", "decision": "approve", "event_id": "e"})
    step(shard, Decoder(shard.pipeline).control(source("control", 0, START_MS, written)))


def labelled(shard: Shard, offset: int, value: bool) -> Outcome:
    at_ms = START_MS + 1 + offset
    made = step(shard, Label(source("labels", offset, at_ms), at_ms, at_ms, "e", value))[0]
    assert isinstance(made, Outcome)
    return made


@pytest.mark.parametrize("deploy", ["before the label", "before the correction"])
def test_a_decision_stands_whatever_the_threshold_is_later(deploy: str) -> None:
    before, after = frauds(0.5), frauds(0.9)
    shard = Shard(before, 0)
    decided(shard)
    if deploy == "before the label":
        shard = load(after, 0, dump(shard))
        adopt(shard, before)
    assert labelled(shard, 0, True).priced[0].kind == "true_positive"
    if deploy == "before the correction":
        shard = load(after, 0, dump(shard))
        adopt(shard, before)
    assert labelled(shard, 1, False).priced[0].kind == "false_positive"
    assert shard.kpis.each["loss"].total.known == {"false_positive": [1, 5_000_000, 0]}
    assert shard.evaluation.values()["Accuracy"] == 0.0


def test_what_is_served_late_agrees_with_the_threshold_of_that_time() -> None:
    before, after = frauds(0.5), frauds(0.9)
    shard = Shard(before, 0)
    shard.learner.predict = lambda _: Prediction(True, {False: 0.3, True: 0.7}, 0.7)
    step(shard, Event(source("events", 0, START_MS), START_MS, START_MS, "e", (1.0,)))
    shard = load(after, 0, dump(shard))
    adopt(shard, before)
    written = orjson.dumps({"command": "review", "decision": "approve", "event_id": "e"})
    made = step(shard, Decoder(shard.pipeline).control(source("control", 0, START_MS, written)))[0]
    assert isinstance(made, Decided)
    assert (made.prediction.label, made.decision) == (False, False)


def test_a_decision_is_not_taken_for_one_of_a_later_event_of_the_same_id() -> None:
    pipeline = frauds(
        0.5, dedupe={"horizon": "1s"}, guard={"range": {"max": 0.6, "action": "hold"}, "hold": {"wait": "1h"}}
    )
    shard = Shard(pipeline, 0)
    decided_later = orjson.dumps({"command": "review", "decision": "approve", "event_id": "e"})
    for number, says in enumerate((0.7, 0.2)):
        at_ms = START_MS + number * 60_000
        says_so(shard, Prediction(says >= 0.5, {False: 1 - says, True: says}, says))
        step(shard, Event(source("events", number, at_ms), at_ms, at_ms, "e", (1.0,)))
    at_ms = START_MS + 60_001
    made = step(shard, Decoder(pipeline).control(source("control", 0, at_ms, decided_later)))[0]
    assert isinstance(made, Decided)
    joined = step(shard, Label(source("labels", 0, at_ms), at_ms, at_ms, "e", True))[0]
    assert isinstance(joined, Outcome)
    assert joined.prediction is not None
    assert joined.prediction.value == 0.2


def test_an_assumed_label_that_is_confirmed_and_then_corrected_counts_once() -> None:
    rules = {"missing": {"assume": 3}, "late": "correct", "second": "correct"}
    before = orders(rules)
    after = orders(rules, kpi={"waste": {"unit": "EUR", "costs": {"over": 1, "under": 1}}})
    shard = Shard(before, 0)
    shard.learner.predict = lambda _: Prediction(value=10.0)
    step(shard, Event(source("events", 0, START_MS), START_MS, START_MS, "e", (1.0,)))
    step(shard, Tick(0, 1, START_MS + 30_000))
    found = shard.pending.look("e", shard.now_ms)
    assert found is not None
    assert found.state is State.ASSUMED
    shard = load(after, 0, dump(shard))
    adopt(shard, before)
    for offset, truth in enumerate((3.0, 8.0)):
        at_ms = START_MS + 31_000 + offset
        step(shard, Label(source("labels", offset, at_ms), at_ms, at_ms, "e", truth))
    assert shard.kpis.each["waste"].total.known == {"over": [1, 2_000_000, 0]}
