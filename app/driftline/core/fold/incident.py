"""What a shard does about incidents: rejected records, drift, model faults, exceeded limits.

A sign of a problem belongs to the episode of its signal (`episode`), which decides whether it is published; `alert`
words it. A drift may also change the model (`reaction`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, Protocol, cast

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import (
    alert_of,
    drift_sign,
    error_sign,
    given_up_sign,
    guard_sign,
    reaction_sign,
    second_error_sign,
    signal_of,
)
from driftline.core.alert.episode import Notice, Sign
from driftline.core.alert.watch import LOOK_MS, NEVER, Verdict, eased
from driftline.core.drift.monitors import Drift
from driftline.core.fault import Faults
from driftline.core.fold.loss import begin_window, judge_silence, judge_strays
from driftline.core.fold.standing import remember, stand_of
from driftline.core.guard.ahead import Passed
from driftline.core.guard.ladder import Judged
from driftline.core.guard.second import Second
from driftline.core.output import Alert, Rejected, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.record import Control, Source
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard
from driftline.core.signal import Signal

TRIPS_MIN = 10  # that a share of stopped predictions is judged by


class ErrorSign(Protocol):
    """Words what a model raised."""

    def __call__(self, pipeline: Pipeline, count: int, /, *, rests: bool) -> Sign: ...


def reject(shard: Shard, source: Source, reason: str, detail: str, out: Outbox) -> None:
    shard.count(f"rejected_{reason}")
    out.outputs.append(Rejected(out.own_id(), source, reason, detail))
    topics = shard.pipeline.topics
    if reason == "model_error" or source.topic == topics.control:
        return  # no fault of the data
    what = "labels" if source.topic == topics.labels else "events"
    if shard.watch.reject(what, reason, shard.now_ms, *shard.accepted()):
        look(shard, out)


# -- drift


def note_drift(shard: Shard, drift: Drift, out: Outbox) -> None:
    """Record a drift; it is the sign of an episode if its rule says so."""
    what = (drift.signal, f"{drift.kind} {drift.direction}")
    kind = Signal.read(drift.signal)[0].row.kind
    if kind == "concept_drift" and drift.kind == "drift" and drift.direction == "rise":
        shard.maturity.on_drift()
    shard.drifts[what] = shard.drifts.get(what, 0) + 1
    if drift.alerts:
        signal = signal_of(drift)
        episode = shard.episodes.open.get(signal)
        culprit = None
        if drift.signal == Signal.ERROR.row.name and shard.maturity.errors is not None:
            culprit = shard.maturity.errors.culprit(drift.count_after)
        sign = drift_sign(shard.pipeline, drift, episode.sign if episode else None, culprit)
        notice(shard, signal, sign, out)
        remember(shard, shard.episodes.open[signal], drift)
    if drift.act != "alert" or drift.kind == "calm":
        _react(shard, drift, out)


def _react(shard: Shard, drift: Drift, out: Outbox) -> None:
    """Change the model, if that is called for, and publish it."""
    if shard.frozen or shard.stopped:
        if drift.kind == "drift":
            shard.count("reaction_held")
        return
    call = f"{drift.monitor} {drift.kind} {drift.detection}"
    reaction = shard.reactor.note(drift, shard.learner, shard.pipeline, call, out.oracle)
    if reaction is not None:
        shard.count(f"reaction_{reaction.act}")
        notice_change(shard, reaction_sign(shard.pipeline, reaction), out)


def notice_change(shard: Shard, sign: Sign, out: Outbox, condition: Condition = Condition.CHANGE) -> None:
    """Tell of a change of the model, or of another event that is over as soon as it is reported."""
    moment = shard.moment(out.place(shard.pipeline.topics))
    _publish(shard, shard.episodes.event(shard.pipeline.alerts, condition.named(), sign, moment), out)


# -- conditions


def watch_faults(shard: Shard, out: Outbox) -> None:
    """Too many exceptions of the model are a condition that holds until none is left among its last calls."""
    _watch_calls(shard, shard.learner.faults, Condition.ERRORS, error_sign, out)


def watch_second(shard: Shard, second: Second, out: Outbox) -> None:
    """The same of the guard's second model, judged at each event: it is asked of all of them."""
    faults = second.learner.faults
    if faults.any:
        _watch_calls(shard, faults, Condition.SECOND_ERRORS, second_error_sign, out)
    if shard.episodes.open and not faults.open and Condition.SECOND_ERRORS.named() in shard.episodes.open:
        judge(shard, [Verdict(Condition.SECOND_ERRORS.named(), None)], out)  # of one that has begun anew since


