"""The one function that changes a shard.

`step(shard, record, oracle)` folds one record and returns what it made. It is a pure function of the state, the record
and the verdicts that the journal keeps, so whatever was served can be derived again from snapshot, journal and inputs.

    event:  dedupe -> features -> score -> guard -> remember as pending -> Score
    label:  join by event id -> evaluate the served prediction -> detectors -> learn -> Outcome
            no event yet -> held; a second, late or empty one -> ignored, corrected or retracted, as the pipeline says
    always: watermark forward -> expire what waited too long -> alerts

An event is scored before its label can be learned, and what metrics and detectors see is the error of the
prediction that was served, with the version of the model that served it.
"""

from __future__ import annotations

from typing import assert_never

from driftline.core.error import InvariantError
from driftline.core.fault import ModelRaisedError
from driftline.core.fold.decision import decide
from driftline.core.fold.feedback import await_label, end_hold, end_wait, take_label
from driftline.core.fold.forecast import observe
from driftline.core.fold.guard import lets_pass, report, serve
from driftline.core.fold.incident import (
    answer,
    look,
    note_drift,
    reject,
    watch_faults,
    watch_silence,
    watch_waits,
)
from driftline.core.fold.kpi import end_spans
from driftline.core.fold.learning import end_quarantine, learn, rule_quarantine
from driftline.core.fold.load import refused, take_chunk
from driftline.core.fold.review import end_holds, rule
from driftline.core.guard.ladder import PASSED
from driftline.core.oracle import Oracle
from driftline.core.output import ModelVersion, Prediction, Rejected, Score
from driftline.core.record import Control, Event, Label, Malformed, Passed, Record, Tick
from driftline.core.shard.outbox import Made, Outbox, TakeSnapshot
from driftline.core.shard.state import Shard


def step(shard: Shard, record: Record, oracle: Oracle) -> Made:
    """Fold one record into the shard.

    Args:
        oracle: the verdicts of the slice that the record is in.

    Returns:
        What it made. Bad input makes a `Rejected`, never an exception.

    Raises:
        InvariantError: the state cannot be trusted any more.
    """
    if type(record) is Tick:  # not `isinstance`: of a msgspec class it costs 0.1 us where the answer is no
        out = Outbox([], (), "tick", record.shard, record.slice_number, oracle, record.shard, f"tick-{record.shard}-")
        shard.strays.event_ms = max(shard.strays.event_ms, record.time_ms)
        _advance(shard, record.time_ms, out)
        return out
    source = record.source
    topic, partition, offset = source.topic, source.partition, source.offset
    try:
        name, begin = shard.places[topic][partition]
    except KeyError:
        name, begin = shard.place(topic, partition)
    out = Outbox([], (), topic, partition, offset, oracle, shard.number, begin)
    shard.positions[name] = offset + 1
    if source.record_time_ms > shard.stamp_ms:
        shard.stamp_ms = source.record_time_ms
    if type(record) is Event:
        if record.time_ahead:
            shard.count("time_ahead")
        elif record.time_ms != shard.watermark_ms:
            _advance(shard, record.time_ms, out)
        _event(shard, record, out)
    elif type(record) is Label:
        if record.time_ahead:
            shard.count("time_ahead")
        elif record.time_ms != shard.watermark_ms:
            _advance(shard, record.time_ms, out)
        take_label(shard, record, out)
    elif type(record) is Malformed:
        reject(shard, source, record.reason, record.detail, out)
    elif type(record) is Passed:
        what = "labels" if source.topic == shard.pipeline.topics.labels else "events"
        shard.count(f"passed_{what}_{record.kind}")
    elif type(record) is Control:
        _control(shard, record, out)
    else:
        assert_never(record)
    return out


def _advance(shard: Shard, time_ms: int, out: Outbox) -> None:
    """Move the watermark, never back, and end the waits whose deadline it passes."""
    watermark_ms = shard.watermark_ms
    if watermark_ms is not None and time_ms <= watermark_ms:
        return
    if watermark_ms is None:
        for kept in (shard.pending, shard.early, shard.loading, shard.kept, shard.quarantine, shard.budget):
            kept.begin_at(time_ms)
        shard.begun_ms = time_ms
    elif time_ms - watermark_ms >= shard.terms.leap_ms:
        shard.strays.move(watermark_ms, time_ms, out.record)
    shard.watermark_ms = time_ms
    if shard.kept.held:
        end_holds(shard, time_ms, out)
    deadline_ms = shard.quarantine.deadline_ms
    if deadline_ms is not None and time_ms > deadline_ms:
        end_quarantine(shard, out)
    for index in shard.pending.due(time_ms):
        end_wait(shard, index, "no label arrived within label.wait", out)
    if shard.terms.priced and time_ms >= shard.kpis.next_ms:
        end_spans(shard, out)
    if shard.terms.waits_watched:
        watch_waits(shard, time_ms, out)
    for held in shard.early.expire(time_ms):
        end_hold(shard, held, "no event arrived within label.early", out)
    if shard.pending.keep:
        shard.pending.let_go_corrected(time_ms)
    if time_ms >= shard.watch.time_due_ms:
        look(shard, out)


