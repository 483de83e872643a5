"""A pipeline walked step by step says and learns what River's own walk does, down to the state's bits."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from river import anomaly, compose, feature_extraction, linear_model, naive_bayes, preprocessing, stats

from app.core.digest import digest_of
from app.core.walk import walk_ask, walk_learn


def _power(x: dict[str, float]) -> dict[str, float]:
    return {name: value**2 for name, value in x.items()}


def made() -> dict[str, Any]:
    logistic, scaler = linear_model.LogisticRegression, preprocessing.StandardScaler
    union = compose.TransformerUnion(compose.FuncTransformer(_power), scaler())
    return {
        "plain": scaler() | logistic(),
        "two transformers": compose.FuncTransformer(_power) | scaler() | logistic(),
        "a step that must not change": preprocessing.AdaptiveStandardScaler() | naive_bayes.GaussianNB(),
        "union": union | logistic(),
        "supervised transformer": feature_extraction.TargetAgg(by="b", how=stats.Mean()) | scaler() | logistic(),
        "filter": scaler() | anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9) | logistic(),
        "nested": scaler() | compose.Pipeline(compose.FuncTransformer(_power), logistic()),
        "no pipeline": logistic(),
    }


@pytest.mark.parametrize("name", made())
def test_a_walked_pipeline_is_the_pipeline(name: str) -> None:
    theirs = made()[name]
    ours = copy.deepcopy(theirs)
    ask, tell, learn = walk_ask(ours, "predict_proba_one"), walk_ask(ours, "predict_one"), walk_learn(ours)
    source = random.Random(3)
    for _ in range(200):
        x = {"a": source.gauss(0, 1), "b": source.gauss(3, 2)}
        y = x["a"] + x["b"] > 3
        assert ask(x) == theirs.predict_proba_one(x)
        assert tell(x) == theirs.predict_one(x)
        learn(x, y)
        theirs.learn_one(x, y)
        assert digest_of(ours) == digest_of(theirs)


def test_what_a_model_cannot_say_is_told_when_it_is_asked() -> None:
    say = walk_ask(preprocessing.StandardScaler() | linear_model.LogisticRegression(), "score_one")
    with pytest.raises(AttributeError):
        say({"a": 1.0})
