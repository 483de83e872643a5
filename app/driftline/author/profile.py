"""Profile of a table of labelled rows: its task, its id and time, and which fields can be features.

Rules of thumb, each given with its reason, so that a person can overrule it: the file that comes out of them is
a start, not a verdict. Left out are fields that would be memorized or not be there in production: ids,
names, counters that only grow, and whatever reveals the label (see `leak`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct

from driftline.author.leak import Cell, find_leaks
from driftline.author.moment import Moments, are_dates, why_unread
from driftline.author.word import looks_like_id, names_label, numbers_rows
from driftline.core.number import split_unit
from driftline.core.pipeline import FeatureType
from driftline.core.task import UNLABELLED, TaskName, task_of, tasks
from driftline.core.task.seen import ID_SHARE, ProfileError, Seen, Target, are_spread, refuse_alike
from driftline.core.timestamp import PLAIN, TimeForm

__all__ = ["Field", "Left", "Profile", "ProfileError", "Target", "looks_like_label", "profile"]

Column = Sequence[Cell | None]

ONE_HOT_MAX = 50  # distinct texts up to here become columns of their own
_HASHED_MAX = 5_000  # and up to here share a fixed number of them
_WORDS = 3.0  # mean number of words from which on text is prose
_DIGITS_MIN, _TIMES_AGAIN, _ROUND_MAX = 5, 3, 0.3  # of numbers that name things
_DAYS = (19_000_101, 21_001_231)  # written as one number
_COUNTER_VALUES_MIN = 4
_DAY_MS = 86_400_000
_COUNTER_ROWS_MIN = 20
_UNITS_LOOKED, _UNITS_MIN = 200, 0.9
_FILLERS = (999, 9_999, 99_999, 999_999, -1, -9, -99, -999, -9_999)  # written in place of a missing number
_FILLERS_MIN, _FAR = 5, 3.0  # how often it stands, and how many times the others' span it is away from them
_NAME_MAX = 200
_TRUE, _FALSE = frozenset({"true", "t", "yes"}), frozenset({"false", "f", "no"})

Use = Literal["number", "boolean", "category", "hashed", "text"]


class Field(Struct, frozen=True):
    """A field that becomes a feature.

    Args:
        use: how the model takes it: as a number, a boolean, a category of few or of many values, or prose.
        fill: what stands in where a row has none; None if all rows of the sample have one.
        note: what a person should know of it.
        spread: a number from 0 on that a few rows have many times over, as money.
    """

    name: str
    type: FeatureType
    use: Use
    fill: Cell | None = None
    note: str = ""
    spread: bool = False


class Left(Struct, frozen=True):
    """A field that does not become a feature, and why.

    Args:
        leak: it gives the label away.
        key: it is an id, by which a past may be kept.
    """

    name: str
    type: FeatureType
    why: str
    leak: bool = False
    key: bool = False


class Profile(Struct, frozen=True):
    """All of it.

    Args:
        id, time: the fields; None where there is none.
        in_order: whether times never go back in the sample.
        time_form: how they are written.
        untimed: rows without a time that can be read.
        dates_only: every time is the beginning of a day, and days repeat.
        follows: whether the rows are in the order of their times, or in the opposite one, but for a few.
    """

    target: Target
    id: str | None
    time: str | None
    in_order: bool
    features: tuple[Field, ...]
    left: tuple[Left, ...]
    time_form: TimeForm = PLAIN
    untimed: int = 0
    dates_only: bool = False
    follows: bool = True


def profile(
    columns: Mapping[str, Column],
    label: str | None,
    *,
    event_id: str | None = None,
    time: str | None = None,
    task: TaskName | None = None,
    typed: bool = True,
    time_form: TimeForm | None = None,
    bare: bool = False,
) -> Profile:
    """Look at a table.

    Args:
        columns: cells by name, all of the same length, None where a row has none.
        label: the field to predict; None for anomalies.
        event_id, time, task: what the user says they are; otherwise inferred from the data.
        typed: whether the file knows text from numbers, as JSON does and CSV does not.
        time_form: how times are written; found out without.
        bare: a time and a number are enough: its own past can be learned from.

    Raises:
        ProfileError: the label cannot be one, or no field is left to learn from.
    """
    others = {name: cells for name, cells in columns.items() if name != label}
    target = Target(task or UNLABELLED) if label is None else find_target(label, columns[label], task)
    event_id = event_id or _find_id(others)
    found = Moments(time, {name: cells for name, cells in others.items() if name != event_id}, time_form)
    time = found.name
    features: list[Field] = []
    left: list[Left] = []
    copies = _copies({name: cells for name, cells in others.items() if name not in (event_id, time)})
    for name, cells in others.items():
        if name in (event_id, time):
            continue
        one = _field(name, cells, typed)
        if name in copies and isinstance(one, Field):
            one = Left(name, one.type, f"it is the same as {copies[name]} in every row")
        (features if isinstance(one, Field) else left).append(one)  # type: ignore[arg-type]  # each to its own
    if label is not None:
        features, leaking = _without_leaks(features, others, columns[label], target)
        left += leaking
    features, prose = _without_prose(features, target.task)
    left += prose
    if not features and not (bare and time is not None and task_of(target.task).labels.numeric):
        raise without_features(left)
    places = {name: place for place, name in enumerate(columns)}
    left.sort(key=lambda one: places[one.name])
    in_order = all(earlier <= later for earlier, later in pairwise(found.times))
    times = found.times
    dates_only = len(set(times)) < len(times) and all(time_ms % _DAY_MS == 0 for time_ms in times)
    return Profile(
        target, event_id, time, in_order, tuple(features), tuple(left), found.form, found.untimed, dates_only,
        found.follows,
    )  # fmt: skip


def without_features(left: Sequence[Left]) -> ProfileError:
    """Why nothing can be learned from a table."""
    others = "; ".join(f"{one.name}: {one.why}" for one in left[:10]) or "there are no other fields"
    remedy = ""
    if any(one.leak for one in left):
        remedy = ". If such a field is known before the label, write the pipeline file by hand"
    return ProfileError(f"no usable feature; {others}{remedy}")


def looks_like_label(columns: Mapping[str, Column]) -> dict[str, str]:
    """Fields that are called like what one would predict, or have two values only, each with the reason."""
    found = {}
    for name, cells in columns.items():
        values = {cell for cell in cells if cell is not None}
        if names_label(name) and len(values) > 1:
            found[name] = "its name"
        elif len(values) == 2:
            found[name] = "two values"
    return found


# -- the label


def find_target(name: str, cells: Column, task: TaskName | None) -> Target:
    """What the label says about the task.

    Raises:
        ProfileError: it can be no label of that task, or of any.
    """
    known = [cell for cell in cells if cell is not None]
    seen = Seen(name, known, Counter(known))
    counts = seen.counts
    if not known:
        raise ProfileError(f"the label {name!r} is empty in every row; name another field with --label")
    if len(counts) == 1:
        raise ProfileError(f"the label {name!r} is {known[0]!r} in every row; there is nothing to learn")
    if task is not None:
        return task_of(task).draft.look(seen)
    refuse_alike(seen)
    for one in tasks():
        if one.draft.looks(seen):
            return one.draft.look(seen)
    raise ProfileError(
        f"the label {name!r} has {len(counts)} different values in {len(known)} rows, too many for classes; "
        "name another field with --label"
    )


# -- id and time


def _find_id(columns: Mapping[str, Column]) -> str | None:
    """The field that identifies the rows and is named like it."""
    unique = [
        name
        for name, cells in columns.items()
        if all(isinstance(cell, str | int) and not isinstance(cell, bool) for cell in cells)
        and len(set(cells)) == len(cells) > 1
    ]
    named = [name for name in unique if looks_like_id(name) or numbers_rows(name)]
    return min(named, key=numbers_rows, default=None)  # INV-17 may be given later than the row's own id


# -- features


def _copies(columns: Mapping[str, Column]) -> dict[str, str]:
    """Fields that repeat an earlier one in every row, of several values, each with that one."""
    first: dict[tuple[Cell | None, ...], str] = {}
    copies = {}
    for name, cells in columns.items():
        if (
            len(cells) >= _COUNTER_ROWS_MIN
            and len(set(cells)) > 2
            and (other := first.setdefault(tuple(cells), name)) != name
        ):
            copies[name] = other
    return copies


def _field(name: str, cells: Column, typed: bool) -> Field | Left:
    """What one field can be."""
    known = [cell for cell in cells if cell is not None]
    if len(name) > _NAME_MAX or not name.isprintable():
        return Left(name, "string", f"a feature's name has at most {_NAME_MAX} printable characters")
    if not known:
        return Left(name, "string", "it is empty in every row")
    gaps = len(known) < len(cells)
    if len(set(known)) == 1:
        if gaps and isinstance(known[0], str):
            return Field(name, "string", "category", "missing", "it has one value or none")
        rows = "every row that has one" if gaps else "every row"
        return Left(name, _type_of(known), f"it has one value in {rows}")
    kinds = Counter(_kind(cell) for cell in known)
    if kinds["boolean"] == len(known) or _are_booleans(known):
        return Field(name, "boolean", "boolean", fill=False if gaps else None)
    if kinds["number"] == len(known):
        return _number(name, known, gaps)
    if kinds["string"] < 0.05 * len(known) and kinds["boolean"] == 0:
        strange = next(cell for cell in known if _kind(cell) == "string")
        note = (
            f"{kinds['string']} of {len(known)} rows hold text, such as {strange!r:.40}: these events will be rejected"
        )
        numbers = [cell for cell in known if _kind(cell) == "number"]
        return Field(name, "number", "number", _middle(numbers) if gaps else None, note)
    return _text(name, [str(cell) for cell in known], gaps, mixed=typed and len(kinds) > 1)


def _number(name: str, known: Sequence[Cell], gaps: bool) -> Field | Left:
    numbers = [float(cell) for cell in known]
    distinct = len(set(numbers))
    whole = all(number.is_integer() for number in numbers)
    if whole and looks_like_id(name) and distinct > ONE_HOT_MAX:
        return Left(name, "number", "an id: its magnitude means nothing, and the model would memorize it", key=True)
    if whole and _are_digits_of_ids(numbers, distinct):
        return Left(name, "number", "numbers of one length that come again, as of cards or accounts: an id", key=True)
    sorted_rows = all(earlier <= later for earlier, later in pairwise(numbers))
    if sorted_rows and distinct >= _COUNTER_VALUES_MIN and len(numbers) >= _COUNTER_ROWS_MIN:
        return Left(name, "number", "it only increases: a counter or clock, different in every event")
    if max(abs(number) for number in numbers) > 1e15:
        return Left(name, "number", "its numbers exceed limits.number_max")
    note = _of_fillers(numbers)
    return Field(name, "number", "number", _middle(known) if gaps else None, note, spread=are_spread(numbers))


def _of_fillers(numbers: Sequence[float]) -> str:
    """That a number such as 999, which comes again far from all others, may mean that there is none."""
    counts = Counter(numbers)
    for filler in (one for one in _FILLERS if counts[one] >= _FILLERS_MIN):
        others = [number for number in counts if number != filler]
        if not others:
            continue
        least, most = min(others), max(others)
        away = filler - most if filler > most else least - filler
        alone = least >= 0 > filler and counts[filler] > max(counts[one] for one in others)
        if alone or away >= _FAR * (most - least):
            return (
                f"{filler} stands in {counts[filler]:,} rows, the others are from {least:g} to {most:g}: if it means "
                "that there is none, leave it empty in the data"
            )
    return ""


def _are_digits_of_ids(numbers: Sequence[float], distinct: int) -> bool:
    """Whether whole numbers name things: long, all of one length, hardly ever round, no days, and each comes again."""
    if not ONE_HOT_MAX < distinct <= len(numbers) / _TIMES_AGAIN:
        return False
    least, most = min(numbers), max(numbers)
    if least < 10 ** (_DIGITS_MIN - 1) or len(f"{least:.0f}") != len(f"{most:.0f}"):
        return False
    days = all(_DAYS[0] <= number <= _DAYS[1] and number % 100 <= 31 for number in numbers)
    return not days and sum(number % 10 == 0 for number in numbers) < _ROUND_MAX * len(numbers)


def _text(name: str, known: Sequence[str], gaps: bool, *, mixed: bool) -> Field | Left:
    distinct = len(set(known))
    words = sum(len(text.split()) for text in known[:1_000]) / len(known[:1_000])
    fill = "missing" if gaps else None
    if mixed:
        return Left(name, "string", "it holds text in some rows and numbers in others")
    if are_dates(known):
        return Left(name, "string", "it holds times; only those of the event itself are read, by event.time")
    if unread := why_unread(known) or _why_in_units(known):
        return Left(name, "string", unread)
    if words >= _WORDS and distinct > ONE_HOT_MAX:
        return Field(name, "text", "text", fill)
    if distinct <= ONE_HOT_MAX and distinct <= max(ID_SHARE * len(known), 2):
        return Field(name, "string", "category", fill)
    if distinct > ID_SHARE * len(known):
        return Left(name, "string", "almost every value is unique: the model would memorize it")
    if looks_like_id(name):
        return Left(name, "string", "an id: the model would memorize it", key=True)
    if distinct > _HASHED_MAX:
        return Left(name, "string", f"{distinct:,} different values are too many to learn from")
    return Field(name, "string", "hashed", fill, note=f"{distinct:,} different values, hashed into a few columns")


def _why_in_units(known: Sequence[str]) -> str:
    """Why numbers with a unit are not read as numbers: they have several, or are text in JSON."""
    pairs = [split_unit(text) for text in known[:_UNITS_LOOKED]]
    units = sorted({unit for number, unit in pairs if unit and number[-1:].isdigit()})
    if sum(bool(unit) for _, unit in pairs) < _UNITS_MIN * len(pairs):
        return ""
    if len(units) > 1:
        return f"its numbers are in {' and '.join(units[:3])}; convert them to one unit to use them"
    return f"its numbers are texts with a unit, such as {known[0]!r:.40}; send the number alone to use it"


def _kind(cell: Cell) -> FeatureType:
    if isinstance(cell, bool):
        return "boolean"
    return "string" if isinstance(cell, str) else "number"


def _type_of(known: Sequence[Cell]) -> FeatureType:
    return _kind(known[0])


def _are_booleans(known: Sequence[Cell]) -> bool:
    """Words for yes and no, which `driftline produce` reads as booleans where a pipeline says so."""
    values = {cell.strip().lower() if isinstance(cell, str) else cell for cell in known}
    return bool(values & _TRUE) and bool(values & _FALSE) and values <= _TRUE | _FALSE


def _middle(known: Sequence[Cell]) -> Cell:
    """The median: a number that occurs, so it is a sane one."""
    ordered = sorted(float(cell) for cell in known)
    middle = ordered[len(ordered) // 2]
    return int(middle) if middle.is_integer() else middle


# -- what reveals the label, and prose


def _without_leaks(
    features: Sequence[Field], columns: Mapping[str, Column], label: Column, target: Target
) -> tuple[list[Field], list[Left]]:
    rows = [place for place, cell in enumerate(label) if cell is not None]
    truth = [cell for cell in label if cell is not None]
    candidates = {
        field.name: [columns[field.name][place] for place in rows] for field in features if field.use != "text"
    }
    left: dict[str, Left] = {}
    types = {field.name: field.type for field in features}
    for leak in find_leaks(candidates, truth, numeric=task_of(target.task).labels.numeric):
        for name in leak.fields:
            left[name] = Left(name, types[name], f"reveals the label: {leak.how}", leak=True)
    return [field for field in features if field.name not in left], list(left.values())


def _without_prose(features: list[Field], task: TaskName) -> tuple[list[Field], list[Left]]:
    """Prose is counted in words where events are labelled, and no detector of anomalies can use it."""
    if task_of(task).draft.prose:
        return features, []
    why = f"free text, which task {task} cannot use"
    left = [Left(field.name, "string", why) for field in features if field.use == "text"]
    return [field for field in features if field.use != "text"], left
