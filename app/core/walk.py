"""River's pipelines, walked without what they ask anew at each call.

`compose.Pipeline` looks up at every record what kind each of its steps is and which extra arguments it takes. Of a
pipeline of plain transformers before one estimator that never changes: so its steps are called here directly, in the
order and with the arguments in which it would call them. Any other model is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from river import base, compose


def walk_ask(model: Any, method: str) -> Callable[[Any], Any]:
    """A function that says of features what `model.method` says.

    Args:
        method: `predict_one`, `predict_proba_one` or `score_one`.
    """
    steps = _plain_steps(model)
    answer = getattr(steps[-1] if steps else model, method, None)
    if answer is None:  # asking raises, at each call
        return lambda features: getattr(model, method)(features)  # noqa: PLW0108 - it is looked up then
    if steps is None:
        return answer  # type: ignore[no-any-return]  # River is untyped
    transforms = [step.transform_one for step in steps[:-1]]
    if len(transforms) == 1:
        transform = transforms[0]
        return lambda features: answer(transform(features))

    def ask(features: Any) -> Any:
        for transform in transforms:
            features = transform(features)
        return answer(features)

    return ask


def walk_learn(model: Any) -> Callable[[Any, Any], None]:
    """A function that does with a pair what `model.learn_one` does."""
    steps = _plain_steps(model)
    if steps is None or not steps[-1]._supervised:
        return model.learn_one  # type: ignore[no-any-return]  # River is untyped
    before = [(step.learn_one, step.transform_one) for step in steps[:-1]]
    learn_last = steps[-1].learn_one

    def learn(features: Any, label: Any) -> None:
        for learn_one, transform in before:
            learn_one(features)
            features = transform(features)
        learn_last(x=features, y=label)

    return learn


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
