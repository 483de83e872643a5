"""One partition's state, and the one function that changes it.

`step(shard, record)` folds one record and returns what it made. It is a pure function of the state and the record, so
whatever was served can be derived again: state = snapshot + journal + inputs.

    event:  dedupe -> features -> score -> guard -> remember as pending -> Score
    label:  join by event id -> evaluate the served prediction -> detectors -> learn -> Outcome
            no event yet -> held; a second, late or empty one -> ignored, corrected or retracted, as the pipeline says
    always: watermark forward -> expire what waited too long -> alerts

An event is scored before its label can be learned, and what metrics and detectors see is the error of the
prediction that was served, with the version of the model that served it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from app.core.alert import alert_of, drift_sign, error_sign, failure_sign, reaction_sign, signal_of
from app.core.drift import Drift, DriftMonitors
from app.core.episode import Episodes, Moment, Sign, Told
from app.core.error import InvariantError
from app.core.evaluate import Evaluation
from app.core.join import (
    ASSUMED,
    EXPIRED,
    LABELLED,
    RETRACTED,
    WAITING,
    EarlyLabels,
    Held,
    Ledger,
    Settled,
    Waiting,
)
from app.core.maturity import Maturity
from app.core.model import Learner
from app.core.output import Alert, Outcome, OutcomeKind, Output, Prediction, Rejected, Score
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
from app.core.watch import LOOK_MS, NEVER, Verdict, Watch


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
        episodes: what is wrong now, and whether it was told.
        watch: conditions beside drift.
        maturity: how far labels have come in, and the metrics that know of it.
    """

    def __init__(self, pipeline: Pipeline, partition: int) -> None:
        self.pipeline = pipeline
        self.partition = partition
        self.learner = Learner(pipeline)
        label = pipeline.label
        self.corrects = label is not None and label.second == "correct"
        self.labels_max = label.labels_max if label else 1
        self.pending = _ledger(pipeline)
        self.early = EarlyLabels(label.early_max if label else 0, self.labels_max)
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
        self.episodes = Episodes(f"{pipeline.name}-{partition}-")
        self.watch = Watch()
        self.watch.adopt(pipeline)
        self.maturity = Maturity(pipeline)

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
        deadlines = (
            self.pending.next_deadline_ms,
            self.early.next_deadline_ms,
            self.episodes.deadline_ms(self.moment()),
            self.watch.deadline_ms(self.episodes.open),
        )
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    def moment(self, place: str = "") -> Moment:
        """Now, for episodes; `place` names the record that is being folded."""
        return Moment(self.now_ms, self.evaluation.label_count, self.counts.get("scored", 0), place, self.positions)

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
            "episodes": [episode.name for episode in self.episodes.open.values()],
            "metrics": self.evaluation.values(),
            "window_metrics": self.evaluation.window_values(),
            **self.maturity.values(self.pipeline),
        }


def _ledger(pipeline: Pipeline) -> Ledger:
    """An empty ledger with the bounds of a pipeline."""
    label, dedupe = pipeline.label, pipeline.dedupe
    if label is None:
        return Ledger(horizon_ms=dedupe.horizon_ms, id_max=dedupe.id_max)
    keep = set()
    if label.second == "correct" or label.retract:
        keep |= {LABELLED, RETRACTED}
    if label.late == "correct":
        keep.add(ASSUMED)
    return Ledger(
        wait_ms=label.wait_ms,
        pending_max=label.pending_max,
        horizon_ms=dedupe.horizon_ms,
        id_max=dedupe.id_max,
        correct_ms=label.correct_ms,
        correct_max=label.correct_max,
        keep=frozenset(keep),
    )


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

    def place(self, shard: Shard) -> str:
        """The record as an episode's name has it."""
        topic, _, number = self._place
        topics = shard.pipeline.topics
        letter = {topics.events: "e", topics.labels: "l", topics.control: "c"}.get(topic, "t")
        return f"{letter}{number}"


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
        _control(shard, record, out)
    else:
        assert_never(record)
    return out.made


