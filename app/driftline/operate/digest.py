"""A digest: what a pipeline did in a span of event time, from its topics alone.

No clock and no state of a worker is asked, so the same topics and span give the same digest, on any machine. An event
counts by its own time. What became of it counts as far as its label is of before the end of the span: what is known by
then, and not what came later. Commands, and changes of the pipeline file, count by the time of their record.

What others may have written to the topics is passed over unless it has the form of ours; texts are cut, and of what
could be listed without end the latest `KEPT_MAX` are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct, structs

from driftline.codec.command import sender_of
from driftline.codec.journal import EpochEntry, Link
from driftline.codec.outcome import KpiPart, OutcomeReader, Version
from driftline.codec.reason import REASONS
from driftline.core.guard.beside import Beside
from driftline.core.metric.account import MICRO
from driftline.core.metric.account import UNSERVED as UNDECIDED
from driftline.core.metric.exact import Scores
from driftline.core.output import Guard, Instead, Outcome, OutcomeKind, ended_as
from driftline.core.pipeline import KpiForm, Pipeline
from driftline.core.state.adopt import changed_keys
from driftline.core.task import task_of
from driftline.core.task.measure import Columns, Floats, Truths
from driftline.core.wording import cut

DigestRole: TypeAlias = Literal["operator", "data_engineer", "data_scientist", "domain_expert"]
AUDIENCE: Final[Mapping[DigestRole, str]] = {
    "operator": "operations",
    "data_engineer": "data_engineering",
    "data_scientist": "data_science",
    "domain_expert": "domain_expert",
}
DECIDED: Final = ("approved", "edited", "refused", "overdue")
UNSERVED: Final = ("withheld", "held")
BUFFERED_MAX: Final = 1_024  # outcomes that are counted at once
LISTED_MAX: Final = 200  # of a kind, the latest
KEPT_MAX: Final = 5_000  # of a kind
TEXT_MAX: Final = 1_000  # characters of a sentence
NAME_MAX: Final = 200  # of a name
KEYS_MAX: Final = 40  # of the pipeline file, that one change names
OTHER: Final = "other"


class _Score(Struct):
    event_id: str | int | float
    event_time_ms: int
    guard: Guard
    model_version: Version
    decision: bool | None = None
    instead: Instead | None = None


class _Outcome(Struct):
    kind: OutcomeKind
    event_id: str | int | float
    event_time_ms: int | None = None
    label_time_ms: int | None = None
    previous_label: bool | int | float | str | None = None
    kpi: dict[str, KpiPart] = {}

    @property
    def ended(self) -> OutcomeKind:
        return ended_as(self.kind, self.label_time_ms, self.previous_label)


class AlertSeen(Struct):
    """An alert, as far as a digest shows it."""

    output_id: str
    episode: str
    state: str
    kind: str
    severity: str
    audience: list[str]
    sentence: str
    time_ms: int | None = None
    acknowledged: bool = False
    acknowledged_by: str = ""

    def __post_init__(self) -> None:
        """Names that are longer than ours are told apart by what is kept of them."""
        self.output_id, self.episode = self.output_id[:TEXT_MAX], self.episode[:TEXT_MAX]
        self.state, self.kind, self.severity = (cut(one, NAME_MAX) for one in (self.state, self.kind, self.severity))
        self.audience = [role for role in AUDIENCE.values() if role in self.audience]
        self.sentence, self.acknowledged_by = cut(self.sentence, TEXT_MAX), cut(self.acknowledged_by, NAME_MAX)


class _Review(Struct):
    event_id: str | int | float
    state: str
    event_time_ms: int
    deadline_ms: int = 0


class CommandSeen(Struct):
    """An operator's command: what, on what, by whom."""

    time_ms: int
    command: str
    what: str
    by: str


class ChangeSeen(Struct):
    """A new epoch of a shard: why, and which keys of the pipeline file changed."""

    time_ms: int
    shard: int
    reason: str
    keys: tuple[str, ...]


