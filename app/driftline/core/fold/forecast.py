"""What an observation does to a shard: the truth of what was forecast of it, then a forecast of its own.

    observe -> judge what was served -> intervals -> detectors -> learn -> Outcome
            -> rows -> forecast -> guard -> intervals -> remember -> Score

An observation out of order is settled by `core.forecast.forecasts.Place`; only one that is the newest of its series has
a forecast.
"""

from __future__ import annotations

from collections.abc import Sequence

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import failure_sign, level_sign
from driftline.core.error import InvariantError
from driftline.core.fault import ModelRaisedError
from driftline.core.fold.guard import ask_second
from driftline.core.fold.incident import (
    calm,
    calm_guard,
    note_drift,
    notice,
    reject,
    watch_faults,
    watch_guard,
    watch_labels,
)
from driftline.core.fold.kpi import price_truth
from driftline.core.fold.learning import learn, learn_beside
from driftline.core.fold.review import hold_ahead
from driftline.core.forecast.forecasts import SERVED, Draft, Forecasts, Observed
from driftline.core.guard.ahead import AheadLadder, Passed
from driftline.core.guard.kept import BLOCK, CLEAN
from driftline.core.history.keys import Keys
from driftline.core.output import (
    MODEL,
    Guard,
    Instead,
    ModelVersion,
    Outcome,
    OutcomeKind,
    Prediction,
    Priced,
    Score,
    Several,
    Stakes,
    Unserved,
)
from driftline.core.record import Event
from driftline.core.river.ahead import Asked
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard

_NOTHING = Prediction()
_SERVED: Guard = "served"


def observe(shard: Shard, event: Event, out: Outbox) -> Prediction | None:
    """Settle an observation, and forecast what follows it.

    Args:
        event: with its computed features.

    Returns:
        What was served; None where there was nothing to serve.
    """
    forecasts, keys = shard.forecasts, shard.history.series
    if forecasts is None or keys is None:
        raise InvariantError("a shard that forecasts nothing was to forecast")
    if event.time_ahead:
        detail = "its time lies further ahead than limits.time_ahead_max, so it has no place in its series"
        reject(shard, event.source, "time_ahead", detail, out)
        return None
    read = forecasts.read(event)
    if read is None:
        detail = "a field of forecast.by, or forecast.target, is missing"
        reject(shard, event.source, "feature_missing", detail, out)
        return None
    found = forecasts.observe(keys, event, *read)
    shard.count(f"forecast_{found.place}")
    if found.place == "too_late":
        _unused(shard, event, found, "late", "its step is older than what is kept of the series", out)
        return None
    if found.place == "repeated":
        kind: OutcomeKind = "duplicate" if found.before == found.value else "corrected"
        _unused(shard, event, found, kind, "another observation of the same step; the first one counts", out)
        forecasts.keep(keys, found)
        return None
    if len(found.added) > 1:
        shard.counts["forecast_missed_steps"] = shard.counts.get("forecast_missed_steps", 0) + len(found.added) - 1
    learned = _judge(shard, forecasts, keys, event, found, out)
    if isinstance(shard.ladder, AheadLadder) and found.place in SERVED:
        _watch_level(shard, shard.ladder, found, out)
    served = _serve(shard, forecasts, event, found, out) if found.place in SERVED else None
    evicted = keys.evicted
    forecasts.keep(keys, found)
    if shard.kept.apart and keys.evicted > evicted:
        _forget_levels(shard, keys, out)
    if learned and shard.ladder is not None and shard.ladder.knows:
        shard.kept.learn(event.features)
    return served


def _watch_level(shard: Shard, ladder: AheadLadder, found: Observed, out: Outbox) -> None:
    """See where the series is; alert where its observations are too far from there."""
    kept = shard.kept
    ladder.watch(kept, found)
    times = kept.apart.get(found.key)
    if times is not None:
        sign = level_sign(shard.pipeline, found.names, times, len(kept.apart))
        notice(shard, Condition.LEVEL.named(), sign, out, holds=True)
    elif not kept.apart:
        _calm_level(shard, out)


