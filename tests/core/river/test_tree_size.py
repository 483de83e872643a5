"""A tree that stops growing by its size goes the same way as its copy from a snapshot."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
from river import tree

from driftline.core.digest import digest_of, size_of
from driftline.core.pickle.writer import pickled
from driftline.core.river.building import tree_size

SIZE: dict[str, Any] = {"grace_period": 20, "max_size": 0.05, "memory_estimate_period": 100, "delta": 0.1, "tau": 0.2}
TREES: dict[str, Callable[[], Any]] = {
    "classifier": lambda: tree.HoeffdingTreeClassifier(**SIZE),
    "regressor": lambda: tree.HoeffdingTreeRegressor(**SIZE),
    "adaptive": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=3, **SIZE),
}


@pytest.mark.parametrize("name", TREES)
def test_a_copy_grows_as_the_tree_does(name: str) -> None:
    live: Any = TREES[name]()
    assert tree_size(live) == size_of(live)
    copy, source, inactive = live, random.Random(5), 0
    for number in range(3_000):
        x = {"a": source.gauss(0, 1), "b": source.gauss(3, 2)}
        y: Any = x["a"] * x["b"] > 1
        live.learn_one(x, float(y) if name == "regressor" else y)
        if copy is not live:
            copy.learn_one(x, float(y) if name == "regressor" else y)
        if number == 1_234:
            copy = pickle.loads(pickled(live))
        inactive = max(inactive, live._n_inactive_leaves)
    assert digest_of(copy) == digest_of(live)
    assert inactive > 0  # the limit was met


def test_size_is_that_of_equal_states() -> None:
    state = {"numbers": [0.5, 7], "text": "abc"}
    assert size_of(state) == size_of(pickle.loads(pickle.dumps(state)))
    assert size_of({**state, "more": 1}) > size_of(state)
