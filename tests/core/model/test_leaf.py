"""A Hoeffding tree whose leaves give up their numbers says and learns what River's does, down to the state's bits."""

from __future__ import annotations

import copy
import math
import os
import random
import subprocess
import sys
from collections import OrderedDict, deque
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from river import tree
from river.tree.nodes.htc_nodes import LeafNaiveBayesAdaptive
from river.tree.splitter import GaussianSplitter

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import AsIs, Form, Walk
from driftline.core.model.fast import leaf as arithmetic
from driftline.core.model.fast.leaf import Leaf, plain_learn, plain_way, same_leaf, says
from tests.core.model.walks import case_of, follow

COMPILED = arithmetic.compiled
KINDS = ["plain", *(["compiled"] if COMPILED is not None else [])]
ODD = (0, 1, True, False, -0.0, 2**53, 2**53 + 1, 10**18, 5e-324, 1e160, 1e300, math.inf, -math.inf)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose arithmetic it is; a test runs with each."""
    monkeypatch.setattr(arithmetic, "Taken", None if request.param == "plain" else COMPILED and COMPILED[0])
    monkeypatch.setattr(arithmetic, "way", plain_way if request.param == "plain" else COMPILED and COMPILED[1])
    return str(request.param)


class Counted:
    """Counts leaves that were taken, and what they learned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = self.learned = 0
        take = arithmetic.Taken

        class Counting:
            def __init__(self, leaf: Any, whole: bool) -> None:
                assert take is not None
                self._leaf = take(leaf, whole)
                counts.taken += 1

            def learn(self, features: Any, label: Any, weight: float) -> float | None:
                found = self._leaf.learn(features, label, weight)
                counts.learned += found is not None
                return found

            def __getattr__(self, name: str) -> Any:
                return getattr(self._leaf, name)

        counts = self
        if take is not None:
            monkeypatch.setattr(arithmetic, "Taken", Counting)


Row = tuple[dict[str, Any], Any]


def rows(name: str, count: int = 600) -> list[Row]:
    source, made = random.Random(11), list[Row]()
    for number in range(count):
        x: dict[str, Any] = {"a": source.gauss(0, 1), "b": source.gauss(3, 2), "n": source.randrange(9)}
        y: Any = x["a"] + x["b"] > 3 + 2 * (number > 400)
        if name == "classes":
            y = "abcde"[min(4, max(0, int(x["b"])))]
        elif name == "one class":
            y = "only"
        elif name == "odd":
            x |= {source.choice("abn"): source.choice(ODD)} if source.random() < 0.05 else {}
        elif name == "huge":
            x["a"] *= 1e157
        elif name == "tiny":
            x["a"] *= 1e-157
        elif name == "constant":
            x["b"] = 7.0
        elif name == "missing" and source.random() < 0.1:
            del x[source.choice("abn")]
        elif name == "new features" and number > 300:
            x["later"] = source.gauss(y, 1)
        made.append((x, y))
    return made


ROWS = ["plain", "classes", "one class", "odd", "huge", "tiny", "constant", "missing", "new features"]


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("name", ROWS)
def test_the_bits_are_those_of_river(name: str, delay: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counted(monkeypatch)
    theirs = tree.HoeffdingTreeClassifier(grace_period=40, delta=0.01, memory_estimate_period=250)
    ours, waiting = copy.deepcopy(theirs), deque[Row]()
    walk = Walk(ours, AsIs())
    ask, learn = walk.ask("predict_proba_one"), walk.learn()
    for number, row in enumerate(rows(name)):
        assert _outcome(ask, row[0]) == _outcome(theirs.predict_proba_one, row[0])
        waiting.append(row)
        if len(waiting) > delay:
            x, y = waiting.popleft()
            expected = _outcome(theirs.learn_one, x, y)
            assert _outcome(learn, x, y) == expected
            if expected != "None":  # half learned, by both: the learner puts its copy back
                break
        if number % 12 == 0:
            walk.settle()
            assert digest_of(ours) == digest_of(theirs)
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)
    if kind == "compiled" and name in ("plain", "classes"):
        assert theirs.n_branches > 0
        assert counts.learned > 450


