"""One partition's state, and the one function that changes it.

`step(shard, record)` folds one record and returns what it made. It is a pure function of the state and the record, so
whatever was served can be derived again: state = snapshot + journal + inputs.

    event:  dedupe -> features -> score -> guard -> remember as pending -> Score
    label:  join by event id -> evaluate the served prediction -> detectors -> learn -> Outcome
    always: watermark forward -> expire what waited too long -> alerts

An event is scored before its label can be learned, and what metrics and detectors see is the error of the
prediction that was served, with the version of the model that served it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from app.core.alert import AlertContent, drift_alert, error_alert, failure_alert, reaction_alert
from app.core.drift import Drift, DriftMonitors
from app.core.evaluate import Evaluation
from app.core.join import EarlyLabels, Held, Pending, Seen, Waiting
from app.core.maturity import Maturity
from app.core.model import Learner
from app.core.output import Alert, Guard, Outcome, OutcomeKind, Output, Prediction, Rejected, Score
from app.core.pipeline import LabelForm, Pipeline
from app.core.poison import ModelRaisedError
from app.core.reaction import Reactor
from app.core.record import (
    Control,
    Event,
    EventId,
    FeatureValue,
    Label,
    LabelValue,
    Malformed,
    Record,
    Source,
    Tick,
)
from app.core.target import Target


class Shard:
    """Everything known about one partition of a pipeline. Changed by `step` only.

    Args:
        pipeline: what to do with the records.
        partition: which partition of the pipeline's topics this is.

    Attributes:
        watermark_ms: the latest trusted event time folded; None before the first. Never goes back.
        stamp_ms: the latest record time folded: the timestamp of outputs that no input record causes, so that the
            broker, which took the inputs, takes them too.
        positions: next offset by input topic.
        counts: how often each thing happened since the first record, by name.
        drifts: how often each signal moved, by signal and what was seen (`drift rise`); improvements are only counted.
        classes: labels seen, by class (multiclass).
        failing: the open episode of a model that gives no usable predictions.
        maturity: how far labels have come in, and the metrics that know of it.
    """

    def __init__(self, pipeline: Pipeline, partition: int) -> None:
        self.pipeline = pipeline
        self.partition = partition
        self.learner = Learner(pipeline)
        label = pipeline.label
        self.pending = Pending(label.pending_max if label else 0)
        self.early = EarlyLabels(label.early_max if label else 0)
        self.seen = Seen(pipeline.dedupe.horizon_ms, pipeline.dedupe.id_max)
        self.evaluation = Evaluation.of(pipeline)
        self.monitors = DriftMonitors.of(pipeline)
        self.reactor = Reactor.of(pipeline)
        self.assumed = Target(label, pipeline).assumed if label else None
        self.watermark_ms: int | None = None
        self.stamp_ms = 0
        self.positions: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.drifts: dict[tuple[str, str], int] = {}
        self.classes: dict[LabelValue, int] = {}
        self.frozen = False
        self.failing: str | None = None
        self.maturity = Maturity(pipeline)

    def adopt(self) -> None:
        """Take over the bounds of the pipeline, for a state that was made under other ones."""
        label, dedupe = self.pipeline.label, self.pipeline.dedupe
        self.seen.horizon_ms, self.seen.id_max = dedupe.horizon_ms, dedupe.id_max
        if label is not None:
            self.pending.pending_max, self.early.early_max = label.pending_max, label.early_max

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def now_ms(self) -> int:
        """The watermark, and 0 before the first trusted time; what came by then counts from that time on."""
        return self.watermark_ms if self.watermark_ms is not None else 0

    @property
    def next_deadline_ms(self) -> int | None:
        """When something expires next, in event time: the watermark must pass it; never before time has begun."""
        if self.watermark_ms is None:
            return None
        deadlines = (self.pending.next_deadline_ms, self.early.next_deadline_ms)
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    def summary(self) -> dict[str, Any]:
        """A few numbers for people: sizes, counts and current metric values."""
        return {
            "watermark_ms": self.watermark_ms,
            "pending": len(self.pending),
            "early": len(self.early),
            "version": str(self.learner.version),
            "frozen": self.frozen,
            "counts": dict(self.counts),
            "drifts": {f"{signal} {detection}": count for (signal, detection), count in self.drifts.items()},
            "metrics": self.evaluation.values(),
            "window_metrics": self.evaluation.window_values(),
            **self.maturity.values(self.pipeline),
        }


class _Outbox:
    """Collects what one record makes, and numbers it.

    Ordinal 0 is what became of the record itself, 1 how the wait of that event ended, whenever and by whatever it did;
    from 2 on come alerts. So an id does not depend on what else happened to end at the same record: a slice that is
    folded again after other records (which at_least_once may do) gives the same thing the same id.
    """

    __slots__ = ("_alerts", "_place", "made")

    def __init__(self, topic: str, partition: int, number: int) -> None:
        self._place = (topic, partition, number)
        self._alerts = 0
        self.made: list[Output] = []

    def own_id(self) -> str:
        topic, partition, number = self._place
        return f"{topic}-{partition}-{number}-0"

    def alert_id(self) -> str:
        topic, partition, number = self._place
        self._alerts += 1
        return f"{topic}-{partition}-{number}-{1 + self._alerts}"


def step(shard: Shard, record: Record) -> list[Output]:
    """Fold one record into the shard.

    Returns:
        What it made, in order. Bad input makes a `Rejected`, never an exception.

    Raises:
        InvariantError: the state cannot be trusted any more.
    """
    if isinstance(record, Tick):
        out = _Outbox("tick", record.partition, record.slice_number)
        _advance(shard, record.time_ms, out)
        return out.made
    source = record.source
    out = _Outbox(source.topic, source.partition, source.offset)
    shard.positions[source.topic] = source.offset + 1
    if source.record_time_ms > shard.stamp_ms:
        shard.stamp_ms = source.record_time_ms
    if isinstance(record, Event):
        if not record.time_ahead:
            _advance(shard, record.time_ms, out)
        _event(shard, record, out)
    elif isinstance(record, Label):
        if not record.time_ahead:
            _advance(shard, record.time_ms, out)
        _label(shard, record, out)
    elif isinstance(record, Malformed):
        _reject(shard, source, record.reason, record.detail, out)
    elif isinstance(record, Control):
        _control(shard, record)
    else:
        assert_never(record)
    return out.made


def _reject(shard: Shard, source: Source, reason: str, detail: str, out: _Outbox) -> None:
    shard.count(f"rejected_{reason}")
    out.made.append(Rejected(out.own_id(), source, reason, detail))


def _advance(shard: Shard, time_ms: int, out: _Outbox) -> None:
    """Move the watermark, never back, and end the waits whose deadline it passes."""
    watermark_ms = shard.watermark_ms
    if watermark_ms is not None and time_ms <= watermark_ms:
        return
    if watermark_ms is None:
        for kept in (shard.pending, shard.early, shard.seen):
            kept.begin_at(time_ms)
    shard.watermark_ms = time_ms
    for event_id, waiting in shard.pending.expire(time_ms):
        _give_up(shard, event_id, waiting, "no label within the wait", out)
    for held in shard.early.expire(time_ms):
        _orphan(shard, held, "no event within the wait", out)


# -- events


def _event(shard: Shard, event: Event, out: _Outbox) -> None:
    event_id = event.event_id
    if shard.seen.fate(event_id, shard.now_ms) is not None or event_id in shard.pending:
        _reject(shard, event.source, "duplicate_event", f"event id {event_id!r} was scored before", out)
        return
    learner = shard.learner
    version = learner.version
    resting = learner.faults.resting > 0
    try:
        prediction, guard = learner.score(event.features, out.own_id())
    except ModelRaisedError as raised:
        _reject(shard, event.source, "model_error", str(raised), out)
        _watch_faults(shard, out)
        return
    if guard != "served":
        version = learner.version
    shard.count("scored")
    shard.seen.add(event_id, shard.now_ms)
    score = Score(
        out.own_id(), event.source, event_id, event.time_ms, prediction, _decide(shard, prediction), guard, version
    )
    out.made.append(score)
    shard.maturity.on_score(prediction)
    if learner.faults.open:
        _watch_faults(shard, out)
    if (guard != "served" or shard.failing is not None) and not resting:
        _watch_failure(shard, guard, out)
    for drift in shard.monitors.on_event(event.features, None if event.time_ahead else event.time_ms):
        _drift(shard, drift, out)
    for drift in shard.monitors.on_score(prediction):
        _drift(shard, drift, out)
    if shard.pipeline.task == "anomaly" and guard != "withheld":
        failure = _learn(shard, event.features, None, f"learn {score.output_id}")
        if failure is not None:
            shard.count("failed")
            _watch_faults(shard, out)
    if shard.pipeline.label is not None:
        _await_label(shard, event, score, shard.pipeline.label, out)


def _decide(shard: Shard, prediction: Prediction) -> bool | None:
    decision = shard.pipeline.decision
    if decision is None or prediction.value is None:
        return None
    return prediction.value >= decision.threshold


def _await_label(shard: Shard, event: Event, score: Score, form: LabelForm, out: _Outbox) -> None:
    """Remember the event until its label comes; at once, if the label is here already."""
    source = event.source
    waiting = Waiting(
        shard.now_ms + form.wait_ms,
        score.output_id,
        source.key,
        source.record_time_ms,
        event.time_ms,
        event.features,
        score.prediction,
        score.version,
    )
    held = shard.early.take(event.event_id)
    if held is not None:
        _join(shard, event.event_id, waiting, held.label, out)
        return
    crowded_out = shard.pending.add(event.event_id, waiting)
    if crowded_out is not None:
        _give_up(shard, *crowded_out, "more events wait than pending_max", out)


# -- labels


def _label(shard: Shard, label: Label, out: _Outbox) -> None:
    form = shard.pipeline.label
    if form is None:
        _reject(shard, label.source, "unexpected_label", "the pipeline declares no label", out)
        return
    if shard.pipeline.task == "multiclass" and not _admit_class(shard, label.value):
        detail = f"{label.value!r} would be class number {len(shard.classes) + 1}; classes_max is reached"
        _reject(shard, label.source, "too_many_classes", detail, out)
        return
    waiting = shard.pending.take(label.event_id)
    if waiting is not None:
        _join(shard, label.event_id, waiting, label, out)
        return
    match shard.seen.fate(label.event_id, shard.now_ms):
        case "labelled":
            _unjoined(shard, label, "duplicate", "the event has its label already; the first one stands", out)
        case "expired":
            _unjoined(shard, label, "late", "the label came after the wait", out)
        case "waiting" | None:
            _hold(shard, label, form, out)


def _admit_class(shard: Shard, value: LabelValue) -> bool:
    known = shard.classes.get(value)
    if known is None and len(shard.classes) >= shard.pipeline.limits.classes_max:
        return False
    shard.classes[value] = (known or 0) + 1
    return True


def _hold(shard: Shard, label: Label, form: LabelForm, out: _Outbox) -> None:
    """Keep a label until its event comes."""
    if label.event_id in shard.early:
        _unjoined(shard, label, "duplicate", "a label for this event is held already; the first one stands", out)
        return
    crowded_out = shard.early.hold(Held(shard.now_ms + form.early_ms, label))
    if crowded_out is not None:
        _orphan(shard, crowded_out, "more early labels wait than early_max", out)


def _join(shard: Shard, event_id: EventId, waiting: Waiting, label: Label, out: _Outbox) -> None:
    """The heart: evaluate what was served, tell the detectors, learn, publish the pair."""
    shard.seen.settle(event_id, "labelled")
    shard.evaluation.update(label.value, waiting.prediction)
    delay_ms = label.time_ms - waiting.time_ms
    shard.maturity.on_label(shard.pipeline, label.value, delay_ms, waiting.prediction, waiting.features, shard.now_ms)
    drifts = shard.monitors.on_label(label.value, waiting.prediction)
    _settle(shard, "joined", event_id, waiting, label.value, label.time_ms, None, out)
    for drift in drifts:
        _drift(shard, drift, out)
    if shard.monitors.of_waits:
        _watch_wait(shard, delay_ms, out)


def _give_up(shard: Shard, event_id: EventId, waiting: Waiting, why: str, out: _Outbox) -> None:
    """The deadline passed: drop the event, or learn the label that the pipeline assumes then."""
    shard.seen.settle(event_id, "expired")
    shard.maturity.on_expiry()
    if shard.monitors.of_waits:
        _watch_wait(shard, None, out)
    assumed = shard.assumed
    if assumed is None:
        _settle(shard, "expired", event_id, waiting, None, None, why, out)
        return
    shard.evaluation.update(assumed, waiting.prediction)
    drifts = shard.monitors.on_label(assumed, waiting.prediction)
    _settle(shard, "assumed", event_id, waiting, assumed, None, why, out)
    for drift in drifts:
        _drift(shard, drift, out)


def _settle(
    shard: Shard,
    kind: OutcomeKind,
    event_id: EventId,
    waiting: Waiting,
    label: LabelValue | None,
    label_time_ms: int | None,
    detail: str | None,
    out: _Outbox,
) -> None:
    """Learn the pair, if there is one, and publish how the wait ended."""
    failure = None
    if label is not None and shard.pipeline.task != "anomaly":
        failure = _learn(shard, waiting.features, label, f"learn {waiting.output_id}")
        if failure is not None:
            kind, detail = "failed", failure
    shard.count(kind)
    out.made.append(
        Outcome(
            f"{waiting.output_id[:-1]}1",  # of the event, whatever ended its wait
            kind,
            waiting.key,
            shard.stamp_ms,
            event_id,
            waiting.time_ms,
            waiting.features,
            waiting.prediction,
            waiting.version,
            label,
            label_time_ms,
            detail,
        )
    )
    if failure is not None:
        _watch_faults(shard, out)


def _learn(shard: Shard, values: Sequence[FeatureValue], label: LabelValue | None, call: str) -> str | None:
    """Learn unless frozen; returns what the model raised, in a line."""
    if shard.frozen:
        return None
    try:
        shard.learner.learn(values, label, call)
    except ModelRaisedError as raised:
        return str(raised)
    shard.count("learned")
    if shard.reactor.background is not None and shard.reactor.learn(shard.learner, values, label, call):
        shard.count("background_failed")
    return None


def _unjoined(shard: Shard, label: Label, kind: OutcomeKind, detail: str, out: _Outbox) -> None:
    """Publish a label that found no waiting event."""
    source = label.source
    shard.count(kind)
    out.made.append(
        Outcome(
            f"{source.topic}-{source.partition}-{source.offset}-0",
            kind,
            source.key,
            shard.stamp_ms,
            label.event_id,
            None,
            None,
            None,
            None,
            label.value,
            label.time_ms,
            detail,
        )
    )


def _orphan(shard: Shard, held: Held, why: str, out: _Outbox) -> None:
    _unjoined(shard, held.label, "orphan", why, out)


# -- operators and alerts


def _control(shard: Shard, control: Control) -> None:
    shard.count(f"control_{control.command}")
    match control.command:
        case "freeze":
            shard.frozen = True
        case "unfreeze":
            shard.frozen = False
        case "reset":
            shard.learner.reset()
            shard.reactor.forget()


def _drift(shard: Shard, drift: Drift, out: _Outbox) -> None:
    """Record a drift; alert if its rule says so."""
    what = (drift.signal, f"{drift.kind} {drift.direction}")
    if drift.signal in ("error", "loss") and drift.kind == "drift" and drift.direction == "rise":
        shard.maturity.on_drift()
    shard.drifts[what] = shard.drifts.get(what, 0) + 1
    if drift.alerts:
        alert = drift_alert(shard.pipeline, shard.partition, drift, shard.learner.version)
        out.made.append(_addressed(shard, alert, out))
    if drift.act == "alert" and drift.kind != "calm":
        return
    if shard.frozen:
        if drift.kind == "drift":
            shard.count("reaction_held")
        return
    call = f"{drift.monitor} {drift.kind} {drift.detection}"
    reaction = shard.reactor.note(drift, shard.learner, shard.pipeline, call)
    if reaction is not None:
        shard.count(f"reaction_{reaction.act}")
        told = reaction_alert(shard.pipeline, shard.partition, reaction, shard.learner.version)
        out.made.append(_addressed(shard, told, out))


def _watch_wait(shard: Shard, delay_ms: int | None, out: _Outbox) -> None:
    """Tell the detectors of labels how an event's wait ended."""
    for drift in shard.monitors.on_wait(shard.now_ms, delay_ms):
        _drift(shard, drift, out)