class KpiSum(Struct):
    """Events of the span under one KPI: those with a label, and those without one.

    Args:
        known, assumed: events; `known_total` and `assumed_total` what they came to, in millionths of the unit.
        expired: events that no label came for; `expired_total` an estimate by the served probabilities, of
            `modelled` of them.
        by_span: what is known, by the beginning of the KPI's own span: events and total.
    """

    known: int = 0
    known_total: int = 0
    assumed: int = 0
    assumed_total: int = 0
    expired: int = 0
    expired_total: int = 0
    modelled: int = 0
    kinds: dict[str, int] = {}
    lacking: int = 0
    by_span: dict[int, tuple[int, int]] = {}


class Quality:
    """How good what was served was, by the labels that are known: a backtest's metrics.

    Attributes:
        count: labels.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._measure = task_of(pipeline.task).measure
        self._threshold = pipeline.decision.threshold if pipeline.decision is not None else None
        self._sums = np.zeros(len(self._measure.sums))
        self._scores = Scores() if self._measure.bins else None
        self._buffer: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self._buffer.append(outcome)
        if len(self._buffer) >= BUFFERED_MAX:
            self._flush()

    def take_back(self, outcome: Outcome) -> None:
        """Its label was corrected or retracted."""
        columns = self._measure.columns([outcome], self._threshold)
        self._sums -= columns.sums.sum(axis=1)
        self._rank(columns, Scores.take_back)

    def _flush(self) -> None:
        if self._buffer:
            columns = self._measure.columns(self._buffer, self._threshold)
            self._sums += columns.sums.sum(axis=1)
            self._rank(columns, Scores.add)
            self._buffer.clear()

    def _rank(self, columns: Columns, take: Callable[[Scores, Floats, Truths], None]) -> None:
        if self._scores is not None and columns.scores is not None and columns.positive is not None:
            known = ~np.isnan(columns.scores)
            take(self._scores, columns.scores[known], columns.positive[known])

    @property
    def count(self) -> int:
        return int(self._sums[0]) + len(self._buffer)

    def values(self) -> dict[str, float]:
        """Each metric that has a value."""
        self._flush()
        column = {name: np.asarray(total) for name, total in zip(self._measure.sums, self._sums, strict=True)}
        with np.errstate(divide="ignore", invalid="ignore"):
            curve = None if self._scores is None else self._scores.curve()
            found = self._measure.values(column, curve, None)
        return {name: float(value) for name, value in found.items() if np.isfinite(value)}


class Gathered:
    """Takes in the topics' records, in any order of topics, each topic in its own order.

    Args:
        since_ms, until_ms: of the span; its end is not in it.

    Attributes:
        alerts_left_out: how many earlier ones of the span are not among `alerts`.
        cut: records that may be of the span have been deleted from their topic.
    """

    def __init__(self, pipeline: Pipeline, since_ms: int, until_ms: int) -> None:
        self.pipeline = pipeline
        self.cut = False
        self.since_ms, self.until_ms = since_ms, until_ms
        self.served = self.positive = 0
        self.guards: Counter[str] = Counter()
        self.instead: Counter[str] = Counter()
        self.beside = Beside(pipeline.task)
        self.versions: dict[str, None] = {}
        self.outcomes: Counter[str] = Counter()
        self.delays_ms: list[int] = []
        self.kpis = {name: KpiSum() for name in pipeline.kpi}
        self.alerts: dict[str, AlertSeen] = {}
        self.alerts_left_out = 0
        self.open: dict[str, AlertSeen] = {}
        self.commands: dict[tuple[str, str, str, int], CommandSeen] = {}
        self.changes: list[ChangeSeen] = []
        self.waiting: dict[Any, _Review] = {}
        self.rejected: Counter[str] = Counter()
        self.quality, self.quality_before = Quality(pipeline), Quality(pipeline)
        self._reader = OutcomeReader(pipeline)
        self._kinds = {"", UNDECIDED, *task_of(pipeline.task).consequences.kinds}
        self._judged: dict[Any, tuple[Quality, Outcome]] = {}
        self._before: dict[int, EpochEntry] = {}
        self._seen: set[str] = set()
        self._priced: dict[Any, tuple[str, int, dict[str, KpiPart]]] = {}
        label = pipeline.label
        self._corrected = label is not None and (label.retract or "correct" in (label.late, label.second))

    def _within(self, time_ms: int | None) -> bool:
        return time_ms is not None and self.since_ms <= time_ms < self.until_ms

    def _repeated(self, document: Mapping[str, Any]) -> bool:
        """At least once, an output may be there twice."""
        if self.pipeline.delivery == "exactly_once":
            return False
        name = str(document.get("output_id")) + str(document.get("state", ""))
        repeated = name in self._seen
        self._seen.add(name)
        return repeated

    def after_deleted(self, document: Mapping[str, Any]) -> None:
        """The first record of a partition whose earlier ones have been deleted: they were made before it."""
        named = (document.get(name) for name in ("event_time_ms", "label_time_ms", "time_ms"))
        self.cut |= max((time_ms for time_ms in named if type(time_ms) is int), default=0) > self.since_ms

    def score(self, document: Mapping[str, Any]) -> None:
        score = _read(document, _Score)
        if score is None or not self._within(score.event_time_ms) or self._repeated(document):
            return
        if score.guard in DECIDED:  # after the score that held it
            self.guards[score.guard] += 1
            return
        self.served += 1
        self.positive += score.decision is True
        self.guards[score.guard] += 1
        self.instead.update([score.instead] if score.instead is not None else [])
        self.versions[score.model_version.partition(".")[0]] = None

    def outcome(self, document: Mapping[str, Any]) -> None:
        one = _read(document, _Outcome)
        if one is None or one.event_time_ms is None or self._repeated(document):
            return
        self._judge(document)
        if not self._within(one.event_time_ms):
            return
        event_ms, label = one.event_time_ms, self.pipeline.label
        ended_ms = one.label_time_ms if one.label_time_ms is not None else event_ms + (label.wait_ms if label else 0)
        if ended_ms >= self.until_ms:
            return
        self.outcomes[one.kind] += 1
        if one.label_time_ms is not None and one.ended == "joined":
            self.delays_ms.append(one.label_time_ms - event_ms)
        if self._corrected and one.event_id in self._priced and one.ended in ("corrected", "retracted", "joined"):
            self._price(*self._priced.pop(one.event_id), times=-1)
        if one.kpi and one.kind != "retracted":
            found = (one.ended, event_ms, one.kpi)
            self._price(*found)
            if self._corrected:
                self._priced[one.event_id] = found

    def _judge(self, document: Mapping[str, Any]) -> None:
        """Count it among the span's predictions, or those of the span before it, as far as was known by its end."""
        one = self._reader.read(document)
        if one is None or one.event_time_ms is None or one.prediction is None:
            return
        within = self._within(one.event_time_ms)
        until_ms, span_ms = self.until_ms if within else self.since_ms, self.until_ms - self.since_ms
        if not until_ms - span_ms <= one.event_time_ms < until_ms or (one.label_time_ms or 0) >= until_ms:
            return
        quality = self.quality if within else self.quality_before
        if self._corrected and one.event_id in self._judged and one.ended in ("corrected", "retracted", "joined"):
            before, earlier = self._judged.pop(one.event_id)
            before.take_back(earlier)
            if before is self.quality:
                self.beside.add(earlier, times=-1)
        if one.label is None:
            return
        judged = structs.replace(one, features=None)  # which may be large, and no metric is made of
        quality.add(judged)
        if within:
            self.beside.add(judged)
        if self._corrected:
            self._judged[one.event_id] = (quality, judged)

    def _price(self, outcome: str, event_ms: int, kpis: Mapping[str, KpiPart], *, times: int = 1) -> None:
        for name, priced in kpis.items():
            form, made = self.pipeline.kpi.get(name), self.kpis.get(name)
            if form is not None and made is not None and priced.decision in self._kinds:
                _add(made, form, priced, event_ms, outcome, times)

    def alert(self, document: Mapping[str, Any]) -> None:
        alert = _read(document, AlertSeen)
        if alert is None or alert.time_ms is None or alert.time_ms >= self.until_ms:
            return
        if alert.state == "resolved":
            self.open.pop(alert.episode, None)
        else:
            self.open[alert.episode] = alert
            keep_latest(self.open)
        if alert.time_ms >= self.since_ms:
            self.alerts[alert.output_id] = alert
            self.alerts_left_out += keep_latest(self.alerts)

    def command(self, document: Mapping[str, Any], time_ms: int) -> None:
        sender, command = sender_of(document), document.get("command")
        if not self._within(time_ms) or not isinstance(command, str) or sender.pipeline != self.pipeline.name:
            return
        what = next((str(document[key])[:NAME_MAX] for key in ("episode", "event_id", "load") if key in document), "")
        command = cut(command, NAME_MAX)
        key = (command, what, sender.nonce, 0 if sender.nonce else time_ms)  # once for each shard and part
        if key not in self.commands:
            self.commands[key] = CommandSeen(time_ms, command, what, sender.by)
            keep_latest(self.commands)

    def review(self, document: Mapping[str, Any]) -> None:
        review = _read(document, _Review)
        if review is None or review.event_time_ms >= self.until_ms:
            return
        if review.state == "held":
            self.waiting[review.event_id] = review
        else:
            self.waiting.pop(review.event_id, None)

    def reject(self, reason: str, time_ms: int) -> None:
        if self._within(time_ms):
            self.rejected[reason if reason in REASONS else OTHER] += 1

    def entry(self, shard: int, link: Link, time_ms: int) -> None:
        """The next entry of a journal."""
        entry = link.entry
        if isinstance(entry, EpochEntry):
            before = self._before.get(shard)
            self._before[shard] = entry
            if self._within(time_ms):
                keys = () if before is None else tuple(changed_keys(before.pipeline, entry.pipeline))
                shown = tuple([cut(key, NAME_MAX) for key in keys[:KEYS_MAX]])
                self.changes.append(ChangeSeen(time_ms, shard, cut(entry.reason, NAME_MAX), shown))
                del self.changes[:-KEPT_MAX]


