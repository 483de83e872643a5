"""KPIs: what decisions cost and brought, recounted from the outputs by another way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.error import PipelineError
from driftline.core.label.life import State
from driftline.core.output import Alert, Outcome, Output, Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.folding import step

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
START_MS = 18_000 * DAY_MS
LOSS = {
    "unit": "EUR",
    "costs": {
        "false_negative": "amount",
        "false_positive": 5,
        "true_positive": {"field": "fee", "times": 0.5, "plus": 1},
    },
    "by": "country",
}

CONFIRMED = "the label arrived after the wait and is the one that was assumed"
NEVER = {"threshold": 1.0}  # nothing is decided as a fraud


def cards(
    kpi: dict[str, Any] | None = None, label: dict[str, Any] | None = None, context: bool = True, **changes: Any
) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "cards",
            "task": "binary",
            "event": {
                "id": "id",
                "features": {"amount": {"type": "number", "missing": 0}, "country": "string"},
                **({"context": {"fee": "number"}} if context else {}),
            },
            "label": {"id": "id", "value": "fraud", "wait": "2d", **(label or {})},
            "model": "Select('amount') | StandardScaler() | LogisticRegression()",
            "metric_by": {"segment": "country"},
            "kpi": {"fraud_loss": LOSS} if kpi is None else kpi,
            "drift": "none",
            **changes,
        }
    )


def source(topic: str, offset: int, time_ms: int) -> Source:
    return Source(topic, 0, offset, time_ms, b"k", b"v")


def event(
    number: int, time_ms: int, amount: float = 10.0, country: str = "FR", fee: float | None = 2.0, missing: int = 0
) -> Event:
    found = source("cards.events", number, time_ms)
    return Event(found, time_ms, time_ms, f"e{number}", (amount, country), missing=missing, context=(fee,))


def label(number: int, offset: int, time_ms: int, value: bool | None) -> Label:
    return Label(source("cards.labels", offset, time_ms), time_ms, time_ms, f"e{number}", value)


def records(seed: int, count: int = 300) -> Iterator[Event | Label]:
    """Payments an hour apart, most with labels, some of those wrong, corrected, retracted or late."""
    draw = random.Random(seed)
    found: list[tuple[int, int, Event | bool | None]] = []
    for number in range(count):
        time_ms = START_MS + number * HOUR_MS
        missing = draw.random() < 0.05
        amount = 0.0 if missing else draw.choice([-3.0, 12.5, 80.0, 310.25])
        fee = draw.choice([None, 1.1, 2.2])
        found.append((time_ms, 0, event(number, time_ms, amount, draw.choice("AB"), fee, missing=int(missing))))
        delay_ms = draw.choice([0, HOUR_MS, DAY_MS, 3 * DAY_MS])
        for _ in range(draw.choice([0, 1, 1, 1, 2, 3])):
            found.append((time_ms + delay_ms, number, draw.choice([True, False, False, None])))
            delay_ms += draw.choice([HOUR_MS, DAY_MS])
    found.sort(key=lambda one: (one[0], one[1]))
    offset = 0
    for time_ms, number, one in found:
        if isinstance(one, Event):
            yield one
        else:
            yield label(number, offset, time_ms, one)
            offset += 1


RULES: list[dict[str, Any]] = [
    {},
    {"missing": {"assume": False}},
    {"missing": {"assume": False}, "late": "correct", "second": "correct", "retract": True},
    {"labels_max": 3},
]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", [1, 2])
def test_totals_are_those_of_the_outcomes_and_of_what_waits(rules: dict[str, Any], seed: int) -> None:
    shard = Shard(cards(label=rules), 0)
    outputs: list[Output] = []
    for place, record in enumerate(records(seed)):
        outputs += step(shard, record)
        if place in (40, 300, 500):
            total = shard.kpis.summary()["fraud_loss"]["total"]
            known, assumed = recounted(outputs)
            assert {kind: one["events"] for kind, one in total["known"]["by_kind"].items()} == known[0]
            assert total["known"]["cost"] == pytest.approx(known[1], abs=1e-6)
            assert {kind: one["events"] for kind, one in total["assumed"]["by_kind"].items()} == assumed[0]
            assert total["assumed"]["cost"] == pytest.approx(assumed[1], abs=1e-6)
            waiting = len(shard.pending) - sum(_labelled(shard))
            assert total["waiting"]["events"] == waiting > 0


def _labelled(shard: Shard) -> Iterator[bool]:
    """Of each event that waits for more labels, whether it has one."""
    for event_id, _ in shard.pending.entries():
        found = shard.pending.look(event_id, shard.now_ms)
        yield found is not None and found.state is State.PARTLY


def recounted(outputs: list[Output]) -> tuple[tuple[dict[str, int], float], tuple[dict[str, int], float]]:
    """Kinds and cost of what is known and of what is assumed, from decisions and labels."""
    latest: dict[Any, tuple[str, str, float]] = {}
    several: list[tuple[str, str, float]] = []
    for made in outputs:
        if not isinstance(made, Outcome) or (made.event_time_ms is None and made.detail != CONFIRMED):
            continue
        if made.kind == "retracted" and made.prediction is not None:
            del latest[made.event_id]
        elif made.detail == CONFIRMED and made.event_id in latest:
            latest[made.event_id] = ("known", *latest[made.event_id][1:])
        elif made.kind in ("joined", "assumed", "corrected") and made.prediction is not None:
            found = ("assumed" if made.kind == "assumed" else "known", _kind(made), made.priced[0].cost / 1e6)
            if made.kind == "joined" and made.event_id in latest:
                several.append(found)
            else:
                latest[made.event_id] = found
    parts = [[one for one in (*latest.values(), *several) if one[0] == what] for what in ("known", "assumed")]
    known, assumed = ((dict(Counter(one[1] for one in part)), sum(one[2] for one in part)) for part in parts)
    return known, assumed


def _kind(made: Outcome) -> str:
    assert made.prediction is not None
    if made.label:
        return "true_positive" if made.prediction.label else "false_negative"
    return "false_positive" if made.prediction.label else "true_negative"


def test_an_event_costs_what_its_decision_does() -> None:
    shard = Shard(cards(), 0)
    step(shard, event(0, START_MS, amount=80.0))
    step(shard, event(1, START_MS, amount=80.0))
    (missed,) = step(shard, label(0, 0, START_MS + 1, True))
    (fine,) = step(shard, label(1, 1, START_MS + 1, False))
    assert isinstance(missed, Outcome)
    assert isinstance(fine, Outcome)
    assert (missed.priced[0].kind, missed.priced[0].cost) == ("false_negative", 80_000_000)
    assert (fine.priced[0].kind, fine.priced[0].cost) == ("true_negative", 0)
    part = shard.kpis.summary()["fraud_loss"]["by_segment"]["FR"]
    assert part["known"] == {
        "events": 2, "cost": 80.0, "value": 0.0, "total": 80.0,
        "by_kind": {
            "false_negative": {"events": 1, "cost": 80.0, "value": 0.0, "total": 80.0},
            "true_negative": {"events": 1, "cost": 0.0, "value": 0.0, "total": 0.0},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"amount": -3.0}, "amount is negative"),
        ({"missing": 1}, "amount is missing"),
        ({"amount": 1e305}, "the amount is too large"),
    ],
)
def test_amounts_that_say_nothing_are_counted_and_not_added(changed: dict[str, Any], why: str) -> None:
    shard = Shard(cards(), 0)
    step(shard, event(0, START_MS, **changed))
    step(shard, label(0, 0, START_MS + 1, True))
    total = shard.kpis.summary()["fraud_loss"]["total"]
    assert total["lacking"] == {why: 1}
    assert total["known"]["by_kind"]["false_negative"]["cost"] == 0


def test_what_waits_is_estimated_apart_by_the_models_probabilities() -> None:
    shard = Shard(cards(), 0)
    made = step(shard, event(0, START_MS, amount=80.0))[0]
    assert isinstance(made, Score)
    total = shard.kpis.summary()["fraud_loss"]["total"]
    assert total["known"]["events"] == 0
    assert made.prediction.value is not None
    assert total["waiting"]["total"] == pytest.approx(80.0 * made.prediction.value, abs=1e-6)
    step(shard, Tick(0, 1, START_MS + 3 * DAY_MS))
    total = shard.kpis.summary()["fraud_loss"]["total"]
    assert (total["waiting"]["events"], total["expired"]["events"]) == (0, 1)


def test_a_state_goes_on_from_its_bytes() -> None:
    pipeline = cards(label={"missing": {"assume": False}, "second": "correct", "retract": True})
    whole, halved = Shard(pipeline, 0), Shard(pipeline, 0)
    for place, record in enumerate(records(3)):
        if place == 200:
            halved = load(pipeline, 0, dump(halved))
        assert step(whole, record) == step(halved, record)
    assert digest_of(whole.kpis.each) == digest_of(halved.kpis.each)


def spans(shard: Shard, day: int, amounts: list[float], first: int) -> list[Alert]:
    """A day of missed frauds."""
    made: list[Output] = []
    for place, amount in enumerate(amounts):
        time_ms = START_MS + day * DAY_MS + place * HOUR_MS
        made += step(shard, event(first + place, time_ms, amount=amount))
        made += step(shard, label(first + place, first + place, time_ms + 1, True))
    made += step(shard, Tick(0, 1, START_MS + (day + 1) * DAY_MS))
    return [one for one in made if isinstance(one, Alert)]


def test_a_limit_alerts_at_once_and_a_target_when_the_day_is_over() -> None:
    shard = Shard(cards({"fraud_loss": {**LOSS, "target": 100, "limit": 200}}, decision=NEVER), 0)
    assert spans(shard, 0, [40.0, 50.0], 0) == []
    (missed,) = spans(shard, 1, [60.0, 60.0], 10)
    assert missed.kind == "kpi"
    assert missed.sentence == "The fraud loss of cards on 2019-04-15 came to 120 EUR, above its target of 100 EUR."
    (broken,) = spans(shard, 2, [150.0, 100.0], 20)
    assert (broken.severity, broken.state) == ("critical", "ongoing")
    assert broken.sentence == "The fraud loss of cards on 2019-04-16 is already 250 EUR, above its limit of 200 EUR."
    assert broken.episode == missed.episode


def test_an_episode_ends_with_two_days_within_the_limit_not_hours_after_the_first() -> None:
    shard, small = Shard(cards({"fraud_loss": {**LOSS, "limit": 200}}, decision=NEVER), 0), [1.0] * 23
    (opened,) = spans(shard, 0, [250.0, *small], 0)
    assert spans(shard, 1, small, 30) == []
    (again,) = spans(shard, 2, [250.0, *small], 60)
    assert (again.state, again.episode) == ("ongoing", opened.episode)
    assert spans(shard, 3, small, 90) == []
    (over,) = spans(shard, 4, small, 120)
    assert (over.state, over.time_ms) == ("resolved", START_MS + 5 * DAY_MS)


def test_a_value_is_judged_when_its_labels_are_in() -> None:
    won = {"unit": "EUR", "values": {"true_negative": 1}, "costs": {"false_negative": "amount"}, "limit": 0}
    shard = Shard(cards({"margin": won}, context=False, decision=NEVER), 0)
    spans(shard, 0, [5.0], 0)
    time_ms = START_MS + DAY_MS
    step(shard, event(10, time_ms, amount=40.0))
    step(shard, event(11, time_ms, amount=40.0))
    made = step(shard, label(10, 100, time_ms + 1, True)) + step(shard, Tick(0, 1, time_ms + DAY_MS))
    assert not [one for one in made if isinstance(one, Alert)]
    alerts = [one for one in step(shard, label(11, 101, time_ms + DAY_MS, False)) if isinstance(one, Alert)]
    assert [one.sentence for one in alerts] == [
        "The margin of cards on 2019-04-15 came to -39 EUR, below its limit of 0 EUR."
    ]


def test_a_changed_kpi_begins_with_what_waits() -> None:
    before = cards()
    after = cards(
        {
            "fraud_loss": {**LOSS, "costs": {"false_negative": 7, "true_positive": "fee"}},
            "misses": {"unit": "frauds", "costs": {"false_negative": 1}},
        }
    )
    shard = Shard(before, 0)
    for number in range(3):
        step(shard, event(number, START_MS))
    step(shard, label(0, 0, START_MS + 1, True))
    shard = load(after, 0, dump(shard))
    adopt(shard, before)
    found = shard.kpis.summary()
    assert [(one["total"]["known"]["events"], one["total"]["waiting"]["events"]) for one in found.values()] == [
        (0, 2)
    ] * 2
    step(shard, label(1, 1, START_MS + 1, True))
    assert shard.kpis.summary()["fraud_loss"]["total"]["known"]["cost"] == 7
    same = load(cards(), 0, dump(Shard(before, 0)))
    adopt(same, before)
    assert list(same.kpis.each) == ["fraud_loss"]


def test_a_decision_is_priced_as_it_was_served() -> None:
    before = cards(decision={"threshold": 0.4})
    shard = Shard(before, 0)
    step(shard, event(0, START_MS))
    after = cards(decision={"threshold": 0.9})
    shard = load(after, 0, dump(shard))
    adopt(shard, before)
    (made,) = step(shard, label(0, 0, START_MS + 1, False))
    assert isinstance(made, Outcome)
    assert made.priced[0].kind == "false_positive"


def test_a_number_costs_by_how_far_it_is_off() -> None:
    pipeline = parse_pipeline(
        {
            "pipeline": "cards",
            "task": "regression",
            "event": {"id": "id", "features": {"amount": "number", "country": "string"}, "context": {"fee": "number"}},
            "label": {"id": "id", "value": "n", "wait": "2d"},
            "model": "Select('amount') | StandardScaler() | LinearRegression()",
            "kpi": {"waste": {"unit": "EUR", "costs": {"over": "fee", "under": 10}, "by": "country"}},
        }
    )
    shard = Shard(pipeline, 0)
    step(shard, event(0, START_MS, fee=3.0))
    step(shard, event(1, START_MS, fee=3.0))
    (under,) = step(shard, Label(source("cards.labels", 0, START_MS), START_MS, START_MS, "e0", 2.5))
    assert isinstance(under, Outcome)
    assert (under.priced[0].kind, under.priced[0].cost) == ("under", 25_000_000)
    (over,) = step(shard, Label(source("cards.labels", 1, START_MS), START_MS, START_MS, "e1", -2.0))
    assert isinstance(over, Outcome)
    assert (over.priced[0].kind, over.priced[0].cost) == ("over", 6_000_000)


@pytest.mark.parametrize(
    ("kpi", "why"),
    [
        ({"unit": "EUR"}, "prices nothing"),
        ({"unit": "EUR", "costs": {"fals_negative": 1}}, "did you mean 'false_negative'"),
        ({"unit": "EUR", "costs": {"false_negative": "amont"}}, "did you mean 'amount'"),
        ({"unit": "EUR", "costs": {"false_negative": "country"}}, "is a string; needs a number"),
        ({"unit": "EUR", "costs": {"false_negative": -1}}, "from 0 to 1,000,000,000"),
        ({"unit": "EUR", "costs": {"false_negative": 1}, "by": "amount"}, "is a number; needs a string"),
        ({"unit": "EUR", "costs": {"false_negative": 1}, "target": 9, "limit": 5}, "above the limit"),
    ],
)
def test_a_kpi_that_cannot_be_computed_is_refused(kpi: dict[str, Any], why: str) -> None:
    with pytest.raises(PipelineError) as refused:
        cards({"loss": kpi}, context=False)
    assert why in str(refused.value)


def test_a_pipeline_without_kpis_carries_nothing() -> None:
    shard = Shard(cards({}, context=False), 0)
    step(shard, event(0, START_MS))
    (waiting,) = [one for _, one in shard.pending.entries()]
    assert waiting.stakes is None
    assert "kpi" not in shard.summary()
    assert "kpi" not in shard.pipeline.resolved()
