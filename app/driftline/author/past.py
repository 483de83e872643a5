"""History features that `init` proposes: for ids that repeat, and for numbers to predict that repeat with the calendar.

An id means nothing to a model, but its past does: how often it came, with what amounts, and what became of it.
Only labels that are known by then are used (`label_mean`), so nothing here gives the label away; fields that do so are
left out before.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from msgspec import Struct

from driftline.author.leak import Cell
from driftline.author.profile import ONE_HOT_MAX, Column, Profile
from driftline.core.task import task_of

KEYS_MAX: Final = 3
GROUPS_MAX: Final = 500
WINDOWS: Final = ("1d", "7d", "30d")
_UNTIMED: Final = (
    "no field holds the event's time, so records count by their own time, and the rows of a file only have an order: "
    "history features have no windows, and rows are taken to be in order"
)
_REPEATS = 0.75  # of the rows: an id with more different values hardly comes again
_EXPLAINED_MIN = 0.1  # of the label's variance, by the groups of a field
_HOUR_NAME = re.compile(r"(?:^|[^A-Za-z])(?:hr|hour|hours|hod)(?:[^A-Za-z]|$)|hour$", re.IGNORECASE)
_DAY = frozenset(map(float, range(25)))
_GAIN_MIN = 0.01  # and so much more by those of two fields


class Proposal(Struct, frozen=True):
    """What is added to a pipeline file.

    Args:
        context: fields that are read as keys.
        features: history features by name, as they are written.
        notes: why, or why not, in a sentence each.
    """

    context: tuple[str, ...] = ()
    features: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()


def propose(found: Profile, columns: Mapping[str, Column], label: str | None) -> Proposal:
    """History features for a table.

    Args:
        columns: cells by name, of the sample that was profiled.
    """
    if label is None:
        return Proposal()
    ids = [one.name for one in found.left if one.key]
    keys = [name for name in ids if _repeats(columns[name])][:KEYS_MAX]
    task = task_of(found.target.task)
    numeric = task.labels.numeric
    windows: tuple[str | None, ...] = WINDOWS if found.time is not None else (None,)
    notes = [_UNTIMED] if found.time is None and (keys or numeric) else []
    notes += [f"no history by {name}: nearly every row has a value of its own" for name in ids if name not in keys]
    if (hours := _hours_beside(found, columns)) is not None:
        notes.append(
            f"{found.time} holds dates without a time of day, and {hours} looks like the hour: all events of a day "
            "count as midnight, so write both into one field if you can"
        )
    features: dict[str, dict[str, Any]] = {}
    labelled = not task.labels.textual
    for key in keys:
        features |= _of_key(key, _amount(found, columns), windows, labelled=labelled)
        notes.append(f"{key} is not a feature itself; counts, means and times by it are")
    if numeric:
        features |= _of_groups(_groups(found, columns, columns[label]), windows)
        notes.append("the label's own past is a feature: only labels known by then count")
    features = {name: form for name, form in features.items() if name not in columns}
    return Proposal(tuple(keys), features, tuple(notes))


def _hours_beside(found: Profile, columns: Mapping[str, Column]) -> str | None:
    """The field that looks like the hour of the day, where the event's time is a date; None where there is none."""
    if not found.dates_only:
        return None
    for name, cells in columns.items():
        known = {cell for cell in cells if cell is not None}
        whole = all(type(cell) in (int, float) and float(cell) in _DAY for cell in known)
        if _HOUR_NAME.search(name) and whole and len(known) > 2:
            return name
    return None


def _repeats(cells: Column) -> bool:
    known = [cell for cell in cells if cell is not None]
    return 1 < len(set(known)) <= _REPEATS * len(known) and not any(isinstance(cell, float) for cell in known)


def _amount(found: Profile, columns: Mapping[str, Column]) -> str | None:
    """The number to average by key: the one with the most different values."""
    numbers = [field.name for field in found.features if field.use == "number"]
    most = max(numbers, key=lambda name: len(set(columns[name])), default=None)
    return most if most is not None and len(set(columns[most])) > ONE_HOT_MAX else None


def _over(name: str, form: dict[str, Any], over: str | None) -> dict[str, dict[str, Any]]:
    """A feature over a window, or over the whole past."""
    return {name: form} if over is None else {f"{name}_{over}": {**form, "over": over}}


def _of_key(
    key: str, amount: str | None, windows: Sequence[str | None], *, labelled: bool
) -> dict[str, dict[str, Any]]:
    """Counts, means, the time since the last event, and labels, of one key; times only where there are windows."""
    made: dict[str, dict[str, Any]] = {}
    for over in windows:
        made |= _over(f"{key}_count", {"history": "count", "by": key}, over)
        if amount is not None:
            made |= _over(f"{key}_mean", {"history": f"mean({amount})", "by": key}, over)
        if labelled:
            made |= _over(f"{key}_label", {"history": "label_mean", "by": key}, over)
    if (longest := windows[-1]) is not None:
        made[f"{key}_since_last"] = {"history": "since_last", "by": key, "over": longest}
    return made


def _of_groups(groups: Sequence[tuple[str, ...]], windows: Sequence[str | None]) -> dict[str, dict[str, Any]]:
    """What the label was last and of late, of all events and of those alike."""
    made: dict[str, dict[str, Any]] = {"label_last": {"history": "label_last"}}
    for over in windows[:2]:
        made |= _over("label" if over is not None else "label_mean", {"history": "label_mean"}, over)
    for group in groups:
        name, by = "_".join(group), list(group) if len(group) > 1 else group[0]
        made[f"{name}_label_last"] = {"history": "label_last", "by": by}
        for over in windows[-2:]:
            made |= _over(f"{name}_label", {"history": "label_mean", "by": by}, over)
    return made


def _groups(found: Profile, columns: Mapping[str, Column], label: Column) -> list[tuple[str, ...]]:
    """The field whose values say most about the label, and it with the one that adds most to it."""
    names = [field.name for field in found.features if 1 < len(set(columns[field.name])) <= ONE_HOT_MAX]
    alone = {(name,): _explained([columns[name]], label) for name in names}
    best = max(alone, key=lambda group: alone[group], default=None)
    if best is None or alone[best] < _EXPLAINED_MIN:
        return []
    pairs = {
        pair: _explained([columns[name] for name in pair], label)
        for pair in combinations(names, 2)
        if best[0] in pair and len(set(columns[pair[0]])) * len(set(columns[pair[1]])) <= GROUPS_MAX
    }
    second = max(pairs, key=lambda pair: pairs[pair], default=None)
    return [best] if second is None or pairs[second] < alone[best] + _GAIN_MIN else [best, second]


def _explained(fields: Sequence[Column], label: Column) -> float:
    """The share of the label's variance between the groups that the fields' values make."""
    sums: dict[tuple[Cell | None, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    values = []
    for cells in zip(label, *fields, strict=True):
        if isinstance(cells[0], int | float):
            value = float(cells[0])
            values.append(value)
            group = sums[cells[1:]]
            group[0] += 1
            group[1] += value
    if not values:
        return 0.0
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    between = sum(count * (own / count - mean) ** 2 for count, own in sums.values())
    return between / total if total else 0.0
