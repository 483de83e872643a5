"""Digests: equal for equal state, different for the smallest difference."""

from __future__ import annotations

import collections
import datetime
import math
import pickle
import random
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest
from msgspec import Struct
from pydantic import BaseModel
from river import proba

from driftline.core.digest import DigestError, digest_of
from driftline.core.river.building import make_model


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: object, b: object) -> None:
        self.a = a
        self.b = b


class Open:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


class Fresh:
    """Makes its state when it is asked."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> dict[str, list[int]]:
        return {"made": [self.number]}


class Frozen(Struct, frozen=True):
    a: int


class Form(BaseModel):
    a: int = 1
    b: int = 2


class FortyTwo(int):
    pass


DIFFERENT: list[Any] = [
    None, True, False, 0, 1, -1, 2**70, 0.0, -0.0, 1.0, math.nextafter(1.0, 2.0), math.inf, math.nan, "", "0",
    "a", "é", "\ud800", b"", b"a", (), (1,), (1, 2), (2, 1), ((1, 2),), ((1,), 2), [], [1], [1, 2], [[1], 2],
    {}, {1: 2}, {2: 1}, {1: 2, 3: 4}, {3: 4, 1: 2}, set(), {1}, {"1"}, frozenset({1}), {(1, 2)},
    collections.deque([1]), collections.deque([1], 5), collections.deque([1], 51),
    collections.OrderedDict({1: 2}), collections.Counter({1: 2}), collections.defaultdict(int, {1: 2}),
    collections.defaultdict(float, {1: 2}), np.array([1.0]), np.array([1]), np.array([[1.0]]),
    np.array([1.0, 2.0]), np.float64(1.0), np.float32(1.0), np.array([None, "a"], dtype=object),
    np.array([None, "b"], dtype=object), random.Random(1), random.Random(2), np.random.RandomState(1),
    np.random.RandomState(2), np.random.default_rng(1), datetime.timedelta(1), datetime.date(2020, 1, 1),
    Decimal("1"), Slotted(1, 2), Slotted(2, 1), Open(a=1), Open(b=1), Open(a=2), Frozen(1), Frozen(2), Form(),
    Form(a=2), int, float, len, math.exp, partial(int, base=2), partial(int, base=3), FortyTwo(42), "a".join,
    [1].append,
]  # fmt: skip


def test_what_is_different_has_different_digests() -> None:
    digests: dict[bytes, Any] = {}
    for member in DIFFERENT:
        digest = digest_of(member)
        assert digest not in digests, (member, digests.get(digest))
        digests[digest] = member


@pytest.mark.parametrize("member", [m for m in DIFFERENT if not callable(m)], ids=lambda member: type(member).__name__)
def test_pickling_changes_no_digest(member: Any) -> None:
    assert digest_of(pickle.loads(pickle.dumps(member))) == digest_of(member)


@pytest.mark.parametrize("shape", [float, np.float64, np.float32, lambda value: np.array([1.0, value])])
def test_every_nan_is_the_same(shape: Any) -> None:
    """The sign of one is what the interpreter makes it: River's own steps give now this, now that."""
    one, other = shape(math.nan), shape(-math.nan)
    assert digest_of(one) == digest_of(other) == digest_of(pickle.loads(pickle.dumps(other)))
    assert digest_of(one) != digest_of(shape(math.inf))
    assert math.copysign(1.0, np.ravel(other)[-1]) == -1.0  # nothing is changed


def test_order_of_attributes_does_not_matter_and_order_of_keys_does() -> None:
    assert digest_of(Open(a=1, b=2)) == digest_of(Open(b=2, a=1))
    assert digest_of({"a": 1, "b": 2}) != digest_of({"b": 2, "a": 1})


def test_sets_are_equal_in_any_order() -> None:
    words = [f"word-{number}" for number in range(100)]
    backwards = [*reversed(words)]
    assert digest_of(set(words)) == digest_of(set(backwards))
    assert digest_of({(1, "a"), (2, "b")}) == digest_of({(2, "b"), (1, "a")})


def test_cycles_and_shared_parts() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append([1, other])
    assert digest_of(ring) == digest_of(pickle.loads(pickle.dumps(ring)))
    assert digest_of(ring) != digest_of(other)
    part = [1]
    assert digest_of([part, part]) != digest_of([[1], [1]])
    numbers = [1, 2]
    pair, twin = tuple(numbers), tuple(numbers)
    assert pair is not twin
    assert digest_of([pair, twin]) == digest_of([pair, pair])


def test_states_made_on_the_fly_are_not_mistaken_for_one() -> None:
    assert digest_of([Fresh(1), Fresh(2)]) != digest_of([Fresh(1), Fresh(1)])
    assert digest_of([Fresh(number) for number in range(50)]) == digest_of([Fresh(number) for number in range(50)])


def test_depth_is_no_limit() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    assert len(digest_of(deep)) == 16


def test_pydantic_models_are_equal_by_value() -> None:
    assert digest_of(Form(a=1)) == digest_of(Form())


def test_generators_of_unseeded_distributions_do_not_count() -> None:
    gaussian: Any = proba.Gaussian
    assert digest_of(gaussian()) == digest_of(gaussian())
    assert digest_of(gaussian(seed=1)) != digest_of(gaussian(seed=2))
    models = [make_model("GaussianNB()", {}, 42) for _ in range(2)]
    for model in models:
        for number in range(20):
            model.learn_one({"a": float(number % 7)}, number % 2 == 0)
    assert digest_of(models[0]) == digest_of(models[1])
    models[0].learn_one({"a": 1.0}, True)
    assert digest_of(models[0]) != digest_of(models[1])


@pytest.mark.parametrize(
    "member", [lambda: 1, (number for number in range(3)), [Open(a={"b": lambda: 1})], memoryview(b"a")]
)
def test_what_cannot_be_walked_is_told(member: Any) -> None:
    with pytest.raises(DigestError, match="state"):
        digest_of(member)


def test_the_way_to_what_cannot_be_walked_is_told() -> None:
    with pytest.raises(DigestError, match=r"state\[0\]\.a\['b'\] is .*<lambda>, which has no importable name"):
        digest_of([Open(a={"b": lambda: 1})])


@pytest.mark.parametrize(
    "expression",
    [
        "StandardScaler() | LogisticRegression()", "HoeffdingTreeClassifier(grace_period=10)", "GaussianNB()",
        "HoeffdingAdaptiveTreeClassifier(grace_period=10)", "ARFClassifier(n_models=2)",
        "AMFClassifier(n_estimators=2)",
        "OneHotEncoder() | LogisticRegression()", "RBFSampler() | LogisticRegression()", "FMClassifier()",
    ],
)  # fmt: skip
def test_models_learn_to_the_same_digest_with_a_pickle_midway(expression: str) -> None:
    rng = random.Random(1)
    plain, pickled = (make_model(expression, {}, 42) for _ in range(2))
    for number in range(200):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(1, 1)}
        for model in (plain, pickled):
            model.predict_proba_one(x)
            model.learn_one(x, x["a"] + x["b"] > 1)
        if number == 100:
            pickled = pickle.loads(pickle.dumps(pickled))
    assert digest_of(plain) == digest_of(pickled)
    plain.learn_one({"a": 0.5, "b": 0.5}, True)
    assert digest_of(plain) != digest_of(pickled)
