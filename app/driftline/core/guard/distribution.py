"""Outputs that are distributed unlike before: each prediction may pass by itself, and all of them together be absurd.

The reference is a sample of predictions that no rung objected to, cut into bins of as many each. The latest predictions
are counted in the same bins, whatever was served of them, and the distance is the greatest difference between both
cumulative shares. Once as many more have passed as the sample held, they are the reference: so it follows what changes
slowly, and does not follow what the rung objects to. With another model it begins anew.

Cost: two searches in the edges for each prediction, a sum over the bins for every `STRIDE` and a sort for every
`SAMPLE`. Memory: `SAMPLE` numbers, and those that are compared.

Source: N. V. Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of Mathematical
Statistics 19 (1948).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm

SAMPLE: Final = 1_000  # predictions of a reference
BINS: Final = 20
STRIDE: Final = 10  # predictions from one look to the next


@dataclass(slots=True)
class Outputs:
    """The predictions that are compared; part of a shard's state.

    Attributes:
        generation: of the model that made them.
        sample: predictions that passed, until they are the reference.
        edges: between the bins; empty while there is no reference.
        usual: how many of the reference are in each bin.
        recent: the latest predictions, the oldest at `place`; `counts` how many of them are in each bin.
        since: predictions since the last look, when `distance` was computed.
    """

    generation: int = -1
    sample: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    usual: list[int] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    place: int = 0
    counts: list[int] = field(default_factory=list)
    since: int = 0
    distance: float = 0.0

    def follow(self, generation: int) -> None:
        """Begin anew where another model serves."""
        if generation != self.generation:
            self.generation = generation
            self.sample, self.edges, self.usual, self.recent, self.counts = [], [], [], [], []
            self.place, self.since, self.distance = 0, 0, 0.0

    def take(self, value: float, latest: int) -> float:
        """One more prediction; returns how unlike the reference the latest are, 0 before there are enough.

        Args:
            latest: how many of them are compared.
        """
        if not self.edges:
            return 0.0
        recent, counts, edges = self.recent, self.counts, self.edges
        counts[bisect_left(edges, value)] += 1
        if len(recent) < latest:
            recent.append(value)
            if len(recent) < latest:
                return 0.0
            self.since = STRIDE
        else:
            place = self.place
            counts[bisect_left(edges, recent[place])] -= 1
            recent[place] = value
            self.place = (place + 1) % latest
        self.since += 1
        if self.since >= STRIDE:
            self.since, self.distance = 0, self._apart(latest)
        return self.distance

    def _apart(self, latest: int) -> float:
        most, ours, theirs = 0.0, 0, 0
        for usual, count in zip(self.usual, self.counts, strict=True):
            theirs, ours = theirs + usual, ours + count
            most = max(most, abs(ours / latest - theirs / SAMPLE))
        return most

    def accept(self, value: float) -> None:
        """A prediction passed, and no rung objected to it."""
        sample = self.sample
        sample.append(value)
        if len(sample) < SAMPLE:
            return
        sample.sort()
        self.edges = sorted({sample[place * SAMPLE // BINS] for place in range(BINS)})
        self.usual, self.counts = self._counted(sample), self._counted(self.recent)
        self.sample = []

    def _counted(self, values: Sequence[float]) -> list[int]:
        """How many values are in each bin."""
        counts = [0] * (len(self.edges) + 1)
        for value in values:
            counts[bisect_left(self.edges, value)] += 1
        return counts


class Distribution(Struct, frozen=True):
    """See `pipeline.guard.Distribution`. What takes the place of the model's prediction passes."""

    most: float
    latest: int
    action: Action
    name: Rung = "distribution"

    def beyond(self, case: Case) -> Beyond | None:
        excess = case.distance - self.most
        return Beyond(self.most, excess) if excess > 0 else None


def of(guard: GuardForm, pipeline: Pipeline) -> Limit | None:
    """The rung, where the pipeline declares it."""
    form = guard.distribution
    return None if form is None else Distribution(form.distance_max, form.latest, form.action)
