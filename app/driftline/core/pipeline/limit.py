"""Rules for the guard: limits that contradict each other, exclude everything, or can never do anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from driftline.core.error import Problem
from driftline.core.pipeline.guard import Constant, GuardForm, Range, Seasonal, SecondModel, Step
from driftline.core.pipeline.input import EventForm
from driftline.core.task import find_task
from driftline.core.task.base import Task


def check_guard(draft: Mapping[str, Any], _: Any = None) -> Iterator[Problem]:
    """Every fault of the guard that can be seen without the model."""
    guard: GuardForm | None = draft.get("guard")
    if guard is None:
        return
    task = find_task(draft.get("task"))
    if not guard.rungs:
        yield Problem("guard", None, "has no limits: add untrained, range or step, or remove it")
    if task is not None and ((task.classes and not task.probability) or task.slates):
        for name in guard.rungs:
            if name not in ("untrained", "unfamiliar", *(() if task.slates else ("distribution",))):
                text = f"is for numbers and probabilities; remove it for {task.name}"
                yield Problem(f"guard.{name}", None, text)
    if task is not None:
        yield from _ahead(guard, task)
    if guard.share is not None and task is not None and not task.probability:
        decided = "decision" not in draft or draft["decision"] is not None
        if task.decides and not decided:
            yield Problem("guard.share", None, "needs `decision`, which says what is positive")
        elif not task.decides and not task.classes:
            yield Problem("guard.share", None, f"is for yes or no; remove it for {task.name}")
    if guard.range is not None:
        yield from _range(guard.range, task)
    if guard.step is not None:
        yield from _step(guard.step)
    if guard.width is not None and guard.width.max is None and guard.width.ratio_max is None:
        yield Problem("guard.width", None, "needs max or ratio_max")
    yield from _actions(guard, task)
    yield from _fallbacks(guard, task)
    yield from _series(guard, draft)


def _ahead(guard: GuardForm, task: Task) -> Iterator[Problem]:
    """What is for forecasts alone, and what is not for them."""
    if task.ahead:
        if guard.by:
            yield Problem(
                "guard.by", list(guard.by), "is not for forecasts: their series are those of forecast.by; remove it"
            )
        return
    if guard.width is not None:
        yield Problem("guard.width", None, f"is for intervals of forecasts; remove it for {task.name}")
    if guard.step is not None:
        text = f"is for forecasts: with task {task.name}, labels move a series to another level; remove it"
        for key, value in (("settle", guard.step.settle), ("settle_ratio_max", guard.step.settle_ratio_max)):
            if value is not None:
                yield Problem(f"guard.step.{key}", value, text)


def _actions(guard: GuardForm, task: Task | None) -> Iterator[Problem]:
    for name, rung in guard.rungs.items():
        if rung.action == "fallback" and not guard.fallback:
            yield Problem(f"guard.{name}.action", "fallback", "needs guard.fallback: say what to serve instead")
        if rung.action == "hold" and guard.hold is None:
            yield Problem(f"guard.{name}.action", "hold", "needs guard.hold: {wait: DURATION, then: ACTION}")
    if guard.hold is not None and not guard.holds:
        yield Problem("guard.hold", None, "is not used: no rung has the action hold; remove it")
    if guard.hold is not None and guard.hold.then == "fallback" and not guard.fallback:
        yield Problem("guard.hold.then", "fallback", "needs guard.fallback: say what to serve instead")
    if guard.holds and task is not None and task.slates:
        yield Problem("guard.hold", None, f"is not available for task {task.name}; remove it")


def _range(limits: Range, task: Task | None) -> Iterator[Problem]:
    low, high = limits.min, limits.max
    if low is None and high is None:
        yield Problem("guard.range", None, "needs a min or a max")
    elif low is not None and high is not None and low > high:
        yield Problem("guard.range", [low, high], "min is above max, so nothing could be served")
    if task is not None and task.probability:
        for key, limit in (("min", low), ("max", high)):
            if limit is not None and not 0 <= limit <= 1:
                yield Problem(f"guard.range.{key}", limit, "must be a probability, from 0 to 1")


def _step(limits: Step) -> Iterator[Problem]:
    if limits.ratio_max is None and limits.difference_max is None:
        yield Problem("guard.step", None, "needs ratio_max or difference_max")
    if limits.difference_max is not None and limits.tolerance > limits.difference_max:
        yield Problem("guard.step.tolerance", limits.tolerance, "is above difference_max, which then never applies")
    farthest, ratio = limits.settle_ratio_max, limits.ratio_max
    if farthest is not None and ratio is not None and farthest < ratio:
        yield Problem("guard.step.settle_ratio_max", farthest, "is below ratio_max, so no series could ever move")


def _fallbacks(guard: GuardForm, task: Task | None) -> Iterator[Problem]:
    for number, fallback in enumerate(guard.fallback):
        place, shown = f"guard.fallback.{number}", _shown(fallback)
        if fallback in guard.fallback[:number]:
            yield Problem(place, shown, "is listed twice")
        elif isinstance(fallback, Seasonal) and fallback.season_ms != guard.season_ms:
            yield Problem(place, shown, "is a second season; one is kept for each series")
        elif isinstance(fallback, SecondModel) and fallback.model != guard.second:
            yield Problem(place, shown, "is a third model; one learns beside the pipeline's own")
        if any(isinstance(earlier, Constant) for earlier in guard.fallback[:number]):
            yield Problem(place, shown, "is never reached: a value always passes; put it last")
        if task is None:
            continue
        if task.slates:
            yield Problem(place, shown, f"cannot take the place of a slate; remove it for {task.name}")
        elif isinstance(fallback, Constant):
            yield from _constant(place, fallback, guard, task)
        elif isinstance(fallback, Seasonal) and task.ahead:
            yield Problem(place, "seasonal", "needs no length: write seasonal alone; the season is forecast.season")
        elif fallback == "seasonal" and not task.ahead:
            yield Problem(place, shown, "needs the length of the season, as in {seasonal: 7d}")
        elif isinstance(fallback, SecondModel):
            continue
        elif fallback != "last_good" and task.classes and not task.probability:
            yield Problem(place, shown, f"is for numbers and probabilities; remove it for {task.name}")


def _constant(place: str, fallback: Constant, guard: GuardForm, task: Task) -> Iterator[Problem]:
    value = fallback.value
    if task.classes and not task.probability:
        if isinstance(value, float):
            yield Problem(place, value, "must be a class: a string, a whole number, true or false")
        return
    if isinstance(value, str | bool):
        wanted = "a probability, from 0 to 1" if task.probability else "a number"
        yield Problem(place, value, f"must be {wanted}")
        return
    if task.probability and not 0 <= value <= 1:
        yield Problem(place, value, "must be a probability, from 0 to 1")
        return
    limits = guard.range
    if limits is None or limits.action == "flag":
        return
    if (limits.min is not None and value < limits.min) or (limits.max is not None and value > limits.max):
        yield Problem(place, value, "lies outside guard.range, so it could never be served")


def _shown(fallback: object) -> object:
    if isinstance(fallback, Constant):
        return fallback.value
    if isinstance(fallback, SecondModel):
        return fallback.model
    return "seasonal" if isinstance(fallback, Seasonal) else fallback


def _series(guard: GuardForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    event: EventForm | None = draft.get("event")
    task = find_task(draft.get("task"))
    if task is not None and task.ahead:
        return
    if guard.by and not guard.remembers:
        yield Problem("guard.by", list(guard.by), "is for step, last_value and seasonal; add one of them, or remove it")
    if event is None:
        return
    for field in guard.by:
        if guard.by.count(field) > 1:
            yield Problem("guard.by", field, "is listed twice")
        if field not in event.features and field not in event.context:
            declared = [*event.features, *event.context]
            close = get_close_matches(field, declared, n=1, cutoff=0.6)
            hint = f"; did you mean {close[0]!r}?" if close else f"; declared: {', '.join(declared[:30])}"
            yield Problem("guard.by", field, f"is neither a declared feature nor in event.context{hint}")
