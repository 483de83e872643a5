"""How good task recommend is where the truth is known: the news page of `driftline demo --case recommend`.

`python benchmarks/recommend.py reward` plays policies against readers whose taste changes half way, and prints what
each earned, as a share of what the best slates would have earned.
`python benchmarks/recommend.py off-policy` logs slates with exploration under many seeds, estimates from each log
what five other policies would have earned, and counts how often that is within two standard errors of the truth.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

import msgspec
import numpy as np

from driftline.cli.news import ARTICLES, PIPELINE, NewsPage
from driftline.config import read_pipeline
from driftline.core.output import ModelVersion, Outcome, Prediction, Unserved
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.recommend.policy import generator, shares_of
from driftline.core.recommend.recommender import Recommender, beside_slate
from driftline.core.slate import POLICY, Item, feedback_text, items_text
from driftline.core.task.build import build_model
from driftline.core.task.slates import OfSlates

METHODS = ("SNIPS", "DoublyRobust", "IPS")
VERSION = ModelVersion(0, 0)
WAIT = 60  # requests after which rewards are learned
LOGGED = {"policy": "epsilon_greedy", "epsilon": 0.4}
JUDGED: dict[str, dict[str, Any]] = {
    "epsilon_greedy": {"policy": "epsilon_greedy", "epsilon": 0.1},
    "linucb": {"policy": "linucb", "epsilon": 0.0},
    "popularity": {"policy": "popularity", "epsilon": 0.0},
    "softmax": {"policy": "softmax", "temperature": 0.1, "epsilon": 0.0},
    "thompson": {"policy": "thompson", "alpha": 0.5, "epsilon": 0.0},
}
PLAYED: dict[str, dict[str, Any]] = {
    "thompson": {"policy": "thompson", "alpha": 0.3, "epsilon": 0.02},
    "linucb": {"policy": "linucb", "alpha": 0.5, "epsilon": 0.02},
    "epsilon_greedy": {"policy": "epsilon_greedy", "epsilon": 0.1},
    "softmax": {"policy": "softmax", "temperature": 0.05, "epsilon": 0.02},
    "popularity": {"policy": "popularity", "epsilon": 0.02},
    "uniform": {"policy": "uniform"},
}


def pipeline_of(seed: int, model: str, settings: dict[str, Any]) -> Pipeline:
    document = read_pipeline(PIPELINE.format(name="news", delivery="at_least_once")).resolved()
    recommend = {**document["recommend"], **settings}
    return parse_pipeline({**document, "seed": seed, "model": model, "recommend": recommend})


class Loop:
    """A recommender that serves and learns; rewards are known `WAIT` requests later."""

    def __init__(self, pipeline: Pipeline, page: NewsPage) -> None:
        self.seed, self.page = pipeline.seed, page
        self.model: Recommender = build_model(pipeline)
        self.items = items_text(list(ARTICLES), 99, 1.0, 99)
        self.waiting: deque[tuple[dict[str, Any], str]] = deque()

    def serve(self, index: int, judged: dict[str, RecommendForm]) -> tuple[list[str], dict[str, tuple[Outcome, float]]]:
        """One request.

        Returns:
            The slate; and of each policy that is judged what a backtest would see, and its true value.
        """
        request = self.page.request(index)
        context = {name: request[name] for name in ("reader", "evening", "age")}
        ranked = self.model.rank((*context.values(), self.items, None, request["request_id"]))
        if ranked is None:
            raise SystemExit("an estimate is not finite")
        served, beside = beside_slate(ranked, VERSION)
        slate = [str(item) for item in served.probabilities or {}]
        clicked = {click["article"]: 1.0 for click in self.page.clicks(request, slate)}
        came = msgspec.json.encode(clicked).decode() if clicked else None
        found = {}
        means = deviations = popular = truth = np.array([])
        if judged:
            means, deviations, popular = self.model.estimates(context, [Item(article) for article in ARTICLES])
            truth = np.array([self.page.probability(request, article) for article in ARTICLES])
        for name, form in judged.items():
            random = generator(self.seed, request["request_id"])
            shares, _ = shares_of(form, means, deviations, popular, random)
            of_slate: dict[Any, float] = {item: float(shares[ARTICLES.index(item)]) for item in slate}
            policy = Unserved(POLICY, Prediction(None, of_slate, float(shares @ means)), VERSION)
            text = feedback_text(served, (*beside, policy), came)
            outcome = Outcome("e-0-0-1", "joined", None, 0, index, 0, None, served, VERSION, text, 0)
            found[name] = (outcome, float(shares @ truth))
        self.waiting.append(({**context, "articles": self.items}, feedback_text(served, beside, came)))
        if len(self.waiting) > WAIT:
            self.model.learn_one(*self.waiting.popleft())
        return slate, found


def estimated(outcomes: list[Outcome]) -> dict[str, float]:
    """What a backtest says of these."""
    measure = OfSlates()
    sums = measure.columns(outcomes, None).sums.sum(axis=1)
    column = {name: np.asarray(value) for name, value in zip(measure.sums, sums, strict=True)}
    return {name: float(value) for name, value in measure.values(column, None, None).items()}


def off_policy(seeds: int, requests: int) -> None:
    within = {name: dict.fromkeys(METHODS, 0) for name in JUDGED}
    apart: dict[str, list[float]] = {name: [] for name in JUDGED}
    forms = {name: RecommendForm(candidates="articles", slate=3, **settings) for name, settings in JUDGED.items()}
    for seed in range(seeds):
        loop = Loop(pipeline_of(seed, "LinearItems(half_life=2000)", LOGGED), NewsPage(seed))
        seen: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in JUDGED}
        for index in range(requests):
            for name, pair in loop.serve(index, forms)[1].items():
                seen[name].append(pair)
        for name, pairs in seen.items():
            found, truth = estimated([outcome for outcome, _ in pairs]), float(np.mean([value for _, value in pairs]))
            for method in METHODS:
                within[name][method] += abs(found[method] - truth) <= 2 * found[f"{method}Error"]
            apart[name].append(found["SNIPSError"] / truth)
    print(f"{seeds} logs of {requests:,} requests; within 2 standard errors of the true value:")
    print(f"{'policy':16}", *(f"{method:>14}" for method in METHODS), f"{'error of SNIPS':>16}")
    for name, counts in within.items():
        cells = (f"{counts[method]:>7} of {seeds:>3}" for method in METHODS)
        print(f"{name:16}", *cells, f"{np.mean(apart[name]):>15.1%}")


def reward(seeds: int, requests: int) -> None:
    print(f"{seeds} pages of {requests:,} requests; share of the best reward, taste changes half way:")
    parts = ("0-25%", "25-50%", "50-75%", "75-100%")
    print(f"{'policy':16}", *(f"{part:>8}" for part in parts), f"{'at the end, of popularity':>26}", f"{'us':>6}")
    popular = 0.0
    for name, settings in sorted(PLAYED.items(), key=lambda one: one[0] != "popularity"):
        got, best = np.zeros(4), np.zeros(4)
        begun = time.process_time()
        for seed in range(seeds):
            page = NewsPage(seed, requests // 2)
            loop = Loop(pipeline_of(seed, "LinearItems(half_life=3000)", settings), page)
            for index in range(requests):
                slate, _ = loop.serve(index, {})
                request = page.request(index)
                got[4 * index // requests] += page.expected(request, slate)
                best[4 * index // requests] += page.best(request)
        each_us = (time.process_time() - begun) / seeds / requests * 1e6
        popular = popular or float(got[3])
        cells = (f"{share:8.3f}" for share in got / best)
        print(f"{name:16}", *cells, f"{got[3] / popular:>26.2f}", f"{each_us:>6.0f}", flush=True)


if __name__ == "__main__":
    kind, *counts = sys.argv[1:] or ["reward"]
    if kind == "off-policy":
        off_policy(*map(int, counts or (100, 1_000)))
    else:
        reward(*map(int, counts or (3, 20_000)))