def _watch_calls(shard: Shard, faults: Faults, condition: Condition, sign_of: ErrorSign, out: Outbox) -> None:
    name, pipeline = condition.named(), shard.pipeline
    match faults.turn(pipeline.limits.model_error_max):
        case "opened":
            notice(shard, name, sign_of(pipeline, faults.recent_count, rests=False), out, holds=True)
        case "ongoing":
            notice(shard, name, sign_of(pipeline, faults.recent_count, rests=True), out, holds=True)
        case "resolved":
            judge(shard, [Verdict(name, None)], out)
        case None if faults.open and shard.episodes.reminds(pipeline.alerts, name, shard.moment()):
            notice(shard, name, sign_of(pipeline, faults.recent_count, rests=faults.resting > 0), out, holds=True)


def watch_guard(shard: Shard, passed: Judged | Passed, out: Outbox) -> None:
    """Rungs of the guard tripped: count them, and alert where the one that decided stops too many predictions.

    No alert for a new model whose predictions are only flagged, nor for a prediction that is not finite: that is an
    incident of the model.
    """
    for trip in passed.tripped:
        shard.count(f"guard_{trip.rung}_{trip.action}")
    if passed.instead is not None:
        shard.count(f"instead_{passed.instead}")
    trip = passed.tripped[-1]
    if trip.action == "hold" and passed.holding is None:
        shard.count("review_full")
    if trip.rung == "finite" or (trip.rung == "untrained" and trip.action == "flag"):
        return
    tripped, count = shard.kept.recent(trip.rung)
    most = shard.pipeline.alerts.guard_max
    if tripped <= most * count or (most and tripped < TRIPS_MIN):
        return
    sign = guard_sign(shard.pipeline, trip, _SERVED[passed.instead or passed.guard], tripped, count)
    notice(shard, Condition.GUARD.named(trip.rung), sign, out, holds=True)


def calm_guard(shard: Shard, out: Outbox) -> None:
    """A block of predictions is full: rungs that stopped few of it and of the one before are no trouble any more."""
    limit = shard.pipeline.alerts.guard_max
    verdicts = []
    for name in shard.episodes.open:
        if Condition.has(name, Condition.GUARD):
            tripped, count = shard.kept.recent(cast("Rung", name.partition(":")[2]))
            if tripped <= eased(limit, True, count, up=False) * count:
                verdicts.append(Verdict(name, None))
    judge(shard, verdicts, out)


_SERVED: Final[Mapping[str, str]] = {
    "flagged": "it was served and marked",
    "clipped": "the limit was served instead",
    "last_good": "the last good model's prediction was served instead",
    "last_value": "the last value of its series was served instead",
    "seasonal": "the value of a season ago was served instead",
    "second_model": "the second model's prediction was served instead",
    "value": "the fixed value was served instead",
    "withheld": "nothing was served",
    "held": "a person is asked first",
}


def watch_labels(shard: Shard, delay_ms: int | None, out: Outbox) -> None:
    """An event's wait ended, or its first label came: watch the delay, and now and then judge it and the metrics."""
    if shard.watch.settle(delay_ms):
        judge(shard, shard.watch.judge_labels(shard.pipeline, shard.evaluation, shard.episodes.open), out)
    if delay_ms is not None and shard.monitors.of_fold:
        for drift in shard.monitors.on_value(Signal.LABEL_DELAY, max(0, delay_ms)):
            note_drift(shard, drift, out)


def watch_waits(shard: Shard, time_ms: int, out: Outbox) -> None:
    """Time has moved on: watch how many of the events whose wait is over now had their label.

    One by one in order of arrival, and not as labels come: they come early, and that none came is known a whole wait
    later, so a mixture of the two says little where traffic is uneven.
    """
    watch, monitors = shard.watch, shard.monitors
    for labelled in shard.pending.ended(time_ms):
        for drift in monitors.on_value(Signal.LABEL_RATE, 1 if labelled else 0):
            note_drift(shard, drift, out)
        if watch.end(labelled):
            judge(shard, watch.judge_coverage(shard.pipeline, shard.episodes.open), out)


def watch_strays(shard: Shard, out: Outbox) -> None:
    """A label found no event, or found it too late: look, if enough have."""
    strays = shard.strays
    if not shard.terms.strays_watched:
        return
    begin_window(shard)
    if strays.count >= strays.look_at:
        judge(shard, judge_strays(shard, timed=False), out)
    shard.watch.time_due_ms = min(shard.watch.time_due_ms, strays.look_ms)


