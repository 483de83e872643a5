"""A set that iterates in the order of arrival.

Some of River's classifiers (HoeffdingAdaptiveTree, KNN, Mondrian trees) collect the classes that they met in a set and
sum probabilities over it. A set of texts iterates in an order that depends on PYTHONHASHSEED, and in another one after
a pickle, so the last bits did too. `fill_seeds` puts this in the place of every set that a fresh model holds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, MutableSet


class Arrivals(MutableSet[Hashable]):
    """What was added, each once, in the order in which it first came."""

    def __init__(self, members: Iterable[Hashable] = ()) -> None:
        self._members = dict.fromkeys(members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, value: Hashable) -> None:
        self._members[value] = None

    def discard(self, value: Hashable) -> None:
        self._members.pop(value, None)

    def __repr__(self) -> str:
        return f"Arrivals({list(self._members)!r})"
