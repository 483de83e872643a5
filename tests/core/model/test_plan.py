"""A plan of a pipeline's transformers makes and learns what River's own walk does, down to the state's bits."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import compose, feature_extraction, linear_model, naive_bayes, optim, preprocessing, tree

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import AsIs, Form, Walk
from driftline.core.model.fast.plan import Columns, Made, Numbers, plan_of
from driftline.core.river.select import Select

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "shop", "city", "text", "flag")
Words, Hasher, Prefixer = feature_extraction.BagOfWords, preprocessing.FeatureHasher, compose.Prefixer
OneHot, Scaler = preprocessing.OneHotEncoder, preprocessing.StandardScaler


def _logistic(**given: Any) -> Any:
    return linear_model.LogisticRegression(**given)


def _mixed() -> Any:
    """As `init` writes it."""
    numbers = Select("b", "a") | Scaler()
    columns = Select("shop", "flag") | OneHot(drop_zeros=True)
    hashed = Select("city") | Hasher(n_features=32, seed=1)
    words = Select("text") | Words(on="text") | Hasher(n_features=64, seed=1) | Prefixer("text ")
    return compose.TransformerUnion(numbers, columns, hashed, words)


def _numbers() -> Any:
    return Select("a", "b") | Scaler()


MODELS: dict[str, Callable[[], Any]] = {
    "mixed, own rates": lambda: _mixed() | _logistic(optimizer=optim.AdaGrad(0.1)),
    "mixed, one rate": lambda: _mixed() | _logistic(l2=0.01),
    "mixed, penalty and own rates": lambda: _mixed() | _logistic(l2=0.01, optimizer=optim.AdaGrad(0.1)),
    "mixed, rates that fall": lambda: _mixed() | _logistic(optimizer=optim.AdaGrad(optim.schedulers.InverseScaling(1))),
    "mixed, naive Bayes": lambda: _mixed() | naive_bayes.BernoulliNB(),
    "mixed, tree": lambda: _mixed() | tree.HoeffdingTreeClassifier(grace_period=50),
    "mixed, scaled again": lambda: _mixed() | Scaler() | _logistic(),
    "zeros are kept": lambda: (_numbers() + (Select("shop") | OneHot())) | _logistic(),
    "the first column is dropped": lambda: (
        (_numbers() + (Select("shop") | OneHot(drop_zeros=True, drop_first=True))) | _logistic()
    ),
    "branches that write the same names": lambda: (
        compose.TransformerUnion(Select("a"), _numbers(), Select("b", "a") | preprocessing.MinMaxScaler()) | _logistic()
    ),
    "a branch that learns in its own way": lambda: (
        compose.TransformerUnion(Select("a", "b") | preprocessing.MinMaxScaler() | Scaler(), Words(on="text"))
        | _logistic()
    ),
    "a union in a union": lambda: (
        (
            (Select("a", "b") | compose.TransformerUnion(Scaler(), preprocessing.MinMaxScaler() | Prefixer("m ")))
            + (Select("shop") | OneHot(drop_zeros=True))
        )
        | _logistic()
    ),
    "names that no event has": lambda: (Select("a", "nothing") | Scaler()) | _logistic(),
    "no union": lambda: Select("b", "a") | Scaler() | _logistic(optimizer=optim.AdaGrad(0.1)),
    "words, naive Bayes": lambda: (
        Words(on="text") | Hasher(n_features=64, seed=1, alternate_sign=False) | naive_bayes.MultinomialNB()
    ),
    "words as they are, naive Bayes": lambda: Words(on="text") | naive_bayes.MultinomialNB(alpha=0.5),
    "words of either sign, naive Bayes": lambda: Words(on="text") | Scaler() | naive_bayes.MultinomialNB(alpha=5_000.0),
    "words": lambda: Words(on="text") | Hasher(n_features=64, seed=1) | _logistic(optimizer=optim.AdaGrad(0.1)),
}


def values_of(source: random.Random, number: int) -> tuple[Any, ...]:
    shop = source.choice(["x", "y", "z", ""]) if number % 11 else f"shop {number}"
    text = " ".join(source.choice(["low", "high", "New", "a b", "é"]) for _ in range(source.randrange(6)))
    return source.gauss(0, 1), source.randrange(9), shop, f"city {source.randrange(40)}", text, source.random() < 0.5


@pytest.mark.parametrize("name", MODELS)
def test_a_planned_pipeline_is_the_pipeline(name: str) -> None:
    theirs = MODELS[name]()
    ours = copy.deepcopy(theirs)
    way = Walk(ours, Form(NAMES, may_omit=False))
    ask, tell, learn = way.ask("predict_proba_one"), way.ask("predict_one"), way.learn()
    chance = way.probability()
    source = random.Random(4)
    for number in range(400):
        values = values_of(source, number)
        x = dict(zip(NAMES, values, strict=True))
        y = values[0] + values[1] > 4
        said = theirs.predict_proba_one(x)
        assert repr(ask(values)) == repr(said)
        assert tell(values) == theirs.predict_one(x)
        if chance is not None:
            assert repr({False: 1.0 - chance(values), True: chance(values)}) == repr(said)
        learn(values, y)
        theirs.learn_one(x, y)
        if number < 5 or number % 20 == 0:
            way.settle()
            assert digest_of(ours) == digest_of(theirs)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


NUMBERS: dict[str, Callable[[], Any]] = {
    "own rates": lambda: Scaler() | _logistic(optimizer=optim.AdaGrad(0.1)),
    "one rate": lambda: Scaler() | _logistic(),
    "scaled twice": lambda: Scaler() | Scaler() | _logistic(l2=0.01),
    "tree": lambda: Scaler() | tree.HoeffdingTreeClassifier(grace_period=20),
    "adaptive tree": lambda: Scaler() | tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, seed=1),
    "naive Bayes": lambda: Scaler() | naive_bayes.GaussianNB(),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_learned_at_once_and_later_alike(name: str) -> None:
    """A pair is often learned right after its event was scored: the scaler learns it all the same."""
    theirs = NUMBERS[name]()
    ours = copy.deepcopy(theirs)
    way = Walk(ours, Form("abc", may_omit=False))
    ask, learn = way.ask("predict_proba_one"), way.learn()
    source = random.Random(4)
    waiting: list[tuple[float, ...]] = []
    for number in range(300):
        values = (source.gauss(0, 1), source.gauss(5, 2), float(source.randrange(9)))
        assert repr(ask(values)) == repr(theirs.predict_proba_one(dict(zip("abc", values, strict=True))))
        waiting.append(values)
        while waiting and (number % 3 or len(waiting) > 4):
            known = waiting.pop()
            learn(known, known[0] + known[2] > 4)
            theirs.learn_one(dict(zip("abc", known, strict=True)), known[0] + known[2] > 4)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


def test_a_regression_is_planned_too() -> None:
    theirs = _mixed() | linear_model.LinearRegression(optimizer=optim.AdaGrad(0.1))
    ours = copy.deepcopy(theirs)
    way = Walk(ours, Form(NAMES, may_omit=False))
    tell, learn = way.ask("predict_one"), way.learn()
    source = random.Random(4)
    for number in range(200):
        values = values_of(source, number)
        x = dict(zip(NAMES, values, strict=True))
        assert repr(tell(values)) == repr(theirs.predict_one(x))
        learn(values, values[1] * 2.0)
        theirs.learn_one(x, values[1] * 2.0)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


def test_the_steps_that_init_writes_are_in_the_plan() -> None:
    steps = list((_mixed() | _logistic()).steps.values())
    plan = plan_of(steps[:-1], NAMES)
    assert plan is not None
    assert plan.steps == 1
    assert [type(one) for one in plan.branches] == [Numbers, Columns, Made, Made]
    assert not any(one.learns for one in plan.branches[2:] if isinstance(one, Made))


def test_what_is_given_as_it_is_has_no_plan() -> None:
    """Nor have events that may lack a feature: both go by name."""
    for form in (AsIs(), Form(NAMES, may_omit=True)):
        assert Walk(_mixed() | _logistic(), form).plan is None
    assert Walk(_mixed() | _logistic(), Form(NAMES, may_omit=False)).plan is not None


def test_columns_of_any_value_are_rivers() -> None:
    encoder, ours = OneHot(drop_zeros=True), Columns(["a", "b"], [0, 1])
    for values in (("x", 1), (1, True), (True, 1.0), (1.0, None), (["p", "q"], "x"), ("1", 1)):
        made: dict[Any, Any] = {}
        ours.write(values, made, learned=False)
        expected = encoder.transform_one(dict(zip("ab", values, strict=True)))
        assert list(made.items()) == list(expected.items())


@pytest.mark.parametrize("name", ["mixed, own rates", "zeros are kept", "a union in a union", "words, naive Bayes"])
def test_features_that_may_be_missing_go_by_name(name: str) -> None:
    theirs = MODELS[name]()
    ours = copy.deepcopy(theirs)
    way = Walk(ours, Form(NAMES, may_omit=True))
    ask, learn = way.ask("predict_proba_one"), way.learn()
    source = random.Random(4)
    for number in range(200):
        values = values_of(source, number)
        if number % 3 == 0:
            values = (None, *values[1:])
        x = {key: value for key, value in zip(NAMES, values, strict=True) if value is not None}
        assert repr(ask(values)) == repr(theirs.predict_proba_one(x))
        learn(values, values[1] > 4)
        theirs.learn_one(x, values[1] > 4)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)