def _reject(shard: Shard, source: Source, reason: str, detail: str, out: _Outbox) -> None:
    shard.count(f"rejected_{reason}")
    out.made.append(Rejected(out.own_id(), source, reason, detail))
    topics = shard.pipeline.topics
    if reason == "model_error" or source.topic == topics.control:
        return  # no fault of the data
    what = "labels" if source.topic == topics.labels else "events"
    if shard.watch.reject(what, reason, shard.now_ms, *_accepted(shard)):
        _look(shard, out)


def _advance(shard: Shard, time_ms: int, out: _Outbox) -> None:
    """Move the watermark, never back, and end the waits whose deadline it passes."""
    watermark_ms = shard.watermark_ms
    if watermark_ms is not None and time_ms <= watermark_ms:
        return
    if watermark_ms is None:
        for kept in (shard.pending, shard.early):
            kept.begin_at(time_ms)
    shard.watermark_ms = time_ms
    for place in shard.pending.due(time_ms):
        _give_up(shard, place, "no label within the wait", out)
    for held in shard.early.expire(time_ms):
        _unjoined(shard, held, "orphan", "no event within the wait", out)
    if shard.pending.keep:
        shard.pending.let_go_corrected(time_ms)
    if time_ms >= shard.watch.time_due_ms:
        _look(shard, out)


# -- events


def _event(shard: Shard, event: Event, out: _Outbox) -> None:
    event_id = event.event_id
    if shard.pending.find(event_id, shard.now_ms) is not None:
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
    score = Score(
        out.own_id(), event.source, event_id, event.time_ms, prediction, _decide(shard, prediction), guard, version
    )
    out.made.append(score)
    shard.maturity.on_score(prediction)
    if learner.faults.open:
        _watch_faults(shard, out)
    if guard != "served" and not resting:
        _signal(shard, "model", failure_sign(shard.pipeline, guard), out)
    if event.missing and shard.pipeline.alerts.missing_max:
        shard.watch.miss(event.missing, shard.now_ms, *_accepted(shard))
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
        _await_label(shard, event, score, out)
    else:
        shard.pending.add(event_id, shard.now_ms, None)


def _decide(shard: Shard, prediction: Prediction) -> bool | None:
    decision = shard.pipeline.decision
    if decision is None or prediction.value is None:
        return None
    return prediction.value >= decision.threshold


def _await_label(shard: Shard, event: Event, score: Score, out: _Outbox) -> None:
    """Remember the event until its label comes; at once, if the label is here already."""
    source, pending = event.source, shard.pending
    waiting = Waiting(source.offset, source.key, event.time_ms, event.features, score.prediction, score.version)
    place = pending.add(event.event_id, shard.now_ms, waiting)
    for held in shard.early.take(event.event_id):
        _join(shard, place, waiting, held, out)
    while (oldest := pending.crowded()) is not None:
        _give_up(shard, oldest, "more events wait than pending_max", out)


# -- labels


def _label(shard: Shard, label: Label, out: _Outbox) -> None:
    form = shard.pipeline.label
    if form is None:
        _reject(shard, label.source, "unexpected_label", "the pipeline declares no label", out)
        return
    value = label.value
    if shard.pipeline.task == "multiclass" and value is not None and not _admit_class(shard, value):
        detail = f"{value!r} would be class number {len(shard.classes) + 1}; classes_max is reached"
        _reject(shard, label.source, "too_many_classes", detail, out)
        return
    place = shard.pending.find(label.event_id, shard.now_ms)
    source = label.source
    held = Held(shard.now_ms + form.early_ms, label.event_id, source.offset, source.key, label.time_ms, value)
    if value is None:
        _retract(shard, place, held, out)
    elif place is None:
        _hold(shard, held, form, out)
    elif shard.pending.fate(place) == WAITING:
        _join(shard, place, shard.pending.waiting(place), held, out)
    else:
        _again(shard, place, held, out)


def _admit_class(shard: Shard, value: LabelValue) -> bool:
    known = shard.classes.get(value)
    if known is None and len(shard.classes) >= shard.pipeline.limits.classes_max:
        return False
    shard.classes[value] = (known or 0) + 1
    return True


