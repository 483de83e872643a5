"""A plan of the transformers of a pipeline: what each does to an event's values, worked out once.

River hands a dictionary from step to step, through pipelines within unions within pipelines, and each asks again what
its steps are. Which features a `Select` passes on, and in which order a union puts its branches together, never
changes. So a plan is compiled: branches, each of which takes its values by place and writes what it makes of them into
the one dictionary that the model sees.

    steps of a pipeline:  Select('a', 'b') | StandardScaler()   -> Numbers   writes a, b
                          Select('c') | OneHotEncoder(...)      -> Columns   writes c_x
                          Select('d') | FeatureHasher(...)      -> Made      writes 17
                          anything else                         -> Made, by the steps as they are
    union of branches:    all of them learn, in order; then each writes, the last branch first, as River has it

The same operations are done on the same objects in the same order, so every bit is River's own. To add a step: its
branch here, or its class in `_PURE` if its `transform_one` changes nothing. Tests hold the states against River's,
digest by digest.

Source: river 0.26, `compose/pipeline.py`, `compose/union.py`, `preprocessing/one_hot.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from operator import itemgetter
from typing import Any, Protocol

from river import base, compose, feature_extraction, preprocessing

from driftline.core.model.fast.kernel import RowScaling, row_scaling
from driftline.core.model.fast.words import transform_of
from driftline.core.river.select import Select

_NAMES_MAX = 1_000  # columns of a feature whose names are kept
_PURE = (preprocessing.FeatureHasher, feature_extraction.BagOfWords, compose.Prefixer, compose.Suffixer)

Values = Sequence[Any]


class Branch(Protocol):
    """Some transformers, one after the other.

    Attributes:
        learns: whether they learn; if not, `learn` does nothing.
    """

    learns: bool

    def learn(self, values: Values) -> None:
        """Let them learn an event's values; `write` follows."""

    def write(self, values: Values, into: dict[Any, Any], *, learned: bool) -> None:
        """Put what they make of the values into a dictionary.

        Args:
            learned: `learn` was just given the same.
        """

    def settle(self) -> None:
        """Make them what they would be by themselves."""


class Plan:
    """The first steps of a pipeline.

    Args:
        branches: in the order in which they learn.
        steps: how many steps of the pipeline they stand for.
    """

    def __init__(self, branches: Sequence[Branch], steps: int) -> None:
        self.steps = steps
        self.branches = tuple(branches)
        self._learn = [one.learn for one in branches if one.learns]
        self._write = [one.write for one in reversed(branches)]

    def transform(self, values: Values) -> dict[Any, Any]:
        """What the steps make of an event's values."""
        made: dict[Any, Any] = {}
        for write in self._write:
            write(values, made, learned=False)
        return made

    def advance(self, values: Values) -> dict[Any, Any]:
        """The same, once they have learned them."""
        for learn in self._learn:
            learn(values)
        made: dict[Any, Any] = {}
        for write in self._write:
            write(values, made, learned=True)
        return made

    def settle(self) -> None:
        """Make the steps what they would be by themselves, without which no one else may look at them."""
        for one in self.branches:
            one.settle()


