"""Decisions under a budget in the fold: served, kept for the label, published, and the same after a restart."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest
from msgspec import structs

from driftline.backtest.tally import Tally
from driftline.codec.encode import Encoder
from driftline.codec.outcome import OutcomeReader
from driftline.core.error import PipelineError
from driftline.core.output import Outcome, Output, Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.small import NOW_MS, event, label, small

BUDGET = {"budget": 5, "per": "10s"}


def folded(shard: Shard, count: int, first: int = 0, seed: int = 3) -> list[Output]:
    """Events, 100 ms apart, with their labels at once."""
    rng, made = Random(f"{seed} {first}"), list[Output]()
    for number in range(first, first + count):
        time_ms, x = NOW_MS + 100 * number, rng.random()
        made += step(shard, event(number, x=x, time_ms=time_ms, word=shard.pipeline.task != "anomaly"))
        if shard.pipeline.label is not None:
            made += step(shard, label(number, x > 0.6, time_ms=time_ms))
    return made


def alarms(made: list[Output]) -> dict[int, int]:
    """By period."""
    found: dict[int, int] = {}
    for one in made:
        if isinstance(one, Score):
            assert one.decision is not None
            found[one.time_ms // 10_000] = found.get(one.time_ms // 10_000, 0) + one.decision
    return found


def test_a_period_has_as_many_alarms_as_its_budget() -> None:
    shard = Shard(small(decision=BUDGET), 0)
    made = folded(shard, 1_000)
    counts = list(alarms(made).values())
    assert max(counts) == 5
    assert sum(counts[1:-1]) >= 4.5 * len(counts[1:-1])
    assert shard.summary()["budget"]["most"] == 5


def test_periods_begin_at_midnight_of_the_zone() -> None:
    """Half an hour east of UTC, hours begin at half past."""
    decision = {"budget": 5, "per": "1h", "zone": "+00:30"}
    shard, rng, times = Shard(small(decision=decision), 0), Random(4), list[int]()
    for number in range(1_200):
        time_ms, x = NOW_MS + 30_000 * number, rng.random()
        made = step(shard, event(number, x=x, time_ms=time_ms)) + step(shard, label(number, x > 0.6, time_ms=time_ms))
        times += [one.time_ms for one in made if isinstance(one, Score) and one.decision]
    own, utc = (Counter((time_ms + east_ms) // 3_600_000 for time_ms in times) for east_ms in (1_800_000, 0))
    assert max(own.values()) == 5
    assert max(utc.values()) > 5
    assert Shard(small(decision={**decision, "zone": "-00:30"}), 0).terms.zone_ms == -1_800_000


def test_a_zone_is_written_only_where_there_is_one() -> None:
    written = small(decision=BUDGET).resolved()["decision"]
    assert "zone" not in written
    zoned = small(decision={**BUDGET, "zone": "+05:30"})
    assert zoned.resolved()["decision"] == {**written, "zone": "+05:30"}
    assert parse_pipeline(zoned.resolved()) == zoned


@pytest.mark.parametrize("task", ["binary", "anomaly"])
def test_what_was_decided_is_what_labels_are_held_against(task: str) -> None:
    pipeline = small(task, decision=BUDGET)
    shard, encoder, reader = Shard(pipeline, 0), Encoder(pipeline, 0), OutcomeReader(pipeline)
    made = folded(shard, 600)
    decided = {one.event_id: one.decision for one in made if isinstance(one, Score)}
    outcomes = [one for one in made if isinstance(one, Outcome) and one.kind == "joined"]
    assert len(outcomes) == 600
    tally = Tally(pipeline, None)
    for one in outcomes:
        written = orjson.loads(encoder.encode(one).value or b"")
        assert written["decision"] is decided[one.event_id]
        read = reader.read(written)
        assert read is not None
        assert read.prediction is not None
        assert read.prediction.label is decided[one.event_id]
        assert read.prediction.value == (one.prediction.value if one.prediction else None)
        tally.add([read])
    column = dict(zip(tally.measure.sums, tally.total.sums[0], strict=True))
    assert column["tp"] + column["fp"] == sum(map(bool, decided.values()))
    score = next(one for one in made if isinstance(one, Score) and one.decision)
    shown = orjson.loads(encoder.encode(score).value or b"")
    assert shown["budget"]["most"] == 5
    assert shown["prediction"] == (True if task == "binary" else score.prediction.value)


def test_a_restart_changes_no_decision() -> None:
    pipeline = small(decision=BUDGET)
    whole, first = Shard(pipeline, 0), Shard(pipeline, 0)
    wanted = folded(whole, 300) + folded(whole, 300, 300)
    made = folded(first, 300)
    made += folded(load(pipeline, 0, dump(first)), 300, 300)
    assert made == wanted


def test_shards_share_a_budget() -> None:
    pipeline = small(decision={"budget": 5, "per": "1d"}).model_copy(update={"shards": 3})
    assert [Shard(pipeline, number).alarms_max for number in range(3)] == [2, 2, 1]


def under(before: Pipeline, after: Pipeline, shard: Shard) -> Shard:
    found = load(before, 0, dump(shard))
    moved = Shard(after, 0)
    for name in ("learner", "pending", "budget", "evaluation", "kept", "watermark_ms"):
        setattr(moved, name, getattr(found, name))
    moved.learner.attach(after)
    adopt(moved, before)
    return moved


def test_another_budget_goes_on_and_another_period_begins_anew() -> None:
    before = small(decision=BUDGET)
    shard = Shard(before, 0)
    folded(shard, 500)
    assert under(before, small(decision={**BUDGET, "budget": 9}), shard).budget.past
    assert not under(before, small(decision={"budget": 5, "per": "1m"}), shard).budget.past
    assert not under(before, small(decision={**BUDGET, "zone": "+01:00"}), shard).budget.past
    assert not under(before, small(decision={"threshold": 0.5}), shard).budget.past


def test_what_is_withheld_uses_nothing_up() -> None:
    guard = {"untrained": {"labels_min": 200, "action": "withhold"}}
    shard = Shard(small(decision=BUDGET, guard=guard), 0)
    made = [one for one in folded(shard, 150) if isinstance(one, Score)]
    assert {one.decision for one in made} == {None}
    assert shard.budget.used == 0


def test_a_held_prediction_is_decided_when_it_is_served() -> None:
    guard: dict[str, Any] = {
        "range": {"max": 0.0001, "action": "hold"}, "hold": {"wait": "1s", "then": "fallback"},
        "fallback": [{"value": 0.00005}],
    }  # fmt: skip
    shard = Shard(small(decision={"budget": 5, "per": "1d"}, guard=guard), 0)
    made = folded(shard, 60)
    held = [one for one in made if isinstance(one, Score)]
    assert {one.decision for one in held} == {None}
    served = [one for one in made if type(one).__name__ == "Decided"]
    assert served
    for one in served:
        fields = structs.asdict(one)
        assert fields["decision"] is fields["prediction"].label
    assert shard.budget.used == sum(bool(structs.asdict(one)["decision"]) for one in served)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"decision": {"budget": 5, "threshold": 0.5}}, "needs one of the two"),
        ({"decision": {"per": "1d"}}, "needs one of the two"),
        ({"decision": {"threshold": 0.5, "per": "1d"}}, "is the period of decision.budget"),
        ({"decision": {"threshold": 0.5, "zone": "+01:00"}}, "is where the periods of decision.budget begin"),
        ({"decision": {"budget": 5, "zone": "Europe/Oslo"}}, "write UTC, or an offset"),
        ({"decision": {"budget": 2}, "shards": 3}, "is shared by the shards"),
        (
            {"decision": {"budget": 2}, "guard": {"share": {"positive_max": 0.1, "action": "flag"}}},
            "is not needed: decision.budget",
        ),
        ({"decision": {"budget": 0}}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be(sections: dict[str, Any], why: str) -> None:
    with pytest.raises(PipelineError, match=why):
        small(**sections)


def test_it_is_written_as_it_was_declared() -> None:
    for decision in ({"threshold": 0.5}, {"budget": 5, "per": "1d"}):
        pipeline = small(decision=decision)
        assert pipeline.resolved()["decision"] == decision
        assert parse_pipeline(pipeline.resolved()) == pipeline