def _hold(shard: Shard, label: Held, form: LabelForm, out: _Outbox) -> None:
    """Keep a label until its event comes."""
    early = shard.early
    if not early.hold(label):
        before = early.get(label.event_id)
        if form.second == "ignore" or before is None or before.value == label.value:
            _unjoined(shard, label, "duplicate", "a label for this event is held already; the first one stands", out)
            return
        early.replace(label)
        detail = "it takes the place of a label that is held until the event comes"
        _unjoined(shard, label, "corrected", detail, out, before.value)
        return
    while (crowded_out := early.crowded()) is not None:
        _unjoined(shard, crowded_out, "orphan", "more early labels wait than early_max", out)


def _join(shard: Shard, place: int, waiting: Waiting | None, label: Held, out: _Outbox) -> None:
    """The heart: evaluate what was served, tell the detectors, learn, publish the pair."""
    value = label.value
    if waiting is None or value is None:
        raise InvariantError("a label was to be joined to an event that does not wait")
    number = shard.evaluation.update(value, waiting.prediction)
    _take_in(shard, value, label.time_ms, waiting)
    pending = shard.pending
    first = True
    if shard.labels_max == 1:
        pending.settle(place, LABELLED, shard.now_ms, number, value, label.time_ms)
        output_id = _ending_id(shard, waiting)
    else:
        output_id = _label_id(shard, label)
        count = pending.count_label(place)
        first = count == 1
        if count >= shard.labels_max:
            pending.settle(place, LABELLED, shard.now_ms)
    drifts = shard.monitors.on_label(value, waiting.prediction)
    _settle(shard, "joined", output_id, label.event_id, waiting, value, label.time_ms, None, out)
    if first:
        _watch_labels(shard, label.time_ms - waiting.time_ms, out)
    for drift in drifts:
        _drift(shard, drift, out)


def _give_up(shard: Shard, place: int, why: str, out: _Outbox) -> None:
    """The deadline passed: drop the event, or learn the label that the pipeline assumes then."""
    pending = shard.pending
    event_id, waiting, assumed = pending.id_at(place), pending.waiting(place), shard.assumed
    if waiting is None:
        raise InvariantError("an event that does not wait was to expire")
    if pending.label_count(place):  # one of several that may come, and now no more will
        pending.settle(place, LABELLED, shard.now_ms)
        return
    shard.maturity.on_expiry()
    output_id = _ending_id(shard, waiting)
    if assumed is None:
        pending.settle(place, EXPIRED, shard.now_ms)
        _settle(shard, "expired", output_id, event_id, waiting, None, None, why, out)
        _watch_labels(shard, None, out)
        return
    number = shard.evaluation.update(assumed, waiting.prediction)
    pending.settle(place, ASSUMED, shard.now_ms, number, assumed)
    drifts = shard.monitors.on_label(assumed, waiting.prediction)
    _settle(shard, "assumed", output_id, event_id, waiting, assumed, None, why, out)
    _watch_labels(shard, None, out)
    for drift in drifts:
        _drift(shard, drift, out)


def _again(shard: Shard, place: int, label: Held, out: _Outbox) -> None:
    """A label for an event that waits no longer: late, a second one, or one after a retraction."""
    pending, value = shard.pending, label.value
    fate, before = pending.fate(place), pending.settled(place)
    if fate == EXPIRED or (fate == ASSUMED and ASSUMED not in pending.keep):
        _unjoined(shard, label, "late", "the label came after the wait", out)
    elif fate == LABELLED and not shard.corrects:
        several = shard.labels_max > 1
        many = "as many labels as labels_max allows" if several else "its label already; the first one stands"
        _unjoined(shard, label, "duplicate", f"the event has {many}", out)
    elif before is None or value is None:
        shard.count("uncorrectable")
        kind: OutcomeKind = "late" if fate != LABELLED else "duplicate"
        _unjoined(shard, label, kind, "the label can be corrected no more: correct_for or correct_max is over", out)
    elif before.label == value:
        if fate == ASSUMED:
            _take_in(shard, value, label.time_ms, pending.waiting(place))
            shard.maturity.unlabelled -= 1
            pending.change(place, LABELLED, before.number, value, label.time_ms)
            _unjoined(shard, label, "late", "the label came after the wait, and is the one that was assumed", out)
        else:
            _unjoined(shard, label, "duplicate", "the event has this label already", out)
    else:
        _correct(shard, place, before, label, value, out)


