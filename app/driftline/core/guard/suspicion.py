"""A sequential test of labels: do they contradict confident predictions more often than the stream's error explains?

Each pair is one bit, x: whether the label contradicts what the model predicted. By the confidence of the prediction it
falls into a cell, and of each cell a reference holds how often its labels usually contradict, r. That is calibration as
the stream shows it, so a model whose probabilities are wrong is tested as well as one whose are right. If a share q of
the labels were flipped, the cell's rate would be r' = r + q (1 - 2 r) (of k classes, r + q (1 - r k / (k - 1))). A bet
on that gains

    e = r' / r  if x, else (1 - r') / (1 - r)

which has a mean of at most 1 as long as the cell's rate is at most r. For each share in `SHARES` the gains since the
most promising beginning are multiplied, M = e max(M, 1), and the cells show something where the mean of M over the
shares reaches 1 / `error_rate`. Where it was last below 1 is where the burst began.

A model that learns may change what its confidence means: a tree splits, or a worker that is behind goes from stale
predictions to fresh ones. Then some cells contradict more, and all labels together do not. So the same bets are made on
all labels, whatever their cell, and labels are suspect where both show something.

M never exceeds the Shiryaev-Roberts sum of the same bets, and that sum less the number of labels is a supermartingale,
so the mean number of labels to a false alarm is at least 1 / `error_rate`, whatever depends on what, as long as no
label's conditional rate exceeds its r: that of its cell, or that of all.

The reference is learned, from labels that are `BLOCK` to 2 `BLOCK` old, with a memory of `MEMORY` labels: a slow change
moves it, a burst does not. r is set above the estimate by two standard errors of all contradictions, to allow for what
is not known of it. While labels are suspect nothing is added. The end of a burst is found by the reverse bet, on r
against the flipped share that was seen, at a chance of one in a thousand.

Sources: J. Shin, A. Ramdas, A. Rinaldo, E-detectors: a nonparametric framework for sequential change detection, New
England Journal of Statistics in Data Science 2 (2024), 229-260, Theorem 2.4 and section 4 (mixtures); G. Lorden,
Procedures for reacting to a change in distribution, Ann. Math. Statist. 42 (1971), 1897-1908.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sized
from dataclasses import dataclass, field
from math import log, sqrt
from typing import Any, Final, Literal, TypeAlias

from driftline.core.output import MODEL, Prediction, Unserved
from driftline.core.record import LabelValue

SHARES: Final = (0.06, 0.15, 0.35)  # of flipped labels, that are bet on
BLOCK: Final = 500  # labels
MEMORY: Final = 20_000  # labels
BEGIN: Final = 5_000  # labels in the reference, before anything is suspect: a model that learns from cold changes
ERRORS: Final = 2.0  # standard errors that the reference is raised by
PRIOR: Final = 20.0  # labels' worth of the mean rate, in each cell
RATES: Final = (0.0005, 0.95)  # that a cell's rate is kept between
CALM: Final = log(1_000)
EDGES: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Of the probability of yes, or of that of the class that is predicted: where the cells meet."""
CELLS: Final = len(EDGES) + 1
HALF: Final = EDGES.index(0.5)
SUSPECT_FROM: Final = 2.0  # the mean of M from which on pairs are remembered for the alert

Turn: TypeAlias = Literal["", "opened", "calm"]
Tally: TypeAlias = list[float]
"""Pairs by code: twice the cell, and one more where the label contradicts the prediction."""


def code_of(prediction: Prediction, unserved: tuple[Unserved, ...], label: LabelValue) -> int:
    """A pair as the test sees it, see `Tally`; -1 where the model predicted nothing.

    Args:
        prediction: what was served, which is what the model predicted unless `unserved` holds that.
    """
    for other in unserved:
        if other.name == MODEL:
            prediction = other.prediction
            break
    value, predicted = prediction.value, prediction.label
    if value is not None:
        return 2 * bisect_left(EDGES, value) + ((not label) if value > 0.5 else bool(label))
    if predicted is None:
        return -1
    shares = prediction.probabilities
    return 2 * (bisect_left(EDGES, shares.get(predicted, 0.0)) if shares else 0) + (predicted != label)