def _outcome(call: Any, *given: Any, **named: Any) -> str:
    try:
        return repr(call(*given, **named))
    except (ArithmeticError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def test_numbers_stay_out_as_long_as_nobody_looks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counted(monkeypatch)
    theirs = tree.HoeffdingTreeClassifier(grace_period=200)
    ours = copy.deepcopy(theirs)
    walk = Walk(ours, Form("abn", may_omit=False))
    ask, learn = walk.ask("predict_proba_one"), walk.learn()
    for x, y in rows("plain"):
        assert ask(tuple(x.values())) == theirs.predict_proba_one(x)
        learn(tuple(x.values()), y)
        theirs.learn_one(x, y)
    if kind == "compiled":
        assert counts.taken < 20
        assert digest_of(ours) != digest_of(theirs)
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)


def test_features_need_not_be_a_plain_dictionary(kind: str) -> None:
    theirs = tree.HoeffdingTreeClassifier(grace_period=40, delta=0.01)
    ours = copy.deepcopy(theirs)
    walk = Walk(ours, AsIs())
    ask, learn = walk.ask("predict_proba_one"), walk.learn()
    for x, y in rows("plain", 300):
        features: Any = OrderedDict(x)
        assert ask(features) == theirs.predict_proba_one(features)
        learn(features, y)
        theirs.learn_one(features, y)
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)
    assert theirs.n_branches > 0


def test_a_tree_of_odd_values_keeps_its_numbers(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counted(monkeypatch)
    theirs = tree.HoeffdingTreeClassifier()
    ours = copy.deepcopy(theirs)
    walk = Walk(ours, AsIs())
    learn = walk.learn()
    for number in range(600):
        x: Any = {"a": 2**60 + number, "b": number % 7}
        y = number % 3 == 0
        learn(x, y)
        theirs.learn_one(x, y)
    walk.settle()
    assert digest_of(ours) == digest_of(theirs)
    assert counts.taken < 150


def test_random_trees_keep_their_bits_in_python_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "Taken", None)
    monkeypatch.setattr(arithmetic, "way", plain_way)
    trees = [case for case in map(case_of, range(200)) if "HoeffdingTreeClassifier" in case.model]
    assert sum(map(follow, trees[:6])) > 150


# -- a leaf by itself

numbers = st.one_of(
    st.floats(-1e3, 1e3),
    st.floats(allow_nan=False),
    st.integers(-5, 5),
    st.booleans(),
    st.sampled_from(ODD),
)
learned = st.lists(
    st.tuples(numbers, numbers, st.sampled_from("xyz"), st.sampled_from([1.0, 1, 2, 6, 0.5])), min_size=1, max_size=40
)


@pytest.mark.skipif(COMPILED is None, reason="no C compiler was there when it was installed")
@example(
    [(0.0, 2.6815615859885194e154, "z", 1.0), *[(0.0, 0.0, "x", 1.0)] * 5, (0.0, 0.0, "z", 1.0), (0.0, 0.0, "x", 1.0)]
)
@given(learned)
def test_a_leaf_that_was_taken_learns_as_rivers_does(samples: list[tuple[Any, Any, str, float]]) -> None:
    assert COMPILED is not None
    take, river = COMPILED[0], tree.HoeffdingTreeClassifier()
    leaves = [LeafNaiveBayesAdaptive({}, 0, GaussianSplitter()) for _ in range(2)]
    for label in "xyxy":
        for one in leaves:
            one.learn_one({"a": 1.0 + (label == "x"), "b": 3}, label, w=1.0, tree=river)
    theirs, ours = leaves
    taken: Leaf = take(ours, True)
    for a, b, label, weight in samples:
        x = {"a": a, "b": b}
        said = taken.ask(x)
        if said is None:
            taken.put_back()
            assert _outcome(ours.prediction, x) == _outcome(theirs.prediction, x)
        else:
            assert repr(said) == repr(theirs.prediction(x))
        if taken.learn(x, label, weight) is None:
            taken.put_back()
            told = {"w": weight, "tree": river}
            assert _outcome(ours.learn_one, x, label, **told) == _outcome(theirs.learn_one, x, label, **told)
            try:
                taken = take(ours, True)
            except ValueError:
                break
        else:
            theirs.learn_one(x, label, w=weight, tree=river)
    taken.put_back()
    assert digest_of(ours) == digest_of(theirs)