def row_of(places: Sequence[int]) -> Callable[[Values], Sequence[Any]]:
    """A function from values to those at some places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


def features_of(names: Sequence[Any], places: Sequence[int]) -> Callable[[Values], dict[Any, Any]]:
    """A function from values to those at some places, by name."""
    if len(places) == 1:  # as of a hashed column
        (name,), (place,) = names, places
        return lambda values: {name: values[place]}
    row, known = row_of(places), tuple(names)
    return lambda values: dict(zip(known, row(values)))  # noqa: B905 - as many as there are names


class Numbers:
    """A `StandardScaler`."""

    learns = True

    def __init__(self, scaler: RowScaling, names: Sequence[Any], places: Sequence[int]) -> None:
        self._scaler = scaler
        self._names, self._row = tuple(names), row_of(places)
        self._scaled: Sequence[Any] | None = None

    def learn(self, values: Values) -> None:
        self._scaled = self._scaler.advance_row(self._names, self._row(values))

    def write(self, values: Values, into: dict[Any, Any], *, learned: bool) -> None:
        scaled = self._scaled if learned else None
        if scaled is None:
            scaled = self._scaler.transform_row(self._names, self._row(values))
        into.update(zip(self._names, scaled))  # noqa: B905 - as many as there are names

    def settle(self) -> None:
        self._scaler.settle()


class Columns:
    """A `OneHotEncoder` that drops zeros: a column of its own for each value."""

    learns = False

    def __init__(self, names: Sequence[Any], places: Sequence[int]) -> None:
        self._columns: list[tuple[Any, int, dict[str, str]]] = [
            (name, place, {}) for name, place in zip(names, places, strict=True)
        ]

    def learn(self, values: Values) -> None:
        """It has nothing to learn."""

    def write(self, values: Values, into: dict[Any, Any], *, learned: bool) -> None:
        for name, place, known in self._columns:
            value = values[place]
            if type(value) is str:
                column = known.get(value)
                if column is None:
                    column = f"{name}_{value}"
                    if len(known) < _NAMES_MAX:
                        known[value] = column
                into[column] = 1
            elif isinstance(value, list | set):
                into.update(dict.fromkeys((f"{name}_{one}" for one in value), 1))
            else:
                into[f"{name}_{value}"] = 1

    def settle(self) -> None:
        """It keeps nothing."""


class Made:
    """Steps that take a dictionary and make one.

    Args:
        steps: pure ones, which learn nothing, or one whose `learn_one` and `transform_one` are called as they are.

    Attributes:
        learns: whether it is such a one.
    """

    def __init__(self, steps: Sequence[Any], names: Sequence[Any], places: Sequence[int]) -> None:
        self._features = features_of(names, places)
        self.learns = not all(type(step) in _PURE for step in steps)
        self._learn = steps[0].learn_one if self.learns else None
        self._transforms = [transform_of(step) for step in steps]

    def learn(self, values: Values) -> None:
        if self._learn is not None:
            self._learn(self._features(values))

    def write(self, values: Values, into: dict[Any, Any], *, learned: bool) -> None:
        made: Any = self._features(values)
        for transform in self._transforms:
            made = transform(made)
        into.update(made)

    def settle(self) -> None:
        """It keeps nothing: what is learned from words that were found anew each time is the same after a recovery."""


def plan_of(steps: Sequence[Any], names: Sequence[str]) -> Plan | None:
    """The plan of the first steps of a pipeline; None if it has none.

    Args:
        steps: transformers that learn without labels.
        names: of the features, in declared order: an event has them all.
    """
    if not steps:
        return None
    if type(steps[0]) is compose.TransformerUnion:
        return Plan([_part(part, names) for part in steps[0].transformers.values()], 1)
    branch, count = _branch(steps, names)
    return Plan([branch], count) if branch is not None else None


def _part(part: Any, names: Sequence[str]) -> Branch:
    """A part of a union."""
    steps = list(part.steps.values()) if type(part) is compose.Pipeline else [part]
    branch, count = _branch(steps, names)
    return branch if branch is not None and count == len(steps) else Made([part], names, range(len(names)))


def _branch(steps: Sequence[Any], names: Sequence[str]) -> tuple[Branch | None, int]:
    """The first of some steps in one, and how many they are."""
    chosen, count = list(names), 0
    while count < len(steps) and type(steps[count]) is Select:
        chosen = [name for name in steps[count].keys if name in chosen]
        count += 1
    places = [names.index(name) for name in chosen]
    following = steps[count] if count < len(steps) else None
    if (scaler := row_scaling(following)) is not None:
        return Numbers(scaler, chosen, places), count + 1
    if type(following) is preprocessing.OneHotEncoder and following.categories is None and _drops(following):
        return Columns(chosen, places), count + 1
    pure = list(takewhile(lambda step: type(step) in _PURE, steps[count:]))
    return (Made(pure, chosen, places), count + len(pure)) if count or pure else (None, 0)


def _drops(encoder: Any) -> bool:
    return bool(encoder.drop_zeros and not encoder.drop_first)


def pipelines_in(part: Any) -> Iterator[Any]:
    """All pipelines in a transformer."""
    if type(part) is compose.TransformerUnion:
        for one in part.transformers.values():
            yield from pipelines_in(one)
    elif type(part) is compose.Pipeline:
        yield part
        for one in part.steps.values():
            yield from pipelines_in(one)


def unsupervised(part: Any) -> bool:
    """Whether a part of a union is made of transformers that learn without labels."""
    if type(part) is compose.TransformerUnion:
        return all(map(unsupervised, part.transformers.values()))
    if type(part) is compose.Pipeline:
        return bool(len(part)) and all(map(unsupervised, part.steps.values()))
    return isinstance(part, base.Transformer) and not isinstance(part, base.AnomalyFilter) and not part._supervised
