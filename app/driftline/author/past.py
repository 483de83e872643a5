"""History features that `init` proposes: for ids that repeat, and for numbers to predict that repeat with the calendar.

An id means nothing to a model, but its past does: how often it came, with what amounts, and what became of it.
Only labels that are known by then are used (`label_mean`), so nothing here gives the label away; fields that do so are
left out before.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from math import nan, sqrt
from statistics import correlation
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from driftline.author.leak import Cell
from driftline.author.profile import ONE_HOT_MAX, Column, Profile
from driftline.author.word import names_amount
from driftline.core.task import task_of

KEYS_MAX: Final = 3
GROUPS_MAX: Final = 500
WINDOWS: Final = ("1d", "7d", "30d")
DAY_MS: Final = 86_400_000
_UNTIMED: Final = (
    "no field holds the event's time, so records count by their own time, and the rows of a file only have an order: "
    "history features have no windows, and rows are taken to be in order"
)
_REPEATS = 0.75  # of the rows: an id with more different values hardly comes again
_EXPLAINED_MIN = 0.1  # of the label's variance, by the groups of a field
_HOUR_NAME = re.compile(r"(?:^|[^A-Za-z])(?:hr|hour|hours|hod)(?:[^A-Za-z]|$)|hour$", re.IGNORECASE)
_DAY = frozenset(map(float, range(25)))
_BURSTS = {"10m": 600_000, "1h": 3_600_000}
_BURSTS_MIN = 0.005  # share of events that follow one of the same key so soon
_CLASSES_LOOKED = 5
_CHANCE = 4.0  # deviations of what chance explains
_HOUR_MS = 3_600_000
_GAIN_MIN = 0.01  # and so much more by those of two fields, or by a season
_SEASON_GROUPS_MAX = 5_000
_FIELDS_MAX = 12  # that are looked at in pairs
_LOOKED_MAX = 20_000  # rows
_FOLLOWS_MIN = 0.2  # correlation of a label with the one before: from here on it tells something of the next
_FOLLOWS = "labels are like those just before them, so the last known ones are features"
Calendar: TypeAlias = Literal["weekday", "hour"]


class Proposal(Struct, frozen=True):
    """What is added to a pipeline file.

    Args:
        context: fields that are read as keys.
        features: history and calendar features by name, as they are written.
        notes: why, or why not, in a sentence each.
        calendar: of the features, those that are parts of the event's time: categories, not amounts.
        groups: fields by whose values the label differs, together; the best first.
        seasons: periods in ms after which the label is alike.
    """

    context: tuple[str, ...] = ()
    features: dict[str, dict[str, Any]] = {}
    notes: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    seasons: tuple[int, ...] = ()


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
    values = _values(columns[label], found)
    many = _of_many_values(found, columns, values)[: KEYS_MAX - len(keys)]
    windows: tuple[str | None, ...] = WINDOWS if found.time is not None else (None,)
    notes = [f"no history by {name}: nearly every row has a value of its own" for name in ids if name not in keys]
    if (hours := hours_beside(found, columns)) is not None:
        notes.append(
            f"{found.time} holds dates without a time of day, and {hours} looks like the hour: all events of a day "
            "count as midnight, so write both into one field if you can"
        )
    features: dict[str, dict[str, Any]] = {}
    labelled = not task.labels.textual
    for key in keys:
        features |= _of_key(key, _amount(found, columns), windows, labelled=labelled)
        features |= _of_bursts(key, found, columns)
        notes.append(f"{key} is not a feature itself; counts, means and times by it are")
    for key in many:
        own = _of_key(key, _amount(found, columns), windows, labelled=labelled)
        features |= {name: _unknown_at_first(form) for name, form in own.items()} | _of_bursts(key, found, columns)
        notes.append(f"{key} has many values that come again: counts, means and times by it are features too")
    groups: list[tuple[str, ...]] = []
    seasons: tuple[int, ...] = ()
    calendar: dict[str, str] = {}
    if numeric and values is not None:
        groups = _groups(found, columns, values)
        phases = _phases(found, columns) if found.time is not None else {}
        calendar = {part: _free(part, columns) for part in _seasonal(groups, phases, columns, values)}
        if found.time is not None or groups or _follows(values):
            features |= _of_groups(groups, windows, calendar)
            notes.append("the label's own past is a feature: only labels known by then count")
        seasons = tuple({"weekday": 7 * DAY_MS, "hour": DAY_MS}[part] for part in calendar)
    else:
        calendar = _calendar_of_classes(found, columns, label)
        features |= {feature: {"calendar": part} for part, feature in calendar.items()}
        if calendar:
            notes.append(f"labels differ by {' and '.join(calendar)}, so these parts of {found.time} are features")
        if values is not None and _follows(values):
            features |= _of_last()
            notes.append(_FOLLOWS)
    features = {name: form for name, form in features.items() if name not in columns}
    if found.time is None and (features or ids):
        notes.insert(0, _UNTIMED)
    return Proposal(tuple(keys), features, tuple(notes), tuple(calendar.values()), tuple(groups), seasons)


def _free(name: str, columns: Mapping[str, Column]) -> str:
    return name if name not in columns else f"event_{name}"


def hours_beside(found: Profile, columns: Mapping[str, Column]) -> str | None:
    """The field that looks like the hour of the day, where the event's time is a date; None where there is none."""
    if not found.dates_only:
        return None
    for name, cells in columns.items():
        known = {cell for cell in cells if cell is not None}
        whole = all(type(cell) in (int, float) and float(cell) in _DAY for cell in known)
        if _HOUR_NAME.search(name) and whole and len(known) > 2:
            return name
    return None