def _correct(shard: Shard, place: int, before: Settled, label: Held, value: LabelValue, out: _Outbox) -> None:
    """Take the label back that the event had, if any, and evaluate and learn this one.

    A model cannot unlearn: it learned the first label, and learns this one on top. Detectors saw the error of the
    first; one pair is one observation, so they are told of it once.
    """
    pending = shard.pending
    waiting = pending.waiting(place)
    if waiting is None:
        raise InvariantError("what may be corrected was let go")
    _take_back(shard, before, waiting)
    number = shard.evaluation.update(value, waiting.prediction)
    _take_in(shard, value, label.time_ms, waiting)
    pending.change(place, LABELLED, number, value, label.time_ms)
    kind: OutcomeKind = "corrected" if before.label is not None else "joined"
    output_id = _label_id(shard, label)
    _settle(shard, kind, output_id, label.event_id, waiting, value, label.time_ms, None, out, before.label)


def _take_in(shard: Shard, value: LabelValue, label_time_ms: int, waiting: Waiting | None) -> None:
    """Tell the metrics that know of maturity of a label that came."""
    if waiting is not None:
        delay_ms = label_time_ms - waiting.time_ms
        shard.maturity.on_label(shard.pipeline, value, delay_ms, waiting.prediction, waiting.features, shard.now_ms)


def _take_back(shard: Shard, before: Settled, waiting: Waiting) -> None:
    """Make the metrics as if the label that the event had, if any, had not come."""
    if before.label is not None:
        shard.evaluation.revert(before.label, waiting.prediction, before.number)
    if before.label_time_ms is None:
        shard.maturity.unlabelled -= 1
    elif before.label is not None:
        delay_ms = before.label_time_ms - waiting.time_ms
        shard.maturity.revert(before.label, delay_ms, waiting.prediction, waiting.features)


def _retract(shard: Shard, place: int | None, label: Held, out: _Outbox) -> None:
    """Take a label back: nothing is learned, and metrics are as if it had not come."""
    pending = shard.pending
    if place is None:
        held = shard.early.take(label.event_id)
        if held:
            _unjoined(shard, label, "retracted", "the label was held until its event comes", out, held[0].value)
        else:
            _unjoined(shard, label, "unretracted", "no label of this event is known", out)
        return
    fate, before, waiting = pending.fate(place), pending.settled(place), pending.waiting(place)
    if fate == LABELLED and (before is None or before.label is None or waiting is None):
        shard.count("uncorrectable")
        _unjoined(
            shard, label, "unretracted", "the label can be retracted no more: correct_for or correct_max is over", out
        )
    elif fate != LABELLED or before is None or before.label is None or waiting is None:
        _unjoined(shard, label, "unretracted", "the event has no label", out)
    else:
        _take_back(shard, before, waiting)
        shard.maturity.on_expiry()
        pending.change(place, RETRACTED, 0, None, None)
        _publish(
            shard,
            "retracted",
            _label_id(shard, label),
            label.event_id,
            waiting,
            None,
            label.time_ms,
            None,
            out,
            before.label,
        )


def _settle(
    shard: Shard,
    kind: OutcomeKind,
    output_id: str,
    event_id: EventId,
    waiting: Waiting,
    label: LabelValue | None,
    label_time_ms: int | None,
    detail: str | None,
    out: _Outbox,
    previous: LabelValue | None = None,
) -> None:
    """Learn the pair, if there is one, and publish how the wait ended."""
    failure = None
    if label is not None and shard.pipeline.task != "anomaly":
        failure = _learn(shard, waiting.features, label, f"learn {output_id}")
        if failure is not None:
            kind, detail = "failed", failure
    _publish(shard, kind, output_id, event_id, waiting, label, label_time_ms, detail, out, previous)
    if failure is not None:
        _watch_faults(shard, out)


