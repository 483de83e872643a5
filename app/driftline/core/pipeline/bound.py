"""Valid ranges of the settings of River's drift detectors.

River takes nearly any: some then raise at a later value (a clock of 0, a confidence of 0), in the middle of a fold, and
some never find anything, or find it at every value. All of them are reported where the file is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from river import drift


@dataclass(frozen=True, slots=True)
class Bound:
    """The allowed range of a number."""

    least: float
    most: float | None = None
    open: bool = False  # the ends do not belong to it

    def holds(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if self.open:
            return value > self.least and (self.most is None or value < self.most)
        return value >= self.least and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        if self.open:
            return f"above {self.least:g}" + ("" if self.most is None else f" and below {self.most:g}")
        return f"{self.least:g} or more" if self.most is None else f"from {self.least:g} to {_plain(self.most)}"


def _plain(number: float) -> str:
    return f"{number:,.0f}"


_WITHIN = Bound(0, 1, open=True)
_COUNT = Bound(1, 1_000_000)
_ROOM = Bound(0, 1_000_000)
_POSITIVE = Bound(0, open=True)
_HOEFFDING = {"drift_confidence": _WITHIN, "warning_confidence": _WITHIN}
_BOUNDS: Mapping[Any, Mapping[str, Bound]] = {
    drift.ADWIN: {
        "delta": _WITHIN,
        "clock": _COUNT,
        "max_buckets": _COUNT,
        "min_window_length": _ROOM,
        "grace_period": _ROOM,
    },
    drift.KSWIN: {"alpha": _WITHIN, "window_size": _COUNT, "stat_size": _COUNT},
    drift.PageHinkley: {"min_instances": _ROOM, "threshold": _POSITIVE, "alpha": Bound(0, 1)},
    drift.binary.DDM: {"warm_start": _ROOM, "warning_threshold": _POSITIVE, "drift_threshold": _POSITIVE},
    drift.binary.EDDM: {"warm_start": _ROOM, "alpha": Bound(0, 1), "beta": Bound(0, 1)},
    drift.binary.HDDMA: _HOEFFDING,
    drift.binary.HDDMW: {**_HOEFFDING, "lambda_val": _WITHIN},
    drift.binary.FHDDM: {"sliding_window_size": _COUNT, "confidence_level": _WITHIN, "short_window_size": _COUNT},
}
_TOGETHER: Mapping[Any, tuple[str, str, int]] = {  # the first is at most the second, or a part of it: 1 / n
    drift.KSWIN: ("stat_size", "window_size", 2),
    drift.binary.FHDDM: ("short_window_size", "sliding_window_size", 1),
}


def out_of_bounds(detector: Any) -> Iterator[str]:
    """Every setting of a detector that means nothing, as `delta = 0 must be above 0 and below 1`."""
    bounds = _BOUNDS.get(type(detector), {})
    faults = [
        f"{name} = {value!r} must be {bound}"
        for name, bound in bounds.items()
        if (value := getattr(detector, name)) is not None and not bound.holds(value)
    ]
    yield from faults
    if faults or type(detector) not in _TOGETHER:
        return
    first, second, part = _TOGETHER[type(detector)]
    small, large = getattr(detector, first), getattr(detector, second)
    if small is not None and small * part > large:
        share = second if part == 1 else f"half of {second}"
        yield f"{first} = {small:g} must be at most {share} = {large / part:g}"
