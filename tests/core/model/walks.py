"""Random pipelines, random events and random orders of what a learner does with a model, each made by its seed.

A case is a pipeline as a file has it (text, of what `driftline check` admits), events of features of several kinds,
and what is done: asked, learned at once or later, of the same values or of equal ones, settled, copied, put back.
`follow` does it with a `Walk` and with River alone, and says where they part.
"""

from __future__ import annotations

import copy
import math
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from driftline.core.digest import digest_of
from driftline.core.model.dispatch import Form, Walk
from driftline.core.river.building import make_model
from tests.core.model.random_pipelines import KINDS, TEXT, Pipelines

ODD = (0, 1, 7, True, False, 0.0, -0.0, 2**53 + 1, 1e-320)
WILD = (0, -0.0, 10**18 + 1, 1.7e308, -1.7e308, 5e-324, math.inf, -math.inf, math.nan, 2**70)


@dataclass(frozen=True)
class Case:
    """What a seed makes.

    Args:
        model: the expression.
        task: `binary`, `classes` or `number`.
        names: of the features, in declared order.
        may_omit: values may be missing.
        calm: of numbers that no sum of theirs exceeds.
        steps: how many events.
    """

    seed: int
    model: str
    task: str
    names: tuple[str, ...]
    may_omit: bool
    calm: bool
    steps: int


def case_of(seed: int) -> Case:
    source = random.Random(seed)
    task = source.choice(("binary", "binary", "classes", "number"))
    everything = [*KINDS, TEXT]
    names = source.sample(everything, source.randint(1, len(everything)))
    if source.random() < 0.4:
        names = [name for name in names if KINDS.get(name) in ("number", "whole", "truth")] or ["a", "b"]
    model = Pipelines(source, names, task).model()
    may_omit = source.random() < 0.25
    return Case(seed, model, task, tuple(names), may_omit, source.random() < 0.7, source.choice((20, 40, 150)))


# -- events


