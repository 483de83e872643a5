"""What an observation settles and what is served after it, held against numbers computed another way."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from river import linear_model, preprocessing, time_series

from driftline.backtest.measure import total_values, values_of
from driftline.backtest.tally import Tally
from driftline.core.model import learner
from driftline.core.output import Alert
from driftline.core.pipeline import parse_pipeline
from driftline.core.state.freeze import dump, load
from tests.support.series import DAY_MS, Feed, outcome_of, pipeline, rejected_of, score_of
from tests.support.small import chosen

FIRST = 11  # the first day with a forecast: a season and 5 observations
MEMORY = 6  # seasons
HORIZONS, SEASON, SEASONS, SHARE, WINDOW, GAIN = 4, 7, 3, 0.9, 50, 0.05
ITEMS = ("a", "b", "c")


def demand(days: int, seed: int = 1) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    week = 1 + 0.5 * np.sin(2 * np.pi * np.arange(days) / SEASON)
    return {item: (20.0 * (n + 1) * week + rng.normal(0, 3, days)).tolist() for n, item in enumerate(ITEMS)}


def folded(days: int = 60, **forecast: Any) -> tuple[Feed, list[dict[str, Any]]]:
    """Daily demand of three items, and for each observation what was published of it."""
    feed, series, said = Feed(pipeline(**forecast)), demand(days), []
    for day in range(days):
        for item in ITEMS:
            promo = float((day + len(item)) % 5 == 0)
            made = feed.give(item, day, series[item][day], promo)
            said.append({"item": item, "day": day, "score": score_of(made), "outcome": outcome_of(made)})
    return feed, said


# -- metrics


def expected_metrics(said: list[dict[str, Any]], series: dict[str, list[float]]) -> dict[str, list[float]]:
    """From scores and observations alone."""
    served = {(one["item"], one["day"]): one["score"].forecast for one in said}
    rows: list[list[tuple[Any, ...]]] = [[] for _ in range(HORIZONS)]
    for (item, day), forecast in served.items():
        if forecast is None:
            continue
        y = np.array(series[item])
        for h in range(1, HORIZONS + 1):
            if day + h >= len(y):
                continue
            truth, said_h = y[day + h], forecast.values[h - 1]
            scale = np.mean(np.abs(y[SEASON : day + h] - y[: day + h - SEASON]))
            naive = y[day + h - SEASON]
            low, high = forecast.lower[h - 1], forecast.upper[h - 1]
            known = low is not None
            losses = [np.nan, np.nan]
            if known:
                for n, (quantile, level) in enumerate(((low, 0.05), (high, 0.95))):
                    losses[n] = level * (truth - quantile) if truth >= quantile else (level - 1) * (truth - quantile)
            rows[h - 1].append(
                (
                    abs(truth - said_h), (truth - said_h) ** 2, said_h - truth,
                    2 * abs(truth - said_h) / (abs(truth) + abs(said_h)), abs(truth - said_h) / scale,
                    abs(truth - naive), abs(truth - naive) / scale,
                    float(low <= truth <= high) if known else np.nan, high - low if known else np.nan, np.mean(losses),
                )
            )  # fmt: skip
    names = ("MAE", "RMSE", "Bias", "sMAPE", "MASE", "NaiveMAE", "NaiveMASE", "Coverage", "Width", "Pinball")
    means = [np.nanmean(np.array(of_h), axis=0) for of_h in rows]
    made = {name: [float(mean[n]) for mean in means] for n, name in enumerate(names)}
    return {**made, "RMSE": [value**0.5 for value in made["RMSE"]]}


def test_metrics_by_horizon_are_those_of_the_served_forecasts() -> None:
    feed, said = folded()
    assert feed.shard.forecasts is not None
    found = feed.shard.forecasts.board.values()["by_horizon"]
    for name, values in expected_metrics(said, demand(60)).items():
        assert found[name] == pytest.approx(values, abs=1e-9), name
    total = feed.shard.evaluation.values()
    board = feed.shard.forecasts.board.values()
    assert total["MAE"] == pytest.approx(board["metrics"]["MAE"], abs=1e-9)
    assert total["label_count"] == board["judged"]


def test_a_backtest_counts_what_a_shard_counts() -> None:
    feed, said = folded(40)
    assert feed.shard.forecasts is not None
    tally, board = Tally(feed.shard.pipeline, None), feed.shard.forecasts.board.values()
    tally.add([one["outcome"] for one in said])
    for name, value in total_values(tally, None).items():
        assert value == pytest.approx(board["metrics"][name], abs=1e-9), name
    assert tally.horizons is not None
    by_horizon = values_of(tally.measure, tally.horizons.sums, None, None)
    for name, values in by_horizon.items():
        assert values.tolist() == pytest.approx(board["by_horizon"][name], abs=1e-9), name


def test_an_outcome_names_what_was_served_of_it() -> None:
    _, said = folded(30)
    scores = {(one["item"], one["day"]): one["score"] for one in said}
    for one in said:
        judged, day = one["outcome"].judged, one["day"]
        if judged is None:
            assert day <= FIRST
            continue
        assert judged.series == (one["item"],)
        for n, h in enumerate(judged.horizons):
            score = scores[one["item"], day - h]
            assert score.forecast.values[h - 1] == judged.values[n]
            assert score.forecast.lower[h - 1] == judged.lower[n]
            assert score.forecast.upper[h - 1] == judged.upper[n]
            assert score.version == judged.versions[n]
            assert score.forecast.time_ms + h * score.forecast.step_ms == judged.time_ms
    assert said[-1]["outcome"].judged.horizons == (1, 2, 3, 4)


# -- the model


def scale_of(y: list[float], day: int, usual: float) -> float:
    """Of a series after a day: its mean distance over a season, beside what is usual for its size."""
    changes = np.abs(np.array(y[SEASON : day + 1]) - np.array(y[: day + 1 - SEASON]))
    size = np.mean(np.abs(y[day - SEASON + 1 : day + 1]))
    return float((changes.sum() + SEASON * usual * size) / (len(changes) + SEASON))


def expected_forecasts(
    series: dict[str, list[float]], days: int, cycles: tuple[int, ...] = ()
) -> dict[tuple[str, int], list[float]]:
    """The same linear models in plain River, over features made from the whole series."""
    models = [preprocessing.StandardScaler() | linear_model.LinearRegression() for _ in range(HORIZONS)]
    waiting: dict[tuple[str, int, int], tuple[dict[str, Any], float, float]] = {}
    made, moved, sizes = {}, 0.0, 0.0
    for day in range(days):
        for item in ITEMS:
            y, promo = series[item], float((day + len(item)) % 5 == 0)
            if day >= SEASON:
                moved, sizes = moved + abs(y[day] - y[day - SEASON]), sizes + abs(y[day])
            for h in range(1, HORIZONS + 1):
                if (item, day, h) in waiting:
                    row, base, scale = waiting.pop((item, day, h))
                    models[h - 1].learn_one(row, (y[day] - base) / scale)
            if day < FIRST:
                continue
            scale = scale_of(y, day, moved / sizes)
            forecast = []
            for h in range(1, HORIZONS + 1):
                at = day + h - SEASON
                base = y[at]
                level = np.mean(y[day - SEASON + 1 : day + 1])
                earlier = y[max(day - 2 * SEASON + 1, 0) : day - SEASON + 1]
                row = {
                    "last": (y[day] - base) / scale,
                    "change": (y[day] - y[day - SEASON]) / scale,
                    "level": (level - base) / scale,
                    "level_before": ((np.mean(earlier) if earlier else level) - base) / scale,
                }
                for k in range(2, SEASONS + 1):
                    back = at - (k - 1) * SEASON
                    while back < 0:
                        back += SEASON
                    row[f"season_{k}"] = (y[back] - base) / scale
                same = [y[at - k * SEASON] for k in range(MEMORY) if at - k * SEASON >= 0]
                row["usual"] = (np.average(same, weights=[0.7**k for k in range(len(same))]) - base) / scale
                for steps in cycles:
                    here = day + h - steps * ceil(h / steps)
                    row[f"cycle_{steps}"] = (y[here] - base) / scale
                    row[f"cycle_{steps}_change"] = (y[here] - y[max(here - SEASON, 0)]) / scale
                past = dict(row)
                for steps in cycles:
                    turn = 2 * np.pi * ((day + h) % steps) / steps
                    row |= {f"{name}_cos_{steps}": value * np.cos(turn) for name, value in past.items()}
                    row |= {f"{name}_sin_{steps}": value * np.sin(turn) for name, value in past.items()}
                row |= {"promo": promo, "weekday": (day + h + 3) % 7}  # 1970 began on a Thursday
                waiting[item, day + h, h] = (row, base, scale)
                forecast.append(base + scale * float(np.clip(models[h - 1].predict_one(row), -20, 20)))
            made[item, day] = forecast
    return made


@pytest.mark.parametrize("cycles", [(), (2, 3)])
def test_forecasts_are_those_of_plain_river_over_the_same_features(cycles: tuple[int, ...]) -> None:
    days = 80  # more than are kept
    _, said = folded(days, cycles=list(cycles), memory=MEMORY)
    expected = expected_forecasts(demand(days), days, cycles)
    for one in said:
        forecast = one["score"].forecast
        if one["day"] < FIRST:
            assert forecast is None
        else:
            assert list(forecast.values) == pytest.approx(expected[one["item"], one["day"]], abs=1e-9)


@pytest.mark.parametrize(
    ("expression", "make"),
    [
        (
            "HoltWinters(alpha=0.3, beta=0.1, gamma=0.4, seasonality=7)",
            lambda: time_series.HoltWinters(alpha=0.3, beta=0.1, gamma=0.4, seasonality=7),
        ),
        ("SNARIMAX(p=2, d=0, q=0, m=7, sp=1, sd=1)", lambda: time_series.SNARIMAX(p=2, d=0, q=0, m=7, sp=1, sd=1)),
    ],
)
def test_a_time_series_model_is_kept_for_each_series(expression: str, make: Any) -> None:
    days = 30
    _, said = folded(days, model=expression)
    models, series = {item: make() for item in ITEMS}, demand(days)
    for one in said:
        model = models[one["item"]]
        model.learn_one(series[one["item"]][one["day"]])
        if one["day"] >= FIRST:
            assert list(one["score"].forecast.values) == pytest.approx(model.forecast(horizon=HORIZONS), abs=1e-9)


# -- intervals


def expected_swell(ahead: list[tuple[float, int]]) -> float:
    """Mean of the latest residuals one step ahead over their mean in a window, each as a weighted sum."""
    if len(ahead) < 64:
        return 1.0
    means = []
    for spans in ([max(64, count) for _, count in ahead], [max(WINDOW, 20 * count) for _, count in ahead]):
        rates = np.array([1 / min(n, span) for n, span in enumerate(spans, 1)])
        left = np.append(np.cumprod((1 - rates)[::-1])[::-1][1:], 1.0)  # of each, what later ones leave of it
        means.append(float(np.sum(rates * left * [residual for residual, _ in ahead])))
    return min(max(means[0] / means[1], 0.25), 4.0)


def expected_halves(said: list[dict[str, Any]], series: dict[str, list[float]]) -> dict[tuple[str, int], list[float]]:
    """Half widths by adaptive conformal inference, from served forecasts alone; the window sorted anew each time."""
    alphas, kept = [1 - SHARE] * HORIZONS, [list[float]() for _ in range(HORIZONS)]
    served = {(one["item"], one["day"]): one["score"].forecast for one in said}
    halves: dict[tuple[str, int], list[float]] = {}
    scales, moved, sizes = dict[tuple[str, int], float](), 0.0, 0.0
    known: set[str] = set()
    swells, ahead = dict[tuple[str, int], float](), list[tuple[float, int]]()  # residuals of horizon 1, series known
    for one in said:
        item, day = one["item"], one["day"]
        y = series[item]
        if day >= SEASON:
            moved, sizes = moved + abs(y[day] - y[day - SEASON]), sizes + abs(y[day])
        for h in range(1, HORIZONS + 1):
            forecast = served.get((item, day - h))
            if forecast is None:
                continue
            origin = day - h
            scale = scales[item, origin]
            if not np.isnan(halves[item, origin][h - 1]):
                inside = abs(y[day] - forecast.values[h - 1]) <= halves[item, origin][h - 1]
                alphas[h - 1] += GAIN / (h * len(known)) * ((1 - SHARE) - (not inside))
            residual = abs(y[day] - forecast.values[h - 1]) / scale
            if h == 1:
                ahead.append((residual, len(known)))
            kept[h - 1] = [*kept[h - 1], residual / swells[item, origin]][-WINDOW:]
        known.add(item)
        if served[item, day] is None:
            continue
        scale = scales[item, day] = scale_of(y, day, moved / sizes)
        swell = swells[item, day] = expected_swell(ahead)
        made = []
        for h in range(HORIZONS):
            ordered, count = np.sort(kept[h]), len(kept[h])
            rank = ceil((count + 1) * (1 - alphas[h]))
            if (count + 1) * (1 - SHARE) < 1:
                made.append(np.nan)
            elif rank <= count:
                made.append(swell * scale * ordered[max(rank, 1) - 1])
            else:
                made.append(swell * scale * ordered[-1] * min(1 + (rank - count) / (count + 1) / (1 - SHARE), 4))
        halves[item, day] = made
    return halves


def test_intervals_follow_the_residuals_of_served_forecasts() -> None:
    _, said = folded(60)
    halves = expected_halves(said, demand(60))
    bounded = 0
    for one in said:
        forecast = one["score"].forecast
        if forecast is None:
            continue
        for value, low, high, half in zip(
            forecast.values, forecast.lower, forecast.upper, halves[one["item"], one["day"]], strict=True
        ):
            if low is None:
                assert np.isnan(half)
            else:
                assert (low, high) == pytest.approx((value - half, value + half), abs=1e-9)
                bounded += 1
    assert bounded > 400


# -- as state


@pytest.mark.parametrize("model", ["StandardScaler() | LinearRegression()", "SNARIMAX(p=2, d=0, q=0, m=7, sd=1)"])
def test_a_state_goes_on_as_if_it_had_not_been_away(model: str) -> None:
    whole, halved, series = Feed(pipeline(model=model)), Feed(pipeline(model=model)), demand(40)
    for day in range(40):
        if day == 20:
            halved.shard = load(halved.shard.pipeline, 0, dump(halved.shard))
        for item in ITEMS:
            for feed in (whole, halved):
                feed.give(item, day, series[item][day])
    assert whole.published == halved.published
    assert dump(load(whole.shard.pipeline, 0, dump(whole.shard))) == dump(
        load(halved.shard.pipeline, 0, dump(halved.shard))
    )


@pytest.mark.parametrize(
    "model", ["StandardScaler() | LinearRegression()", "HoltWinters(alpha=0.3, beta=0.1, gamma=0.4, seasonality=7)"]
)
def test_a_good_copy_is_kept_of_a_model_that_forecasts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "COPY_EVERY", 10)
    feed, _ = folded(30, model=model)
    assert feed.shard.learner.good is not None
    assert "failed" not in feed.shard.counts
    assert "rejected_model_error" not in feed.shard.counts
    assert load(feed.shard.pipeline, 0, dump(feed.shard)).learner.good == feed.shard.learner.good


# -- policies


def steady(days: int = 20, **forecast: Any) -> Feed:
    feed = Feed(pipeline(**forecast))
    for day in range(days):
        feed.give("a", day, 10.0 + day % 7)
    return feed


def test_steps_that_are_left_out_are_filled_in_and_not_judged() -> None:
    feed = steady()
    made = feed.give("a", 22, 11.0)
    assert score_of(made).forecast is not None
    judged = outcome_of(made).judged
    assert judged is not None
    assert judged.horizons == (3, 4)  # from days 19 and 18: none was made on days 20 and 21
    assert feed.shard.counts["forecast_missed_steps"] == 2
    assert feed.shard.counts["forecast_after_gap"] == 1


def test_a_late_observation_is_judged_and_makes_no_forecast() -> None:
    feed = steady()
    feed.give("a", 22, 11.0)
    made = feed.give("a", 21, 50.0)
    assert len(made) == 1
    outcome = outcome_of(made)
    assert (outcome.kind, outcome.detail) == ("joined", "late")
    assert outcome.judged is not None
    assert outcome.judged.horizons == (2,)  # of day 19: those of days 18 and 17 are no longer kept
    assert feed.shard.counts["forecast_late"] == 1
    for day in (23, 24, 25, 26):
        feed.give("a", day, 12.0)
    forecast = score_of(feed.give("a", 27, 12.0)).forecast
    assert forecast is not None
    assert forecast.naive[0] == 50.0  # of day 28, a week later


def test_a_second_observation_of_a_step_counts_for_later_forecasts_only() -> None:
    feed = steady()
    judged = feed.shard.evaluation.label_count
    outcome = outcome_of(feed.give("a", 19, 99.0))
    assert (outcome.kind, outcome.label, outcome.previous_label) == ("corrected", 99.0, 15.0)
    assert outcome_of(feed.give("a", 19, 99.0)).kind == "duplicate"
    assert feed.shard.evaluation.label_count == judged
    for day in range(20, 23):
        feed.give("a", day, 10.0 + day % 7)
    forecast = score_of(feed.give("a", 23, 12.0)).forecast
    assert forecast is not None
    assert forecast.naive[2] == 99.0  # of day 26, a week later


def test_what_is_older_than_is_kept_is_named_and_nothing_else() -> None:
    feed = steady(70)
    before = dump(feed.shard)
    outcome = outcome_of(feed.give("a", 2, 5.0))
    assert outcome.kind == "late"
    assert outcome.judged is None
    assert feed.shard.counts["forecast_too_late"] == 1
    assert before != dump(feed.shard)  # its id is remembered


def test_a_series_that_was_away_for_longer_than_is_kept_begins_anew() -> None:
    feed = steady()
    made = feed.give("a", 500, 3.0)
    assert feed.shard.counts["forecast_restarted"] == 1
    assert score_of(made).forecast is None
    for day in range(501, 512):
        made = feed.give("a", day, 3.0)
    assert score_of(made).forecast is not None


def test_times_that_jitter_are_of_the_nearest_step() -> None:
    feed, rng = Feed(pipeline()), np.random.default_rng(3)
    for day in range(20):
        feed.give("a", 10 + day + (rng.uniform(-0.4, 0.4) if day else 0.0), float(day))
    assert feed.shard.counts["forecast_next"] == 19
    forecast = score_of(feed.give("a", 30.3, 1.0)).forecast
    assert forecast is not None
    assert forecast.time_ms == 30 * DAY_MS


def test_an_observation_from_the_future_has_no_place() -> None:
    feed = steady()
    rejected = rejected_of(feed.give("a", 400, 1.0, time_ahead=True))
    assert rejected.reason == "time_ahead"
    assert score_of(feed.give("a", 20, 1.0)).forecast is not None


def test_the_least_recently_observed_series_is_let_go() -> None:
    feed = Feed(pipeline(series_max=2))
    for day in range(10):
        for item in ("a", "b"):
            feed.give(item, day, 1.0 * day)
    feed.give("c", 10, 1.0)
    assert feed.shard.history.series is not None
    assert (len(feed.shard.history.series), feed.shard.history.series.evicted) == (2, 1)
    assert score_of(feed.give("a", 10, 1.0)).forecast is None


def test_nothing_below_the_least_value_is_served() -> None:
    feed, rng = Feed(pipeline(least=0)), np.random.default_rng(5)
    for day in range(60):
        forecast = score_of(feed.give("a", day, float(rng.poisson(0.5)))).forecast
        if forecast is not None:
            for low, value, high in zip(forecast.lower, forecast.values, forecast.upper, strict=True):
                assert value is not None
                assert value >= 0
                assert low is None or high is None or 0 <= low <= value <= high


def test_a_series_that_never_changes_has_a_scale() -> None:
    feed = Feed(pipeline())
    for day in range(40):
        feed.give("a", day, 5.0)
    forecast = score_of(feed.give("a", 40, 5.0)).forecast
    assert forecast is not None
    assert forecast.values == pytest.approx((5.0,) * HORIZONS)
    assert feed.shard.forecasts is not None
    assert feed.shard.forecasts.board.values()["metrics"]["MASE"] is None  # undefined: nothing changes over a season


# -- limits of metrics


def test_limits_of_metrics_are_judged_by_what_was_forecast() -> None:
    document = pipeline().resolved()
    rules = {"performance": {"MAE": {"max": 5.0}}}
    guarded = parse_pipeline({**document, "metrics": ["MAE"], "metric_window": 100, "alerts": rules})
    feed = Feed(guarded)
    states: list[tuple[str, str]] = []
    for day in range(400):
        odd = day > 250
        made = feed.give("a", day, 20.0 + (day % 7) + (40.0 * (day % 2) if odd else 0.0))
        states += [(one.state, one.sentence) for one in chosen(made, Alert) if one.kind == "performance"]
        assert odd or not states
    assert states[0][0] == "opened"
    assert "MAE" in states[0][1]
