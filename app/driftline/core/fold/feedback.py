"""The way of a label: held until its event is scored, joined, or taken for late, second or empty.

no event yet      held as long as `label.early`, then published as an orphan
event waits       evaluate the served prediction -> detectors -> learn -> Outcome
event is settled  ignored, corrected or retracted, as the pipeline says
no label comes    the wait ends at its deadline: dropped, or an assumed label is learned
"""

from __future__ import annotations

from collections.abc import Sequence

from driftline.core.error import InvariantError
from driftline.core.fault import ModelRaisedError
from driftline.core.fold.incident import note_drift, reject, watch_faults, watch_labels, watch_strays
from driftline.core.label.early import Held
from driftline.core.label.ledger import ASSUMED, EXPIRED, LABELLED, RETRACTED
from driftline.core.label.pending import Settled, Waiting
from driftline.core.model.learner import learn_call
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome, OutcomeKind, Score
from driftline.core.record import Event, EventId, FeatureValue, Label, LabelValue
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard

# -- labels


def take_label(shard: Shard, label: Label, out: Outbox) -> None:
    terms = shard.terms
    if not terms.labelled:
        reject(shard, label.source, "unexpected_label", "the pipeline declares no label", out)
        return
    value, pending, now_ms = label.value, shard.pending, shard.watermark_ms or 0
    if terms.bounded and value is not None and not _admit_class(shard, value):
        detail = f"{value!r} would be class number {len(shard.classes) + 1}; classes_max is reached"
        reject(shard, label.source, "too_many_classes", detail, out)
        return
    place = pending.find(label.event_id, now_ms)
    source = label.source
    held = Held(now_ms + terms.early_ms, label.event_id, source.offset, source.key, label.time_ms, value)
    if value is None:
        _retract(shard, place, held, out)
    elif place is None:
        _hold(shard, held, out)
    elif (waiting := pending.unsettled(place)) is not None:
        _join(shard, place, waiting, held, now_ms, out)
    else:
        _again(shard, place, held, out)


def _admit_class(shard: Shard, value: LabelValue) -> bool:
    known = shard.classes.get(value)
    if known is None and len(shard.classes) >= shard.pipeline.limits.classes_max:
        return False
    shard.classes[value] = (known or 0) + 1
    return True


def _hold(shard: Shard, label: Held, out: Outbox) -> None:
    """Keep a label until its event comes."""
    early = shard.early
    if not early.hold(label):
        before = early.get(label.event_id)
        if not shard.corrects or before is None or before.value == label.value:
            unjoined(shard, label, "duplicate", "a label for this event is held already; the first one stands", out)
            return
        early.replace(label)
        detail = "it takes the place of a label that is held until the event comes"
        unjoined(shard, label, "corrected", detail, out, before.value)
        return
    while (crowded_out := early.crowded()) is not None:
        unjoined(shard, crowded_out, "orphan", "more early labels wait than early_max", out)
    shard.strays.hold(label, shard.now_ms)
    watch_strays(shard, out)


# -- waits


def await_label(shard: Shard, event: Event, score: Score, now_ms: int, out: Outbox) -> None:
    """Remember the event until its label comes; at once, if the label is here already."""
    source, pending, strays = event.source, shard.pending, shard.strays
    if event.time_ms > strays.event_ms and not event.time_ahead:
        strays.event_ms = event.time_ms
    waiting = Waiting(source.offset, source.key, event.time_ms, event.features, score.prediction, score.version)
    place = pending.add(event.event_id, now_ms, waiting)
    for held in shard.early.take(event.event_id):
        shard.strays.meet(event.event_id, now_ms + shard.terms.early_ms - held.deadline_ms)
        _join(shard, place, waiting, held, now_ms, out)
    while (oldest := pending.crowded()) is not None:
        give_up(shard, oldest, "more events wait than pending_max", out)