def _publish(
    shard: Shard,
    kind: OutcomeKind,
    output_id: str,
    event_id: EventId,
    waiting: Waiting,
    label: LabelValue | None,
    label_time_ms: int | None,
    detail: str | None,
    out: _Outbox,
    previous: LabelValue | None,
) -> None:
    shard.count(kind)
    out.made.append(
        Outcome(
            output_id,
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
            previous,
        )
    )


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


def _ending_id(shard: Shard, waiting: Waiting) -> str:
    """Of how the wait of an event ended, whatever ended it."""
    return f"{shard.pipeline.topics.events}-{shard.partition}-{waiting.offset}-1"


def _label_id(shard: Shard, label: Held) -> str:
    """Of what became of a label that did not end a wait."""
    return f"{shard.pipeline.topics.labels}-{shard.partition}-{label.offset}-0"


def _unjoined(
    shard: Shard, label: Held, kind: OutcomeKind, detail: str, out: _Outbox, previous: LabelValue | None = None
) -> None:
    """Publish a label that found no waiting event."""
    shard.count(kind)
    out.made.append(
        Outcome(
            _label_id(shard, label),
            kind,
            label.key,
            shard.stamp_ms,
            label.event_id,
            None,
            None,
            None,
            None,
            label.value,
            label.time_ms,
            detail,
            previous,
        )
    )


# -- operators and alerts


def _control(shard: Shard, control: Control, out: _Outbox) -> None:
    shard.count(f"control_{control.command}")
    match control.command:
        case "freeze":
            shard.frozen = True
        case "unfreeze":
            shard.frozen = False
        case "reset":
            shard.learner.reset()
            shard.reactor.forget()
        case "acknowledge" | "silence":
            _answer(shard, control, out)


def _answer(shard: Shard, control: Control, out: _Outbox) -> None:
    """An operator speaks of an episode. Each command comes to every shard: those that it is not about pass it over."""
    episodes = shard.episodes
    if not control.episode.startswith(episodes.prefix):
        return
    episode = episodes.named(control.episode)
    if episode is None:
        _reject(shard, control.source, "episode_unknown", f"no episode {control.episode!r} is open", out)
        return
    if control.command == "acknowledge":
        told = episodes.acknowledge(episode, shard.now_ms)
    else:
        told = episodes.silence(episode, shard.now_ms, control.span_ms)
    _tell(shard, told, out)


def _drift(shard: Shard, drift: Drift, out: _Outbox) -> None:
    """Record a drift; it is the sign of an episode if its rule says so."""
    what = (drift.signal, f"{drift.kind} {drift.direction}")
    if drift.signal in ("error", "loss") and drift.kind == "drift" and drift.direction == "rise":
        shard.maturity.on_drift()
    shard.drifts[what] = shard.drifts.get(what, 0) + 1
    if drift.alerts:
        signal = signal_of(drift)
        episode = shard.episodes.open.get(signal)
        _signal(shard, signal, drift_sign(shard.pipeline, drift, episode.sign if episode else None), out)
    if drift.act != "alert" or drift.kind == "calm":
        _react(shard, drift, out)


def _react(shard: Shard, drift: Drift, out: _Outbox) -> None:
    """Change the model, if that is called for, and tell of it."""
    if shard.frozen:
        if drift.kind == "drift":
            shard.count("reaction_held")
        return
    call = f"{drift.monitor} {drift.kind} {drift.detection}"
    reaction = shard.reactor.note(drift, shard.learner, shard.pipeline, call)
    if reaction is not None:
        shard.count(f"reaction_{reaction.act}")
        sign, moment = reaction_sign(shard.pipeline, reaction), shard.moment(out.place(shard))
        _tell(shard, shard.episodes.event(shard.pipeline.alerts, "model_change", sign, moment), out)


