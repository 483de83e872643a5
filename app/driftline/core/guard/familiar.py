"""What was learned of each feature, for `unfamiliar`: the numbers between which it lay, and its texts.

Each event and each pair goes through here feature by feature, so it is written twice: here, and in `_familiar.pyx`,
which is compiled where there is a C compiler. `learn` and `is_familiar` are the compiled ones if they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from driftline.core.record import FeatureValue

TEXTS_MAX: Final = 1_000  # of one feature; beyond them, texts are names, and a new one is no surprise
TEXT_MAX: Final = 200  # characters; a feature with a longer one holds prose

Known: TypeAlias = list[Any]
"""Of one feature: how many values were learned; the least and the greatest number; texts by how often (None: too many),
and how many of them came once."""
Values: TypeAlias = Sequence[FeatureValue]


def nothing() -> Known:
    """Of a feature before its first value."""
    return [0, None, None, {}, 0]


def plain_learn(known: list[Known], values: Values) -> None:
    """An event was learned from."""
    for one, value in zip(known, values, strict=False):
        if value is None:
            continue
        one[0] += 1
        if type(value) is float or type(value) is int:
            if one[1] is None:
                one[1] = one[2] = value
            elif value < one[1]:
                one[1] = value
            elif value > one[2]:
                one[2] = value
        elif (texts := one[3]) is not None:
            if type(value) is str and len(value) > TEXT_MAX:
                one[3], one[4] = None, 0
                continue
            count = texts.get(value, 0)
            texts[value] = count + 1
            one[4] += (count == 0) - (count == 1)
            if len(texts) > TEXTS_MAX:
                one[3], one[4] = None, 0


def plainly_familiar(known: list[Known], values: Values) -> bool:
    """Whether no number lies beyond those that were learned from, and no text is new, as of nearly all events."""
    for one, value in zip(known, values, strict=False):
        if type(value) is float or type(value) is int:
            if one[1] is not None and not one[1] <= value <= one[2]:
                return False
        elif value is not None and one[3] is not None and value not in one[3]:
            return False
    return True


learn: Callable[[list[Known], Values], None]
is_familiar: Callable[[list[Known], Values], bool]
is_compiled = True
try:
    from driftline.core.guard._familiar import is_familiar, learn
except ImportError:  # no compiler was there when it was installed
    learn, is_familiar, is_compiled = plain_learn, plainly_familiar, False
