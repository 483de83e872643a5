"""A set in the order of arrival, and the models that need it."""

from __future__ import annotations

import copy
import pickle

import pytest

from driftline.core.digest import digest_of
from driftline.core.river.arrival import Arrivals
from driftline.core.river.building import make_model


def test_it_is_a_set() -> None:
    members = Arrivals("cab")
    members.add("a")
    members.add("d")
    members.discard("b")
    members.discard("x")
    assert list(members) == ["c", "a", "d"]
    assert (len(members), "a" in members, "b" in members) == (3, True, False)
    assert set(members) == {"a", "c", "d"}
    assert repr(members) == "Arrivals(['c', 'a', 'd'])"
    assert list(members | {"b"}) == ["c", "a", "d", "b"]


def test_the_order_survives_pickle_and_copy_and_is_part_of_the_state() -> None:
    words = [f"word {number * 7 % 101}" for number in range(100)]
    members = Arrivals(words)
    assert list(pickle.loads(pickle.dumps(members))) == words
    assert list(copy.deepcopy(members)) == words
    assert digest_of(Arrivals("ab")) != digest_of(Arrivals("ba"))
    assert digest_of(Arrivals("ab")) == digest_of(pickle.loads(pickle.dumps(Arrivals("ab"))))


@pytest.mark.parametrize(
    "model",
    [
        "HoeffdingAdaptiveTreeClassifier()",
        "KNNClassifier(engine=LazySearch(window_size=50))",
        "AMFClassifier(n_estimators=2)",
        "BaggingClassifier(HoeffdingAdaptiveTreeClassifier(), n_models=2)",
        "StandardScaler() | OneVsOneClassifier(LogisticRegression())",
    ],
)
def test_a_built_model_holds_no_empty_set(model: str) -> None:
    """What it will collect, it collects in order."""
    made = make_model(model, {}, 1)
    for number in range(60):
        made.learn_one({"x": float(number % 7)}, f"class {number % 5}")
    classes = [list(part) for part in _sets(made)]
    assert ["class 0", "class 1", "class 2", "class 3", "class 4"] in classes


def _sets(part: object, depth: int = 0) -> list[Arrivals]:
    if isinstance(part, Arrivals):
        return [part]
    inner = list(getattr(part, "__dict__", {}).values()) + (list(part) if isinstance(part, list | tuple) else [])
    inner += list(part.values()) if isinstance(part, dict) else []
    return [found for one in inner for found in _sets(one, depth + 1)] if depth < 8 else []
