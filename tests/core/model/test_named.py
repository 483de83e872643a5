"""A linear model whose weights are kept by name says and learns what River's does, down to the state's bits."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
from collections import Counter, OrderedDict
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
from river import linear_model, optim, preprocessing

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import AsIs, Form, Walk
from driftline.core.model.fast import named, named_linear
from driftline.core.model.fast.kernel import link
from driftline.core.model.fast.named import ByName, PlainNamed, same_named
from driftline.core.river.learning_rate import boost
from tests.core.model.walks import case_of, follow

KINDS = ["plain", *(["compiled"] if named.compiled is not None else [])]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, where numbers are as large as they get


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose arithmetic it is; a test runs with each."""
    monkeypatch.setattr(named_linear, "Held", PlainNamed if request.param == "plain" else named.compiled)
    return str(request.param)


def models() -> dict[str, Any]:
    logistic, regression = linear_model.LogisticRegression, linear_model.LinearRegression
    return {
        "as `init` writes it": logistic(optimizer=optim.AdaGrad(0.1)),
        "without what is added under the root": logistic(optimizer=optim.AdaGrad(0.1, eps=0)),
        "a whole rate": logistic(optimizer=optim.AdaGrad(1), intercept_lr=1),
        "a rate that falls": logistic(optimizer=optim.AdaGrad(optim.schedulers.InverseScaling(0.5))),
        "a rate that diverges": logistic(optimizer=optim.AdaGrad(1e200), intercept_lr=5.0),
        "plain": logistic(),
        "regression": regression(optimizer=optim.AdaGrad(0.1), intercept_lr=0.1),
        "plain regression": regression(optimizer=optim.SGD(0.001)),
    }


def features_of(source: random.Random, scale: float) -> dict[str, Any]:
    """Some that are always there, some that come and go, and new ones."""
    made: dict[str, Any] = {"a": source.gauss(0, 1) * scale, "b": source.gauss(3, 2), "one": 1}
    made[f"word_{source.randrange(40)}"] = source.choice((1, -1, True, 2))
    if source.random() < 0.02:
        made["a"] = source.choice((2**53 + 1, 1e300, -0.0, float("inf"), 10**18))
    return made


@pytest.mark.parametrize("scale", [1.0, 1e-170, 1e12, 1e160])
@pytest.mark.parametrize("name", models())
def test_the_bits_are_those_of_river(name: str, scale: float, kind: str) -> None:
    theirs = models()[name]
    ours = copy.deepcopy(theirs)
    walk = Walk(ours, AsIs())
    regression = "regression" in name
    learn, say = walk.learn(), walk.ask("predict_one") if regression else walk.probability()
    assert say is not None
    source = random.Random(5)
    for number in range(400):
        x = features_of(source, scale)
        y = x["b"] * 2 if regression else x["b"] > 3
        said = theirs.predict_one(x) if regression else theirs.predict_proba_one(x)[True]
        assert repr(say(x)) == repr(said)  # type: ignore[arg-type]  # as above
        expected = _raised(theirs.learn_one, x, y)
        assert _raised(learn, x, y) == expected
        if expected is not None:
            return  # half learned, by both: the learner puts its copy back
        if number % 7 == 0:
            walk.settle()
            assert digest_of(ours) == digest_of(theirs)
        if number == 200 and "rate" not in name:
            walk.settle()
            assert boost(ours, 3.0, 50) == boost(theirs, 3.0, 50)
            walk = Walk(ours, AsIs())
            learn, say = walk.learn(), walk.ask("predict_one") if regression else walk.probability()
            assert say is not None
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)


def _raised(learn: Any, x: Any, y: Any) -> str | None:
    try:
        learn(x, y)
    except ArithmeticError as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_random_pipelines_keep_their_bits_in_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_linear, "Held", PlainNamed)
    assert sum(follow(case_of(seed)) for seed in range(2_000, 2_040)) > 2_000


def test_the_numbers_are_back_in_the_model_once_it_is_settled(kind: str) -> None:
    model = linear_model.LogisticRegression(optimizer=optim.AdaGrad(0.1))
    walk = Walk(model, Form(("a",), may_omit=False))
    walk.learn()((1.0,), True)
    assert model.weights == {}
    walk.settle()
    assert model.weights["a"] > 0
    assert model.optimizer.g2["a"] > 0
    assert pickle.loads(pickle.dumps(model)).weights == model.weights


