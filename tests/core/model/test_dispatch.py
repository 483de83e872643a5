"""A pipeline walked step by step says and learns what River's own walk does, down to the state's bits."""

from __future__ import annotations

import copy
import random
from collections import deque
from typing import Any

import pytest
from river import anomaly, compose, feature_extraction, linear_model, naive_bayes, optim, preprocessing, stats, tree
from river.utils.math import clamp

from driftline.core.digest import digest_of
from driftline.core.model import dispatch
from driftline.core.model.dispatch import Form, Walk
from driftline.core.model.fast.kernel import descend, link, scaling, slope
from driftline.core.river.building import tree_size

pytestmark = pytest.mark.slow


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
    way = Walk(ours, Form(("a", "b"), may_omit=False))
    ask, tell, learn = way.ask("predict_proba_one"), way.ask("predict_one"), way.learn()
    source = random.Random(3)
    for _ in range(200):
        a, b = source.gauss(0, 1), source.gauss(3, 2)
        x, y = {"a": a, "b": b}, a + b > 3
        assert ask((a, b)) == theirs.predict_proba_one(x)
        assert tell((a, b)) == theirs.predict_one(x)
        learn((a, b), y)
        theirs.learn_one(x, y)
        way.settle()
        assert digest_of(ours) == digest_of(theirs)


def test_what_a_model_cannot_say_is_told_when_it_is_asked() -> None:
    say = Walk(made()["plain"], Form(("a",), may_omit=False)).ask("score_one")
    with pytest.raises(AttributeError):
        say((1.0,))


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
    names = ("a", "b", "constant", "seldom")
    way = Walk(ours, Form(names, may_omit=True))
    tell, learn = way.ask("predict_one"), way.learn()
    chance = None if regression else way.probability()
    source = random.Random(5)
    for number in range(300):
        values = (source.gauss(0, 1) * scale, source.gauss(3, 2), 1, source.random() if number % 3 == 0 else None)
        x = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        y = values[1] * 2 if regression else values[1] > 3
        assert repr(tell(values)) == repr(theirs.predict_one(x))
        if chance is not None:
            said = theirs.predict_proba_one(x)
            assert repr({False: 1.0 - chance(values), True: chance(values)}) == repr(said)
        learn(values, y)
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
    assert link(linear_model.Perceptron()) is None
    assert link(logistic()) is not None


@pytest.mark.parametrize("clip", [1e12, 2.5, 0, 0.0, -1])
@pytest.mark.parametrize("label", [True, False, 1, 0, 1.0, 0.5, 2, -1])
@pytest.mark.parametrize("loss", [optim.losses.Log(), optim.losses.Log(weight_pos=3, weight_neg=0)])
def test_the_slope_is_rivers(loss: optim.losses.Log, label: Any, clip: float) -> None:
    model = linear_model.LogisticRegression(loss=loss, clip_gradient=clip)
    for raw in (0.0, -0.0, 3.5, -3.5, 17.9, 18.5, -18.5, 700.0, -700.0, float("nan"), -float("nan"), float("inf")):
        expected = float(clamp(loss.gradient(label, raw) * 1.0, -clip, clip))
        assert digest_of(slope(model)(label, raw)) == digest_of(expected), raw


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
    waiting: deque[tuple[tuple[Any, ...], dict[str, Any], Any]] = deque()
    ours = copy.deepcopy(theirs)
    assert tree_size(ours) == tree_size(theirs)
    names = ("a", "b", "constant", *(["kind"] if name != "behind a scaler" else []))
    way = Walk(ours, Form(names, may_omit=True))
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
        values = tuple(x.get(one) for one in names)
        assert repr(ask(values)) == repr(theirs.predict_proba_one(x))
        assert tell(values) == theirs.predict_one(x)
        waiting.append((values, x, y))
        if len(waiting) > delay:
            values, x, y = waiting.popleft()
            learn(values, y)
            theirs.learn_one(x, y)
        if number % 50 == 0:
            way.settle()
            assert digest_of(ours) == digest_of(theirs)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)
    if name == "plain":
        assert theirs.n_branches > 2


def test_another_river_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KNOWN", False)
    monkeypatch.setattr(dispatch, "descend", None)  # a call of it would fail
    theirs, form = made()["plain"], Form(("a", "b"), may_omit=False)
    ours = copy.deepcopy(theirs)
    way = Walk(ours, form)
    assert way.probability() is None
    ask, learn = way.ask("predict_proba_one"), way.learn()
    for number in range(20):
        values, x = (number / 7, 1.0), {"a": number / 7, "b": 1.0}
        assert ask(values) == theirs.predict_proba_one(x)
        learn(values, number % 3 == 0)
        theirs.learn_one(x, number % 3 == 0)
        assert digest_of(ours) == digest_of(theirs)


def test_the_river_that_is_installed_is_known() -> None:
    """Where this fails, compare `kernel`, `weighted`, `hoeffding` with the new River, then name it in `walk`."""
    assert dispatch.KNOWN
