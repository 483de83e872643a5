"""Whether a model that was read has the structure of the pipeline's own.

Its bytes may come from others: their sizes, patterns and steps are compared with the model that the pipeline's
expression makes, before anything of it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from river import base, compose

from driftline.core.recommend.recommender import Recommender
from driftline.core.river.ahead import Ahead, Direct
from driftline.core.river.learning_rate import Boosted

_STEPS_MAX = 1_000
_DEPTH_MAX = 20
_THERE = " is there"


def unlikeness(model: Any, own: Any) -> str:
    """What a model is or has that the pipeline's own is not or has not, as text; empty if there is nothing.

    Raises:
        Exception: any, of an object without its attributes.
    """
    if isinstance(own, Ahead) and type(model) is type(own):
        one = next(own.parts(), None)
        others = (unlikeness(part, one) for part in model.parts())
        return next(filter(None, others), "") or _other_bounds(model, own)
    if isinstance(own, Recommender) and type(model) is Recommender:
        return unlikeness(model.model, own.model) or unlikeness(model.popularity, own.popularity)
    if _steps(model) != _steps(own):
        return f"is a {type(model).__name__}, which the pipeline's model expression does not make"
    if other := _another_setting(_settings(model), _settings(own)):
        return f"has {other}, unlike the pipeline's model expression"
    return ""


def _other_bounds(model: Any, own: Any) -> str:
    """What differs of the whole numbers that a forecaster is bound by, and of how many models it has."""
    bounds: dict[str, object] = {
        name: setting for name, setting in vars(own).items() if type(setting) is int and not name.startswith("_")
    }
    if isinstance(own, Direct):
        bounds["models"] = len(own.models)
    there = {**vars(model), "models": len(model.models)} if isinstance(own, Direct) else vars(model)
    return _another_setting(there, bounds)


def _steps(model: Any) -> list[object]:
    """The types of a model's steps, with their names."""
    return [(path, type(part)) for path, part in _walked(model)]


def _walked(model: Any) -> Iterator[tuple[str, Any]]:
    """A model and its steps, with the way to each."""
    waiting = [("", model)]
    for _ in range(_STEPS_MAX):
        if not waiting:
            return
        path, part = waiting.pop()
        yield path, part
        if issubclass(type(part), compose.Pipeline):  # not isinstance: River answers for a pipeline as its last step
            waiting += [(f"{path}.{key}", step) for key, step in part.steps.items()]
        elif issubclass(type(part), compose.TransformerUnion):
            waiting += [(f"{path}.{key}", step) for key, step in part.transformers.items()]


def _settings(model: Any) -> dict[str, object]:
    """The whole numbers and texts that the constructors of a model's parts were given: sizes, counts, patterns."""
    found: dict[str, object] = {}
    waiting = list(_walked(model))
    while waiting and len(found) < _STEPS_MAX:
        path, part = waiting.pop()
        if issubclass(type(part), compose.Pipeline | compose.TransformerUnion):
            continue
        for name in inspect.signature(type(part)).parameters:
            if not hasattr(part, name):
                continue
            setting = getattr(part, name)
            if type(setting) is Boosted:  # a reaction to a drift put it in place of the rate that it holds
                setting = setting.rate
            found[f"{path}.{name}{_THERE}"] = 1
            if type(setting) in (int, str):
                found[f"{path}.{name}"] = setting
            elif issubclass(type(setting), base.Base) and path.count(".") < _DEPTH_MAX:
                waiting.append((f"{path}.{name}", setting))
        steps = vars(part).get("processing_steps")  # of texts, where the patterns are
        for number, step in enumerate(steps if type(steps) is list else ()):
            if type(step) is partial:
                found |= {f"{path}.step {number}.{name}": given for name, given in step.keywords.items()}
    return found


def _another_setting(there: dict[str, object], here: dict[str, object]) -> str:
    """The first that differs of those that both have, as text."""
    for path, setting in here.items():
        if path.endswith(_THERE) and path not in there:
            return f"no {path.strip('.').removesuffix(_THERE)}"
        # ARF makes a number of its text as it learns, and FM another kind of number.
        if type(there.get(path)) is type(setting) and there[path] != setting:
            return f"{path.strip('.')} = {there[path]!r:.40}"
    return ""