def _add(made: KpiSum, form: KpiForm, priced: KpiPart, event_ms: int, outcome: str, times: int) -> None:
    cost, value = (round((amount or 0.0) * MICRO) for amount in (priced.cost, priced.value))
    total = times * (value - cost if form.rising else cost)
    if outcome == "expired":
        made.expired += times
        made.expired_total += total
        made.modelled += times * priced.estimated
        return
    made.lacking += times * bool(priced.lacking)
    if outcome == "assumed":
        made.assumed += times
        made.assumed_total += total
        return
    made.known += times
    made.known_total += total
    kind = priced.decision or "none"
    made.kinds[kind] = made.kinds.get(kind, 0) + times
    start_ms = event_ms // form.span_ms * form.span_ms
    count, before = made.by_span.get(start_ms, (0, 0))
    made.by_span[start_ms] = (count + times, before + total)


def keep_latest(kept: dict[Any, Any]) -> int:
    """Let the earliest go where there are too many; returns how many went."""
    if len(kept) <= 2 * KEPT_MAX:
        return 0
    earliest = sorted(kept, key=lambda one: kept[one].time_ms or 0)[: len(kept) - KEPT_MAX]
    for one in earliest:
        del kept[one]
    return len(earliest)


def _read(document: Mapping[str, Any], form: Any) -> Any:
    """A record of an output topic; None where it has another form, as others may have written it."""
    try:
        return msgspec.convert(document, form)
    except msgspec.ValidationError:
        return None