def _join(shard: Shard, place: int, waiting: Waiting, label: Held, now_ms: int, out: Outbox) -> None:
    """The heart: evaluate what was served, tell the detectors, learn, publish the pair."""
    value = label.value
    if value is None:
        raise InvariantError("a retraction was to be joined to an event")
    prediction, label_time_ms, pending = waiting.prediction, label.time_ms, shard.pending
    delay_ms = label_time_ms - waiting.time_ms
    number = shard.evaluation.update(value, prediction)
    first = shard.labels_max == 1 or not pending.label_count(place)
    shard.maturity.on_label(shard.pipeline, value, delay_ms, prediction, waiting.features, now_ms, first=first)
    if shard.labels_max == 1:
        pending.settle(place, LABELLED, now_ms, number, value, label_time_ms)
        output_id = f"{shard.terms.events}{waiting.offset}-1"  # `_ending_id`, without a call
    else:
        output_id = _label_id(shard, label)
        if pending.count_label(place) >= shard.labels_max:
            pending.settle(place, LABELLED, now_ms)
    drifts = shard.monitors.on_label(value, prediction)
    _settle(shard, "joined", output_id, label.event_id, waiting, value, label_time_ms, None, out)
    if first:
        watch_labels(shard, delay_ms, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def give_up(shard: Shard, place: int, why: str, out: Outbox) -> None:
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
        shard.strays.give_up(event_id, pending.seen_ms(place), shard.now_ms, pending.wait_ms)
        pending.settle(place, EXPIRED, shard.now_ms)
        _settle(shard, "expired", output_id, event_id, waiting, None, None, why, out)
        watch_labels(shard, None, out)
        return
    number = shard.evaluation.update(assumed, waiting.prediction)
    pending.settle(place, ASSUMED, shard.now_ms, number, assumed)
    drifts = shard.monitors.on_label(assumed, waiting.prediction)
    _settle(shard, "assumed", output_id, event_id, waiting, assumed, None, why, out)
    watch_labels(shard, None, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def _again(shard: Shard, place: int, label: Held, out: Outbox) -> None:
    """A label for an event that waits no longer: late, a second one, or one after a retraction."""
    pending, value = shard.pending, label.value
    fate, before = pending.fate(place), pending.settled(place)
    if fate == EXPIRED or (fate == ASSUMED and ASSUMED not in pending.keep):
        unjoined(shard, label, "late", "the label came after the wait", out)
        shard.strays.miss(label.time_ms - pending.seen_ms(place), shard.now_ms - label.time_ms, shard.now_ms)
        watch_strays(shard, out)
    elif fate == LABELLED and not shard.corrects:
        several = shard.labels_max > 1
        many = "as many labels as labels_max allows" if several else "its label already; the first one stands"
        unjoined(shard, label, "duplicate", f"the event has {many}", out)
    elif before is None or value is None:
        shard.count("uncorrectable")
        kind: OutcomeKind = "late" if fate != LABELLED else "duplicate"
        unjoined(shard, label, kind, "the label can be corrected no more: correct_for or correct_max is over", out)
    elif before.label == value:
        if fate == ASSUMED:
            _take_in(shard, value, label.time_ms, pending.waiting(place))
            shard.maturity.unlabelled -= 1
            pending.change(place, LABELLED, before.number, value, label.time_ms)
            unjoined(shard, label, "late", "the label came after the wait, and is the one that was assumed", out)
        else:
            unjoined(shard, label, "duplicate", "the event has this label already", out)
    else:
        _correct(shard, place, before, label, value, out)


def _correct(shard: Shard, place: int, before: Settled, label: Held, value: LabelValue, out: Outbox) -> None:
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
        shard.maturity.revert(before.label, delay_ms, waiting.prediction, waiting.features, before.number)


def _retract(shard: Shard, place: int | None, label: Held, out: Outbox) -> None:
    """Take a label back: nothing is learned, and metrics are as if it had not come."""
    pending = shard.pending
    if place is None:
        held = shard.early.take(label.event_id)
        if held:
            unjoined(shard, label, "retracted", "the label was held until its event comes", out, held[0].value)
        else:
            unjoined(shard, label, "unretracted", "no label of this event is known", out)
        return
    fate, before, waiting = pending.fate(place), pending.settled(place), pending.waiting(place)
    if fate == LABELLED and (before is None or before.label is None or waiting is None):
        shard.count("uncorrectable")
        unjoined(
            shard, label, "unretracted", "the label can be retracted no more: correct_for or correct_max is over", out
        )
    elif fate != LABELLED or before is None or before.label is None or waiting is None:
        unjoined(shard, label, "unretracted", "the event has no label", out)
    else:
        _take_back(shard, before, waiting)
        shard.maturity.on_expiry()
        pending.change(place, RETRACTED, 0, None, None)
        _settle(
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


# -- learning and publishing


def _settle(
    shard: Shard,
    kind: OutcomeKind,
    output_id: str,
    event_id: EventId,
    waiting: Waiting,
    label: LabelValue | None,
    label_time_ms: int | None,
    detail: str | None,
    out: Outbox,
    previous: LabelValue | None = None,
) -> None:
    """Learn the pair, if there is one, and publish how the wait ended."""
    failure = None
    if label is not None and shard.terms.supervised:
        failure = learn(shard, waiting.features, label, output_id, waiting.time_ms, out.oracle)
        if failure is not None:
            kind, detail = "failed", failure
    counts = shard.counts
    counts[kind] = counts.get(kind, 0) + 1
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
    if failure is not None:
        watch_faults(shard, out)


def unjoined(
    shard: Shard, label: Held, kind: OutcomeKind, detail: str, out: Outbox, previous: LabelValue | None = None
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


def learn(
    shard: Shard,
    values: Sequence[FeatureValue],
    label: LabelValue | None,
    output_id: str,
    time_ms: int,
    oracle: Oracle,
) -> str | None:
    """Learn unless frozen; returns what the model raised, in a line.

    Args:
        output_id: of what comes of it; names the call in the journal.
        time_ms: of the event.
    """
    if shard.frozen:
        return None
    time_ms = min(time_ms, shard.now_ms)
    try:
        shard.learner.learn(values, label, output_id, time_ms, oracle)
    except ModelRaisedError as raised:
        return str(raised)
    counts = shard.counts
    counts["learned"] = counts.get("learned", 0) + 1
    if shard.reactor.background is not None and shard.reactor.learn(
        shard.learner, values, label, learn_call(output_id), time_ms, oracle
    ):
        shard.count("background_failed")
    return None


def _ending_id(shard: Shard, waiting: Waiting) -> str:
    """Of how the wait of an event ended, whatever ended it."""
    return f"{shard.terms.events}{waiting.offset}-1"


def _label_id(shard: Shard, label: Held) -> str:
    """Of what became of a label that did not end a wait."""
    return f"{shard.terms.labels}{label.offset}-0"
