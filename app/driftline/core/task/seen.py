"""What a field of a data file that may be a label looks like, for `driftline init`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from driftline.core.task import TaskName

Cell: TypeAlias = str | int | float | bool

ID_SHARE = 0.5  # of distinct texts among all: from here on each row has its own
RARE = 0.1  # share of the rarer class below which accuracy says nothing
_CLASSES_MAX = 1_000
_WHOLE_CLASSES_MAX = 20
_EVEN = 0.25  # the rarest of the commonest: from here on, whole numbers are shared out evenly, as classes are
_CLASS_NAME = re.compile(
    r"class|type|categor|label|target|species|kind|group|cluster|digit|segment|code", re.IGNORECASE
)
_MOST, _SPREAD = 0.95, 2.0  # beyond this share, numbers that spread reach so many times the median
_YES = frozenset(
    (
        "true", "t", "yes", "y", "positive", "pos", "1", "fraud", "spam", "churn", "default", "anomaly", "click",
        "ja", "j", "wahr", "betrug", "oui", "o", "vrai", "fraude", "si", "sí", "s", "verdadero", "vero", "frode",
        "sim", "verdadeiro", "waar",
    )
)  # fmt: skip
_NO = frozenset(("n", "f"))  # beside a yes of one letter


class ProfileError(ValueError):
    """The label is none; the text says what is allowed."""


class Target(Struct, frozen=True):
    """What is predicted.

    Args:
        positive, negative: the values that mean yes and no; None where they are true and false, or 1 and 0.
        rare: share of the rarer class of two; 0 for other tasks.
        least, most: bounds of a number.
        spread: numbers from 0 on, a few of which are much greater than most, as amounts of money are.
        seen: how the label looks, as text.
        mostly_zero: of numbers from 0 on, more than half are 0.
    """

    task: TaskName
    positive: Cell | None = None
    negative: Cell | None = None
    rare: float = 0.0
    least: float = 0.0
    most: float = 0.0
    spread: bool = False
    seen: str = ""
    mostly_zero: bool = False


class Seen(Struct, frozen=True):
    """A field's values.

    Args:
        name: the field's.
        known: the value of each row that has one.
        counts: how many rows have each value.
    """

    name: str
    known: Sequence[Cell]
    counts: Counter[Cell]

    @property
    def numeric(self) -> bool:
        return all(map(is_number, self.counts))

    def shown(self) -> str:
        """The commonest values, for people."""
        return ", ".join(f"{value!r}: {count:,}" for value, count in self.counts.most_common(5))


def is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def are_spread(numbers: Sequence[float]) -> bool:
    """Whether numbers from 0 on are mostly small, and a few of them many times as great."""
    ordered = sorted(numbers)
    middle = ordered[len(ordered) // 2]
    return ordered[0] >= 0 and middle > 0 and ordered[int(_MOST * len(ordered))] >= _SPREAD * middle


def are_classes(seen: Seen) -> bool:
    """Whether values that are more than two look like classes: numbers like codes, or texts that come again."""
    if seen.numeric:
        return _are_codes(seen.name, seen.counts, len(seen.known))
    return len(seen.counts) <= _CLASSES_MAX and len(seen.counts) <= ID_SHARE * len(seen.known)


def _are_codes(name: str, counts: Counter[Cell], rows: int) -> bool:
    """Whether numbers look like classes: few, whole, from 0 or 1 on without a gap, and called so or as common as each
    other. Counts and grades are whole as well, and are numbers."""
    if not all(float(cell).is_integer() for cell in counts):
        return False
    if len(counts) > _WHOLE_CLASSES_MAX or rows < 10 * len(counts):
        return False
    if _CLASS_NAME.search(name):
        return True
    values = sorted(float(cell) for cell in counts)
    gapless = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    return gapless and min(counts.values()) >= _EVEN * max(counts.values())


def refuse_alike(seen: Seen) -> None:
    """Values that differ only in case or blanks would be learned as classes of their own.

    Raises:
        ProfileError: there are such.
    """
    met: dict[str, str] = {}
    for value in seen.counts:
        if isinstance(value, str) and (other := met.setdefault(" ".join(value.split()).casefold(), value)) != value:
            raise ProfileError(
                f"the label {seen.name!r} holds {other!r:.80} and {value!r:.80}, which differ only in case or spaces; "
                "write them alike in the data, or add --task multiclass if they are different classes"
            )


def two_values(seen: Seen, task: TaskName) -> Target:
    """A label of yes and no.

    Raises:
        ProfileError: it has more or fewer values.
    """
    counts = seen.counts
    if len(counts) != 2:
        raise ProfileError(
            f"the label {seen.name!r} has {len(counts)} values, but task {task} needs two, as in 0 and 1"
        )
    positive = _positive(counts)
    negative = next(value for value in counts if value != positive) if positive is not None else None
    return Target(task, positive, negative, min(counts.values()) / len(seen.known), seen=seen.shown())


def _positive(counts: Counter[Cell]) -> Cell | None:
    """The value that means yes: a number's greater one, a word for yes, else the rarer one."""
    values = sorted(counts, key=lambda value: (counts[value], str(value)))
    if all(value in (0, 1) for value in values):
        return None
    if all(map(is_number, values)):
        return max(values, key=float)
    words = [str(value).strip().lower() for value in values]
    for value, word, other in zip(values, words, reversed(words), strict=True):
        if word in _YES and (len(word) > 1 or other in _NO):
            return value
    return values[0]
