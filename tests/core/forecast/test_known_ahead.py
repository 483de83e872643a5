"""What is known of a step before it comes: each horizon sees what the observation said of it, and nothing later."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from driftline.codec.decode import Decoder
from driftline.core.error import PipelineError
from driftline.core.forecast.forecasts import Forecasts
from driftline.core.output import Outcome
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Source
from driftline.core.river.ahead import Asked, Taught
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from tests.support.folding import step

DAY_MS = 86_400_000
HORIZONS, SEASON = 4, 7


def document(model: str = "SeasonalRegression()", **more: Any) -> dict[str, Any]:
    return {
        "pipeline": "p",
        "task": "forecast",
        "event": {"id": "id", "time": "time", "features": {"y": "number", "promo": "number", "promo_{h}": "number"}},
        "forecast": {
            "target": "y", "step": "1d", "horizons": HORIZONS, "season": SEASON, "known_ahead": {"plan": "promo_{h}"},
            **more,
        },
        "model": model,
    }  # fmt: skip


def pipeline(model: str = "SeasonalRegression()", **more: Any) -> Pipeline:
    return parse_pipeline(document(model, **more))


def promoted(day: int) -> float:
    return float(Random(f"promo {day}").random() < 0.3)


def observed(day: int, plan: list[float] | None = None) -> Event:
    """Twice as much is sold on days of a promotion."""
    random, time_ms = Random(day), day * DAY_MS
    sold = (20.0 + 5.0 * (day % SEASON)) * (1.0 + promoted(day)) + random.gauss(0.0, 0.5)
    plan = [promoted(day + horizon) for horizon in range(1, HORIZONS + 1)] if plan is None else plan
    source = Source("p.events", 0, day, time_ms, None, b"")
    return Event(source, time_ms, time_ms, str(day), (sold, promoted(day), *plan))


def error(made: Pipeline, days: int = 250, since: int = 150) -> float:
    """Mean absolute error of the forecasts of the last days, at all horizons."""
    shard, off = Shard(made, 0), list[float]()
    for day in range(days):
        event = observed(day)
        if "promo_1" not in made.event.features:
            event = Event(event.source, event.time_ms, event.time_ms, event.event_id, event.features[:2])
        for one in step(shard, event):
            if isinstance(one, Outcome) and one.judged is not None and day >= since:
                off += [abs(value - event.features[0]) for value in one.judged.values if value is not None]  # type: ignore[operator]  # numbers
    return sum(off) / len(off)


@pytest.mark.parametrize("model", ["SeasonalRegression()", "BayesianLinearRegression()"])
def test_a_promotion_that_is_announced_is_forecast(model: str) -> None:
    plain = document(model)
    del plain["event"]["features"]["promo_{h}"], plain["forecast"]["known_ahead"]
    assert error(pipeline(model)) < 0.6 * error(parse_pipeline(plain))


@pytest.mark.parametrize("model", ["SeasonalRegression()", "BayesianLinearRegression()"])
def test_each_horizon_sees_what_was_said_of_it_when_it_was_forecast(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans change from day to day here: what a later observation says of a day is nothing that an earlier one knew."""
    every_asked, every_taught, ask, teach = list[Asked](), list[Taught](), Forecasts.ask, Forecasts.teach

    def asking(*given: Any, **more: Any) -> Asked | None:
        asked = ask(*given, **more)
        every_asked.extend([] if asked is None else [asked])
        return asked

    def teaching(*given: Any, **more: Any) -> Taught:
        every_taught.append(teach(*given, **more))
        return every_taught[-1]

    monkeypatch.setattr(Forecasts, "ask", asking)
    monkeypatch.setattr(Forecasts, "teach", teaching)
    made = pipeline(model)
    shard = Shard(made, 0)
    plans: dict[int, list[float]] = {}
    for day in range(60):
        plans[day] = [float(day * 100 + horizon) for horizon in range(1, HORIZONS + 1)]
        step(shard, observed(day, plans[day]))
    assert every_asked
    for asked in every_asked:
        seen = [row["plan"] for row in asked.rows] if asked.matrix is None else asked.matrix[:, -1].tolist()
        assert seen == plans[asked.slot]
    rows = 0
    for taught in every_taught:
        pairs = [(number, row["plan"]) for number, row, _ in taught.pairs]
        if taught.batch is not None:
            pairs = list(zip(taught.batch.numbers.tolist(), taught.batch.rows[:, -1].tolist(), strict=True))
        for number, seen_then in pairs:
            assert seen_then == plans[taught.slot - number - 1][number]
            rows += 1
    assert rows > 100


def test_it_goes_on_after_a_restart() -> None:
    made = pipeline()
    whole, first = Shard(made, 0), Shard(made, 0)
    wanted = [one for day in range(80) for one in step(whole, observed(day))]
    found = [one for day in range(40) for one in step(first, observed(day))]
    second = load(made, 0, dump(first))
    found += [one for day in range(40, 80) for one in step(second, observed(day))]
    assert found == wanted


def test_one_declaration_stands_for_all_horizons() -> None:
    declared = document()
    declared["event"]["features"]["promo_{h}"] = {"path": "plan.day{h}.promo", "type": "number", "missing": 0}
    made = parse_pipeline(declared)
    assert list(made.event.features) == ["y", "promo", "promo_1", "promo_2", "promo_3", "promo_4"]
    assert parse_pipeline(made.resolved()) == made
    body = b'{"id": "a", "time": 0, "y": 1, "promo": 0, "plan": {"day1": {"promo": 1}, "day3": {"promo": 1}}}'
    event = Decoder(made).event(Source("p.events", 0, 0, 1, None, body))
    assert isinstance(event, Event)
    assert event.features == (1.0, 0.0, 1.0, 0.0, 1.0, 0.0)


def test_a_pipeline_without_it_says_nothing_of_it() -> None:
    """So the state of an earlier version goes on."""
    plain = document()
    del plain["event"]["features"]["promo_{h}"], plain["forecast"]["known_ahead"]
    assert "known_ahead" not in parse_pipeline(plain).resolved()["forecast"]


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"plan": "promo"}, "must hold {h}"),
        ({"plan": "price_{h}"}, "needs a feature price_1"),
        ({"promo": "promo_{h}"}, "is the name of something else"),
        ({"level": "promo_{h}"}, "is the name of something else"),
        ({"plan": "word_{h}"}, "word_1 must be a number or a boolean"),
    ],
)
def test_what_cannot_be(known: dict[str, str], why: str) -> None:
    declared = document()
    declared["event"]["features"]["word_{h}"] = "string"
    declared["forecast"]["known_ahead"] = known
    with pytest.raises(PipelineError, match=why):
        parse_pipeline(declared)
