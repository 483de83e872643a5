"""One pipeline run over historical data: the same shard as live, and what is kept of its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from driftline.backtest.tally import Tally
from driftline.core.fold.step import step
from driftline.core.label.pending import Waiting
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, Outcome, Output, Rejected, Score
from driftline.core.pipeline import Pipeline
from driftline.core.place import OWN
from driftline.core.record import Event, EventId, Record
from driftline.core.shard.state import Shard

BUFFERED_MAX = 1024
ALERTS_KEPT_MAX = 2_000
REJECTED_KEPT_MAX = 5
NONE = range(0)


@dataclass(frozen=True, slots=True)
class Spec:
    """A candidate as it was requested.

    Args:
        name: unique among the candidates.
        pipeline: the whole resolved pipeline.
        changes: what was set on the way from the file to it, `key=value`.
    """

    name: str
    pipeline: dict[str, Any]
    file: str
    changes: tuple[str, ...] = ()


@dataclass
class Result:
    """What became of one candidate on one partition.

    Args:
        records: folded.
        scored: events that count and have a score.
        burned: labelled predictions that the burn-in leaves out.
        alerts, drifts: the first of them, oldest first; `alert_count` counts all. Drifts are
            (time in ms, signal, what was seen); an alert is what the alerts topic would carry.
        counts: how often each thing happened (scored, joined, rejected_...); of a range in journal order, from the
            slice on in which it begins.
        metrics: by the pipeline's own expressions, over all labels, burn-in included.
        pending, early: events without a label, labels without an event, at the end.
        failure: why it could not go on, or learned nothing; None for a candidate that reached the end.
        rejected: the first reasons in full.
        raised: what the model raised first, as it was served or learned; None if it never did.
        taught: something was learned before a score, the last one at the latest.
        seconds: CPU time of its own fold.
        live: it is the pipeline that was live, folded as the journal says; `state` then holds a digest of each
            partition's final state.
        steered: while it was live, a command, a loaded model, a changed file or a reset was for it alone.
        against: what differs from what was served (`backtest.served.Against`).
    """

    name: str
    tally: Tally
    records: int = 0
    scored: int = 0
    burned: int = 0
    alert_count: int = 0
    alerts: list[dict[str, Any]] = field(default_factory=list)
    drifts: list[tuple[int | None, str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    version: str = ""
    pending: int = 0
    early: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    failure: str | None = None
    rejected: list[str] = field(default_factory=list)
    raised: str | None = None
    taught: bool = False
    seconds: float = 0.0
    live: bool = False
    state: dict[int, str] = field(default_factory=dict)
    steered: bool = False
    against: Any = None

    @property
    def has_results(self) -> bool:
        """Whether there is anything to report of it."""
        return bool(self.tally.total.sums[0, 0])

    @property
    def taught_nothing(self) -> str | None:
        """Why nothing at all was learned, where there was something to learn."""
        failed = self.counts.get("failed", 0)
        if not failed or self.counts.get("learned"):
            return None
        return f"the model raised an exception for all {failed:,} labels: {self.raised}"

    def merge(self, other: Result) -> None:
        """Add another partition."""
        self.tally.merge(other.tally)
        for name in ("records", "scored", "burned", "alert_count", "pending", "early", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for what, count in other.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
        self.alerts = sorted([*self.alerts, *other.alerts], key=lambda alert: alert["time_ms"] or 0)[:ALERTS_KEPT_MAX]
        self.drifts = sorted([*self.drifts, *other.drifts], key=lambda drift: drift[0] or 0)[:ALERTS_KEPT_MAX]
        self.metrics = {}  # River's metrics cannot be added up; the tally's can
        self.failure = self.failure or other.failure
        self.taught = self.taught or other.taught
        self.raised = self.raised or other.raised
        self.state = {**self.state, **other.state}
        self.steered = self.steered or other.steered
        if self.against is not None and other.against is not None:
            self.against.merge(other.against)
        self.rejected = [*self.rejected, *other.rejected][:REJECTED_KEPT_MAX]
        times = [time_ms for time_ms in (self.first_ms, other.first_ms) if time_ms is not None]
        self.first_ms = min(times) if times else None
        times = [time_ms for time_ms in (self.last_ms, other.last_ms) if time_ms is not None]
        self.last_ms = max(times) if times else None


class _DriftLog(dict[tuple[str, str], int]):
    """The shard's own count of drifts, which reports each as it is counted."""

    def __init__(self, drifts: dict[tuple[str, str], int], on_drift: Callable[[tuple[str, str]], None]) -> None:
        super().__init__(drifts)
        self._on_drift = on_drift

    def __setitem__(self, what: tuple[str, str], count: int) -> None:
        super().__setitem__(what, count)
        self._on_drift(what)