@pytest.mark.parametrize("odd", ["text", None, 2**53 + 1, 10**400, float("nan"), float("inf")])
def test_what_is_no_plain_number_is_rivers_to_answer(kind: str, odd: Any) -> None:
    make = PlainNamed if kind == "plain" else named.Held
    held = make((["a"], [0.5], [1.0]), 1e-8)
    assert held.ask({"a": odd}) is None
    assert held.advance({"a": odd}) is None
    assert held.ask(OrderedDict(a=1.0)) is None
    assert held.ask(Counter("aab")) == 1.0
    assert held.ask({"a": 2**53}) == 2.0**52


@pytest.mark.parametrize("asks", ["ask", "advance"])
@pytest.mark.parametrize("more", [10, 100_000])
def test_a_dict_that_changes_while_it_is_read_is_refused(kind: str, asks: str, more: int) -> None:
    """Only a name of another type can do that; it may cost an exception, but not the process."""

    class Adds(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return hash(str(self))

        def __eq__(self, other: object) -> bool:
            features.update({f"new {number}": 1.0 for number in range(more)})
            return str.__eq__(self, other)

    make = PlainNamed if kind == "plain" else named.Held
    held = make((["a"], [0.5], [1.0]), 1e-8)
    features: dict[str, float] = {Adds("a"): 1.0}
    with pytest.raises(RuntimeError, match="changed size"):
        getattr(held, asks)(features)


def test_who_sends_numbers_that_cannot_be_taken_is_left_to_river(kind: str) -> None:
    model = linear_model.LogisticRegression(optimizer=optim.AdaGrad(0.1))
    theirs = copy.deepcopy(model)
    model_of = named_linear.named_linear(model, link(model))
    assert model_of is not None
    for number in range(250):
        x = {"a": 10**17 + number, "b": 1.0}
        model_of.teach(x, number % 2 == 0)
        theirs.learn_one(x, number % 2 == 0)
    model_of.teach({"a": 1.0}, True)
    theirs.learn_one({"a": 1.0}, True)
    assert model.weights == theirs.weights  # though nothing was settled
    assert digest_of(model) == digest_of(theirs)


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(l2=0.1),
        linear_model.LogisticRegression(l1=0.1),
        linear_model.LogisticRegression(optimizer=optim.Adam()),
        linear_model.LogisticRegression(optimizer=optim.AdaGrad(eps=-1)),
        linear_model.LogisticRegression(initializer=optim.initializers.Normal(seed=1)),
        linear_model.Perceptron(),
        preprocessing.StandardScaler(),
    ],
)
def test_what_needs_more_is_left_to_river(model: Any) -> None:
    assert named_linear.named_linear(model, link(model)) is None


def test_one_that_gives_other_bits_is_not_used() -> None:
    class Fused(PlainNamed):
        """Divides last, as a compiler may that thinks it is the same."""

        def descend(self, slope: float, rate: float) -> None:
            if self._least is None:
                return super().descend(slope, rate)
            for place, value in self._shown:
                part = value * slope
                self._squares[place] = total = self._squares[place] + part * part
                self._weights[place] -= rate * part / (total + self._least) ** 0.5
            return None

    class Forgets(PlainNamed):
        def numbers(self) -> ByName:
            names, weights, squares = super().numbers()
            return names[:-1], weights[:-1], squares[:-1]

    assert same_named(PlainNamed)
    assert not same_named(Fused)
    assert not same_named(Forgets)
    assert not same_named(lambda numbers, least: PlainNamed(numbers, 1.0))


def test_the_compiled_one_is_taken_where_it_was_built() -> None:
    assert named.Held is (named.compiled or PlainNamed)
    assert named.compiled is not None or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"


def test_where_it_was_not_built_the_one_in_python_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "driftline.core.model.fast._weighted", None)  # an import of it raises
    spec = find_spec("driftline.core.model.fast.named")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone.compiled is None
    assert not alone.is_compiled
