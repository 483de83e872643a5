"""A scaler before a linear model in one says and learns what River's two do, down to the state's bits."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec, module_from_spec
from itertools import islice
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model, optim, preprocessing

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import Form, Walk
from driftline.core.model.fast import scaled_linear, weighted
from driftline.core.model.fast.scaled_linear import terms_of
from driftline.core.model.fast.weighted import Numbers, PlainSum, Rates, same_bits

NAMES = ("a", "b", "constant", "switch")
KINDS = ["plain", *(["compiled"] if weighted.compiled is not None else [])]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose arithmetic it is; a test runs with each."""
    monkeypatch.setattr(scaled_linear, "Weighted", PlainSum if request.param == "plain" else weighted.compiled)
    return str(request.param)


def models() -> dict[str, Any]:
    logistic, regression = linear_model.LogisticRegression, linear_model.LinearRegression
    return {
        "as it comes": logistic(),
        "penalty": logistic(l2=0.1),
        "weights of classes": logistic(loss=optim.losses.Log(weight_pos=3, weight_neg=1)),
        "a rate so high that it diverges": logistic(optimizer=optim.SGD(50.0), intercept_lr=5.0),
        "whole rates": logistic(optimizer=optim.SGD(1), intercept_lr=0),
        "clipped": logistic(clip_gradient=0.1),
        "clipped to less than nothing": logistic(clip_gradient=-1),
        "another loss": logistic(loss=optim.losses.Hinge()),
        "regression": regression(intercept_lr=0.1, l2=0.01),
        "regression of absolute errors": regression(loss=optim.losses.Absolute()),
    }


def stream(seed: int, scale: float = 1.0) -> Iterator[tuple[Any, ...]]:
    source = random.Random(seed)
    while True:
        yield source.gauss(0, 1) * scale, source.gauss(3, 2), 1, source.random() < 0.3


def test_numbers_that_overflow_keep_the_sign_of_what_is_none(kind: str) -> None:
    theirs = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    way = Walk(ours := copy.deepcopy(theirs), Form(("a", "b"), may_omit=False))
    learn = way.learn()
    for values, label in (((1, 2), True), ((1e200, 1), True), ((2, 3), False), ((4, 1), True), ((1, 1), False)):
        learn(values, label)
        theirs.learn_one(dict(zip("ab", values, strict=True)), label)
        way.settle()
        assert digest_of(ours) == digest_of(theirs)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e12, 1e200])
@pytest.mark.parametrize("name", models())
def test_the_bits_are_those_of_river(name: str, scale: float, kind: str) -> None:
    model = models()[name]
    theirs = preprocessing.StandardScaler() | model
    ours = copy.deepcopy(theirs)
    assert terms_of(*ours.steps.values()) is not None
    regression = name.startswith("regression")
    way = Walk(ours, Form(NAMES, may_omit=False))
    learn = way.learn()
    say = way.ask("predict_one") if regression else way.probability()
    assert say is not None
    for number, values in enumerate(islice(stream(5, scale), 400)):
        x, y = dict(zip(NAMES, values, strict=True)), values[1] * 2 if regression else values[1] > 3
        said = theirs.predict_one(x) if regression else theirs.predict_proba_one(x)[True]
        assert repr(say(values)) == repr(said)
        learn(values, y)
        theirs.learn_one(x, y)
        if number % 7 == 0:
            way.settle()
            assert digest_of(ours) == digest_of(theirs)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


def test_another_question_is_answered_by_what_was_learned(kind: str) -> None:
    theirs = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    way = Walk(ours := copy.deepcopy(theirs), Form(NAMES, may_omit=False))
    learn, classes, shares = way.learn(), way.ask("predict_one"), way.ask("predict_proba_one")
    for values in islice(stream(9), 50):
        x = dict(zip(NAMES, values, strict=True))
        assert classes(values) == theirs.predict_one(x)
        learn(values, values[1] > 3)
        theirs.learn_one(x, values[1] > 3)
        assert shares(values) == theirs.predict_proba_one(x)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


def trained(names: Sequence[str], strangers: int = 0) -> Any:
    """A model that has learned these features, in this order, the last ones less often."""
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for number, values in enumerate(islice(stream(2), 30)):
        x = dict(zip(NAMES, values, strict=True))
        x = {name: x.get(name, 0.5) for name in names}
        for name in names[len(names) - strangers :] if number < 10 else ():
            del x[name]
        model.learn_one(x, number % 3 == 0)
    return model


@pytest.mark.parametrize(
    ("names", "strangers"),
    [(NAMES, 0), (NAMES[::-1], 0), ((*NAMES, "more"), 0), (NAMES[:2], 0), (NAMES, 1)],
    ids=["as declared", "in another order", "one more", "fewer", "not all of them equally often"],
)
def test_a_model_that_was_trained_elsewhere_goes_on(names: tuple[str, ...], strangers: int, kind: str) -> None:
    theirs = trained(names, strangers)
    ours = pickle.loads(pickle.dumps(theirs))
    way = Walk(ours, Form(NAMES, may_omit=False))
    say, learn = way.probability(), way.learn()
    assert say is not None
    for number, values in enumerate(islice(stream(3), 300)):
        x = dict(zip(NAMES, values, strict=True))
        assert say(values) == theirs.predict_proba_one(x)[True]
        if number > 20:
            learn(values, number % 4 == 0)
            theirs.learn_one(x, number % 4 == 0)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)


