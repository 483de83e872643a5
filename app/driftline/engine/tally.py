"""What one shard counts on this worker. Plain numbers here; `metric` gives them their names when they are scraped.

Nothing here is state of the shard: it starts from zero with each assignment, and none of it is journaled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence

from driftline.core.place import input_place, topic_of
from driftline.core.record import Source
from driftline.engine.fold import Folded
from driftline.engine.fullness import Fullness
from driftline.transport.clock import REAL, Clock

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
DELAY_SECONDS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 1_209_600.0, 2_592_000.0)
RECORDS = (1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
BYTES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)


class Histogram:
    """Counts by upper bound, cheap enough for every record."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Iterable[float]) -> None:
        """Several at once: of many, each at a tenth of the cost."""
        ordered = sorted(values)  # nearly so already: what was scored later waited less
        if len(ordered) < len(self.bounds):
            for value in ordered:
                self.observe(value)
            return
        below = 0
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(ordered, bound, below)
            self.counts[place] += upto - below
            below = upto
        self.counts[-1] += len(ordered) - below
        self.total += sum(ordered)

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        made, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            made.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(below)))
        return made


class Tally:
    """Counters and histograms of one shard.

    Args:
        events: the topic whose records are scored.
        shard: its number.
    """

    def __init__(self, events: str, clock: Clock = REAL, shard: int = 0) -> None:
        self._shard = shard
        self._clock = clock
        self.records: Counter[str] = Counter()
        self.scores = 0
        self.outcomes: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.label_delay_s = Histogram(DELAY_SECONDS)
        self.score_latency_s = Histogram(SECONDS)
        self.receipt_latency_s = Histogram(SECONDS)
        self.slice_records = Histogram(RECORDS)
        self.commit_s = Histogram(SECONDS)
        self.snapshot_s = Histogram(SECONDS)
        self.snapshot_bytes = Histogram(BYTES)
        self.recovery_s = 0.0
        self.recovery_slices = 0
        self.recovery_records = 0
        self.recovery_unverifiable = 0
        self.recoveries = 0
        self.failures = 0
        self.fold_s = 0.0
        self.fullness = Fullness()
        self._events = events
        # Of each partition of the events: last offset of a poll, and when it returned.
        self._receipts: defaultdict[int, deque[tuple[int, float]]] = defaultdict(deque)

    def received(self, topic: str, sources: Sequence[Source]) -> None:
        if not sources:
            return
        self.records[topic] += len(sources)
        if topic == self._events:
            self._receipts[sources[-1].partition].append((sources[-1].offset, self._clock.now_s()))

    def snapshot(self, size_bytes: int, elapsed_s: float) -> None:
        self.snapshot_bytes.observe(size_bytes)
        self.snapshot_s.observe(elapsed_s)

    def recovering(self, slices: int, records: int, unverifiable: int) -> None:
        self.recovery_slices, self.recovery_records, self.recovery_unverifiable = slices, records, unverifiable

    def failed(self) -> None:
        """A commit or a recovery failed, and is retried."""
        self.failures += 1

    def recovered(self, elapsed_s: float) -> None:
        self.recoveries += 1
        self.recovery_s = elapsed_s
        self._receipts.clear()

    def committed(self, folded: Folded, elapsed_s: float) -> None:
        """A slice is readable by everybody from now on."""
        now_ms, now_s = self._clock.wall_s() * 1000, self._clock.now_s()
        self.commit_s.observe(elapsed_s)
        self.slice_records.observe(folded.records)
        made = folded.made
        self.scores += len(made.scored)
        self.score_latency_s.observe_all([(now_ms - record_time_ms) / 1000 for _, _, record_time_ms in made.scored])
        self.receipt_latency_s.observe_all(self._since_receipt_s(made.scored, now_s))
        self.outcomes += made.outcomes
        self.rejected += made.rejected
        self.alerts.update(alert.kind for alert in made.alerts)
        # A sum that falls looks like a restart.
        self.label_delay_s.observe_all([delay_ms / 1000 if delay_ms > 0 else 0.0 for delay_ms in made.label_delays_ms])
        for name, part in folded.inputs.items():
            if topic_of(name) == self._events:
                self._forget_receipts(input_place(name, self._shard).partition, part.stop)

    def _forget_receipts(self, partition: int, stop: int) -> None:
        receipts = self._receipts[partition]
        while receipts and receipts[0][0] < stop:
            receipts.popleft()

    def _since_receipt_s(self, scored: Sequence[tuple[int, int, int]], now_s: float) -> Iterator[float]:
        """For each scored event, how long ago the poll returned that brought it.

        Offsets of a partition come in order, so older receipts are let go.
        """
        last: dict[int, tuple[int, float]] = {}  # by partition: up to which offset, and how long ago
        for partition, offset, _ in scored:
            until, since_s = last.get(partition, (-1, 0.0))
            if offset > until:
                receipts = self._receipts[partition]
                while receipts and receipts[0][0] < offset:
                    receipts.popleft()
                until, since_s = (receipts[0][0], now_s - receipts[0][1]) if receipts else (offset, 0.0)
                last[partition] = until, since_s
            yield since_s