def watch_silence(shard: Shard, out: Outbox) -> None:
    """Some events more were scored: see whether labels come."""
    if shard.terms.strays_watched:
        judge(shard, judge_silence(shard), out)
    else:
        shard.strays.check_at = NEVER


# -- operators


def answer(shard: Shard, control: Control, out: Outbox) -> None:
    """An operator speaks of an episode. Each command comes to every shard: those that it is not about pass it over."""
    episodes = shard.episodes
    if not control.episode.startswith(episodes.prefix):
        return
    episode = episodes.named(control.episode)
    if episode is None:
        reject(shard, control.source, "episode_unknown", f"no episode {control.episode!r} is open", out)
        return
    if control.command == "acknowledge":
        message = episodes.acknowledge(episode, shard.now_ms, control.by)
        shard.watch.time_due_ms = min(shard.watch.time_due_ms, episodes.due_ms)
    else:
        message = episodes.silence(episode, shard.now_ms, control.span_ms)
    _publish(shard, message, out)


# -- looking and publishing


def look(shard: Shard, out: Outbox) -> None:
    """Judge what goes by time, resolve what is over, and say when to look again."""
    watch, episodes, rules = shard.watch, shard.episodes, shard.pipeline.alerts
    scored, labelled = shard.accepted()
    if rules.throughput is not None:
        arrived = scored + watch.rejected["events"]
        verdicts = watch.judge_throughput(shard.pipeline, rules.throughput, shard.now_ms, arrived, episodes.open)
        judge(shard, verdicts, out)
    judge(shard, watch.judge_shares(shard.pipeline, scored, labelled, episodes.open), out)
    if shard.terms.strays_watched and shard.now_ms >= shard.strays.look_ms:
        judge(shard, judge_strays(shard, timed=True), out)
    if (progress := shard.loading.expire(shard.now_ms)) is not None:
        shard.count("load_given_up")
        notice_change(shard, given_up_sign(shard.pipeline, shard.loading.load, *progress), out)
    moment = shard.moment(out.place(shard.pipeline.topics))
    for message in episodes.advance(moment, rules, partial(stand_of, shard)):
        _publish(shard, message, out)
    again_ms = NEVER if watch.shares is None else shard.now_ms + LOOK_MS
    loaded_ms = NEVER if shard.loading.deadline_ms is None else shard.loading.deadline_ms
    strays_ms = shard.strays.look_ms if shard.terms.strays_watched else NEVER
    watch.time_due_ms = min(again_ms, watch.window_end_ms, episodes.due_ms, loaded_ms, strays_ms)


def judge(shard: Shard, verdicts: Iterable[Verdict], out: Outbox) -> None:
    """Conditions that hold are signs; those that do not are calm."""
    for verdict in verdicts:
        if verdict.sign is not None:
            notice(shard, verdict.signal, verdict.sign, out, holds=True)
        elif verdict.signal in shard.episodes.open:
            shard.episodes.calm(verdict.signal, shard.moment(out.place(shard.pipeline.topics)))
            shard.watch.time_due_ms = min(shard.watch.time_due_ms, shard.episodes.due_ms)


def calm(shard: Shard, signal: str, out: Outbox) -> None:
    """A condition does not hold, or not any more."""
    judge(shard, [Verdict(signal, None)], out)


def notice(shard: Shard, signal: str, sign: Sign, out: Outbox, *, holds: bool = False) -> None:
    """A sign of a problem: publish it if its episode says so."""
    message = shard.episodes.sign(
        shard.pipeline.alerts, signal, sign, shard.moment(out.place(shard.pipeline.topics)), holds=holds
    )
    shard.watch.time_due_ms = min(shard.watch.time_due_ms, shard.episodes.due_ms)
    _publish(shard, message, out)


def _publish(shard: Shard, message: Notice | None, out: Outbox) -> None:
    """Publish a message about an episode, with its id, its times and the positions to replay between."""
    if message is None:
        return
    content, episode = alert_of(shard.pipeline, message, shard.learner.version), message.episode
    out.outputs.append(
        Alert(
            out.alert_id(),
            shard.stamp_ms,
            shard.watermark_ms,
            episode.name,
            message.state,
            content.kind,
            content.severity,
            content.audience,
            message.sentence,
            content.evidence,
            dict(shard.positions),
            message.update,
            episode.opened_ms,
            episode.opened_at,
            content.runbook,
            episode.acknowledged,
            message.silenced,
            message.announced,
            episode.flapping,
            episode.acknowledged_by,
        )
    )
