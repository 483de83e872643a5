"""What an alert says of a drift or a broken model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.core.alert import FEATURES_SHOWN, alert_of, drift_sign, failure_sign, signal_of
from app.core.drift import Drift
from app.core.episode import Episodes, Moment, Sign
from app.core.output import ModelVersion
from app.core.pipeline import Pipeline, Task, parse_pipeline

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


def pipeline(task: Task, **rules: Any) -> Pipeline:
    model = {"regression": "LinearRegression()", "anomaly": "HalfSpaceTrees()"}.get(task, "GaussianNB()")
    return parse_pipeline(
        {
            "pipeline": "card-fraud",
            "task": task,
            "event": {"id": "id", "features": {"amount": "number"}},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
            "alerts": rules,
        }
    )


def said(task: Task, earlier: Sign | None = None, **changes: Any) -> Sign:
    return drift_sign(pipeline(task), msgspec.structs.replace(RISE, **changes), earlier)


def test_a_rising_error_in_full() -> None:
    sign = said("binary")
    rules = pipeline("binary")
    moment = Moment(5, 1, 1, "l7", {"t": 1})
    told = Episodes("card-fraud-1-").sign(rules.alerts, "error", sign, moment, holds=False)
    assert told is not None
    assert told.episode.name == "card-fraud-1-error-l7"
    assert told.sentence == (
        "Since about 1,312 labels ago card-fraud has been wrong more often: 2.1% before, 9.8% now."
    )
    content = alert_of(rules, told, VERSION)
    assert (content.kind, content.severity) == ("concept_drift", "critical")
    assert content.audience == ("data_science", "domain_expert", "operations")
    assert content.runbook == "docs/runbook.md#concept-drift"
    assert content.evidence == {
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
    }
    assert json.loads(json.dumps(content.evidence)) == content.evidence


def test_the_pipeline_file_says_severity_audience_and_where_the_runbook_is() -> None:
    rules = pipeline(
        "binary",
        severity={"concept_drift": "warning"},
        audience={"concept_drift": ["domain_expert"]},
        runbook="https://wiki/drift",
    )
    told = Episodes("p-").sign(rules.alerts, "error", said("binary"), Moment(5, 1, 1, "l7", {}), holds=False)
    assert told is not None
    content = alert_of(rules, told, VERSION)
    assert (content.severity, content.audience) == ("warning", ("domain_expert",))
    assert content.runbook == "https://wiki/drift#concept-drift"


RANKS = "on average above 50.0% of the reference values before, above 71.0% of them now."


@pytest.mark.parametrize(
    ("task", "changes", "kind", "sentence"),
    [
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
    assert said(task, **changes).severity == severity


def test_all_detectors_of_a_signal_share_its_episode_and_all_features_theirs() -> None:
    drifts = [
        msgspec.structs.replace(RISE, signal=signal, monitor=monitor)
        for signal, monitor in (
            ("error", "error"), ("error", "error#2"), ("score", "score"),
            ("feature:amount", "feature:amount"), ("feature:a:b", "feature:a:b"),
        )
    ]  # fmt: skip
    assert [signal_of(drift) for drift in drifts] == ["error", "error", "score", "features", "features"]


def test_the_features_that_moved_most_are_named() -> None:
    sign = None
    for number in range(8):
        sign = said("binary", sign, signal=f"feature:f{number}", before=0.5, after=0.5 + 0.05 * number)
    assert sign is not None
    moved: Any = sign.evidence["features"]
    assert [one["feature"] for one in moved] == ["f7", "f6", "f5", "f4", "f3"]
    assert len(moved) == FEATURES_SHOWN
    assert "the values of f7" in sign.sentence
    assert sign.sentence.endswith("; f6, f5, f4 and f3 moved as well.")
    again = said("binary", sign, signal="feature:f7", before=0.9, after=0.5)
    shown: Any = again.evidence["features"]
    assert [one["feature"] for one in shown].count("f7") == 1


@pytest.mark.parametrize(
    ("guard", "says"),
    [("fallback", "its last good copy has taken over"), ("withheld", "no prediction")],
)
def test_a_broken_model_is_critical(guard: Any, says: str) -> None:
    sign = failure_sign(pipeline("binary"), guard)
    assert (sign.kind, sign.severity) == ("model_failure", "critical")
    assert says in sign.sentence
    assert sign.evidence == {"guard": guard}
