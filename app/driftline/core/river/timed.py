"""Models that ask when a pair was: River's `Agg` and `TargetAgg` over a `TimeRolling` window.

They learn with `learn_one(x, y, t=...)`. River's pipelines and unions hand `t` on to the steps that take it; nothing
else does. The moment is the event's time, never beyond the watermark, as UTC without a zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from river import compose, feature_extraction, utils

from driftline.core.river.seed import parts

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - TimeRolling compares with moments that have no zone


def moment(time_ms: int) -> datetime:
    """Epoch milliseconds as River's windows take them."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def is_timed(model: Any) -> bool:
    """Whether the model learns with a moment."""
    return any(True for _ in _reached(model))


def faults(model: Any) -> list[str]:
    """Windows over time that the moment does not reach, or that do not stand where River can use them."""
    reached = {id(step.how) for step in _reached(model)}
    return [
        f"{path}: TimeRolling only works in Agg or TargetAgg as a direct step of the pipeline: nothing else passes "
        "the time; write Rolling with a window_size instead"
        for path, part in parts(model)
        if isinstance(part, utils.TimeRolling) and id(part) not in reached
    ]


def _reached(model: Any) -> Iterator[Any]:
    """The aggregates over time to which pipelines and unions hand the moment on."""
    match model:  # pipelines first: River's isinstance() answers for them as for their last step
        case compose.Pipeline():
            for step in model.steps.values():
                yield from _reached(step)
        case compose.TransformerUnion():
            for branch in model.transformers.values():
                yield from _reached(branch)
        case feature_extraction.Agg() if isinstance(model.how, utils.TimeRolling):
            yield model