def _event(shard: Shard, event: Event, out: Outbox) -> None:
    event_id, now_ms, terms = event.event_id, shard.watermark_ms or 0, shard.terms
    if shard.pending.find(event_id, now_ms) is not None:
        reject(shard, event.source, "duplicate_event", f"event id {event_id!r} was already scored", out)
        return
    if terms.ahead:
        _observation(shard, event, now_ms, out)
        return
    learner = shard.learner
    version, learned = ModelVersion(learner.generation, learner.learned), learner.learned - learner.began  # `known`
    resting = learner.faults.resting > 0
    output_id = f"{out.begin}{out.number}-0"  # `own_id`, without a call
    if terms.computed:
        event = shard.history.complete(event, now_ms)
    features = event.features
    try:
        predicted = learner.score((*features, event_id) if terms.slates else features, output_id, out.oracle)
    except ModelRaisedError as raised:
        reject(shard, event.source, "model_error", str(raised), out)
        watch_faults(shard, out)
        return
    _, prediction, finite = predicted
    passed, ladder = PASSED, shard.ladder
    begun = finite == "served" and ladder is not None and ladder.plain  # else the score says more than usual
    if finite == "served" and (
        terms.unguarded or (begun and ladder is not None and lets_pass(shard, ladder, event, prediction, learned, out))
    ):
        decision, spent = None, None
        if terms.decides:
            prediction, decision, spent = decide(shard, prediction)
        score = Score(
            output_id, event.source, event_id, event.time_ms, prediction, decision, finite, version, features, learned,
            budget=spent,
        )  # fmt: skip
    else:
        score, passed = serve(shard, event, predicted, version, out, begun=begun)
    counts = shard.counts  # here and in `feedback` without a call for each
    counts["scored"] = counts.get("scored", 0) + 1
    if terms.computed:
        shard.history.take(event)
    out.outputs.append(score)
    shard.maturity.on_score(score.prediction)
    if learner.faults.open:
        watch_faults(shard, out)
    if finite != "served" or passed.tripped:
        report(shard, finite, score, passed, out, resting=resting)
    monitors = shard.monitors
    if event.missing or monitors.of_events or monitors.of_scores:
        _watch(shard, event, score.prediction, now_ms, out)
    if not terms.supervised and finite != "withheld":
        _learn_event(shard, event, output_id, out)
    if terms.labelled:
        await_label(shard, event, score, passed.series, now_ms, out)
        if counts["scored"] >= shard.strays.check_at:
            watch_silence(shard, out)
    else:
        shard.pending.add(event_id, now_ms, None)


def _learn_event(shard: Shard, event: Event, output_id: str, out: Outbox) -> None:
    """Learn an event that needs no label."""
    if learn(shard, event.features, None, output_id, event.time_ms, out.oracle) is not None:
        shard.count("failed")
        watch_faults(shard, out)


def _observation(shard: Shard, event: Event, now_ms: int, out: Outbox) -> None:
    """An event of a series: the truth of earlier forecasts, then a forecast."""
    if shard.terms.computed:
        event = shard.history.complete(event, now_ms)
    before = len(out.outputs)
    prediction = observe(shard, event, out)
    if len(out.outputs) == before + 1 and type(out.outputs[-1]) is Rejected:
        return
    if prediction is not None and shard.terms.computed:  # else out of order, and not part of the past
        shard.history.take(event)
    _watch(shard, event, prediction, now_ms, out)
    shard.pending.add(event.event_id, now_ms, None)


def _watch(shard: Shard, event: Event, prediction: Prediction | None, now_ms: int, out: Outbox) -> None:
    """Show what came, and what was served, to all that watch it.

    Args:
        prediction: None of an observation that is out of order: no detector sees it.
    """
    if event.missing and shard.terms.missing_watched:
        shard.watch.miss(event.missing, now_ms, *shard.accepted())
    monitors = shard.monitors
    if prediction is None:
        return
    if monitors.of_events:
        for drift in monitors.on_event(event.features, None if event.time_ahead else event.time_ms):
            note_drift(shard, drift, out)
    if monitors.of_scores:
        for drift in monitors.on_score(prediction):
            note_drift(shard, drift, out)


def _control(shard: Shard, control: Control, out: Outbox) -> None:
    if (why := refused(shard, control, out.oracle)) is not None:
        reject(shard, control.source, why.reason, why.detail, out)
        return
    if control.chunk is not None:
        take_chunk(shard, control.chunk, control.source, control.by, out)
        return
    shard.count(f"control_{control.command}")
    match control.command:
        case "freeze":
            shard.frozen = True
        case "unfreeze":
            shard.frozen = False
        case "reset":
            shard.learner.reset()
            shard.reactor.forget()
            if shard.second is not None:
                shard.second.reset()
            shard.loading.forget()
        case "snapshot":
            out.requests = (*out.requests, TakeSnapshot())
        case "acknowledge" | "silence":
            answer(shard, control, out)
        case "review":
            rule(shard, control, out)
        case "release" | "drop":
            rule_quarantine(shard, control, out)
        case "load":
            raise InvariantError("a part of a model that holds none of it was decoded")
        case _:
            assert_never(control.command)
