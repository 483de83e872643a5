"""Outputs that are distributed unlike before: each prediction may pass by itself, and all of them together be absurd.

The reference is a sample of predictions that no rung objected to, cut into bins of as many each. The latest predictions
are counted in the same bins, whatever was served of them, and the distance is the greatest difference between both
cumulative shares. Once as many more have passed as the sample held, they are the reference: so it follows what changes
slowly, and does not follow what the rung objects to. With another model it begins anew.

Of classes, the bins are the classes of the sample, the commonest first, and one for all others: so the distance says as
much of two classes as of a hundred. Of forecasts, what is compared is how far they are on average from the season
before, in units of the series' own swing: series of any size can be compared, and a season is no change.

Cost: two searches in the edges for each prediction, a sum over the bins for every `STRIDE` and a sort for every
`SAMPLE`. Memory: `SAMPLE` numbers, and those that are compared.

Source: N. V. Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of Mathematical
Statistics 19 (1948).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from driftline.core.guard.base import Beyond, Case, Limit
from driftline.core.output import Action, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.guard import GuardForm
from driftline.core.record import LabelValue

SAMPLE: Final = 1_000  # predictions of a reference
BINS: Final = 20
STRIDE: Final = 10  # predictions from one look to the next


@dataclass(slots=True)
class Outputs:
    """The predictions that are compared; part of a shard's state.

    Attributes:
        generation: of the model that made them.
        sample: predictions that passed, until they are the reference.
        edges: between the bins; empty while there is no reference, and of classes.
        ranks: of classes, the bin of each; empty of numbers.
        usual: how many of the reference are in each bin.
        recent: the latest predictions, the oldest at `place`; `counts` how many of them are in each bin.
        since: predictions since the last look, when `distance` was computed.
    """

    generation: int = -1
    sample: list[LabelValue] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    usual: list[int] = field(default_factory=list)
    recent: list[LabelValue] = field(default_factory=list)
    place: int = 0
    counts: list[int] = field(default_factory=list)
    since: int = 0
    distance: float = 0.0
    ranks: dict[LabelValue, int] = field(default_factory=dict)

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """States that were written before classes were compared have no ranks of them."""
        for name, part in {"ranks": {}, **state[1]}.items():
            setattr(self, name, part)

    def follow(self, generation: int) -> None:
        """Begin anew where another model serves."""
        if generation != self.generation:
            self.generation = generation
            self.sample, self.edges, self.usual, self.recent, self.counts = [], [], [], [], []
            self.place, self.since, self.distance = 0, 0, 0.0
            self.ranks = {}

    def take(self, value: LabelValue, latest: int) -> float:
        """One more prediction; returns how unlike the reference the latest are, 0 before there are enough.

        Args:
            value: a number, or a class.
            latest: how many of them are compared.
        """
        if not self.usual:
            return 0.0
        recent, counts = self.recent, self.counts
        counts[self._bin(value)] += 1
        if len(recent) < latest:
            recent.append(value)
            if len(recent) < latest:
                return 0.0
            self.since = STRIDE
        else:
            place = self.place
            counts[self._bin(recent[place])] -= 1
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

    def accept(self, value: LabelValue, *, classes: bool = False) -> None:
        """A prediction passed, and no rung objected to it.

        Args:
            classes: it is one of several classes.
        """
        sample = self.sample
        sample.append(value)
        if len(sample) < SAMPLE:
            return
        if classes:
            common = Counter(sample).most_common()  # equal counts in the order in which they came
            self.ranks = {name: place for place, (name, _) in enumerate(common)}
        else:
            numbers = sorted(map(float, sample))
            self.edges = sorted({numbers[place * SAMPLE // BINS] for place in range(BINS)})
        self.usual, self.counts = self._counted(sample), self._counted(self.recent)
        self.sample = []

    def _bin(self, value: LabelValue) -> int:
        ranks = self.ranks
        return ranks.get(value, len(ranks)) if ranks else bisect_left(self.edges, value)

    def _counted(self, values: Sequence[LabelValue]) -> list[int]:
        """How many values are in each bin."""
        counts = [0] * (len(self.ranks or self.edges) + 1)
        for value in values:
            counts[self._bin(value)] += 1
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
