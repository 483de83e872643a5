"""A pipeline walked step by step says and learns what River's own walk does, down to the state's bits."""

from __future__ import annotations

import copy
import random
from collections import deque
from typing import Any

import pytest
from river import anomaly, compose, feature_extraction, linear_model, naive_bayes, optim, preprocessing, stats, tree

from app.core import walk
from app.core.build import tree_size
from app.core.digest import digest_of
from app.core.kernel import descend, probability, scaling
from app.core.walk import Walk


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
    way = Walk(ours)
    ask, tell, learn = way.ask("predict_proba_one"), way.ask("predict_one"), way.learn()
    source = random.Random(3)
    for _ in range(200):
        x = {"a": source.gauss(0, 1), "b": source.gauss(3, 2)}
        y = x["a"] + x["b"] > 3
        assert ask(x) == theirs.predict_proba_one(x)
        assert tell(x) == theirs.predict_one(x)
        learn(x, y)
        theirs.learn_one(x, y)
        way.settle()
        assert digest_of(ours) == digest_of(theirs)


def test_what_a_model_cannot_say_is_told_when_it_is_asked() -> None:
    say = Walk(preprocessing.StandardScaler() | linear_model.LogisticRegression()).ask("score_one")
    with pytest.raises(AttributeError):
        say({"a": 1.0})


def linear() -> dict[str, Any]:
    logistic, scaler = linear_model.LogisticRegression, preprocessing.StandardScaler
    return {
        "penalty": scaler() | logistic(l2=0.1),
        "weights of classes": scaler() | logistic(loss=optim.losses.Log(weight_pos=3, weight_neg=1)),
        "a rate that falls": scaler() | logistic(optimizer=optim.SGD(optim.schedulers.InverseScaling(0.5))),
        "a rate so high that it diverges": scaler() | logistic(optimizer=optim.SGD(50.0), intercept_lr=5.0),
        "clipped": scaler() | logistic(clip_gradient=0.1),
        "adam": scaler() | logistic(optimizer=optim.Adam(0.1)),
        "looks ahead": scaler() | logistic(optimizer=optim.NesterovMomentum(0.01)),
        "sparse": scaler() | logistic(l1=0.01),
        "another loss": scaler() | logistic(loss=optim.losses.Hinge()),
        "means only": scaler(with_std=False) | logistic(),
        "a window": scaler(window_size=20) | logistic(),
        "perceptron": scaler() | linear_model.Perceptron(),
        "regression": scaler() | linear_model.LinearRegression(intercept_lr=0.1),
        "regression alone": linear_model.LinearRegression(l2=0.01),
    }


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e12])
@pytest.mark.parametrize("name", linear())
def test_linear_models_keep_their_bits(name: str, scale: float) -> None:
    theirs = linear()[name]
    ours = copy.deepcopy(theirs)
    regression = name.startswith("regression")
    way = Walk(ours)
    tell, learn = way.ask("predict_one"), way.learn()
    chance = None if regression else way.probability()
    source = random.Random(5)
    for number in range(300):
        x = {"a": source.gauss(0, 1) * scale, "b": source.gauss(3, 2), "constant": 1}
        if number % 3 == 0:
            x["seldom"] = source.random()
        y = x["b"] * 2 if regression else x["b"] > 3
        assert repr(tell(x)) == repr(theirs.predict_one(x))
        if chance is not None:
            said = theirs.predict_proba_one(x)
            assert repr({False: 1.0 - chance(x), True: chance(x)}) == repr(said)
        learn(x, y)
        theirs.learn_one(x, y)
        way.settle()
        assert digest_of(ours) == digest_of(theirs)


def test_what_needs_more_is_left_to_river() -> None:
    logistic, scaler = linear_model.LogisticRegression, preprocessing.StandardScaler
    assert scaling(scaler()) is not None
    assert scaling(scaler(window_size=5)) is None
    assert scaling(scaler(with_std=False)) is None
    assert scaling(preprocessing.AdaptiveStandardScaler()) is None
    assert descend(logistic()) is not None
    assert descend(logistic(l1=0.1)) is None
    assert descend(logistic(optimizer=optim.NesterovMomentum(0.1))) is None
    assert descend(linear_model.Perceptron()) is None
    assert probability(linear_model.LinearRegression()) is None


def trees() -> dict[str, Any]:
    hoeffding = tree.HoeffdingTreeClassifier
    return {
        "plain": hoeffding(grace_period=50),
        "behind a scaler": preprocessing.StandardScaler() | hoeffding(grace_period=50),
        "shallow": hoeffding(grace_period=50, max_depth=1),
        "of little memory": hoeffding(grace_period=20, max_size=0.02, memory_estimate_period=100),
        "pure leaves": hoeffding(grace_period=20, delta=0.5, tau=0.5),
        "nominal": hoeffding(grace_period=50, nominal_attributes=["kind"]),
        "several classes": hoeffding(grace_period=50),
        "majority at the leaves": hoeffding(grace_period=50, leaf_prediction="mc"),
        "bayes at the leaves": hoeffding(grace_period=50, leaf_prediction="nb"),
        "other splitters": hoeffding(grace_period=50, splitter=tree.splitter.HistogramSplitter()),
        "without poor attributes": hoeffding(grace_period=50, remove_poor_attrs=True),
        "stops growing": hoeffding(grace_period=20, max_size=0.02, memory_estimate_period=50, stop_mem_management=True),
        "adaptive": tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1),
    }


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("name", trees())
def test_trees_keep_their_bits(name: str, delay: int) -> None:
    """Taught at once with what was asked just now, and taught when other features were asked meanwhile."""
    theirs = trees()[name]
    waiting: deque[tuple[dict[str, Any], Any]] = deque()
    ours = copy.deepcopy(theirs)
    assert tree_size(ours) == tree_size(theirs)
    way = Walk(ours)
    ask, tell, learn = way.ask("predict_proba_one"), way.ask("predict_one"), way.learn()
    source = random.Random(11)
    for number in range(2_500):
        x: dict[str, Any] = {"a": source.gauss(0, 1), "b": source.gauss(3, 2), "constant": 1}
        if name != "behind a scaler":
            x["kind"] = source.choice(["x", "y"])
            if number % 7 == 0:
                del x["a"]
        y: Any = x.get("a", 0.0) + x["b"] > 3 + (number > 1_500)
        if name == "several classes":
            y = min(3, max(0, int(x["b"])))
        assert repr(ask(x)) == repr(theirs.predict_proba_one(x))
        assert tell(x) == theirs.predict_one(x)
        waiting.append((x, y))
        if len(waiting) > delay:
            learned = waiting.popleft()
            learn(*learned)
            theirs.learn_one(*learned)
        if number % 50 == 0:
            way.settle()
            assert digest_of(ours) == digest_of(theirs)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)
    if name == "plain":
        assert theirs.n_branches > 2


def test_another_river_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "KNOWN", False)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    assert Walk(model).probability() is None
    for alone in (linear_model.LogisticRegression(), tree.HoeffdingTreeClassifier()):
        assert Walk(alone).learn() == alone.learn_one
        assert Walk(alone).ask("predict_proba_one") == alone.predict_proba_one


def test_the_river_that_is_installed_is_known() -> None:
    """Where this fails, compare `kernel` and `hoeffding` with the new River, then name its version in `walk`."""
    assert walk.KNOWN
