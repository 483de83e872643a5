"""What an alert says of a drift or a broken model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.core.alert import AlertContent, drift_alert, failure_alert, reaction_alert
from app.core.drift import Drift
from app.core.output import ModelVersion
from app.core.pipeline import Pipeline, Task, parse_pipeline
from app.core.reaction import Reaction

VERSION = ModelVersion(2, 13_000)
RISE = Drift(
    signal="error",
    monitor="error",
    detector="ADWIN(delta=0.002)",
    kind="drift",
    direction="rise",
    before=0.0214,
    after=0.0979,
    count_before=24_000,
    count_after=1_312,
    observed=25_312,
    detection=3,
    alerts=True,
)


def pipeline(task: Task) -> Pipeline:
    model = {"regression": "LinearRegression()", "anomaly": "HalfSpaceTrees()"}.get(task, "GaussianNB()")
    return parse_pipeline(
        {
            "pipeline": "card-fraud",
            "task": task,
            "event": {"id": "id", "features": {"amount": "number"}},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
        }
    )


def said(task: Task, **changes: Any) -> AlertContent:
    return drift_alert(pipeline(task), 1, msgspec.structs.replace(RISE, **changes), VERSION)


def test_a_rising_error_in_full() -> None:
    alert = said("binary")
    assert alert == AlertContent(
        episode="card-fraud-1-error-3",
        state="opened",
        kind="concept_drift",
        severity="critical",
        audience=("data_science", "domain_expert", "operations"),
        sentence="Since about 1,312 labels ago card-fraud has been wrong more often: 2.1% before, 9.8% now.",
        evidence={
            "signal": "error",
            "detector": "ADWIN(delta=0.002)",
            "direction": "rise",
            "before": 0.0214,
            "count_before": 24_000,
            "after": 0.0979,
            "count_after": 1_312,
            "observed": 25_312,
            "detection": 3,
            "model_version": "2.13000",
        },
    )
    assert json.loads(json.dumps(alert.evidence)) == alert.evidence


@pytest.mark.parametrize(
    ("act", "since", "sentence"),
    [
        (
            "reset",
            None,
            "card-fraud has begun again with an untrained model, because its errors changed (see the alert before): "
            "its predictions are poor until it has learned.",
        ),
        (
            "swap",
            523,
            "A second model, which has learned from the last 520 labels, serves card-fraud because its errors changed "
            "(see the alert before).",
        ),
        ("boost", None, "card-fraud learns faster for a while, because its errors changed (see the alert before)."),
    ],
)
def test_a_reaction_is_told_as_an_event_that_is_over(act: Any, since: int | None, sentence: str) -> None:
    alert = reaction_alert(pipeline("binary"), 1, Reaction(act, RISE, 520, since), VERSION)
    assert (alert.kind, alert.state, alert.episode) == ("model_change", "resolved", "card-fraud-1-reaction-2")
    assert alert.sentence == sentence
    assert alert.evidence["reaction"] == act
    assert json.loads(json.dumps(alert.evidence)) == alert.evidence


@pytest.mark.parametrize(
    ("signal", "cause"), [("feature:amount", "amount"), ("rate:country=NL", "country=NL"), ("label_delay", "the delay")]
)
def test_a_reaction_names_its_cause(signal: str, cause: str) -> None:
    drift = msgspec.structs.replace(RISE, signal=signal)
    assert f"because {cause}" in reaction_alert(pipeline("binary"), 1, Reaction("boost", drift, 5), VERSION).sentence


@pytest.mark.parametrize(("after", "severity"), [(0.061, "warning"), (0.0625, "critical")])
def test_a_loss_that_has_doubled_is_critical(after: float, severity: str) -> None:
    assert said("binary", signal="loss", before=0.03125, after=after).severity == severity


RANKS = "on average above 50.0% of the reference values before, above 71.0% of them now."


@pytest.mark.parametrize(
    ("task", "changes", "kind", "sentence"),
    [
        (
            "binary",
            {"signal": "loss", "before": 0.0312, "after": 0.0899},
            "concept_drift",
            "Since about 1,312 labels ago card-fraud has been surer of wrong answers, or less sure of right ones: "
            "an average loss of 0.0312 before, 0.0899 now.",
        ),
        (
            "binary",
            {"signal": "novelty:country"},
            "data_drift",
            "Since about 1,312 events ago country in card-fraud has more often had values that were not seen at "
            "first: 2.1% before, 9.8% now.",
        ),
        (
            "binary",
            {"signal": "rate:country=NL", "direction": "fall", "before": 0.7, "after": 0.4},
            "data_drift",
            "Since about 1,312 events ago country in card-fraud has less often been 'NL': 70.0% before, 40.0% now.",
        ),
        (
            "binary",
            {"signal": "missing:amount"},
            "data_quality",
            "Since about 1,312 events ago amount in card-fraud has been missing more often: 2.1% before, 9.8% now.",
        ),
        (
            "binary",
            {"signal": "label_rate", "direction": "fall", "before": 0.9, "after": 0.5},
            "label_coverage",
            "Since about 1,312 events ago events of card-fraud have less often got their label in time: "
            "90.0% before, 50.0% now.",
        ),
        (
            "binary",
            {"signal": "label_delay", "before": 0.5, "after": 0.8},
            "label_delay",
            "Since about 1,312 labels ago labels of card-fraud have come later: after longer than 50.0% of the first "
            "ones before, longer than 80.0% of them now.",
        ),
        (
            "binary",
            {"signal": "feature:night", "unit": "bit", "before": 0.2, "after": 0.4},
            "data_drift",
            "Since about 1,312 events ago night in card-fraud has been true more often: 20.0% before, 40.0% now.",
        ),
        (
            "binary",
            {"signal": "feature:amount", "unit": "raw", "before": 51.25, "after": 90.3},
            "data_drift",
            "Since about 1,312 events ago the values of amount in card-fraud have been higher: "
            "on average 51.25 before, 90.3 now.",
        ),
        (
            "regression",
            {"before": 0.5, "after": 0.71},
            "concept_drift",
            f"Since about 1,312 labels ago card-fraud has been further off: its errors were {RANKS}",
        ),
        (
            "binary",
            {"signal": "score", "direction": "fall", "before": 0.0214, "after": 0.00034},
            "score_drift",
            "Since about 1,312 events ago card-fraud has given lower probabilities: "
            "on average 2.1% before, 0.034% now.",
        ),
        (
            "multiclass",
            {"signal": "score", "direction": "fall", "before": 0.9, "after": 0.6},
            "score_drift",
            "Since about 1,312 events ago card-fraud has been less sure of its predictions: 90.0% before, 60.0% now.",
        ),
        (
            "anomaly",
            {"signal": "score", "before": 0.5, "after": 0.71},
            "score_drift",
            f"Since about 1,312 events ago card-fraud has given higher anomaly scores: {RANKS}",
        ),
        (
            "regression",
            {"signal": "score", "before": 0.5, "after": 0.71},
            "score_drift",
            f"Since about 1,312 events ago card-fraud has given higher predictions: {RANKS}",
        ),
        (
            "binary",
            {"signal": "feature:amount", "before": 0.5, "after": 0.71},
            "data_drift",
            f"Since about 1,312 events ago the values of amount in card-fraud have been higher: {RANKS}",
        ),
    ],
)
def test_each_signal_has_its_kind_and_sentence(task: Task, changes: dict[str, Any], kind: str, sentence: str) -> None:
    alert = said(task, **changes)
    assert (alert.kind, alert.sentence) == (kind, sentence)


@pytest.mark.parametrize(
    ("task", "changes", "severity"),
    [
        ("binary", {"before": 0.10, "after": 0.15}, "warning"),
        ("binary", {"before": 0.05, "after": 0.10}, "critical"),
        ("multiclass", {"before": 0.30, "after": 0.41}, "critical"),
        ("regression", {"before": 0.50, "after": 0.71}, "warning"),
        ("regression", {"before": 0.50, "after": 0.75}, "critical"),
        ("binary", {"signal": "score", "before": 0.1, "after": 0.9}, "warning"),
        ("binary", {"signal": "feature:amount", "before": 0.1, "after": 0.9}, "warning"),
    ],
)
def test_severity_follows_from_harm_to_users(task: Task, changes: dict[str, Any], severity: str) -> None:
    alert = said(task, **changes)
    assert alert.severity == severity
    assert ("operations" in alert.audience) >= (severity == "critical")


def test_every_detection_of_every_monitor_is_an_episode_of_its_own() -> None:
    episodes = [
        said("binary", monitor=monitor, detection=detection).episode
        for monitor in ("error", "error#2", "score", "feature:amount")
        for detection in (1, 2)
    ]
    assert len(set(episodes)) == len(episodes)


@pytest.mark.parametrize(
    ("guard", "state", "says"),
    [
        ("fallback", "opened", "its last good copy has taken over"),
        ("withheld", "opened", "no prediction"),
        ("served", "resolved", "usable predictions again"),
    ],
)
def test_a_broken_model_is_critical_until_it_answers_again(guard: Any, state: Any, says: str) -> None:
    alert = failure_alert(pipeline("binary"), "card-fraud-0-model-1", state, guard, VERSION)
    assert (alert.kind, alert.severity, alert.state) == ("model_failure", "critical", state)
    assert alert.episode == "card-fraud-0-model-1"
    assert says in alert.sentence
    assert alert.evidence == {"guard": guard, "model_version": "2.13000"}
