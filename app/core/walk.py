"""River's pipelines, walked without what they ask anew at each call.

`compose.Pipeline` looks up at every record what kind each of its steps is and which extra arguments it takes. Of a
pipeline of plain transformers before one estimator that never changes: so its steps are called here directly, in the
order and with the arguments in which it would call them, some of them in one function (`kernel`, `hoeffding`). Any
other model is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from river import base, compose, linear_model, preprocessing, tree
from river.__version__ import __version__

from app.core.hoeffding import hoeffding
from app.core.kernel import Scaling, descend, probability, scaling

_READERS = (
    preprocessing.StandardScaler,
    linear_model.LogisticRegression,
    linear_model.LinearRegression,
    tree.HoeffdingTreeClassifier,
)

KNOWN = __version__ == "0.26.1"  # its operations are those of `kernel` and `hoeffding`; any other goes its own way


class Walk:
    """What a model says and learns, by the shortest way.

    `settle` before anybody else looks at the model: until then it may lack what it has learned (`kernel.Scaling`).
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._steps = _plain_steps(model)
        self._scalings: dict[int, Scaling] = {}
        steps = self._steps
        self._tree = hoeffding(steps[-1] if steps else model) if KNOWN else None
        self._walked = steps is not None and bool(steps[-1]._supervised)  # else it learns by itself
        if steps is not None and self._walked and KNOWN:
            found = {place: scaling(step) for place, step in enumerate(steps[:-1])}
            self._scalings = {place: one for place, one in found.items() if one is not None}

    def settle(self) -> None:
        """Make the model what it would be by itself."""
        for one in self._scalings.values():
            one.settle()
        if self._tree is not None:
            self._tree.settle()

    def ask(self, method: str) -> Callable[[Any], Any]:
        """A function that says of features what `model.method` says.

        Args:
            method: `predict_one`, `predict_proba_one` or `score_one`.
        """
        model, steps = self._model, self._steps
        estimator = steps[-1] if steps else model
        tree = self._tree if method == "predict_proba_one" else None
        answer = tree.ask if tree is not None else getattr(estimator, method, None)
        if answer is None:  # asking raises, at each call
            return lambda features: getattr(model, method)(features)  # noqa: PLW0108 - it is looked up then
        before = self._transform()
        return answer if before is None else lambda features: answer(before(features))

    def probability(self) -> Callable[[Any], float] | None:
        """A function from features to the probability of True, where False has the rest of 1; None where a model says
        more, or something else."""
        steps = self._steps or [self._model]
        return probability(steps[-1], self._transform()) if KNOWN else None

    def learn(self) -> Callable[[Any, Any], None]:
        """A function that does with a pair what `model.learn_one` does."""
        model, steps = self._model, self._steps
        if steps is None or not self._walked:
            own = self._tree.teach if self._tree is not None and steps is None else model.learn_one
            return (descend(model) or own) if KNOWN else own
        *transformers, last = steps
        before = _one_after_the_other(
            [
                self._scalings[place].advance if place in self._scalings else _learn_and_transform(step)
                for place, step in enumerate(transformers)
            ]
        )
        if KNOWN and (learn_last := descend(last, before)) is not None:
            return learn_last
        learn_last = self._tree.teach if self._tree is not None else _learn_pair(last)
        return learn_last if before is None else lambda features, label: learn_last(before(features), label)

    @property
    def leaves_features(self) -> bool:
        """Whether it is known that asking leaves the features as they are, so that they can be learned from."""
        return KNOWN and all(type(step) in _READERS for step in self._steps or [self._model])

    def _transform(self) -> Callable[[Any], Any] | None:
        """What comes before the estimator; None if nothing does."""
        steps = self._steps[:-1] if self._steps else []
        return _one_after_the_other(
            [
                self._scalings[place].transform if place in self._scalings else step.transform_one
                for place, step in enumerate(steps)
            ]
        )


def _one_after_the_other(steps: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    """One function for all steps; None without any."""
    if len(steps) < 2:
        return steps[0] if steps else None

    def walk(features: Any) -> Any:
        for step in steps:
            features = step(features)
        return features

    return walk


def _learn_and_transform(step: Any) -> Callable[[Any], Any]:
    learn_one, transform_one = step.learn_one, step.transform_one

    def advance(features: Any) -> Any:
        learn_one(features)
        return transform_one(features)

    return advance


def _learn_pair(estimator: Any) -> Callable[[Any, Any], None]:
    learn_one = estimator.learn_one  # pipelines name its arguments
    return lambda features, label: learn_one(x=features, y=label)


def _plain_steps(model: Any) -> list[Any] | None:
    """The steps of a pipeline of transformers that learn without labels, one after the other, and an estimator."""
    if type(model) is not compose.Pipeline or not len(model):
        return None
    *transformers, last = model.steps.values()
    if isinstance(last, base.Transformer | base.AnomalyFilter):
        return None
    for step in transformers:
        plain = isinstance(step, base.Transformer) and not isinstance(
            step, compose.TransformerUnion | base.AnomalyFilter
        )
        if not plain or step._supervised:
            return None
    if model._plan is None:
        model._build_plan()  # it is pickled with the pipeline, so it must not depend on who calls the steps
    return [*transformers, last]