class Rows:
    """Takes what goes into the scores file; see `backtest.score`."""

    def outcome(self, name: str, partition: int, outcome: Outcome, *, counted: bool) -> None:
        raise NotImplementedError

    def waiting(self, name: str, partition: int, event_id: EventId, waiting: Waiting) -> None:
        raise NotImplementedError

    def score(self, name: str, partition: int, score: Score) -> None:
        raise NotImplementedError


class Candidate:
    """Folds records and keeps what a report needs.

    Args:
        shard: to go on from; None starts cold.
        within: offsets of the events that count, by partition, with their labels, and the alerts and drifts from the
            first of them until the next event behind. Others are folded and not counted; None counts all.
        burn_in_ms, burn_in_events: of what counts, events of the first so long, or so many, are folded and left out.
        rows: where every score goes, or None.
        per_day: as of `Tally`.
        generation: of the model, whose predictions alone count; None counts all.

    Attributes:
        shown: puts what the live pipeline showed into a request; None where it showed nothing else.
        scores: where scores are put, for whoever takes them out; None keeps none.
        outstanding: how many of the events within wait for their label.
    """

    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        *,
        number: int = 0,
        segment: str | None = None,
        shard: Shard | None = None,
        within: Mapping[int, range] | None = None,
        burn_in_ms: int = 0,
        burn_in_events: int = 0,
        rows: Rows | None = None,
        per_day: int = 0,
        generation: int | None = None,
    ) -> None:
        self.pipeline = pipeline
        self._generation = generation
        self.shard = shard if shard is not None else Shard(pipeline, number)
        self.result = Result(name, Tally(pipeline, segment, per_day))
        self.shard.drifts = _DriftLog(self.shard.drifts, self._drifted)
        self._within = within
        self._counting = within is None
        self._counts_before: dict[str, int] = {}
        self._burn_in_ms = burn_in_ms
        self._burn_in_events = burn_in_events
        self._rows = rows
        self.scores: list[Score] | None = None
        self.shown: Callable[[Event], Event] | None = None
        self.outstanding = 0
        self._earliest_ms, self._latest_ms = 1 << 62, -(1 << 62)  # times of the events within
        self._prefix = f"{pipeline.topics.events}-"
        self._buffer: list[Outcome] = []
        self._labelled = pipeline.label is not None  # by records of their own
        self._ahead_max_ms = pipeline.limits.time_ahead_max_ms
        self._drifts_seen: dict[tuple[str, str], int] = {}
        self._each_score = rows is not None and not self._labelled

    @property
    def failed(self) -> bool:
        return self.result.failure is not None

    def begin(self) -> None:
        """What is counted begins about now: of `Result.counts` just now, of all else with the first event within."""
        self._counting = True
        self._counts_before = dict(self.shard.counts)

    def fold(self, records: Sequence[Record]) -> None:
        """Fold some records. What a candidate raises ends this one alone."""
        result, shard = self.result, self.shard
        take_outcome = self._buffer.append if self._within is None else self._outcome
        each_score = self._each_score or self.scores is not None or self._within is not None or not self.result.taught
        started_s = time.process_time()
        oracle = Oracle()
        number = 0
        try:
            for record in records:
                number += 1
                if self.shown is not None and type(record) is Event:
                    record = self.shown(record)  # noqa: PLW2901 - what was shown is part of it
                for made in step(shard, record, oracle).outputs:
                    kind = type(made)
                    if kind is Outcome:
                        take_outcome(made)  # type: ignore[arg-type]  # just seen
                    elif kind is not Score:
                        self._note(made)
                    elif each_score:
                        self._score(made)  # type: ignore[arg-type]  # just seen
        except Exception as error:  # noqa: BLE001 - a model may raise anything; the other candidates go on
            result.failure = f"at record {result.records + number}: {type(error).__name__}: {error}"
        result.records += number
        if oracle.found and result.raised is None:
            result.raised = next(iter(oracle.found.values()))
        if len(self._buffer) >= BUFFERED_MAX:
            self._flush()
        result.seconds += time.process_time() - started_s

    def served(self, shard: Shard) -> None:
        """Its shard is folded elsewhere, as the journal says, epoch by epoch; this is how it stands before a slice, or
        after."""
        if self.shard is not shard:
            self.shard, self._drifts_seen = shard, dict(shard.drifts)
            return
        for what, count in shard.drifts.items():
            for _ in range(count - self._drifts_seen.get(what, 0)):
                self._drifted(what)
        self._drifts_seen = dict(shard.drifts)

    def take(self, outputs: Sequence[Output], records: int) -> None:
        """Take what was folded elsewhere from this candidate's shard."""
        take_outcome = self._buffer.append if self._within is None else self._outcome
        for made in outputs:
            if isinstance(made, Outcome):
                take_outcome(made)
                if made.kind == "failed" and self.result.raised is None:
                    self.result.raised = made.detail
            elif isinstance(made, Score):
                self._score(made)
            else:
                self._note(made)
        self.result.records += records
        if len(self._buffer) >= BUFFERED_MAX:
            self._flush()

    def _outcome(self, outcome: Outcome) -> None:
        """Keep an outcome of an event within."""
        named, _, ordinal = outcome.output_id.rpartition("-")
        if ordinal == "1" and named.startswith(self._prefix):  # how the wait of an event ended
            partition = self.shard.number if outcome.partition == OWN else outcome.partition
            if self._is_within(partition, int(named.rpartition("-")[2])):
                self.outstanding -= self._labelled
                self._buffer.append(outcome)
        elif outcome.event_time_ms is not None and self._earliest_ms <= outcome.event_time_ms <= self._latest_ms:
            self._buffer.append(outcome)  # a correction, or one of several labels: it names the label's place only

    def _is_within(self, partition: int, offset: int) -> bool:
        """Whether an event counts."""
        return self._within is None or offset in self._within.get(partition, NONE)

    def _score(self, score: Score) -> None:
        if not self.result.taught:
            self.result.taught = self.shard.counts.get("learned", 0) > 0
        if self._within is not None:
            self._counting = self._is_within(score.source.partition, score.source.offset)
            if not self._counting:
                return
            self.result.scored += 1
            self.outstanding += self._labelled
            self._latest_ms = max(self._latest_ms, score.time_ms)
            self._earliest_ms = min(self._earliest_ms, score.time_ms)
        if self._each_score and self._rows is not None:
            self._rows.score(self.result.name, self.shard.number, score)
        if self.scores is not None:
            self.scores.append(score)

    def _drifted(self, what: tuple[str, str]) -> None:
        if self._counting and len(self.result.drifts) < ALERTS_KEPT_MAX:
            self.result.drifts.append((self.shard.watermark_ms, *what))

    def _note(self, made: Output) -> None:
        if not self._counting:
            return
        result = self.result
        if isinstance(made, Alert):
            result.alert_count += 1
            if len(result.alerts) < ALERTS_KEPT_MAX:
                result.alerts.append(
                    {
                        "time_ms": made.time_ms,
                        "partition": self.shard.number,
                        "kind": made.kind,
                        "state": made.state,
                        "severity": made.severity,
                        "sentence": made.sentence,
                        "episode": made.episode,
                        "evidence": made.evidence,
                    }
                )
        elif isinstance(made, Rejected) and len(result.rejected) < REJECTED_KEPT_MAX:
            result.rejected.append(f"{made.reason}: {made.detail}")

    def _flush(self) -> None:
        result = self.result
        outcomes, self._buffer = self._buffer, []
        counted = paired = [one for one in outcomes if self._is_pair(one)]
        if paired:
            times = [self._timed(one).event_time_ms or 0 for one in paired]
            if result.first_ms is None:
                result.first_ms = min(times)
            result.last_ms = max(*times, result.last_ms or 0)
            if self._burn_in_ms or self._burn_in_events:
                counted = [one for one in paired if self._counts(one)]
                result.burned += len(paired) - len(counted)
            result.tally.add([self._timed(one) for one in counted])
        if self._rows is not None:
            ids = set(map(id, counted))
            for outcome in outcomes:
                if outcome.prediction is not None:
                    self._rows.outcome(result.name, self.shard.number, outcome, counted=id(outcome) in ids)

    def _is_pair(self, outcome: Outcome) -> bool:
        """Whether it is a prediction with its label, of the generation that counts."""
        if outcome.label is None or outcome.prediction is None:
            return False
        return self._generation is None or (
            outcome.version is not None and outcome.version.generation == self._generation
        )

    def _timed(self, outcome: Outcome) -> Outcome:
        """At its label's time, where that of its event lies so far ahead that it did not count either."""
        event_ms, label_ms = outcome.event_time_ms, outcome.label_time_ms
        if event_ms is None or label_ms is None or event_ms <= label_ms + self._ahead_max_ms:
            return outcome
        return structs.replace(outcome, event_time_ms=label_ms)

    def _counts(self, outcome: Outcome) -> bool:
        """Whether an event lies behind the burn-in: by its time, or by the number of events scored before it."""
        first_ms = self.result.first_ms or 0
        if (outcome.event_time_ms or 0) < first_ms + self._burn_in_ms:
            return False
        if self._burn_in_events:
            self._burn_in_events -= 1
            return False
        return True

    def finish(self, digest: Callable[[Shard], str] | None = None) -> Result:
        """No more records come."""
        self._flush()
        shard, result = self.shard, self.result
        shard.drifts = dict(shard.drifts)
        if self._rows is not None and self._labelled:
            for event_id, waiting in shard.pending.entries():
                if not self._is_within(shard.number if waiting.partition == OWN else waiting.partition, waiting.offset):
                    continue
                self._rows.waiting(result.name, shard.number, event_id, waiting)
        before = self._counts_before
        result.counts = {
            what: count - before.get(what, 0) for what, count in shard.counts.items() if count > before.get(what, 0)
        }
        if self._within is None:
            result.scored = result.counts.get("scored", 0)
        result.metrics = shard.evaluation.values()
        result.version = str(shard.learner.version)
        result.pending = len(shard.pending) if self._within is None else self.outstanding
        result.early = len(shard.early)
        result.failure = result.failure or self._nothing_scored()
        if digest is not None and not result.failure:
            result.state = {shard.number: digest(shard)}
        return result

    def _nothing_scored(self) -> str | None:
        """Why there is no score at all, where there were events."""
        refused = {
            what.removeprefix("rejected_"): count
            for what, count in self.result.counts.items()
            if what.startswith("rejected_")
        }
        if self.result.counts.get("scored") or not refused:
            return None
        reason = max(refused, key=lambda what: refused[what])
        example = next((text for text in self.result.rejected if text.startswith(f"{reason}:")), reason)
        return f"every event was rejected, most of them as {example}. Compare event.features with the data"
