"""Parts of a large state that a snapshot holds on to at no cost.

A view is the state at one moment. A segment that is changed while a view needs it copies itself first. Views are
numbered, and a segment knows since which of them it has not changed.
"""

from __future__ import annotations

from typing import Generic, TypeVar

S = TypeVar("S")


class CopyOnWrite(Generic[S]):
    """A segment of the ledger, or of the past by key.

    Attributes:
        number: no other segment of the same state has it.
        guarded: it has not changed since the last view; a change must be announced by `preserve`.
        since: number of the first view since which it has not changed, 0 of one that was read; counts while it is
            guarded.
        before: what a view that is still needed has of it, once it has changed.
    """

    __slots__ = ("_needed", "before", "guarded", "number", "since")

    def __init__(self, number: int) -> None:
        self.number = number
        self.guarded = False
        self.since = 0
        self.before: S | None = None
        self._needed = False

    def now(self) -> S:
        """It as it is, sharing what may change. Overridden."""
        raise NotImplementedError

    def copied(self) -> S:
        """It as it is, with copies of all that may change. Overridden."""
        raise NotImplementedError

    def state(self) -> S:
        """As it was when the view was taken, or as it is."""
        return self.before or self.now()

    def show(self, view: int) -> None:
        """The view of this number needs the segment as it is, until `release`."""
        if not self.guarded:
            self.guarded, self.since = True, view
        self._needed, self.before = True, None

    def preserve(self) -> None:
        """A change comes: copy what it will touch for the view that needs it. Cost: 0.1 ms, once a view."""
        self.guarded = False
        if self._needed:
            self.before = self.copied()

    def release(self) -> None:
        """The view needs it no more."""
        self._needed, self.before = False, None
