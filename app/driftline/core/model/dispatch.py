"""River's pipelines, traversed without the checks that River repeats at each call.

`compose.Pipeline` looks up at every record what kind each of its steps is and which extra arguments it takes. Of a
pipeline of plain transformers before one estimator that never changes: so its steps are called here directly, in the
order and with the arguments in which it would call them, some of them in one function (`fast`). What comes first, and
takes an event's values by place instead of by name, is compiled into a plan (`fast.plan`).
Any other model is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from river import base, compose, linear_model, preprocessing, tree
from river.__version__ import __version__

from driftline.core.model.fast.bayes import multinomial
from driftline.core.model.fast.forest import forest
from driftline.core.model.fast.hoeffding import hoeffding
from driftline.core.model.fast.kernel import Scaling, descend, link, says, scaling
from driftline.core.model.fast.named_linear import NamedLinear, named_linear
from driftline.core.model.fast.plan import Plan, pipelines_in, plan_of, unsupervised
from driftline.core.model.fast.scaled_linear import Line, OwnWay, terms_of
from driftline.core.model.fast.words import transform_of
from driftline.core.record import FeatureValue

_READERS = (
    preprocessing.StandardScaler,
    linear_model.LogisticRegression,
    linear_model.LinearRegression,
    tree.HoeffdingTreeClassifier,
)

KNOWN = __version__ == "0.26.1"  # `kernel`, `weighted` and `hoeffding` do as it does; another goes its own way

Features = dict[str, FeatureValue]
Values = Sequence[FeatureValue]


class Form:
    """How a model sees the values of an event.

    Args:
        names: of the features, in declared order.
        may_omit: a value may be None: the model does not see that feature.
    """

    def __init__(self, names: Sequence[str], *, may_omit: bool) -> None:
        self.names = tuple(names)
        self.may_omit = may_omit
        self.by_place = not may_omit  # each name has its value, at its place

    def features(self, values: Any) -> Features:
        """In declared order, without the omitted ones.

        Args:
            values: of an event; see `AsIs` for models that are given something else.
        """
        if self.may_omit and None in values:
            return {name: value for name, value in zip(self.names, values, strict=True) if value is not None}
        return dict(zip(self.names, values))  # noqa: B905 - as many as there are names; `strict` would cost as much again


class AsIs(Form):
    """Of a model that takes what it is given: see `core.river.ahead`."""

    def __init__(self) -> None:
        super().__init__((), may_omit=False)
        self.by_place = False

    def features(self, values: Any) -> Any:
        return values


class Walk:
    """What a model says of an event's values and how it learns them, by the shortest way.

    `settle` before anybody else looks at the model: until then it may lack what it has learned.

    Args:
        by_itself: nothing is done in its place: someone else calls the model too.

    Attributes:
        plan: of the first transformers, where there is one.
    """

    def __init__(self, model: Any, form: Form, *, by_itself: bool = False) -> None:
        self._model = model
        self._form = form
        self._steps = None if by_itself else _plain_steps(model)
        self._scalings: dict[int, Scaling] = {}
        steps = self._steps
        last = steps[-1] if steps else model
        self._quick = (hoeffding(last) or forest(last) or multinomial(last)) if KNOWN else None
        self._walked = steps is not None and bool(steps[-1]._supervised)  # else it learns by itself
        self.plan: Plan | None = None
        if steps is not None and self._walked and KNOWN:
            found = {place: scaling(step) for place, step in enumerate(steps[:-1])}
            self._scalings = {place: one for place, one in found.items() if one is not None}
        self._leaves_features = KNOWN and all(type(step) in _READERS for step in steps or [model])
        self._asked: tuple[Values | None, Features] = (None, {})  # the last that was asked of: often learned at once
        self._named: NamedLinear | None = None
        self._line = self._straight()
        if KNOWN and self._line is None and not by_itself:
            self._named = named_linear(last, link(last))
        if self._line is None and steps and self._walked and KNOWN and form.by_place:
            self.plan = plan_of(steps[:-1], form.names)

    def settle(self) -> None:
        """Make the model what it would be by itself."""
        if self._line is not None:
            self._line.settle()
        self._settle_steps()

    def _settle_steps(self) -> None:
        if self.plan is not None:
            self.plan.settle()
        for one in self._scalings.values():
            one.settle()
        if self._quick is not None:
            self._quick.settle()
        if self._named is not None:
            self._named.settle()

    def ask(self, method: str) -> Callable[[Values], Any]:
        """A function that says of values what `model.method` says of the features.

        Args:
            method: `predict_one`, `predict_proba_one` or `score_one`.
        """
        line, named = self._line, self._named
        last = self._steps[-1] if self._steps else self._model
        answer = self._of_values(self._ask(method))
        if line is None and named is None and (self._quick is None or method == "predict_proba_one"):
            return answer
        if method == "predict_one" and type(last) is linear_model.LinearRegression:
            return line.ask if line is not None else answer
        # What no task asks of such a model.

        def settled(values: Values) -> Any:
            self.settle()
            return answer(values)

        return settled

    def probability(self) -> Callable[[Values], float] | None:
        """A function from values to the probability of True, where False has the rest of 1; None where a model says
        more, or something else."""
        last = self._steps[-1] if self._steps else self._model
        linked = link(last) if KNOWN and type(last) is linear_model.LogisticRegression else None
        if linked is None:
            return None
        if self._line is not None:
            return self._line.ask
        before = self._transform()
        if self._named is None:
            return self._of_values(says(last, linked, before))
        named = self._named.ask
        return self._of_values(named if before is None else lambda features: named(before(features)))

    def learn(self) -> Callable[[Values, Any], None]:
        """A function that does with values and a label what `model.learn_one` does."""
        return self._line.teach if self._line is not None else self._teach_values(self._learn())

    # -- by name

    def _of_values(self, answer: Callable[[Features], Any]) -> Callable[[Values], Any]:
        """Of values instead of features, or of what the plan makes of them."""
        if self.plan is not None:  # what it makes to learn is not what it makes to be asked: nothing is kept
            transform = self.plan.transform
            return lambda values: answer(transform(values))
        features_of = self._form.features
        if not self._leaves_features:
            return lambda values: answer(features_of(values))

        def ask(values: Values) -> Any:
            asked, features = self._asked
            if values is not asked:
                features = features_of(values)
                self._asked = (values, features)
            return answer(features)

        return ask

    def _teach_values(self, learn: Callable[[Features, Any], None]) -> Callable[[Values, Any], None]:
        if self.plan is not None:
            advance = self.plan.advance
            return lambda values, label: learn(advance(values), label)
        features_of = self._form.features

        def teach(values: Values, label: Any) -> None:
            asked, features = self._asked
            learn(features if values is asked else features_of(values), label)

        return teach

    def _ask(self, method: str) -> Callable[[Features], Any]:
        model, steps = self._model, self._steps
        estimator = steps[-1] if steps else model
        answer = getattr(estimator, method, None)
        if method == "predict_proba_one" and self._quick is not None:
            answer = self._quick.ask
        elif method == "predict_one" and self._named is not None and type(estimator) is linear_model.LinearRegression:
            answer = self._named.ask
        if answer is None:  # asking raises, at each call
            return lambda features: getattr(model, method)(features)  # noqa: PLW0108 - it is looked up then
        before = self._transform()
        return answer if before is None else lambda features: answer(before(features))

    def _learn(self) -> Callable[[Features, Any], None]:
        model, steps = self._model, self._steps
        if steps is None or not self._walked:
            quick = self._named or self._quick
            if quick is not None and steps is None:
                return quick.teach
            own: Callable[[Features, Any], None] = model.learn_one
            return (descend(model) or own) if KNOWN else own
        before = _one_after_the_other(
            [
                self._scalings[place].advance if place in self._scalings else _learn_and_transform(step)
                for place, step in self._unplanned()
            ]
        )
        last = steps[-1]
        if self._named is None and KNOWN and (learn_last := descend(last, before)) is not None:
            return learn_last
        quick = self._named or self._quick
        learn_last = quick.teach if quick is not None else _learn_pair(last)
        return learn_last if before is None else lambda features, label: learn_last(before(features), label)

    def _transform(self) -> Callable[[Features], Any] | None:
        """What comes before the estimator, and after the plan; None if nothing does."""
        return _one_after_the_other(
            [
                self._scalings[place].transform if place in self._scalings else transform_of(step)
                for place, step in self._unplanned()
            ]
        )

    def _unplanned(self) -> list[tuple[int, Any]]:
        """The transformers that are not in the plan, with their places."""
        planned = 0 if self.plan is None else self.plan.steps
        return list(enumerate(self._steps[:-1] if self._steps else []))[planned:]

    def _straight(self) -> Line | None:
        """A scaler before a linear model in one; None of anything else, and where a feature may be missing."""
        steps = self._steps or []
        if not KNOWN or self._form.may_omit or len(steps) != 2:
            return None
        scaler, model = steps
        terms = terms_of(scaler, model)
        if terms is None:
            return None
        ask = self._of_values(says(model, terms.link, self._transform()))
        own = OwnWay(ask, self._teach_values(self._learn()), self._settle_steps)
        return Line(scaler, model, self._form.names, terms, own)


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
    learn_one, transform_one = step.learn_one, transform_of(step)

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
        if type(step) is compose.Pipeline or not unsupervised(step):
            return None
    for pipeline in (model, *(one for step in transformers for one in pipelines_in(step))):
        if pipeline._plan is None:
            pipeline._build_plan()  # it is pickled with the pipeline, so it must not depend on who calls the steps
    return [*transformers, last]
