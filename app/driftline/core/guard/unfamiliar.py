"""Inputs unlike all that was learned from: a model answers them as well, and knows nothing about them.

Each feature is looked at alone, in constant time and bounded memory. What counts as new is a number beyond those that
were learned from, by more than a tenth of their span, and a text (or truth value) that was not among them. How
surprising that is depends on how often new things have come: of n texts of which s were seen once, the next is a new
one with a probability of about (s + 1) / (n + 1), and of n numbers one beyond both ends with about 2 / (n + 1).

Source: I. J. Good, "The population frequencies of species and the estimation of population parameters", Biometrika 40
(1953); the missing mass is about the share of what was seen once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm
from driftline.core.record import FeatureValue

TEXTS_MAX: Final = 1_000  # of one feature; beyond them, texts are names, and a new one is no surprise
TEXT_MAX: Final = 200  # characters; a feature with a longer one holds prose
MARGIN: Final = 0.1  # of the span of the numbers

Known: TypeAlias = list[Any]
"""Of one feature: how many values were learned; the least and the greatest number; texts by how often (None: too many),
and how many of them came once."""


def nothing() -> Known:
    """Of a feature before its first value."""
    return [0, None, None, {}, 0]


def learn(known: Sequence[Known], values: Sequence[FeatureValue]) -> None:
    """An event was learned from."""
    for one, value in zip(known, values, strict=False):
        if type(value) is float and (least := one[1]) is not None:  # as most
            one[0] += 1
            if value < least:
                one[1] = value
            elif value > one[2]:
                one[2] = value
            continue
        if value is None:
            continue
        one[0] += 1
        if type(value) is float or type(value) is int:
            if one[1] is None or value < one[1]:
                one[1] = value
            if one[2] is None or value > one[2]:
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


def surprise(known: Known, value: FeatureValue) -> float:
    """How surprising a value is: 0 of what is familiar, else one less the probability of something as new."""
    count: int = known[0]
    if value is None or not count:
        return 0.0
    if type(value) is float or type(value) is int:
        least, most = known[1], known[2]
        if least is None:
            return 0.0
        margin = (most - least) * MARGIN
        return 0.0 if least - margin <= value <= most + margin else max(0.0, 1.0 - 2.0 / (count + 1))
    if known[3] is None or value in known[3]:
        return 0.0
    once: int = known[4]
    return max(0.0, 1.0 - (once + 1.0) / (count + 1))


class Unfamiliar(Struct, frozen=True, gc=False):
    """See `pipeline.guard.Unfamiliar`. What no model made passes: it does not depend on the features."""

    score_max: float
    names: tuple[str, ...]
    action: Action
    name: Rung = "unfamiliar"

    def beyond(self, case: Case) -> Beyond | None:
        if case.learned is None:
            return None
        most, place = self.score_max, -1
        number = -1
        for known, value in zip(case.known, case.features, strict=False):
            number += 1
            if type(value) is float and (least := known[1]) is not None and least <= value <= known[2]:
                continue
            found = surprise(known, value)
            if found > most:
                most, place = found, number
        return None if place < 0 else Beyond(self.score_max, most - self.score_max, self.names[place])


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.unfamiliar
    return None if form is None else Unfamiliar(form.score_max, pipeline.event.names, form.action)