def test_what_needs_more_goes_its_own_way() -> None:
    logistic, scaler = linear_model.LogisticRegression, preprocessing.StandardScaler
    assert terms_of(scaler(), logistic()) is not None
    assert terms_of(scaler(window_size=5), logistic()) is None
    assert terms_of(scaler(), logistic(optimizer=optim.Adam())) is None
    assert terms_of(scaler(), logistic(optimizer=optim.SGD(optim.schedulers.InverseScaling(0.1)))) is None
    assert terms_of(scaler(), logistic(intercept_lr=optim.schedulers.InverseScaling(0.1))) is None
    assert terms_of(scaler(), logistic(l1=0.1)) is None
    assert terms_of(scaler(), linear_model.Perceptron()) is None
    assert terms_of(preprocessing.MinMaxScaler(), logistic()) is None


NUMBER = st.floats(-1e15, 1e15) | st.integers(-(2**53), 2**53) | st.booleans()


@pytest.mark.skipif(weighted.compiled is None, reason="no C compiler was there at the installation")
@given(
    st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=30),
    st.lists(st.floats(-1e6, 1e6), min_size=30, max_size=30),
    st.sampled_from([0.0, 0.1, 50.0]),
)
def test_the_compiled_sum_is_the_plain_one(rows: list[tuple[Any, ...]], slopes: list[float], rate: float) -> None:
    start: Numbers = (0, [0.0] * 3, [0.0] * 3, [0.0, 1.0, -0.5], 0.25)
    assert weighted.compiled is not None
    rates = rate, 0.01, rate / 7
    one, other = PlainSum(start, rates), weighted.compiled(start, rates)
    for values, slope in zip(rows, slopes, strict=False):
        assert repr(one.ask(values)) == repr(other.ask(values))
        assert repr(one.advance(values)) == repr(other.advance(values))
        one.descend(slope)
        other.descend(slope)
        assert repr(one.numbers()) == repr(other.numbers())


def test_a_sum_of_other_bits_is_found_out() -> None:
    class Fused(PlainSum):
        """As a compiler makes it that rounds once where there are two operations."""

        def ask(self, values: Sequence[Any]) -> float:
            return super().ask(values) * (1 + 2**-52)

    class Forgets(PlainSum):
        """The penalty."""

        def __init__(self, numbers: Numbers, rates: Rates) -> None:
            super().__init__(numbers, (*rates[:2], 0.0))

    class Older(PlainSum):
        """Built from a source that made it otherwise."""

        def __init__(self, numbers: Numbers) -> None:
            super().__init__(numbers, (0.01, 0.01, 0.0))

    assert same_bits(PlainSum)
    assert not same_bits(cast("Any", Older))
    assert not same_bits(Fused)
    assert not same_bits(Forgets)


def test_the_compiled_sum_is_taken_where_it_was_built() -> None:
    assert weighted.Weighted is (weighted.compiled or PlainSum)
    assert weighted.compiled is not None or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"


def test_where_it_was_not_built_the_plain_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "driftline.core.model.fast._weighted", None)  # an import of it raises
    spec = find_spec("driftline.core.model.fast.weighted")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone.compiled is None
    assert alone.Weighted is alone.PlainSum


def test_a_count_of_values_that_does_not_fit_is_refused(kind: str) -> None:
    made = (PlainSum if kind == "plain" else weighted.Weighted)(
        (1, [0.0] * 2, [1.0] * 2, [0.0] * 2, 0.0), (0.1, 0.1, 0.0)
    )
    assert made.ask([1.0, 2.0]) == made.ask((1.0, 2.0)) == 0.0
    with pytest.raises(IndexError):
        made.ask((1.0,))
    with pytest.raises(IndexError):
        made.advance((1.0,))


@pytest.mark.parametrize("count", [2**62, 2**63 - 1, 2**63, -1])
def test_counts_that_leave_64_bits_are_left_to_river(count: int, kind: str) -> None:
    theirs = trained(NAMES)
    scaler = theirs["StandardScaler"]
    for name in NAMES:
        scaler.counts[name] = count
    ours = copy.deepcopy(theirs)
    learn = (way := Walk(ours, Form(NAMES, may_omit=False))).learn()
    x = next(stream(1))
    if count == -1:
        with pytest.raises(ZeroDivisionError):
            learn(x, True)
        return
    learn(x, True)
    theirs.learn_one(dict(zip(NAMES, x, strict=True)), True)
    way.settle()
    assert digest_of(ours) == digest_of(theirs)
