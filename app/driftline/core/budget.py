"""Decisions under an alert budget: about so many events a day are decided as yes, those with the highest scores, each
at once and without looking ahead.

In hindsight one would take the day's highest scores. An event must be decided when it comes, so the rest of the day is
foreseen: how many scores of at least `t` are to come, by the days before (`before`: those that came after this time of
the day, a mean over the days, later ones counting more) and by this day (`today`: those that came so far, times the
scores to come for each that came, as on the days before):

    to_come(t) = w * before(t) + (1 - w) * today(t),     w = k (1 - e) / (k (1 - e) + e),     k = 0.25

where `e` is the share of the day that has passed: an hour of this day says as much as four of the days before. The
threshold is the least `t` down to which no more are to come than the budget has left. So it rises as a flood of high
scores uses the budget up, and falls on a quiet day, until the budget is used at the day's end. Then no event of the
day is decided as yes any more. Equal scores at the threshold are taken in turn, as many as there is room for.

Days are periods of `per` from the epoch on, by the watermark: a late event counts when it is decided.

Source: the idea of pacing a budget by what is forecast of the rest of the day is that of D. Agarwal et al., Budget
pacing for targeted online advertisements at LinkedIn (2014); the rule is our own.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import Any, Final

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from driftline.core.output import Spent

Floats = NDArray[np.float64]

PERIODS: Final = 4  # that are kept
_PRIOR: Final = 0.25  # what the periods before weigh beside this one
_FADING: Final = 0.5  # how much less a period counts than the one after it: scores move as the model learns
PERIOD_PARTS: Final = 24  # of a period, whose scores are counted
_SLOTS: Final = 288  # of a period, in which the threshold stands unless alarms come
_STEPS: Final = 100  # how often it is computed anew while the budget is used up
_KEPT: Final = 4  # times the budget: how many of a period's highest scores are kept
_KEPT_LEAST: Final = 256


class Period(Struct, frozen=True, gc=False, array_like=True):
    """A period that is over.

    Args:
        since: from when on it was followed, in ms of the period.
        scores, times: the highest scores in descending order, and when each came, in ms of the period; packed.
        dropped: scores that equal the lowest of them and are not kept.
        counts: how many scores came in each part.
    """

    since: int
    scores: bytes
    times: bytes
    dropped: int
    counts: tuple[int, ...]

    @property
    def seen(self) -> tuple[Floats, NDArray[np.int64]]:
        return np.frombuffer(self.scores, "<f8"), np.frombuffer(self.times, "<i8")


class Budget:
    """What is known of scores and alarms so far.

    Attributes:
        period: number of the present one; -1 before the first score.
        since: from when on it was followed, in ms of the period.
        used: alarms in it.
        generation: of the model whose scores these are: those of another one say nothing of its own.
        threshold: of now; `share` of the scores that equal it are taken, and `credit` is what they have saved up.
        slot, used_then: when the threshold was computed.
        scores, times, dropped, counts: of this period, as `Period` has them, in any order.
        past: the latest periods.

    Cost: a decision 1 to 2 us; a threshold, at most `_SLOTS` + `_STEPS` a period, 0.2 ms with a budget of 100.
    """

    def __init__(self) -> None:
        self.period = -1
        self.since = 0
        self.used = 0
        self.generation = 0
        self.threshold, self.share, self.credit = inf, 0.0, 0.0
        self.slot, self.used_then = -1, 0
        self.scores: list[float] = []
        self.times: list[int] = []
        self.dropped = 0
        self.counts = [0] * PERIOD_PARTS
        self.past: list[Period] = []

    def begin_at(self, time_ms: int) -> None:
        """Time begins: what came before has no place in a day."""
        self.__init__()  # type: ignore[misc]  # on an instance, which is made as new

    def decide(self, score: float, now_ms: int, most: int, per_ms: int, generation: int) -> bool:
        """Whether an event is an alarm.

        Args:
            most: the budget of a period.
            generation: of the model.
        """
        period, now = divmod(now_ms, per_ms)
        if period != self.period or generation != self.generation:
            self._turn(period, now, generation, most)
        slot = now * _SLOTS // per_ms
        if slot != self.slot or (self.used - self.used_then) * _STEPS >= max(most, 1):
            self.slot, self.used_then = slot, self.used
            self.threshold, self.share = self._threshold(now, per_ms, most)
        self._take(score, now, per_ms, most)
        if self.used >= most or score < self.threshold:
            return False
        if score == self.threshold:
            self.credit += self.share
            if self.credit < 1.0:
                return False
            self.credit -= 1.0
        self.used += 1
        return True

    def _take(self, score: float, now: int, per_ms: int, most: int) -> None:
        self.scores.append(score)
        self.times.append(now)
        self.counts[now * PERIOD_PARTS // per_ms] += 1
        if len(self.scores) >= 2 * _kept(most):
            scores, times, self.dropped = self._highest(most)
            self.scores, self.times = scores.tolist(), times.tolist()

    def _highest(self, most: int) -> tuple[Floats, NDArray[np.int64], int]:
        """This period's highest scores, when they came, and how many of the lowest are not among them.

        Of equals at the end, those that are kept lie evenly among all of them.
        """
        scores, times = np.array(self.scores, dtype="<f8"), np.array(self.times, dtype="<i8")
        order, kept = np.argsort(-scores, kind="stable"), _kept(most)
        scores, times = scores[order], times[order]
        if len(scores) <= kept:
            return scores, times, self.dropped
        lowest = scores[kept - 1]
        first, last = _span(scores, lowest)
        among = first + np.arange(kept - first) * (last - first) // (kept - first)
        chosen = np.concatenate([np.arange(first), among])
        dropped = last - kept + (self.dropped if scores[-1] == lowest else 0)
        return scores[chosen], times[chosen], dropped

    def _turn(self, period: int, now: int, generation: int, most: int) -> None:
        """Another period, or another model, begins."""
        if generation != self.generation or self.period < 0:
            self.past, self.since, self.generation = [], now, generation
        else:
            scores, times, dropped = self._highest(most)
            over = Period(self.since, scores.tobytes(), times.tobytes(), dropped, tuple(self.counts))
            self.past, self.since = [*self.past, over][-PERIODS:], 0
        if period != self.period:
            self.used, self.credit = 0, 0.0
        self.period, self.slot = period, -1
        self.scores, self.times, self.dropped, self.counts = [], [], 0, [0] * PERIOD_PARTS

    def _threshold(self, now: int, per_ms: int, most: int) -> tuple[float, float]:
        """The threshold from now on, and the share of the scores equal to it that are taken."""
        before = [one for one in self.past if one.since <= now]
        came, to_come = self._shares(before, now, per_ms)
        if came <= 0.0 and not before:
            return inf, 0.0
        passed = (now - self.since) / per_ms
        prior = _PRIOR * (1.0 - passed) / (_PRIOR * (1.0 - passed) + passed) if before else 0.0
        today = np.sort(np.array(self.scores))[::-1]
        scores, weights = [today], [_each(today, self.dropped) * ((1.0 - prior) * to_come / came if came else 0.0)]
        fading = _FADING ** np.arange(len(before))[::-1]
        for one, share in zip(before, fading / fading.sum(), strict=True):
            values, times = one.seen
            later = times >= now
            scores.append(values[later])
            weights.append(_each(values, one.dropped)[later] * (share * prior))
        return _least(np.concatenate(scores), np.concatenate(weights), most - self.used)

    def _shares(self, before: list[Period], now: int, per_ms: int) -> tuple[float, float]:
        """Which shares of a period's scores came so far, and are to come: as in the periods before; else by time."""
        counts = np.sum([one.counts for one in before], axis=0) if before else np.ones(PERIOD_PARTS)
        ends = [per_ms * part // PERIOD_PARTS for part in range(PERIOD_PARTS + 1)]
        sums = np.concatenate([[0], np.cumsum(counts)])
        begun, until = (float(np.interp(at, ends, sums)) for at in (self.since, now))
        return (until - begun) / float(sums[-1]), (float(sums[-1]) - until) / float(sums[-1])

    def spent(self, most: int) -> Spent:
        """How much of the budget is used, and what a score needs now."""
        spent = self.used >= most
        return Spent(self.used, most, self.threshold if not spent and isfinite(self.threshold) else None)

    def summary(self, most: int) -> dict[str, Any]:
        """Numbers for people and for a scrape."""
        return structs.asdict(self.spent(most))


def _kept(most: int) -> int:
    return max(_KEPT * most, _KEPT_LEAST)


def _span(scores: Floats, score: float) -> tuple[int, int]:
    """Where the scores that equal one begin and end, in descending order."""
    first, last = (int(np.searchsorted(-scores, -score, side=side)) for side in ("left", "right"))
    return first, last


def _each(scores: Floats, dropped: int) -> Floats:
    """How many scores each of them stands for, in descending order."""
    stands = np.ones(len(scores))
    if dropped:
        first, last = _span(scores, float(scores[-1]))
        stands[first:last] += dropped / (last - first)
    return stands


def _least(scores: Floats, weights: Floats, room: int) -> tuple[float, float]:
    """The least score down to which no more than `room` are expected, and which share of its equals fit.

    Args:
        weights: how many scores are expected of each kind.
    """
    order = np.argsort(-scores, kind="stable")
    scores, expected = scores[order], np.cumsum(weights[order])
    place = int(np.searchsorted(expected, room, side="right"))
    if place >= len(scores):
        return -inf, 1.0
    found = float(scores[place])
    first, last = _span(scores, found)
    above = float(expected[first - 1]) if first else 0.0
    return found, (room - above) / (float(expected[last - 1]) - above)
