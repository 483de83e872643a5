"""What decisions came to so far, of one part of the events: known, assumed, estimated and unknown, apart.

    known    a label came
    assumed  none came, and the pipeline assumes one
    waiting  a label may still come: an estimate
    expired  none came, and none is assumed: an estimate that nothing will settle

Amounts are whole millionths of the KPI's unit. Sums of whole numbers are exact in any order: a correction takes back
to the last digit what it put in, and shards, backtests and topics add up to the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from driftline.core.output import Priced

MICRO: Final = 1_000_000
AMOUNT_MAX: Final = 1e24  # of one event, in units: a prediction may be near the largest number there is
UNSERVED: Final = "none"
"""In place of a kind: nothing was served, so there was no decision."""
MEAN_MIN: Final = 30  # known decisions whose mean says what others may come to


class Account:
    """The figures of one part.

    Attributes:
        known, assumed: by kind of decision, how many, what they cost and what they brought.
        waiting, expired: how many; of those with an estimate, how many, what they may cost and bring.
        lacking: of the known and assumed ones, how many have no amount, by why.
    """

    def __init__(self) -> None:
        self.known: dict[str, list[int]] = {}
        self.assumed: dict[str, list[int]] = {}
        self.waiting = [0, 0, 0, 0]
        self.expired = [0, 0, 0, 0]
        self.lacking: dict[str, int] = {}

    def settle(self, priced: Priced, *, assumed: bool, times: int = 1) -> None:
        """A label came, or was assumed; or is taken back, with `times` -1."""
        cells, kind = (self.assumed if assumed else self.known), priced.kind or UNSERVED
        cell = cells.get(kind)
        if cell is None:
            cell = cells[kind] = [0, 0, 0]
        cell[0] += times
        cell[1] += times * priced.cost
        cell[2] += times * priced.value
        if not cell[0]:
            del cells[kind]
        if priced.lacking:
            left = self.lacking.get(priced.lacking, 0) + times
            if left:
                self.lacking[priced.lacking] = left
            else:
                self.lacking.pop(priced.lacking, None)

    def await_label(self, priced: Priced, *, times: int = 1) -> None:
        """An event waits for its label; or no longer, with `times` -1."""
        _estimate(self.waiting, priced, times)

    def expire(self, priced: Priced) -> None:
        """No label came."""
        _estimate(self.expired, priced, 1)

    def known_sum(self) -> tuple[int, int, int]:
        """How many decisions are known, what they cost and what they brought."""
        return _sum(self.known)

    def values(self, *, rising: bool) -> dict[str, Any]:
        """All of it in the KPI's unit, for people.

        Args:
            rising: the figure is value less cost, else cost.
        """
        known, mean = self.known_sum(), self._means()
        return {
            "known": {**_written(known, rising), "by_kind": _kinds(self.known, rising)},
            "assumed": {**_written(_sum(self.assumed), rising), "by_kind": _kinds(self.assumed, rising)},
            "waiting": _estimated(self.waiting, mean, rising),
            "expired": _estimated(self.expired, mean, rising),
            "lacking": dict(sorted(self.lacking.items())),
        }

    def _means(self) -> tuple[float, float] | None:
        """Mean cost and value of what is known; None of too little."""
        count, cost, value = self.known_sum()
        count -= sum(self.lacking.values())
        return (cost / count, value / count) if count >= MEAN_MIN else None


def add_up(parts: list[Account]) -> Account:
    """Several accounts as one."""
    made = Account()
    for part in parts:
        for ours, theirs in ((made.known, part.known), (made.assumed, part.assumed)):
            for kind, cell in theirs.items():
                ours[kind] = [a + b for a, b in zip(ours.get(kind, (0, 0, 0)), cell, strict=True)]
        made.waiting = [a + b for a, b in zip(made.waiting, part.waiting, strict=True)]
        made.expired = [a + b for a, b in zip(made.expired, part.expired, strict=True)]
        for why, count in part.lacking.items():
            made.lacking[why] = made.lacking.get(why, 0) + count
    return made


def _estimate(cell: list[int], priced: Priced, times: int) -> None:
    cell[0] += times
    if priced.estimated:
        cell[1] += times
        cell[2] += times * priced.cost
        cell[3] += times * priced.value


def _sum(cells: Mapping[str, list[int]]) -> tuple[int, int, int]:
    count = cost = value = 0
    for one in cells.values():
        count, cost, value = count + one[0], cost + one[1], value + one[2]
    return count, cost, value


def _kinds(cells: Mapping[str, list[int]], rising: bool) -> dict[str, Any]:
    return {kind: _written((cell[0], cell[1], cell[2]), rising) for kind, cell in sorted(cells.items())}


def _written(cell: tuple[int, int, int], rising: bool) -> dict[str, Any]:
    count, cost, value = cell
    total = value - cost if rising else cost
    return {"events": count, "cost": cost / MICRO, "value": value / MICRO, "total": total / MICRO}


def _estimated(cell: list[int], mean: tuple[float, float] | None, rising: bool) -> dict[str, Any]:
    """An estimate: of the model's probabilities where it gives them, of the mean of what is known for the rest."""
    count, modelled, cost, value = cell
    rest = count - modelled
    if rest and mean is None:
        return {"events": count, "modelled": modelled, "total": None}
    costs, values = (mean or (0.0, 0.0))[0] * rest + cost, (mean or (0.0, 0.0))[1] * rest + value
    return {"events": count, "modelled": modelled, "total": (values - costs if rising else costs) / MICRO}