def _forget_levels(shard: Shard, keys: Keys, out: Outbox) -> None:
    """A series that was dropped is not far from its level any more."""
    apart = shard.kept.apart
    for key in [one for one in apart if one not in keys]:
        del apart[key]
    if not apart:
        _calm_level(shard, out)


def _calm_level(shard: Shard, out: Outbox) -> None:
    name = Condition.LEVEL.named()
    if name in shard.episodes.open:
        calm(shard, name, out)


# -- the truth of what was forecast


def _judge(shard: Shard, forecasts: Forecasts, keys: Keys, event: Event, found: Observed, out: Outbox) -> bool:
    """Evaluate what was served, let intervals and detectors see it, learn, and publish it; returns whether it was
    learned."""
    now_ms, judged, pipeline = shard.watermark_ms or 0, found.judged, shard.pipeline
    forecasts.settle(found, shard.maturity.segment_of(event.features, forecasts.segments), len(keys))
    prediction, value = _NOTHING, found.value
    if judged is not None:
        prediction = Prediction(value=next((ahead for ahead in judged.values if ahead is not None), None))
        if shard.terms.limited:
            shard.watch.judge(judged.versions[0].generation, shard.learner.generation)
        answered = [(at, ahead) for at, ahead in zip(judged.horizons, judged.values, strict=True) if ahead is not None]
        each = [Prediction(value=ahead) for _, ahead in answered]
        delays_ms = [horizon * judged.step_ms for horizon, _ in answered]
        shard.evaluation.update_all(value, each)
        shard.maturity.on_truth(pipeline, value, delays_ms, each, event.features, now_ms)
    priced: tuple[Priced, ...] = ()
    stakes: Stakes | None = None
    if judged is not None and shard.terms.priced:
        answers = zip(judged.horizons, judged.values, strict=True)
        served = {at: Prediction(value=one) for at, one in answers if one is not None}
        priced, stakes = price_truth(shard, event, served, value, out)
    output_id = f"{out.record}-1"
    if shard.second is not None and judged is not None:
        shard.second.compare_ahead(found.value, judged)
    if shard.second is not None and not shard.frozen and not shard.stopped:
        beside = forecasts.teach(found, sees=shard.second.learner.sees)
        learn_beside(shard, shard.second, beside, found.value, output_id, min(event.time_ms, now_ms), out.oracle)
    taught = forecasts.teach(found, sees=shard.learner.sees)
    failure = learn(shard, taught, found.value, output_id, event.time_ms, out.oracle)
    kind: OutcomeKind = "joined" if failure is None else "failed"
    shard.count(kind)
    source, late = event.source, "late" if found.place == "late" else None
    version = judged.versions[0] if judged is not None else shard.learner.version
    out.outputs.append(
        Outcome(
            output_id, kind, source.key, shard.stamp_ms, event.event_id, event.time_ms, event.features, prediction,
            version, value, event.time_ms, failure or late, partition=shard.own(source), judged=judged,
            priced=priced, stakes=stakes,
        )
    )  # fmt: skip
    if failure is not None:
        watch_faults(shard, out)
    if judged is not None and shard.terms.limited:
        watch_labels(shard, 0, out)
    if judged is not None and prediction.value is not None:
        scale = judged.scale or 1.0
        for drift in shard.monitors.on_label(value / scale, Prediction(value=prediction.value / scale), scale):
            note_drift(shard, drift, out)
    return failure is None and not shard.frozen


def _unused(shard: Shard, event: Event, found: Observed, kind: OutcomeKind, detail: str, out: Outbox) -> None:
    """Publish that an observation was neither judged nor learned."""
    shard.count(kind)
    source, previous = event.source, found.before if kind == "corrected" else None
    out.outputs.append(
        Outcome(
            f"{out.record}-1", kind, source.key, shard.stamp_ms, event.event_id, None, None, None, None, found.value,
            event.time_ms, detail, previous, shard.own(source),
        )
    )  # fmt: skip


# -- the forecast


