"""What an alert says: kind, severity, audience, one sentence for someone who does not program, and the
numbers behind it.

Severity is `warning` unless users are hurt for certain: `critical` where a served prediction is missing or
comes from an older copy of the model, and where the error rate has at least doubled or risen by ten
percentage points (regression: the average error has moved up by a quarter of the reference errors). A change
in features or scores is a warning: the model may well cope with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from msgspec import Struct, to_builtins

from app.core.drift import Drift
from app.core.output import Guard, ModelVersion
from app.core.poison import WINDOW_CALLS
from app.core.reaction import Reaction
from app.core.telling import kind_of, percent, telling, telling_of

if TYPE_CHECKING:
    from app.core.model import Learner
    from app.core.pipeline import Pipeline

Kind: TypeAlias = Literal[
    "data_drift",
    "concept_drift",
    "score_drift",
    "data_quality",
    "label_coverage",
    "label_delay",
    "model_failure",
    "model_change",
]
Severity: TypeAlias = Literal["warning", "critical"]
State: TypeAlias = Literal["opened", "ongoing", "resolved"]

_AUDIENCES: dict[Kind, tuple[str, ...]] = {
    "data_drift": ("data_engineering", "data_science"),
    "concept_drift": ("data_science", "domain_expert"),
    "score_drift": ("data_science", "operations"),
    "data_quality": ("data_engineering", "data_science"),
    "label_coverage": ("data_engineering", "domain_expert"),
    "label_delay": ("data_engineering", "domain_expert"),
    "model_failure": ("operations", "data_science"),
    "model_change": ("data_science", "operations"),
}


class AlertContent(Struct, frozen=True, gc=False):
    """An alert without the ids, times and positions that a shard adds; see `output.Alert` for the fields."""

    episode: str
    state: State
    kind: Kind
    severity: Severity
    audience: tuple[str, ...]
    sentence: str
    evidence: dict[str, object]


def drift_alert(pipeline: Pipeline, partition: int, drift: Drift, version: ModelVersion) -> AlertContent:
    """The alert of one detection, as an episode of its own.

    Args:
        version: of the model at the moment of the detection.
    """
    kind = kind_of(drift.signal)
    severity = _severity(pipeline.task, drift) if kind == "concept_drift" else "warning"
    audience = _AUDIENCES[kind]
    if severity == "critical":
        audience = (*audience, "operations")
    return AlertContent(
        episode=f"{pipeline.name}-{partition}-{drift.monitor}-{drift.detection}",
        state="opened",
        kind=kind,
        severity=severity,
        audience=audience,
        sentence=_sentence(pipeline, drift),
        evidence={
            "signal": drift.signal,
            "detector": drift.detector,
            "direction": drift.direction,
            "before": drift.before,
            "count_before": drift.count_before,
            "after": drift.after,
            "count_after": drift.count_after,
            "observed": drift.observed,
            "detection": drift.detection,
            "model_version": str(version),
            **({"moved": [to_builtins(move) for move in drift.moved]} if drift.moved else {}),
        },
    )


def failure_alert(pipeline: Pipeline, episode: str, state: State, guard: Guard, version: ModelVersion) -> AlertContent:
    """The alert of a model whose prediction was no finite number, and of its recovery.

    Args:
        guard: who served instead, if anyone could; `served` when the model answers again.
    """
    match guard:
        case "served":
            sentence = f"{pipeline.name} gives usable predictions again."
        case "fallback":
            sentence = (
                f"The model of {pipeline.name} broke down and gave a prediction that is not a number: "
                "its last good copy has taken over."
            )
        case "withheld":
            sentence = (
                f"The model of {pipeline.name} broke down and its last good copy as well: "
                "events get no prediction until it recovers."
            )
        case _:
            assert_never(guard)
    return AlertContent(
        episode=episode,
        state=state,
        kind="model_failure",
        severity="critical",
        audience=_AUDIENCES["model_failure"],
        sentence=sentence,
        evidence={"guard": guard, "model_version": str(version)},
    )


def error_alert(pipeline: Pipeline, episode: str, state: State, learner: Learner) -> AlertContent:
    """The alert of a model that raises exceptions, that rests because of them, and that works again."""
    name, faults = pipeline.name, learner.faults
    count, rests = faults.recent_count, state == "ongoing"
    match state:
        case "opened":
            sentence = (
                f"The model of {name} failed on {count} of the last {WINDOW_CALLS:,} events and labels: those events "
                "were rejected, and those labels not learned."
            )
        case "ongoing":
            sentence = (
                f"The model of {name} fails on so many events that it rests for a while at a time: events get no "
                "prediction meanwhile."
            )
        case "resolved":
            sentence = f"The model of {name} works without errors again."
        case _:
            assert_never(state)
    return AlertContent(
        episode=episode,
        state=state,
        kind="model_failure",
        severity="critical" if rests else "warning",
        audience=_AUDIENCES["model_failure"],
        sentence=sentence,
        evidence={"errors": count, "calls": WINDOW_CALLS, "model_version": str(learner.version)},
    )


def reaction_alert(pipeline: Pipeline, partition: int, reaction: Reaction, version: ModelVersion) -> AlertContent:
    """The event of a change of the model, over as soon as it is told.

    Args:
        version: of the model that serves from now on.
    """
    drift = reaction.drift
    return AlertContent(
        episode=f"{pipeline.name}-{partition}-reaction-{version.generation}",
        state="resolved",
        kind="model_change",
        severity="warning",
        audience=_AUDIENCES["model_change"],
        sentence=telling_of(pipeline.name, reaction),
        evidence={
            "reaction": reaction.act,
            "signal": drift.signal,
            "detector": drift.detector,
            "detection": drift.detection,
            "learned": reaction.learned,
            "model_version": str(version),
        },
    )


def _severity(task: str, drift: Drift) -> Severity:
    rise = drift.after - drift.before
    if drift.signal == "loss":
        return "critical" if drift.after >= 2 * drift.before else "warning"
    if task == "regression":
        return "critical" if rise >= 0.25 else "warning"
    return "critical" if rise >= 0.1 or drift.after >= 2 * drift.before else "warning"


def _sentence(pipeline: Pipeline, drift: Drift) -> str:
    other = telling(pipeline.name, drift)
    if other is not None:
        return other
    name, rises = pipeline.name, drift.direction == "rise"
    unit = "labels" if drift.signal == "error" else "events"
    since = f"Since about {drift.count_after:,} {unit} ago"
    rates = f"{percent(drift.before)} before, {percent(drift.after)} now."
    classes = pipeline.task in ("binary", "multiclass")
    ranks = (
        f"on average above {percent(drift.before)} of the reference values before, "
        f"above {percent(drift.after)} of them now."
    )
    if drift.signal == "error":
        if classes:
            return f"{since} {name} has been wrong {'more' if rises else 'less'} often: {rates}"
        return f"{since} {name} has been {'further off' if rises else 'closer'}: its errors were {ranks}"
    if drift.signal == "score":
        if pipeline.task == "binary":
            higher = "higher" if rises else "lower"
            return f"{since} {name} has given {higher} probabilities: on average {rates}"
        if pipeline.task == "multiclass":
            return f"{since} {name} has been {'surer' if rises else 'less sure'} of its predictions: {rates}"
        scores = "anomaly scores" if pipeline.task == "anomaly" else "predictions"
        return f"{since} {name} has given {'higher' if rises else 'lower'} {scores}: {ranks}"
    feature = drift.signal.removeprefix("feature:")
    return f"{since} the values of {feature} in {name} have been {'higher' if rises else 'lower'}: {ranks}"
