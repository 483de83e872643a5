"""What an alert says: kind, severity, audience, one sentence for someone who does not program, and the
numbers behind it. `episode` decides when it is published; the wording of drift is in the table of `signal`.

Severity is `warning` unless users are hurt for certain, and the pipeline file may say otherwise by kind. `critical` is:

    concept_drift   the error rate has at least doubled or risen by ten percentage points (regression: the average error
                    has moved up by a quarter of the reference errors)
    performance     a metric is beyond its limit by more than a tenth of it
    label_coverage  less than half of the coverage that is requested
    label_match     more than half of the labels find no event, or none come
    data_quality    more than half of the records are rejected
    model_failure   a prediction is missing or comes from an older copy of the model; the model rests
    throughput      no events come any more
    guard           more than half of the latest predictions did not pass the guard; observations seem to be in another
                    unit

A change in features or scores and a late label are warnings: the model may well cope with them. `critical` is for
operations as well, whatever the audience.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs, to_builtins

from driftline.core.alert.condition import Condition
from driftline.core.alert.episode import Notice, Sign
from driftline.core.alert.kind import row_of
from driftline.core.drift.monitors import Drift
from driftline.core.drift.reaction import Reaction
from driftline.core.duration import spoken
from driftline.core.fault import WINDOW_CALLS
from driftline.core.output import Guard, ModelVersion, Trip
from driftline.core.pipeline import AlertKind, Role
from driftline.core.record import FeatureValue
from driftline.core.signal import FEATURES, Signal, feature_of
from driftline.core.signal.sentence import Facts
from driftline.core.task import task_of
from driftline.core.wording import percent, plain

if TYPE_CHECKING:
    from driftline.core.metric.culprit import Culprit
    from driftline.core.pipeline import Pipeline

GUARD_MIN = 100  # predictions, of which more than half must be stopped to be critical
FEATURES_SHOWN = 5  # of the features that moved, those that moved most


class AlertContent(Struct, frozen=True, gc=False):
    """An alert without the ids, times and positions that a shard adds; see `output.Alert` for the fields."""

    kind: AlertKind
    severity: str
    audience: tuple[str, ...]
    runbook: str
    evidence: dict[str, object]


def alert_of(pipeline: Pipeline, notice: Notice, version: ModelVersion) -> AlertContent:
    """A message about an episode as it is published.

    Args:
        version: of the model at this moment; that of the last sign stays in the evidence.
    """
    kind = notice.episode.sign.kind
    rules = pipeline.alerts
    audience: tuple[Role, ...] = rules.audience.get(kind) or row_of(kind).audience
    if notice.severity == "critical" and "operations" not in audience:
        audience = (*audience, "operations")
    return AlertContent(
        kind,
        notice.severity,
        tuple(dict.fromkeys(audience)),
        f"{rules.runbook}#{kind.replace('_', '-')}",
        {**notice.episode.sign.evidence, "model_version": str(version)},
    )


# -- drift


def signal_of(drift: Drift) -> str:
    """The episode that a drift belongs to: all detectors of one signal, and all features, share theirs."""
    return Signal.read(drift.signal)[0].row.episode


def drift_sign(pipeline: Pipeline, drift: Drift, before: Sign | None, culprit: Culprit | None = None) -> Sign:
    """What one detection means.

    Args:
        culprit: of an error, the segment that moved most.
        before: the last sign of the same episode, where one is open: the features that moved since it began are kept.
    """
    signal, what = Signal.read(drift.signal)
    row, task = signal.row, task_of(pipeline.task)
    if culprit is not None:
        culprit = structs.replace(culprit, segment=f"{pipeline.metric_by.segment} {culprit.segment}")
    facts = Facts(pipeline.name, task, what, pipeline.quantity, pipeline.unit, drift, culprit)
    evidence: dict[str, object] = {
        "signal": drift.signal,
        "detector": drift.detector,
        "direction": drift.direction,
        "before": drift.before,
        "count_before": drift.count_before,
        "after": drift.after,
        "count_after": drift.count_after,
        "observed": drift.observed,
        "detection": drift.detection,
    }
    if drift.mean_before is not None and drift.mean_after is not None:
        evidence |= {"mean_before": drift.mean_before, "mean_after": drift.mean_after}
    if culprit is not None:
        evidence["segment"] = to_builtins(culprit)
    sentence = row.sentence(facts)
    if drift.moved:
        evidence["moved"] = _moved(drift, before)
    if row.episode == FEATURES:
        earlier: Any = before.evidence.get("found", []) if before is not None else []
        others = [one for one in earlier if one != drift.signal][: FEATURES_SHOWN - 1]
        evidence["found"] = [drift.signal, *others]
        names = dict.fromkeys(feature_of(one) for one in others if feature_of(one) != feature_of(drift.signal))
        if names:
            sentence = f"{sentence.removesuffix('.')}; {_listed(list(names))} also changed."
    calm = f"No further change in {row.calm.format(pipeline.name)} has been seen"
    return Sign(row.kind, row.severity(facts), sentence, calm, evidence)


def _moved(drift: Drift, before: Sign | None) -> list[dict[str, Any]]:
    """What moved most in this episode, first the furthest; of what moved again, the latest move."""
    moved: list[dict[str, Any]] = [to_builtins(move) for move in drift.moved]
    known = {move["signal"] for move in moved}
    earlier: Any = before.evidence.get("moved", []) if before is not None else []
    moved += [move for move in earlier if move["signal"] not in known]
    moved.sort(key=lambda move: -move["size"])
    return moved[:FEATURES_SHOWN]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def reaction_sign(pipeline: Pipeline, reaction: Reaction) -> Sign:
    """A change of the model, over as soon as it is reported."""
    drift = reaction.drift
    sentence = _changed(pipeline.name, reaction)
    evidence: dict[str, object] = {
        "reaction": reaction.act,
        "signal": drift.signal,
        "detector": drift.detector,
        "detection": drift.detection,
        "learned": reaction.learned,
    }
    return Condition.CHANGE.sign("warning", sentence, sentence, evidence)


def _changed(name: str, reaction: Reaction) -> str:
    """What was done to a model, and why."""
    signal, what = Signal.read(reaction.drift.signal)
    why = f"because {signal.row.cause.format(what)} changed (see the previous alert)"
    match reaction.act:
        case "boost":
            return f"{name} is learning faster for a while, {why}."
        case "swap" if reaction.since is not None:
            labels = "label" if reaction.learned == 1 else f"{reaction.learned:,} labels"
            return f"A background model trained on the last {labels} now serves {name}, {why}."
    return f"{name} was reset to an untrained model, {why}: expect poor predictions until it has learned."


def load_sign(pipeline: Pipeline, load: str, learned: int, sha256: str, by: str) -> Sign:
    """A model that was trained elsewhere serves, by a command of `by`, where it names its sender."""
    who = f"A command from {by}" if by else "An operator"
    sentence = f"{who} loaded a model trained on {learned:,} {task_of(pipeline.task).learns_from} into {pipeline.name}."
    evidence: dict[str, object] = {"reaction": "load", "load": load, "learned": learned, "sha256": sha256}
    if by:
        evidence["by"] = by
    return Condition.CHANGE.sign("warning", sentence, sentence, evidence)


def given_up_sign(pipeline: Pipeline, load: str, parts: int, count: int) -> Sign:
    """A model file that never came whole."""
    sentence = (
        f"Loading a model into {pipeline.name} was abandoned because parts of it did not arrive; the current model "
        "stays. Load it again."
    )
    evidence: dict[str, object] = {"reaction": "none", "load": load, "parts": parts, "count": count}
    return Condition.CHANGE.sign("warning", sentence, sentence, evidence)


# -- the model


def failure_sign(pipeline: Pipeline, guard: Guard) -> Sign:
    """A model whose prediction was not a finite number, or no probability.

    Args:
        guard: who served instead, if anyone could.
    """
    name = pipeline.name
    right = "a probability from 0 to 1" if task_of(pipeline.task).classes else "a finite number"
    if guard == "fallback":
        sentence = f"The model of {name} returned a prediction that is not {right}: its last good copy has taken over."
    else:
        sentence = (
            f"The model of {name} and its last good copy returned predictions that are not {right}: events get no "
            "prediction until it recovers."
        )
    return Condition.BROKEN.sign("critical", sentence, f"{name} has given usable predictions", {"guard": guard})


def guard_sign(pipeline: Pipeline, trip: Trip, served: str, tripped: int, count: int) -> Sign:
    """A prediction that did not pass a rung of the guard.

    Args:
        served: what was served instead, in words.
        tripped: how many of the latest `count` predictions it stopped.
    """
    name, limit, excess = pipeline.name, trip.limit or 0.0, trip.excess or 0.0
    match trip.rung:
        case "untrained":
            what = f"The model of {name} has learned {limit + excess:,.0f} labels, fewer than {limit:,.0f}"
        case "unfamiliar":
            what = f"An event of {name} is unlike anything that its model has learned from, in {trip.feature}"
        case "share":
            share = percent(limit + excess)
            what = f"{share} of the latest predictions of {name} are positive, more than {percent(limit)}"
        case "distribution":
            what = f"The latest predictions of {name} are distributed unlike earlier ones: {limit + excess:.2f} apart"
        case "step":
            side = "more than the" if excess > 0 else "less than the"
            what = f"A prediction of {name} jumped: it is {abs(excess):.4g} {side} {limit:.4g} that its series allows"
        case _:
            side = "above" if excess > 0 else "below"
            what = f"A prediction of {name} is {abs(excess):.4g} {side} its limit of {limit:.4g}"
    sentence = f"{what}; {served}. The guard objected to {tripped:,} of the last {count:,} predictions."
    evidence: dict[str, object] = {
        "signal": trip.rung, "action": trip.action, "limit": limit, "excess": excess,
        "tripped": tripped, "count": count, **({"feature": trip.feature} if trip.feature else {}),
    }  # fmt: skip
    calm = f"The guard of {name} ({trip.rung}) has stopped few predictions"
    severe = count >= GUARD_MIN and tripped > count / 2 and trip.action != "flag"
    return Condition.GUARD.sign("critical" if severe else "warning", sentence, calm, evidence)


def level_sign(pipeline: Pipeline, series: Sequence[FeatureValue], times: float, count: int) -> Sign:
    """Observations that lie so far from the level of their series that it does not follow them.

    Args:
        series: values of `forecast.by` of the one that was found last.
        times: as many times as large as the level.
        count: of such series.
    """
    name, form = pipeline.name, pipeline.forecast
    fields = () if form is None else form.by
    named = ", ".join(f"{field} {value}" for field, value in zip(fields, series, strict=False)) or "the series"
    far = f"{plain(times)} times as large as" if times > 1 else f"{plain(1 / times)} times smaller than"
    more = f" {count:,} series are like this." if count > 1 else ""
    sentence = (
        f"Observations of {name} ({named}) have been {far} their level for a while, as if in another unit.{more} "
        "Forecasts keep to the old level until the data is fixed, or someone confirms the new level."
    )
    evidence: dict[str, object] = {
        "signal": "level", "series": list(series), "times": times, "count": count, "limit": _settle_ratio(pipeline),
    }  # fmt: skip
    calm = f"No series of {name} has been far from its level"
    return Condition.LEVEL.sign("critical", sentence, calm, evidence)


def _settle_ratio(pipeline: Pipeline) -> float | None:
    return None if pipeline.guard is None else pipeline.guard.settle_ratio


def error_sign(pipeline: Pipeline, count: int, *, rests: bool) -> Sign:
    """A model that raises exceptions, or rests because of them.

    Args:
        count: exceptions among its last calls.
    """
    name = pipeline.name
    if rests:
        sentence = (
            f"The model of {name} raises so many errors that it is paused for a while at a time: events get no "
            "prediction meanwhile."
        )
    else:
        sentence = (
            f"The model of {name} failed on {count} of the last {WINDOW_CALLS:,} events and labels: those events were "
            "rejected, and those labels were not learned."
        )
    calm = f"The model of {name} has raised no errors"
    evidence: dict[str, object] = {"errors": count, "calls": WINDOW_CALLS}
    return Condition.ERRORS.sign("critical" if rests else "warning", sentence, calm, evidence)


def second_error_sign(pipeline: Pipeline, count: int, *, rests: bool) -> Sign:
    """The same of the guard's second model: events keep their prediction, and what stands in for it is the next
    fallback."""
    name = pipeline.name
    if rests:
        sentence = (
            f"The second model of {name} raises so many errors that it is paused for a while at a time: where the "
            "guard stops a prediction meanwhile, the next fallback is served."
        )
    else:
        sentence = (
            f"The second model of {name} failed on {count} of its last {WINDOW_CALLS:,} calls: it learned nothing "
            "there, and could not stand in for the first model."
        )
    calm = f"The second model of {name} has raised no errors"
    evidence: dict[str, object] = {"errors": count, "calls": WINDOW_CALLS, "model": "second"}
    return Condition.SECOND_ERRORS.sign("warning", sentence, calm, evidence)


def second_failure_sign(pipeline: Pipeline, *, answers: bool) -> Sign:
    """The guard's second model gave a prediction that was not a finite number, or no probability.

    Args:
        answers: its last good copy has a usable one.
    """
    name = pipeline.name
    right = "a probability from 0 to 1" if task_of(pipeline.task).classes else "a finite number"
    if answers:
        sentence = (
            f"The second model of {name} returned a prediction that is not {right}: its last good copy has taken over."
        )
    else:
        sentence = (
            f"The second model of {name} and its last good copy returned predictions that are not {right}: it cannot "
            "stand in for the first model until it recovers."
        )
    calm = f"The second model of {name} has given usable predictions"
    return Condition.SECOND_BROKEN.sign("warning", sentence, calm, {"model": "second"})


# -- limits


def performance_sign(pipeline: Pipeline, metric: str, value: float, limit: float, *, least: bool, count: int) -> Sign:
    """A metric beyond its limit.

    Args:
        least: the limit is a minimum.
        count: labels that the value is of.
    """
    name, side = pipeline.name, "below" if least else "above"
    sentence = f"Over the last {count:,} labels, {metric} of {name} is {value:.4g}, {side} its limit of {limit:.4g}."
    beyond = (limit - value if least else value - limit) > abs(limit) / 10
    calm = f"{metric} of {name} has been within its limit"
    evidence: dict[str, object] = {"signal": metric, "value": value, "limit": limit, "count": count}
    return Condition.PERFORMANCE.sign("critical" if beyond else "warning", sentence, calm, evidence)


def undefined_sign(pipeline: Pipeline, metric: str, count: int) -> Sign:
    """A metric that was beyond its limit, and has no value now: whether the problem is over cannot be seen."""
    sentence = (
        f"Over the last {count:,} labels, {metric} of {pipeline.name} has no value (all of one class, or without a "
        "prediction), so it is unknown whether it is back within its limit."
    )
    calm = f"{metric} of {pipeline.name} has been within its limit"
    evidence: dict[str, object] = {"signal": metric, "count": count}
    return Condition.PERFORMANCE.sign("warning", sentence, calm, evidence, news=True)


def coverage_sign(pipeline: Pipeline, coverage: float, least: float, count: int) -> Sign:
    """Too few events get a label."""
    sentence = (
        f"Only {percent(coverage)} of the last {count:,} events of {pipeline.name} received their label in time "
        f"(limit: {percent(least)}). Without labels the model cannot learn or be evaluated."
    )
    calm = f"Enough events of {pipeline.name} have received their label"
    evidence: dict[str, object] = {"signal": "label coverage", "value": coverage, "limit": least, "count": count}
    return Condition.COVERAGE.sign("critical" if coverage < least / 2 else "warning", sentence, calm, evidence)


def delay_sign(pipeline: Pipeline, late: float, limit_ms: int, count: int) -> Sign:
    """Most labels come too late."""
    sentence = (
        f"{percent(late)} of the last {count:,} labels of {pipeline.name} arrived more than {spoken(limit_ms)} after "
        "their event, so learning and evaluation lag behind."
    )
    calm = f"Most labels of {pipeline.name} have arrived in time"
    evidence: dict[str, object] = {"signal": "label delay", "value": late, "limit_ms": limit_ms, "count": count}
    return Condition.DELAY.sign("warning", sentence, calm, evidence)


def rejected_sign(pipeline: Pipeline, what: str, share: float, limit: float, count: int, reason: str) -> Sign:
    """Too many records cannot be used.

    Args:
        what: `events` or `labels`.
        reason: of the latest rejection.
    """
    sentence = (
        f"{percent(share)} of the last {count:,} {what} of {pipeline.name} were rejected (limit: {percent(limit)}), "
        f"most recently as {reason}."
    )
    calm = f"Rejected {what} of {pipeline.name} have stayed within their limit"
    evidence: dict[str, object] = {
        "signal": f"rejected {what}", "value": share, "limit": limit, "count": count, "reason": reason,
    }  # fmt: skip
    return Condition.REJECTED.sign("critical" if share > 0.5 else "warning", sentence, calm, evidence)


def missing_sign(pipeline: Pipeline, feature: str, share: float, limit: float, count: int) -> Sign:
    """A feature is missing from too many events."""
    sentence = (
        f"{feature} is missing from {percent(share)} of the last {count:,} events of {pipeline.name} "
        f"(limit: {percent(limit)})."
    )
    calm = f"{feature} has been present in enough events of {pipeline.name}"
    evidence: dict[str, object] = {"signal": f"missing {feature}", "value": share, "limit": limit, "count": count}
    return Condition.MISSING.sign("warning", sentence, calm, evidence)


def throughput_sign(pipeline: Pipeline, count: int, usual: float, window_ms: int) -> Sign:
    """No events come any more, or far more than usual."""
    span = spoken(window_ms)
    if count == 0:
        sentence = f"No events of {pipeline.name} arrived within {span} (usual: about {usual:,.0f})."
    else:
        sentence = f"{count:,} events of {pipeline.name} arrived within {span} (usual: about {usual:,.0f})."
    calm = f"Events of {pipeline.name} have arrived at their usual rate"
    evidence: dict[str, object] = {"signal": "events", "before": usual, "after": count, "window_ms": window_ms}
    return Condition.THROUGHPUT.sign("critical" if count == 0 else "warning", sentence, calm, evidence)
