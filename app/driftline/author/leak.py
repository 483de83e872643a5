"""Fields that reveal the label: they are known only once the label is, so a model that sees them learns nothing.

A fraud scenario is zero for every honest payment; casual plus registered riders are all riders. In the file
such fields make a perfect model, and in production they are missing or empty. Three kinds are found: one field
whose value (or a threshold on it) determines the label, two fields whose sum, difference, product or ratio is the
label, and several that add up to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Cell = str | int | float | bool
Floats = NDArray[np.float64]

ROWS_MIN = 50  # fewer rows fit anything
_ERRORS_LEFT = 0.02  # of the errors that guessing the commonest label makes
_VARIANCE_LEFT = 1e-3
_VARIANCE_LEFT_EXACT = 1e-9
_ROWS_PER_VALUE = 20
_PAIR_COLUMNS_MAX = 60
_PAIR_ROWS = 5_000


class Leak(Struct, frozen=True):
    """Fields that reveal the label together, and how."""

    fields: tuple[str, ...]
    how: str


def find_leaks(columns: Mapping[str, Sequence[Cell | None]], label: Sequence[Cell], *, numeric: bool) -> list[Leak]:
    """Fields that reveal the label.

    Args:
        columns: candidate features by name, as long as the label.
        label: no missing ones among them.
        numeric: whether it is a number to predict; else a class.
    """
    if len(label) < ROWS_MIN:
        return []
    leaks = [
        Leak((name,), how)
        for name, cells in columns.items()
        if (how := _regression_leak(cells, label) if numeric else _class_leak(cells, label)) is not None
    ]
    if numeric:
        alone = {leak.fields[0] for leak in leaks}
        left = {name: cells for name, cells in columns.items() if name not in alone}
        leaks += _joint_leaks(left, label)
    return leaks


# -- one field, classes


def _class_leak(cells: Sequence[Cell | None], label: Sequence[Cell]) -> str | None:
    """How one field determines the class; None if it does not."""
    base = len(label) - max(Counter(label).values())
    if base == 0:
        return None
    groups: dict[Any, Counter[Cell]] = defaultdict(Counter)
    for cell, value in zip(cells, label, strict=True):
        groups[cell][value] += 1
    if len(groups) <= max(len(label) // _ROWS_PER_VALUE, 2):
        errors = sum(sum(group.values()) - max(group.values()) for group in groups.values())
        if errors <= _ERRORS_LEFT * base:
            return "its value alone determines the label"
    numbers = _floats(cells)
    if numbers is not None and _threshold_errors(numbers, label) <= _ERRORS_LEFT * base:
        return "a threshold on it separates the labels"
    return None


def _threshold_errors(numbers: Floats, label: Sequence[Cell]) -> int:
    """Errors of the best rule `below the threshold one class, above it another`."""
    classes = sorted(set(label), key=str)
    if len(classes) > 20:
        return len(label)
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    codes = np.array([classes.index(value) for value in label])[order]
    counts = np.zeros((len(codes) + 1, len(classes)))
    counts[1:] = np.cumsum(np.eye(len(classes))[codes], axis=0)
    cuts = np.concatenate(([True], ordered[1:] != ordered[:-1], [True]))
    right = counts.max(axis=1) + (counts[-1] - counts).max(axis=1)
    return int(len(codes) - right[cuts].max())


# -- one field, numbers


def _regression_leak(cells: Sequence[Cell | None], label: Sequence[Cell]) -> str | None:
    """How one field determines the number; None if it does not."""
    target = np.array([float(value) for value in label])
    spread = float(target.var())
    if spread == 0:
        return None
    numbers = _floats(cells)
    if numbers is not None and numbers.var() > 0:
        slope = float(np.cov(numbers, target, bias=True)[0, 1] / numbers.var())
        left = target - target.mean() - slope * (numbers - numbers.mean())
        if float(left.var()) <= _VARIANCE_LEFT * spread:
            return "it is the label, rescaled"
    groups: dict[Any, list[float]] = defaultdict(list)
    for cell, value in zip(cells, target, strict=True):
        groups[cell].append(float(value))
    if len(groups) <= len(label) // _ROWS_PER_VALUE:
        within = sum(float(np.var(group)) * len(group) for group in groups.values()) / len(label)
        if within <= _VARIANCE_LEFT * spread:
            return "its value alone determines the label"
    return None


# -- several fields, numbers


def _joint_leaks(columns: Mapping[str, Sequence[Cell | None]], label: Sequence[Cell]) -> list[Leak]:
    """Two fields that make the label by one operation, or several that add up to it."""
    target = np.array([float(value) for value in label[:_PAIR_ROWS]])
    numbers: dict[str, Floats] = {}
    for name, cells in columns.items():
        column = _floats(cells[:_PAIR_ROWS])
        if column is not None and column.var() > 0:
            numbers[name] = column
    names = list(numbers)[:_PAIR_COLUMNS_MAX]
    for one, other in combinations(names, 2):
        sign = _operation(numbers[one], numbers[other], target)
        if sign is not None:
            return [Leak((one, other), f"{one} {sign} {other} equals the label")]
    adding = _adding_up(names, numbers, target)
    return [Leak(adding, f"{' + '.join(adding)} add up to the label")] if adding else []


def _operation(one: Floats, other: Floats, target: Floats) -> str | None:
    """The operation by which two columns make the target."""
    for sign, made in (("+", one + other), ("-", one - other), ("-", other - one), ("x", one * other)):
        if _same(made, target):
            return sign
    for above, below in ((one, other), (other, one)):
        if np.all(below != 0) and _same(above / below, target):
            return "/"
    return None


def _same(made: Floats, target: Floats) -> bool:
    close = np.isclose(made, target, rtol=1e-6, atol=1e-9)
    return bool(close.mean() >= 1 - _VARIANCE_LEFT)


def _adding_up(names: Sequence[str], numbers: Mapping[str, Floats], target: Floats) -> tuple[str, ...]:
    """The columns, three or more, of which the target is the plain sum; empty if there are none."""
    kept = list(names)
    if len(kept) < 3 or len(target) < 3 * len(kept) or not _explained(kept, numbers, target):
        return ()
    for name in names:
        without = [other for other in kept if other != name]
        if without and _explained(without, numbers, target):
            kept = without
    weights, _ = _fit(kept, numbers, target)
    return tuple(kept) if np.allclose(weights, 1.0, atol=1e-3) else ()


def _explained(names: Sequence[str], numbers: Mapping[str, Floats], target: Floats) -> bool:
    """Whether a linear function of the columns leaves nothing of the target over."""
    _, left = _fit(names, numbers, target)
    return float(left.var()) <= _VARIANCE_LEFT_EXACT * float(target.var())


def _fit(names: Sequence[str], numbers: Mapping[str, Floats], target: Floats) -> tuple[Floats, Floats]:
    """Weights of the columns by least squares, and what they leave over."""
    scales = np.array([numbers[name].std() for name in names])
    scaled = [(numbers[name] - numbers[name].mean()) / scale for name, scale in zip(names, scales, strict=True)]
    matrix = np.column_stack([*scaled, np.ones(len(target))])
    weights, *_ = np.linalg.lstsq(matrix, target, rcond=None)
    return weights[:-1] / scales, target - matrix @ weights


def _floats(cells: Sequence[Cell | None]) -> Floats | None:
    """The column as numbers, gaps at the middle of the others; None where some cell is none."""
    if not all(cell is None or isinstance(cell, int | float) for cell in cells):
        return None
    known = [float(cell) for cell in cells if cell is not None]
    if len(known) < 0.5 * len(cells) or not known:
        return None
    middle = float(np.median(known))
    return np.array([middle if cell is None else float(cell) for cell in cells])
