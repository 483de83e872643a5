"""What a label means to the model: a boolean, a class or a number, by the pipeline's task."""

from __future__ import annotations

from math import isfinite

from app.core.pipeline import LabelForm, Pipeline
from app.core.record import LabelValue

_EXACT_MAX = 2**53  # up to here every whole number is a float; beyond 64 bits JSON has no integer to answer with


def shown(value: object) -> str:
    """A wrong value as a reason tells it: short, and not walked into, since nesting may be deeper than the stack."""
    if isinstance(value, str):
        return f"{value[:80]!r:.80}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return "an array" if isinstance(value, list) else "an object"


class TargetError(ValueError):
    """A label that the task cannot learn; the text says what is allowed."""


class Target:
    """Reads labels for one pipeline.

    Args:
        form: the pipeline's label section.
        pipeline: says the task and the limits.
    """

    def __init__(self, form: LabelForm, pipeline: Pipeline) -> None:
        self._positive, self._negative = form.positive, form.negative
        self._missing = form.missing
        self._number_max = pipeline.limits.number_max
        self._string_max = pipeline.limits.string_max
        self.read = {
            "binary": self._bit,
            "anomaly": self._bit,
            "multiclass": self._class,
            "regression": self._number,
        }[pipeline.task]

    @property
    def assumed(self) -> LabelValue | None:
        """What an event is taken to be when no label came; None to drop it."""
        return None if self._missing == "drop" else self.read(self._missing.assume)

    def _bit(self, value: object) -> LabelValue:
        positive, negative = self._positive, self._negative
        if positive is None:
            if isinstance(value, (bool, int, float)) and value in (0, 1):  # a union type costs twice as much
                return bool(value)
            raise TargetError(f"a label must be true, false, 1 or 0, not {shown(value)} (or say label.positive)")
        if _kind(value) != _kind(positive):
            raise TargetError(f"a label must be {_kind(positive)} like {positive!r}, not {shown(value)}")
        if value == positive:
            return True
        if negative is None or value == negative:
            return False
        raise TargetError(f"a label must be {positive!r} or {negative!r}, not {shown(value)}")

    def _class(self, value: object) -> LabelValue:
        if isinstance(value, str):
            if len(value) > self._string_max:
                raise TargetError(f"a class has at most {self._string_max} characters")
            return value
        if isinstance(value, bool | int):
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_MAX:
            return int(value)
        raise TargetError(f"a class must be text, a whole number or a boolean, not {shown(value)}")

    def _number(self, value: object) -> LabelValue:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TargetError(f"a label must be a number, not {shown(value)}")
        if not isfinite(value) or abs(value) > self._number_max:
            raise TargetError(f"a label must be a number of at most {self._number_max:g}, not {shown(value)}")
        return value


def _kind(value: object) -> str:
    if isinstance(value, bool | int | float):
        return "a number or boolean"
    return "text" if isinstance(value, str) else "neither text nor number"