def fresh() -> Tally:
    """A tally of nothing."""
    return [0.0] * (2 * CELLS)


@dataclass(slots=True)
class Suspicion:
    """The test of one shard.

    Attributes:
        reference: what is usual; `latest` and `before` are the block that is being filled and the one before it.
        number: of the latest pair that was tested; with `turn_at` the block is full.
        rates: of contradiction, by cell, as the bets take them; empty until the reference holds `BEGIN` labels.
        gains: by code and share, what a bet is multiplied by.
        bets: by share, M.
        begun: by share, the pair with which the bet began.
        all_gains, all_bets: the same of all labels together: whether the label agrees, and contradicts.
        runs: whether a bet is above 1.
        suspect: labels are suspect now; `since` tallies those since then.
        flipped: the share that was seen where they became suspect.
        reverse: the logarithm of the reverse bet.
        oldest, newest: generations of the model whose predictions are tested.
    """

    reference: Tally = field(default_factory=fresh)
    latest: Tally = field(default_factory=fresh)
    before: Tally = field(default_factory=fresh)
    number: int = 0
    turn_at: int = field(default_factory=lambda: BLOCK)
    rates: list[float] = field(default_factory=list)
    gains: list[tuple[float, ...]] = field(default_factory=list)
    bets: tuple[float, ...] = (1.0, 1.0, 1.0)
    begun: list[int] = field(default_factory=lambda: [0, 0, 0])
    all_gains: list[tuple[float, ...]] = field(default_factory=list)
    all_bets: tuple[float, ...] = (1.0, 1.0, 1.0)
    runs: bool = False
    suspect: bool = False
    since: Tally = field(default_factory=fresh)
    flipped: float = 0.0
    reverse: float = 0.0
    oldest: int = 0
    newest: int = 0

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """States that were written before all labels were tested together make no bets on them until the next block."""
        before = {"all_gains": [], "all_bets": (1.0, 1.0, 1.0), **state[1]}
        if "all_gains" not in state[1] and before["gains"]:
            before["all_gains"] = [(1.0, 1.0, 1.0)] * 2
        for name, part in before.items():
            setattr(self, name, part)

    def take(self, code: int, generation: int, classes: Sized, odds: float) -> Turn:
        """Test one pair.

        Args:
            code: of the pair.
            generation: of the model that predicted.
            classes: that there are.
            odds: 1 / `error_rate`.

        Cost: a quarter of a microsecond, a half while a bet runs.
        """
        if generation != self.newest and not self._renewed(generation):
            return ""
        if self.suspect:
            return self._calmer(code, classes)
        self.latest[code] += 1.0
        number = self.number = self.number + 1
        if (self.runs or code & 1) and self.rates:  # a label that agrees changes nothing where no bet runs
            one, two, three = self.gains[code]
            last_one, last_two, last_three = self.bets
            begun, enough = self.begun, 3.0 * odds
            if last_one > 1.0:
                one *= last_one
            else:
                begun[0] = number
            if last_two > 1.0:
                two *= last_two
            else:
                begun[1] = number
            if last_three > 1.0:
                three *= last_three
            else:
                begun[2] = number
            all_one, all_two, all_three = self.all_gains[code & 1]
            last_one, last_two, last_three = self.all_bets
            if last_one > 1.0:
                all_one *= last_one
            if last_two > 1.0:
                all_two *= last_two
            if last_three > 1.0:
                all_three *= last_three
            most = max(one, two, three, all_one, all_two, all_three)
            self.runs = most > 1.0
            if most > enough:  # of what is enough there need be no more; it must be able to fall again
                one, two, three = min(one, enough), min(two, enough), min(three, enough)
                all_one, all_two, all_three = min(all_one, enough), min(all_two, enough), min(all_three, enough)
            self.bets, self.all_bets = (one, two, three), (all_one, all_two, all_three)
            if one + two + three >= enough and all_one + all_two + all_three >= enough:
                self.suspect, self.flipped, self.reverse, self.since = True, SHARES[self._best], 0.0, fresh()
                return "opened"
        if number >= self.turn_at:
            self._turn(classes)
        return ""

    @property
    def first(self) -> int:
        """The pair with which the burst began, by the bet that gained most."""
        return self.begun[self._best]

    @property
    def warm(self) -> bool:
        """Whether labels begin to look suspect, or do."""
        if self.suspect or not self.runs:
            return self.suspect
        one, two, three = self.bets
        return one + two + three > 3.0 * SUSPECT_FROM

    @property
    def lasted(self) -> float:
        """How many labels have been suspect."""
        return sum(self.since)

    def believe(self, classes: Sized) -> None:
        """What was suspect is how things are: the reference begins with it."""
        self.reference, self.rates, self.gains, self.all_gains = self.since, [], [], []
        self._rest()
        if sum(self.reference) >= BEGIN:
            self._price(classes)

    def undone(self, generation: int) -> None:
        """The same model goes on under another generation."""
        self.newest = generation

    # -- inside

    @property
    def _best(self) -> int:
        return max(range(len(SHARES)), key=self.bets.__getitem__)

    def _renewed(self, generation: int) -> bool:
        """Whether a pair of this generation is tested; with one that is newer than all, the reference begins anew."""
        if generation < self.newest:
            return generation >= self.oldest
        self.oldest = self.newest = generation
        if not self.suspect:
            self.reference, self.rates, self.gains, self.all_gains = fresh(), [], [], []
            self._rest()
        return True

    def _turn(self, classes: Sized) -> None:
        """A block is full: the one before it joins the reference, which forgets what it holds beyond `MEMORY`."""
        here, more = sum(self.reference), sum(self.before)
        kept = 1.0 if here + more <= MEMORY else max(0.0, MEMORY - more) / here
        self.reference = [one * kept + other for one, other in zip(self.reference, self.before, strict=True)]
        self.before, self.latest, self.turn_at = self.latest, fresh(), self.number + BLOCK
        if sum(self.reference) >= BEGIN:
            self._price(classes)

    def _price(self, classes: Sized) -> None:
        """Rates and gains from the reference."""
        against = self.reference[1::2]
        pairs = [one + other for one, other in zip(self.reference[::2], against, strict=True)]
        contradicting = sum(against)
        mean = (contradicting + 1.0) / (sum(pairs) + 2.0)
        raised = 1.0 + ERRORS / sqrt(contradicting + 1.0)
        low, high = RATES
        self.rates = [
            min(high, max(low, raised * (there + PRIOR * mean) / (of + PRIOR)))
            for of, there in zip(pairs, against, strict=True)
        ]
        self.gains = [gain for rate in self.rates for gain in _gains(rate, classes)]
        self.all_gains = [*_gains(min(high, max(low, raised * mean)), classes)]

    def _calmer(self, code: int, classes: Sized) -> Turn:
        """A pair while labels are suspect: the reverse bet, that they are as usual again."""
        self.since[code] += 1.0
        self.number += 1
        rate = self.rates[code >> 1]
        flipped = _flipped(rate, self.flipped, classes)
        gain = log(rate / flipped) if code & 1 else log((1.0 - rate) / (1.0 - flipped))
        self.reverse = max(0.0, self.reverse) + gain
        if self.reverse < CALM:
            return ""
        self._rest()
        return "calm"

    def _rest(self) -> None:
        """Nothing is suspect; blocks and bets begin anew."""
        self.suspect, self.since, self.reverse, self.flipped = False, fresh(), 0.0, 0.0
        self.latest, self.before, self.turn_at = fresh(), fresh(), self.number + BLOCK
        self.bets, self.all_bets, self.runs = (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), False


def _gains(rate: float, classes: Sized) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What bets are multiplied by where a label agrees, and where it contradicts, by share."""
    flipped = [_flipped(rate, share, classes) for share in SHARES]
    return tuple([(1.0 - other) / (1.0 - rate) for other in flipped]), tuple([other / rate for other in flipped])


def _flipped(rate: float, share: float, classes: Sized) -> float:
    """The rate of contradiction where a share of the labels is another class at random."""
    count = len(classes)
    room = 1.0 - rate * (count / (count - 1.0) if count > 2 else 2.0)
    return max(rate, min(0.99, rate + share * room))
