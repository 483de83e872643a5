"""Which field of a table holds the event's time, and how its times are written.

Several fields may hold times. The rows of a log are in the order in which they happened, so the first field whose times
follow the rows, forwards or backwards, is the event's time; a date of birth or of expiry does not follow them. Where
none does, the rows have been shuffled or sorted by something else, and a name decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final

from driftline.author.leak import Cell
from driftline.author.word import names_other_time, names_time
from driftline.core.number import is_missing
from driftline.core.task.seen import ProfileError, is_number
from driftline.core.timestamp import PLAIN, TimeForm, Times

_EPOCH_FIRST_MS, _EPOCH_LAST_MS = 631_152_000_000, 4_102_444_800_000  # 1990 to 2100
_EPOCH_KNOWN_S = (10**9, 2 * 10**9)  # 2001 to 2033: numbers that hardly mean anything else if they never go back
_TIMES_MIN: Final = 0.95  # of the rows
_FOLLOWS_MIN: Final = 0.95  # of the rows whose time is not on the other side of that of the row before
_DATES_LOOKED: Final = 100
_DATES_SOME: Final = 0.5  # of the texts: from here on a column was meant to hold times
_DATE = re.compile(
    r"\s*(?:[0-9]{4}[-/.][0-9]{1,2}(?:[-/.]|$)|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}|"
    r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:T|$)|"
    r"[A-Za-z]{3,9},?\s+[0-9A-Za-z]|[0-9]{1,2}[-/. ][A-Za-z]{3})"
)
_EPOCH = re.compile(r"\s*[12][0-9]{9}(?:[0-9]{3})?\s*")  # among dates

Column = Sequence[Cell | None]


class Moments:
    """The field that holds the event's time, and its times.

    Args:
        name: given by the user; None to infer it from the data.
        form: how its times are written; None to infer that.

    Attributes:
        name: None where there is none.
        times: epoch milliseconds of the rows that have one.
        untimed: rows that have none.
        follows: whether the rows are in its order, but for a few, or in the opposite one.
        others: fields of times of something else.

    Raises:
        ProfileError: its times can be read in two ways.
    """

    def __init__(self, name: str | None, columns: Mapping[str, Column], form: TimeForm | None) -> None:
        self.name: str | None = None
        self.form, self.times, self.untimed = form or PLAIN, list[int](), 0
        self.follows = True
        self.others: tuple[str, ...] = ()
        if name is not None:
            self._take(name, columns[name], form)
        else:
            self._find(columns, form)

    def _take(self, name: str, cells: Column, form: TimeForm | None) -> bool:
        """Make a field the event's time; False where too few of its cells are times."""
        known = _known(cells)
        found = form or _form_of(name, known)
        times = _read(found, known)
        self.name, self.form, self.times, self.untimed = name, found, times, len(cells) - len(times)
        self.follows = _follow(times)
        return len(times) >= _TIMES_MIN * len(cells)

    def _find(self, columns: Mapping[str, Column], form: TimeForm | None) -> None:
        """The first field whose times the rows follow; else the first that is not called something else."""
        doubtful: ProfileError | None = None
        unordered, others = None, []
        for name in _candidates(columns):
            try:
                if not self._take(name, columns[name], form):
                    continue
            except ProfileError as error:
                doubtful = doubtful or error
                continue
            if self.follows:
                return
            if names_other_time(name):
                others.append(name)
            else:
                unordered = unordered or name
        self.name, self.others = None, tuple(others)
        if unordered is not None:
            self._take(unordered, columns[unordered], form)
        elif doubtful is not None:
            raise doubtful
        else:
            self.form, self.times, self.untimed, self.follows = form or PLAIN, [], 0, True


def _candidates(columns: Mapping[str, Column]) -> Iterator[str]:
    for name, cells in columns.items():
        if _may_be_times(name, _known(cells), len(cells)):
            yield name


def _known(cells: Column) -> list[Cell]:
    return [cell for cell in cells if cell is not None and not (isinstance(cell, str) and is_missing(cell))]


def _follow(times: Sequence[int]) -> bool:
    """Whether times go on, or back, from nearly every row to the next; those that are all alike do neither."""
    pairs = list(pairwise(times))
    on, back = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    return bool(on or back) and min(on, back) <= (1.0 - _FOLLOWS_MIN) * len(pairs)


def _may_be_times(name: str, known: Column, rows: int) -> bool:
    """Whether a field is worth trying: text that begins as a date does, or numbers since 1970 that are called a time or
    never go back."""
    if not known or len(known) < _TIMES_MIN * rows:
        return False
    if all(isinstance(cell, str) for cell in known):
        return _begin_as_dates([str(cell) for cell in known[:_DATES_LOOKED]])
    if not all(cell is not None and is_number(cell) for cell in known):
        return False
    numbers = [float(cell) for cell in known]  # type: ignore[arg-type]  # just seen
    if not names_time(name):
        low, high = _EPOCH_KNOWN_S
        return all(low <= number <= high for number in numbers) and all(a <= b for a, b in pairwise(numbers))
    times = Times()
    times.add(known)
    if times.are_serials():
        return True
    try:
        found = [times.form().read(cell) for cell in known[:1_000]]
    except ValueError:
        return False
    return all(_EPOCH_FIRST_MS <= moment <= _EPOCH_LAST_MS for moment in found)


def _begin_as_dates(texts: Sequence[str]) -> bool:
    """Whether texts begin as dates do; some may be numbers since 1970."""
    dates = sum(bool(_DATE.match(text)) for text in texts)
    return bool(dates) and dates + sum(bool(_EPOCH.fullmatch(text)) for text in texts) >= len(texts)


def _form_of(name: str, known: Column) -> TimeForm:
    times = Times()
    times.add(known)
    try:
        return times.form()
    except ValueError as error:
        raise ProfileError(f"column {name}: {error}") from None


def _read(form: TimeForm, known: Column) -> list[int]:
    """Epoch milliseconds of the cells that hold a time."""
    times = []
    for cell in known:
        with suppress(ValueError):
            times.append(form.read(cell))
    return times


def are_dates(known: Sequence[str]) -> bool:
    """Whether texts are times, whatever their order of day and month."""
    some = list(dict.fromkeys(known))[:_DATES_LOOKED]
    if len(some) < 2 or not _begin_as_dates(some):
        return False
    times = Times()
    times.add(some)
    try:
        form = times.form()
    except ValueError:
        return True  # in two ways at least
    return len(_read(form, some)) >= _TIMES_MIN * len(some)


def why_unread(known: Sequence[str]) -> str:
    """Why texts that were meant as times are not read as such; empty where few of them look like times."""
    some = list(dict.fromkeys(known))[:_DATES_LOOKED]
    if not any(map(_DATE.match, some)):
        return ""
    form = PLAIN
    times = Times()
    times.add(some)
    with suppress(ValueError):
        form = times.form()
    unread = [text for text in some if not _read(form, [text])]
    if not unread or len(unread) > _DATES_SOME * len(some):
        return ""
    return f"most of it looks like times, but {unread[0]!r:.40} does not; write all alike, or say how: --time-format"
