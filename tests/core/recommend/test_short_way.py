"""A model of items that is asked and taught by the short way says and learns what River's does, to the state's bits."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.model.learner import short_way
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.recommend.recommender import Recommender
from driftline.core.river.learning_rate import boost
from driftline.core.slate import feedback_text
from driftline.core.task.build import build_model

ITEMS = [f"article-{number}" for number in range(6)]
MODELS = [
    "OneHotEncoder(drop_zeros=True) | LogisticRegression(optimizer=AdaGrad(0.1))",
    "OneHotEncoder() | StandardScaler() | LogisticRegression(l2=0.1)",
    "OneHotEncoder() | LinearRegression(optimizer=AdaGrad(0.1))",
    "FeatureHasher(n_features=64) | LinearRegression()",
    "OneHotEncoder(drop_zeros=True) | HoeffdingTreeClassifier(grace_period=20)",
    "items.LinearItems()",
    "BiasedMF()",
]


def pipeline_of(model: str) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "reading",
            "task": "recommend",
            "event": {"id": "id", "features": {"reader": "string", "evening": "boolean"}},
            "label": {"id": "id", "item": "item", "value": "clicked", "wait": "10s"},
            "recommend": {
                "catalogue": ITEMS, "slate": 4, "policy": "epsilon_greedy",
                **({"user": "reader"} if "MF" in model else {}),
            },
            "model": model,
        }
    )  # fmt: skip


def made(model: str, *, short: bool) -> Recommender:
    pipeline = pipeline_of(model)
    recommender = build_model(pipeline)
    assert isinstance(recommender, Recommender)
    return _configured(recommender, pipeline, short=short)


def _configured(recommender: Recommender, pipeline: Pipeline, *, short: bool) -> Recommender:
    if short:
        recommender.configure(pipeline, short_way)
    else:
        recommender.configure(pipeline)
    return recommender


@pytest.mark.parametrize("model", MODELS)
def test_the_bits_are_those_of_river(model: str) -> None:
    pipeline = pipeline_of(model)
    ours, theirs = made(model, short=True), made(model, short=False)
    assert digest_of(ours) == digest_of(theirs)
    source = random.Random(3)
    for number in range(120):
        values = source.choice(("student", "commuter", "parent")), source.random() < 0.4
        ranked = ours.rank((*values, number))
        assert repr(ranked) == repr(theirs.rank((*values, number)))
        assert ranked is not None
        came = {str(item): 1.0 for item in ranked.probabilities or {} if source.random() < 0.3}
        text = feedback_text(ranked, (), _text(came))
        x: dict[str, Any] = {"reader": values[0], "evening": values[1]}
        ours.learn_one(x, text)
        theirs.learn_one(x, text)
        if number % 20 == 7:
            assert digest_of(ours) == digest_of(theirs)
        if number == 50:
            ours = _configured(pickle.loads(pickle.dumps(ours)), pipeline, short=True)
            theirs = _configured(pickle.loads(pickle.dumps(theirs)), pipeline, short=False)
        if number == 80:
            ours.settle()
            assert boost(ours, 3.0, 20) == boost(theirs, 3.0, 20)
            _configured(ours, pipeline, short=True)
            _configured(theirs, pipeline, short=False)
    assert digest_of(copy.deepcopy(ours)) == digest_of(copy.deepcopy(theirs))


def _text(came: dict[str, float]) -> str:
    return "{" + ",".join(f'"{item}":{reward}' for item, reward in came.items()) + "}"


def test_whoever_looks_at_the_state_finds_what_was_learned() -> None:
    recommender = made(MODELS[0], short=True)
    ranked = recommender.rank(("student", True, 1))
    assert ranked is not None
    recommender.learn_one({"reader": "student", "evening": True}, feedback_text(ranked, (), '{"article-0":1.0}'))
    assert not recommender.model["LogisticRegression"].weights
    recommender.settle()
    assert recommender.model["LogisticRegression"].weights
