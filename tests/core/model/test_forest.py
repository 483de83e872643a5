"""A forest whose trees give up their numbers says and learns what River's does, down to the state's bits."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from river import drift, forest, metrics

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import Form, Walk
from driftline.core.model.fast import leaf
from driftline.core.model.fast.forest import Forest
from driftline.core.model.fast.forest import forest as way_of

pytestmark = pytest.mark.skipif(leaf.compiled is None, reason="no C compiler was there when it was installed")


def made() -> dict[str, Any]:
    few: dict[str, Any] = {"n_models": 3, "seed": 3, "grace_period": 20}
    return {
        "plain": forest.ARFClassifier(**few),
        "by all features": forest.ARFClassifier(**few | {"max_features": None}),
        "by one vote each": forest.ARFClassifier(**few, disable_weighted_vote=True),
        "by shares": forest.ARFClassifier(**few | {"metric": metrics.LogLoss()}),
        "without warnings": forest.ARFClassifier(**few, warning_detector=drift.NoDrift()),
        "without drifts": forest.ARFClassifier(**few, drift_detector=drift.NoDrift()),
        "seldom taught": forest.ARFClassifier(**few, lambda_value=1),
        "shallow": forest.ARFClassifier(**few, max_depth=1),
        "of little memory": forest.ARFClassifier(**few, max_size=0.02, memory_estimate_period=50),
        "several classes": forest.ARFClassifier(**few),
        "missing": forest.ARFClassifier(**few),
        "texts": forest.ARFClassifier(**few),
    }


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", made())
def test_forests_keep_their_bits(name: str, at_once: bool) -> None:
    theirs, names = made()[name], ("a", "b", "n", "kind")
    ours = copy.deepcopy(theirs)
    walk = Walk(ours, Form(names, may_omit=True))
    ask, learn = walk.ask("predict_proba_one"), walk.learn()
    source = random.Random(5)
    for number in range(450):
        values: tuple[Any, ...] = (source.gauss(0, 1), source.gauss(3, 2), source.randrange(9), source.random())
        y: Any = (values[0] + values[1] > 3) ^ (number > 250)
        if name == "several classes":
            y = "abc"[min(2, max(0, int(values[1])))]
        elif name == "missing" and number % 9 == 0:
            values = (*values[:2], None, values[3])
        elif name == "texts":
            values = (*values[:3], source.choice("xyz"))
        x = {one: value for one, value in zip(names, values, strict=True) if value is not None}
        if at_once or number % 3 == 0:
            assert repr(ask(values)) == repr(theirs.predict_proba_one(x))
        learn(values, y)
        theirs.learn_one(x, y)
        if number % 30 == 0:
            walk.settle()
            assert digest_of(ours) == digest_of(theirs)
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)
    if name == "plain":
        assert theirs.n_drifts_detected() > 0
        assert sum(tree.n_branches or 0 for tree in theirs) > 3


def test_numbers_are_taken_out_of_the_trees() -> None:
    model = forest.ARFClassifier(n_models=3, seed=3)
    walk = Walk(model, Form(("a",), may_omit=False))
    learn = walk.learn()
    for number in range(60):
        learn((number % 7 + 0.5,), number % 2 == 0)
    held = digest_of(model)
    walk.settle()
    assert digest_of(model) != held


def test_what_is_another_forest_is_left_to_river(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(way_of(forest.ARFClassifier()), Forest)
    assert way_of(forest.ARFClassifier(leaf_prediction="mc")) is None
    assert way_of(forest.ARFRegressor()) is None
    monkeypatch.setattr(leaf, "Taken", None)
    assert way_of(forest.ARFClassifier()) is None
