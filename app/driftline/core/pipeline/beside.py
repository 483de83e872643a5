"""Rules for the guard's second model: it must be able to answer and to learn whatever the first one can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from driftline.core.error import ExpressionError, Problem
from driftline.core.pipeline.fitness import features_named, features_read, unfit, without_probabilities
from driftline.core.pipeline.forecast import row_names
from driftline.core.pipeline.guard import GuardForm, SecondModel
from driftline.core.river.building import check_seeded, make_model
from driftline.core.task import find_task


def check_second(draft: Mapping[str, Any], _: Any) -> Iterator[Problem]:
    """What the second model cannot be built of, or cannot do."""
    place, text = _declared(draft)
    if text is None or "params" not in draft:
        return
    seed, params, task = draft.get("seed", 42), draft["params"], find_task(draft.get("task"))
    try:
        model = make_model(text, params, seed)
        check_seeded(text, params, seed)
    except ExpressionError as error:
        yield Problem(place, None, str(error))
        return
    if task is not None:
        for fault in unfit(model, task):
            yield Problem(place, None, fault)
        if task.probability and without_probabilities(model, task):
            yield Problem(place, None, "needs a model with probabilities, but this one gives only classes")
    event = draft.get("event")
    if event is None:
        return
    declared = [*event.features, *row_names(draft.get("forecast"))]
    for who, name in dict.fromkeys(features_named(model)):
        if name not in declared:
            text = f"{who} names {name!r}, which is not a declared feature; declared: {', '.join(declared[:30])}"
            yield Problem(place, None, text)


def features_of_second(draft: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The features that the second model selects, none where there is no such model; None where it reads all."""
    _, text = _declared(draft)
    if text is None:
        return ()
    try:
        return features_read(make_model(text, draft.get("params", {}), draft.get("seed", 42)))
    except ExpressionError:
        return None


def _declared(draft: Mapping[str, Any]) -> tuple[str, str | None]:
    """Where the second model stands in the file, and its expression."""
    guard: GuardForm | None = draft.get("guard")
    for number, one in enumerate(() if guard is None else guard.fallback):
        if isinstance(one, SecondModel):
            return f"guard.fallback.{number}.model", one.model
    return "", None