def _watch_failure(shard: Shard, guard: Guard, out: _Outbox) -> None:
    """One episode from the first prediction that is not finite to the next one that is."""
    episode = shard.failing
    if guard == "served":
        if episode is None:
            return
        shard.failing = None
        alert = failure_alert(shard.pipeline, episode, "resolved", guard, shard.learner.version)
    else:
        if episode is not None:
            return
        shard.failing = f"{shard.pipeline.name}-{shard.partition}-model-{shard.learner.generation}"
        alert = failure_alert(shard.pipeline, shard.failing, "opened", guard, shard.learner.version)
    out.made.append(_addressed(shard, alert, out))


def _watch_faults(shard: Shard, out: _Outbox) -> None:
    """One episode from too many exceptions of the model until none is left among its last calls."""
    faults = shard.learner.faults
    state = faults.turn(shard.pipeline.limits.model_error_max)
    if state is not None:
        episode = f"{shard.pipeline.name}-{shard.partition}-errors-{faults.episode}"
        out.made.append(_addressed(shard, error_alert(shard.pipeline, episode, state, shard.learner), out))


def _addressed(shard: Shard, content: AlertContent, out: _Outbox) -> Alert:
    """An alert's content with its id, its times and the positions to replay from."""
    return Alert(
        out.alert_id(),
        shard.stamp_ms,
        shard.watermark_ms,
        content.episode,
        content.state,
        content.kind,
        content.severity,
        content.audience,
        content.sentence,
        content.evidence,
        dict(shard.positions),
    )
