"""What an observation does to a shard: the truth of what was forecast of it, then a forecast of its own.

    observe -> judge what was served -> intervals -> detectors -> learn -> Outcome
            -> rows -> forecast -> guard -> intervals -> remember -> Score

An observation out of order is settled by `core.forecast.forecasts.Place`; only one that is the newest of its series has
a forecast.
"""

from __future__ import annotations

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import failure_sign
from driftline.core.error import InvariantError
from driftline.core.fault import ModelRaisedError
from driftline.core.fold.feedback import learn
from driftline.core.fold.incident import note_drift, notice, reject, watch_faults
from driftline.core.fold.kpi import price_truth
from driftline.core.forecast.forecasts import SERVED, Forecasts, Observed
from driftline.core.history.keys import Keys
from driftline.core.output import (
    Guard,
    ModelVersion,
    Outcome,
    OutcomeKind,
    Prediction,
    Priced,
    Score,
    Several,
    Stakes,
)
from driftline.core.record import Event
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard

_NOTHING = Prediction()


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
    _judge(shard, forecasts, keys, event, found, out)
    served = _serve(shard, forecasts, event, found, out) if found.place in SERVED else None
    forecasts.keep(keys, found)
    return served


# -- the truth of what was forecast


def _judge(shard: Shard, forecasts: Forecasts, keys: Keys, event: Event, found: Observed, out: Outbox) -> None:
    """Evaluate what was served, let intervals and detectors see it, learn, and publish it."""
    now_ms, judged, pipeline = shard.watermark_ms or 0, found.judged, shard.pipeline
    forecasts.settle(found, shard.maturity.segment_of(event.features, forecasts.segments), len(keys))
    prediction, value = _NOTHING, found.value
    if judged is not None:
        prediction = Prediction(value=judged.values[0])
        if shard.terms.limited:
            shard.watch.judge(judged.versions[0].generation, shard.learner.generation)
        for horizon, ahead in zip(judged.horizons, judged.values, strict=True):
            one = Prediction(value=ahead)
            shard.evaluation.update(value, one)
            first, delay_ms = ahead is judged.values[0], horizon * judged.step_ms
            shard.maturity.on_label(pipeline, value, delay_ms, one, event.features, now_ms, first=first)
    priced: tuple[Priced, ...] = ()
    stakes: Stakes | None = None
    if judged is not None and shard.terms.priced:
        served = {at: Prediction(value=one) for at, one in zip(judged.horizons, judged.values, strict=True)}
        priced, stakes = price_truth(shard, event, served, value, out)
    output_id = f"{out.record}-1"
    taught = forecasts.teach(found, rows=shard.learner.sees_rows)
    failure = learn(shard, taught, found.value, output_id, event.time_ms, out.oracle)
    kind: OutcomeKind = "joined" if failure is None else "failed"
    shard.count(kind)
    source, late = event.source, "late" if found.place == "late" else None
    version = judged.versions[0] if judged is not None else shard.learner.version
    out.made.append(
        Outcome(
            output_id, kind, source.key, shard.stamp_ms, event.event_id, event.time_ms, event.features, prediction,
            version, value, event.time_ms, failure or late, partition=shard.own(source), judged=judged,
            priced=priced, stakes=stakes,
        )
    )  # fmt: skip
    if failure is not None:
        watch_faults(shard, out)
    if judged is not None:
        scale = judged.scale or 1.0
        for drift in shard.monitors.on_label(value / scale, Prediction(value=judged.values[0] / scale)):
            note_drift(shard, drift, out)


def _unused(shard: Shard, event: Event, found: Observed, kind: OutcomeKind, detail: str, out: Outbox) -> None:
    """Publish that an observation was neither judged nor learned."""
    shard.count(kind)
    source, previous = event.source, found.before if kind == "corrected" else None
    out.made.append(
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
    asked = forecasts.ask(found, event.features, rows=learner.sees_rows)
    prediction, forecast = _NOTHING, None
    guard: Guard = "served"
    resting = learner.faults.resting > 0
    if asked is not None:
        try:
            _, prediction, guard = learner.score(asked, output_id, out.oracle)
        except ModelRaisedError as raised:
            reject(shard, event.source, "model_error", str(raised), out)
            watch_faults(shard, out)
            return None
        if guard != "served":
            version, learned = learner.version, learner.known
        if isinstance(prediction, Several):
            forecast = forecasts.serve(found, asked, prediction.ahead, event.features, version)
            prediction = Prediction(value=forecast.values[0])
    shard.count("scored")
    features = event.features
    out.made.append(
        Score(
            output_id, event.source, event.event_id, event.time_ms, prediction, None, guard, version, features, learned,
            forecast=forecast,
        )
    )  # fmt: skip
    shard.maturity.on_score(prediction)
    if learner.faults.open:
        watch_faults(shard, out)
    if guard != "served" and not resting:
        notice(shard, Condition.BROKEN.named(), failure_sign(shard.pipeline, guard), out)
    return prediction