def _of_many_values(found: Profile, columns: Mapping[str, Column], values: Sequence[float] | None) -> list[str]:
    """Texts of too many values for a column each, that come again: cards, shops, postcodes. The model sees them hashed,
    and what is known of each by their past; those that tell most of the label first."""
    names = [field.name for field in found.features if field.use == "hashed" and _repeats(columns[field.name])]
    told = {name: _explained([columns[name]], values) if values is not None else 0.0 for name in names}
    return sorted(names, key=lambda name: -told[name])


def _unknown_at_first(form: dict[str, Any]) -> dict[str, Any]:
    """A label's mean before the first label is none, not 0: a model that adds up then takes it as usual."""
    return {**form, "missing": "omit"} if form["history"] == "label_mean" else form


def _of_bursts(key: str, found: Profile, columns: Mapping[str, Column]) -> dict[str, dict[str, Any]]:
    """How many events of a key came within minutes, where some do: a day's count does not show a burst."""
    if found.time is None:
        return {}
    latest: dict[Cell, int] = {}
    gaps: list[int] = []
    for cell, moment in zip(columns[key][:_LOOKED_MAX], columns[found.time][:_LOOKED_MAX], strict=True):
        time_ms = _read_time(found, moment)
        if cell is not None and time_ms is not None:
            gaps.append(time_ms - latest.get(cell, time_ms - _HOUR_MS))
            latest[cell] = time_ms
    made: dict[str, dict[str, Any]] = {}
    for over, window_ms in _BURSTS.items():
        if sum(0 <= gap < window_ms for gap in gaps) > _BURSTS_MIN * len(gaps):
            made |= _over(f"{key}_count", {"history": "count", "by": key}, over)
    return made


def _calendar_of_classes(found: Profile, columns: Mapping[str, Column], label: str) -> dict[str, str]:
    """The parts of the time by which one of the commonest classes comes more or less often."""
    if found.time is None or not task_of(found.target.task).supervised:
        return {}
    cells = columns[label][:_LOOKED_MAX]
    common = [value for value, _ in Counter(cell for cell in cells if cell is not None).most_common(_CLASSES_LOOKED)]
    chosen: dict[str, str] = {}
    for part, phases in _phases(found, columns).items():
        least = max(_GAIN_MIN, _CHANCE * sqrt(2 * len(set(phases))) / len(cells))
        shares = ([nan if cell is None else float(cell == value) for cell in cells] for value in common)
        if any(_explained([phases], share) >= least for share in shares):
            chosen[part] = _free(part, columns)
    return chosen


def _repeats(cells: Column) -> bool:
    known = [cell for cell in cells if cell is not None]
    return 1 < len(set(known)) <= _REPEATS * len(known) and not any(isinstance(cell, float) for cell in known)


def _values(label: Column, found: Profile) -> list[float] | None:
    """The label of each row as a number, NaN where it has none; None where it is of many classes."""
    task = task_of(found.target.task)
    if task.labels.textual or not task.supervised:
        return None
    if not task.labels.numeric:
        truth = found.target.positive if found.target.positive is not None else 1
        return [nan if cell is None else float(cell == truth) for cell in label]
    return [float(cell) if isinstance(cell, int | float) else nan for cell in label]


def _follows(values: Sequence[float]) -> bool:
    """Whether a label is like the one before it."""
    pairs = [(a, b) for a, b in pairwise(values[:_LOOKED_MAX]) if a == a and b == b]
    if len(pairs) < 3 or len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return False
    return correlation([a for a, _ in pairs], [b for _, b in pairs]) >= _FOLLOWS_MIN


def _of_last() -> dict[str, dict[str, Any]]:
    return {
        "label_last": {"history": "label_last"},
        "label_lag_2": {"history": "label_lag(2)"},
        "label_lag_3": {"history": "label_lag(3)"},
    }


