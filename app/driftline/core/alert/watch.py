"""Watches conditions other than drift: counters updated by each record and judged now and then.

A record costs one comparison here, and a settled event one addition. What is judged, and when:

    every `SETTLED` events that have their label, or whose wait is over   metrics within their limits; label delay
    every `SETTLED` events whose wait is over     label coverage
    while records are rejected or features missing, as soon as `RECORDS_MIN` came, and every `LOOK_MS`
                                                  shares of rejected events, rejected labels, missing features
    at the end of each window of event time       throughput

A condition begins beyond its limit, and ends only where the value has come back behind it further than chance takes
it (`eased`): that keeps a value which hovers around its limit from opening and closing each time.

A metric's limit is one of the model that serves: it is judged once a whole window of labels came for its predictions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import (
    coverage_sign,
    delay_sign,
    missing_sign,
    performance_sign,
    rejected_sign,
    throughput_sign,
    undefined_sign,
)
from driftline.core.alert.episode import Sign

if TYPE_CHECKING:
    from driftline.core.metric.evaluation import Evaluation
    from driftline.core.pipeline import Pipeline, Throughput

NEVER = 1 << 62
SETTLED = 100  # events whose wait has ended, from one look at metrics and labels to the next
BLOCKS = 10  # such looks that coverage and delay are of
RECORDS_MIN = 200  # records that a share of rejected ones is of, at least
REJECTED_STEP = 50  # rejections, from one look to the next where no time passes
LOOK_MS = 60_000
WINDOWS_MIN, WINDOWS = 6, 12  # earlier windows that say how many events are usual
USUAL_MIN = 10.0  # fewer events than that in a usual window say nothing when there are none, or twice as many
SPREADS = 4.0  # of a Poisson count, by which more events than usual must lie beyond it
NOISE = 3.0  # standard errors of a value, by which it must have come back behind its limit


class Verdict(Struct, frozen=True, gc=False):
    """One condition, judged now: its sign where it holds, None where it does not."""

    signal: str
    sign: Sign | None


class Block(Struct, frozen=True, gc=False):
    """What became of `SETTLED` events: how many got their label, and how many of those late."""

    settled: int
    joined: int
    late: int


@dataclass(slots=True)
class Shares:
    """Rejected and missing in a window of records that begins with the first of them."""

    events: int = 0
    labels: int = 0
    rejected: dict[str, int] = field(default_factory=lambda: {"events": 0, "labels": 0})
    missing: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Watch:
    """The counters of one shard.

    Attributes:
        settled: events whose wait has ended.
        settled_due: at which of them to look at metrics and labels.
        over: events whose wait is over, and `over_labelled` those of them that had their label.
        over_due: at which of them to look at coverage.
        covered: the last blocks of them, each how many and how many labelled.
        time_due_ms: at which watermark to look at the rest.
        rejected: rejected events and labels since the first record, without those of a model's exceptions.
        usual: counts of earlier windows, empty ones apart.
        generation: of the model; `judged` labels came for predictions of it.
    """

    settled: int = 0
    settled_due: int = NEVER
    time_due_ms: int = NEVER
    joined: int = 0
    late: int = 0
    delay_max_ms: int = NEVER
    marked: tuple[int, int, int] = (0, 0, 0)
    over: int = 0
    over_labelled: int = 0
    over_due: int = NEVER
    over_marked: tuple[int, int] = (0, 0)
    covered: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=BLOCKS))
    blocks: deque[Block] = field(default_factory=lambda: deque(maxlen=BLOCKS))
    rejected: dict[str, int] = field(default_factory=lambda: {"events": 0, "labels": 0})
    reason: str = ""
    shares: Shares | None = None
    window_end_ms: int = NEVER
    window_mark: int = -1
    usual: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOWS))
    generation: int = 0
    judged: int = 0

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """States that were written before a model's labels were counted do not hold their number: enough came."""
        for name, part in {"generation": -1, "judged": 0, **state[1]}.items():
            setattr(self, name, part)

    def judge(self, served: int, generation: int) -> None:
        """A label came for a prediction of generation `served`; another one may serve by now."""
        if generation != self.generation:
            self.judged = NEVER if self.generation < 0 else 0
            self.generation = generation
        self.judged += served == generation

    def adopt(self, pipeline: Pipeline) -> None:
        """Watch what this pipeline asks for."""
        rules = pipeline.alerts
        self.delay_max_ms = NEVER if rules.label_delay_max_ms is None else rules.label_delay_max_ms
        if rules.label_coverage_min is None:
            self.over_due = NEVER
            self.covered.clear()
        elif self.over_due == NEVER:
            self.over_due, self.over_marked = self.over + SETTLED, (self.over, self.over_labelled)
        by_label = rules.performance or rules.label_delay_max_ms is not None
        if not by_label:
            self.settled_due = NEVER
        elif self.settled_due == NEVER:
            self.settled_due = self.settled + SETTLED
            self.marked = (self.settled, self.joined, self.late)
        if rules.throughput is None:
            self.window_end_ms, self.window_mark = NEVER, -1
            self.usual.clear()
        elif self.window_end_ms == NEVER:
            self.window_end_ms = 0  # the first record begins a window
        self.time_due_ms = 0  # look at once: it costs little

    # -- metrics and labels

    def settle(self, delay_ms: int | None) -> bool:
        """Count an event whose wait has ended; returns whether to look at metrics and labels.

        Args:
            delay_ms: from the event to its label; None where none came.
        """
        self.settled += 1
        if delay_ms is not None:
            self.joined += 1
            if delay_ms > self.delay_max_ms:
                self.late += 1
        return self.settled >= self.settled_due

    def judge_labels(
        self, pipeline: Pipeline, evaluation: Evaluation, open_signals: Collection[str]
    ) -> Iterator[Verdict]:
        """Judge metrics and delay, now that `SETTLED` more waits have ended."""
        self.settled_due = self.settled + SETTLED
        before = self.marked
        self.marked = (self.settled, self.joined, self.late)
        self.blocks.append(Block(*(now - then for now, then in zip(self.marked, before, strict=True))))
        rules = pipeline.alerts
        for metric, limit in rules.performance.items():
            track = evaluation.tracks.get(metric)
            if track is None or min(len(track.recent), self.judged) < evaluation.window:
                continue  # a metric that began later than the labels, or a new model, has a window of its own to fill
            value, count = track.window_value(), evaluation.window
            signal = Condition.PERFORMANCE.named(metric)
            is_open = signal in open_signals
            if value is None:
                if is_open:
                    yield Verdict(signal, undefined_sign(pipeline, metric, count))
                continue
            sign = None
            if limit.min is not None and value < eased(limit.min, is_open, count, up=True):
                sign = performance_sign(pipeline, metric, value, limit.min, least=True, count=count)
            elif limit.max is not None and value > eased(limit.max, is_open, count, up=False):
                sign = performance_sign(pipeline, metric, value, limit.max, least=False, count=count)
            yield Verdict(signal, sign)
        if len(self.blocks) < BLOCKS:
            return
        joined, late = (sum(block[i] for block in map(_parts, self.blocks)) for i in (1, 2))
        if rules.label_delay_max_ms is not None and joined:
            signal, share = Condition.DELAY.named(), late / joined
            slow = share > eased(0.5, signal in open_signals, joined, up=False)
            yield Verdict(signal, delay_sign(pipeline, share, rules.label_delay_max_ms, joined) if slow else None)

    def end(self, labelled: bool) -> bool:
        """Count an event whose wait is over; returns whether to look at coverage."""
        self.over += 1
        self.over_labelled += labelled
        return self.over >= self.over_due

    def judge_coverage(self, pipeline: Pipeline, open_signals: Collection[str]) -> Iterator[Verdict]:
        """Judge coverage, now that `SETTLED` more waits are over."""
        self.over_due = self.over + SETTLED
        before, self.over_marked = self.over_marked, (self.over, self.over_labelled)
        self.covered.append((self.over - before[0], self.over_labelled - before[1]))
        least = pipeline.alerts.label_coverage_min
        if len(self.covered) < BLOCKS or least is None:
            return
        over, labelled = (sum(block[i] for block in self.covered) for i in (0, 1))
        signal, coverage = Condition.COVERAGE.named(), labelled / over
        low = coverage < eased(least, signal in open_signals, over, up=True)
        yield Verdict(signal, coverage_sign(pipeline, coverage, least, over) if low else None)

    # -- rejected and missing

    def reject(self, what: str, reason: str, now_ms: int, scored: int, labelled: int) -> bool:
        """Count a rejected record; returns whether to look at once.

        Args:
            what: `events` or `labels`.
            scored, labelled: events and labels accepted so far.
        """
        if self.shares is None:
            self._begin_shares(now_ms, scored, labelled)
        self.rejected[what] += 1
        self.reason = reason
        return self.rejected[what] % REJECTED_STEP == 0

    def miss(self, features: int, now_ms: int, scored: int, labelled: int) -> None:
        """Count an event's missing features, a bit each."""
        if self.shares is None:
            self._begin_shares(now_ms, scored, labelled)
        missing = self.shares.missing  # type: ignore[union-attr]  # just begun
        while features:
            lowest = features & -features
            place = lowest.bit_length() - 1
            missing[place] = missing.get(place, 0) + 1
            features ^= lowest

    def _begin_shares(self, now_ms: int, scored: int, labelled: int) -> None:
        self.shares = Shares(scored, labelled, dict(self.rejected))
        self.time_due_ms = min(self.time_due_ms, now_ms + LOOK_MS)

    def judge_shares(
        self, pipeline: Pipeline, scored: int, labelled: int, open_signals: Collection[str]
    ) -> Iterator[Verdict]:
        """Judge rejected records and missing features, where enough records came since the window began."""
        shares = self.shares
        if shares is None:
            return
        rules = pipeline.alerts
        judged = False
        for what, accepted in (("events", scored - shares.events), ("labels", labelled - shares.labels)):
            rejected = self.rejected[what] - shares.rejected[what]
            count = accepted + rejected
            if count < RECORDS_MIN:
                continue
            judged = True
            signal, share = Condition.REJECTED.named(what), rejected / count
            high = share > eased(rules.rejected_max, signal in open_signals, count, up=False)
            sign = rejected_sign(pipeline, what, share, rules.rejected_max, count, self.reason) if high else None
            yield Verdict(signal, sign)
        events = scored - shares.events
        if events >= RECORDS_MIN:
            names = pipeline.event.names
            for feature, limit in rules.missing_max.items():
                signal = Condition.MISSING.named(feature)
                share = shares.missing.get(names.index(feature), 0) / events
                high = share > eased(limit, signal in open_signals, events, up=False)
                yield Verdict(signal, missing_sign(pipeline, feature, share, limit, events) if high else None)
        if judged:
            troubled = any(Condition.has(name, Condition.REJECTED, Condition.MISSING) for name in open_signals)
            self.shares = Shares(scored, labelled, dict(self.rejected)) if troubled else None

    # -- throughput

    def judge_throughput(
        self, pipeline: Pipeline, form: Throughput, now_ms: int, arrived: int, open_signals: Collection[str]
    ) -> Iterator[Verdict]:
        """Judge the windows that have ended.

        Args:
            arrived: events so far, rejected ones included.
        """
        if now_ms < self.window_end_ms:
            return
        window_ms = form.window_ms
        ended = (now_ms - self.window_end_ms) // window_ms + 1
        mark, first = self.window_mark, self.window_end_ms == 0
        self.window_end_ms = now_ms - now_ms % window_ms + window_ms
        self.window_mark = -1 if first else arrived  # the window in which the first record comes is not whole
        if mark < 0:
            return
        signal = Condition.THROUGHPUT.named()
        is_open = signal in open_signals
        counts = [arrived - mark] if ended == 1 else [arrived - mark, 0]  # the events before the gap, then the gap
        for count in counts:
            yield Verdict(signal, self._unusual(pipeline, form, count, is_open))
            if count:
                self.usual.append(count)

    def _unusual(self, pipeline: Pipeline, form: Throughput, count: int, is_open: bool) -> Sign | None:
        usual = self.usual_count
        if usual is None:
            return None
        most = max(form.rise * usual, usual + SPREADS * usual**0.5)
        if count == 0 or count >= (most - (most - usual) / 4 if is_open else most):
            return throughput_sign(pipeline, count, usual, form.window_ms)
        return None

    @property
    def usual_count(self) -> float | None:
        """Events in a usual window; None where too little is known, or too few come."""
        if len(self.usual) < WINDOWS_MIN:
            return None
        usual = sum(self.usual) / len(self.usual)
        return usual if usual >= USUAL_MIN else None

    def deadline_ms(self, open_signals: Collection[str]) -> int | None:
        """When the passing of time alone says something: the end of a window, while events are expected."""
        if self.window_end_ms in (0, NEVER) or self.usual_count is None:
            return None
        if Condition.THROUGHPUT.named() in open_signals:
            return None
        return self.window_end_ms


def _parts(block: Block) -> tuple[int, int, int]:
    return (block.settled, block.joined, block.late)


def eased(limit: float, is_open: bool, count: int, *, up: bool) -> float:
    """The limit at which a condition begins, or the stricter one at which it ends.

    Args:
        count: how many records the value is of.
        up: it must rise to end.

    Returns:
        At the end, the limit moved by `NOISE` standard errors of a share of so many records; where the limit is no
        share, of a mean of values that spread as far as their mean. At least a twentieth and at most half of the way to
        the nearer of 0 and 1 (of the limit), so that it can always be reached.
    """
    if not is_open:
        return limit
    is_share = 0 <= limit <= 1
    room = min(limit, 1 - limit) if is_share else abs(limit)
    spread = sqrt(limit * (1 - limit)) if is_share else abs(limit)
    step = min(max(NOISE * spread / sqrt(max(count, 1)), room / 20), room / 2)
    return limit + step if up else limit - step