@pytest.mark.skipif(COMPILED is None, reason="no C compiler was there when it was installed")
def test_what_is_not_compiled_changes_nothing() -> None:
    assert COMPILED is not None
    leaf = LeafNaiveBayesAdaptive({}, 0, GaussianSplitter())
    with pytest.raises(ValueError, match="without splitters"):
        COMPILED[0](leaf, True)
    for label in "xyxy":
        plain_learn(leaf, {"a": 1.0 + (label == "x"), "b": 3}, label, None)
    before, taken = digest_of(leaf), COMPILED[0](leaf, True)
    assert taken.knows("x")
    assert not taken.knows("z")
    for x, label in [
        ({"a": 1.0, "b": 2}, "z"),
        ({"a": 1.0, "b": None}, "x"),
        ({"a": 1.0, "b": "2"}, "x"),
        ({"a": 1.0, "b": 2**60}, "x"),
        ({"a": math.nan, "b": 2}, "x"),
        ({"a": 1.0, "b": 2, "c": 3}, "x"),
    ]:
        assert taken.learn(x, label, 1.0) is None
    splitters = leaf.splitters
    leaf.deactivate()
    assert taken.ask({"a": 1.0, "b": 2}) is None
    assert taken.learn({"a": 1.0, "b": 2}, "x", 1.0) is None
    leaf.splitters = splitters
    taken.put_back()
    assert digest_of(leaf) == before
    assert taken.learn({"a": 1.0, "b": 2}, "x", 1.0) == 5.0


def test_one_that_gives_other_bits_is_not_used() -> None:
    class OnItsOwn:
        """Done in Python, on River's objects."""

        def __init__(self, leaf: Any, whole: bool) -> None:
            self._leaf = leaf

        def ask(self, features: Any) -> dict[Any, float] | None:
            return says(self._leaf, features)[0]

        def learn(self, features: Any, label: Any, weight: float) -> float | None:
            return plain_learn(self._leaf, features, label, None)

        def knows(self, label: Any) -> bool:
            return True

        def put_back(self) -> None:
            """There is nothing to do."""

    class Rounds(OnItsOwn):
        def ask(self, features: Any) -> dict[Any, float] | None:
            return {label: round(share, 12) for label, share in says(self._leaf, features)[0].items()}

    class Forgets(OnItsOwn):
        def put_back(self) -> None:
            self._leaf.stats.clear()

    assert same_leaf(OnItsOwn, plain_way)
    assert not same_leaf(Rounds, plain_way)
    assert not same_leaf(Forgets, plain_way)
    assert not same_leaf(OnItsOwn, lambda node, features: (node, None))


def test_the_compiled_one_is_taken_where_it_was_built() -> None:
    assert arithmetic.Taken is (None if COMPILED is None else COMPILED[0])
    assert COMPILED is not None or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"


def test_where_it_was_not_built_the_one_in_python_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "driftline.core.model.fast._leaf", None)  # an import of it raises
    spec = find_spec("driftline.core.model.fast.leaf")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone.Taken is None
    assert alone.way is alone.plain_way
    assert not alone.is_compiled


@pytest.mark.skipif(COMPILED is None, reason="no C compiler was there when it was installed")
@pytest.mark.parametrize("children", ["[]", "()", "[leaf]", "(leaf,)", "[leaf, leaf, leaf]", "None", "'ab'"])
def test_a_branch_that_no_learning_made_is_left_to_river(children: str) -> None:
    """In a process of its own: the walk read beyond the end of the list, so a forged state ended the worker."""
    code = f"""
from river.tree.nodes.branch import NumericBinaryBranch
from driftline.core.model.fast import leaf as arithmetic
leaf = object()
for value in (0.0, 1.0):
    branch = NumericBinaryBranch({{}}, "a", 0.5, 0, leaf, leaf)
    branch.children = {children}
    assert arithmetic.compiled is not None
    for _ in range(1000):
        assert arithmetic.compiled[1](branch, {{"a": value}}) == (None, None)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