def _watch_faults(shard: Shard, out: _Outbox) -> None:
    """Too many exceptions of the model are a condition that holds until none is left among its last calls."""
    faults = shard.learner.faults
    match faults.turn(shard.pipeline.limits.model_error_max):
        case "opened":
            _signal(shard, "errors", error_sign(shard.pipeline, faults.recent_count, rests=False), out, holds=True)
        case "ongoing":
            _signal(shard, "errors", error_sign(shard.pipeline, faults.recent_count, rests=True), out, holds=True)
        case "resolved":
            _judge(shard, [Verdict("errors", None)], out)


def _watch_labels(shard: Shard, delay_ms: int | None, out: _Outbox) -> None:
    """An event's wait ended, or its first label came: watch coverage and delay, and now and then judge the metrics."""
    if shard.watch.settle(delay_ms):
        _judge(shard, shard.watch.judge_labels(shard.pipeline, shard.evaluation, shard.episodes.open), out)
    if shard.monitors.of_waits:
        for drift in shard.monitors.on_wait(shard.now_ms, delay_ms):
            _drift(shard, drift, out)


def _look(shard: Shard, out: _Outbox) -> None:
    """Judge what goes by time, resolve what is over, and say when to look again."""
    watch, episodes, rules = shard.watch, shard.episodes, shard.pipeline.alerts
    scored, labelled = _accepted(shard)
    if rules.throughput is not None:
        arrived = scored + watch.rejected["events"]
        verdicts = watch.judge_throughput(shard.pipeline, rules.throughput, shard.now_ms, arrived, episodes.open)
        _judge(shard, verdicts, out)
    _judge(shard, watch.judge_shares(shard.pipeline, scored, labelled, episodes.open), out)
    for told in episodes.advance(shard.moment(out.place(shard))):
        _tell(shard, told, out)
    again_ms = NEVER if watch.shares is None else shard.now_ms + LOOK_MS
    watch.time_due_ms = min(again_ms, watch.window_end_ms, episodes.due_ms)


_LABELS_TAKEN = ("joined", "late", "duplicate", "orphan", "failed", "corrected", "retracted", "unretracted")


def _accepted(shard: Shard) -> tuple[int, int]:
    """Events and labels that could be used."""
    count = shard.counts.get
    return count("scored", 0), sum([count(kind, 0) for kind in _LABELS_TAKEN])


def _judge(shard: Shard, verdicts: Iterable[Verdict], out: _Outbox) -> None:
    """Conditions that hold are signs; those that do not are calm."""
    for verdict in verdicts:
        if verdict.sign is not None:
            _signal(shard, verdict.signal, verdict.sign, out, holds=True)
        elif verdict.signal in shard.episodes.open:
            shard.episodes.calm(verdict.signal, shard.moment(out.place(shard)))
            shard.watch.time_due_ms = min(shard.watch.time_due_ms, shard.episodes.due_ms)


def _signal(shard: Shard, signal: str, sign: Sign, out: _Outbox, *, holds: bool = False) -> None:
    """A sign of trouble: tell of it if its episode says so."""
    told = shard.episodes.sign(shard.pipeline.alerts, signal, sign, shard.moment(out.place(shard)), holds=holds)
    shard.watch.time_due_ms = min(shard.watch.time_due_ms, shard.episodes.due_ms)
    _tell(shard, told, out)


def _tell(shard: Shard, told: Told | None, out: _Outbox) -> None:
    """Publish a message about an episode, with its id, its times and the positions to replay between."""
    if told is None:
        return
    content, episode = alert_of(shard.pipeline, told, shard.learner.version), told.episode
    out.made.append(
        Alert(
            out.alert_id(),
            shard.stamp_ms,
            shard.watermark_ms,
            episode.name,
            told.state,
            content.kind,
            content.severity,
            content.audience,
            told.sentence,
            content.evidence,
            dict(shard.positions),
            told.update,
            episode.opened_ms,
            episode.opened_at,
            content.runbook,
            episode.acknowledged,
            told.silenced,
            told.announced,
            episode.flapping,
        )
    )
