"""What backtests and metrics say of slates, against plain sums, and on the demo's readers, whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from driftline.cli.news import NewsPage
from driftline.core.output import ModelVersion, Outcome, Prediction, Unserved
from driftline.core.recommend.policy import generator, shares_of
from driftline.core.river.building import make_metric
from driftline.core.slate import Item, feedback_text
from driftline.core.task.slates import OfSlates
from tests.support.slates import Played, news, play


def outcome(slate: dict[str, float], rewards: dict[str, float], shares: dict[str, float] | None = None) -> Outcome:
    """A request of which another policy would have shown the items with these shares, and was expected to earn 0.5."""
    beside = [("popularity", shares or {}, 0.0), ("estimate", dict.fromkeys(slate, 0.25), 9.0)]
    beside += [("policy", shares, 0.5)] if shares is not None else []
    unserved = [
        Unserved(name, Prediction(None, dict(part.items()), value), ModelVersion(0, 0)) for name, part, value in beside
    ]
    served = Prediction(None, dict(slate.items()), 0.0)
    text = feedback_text(served, unserved, None) if not rewards else None
    if text is None:
        came = "{" + ",".join(f'"{item}":{reward}' for item, reward in rewards.items()) + "}"
        text = feedback_text(served, unserved, came)
    return Outcome("e-0-0-1", "joined", None, 0, "e", 0, None, served, None, text, 0)


def values(outcomes: list[Outcome]) -> tuple[dict[str, float], str | None]:
    measure = OfSlates()
    sums = dict(zip(measure.sums, measure.columns(outcomes, None).sums.sum(axis=1), strict=True))
    found = measure.values({name: np.asarray(value) for name, value in sums.items()}, None, None)
    return {name: float(value) for name, value in found.items()}, measure.doubt(sums)


def test_estimates_are_plain_sums() -> None:
    outcomes = [
        outcome({"a": 0.5, "b": 0.25}, {"a": 1.0}, {"a": 0.25, "b": 0.5}),
        outcome({"a": 0.5, "c": 0.25}, {"c": 2.0}, {"a": 0.5, "c": 0.125}),
        outcome({"b": 0.5, "c": 0.5}, {}, {"a": 0.5, "b": 0.75, "c": 0.0}),
    ]
    found, _ = values(outcomes)
    weights = [[0.5, 2.0], [1.0, 0.5], [1.5, 0.0]]
    rewards = [[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
    earned = [sum(w * r for w, r in zip(*one, strict=True)) for one in zip(weights, rewards, strict=True)]
    total = sum(map(sum, weights))
    snips = sum(earned) / total
    assert found["IPS"] == pytest.approx(np.mean(earned))
    assert found["IPSError"] == pytest.approx(np.std(earned) / np.sqrt(3))
    assert found["SNIPS"] == pytest.approx(snips * 2)
    off = [e - snips * sum(w) for e, w in zip(earned, weights, strict=True)]
    assert found["SNIPSError"] == pytest.approx(np.sqrt(np.sum(np.square(off))) / total * 2)
    robust = [
        0.5 + sum(w * (r - 0.25) for w, r in zip(*one, strict=True)) for one in zip(weights, rewards, strict=True)
    ]
    assert found["DoublyRobust"] == pytest.approx(np.mean(robust))
    assert found["DoublyRobustError"] == pytest.approx(np.std(robust) / np.sqrt(3))
    assert found["Logged"] == 1.0
    assert found["Support"] == pytest.approx(total / 6)
    assert found["Effective"] == pytest.approx(total**2 / np.sum(np.square(weights)))
    assert found["ClickRate"] == pytest.approx(2 / 6)


def test_a_policy_that_chose_has_earned_what_it_earned() -> None:
    found, doubt = values([outcome({"a": 0.5, "b": 1.0}, {"a": 1.0})] * 120)
    assert found["SNIPS"] == found["IPS"] == found["DoublyRobust"] == found["Logged"] == 1.0
    assert doubt is None


def test_without_exploration_it_cannot_tell_and_says_so() -> None:
    shown = [{"a": 1.0, "b": 1.0}] * 500
    found, doubt = values([outcome(one, {"a": 1.0}, {"a": 1.0, "b": 0.0}) for one in shown])
    assert np.isnan([found["SNIPS"], found["IPS"], found["DoublyRobust"], found["Popularity"]]).all()
    assert doubt is not None
    assert "50% of what it would show was never shown" in doubt
    found, doubt = values([outcome(one, {"a": 1.0}, {"a": 1.0, "b": 1.0}) for one in shown])  # the same policy
    assert (found["SNIPS"], doubt) == (1.0, None)


def test_propensities_that_are_not_true_are_seen() -> None:
    _, doubt = values([outcome({"a": 0.1}, {"a": 1.0}, {"a": 0.5})] * 500)
    assert doubt is not None
    assert "weights of 5.00 on average" in doubt


def test_few_items_that_count_are_warned_of() -> None:
    rare = [outcome({"a": 0.01}, {"a": 1.0}, {"a": 1.0})] * 10
    _, doubt = values([*rare, *[outcome({"b": 0.99}, {}, {"b": 0.0})] * 990])
    assert doubt is not None
    assert "only 10 items count of the 1,000" in doubt


def test_metrics_of_what_was_served() -> None:
    outcomes = [
        outcome({"a": 0.5, "b": 0.25}, {"b": 1.0}, {"a": 0.5, "b": 0.5}),
        outcome({"c": 0.5, "a": 0.5}, {}, {"a": 0.5, "c": 0.0}),
    ]
    outcomes *= 100
    got: dict[str, float] = {}
    for name in ("Reward", "ClickRate", "Hit", "NDCG", "Coverage", "PopularityReward"):
        metric = make_metric(name, {})
        for one in (*outcomes, outcomes[0]):
            assert one.prediction is not None
            metric.update(one.label, one.prediction.probabilities)
        assert outcomes[0].prediction is not None
        metric.revert(outcomes[0].label, outcomes[0].prediction.probabilities)
        got[name] = metric.get()
    assert got == pytest.approx(
        {
            "Reward": 0.5,
            "ClickRate": 0.25,
            "Hit": 0.5,
            "NDCG": 1 / np.log2(3),
            "Coverage": 3 / 9,
            "PopularityReward": 2.0 / 4.0 * 2,
        }
    )


def _value(here: Played, request: dict[str, Any], page: NewsPage) -> float:
    """Clicks to be expected of the policy as it is now, by the truth."""
    model = here.shard.learner.model
    under, items = model.conditions, [Item(article) for article in request["articles"]]
    context = {name: request[name] for name in ("reader", "evening", "age")}
    estimates = model.estimates(context, items)
    random = generator(under.seed, request["request_id"])
    shares, _ = shares_of(under.form, estimates[0], estimates[1], estimates[2], random)
    return float(sum(share * page.probability(request, item.item) for share, item in zip(shares, items, strict=True)))


def test_a_log_tells_what_another_policy_would_have_earned() -> None:
    page = NewsPage(11)
    log = play(news(policy="epsilon_greedy", epsilon=0.5), page, 500).shown
    truth: list[float] = []
    other = play(
        news(policy="linucb", epsilon=0.0), page, 500,
        shown=lambda index: log[index], look=lambda here, request: truth.append(_value(here, request, page)),
    )  # fmt: skip
    outcomes = [one for one in other.outputs if isinstance(one, Outcome) and one.label is not None]
    found, doubt = values(outcomes)
    wanted = float(np.mean(truth[: len(outcomes)]))
    assert doubt is None
    for name in ("SNIPS", "IPS", "DoublyRobust"):
        assert abs(found[name] - wanted) < 3 * found[f"{name}Error"]
        assert found[f"{name}Error"] < 0.2 * wanted


def test_readers_are_served_better_than_with_what_is_popular_also_when_their_taste_changes() -> None:
    count = 3_000
    settings = {"policy": "thompson", "alpha": 0.3, "epsilon": 0.02, "draws": 30, "model": "LinearItems(half_life=700)"}
    thompson = play(news(**settings), NewsPage(7, count // 2), count)
    popular = play(news(policy="popularity"), NewsPage(7, count // 2), count)
    for begin, end in ((0.35, 0.5), (0.85, 1.0)):
        assert thompson.share(begin, end) > 0.8
        assert thompson.share(begin, end) > 1.5 * popular.share(begin, end)