class Events:
    """Values of events, and labels that depend on them."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._source = source = random.Random(case.seed + 0.5)
        self._scale = {name: self._scale_of() for name in case.names}
        self._seldom = source.choice((0.0, 0.02, 0.2))
        self._labels = (
            source.choice(((False, True), (0, 1))) if case.task == "binary" and source.random() < 0.3 else (False, True)
        )
        self._classes = source.choice(
            (["x", "y", "z"], ["1", "2"], [0, 1, 2], ["x", 1, True], [True, False, True], ["x"])
        )

    def _scale_of(self) -> float:
        if self._case.calm:
            return self._source.choice((1.0, 1.0, 100.0, 1e-3, 0.0))
        return self._source.choice((1.0, 1e-200, 1e-310, 1e12, 1e160, 1e307, 0.0))

    def values(self) -> tuple[Any, ...]:
        return tuple([self._value(name) for name in self._case.names])

    def label(self, values: tuple[Any, ...]) -> Any:
        source = self._source
        sign = len(repr(values[0])) % 3
        if source.random() < 0.2:
            sign = source.randrange(3)
        if self._case.task == "binary":
            return self._labels[sign > 0]
        if self._case.task == "classes":
            return self._classes[sign % len(self._classes)]
        scale = 1.0 if self._case.calm else source.choice((1.0, 1e10, 1e300))
        return source.choice((source.gauss(sign, 1) * scale, sign, float(sign)))

    def _value(self, name: str) -> Any:
        source, kind = self._source, KINDS.get(name)
        if self._case.may_omit and source.random() < 0.15:
            return None
        if source.random() < self._seldom:
            return self._odd(kind)
        if kind == "number":
            return source.gauss(source.choice((0, 3)), 1) * self._scale[name]
        if kind == "whole":
            return source.randrange(9)
        if kind == "truth":
            return source.random() < 0.5
        if kind == "category":
            return source.choice(("x", "y", "1", "2.0", "", "x_1", "True"))
        return " ".join(source.choice(["low", "high", "New", "a b", "é"]) for _ in range(source.randrange(6)))

    def _odd(self, kind: str | None) -> Any:
        source = self._source
        if kind == "number":
            return source.choice(ODD if self._case.calm else WILD)
        if kind == "whole":
            return source.choice((-1, 2**62 + 1, 2.5, True))
        if kind == "truth":
            return source.choice((0, 1))
        return f"new {source.randrange(10**6)}"


# -- what is done


class PartedError(AssertionError):
    """The two said or learned something else."""


def follow(case: Case) -> int:
    """Do with both what a learner does.

    Returns:
        How many calls did not raise.

    Raises:
        PartedError: with the case, and where.
    """
    return _Pair(case).follow()


class _Pair:
    """A model that a `Walk` asks and teaches, and the same by River alone."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._source = random.Random(case.seed + 0.25)
        self._events = Events(case)
        self._form = Form(case.names, may_omit=case.may_omit)
        self._theirs = self._planned(make_model(case.model, {}, 7))
        self._use(make_model(case.model, {}, 7))
        self._done = 0
        self._keep()
        self._at = 0

    def _planned(self, model: Any) -> Any:
        """River's, whose pipelines know their own steps: else they learn them at the first call, which may not come."""
        Walk(model, self._form)
        return model

    def _use(self, ours: Any) -> None:
        self._ours, self._walk = ours, Walk(ours, self._form)
        methods = ["predict_one"] if self._case.task == "number" else ["predict_one", "predict_proba_one"]
        self._asks = {name: self._walk.ask(name) for name in methods}
        self._chance = self._walk.probability()
        self._learn = self._walk.learn()

    def _keep(self) -> None:
        self._walk.settle()
        self._base = pickle.dumps(self._ours), pickle.dumps(self._theirs)
        self._since: list[tuple[tuple[Any, ...], Any]] = []

    def follow(self) -> int:
        source, events = self._source, self._events
        waiting: list[tuple[tuple[Any, ...], Any]] = []
        hurry = source.choice((1.0, 0.6, 0.1))
        for at in range(self._case.steps):
            self._at = at
            values = events.values()
            for _ in range(source.choice((0, 1, 1, 2))):
                self._ask(values)
            waiting.append((values, events.label(values)))
            while waiting and source.random() < hurry:
                self._teach(*waiting.pop(source.choice((0, -1))))
            if source.random() < 0.15:
                source.choice((self._same, self._snapshot, self._renew, self._keep, self._reread, self._go_back))()
        self._same()
        return self._done

    def _features(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return {name: value for name, value in zip(self._case.names, values, strict=True) if value is not None}

    def _ask(self, values: tuple[Any, ...]) -> None:
        if self._source.random() < 0.3:
            values = (*values[:1], *values[1:])
        name = self._source.choice([*self._asks, *(["probability"] if self._chance is not None else [])])
        features = self._features(values)
        if name == "probability":
            chance = self._chance
            assert chance is not None
            self._both(name, lambda: _two(chance(values)), lambda: self._theirs.predict_proba_one(features))
        else:
            ask, theirs = self._asks[name], getattr(self._theirs, name)
            self._both(name, lambda: ask(values), lambda: theirs(features))

    def _teach(self, values: tuple[Any, ...], label: Any) -> None:
        if self._source.random() < 0.3:
            values = (*values[:1], *values[1:])
        features = self._features(values)
        if self._both("learn", lambda: self._learn(values, label), lambda: self._theirs.learn_one(features, label)):
            self._since.append((values, label))

    def _both(self, what: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> bool:
        expected, found = _outcome(theirs), _outcome(ours)
        if expected != found:
            raise self._parted(f"{what}: River {expected}, ours {found}")
        if expected[0] == "raised":
            self._go_back()
            return False
        self._done += 1
        return True

    def _go_back(self) -> None:
        """As the learner does where a model raised."""
        since = self._since
        self._theirs = self._planned(pickle.loads(self._base[1]))
        self._use(pickle.loads(self._base[0]))
        for values, label in since:
            self._learn(values, label)
            self._theirs.learn_one(self._features(values), label)
        self._same()
        if self._source.random() < 0.5:
            self._keep()

    def _same(self) -> None:
        self._walk.settle()
        if digest_of(self._ours) != digest_of(self._theirs):
            raise self._parted("the states differ")

    def _snapshot(self) -> None:
        """A copy is taken, and asked, while the model goes on."""
        self._walk.settle()
        other = Walk(copy.deepcopy(self._ours), self._form)
        values = self._events.values()
        features = self._features(values)
        name = self._source.choice(list(self._asks))
        theirs = copy.deepcopy(self._theirs)
        expected = _outcome(lambda: getattr(theirs, name)(features))
        if (found := _outcome(lambda: other.ask(name)(values))) != expected:
            raise self._parted(f"a copy's {name}: River {expected}, ours {found}")

    def _renew(self) -> None:
        self._walk.settle()
        self._use(self._ours)

    def _reread(self) -> None:
        self._walk.settle()
        again = self._source.choice((copy.deepcopy, _reread))
        self._theirs = again(self._theirs)
        self._use(again(self._ours))
        self._keep()

    def _parted(self, what: str) -> PartedError:
        return PartedError(f"at event {self._at} of {self._case}: {what}")


def _outcome(call: Callable[[], Any]) -> tuple[str, str]:
    try:
        return "said", repr(call())
    except Exception as error:  # noqa: BLE001 - whatever River raises, ours must
        return "raised", f"{type(error).__name__}: {error}"


def _reread(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def _two(of_true: float) -> dict[bool, float]:
    return {False: 1.0 - of_true, True: of_true}