def _serve(shard: Shard, forecasts: Forecasts, event: Event, found: Observed, out: Outbox) -> Prediction | None:
    """Ask the model, and publish what it says with its intervals."""
    learner, output_id = shard.learner, out.own_id()
    version, learned = ModelVersion(learner.generation, learner.learned), learner.known
    asked = forecasts.ask(found, event.features, sees=learner.sees)
    prediction, finite, forecast, passed = _NOTHING, _SERVED, None, None
    resting = learner.faults.resting > 0
    if asked is not None:
        try:
            predicted = learner.score(asked, output_id, out.oracle)
        except ModelRaisedError as raised:
            reject(shard, event.source, "model_error", str(raised), out)
            watch_faults(shard, out)
            return None
        _, answer, finite = predicted
        if finite != "served":
            version, learned = learner.version, learner.known
        ahead = answer.ahead if isinstance(answer, Several) else None
        if ahead is not None or (shard.ladder is not None and finite == "withheld"):
            draft = forecasts.draft(found, asked, ahead)
            if isinstance(shard.ladder, AheadLadder):
                passed = _guarded(shard, shard.ladder, forecasts, found, asked, draft, event, finite, out)
                draft = passed.draft
            other = None if passed is None else passed.second
            forecast = forecasts.serve(found, asked, draft, event.features, version, other)
            prediction = forecast.nearest
    shard.count("scored")
    guard, tripped, instead = (finite, (), None) if passed is None else (passed.guard, passed.trips, passed.instead)
    unserved = _unserved(passed, version) if passed is not None and passed.draft.changed else ()
    score = Score(
        output_id, event.source, event.event_id, event.time_ms, prediction, None, guard, version, event.features,
        learned, tripped, instead, unserved, None if guard == "held" else forecast,
    )  # fmt: skip
    out.outputs.append(score)
    shard.maturity.on_score(prediction)
    if learner.faults.open:
        watch_faults(shard, out)
    if finite != "served" and not resting:
        notice(shard, Condition.BROKEN.named(), failure_sign(shard.pipeline, finite), out)
    if passed is not None and passed.tripped:
        watch_guard(shard, passed, out)
        if passed.holding is not None:
            hold_ahead(shard, score, passed.holding, out)
    return prediction


def _unserved(passed: Passed, version: ModelVersion) -> tuple[Unserved, ...]:
    """What the model forecast at the horizons where something else is served, and nothing elsewhere."""
    made = passed.draft.made
    rung = passed.tripped[-1].rung if passed.tripped else ""
    return (Unserved(MODEL, Prediction(value=made[0]), version, rung, made),)


def _guarded(
    shard: Shard, ladder: AheadLadder, forecasts: Forecasts, found: Observed, asked: Asked, draft: Draft, event: Event,
    finite: Guard, out: Outbox,
) -> Passed:  # fmt: skip
    """What the guard lets pass of a forecast."""
    learner, kept, call, oracle = shard.learner, shard.kept, out.own_id(), out.oracle

    second = shard.second
    beside = None if second is None else forecasts.ask(found, event.features, sees=second.learner.sees)
    answer = None if beside is None else ask_second(shard, beside, out)
    own = answer.prediction.ahead if answer is not None and isinstance(answer.prediction, Several) else None
    forecasts.latest = asked

    def ask(which: Instead) -> tuple[Sequence[float] | None, int]:
        if which == "last_good":
            prediction, known = learner.ask_good(asked, call, oracle)
        else:
            return own, 0 if second is None else second.learner.known
        return prediction.ahead if isinstance(prediction, Several) else None, known

    if ladder.compares:
        kept.outputs.follow(learner.generation)
    room = event.event_id not in kept.held
    passed = ladder.judge_ahead(
        kept, forecasts, found, draft, finite, event.features, learner.known, ask, room=room
    )  # fmt: skip
    learner.trusted = kept.clean >= CLEAN
    if kept.filled == BLOCK:
        calm_guard(shard, out)
    return passed if own is None else passed._replace(second=forecasts.restored(own))