def _phases(found: Profile, columns: Mapping[str, Column]) -> dict[Calendar, list[int | None]]:
    """Weekdays and hours of the rows, where the rows have several, over several periods."""
    times = [_read_time(found, cell) for cell in columns[found.time or ""]]
    known = [time_ms for time_ms in times if time_ms is not None]
    if not known:
        return {}
    span_ms = max(known) - min(known)
    phases: dict[Calendar, list[int | None]] = {}
    parts: tuple[tuple[Calendar, int, int, int], ...] = (
        ("weekday", 7 * DAY_MS, DAY_MS, 7),
        ("hour", DAY_MS, DAY_MS // 24, 24),
    )
    for part, period_ms, unit_ms, count in parts:
        cells = [None if one is None else (one + (3 * DAY_MS if count == 7 else 0)) // unit_ms % count for one in times]
        if span_ms >= 2 * period_ms and len(set(cells) - {None}) > 1:
            phases[part] = cells
    return phases


def _read_time(found: Profile, cell: Cell | None) -> int | None:
    try:
        return found.time_form.read(cell)
    except ValueError:
        return None


def _seasonal(
    groups: Sequence[tuple[str, ...]],
    phases: Mapping[Calendar, Column],
    columns: Mapping[str, Column],
    values: Sequence[float],
) -> list[Calendar]:
    """Which parts of the time tell more of the label than the groups alone."""
    fields = [columns[name] for name in groups[0]] if groups else []
    alone = _explained(fields, values)
    chosen: list[Calendar] = []
    for part, cells in phases.items():
        with_season = [*fields, cells]
        if _count(with_season) <= _SEASON_GROUPS_MAX and _explained(with_season, values) >= alone + _GAIN_MIN:
            chosen.append(part)
    return chosen


def _count(fields: Sequence[Column]) -> int:
    return len(set(zip(*(cells[:_LOOKED_MAX] for cells in fields), strict=True)))


def _amount(found: Profile, columns: Mapping[str, Column]) -> str | None:
    """The number to average by key: one that is named like money, or else that with the most different values."""
    numbers = [field.name for field in found.features if field.use == "number"]
    kinds = {name: count for name in numbers if (count := len(set(columns[name]))) > ONE_HOT_MAX}
    return max(kinds, key=lambda name: (names_amount(name), kinds[name]), default=None)


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


def _of_groups(
    groups: Sequence[tuple[str, ...]], windows: Sequence[str | None], calendar: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What the label was last and of late, of all events and of those alike, and at this time of the week or day."""
    made: dict[str, dict[str, Any]] = {"label_last": {"history": "label_last"}}
    for over in windows[:2]:
        made |= _over("label" if over is not None else "label_mean", {"history": "label_mean"}, over)
    for place, group in enumerate(groups):
        name, by = "_".join(group), list(group) if len(group) > 1 else group[0]
        made[f"{name}_label_last"] = {"history": "label_last", "by": by}
        for over in windows[-2:]:
            made |= _over(f"{name}_label", {"history": "label_mean", "by": by}, over)
        if not place and "weekday" in calendar:
            made[f"{name}_label_lag_7"] = {"history": "label_lag(7)", "by": by}
    for part, feature in calendar.items():
        made[feature] = {"calendar": part}
        season = [*(groups[0] if groups else ()), feature]
        name, by = "_".join(season), season if len(season) > 1 else season[0]
        made[f"{name}_label_last"] = {"history": "label_last", "by": by}
        made[f"{name}_label_mean"] = {"history": "label_decayed_mean", "by": by, "half_life": "14d"}
    return made


def _groups(found: Profile, columns: Mapping[str, Column], values: Sequence[float]) -> list[tuple[str, ...]]:
    """The field whose values tell most of the label, and it with the one beside which it tells more; or the two that
    tell it only together."""
    kinds = {field.name: len(set(columns[field.name])) for field in found.features if field.use != "text"}
    names = [name for name, count in kinds.items() if 1 < count <= ONE_HOT_MAX]
    alone = {(name,): _explained([columns[name]], values) for name in names}
    first = sorted(names, key=lambda name: -alone[name,])[:_FIELDS_MAX]
    pairs = {
        pair: _explained([columns[name] for name in pair], values)
        for pair in combinations([name for name in names if name in first], 2)
        if kinds[pair[0]] * kinds[pair[1]] <= GROUPS_MAX
    }
    best = max(alone, key=lambda group: alone[group], default=None)
    second = max(pairs, key=lambda pair: pairs[pair], default=None)
    gain = second is not None and best is not None and pairs[second] >= alone[best] + _GAIN_MIN
    if best is None or max(alone[best], pairs[second] if second is not None else 0.0) < _EXPLAINED_MIN:
        return []
    if second is None or not gain:
        return [best]
    if alone[best] < _EXPLAINED_MIN:
        return [second]
    return [second, best] if best[0] in second else [second]


def _explained(fields: Sequence[Column], values: Sequence[float]) -> float:
    """The share of the label's variance between the groups that the fields' values make, less what chance explains."""
    sums: dict[tuple[Cell | None, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    known = []
    for value, *cells in zip(values[:_LOOKED_MAX], *(cells[:_LOOKED_MAX] for cells in fields), strict=True):
        if value == value:
            known.append(value)
            group = sums[tuple(cells)]
            group[0] += 1
            group[1] += value
    if len(known) <= len(sums):
        return 0.0
    mean = sum(known) / len(known)
    total = sum((value - mean) ** 2 for value in known)
    between = sum(count * (own / count - mean) ** 2 for count, own in sums.values())
    if not total:
        return 0.0
    rest: float = (1.0 - between / total) * (len(known) - 1) / (len(known) - len(sums))
    return 1.0 - rest
