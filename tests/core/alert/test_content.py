"""What an alert says of a drift or a broken model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from driftline.core.alert.condition import watched
from driftline.core.alert.content import FEATURES_SHOWN, alert_of, drift_sign, failure_sign, reaction_sign, signal_of
from driftline.core.alert.episode import Episodes, Moment, Sign
from driftline.core.drift.monitors import Drift, Move
from driftline.core.drift.reaction import Reaction
from driftline.core.metric.culprit import Culprit
from driftline.core.output import ModelVersion
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.task import TaskName

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


def pipeline(task: TaskName, **rules: Any) -> Pipeline:
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


def said(task: TaskName, earlier: Sign | None = None, **changes: Any) -> Sign:
    return drift_sign(pipeline(task), msgspec.structs.replace(RISE, **changes), earlier)


def test_a_rising_error_in_full() -> None:
    sign = said("binary")
    rules = pipeline("binary")
    moment = Moment(5, 1, 1, "l7", {"t": 1})
    told = Episodes("card-fraud-1-").sign(rules.alerts, "error", sign, moment, holds=False)
    assert told is not None
    assert told.episode.name == "card-fraud-1-error-l7"
    assert told.sentence == (
        "Since about 1,312 labels ago, card-fraud has been wrong more often: 2.1% before, 9.8% now."
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


@pytest.mark.parametrize(
    ("act", "since", "sentence"),
    [
        (
            "reset",
            None,
            "card-fraud was reset to an untrained model, because its errors changed (see the previous alert): "
            "expect poor predictions until it has learned.",
        ),
        (
            "swap",
            523,
            "A background model trained on the last 520 labels now serves card-fraud, because its errors changed "
            "(see the previous alert).",
        ),
        (
            "boost",
            None,
            "card-fraud is learning faster for a while, because its errors changed (see the previous alert).",
        ),
    ],
)
def test_a_reaction_is_told_as_an_event_that_is_over(act: Any, since: int | None, sentence: str) -> None:
    rules = pipeline("binary")
    sign = reaction_sign(rules, Reaction(act, RISE, 520, since))
    episodes = Episodes("card-fraud-1-")
    told = episodes.event(rules.alerts, "model_change", sign, Moment(5, 1, 1, "l7", {"t": 1}))
    assert (told.state, told.update, told.announced, told.sentence) == ("resolved", 1, True, sentence)
    assert told.episode.name == "card-fraud-1-model_change-l7"
    assert episodes.open == {}
    alert = alert_of(rules, told, VERSION)
    assert (alert.kind, alert.severity, alert.runbook) == ("model_change", "warning", "docs/runbook.md#model-change")
    assert alert.evidence["reaction"] == act
    assert json.loads(json.dumps(alert.evidence)) == alert.evidence


def test_a_model_that_has_learned_one_label() -> None:
    told = reaction_sign(pipeline("binary"), Reaction("swap", RISE, 1, 2)).sentence
    assert "trained on the last label now serves card-fraud," in told


@pytest.mark.parametrize(
    ("signal", "cause"), [("feature:amount", "amount"), ("rate:country=NL", "country=NL"), ("label_delay", "the delay")]
)
def test_a_reaction_names_its_cause(signal: str, cause: str) -> None:
    drift = msgspec.structs.replace(RISE, signal=signal)
    assert f"because {cause}" in reaction_sign(pipeline("binary"), Reaction("boost", drift, 5)).sentence


@pytest.mark.parametrize(("after", "severity"), [(0.061, "warning"), (0.0625, "critical")])
def test_a_loss_that_has_doubled_is_critical(after: float, severity: str) -> None:
    assert said("binary", signal="loss", before=0.03125, after=after).severity == severity


RANKS = "on average higher than 50.0% of the reference values before, 71.0% now."


@pytest.mark.parametrize(
    ("task", "changes", "kind", "sentence"),
    [
        (
            "binary",
            {"signal": "loss", "before": 0.0312, "after": 0.0899},
            "concept_drift",
            "Since about 1,312 labels ago, card-fraud has been more confident when wrong or less when right: "
            "it gave what turned out to be true a probability of 96.9% before, 91.4% now.",
        ),
        (
            "binary",
            {"signal": "novelty:country"},
            "data_drift",
            "Since about 1,312 events ago, country in card-fraud has had previously unseen values more often: "
            "2.1% before, 9.8% now.",
        ),
        (
            "binary",
            {"signal": "rate:country=NL", "direction": "fall", "before": 0.7, "after": 0.4},
            "data_drift",
            "Since about 1,312 events ago, country in card-fraud has been 'NL' less often: 70.0% before, 40.0% now.",
        ),
        (
            "binary",
            {"signal": "missing:amount"},
            "data_quality",
            "Since about 1,312 events ago, amount in card-fraud has been missing more often: 2.1% before, 9.8% now.",
        ),
        (
            "binary",
            {"signal": "label_rate", "direction": "fall", "before": 0.9, "after": 0.5},
            "label_coverage",
            "Since about 1,312 events ago, events of card-fraud have received their label in time less often: "
            "90.0% before, 50.0% now.",
        ),
        (
            "binary",
            {"signal": "label_delay", "before": 0.5, "after": 0.8},
            "label_delay",
            "Since about 1,312 labels ago, labels of card-fraud have arrived later: with delays on average higher than "
            "50.0% of the reference values before, 80.0% now.",
        ),
        (
            "binary",
            {"signal": "feature:night", "unit": "bit", "before": 0.2, "after": 0.4},
            "data_drift",
            "Since about 1,312 events ago, night in card-fraud has been true more often: 20.0% before, 40.0% now.",
        ),
        (
            "binary",
            {"signal": "feature:amount", "unit": "raw", "before": 51.25, "after": 90.3},
            "data_drift",
            "Since about 1,312 events ago, the values of amount in card-fraud have been higher: "
            "on average 51.2 before, 90.3 now.",
        ),
        (
            "regression",
            {"before": 0.5, "after": 0.71},
            "concept_drift",
            f"Since about 1,312 labels ago, card-fraud has been further off: its errors were {RANKS}",
        ),
        (
            "binary",
            {"signal": "score", "direction": "fall", "before": 0.0214, "after": 0.00034},
            "score_drift",
            "Since about 1,312 events ago, card-fraud has given lower probabilities: "
            "on average 2.1% before, 0.034% now.",
        ),
        (
            "multiclass",
            {"signal": "score", "direction": "fall", "before": 0.9, "after": 0.6},
            "score_drift",
            "Since about 1,312 events ago, card-fraud has been less confident in its predictions: "
            "90.0% before, 60.0% now.",
        ),
        (
            "anomaly",
            {"signal": "score", "before": 0.5, "after": 0.71},
            "score_drift",
            f"Since about 1,312 events ago, card-fraud has given higher anomaly scores: {RANKS}",
        ),
        (
            "regression",
            {"signal": "score", "before": 0.5, "after": 0.71},
            "score_drift",
            f"Since about 1,312 events ago, card-fraud has given higher predictions: {RANKS}",
        ),
        (
            "binary",
            {"signal": "feature:amount", "before": 0.5, "after": 0.71},
            "data_drift",
            f"Since about 1,312 events ago, the values of amount in card-fraud have been higher: {RANKS}",
        ),
    ],
)
def test_each_signal_has_its_kind_and_sentence(
    task: TaskName, changes: dict[str, Any], kind: str, sentence: str
) -> None:
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
def test_severity_follows_from_harm_to_users(task: TaskName, changes: dict[str, Any], severity: str) -> None:
    assert said(task, **changes).severity == severity


@pytest.mark.parametrize(
    ("signal", "calm"),
    [
        ("error", "in the errors of card-fraud"),
        ("score", "in the predictions of card-fraud"),
        ("label_rate", "in how many labels of card-fraud arrive in time"),
        ("label_delay", "in the label delay of card-fraud"),
        ("feature:a", "in the data of card-fraud"),
        ("missing:a", "in the data of card-fraud"),
    ],
)
def test_the_end_of_an_episode_names_what_was_watched(signal: str, calm: str) -> None:
    sign = said("binary", signal=signal, monitor=signal)
    assert sign.calm == f"No further change {calm} has been seen"


def test_all_detectors_of_a_signal_share_its_episode_and_all_features_theirs() -> None:
    drifts = [
        msgspec.structs.replace(RISE, signal=signal, monitor=monitor)
        for signal, monitor in (
            ("error", "error"), ("error", "error#2"), ("score", "score"),
            ("feature:amount", "feature:amount"), ("feature:a:b", "feature:a:b"), ("rate:a=b", "rate:a=b#2"),
            ("novelty:a", "novelty:a"),
        )
    ]  # fmt: skip
    assert [signal_of(drift) for drift in drifts] == ["error", "error", "score", *["features"] * 4]


@pytest.mark.parametrize("signal", ["error", "loss", "score", "label_rate", "label_delay", "feature:a", "missing:a"])
def test_no_drift_shares_its_episode_with_a_limit(signal: str) -> None:
    asked: dict[str, Any] = {"label_coverage_min": 0.5, "label_delay_max": "1h", "performance": {"LogLoss": {"max": 1}}}
    rules = pipeline("binary", **asked, throughput={"window": "1h"})
    assert signal_of(msgspec.structs.replace(RISE, signal=signal)) not in watched(rules)


def test_the_features_that_moved_most_are_named() -> None:
    sign = None
    for number in range(8):
        moves = (Move(f"feature:f{number}", 0.5, 0.5, 0.1 * number), Move("missing:g", 0, 0, 0.01))
        sign = said("binary", sign, signal=f"feature:f{number}", before=0.5, after=0.5, moved=moves)
    assert sign is not None
    moved: Any = sign.evidence["moved"]
    assert [one["signal"] for one in moved] == [f"feature:f{number}" for number in (7, 6, 5, 4, 3)]
    assert len(moved) == FEATURES_SHOWN
    assert sign.evidence["found"] == [f"feature:f{number}" for number in (7, 6, 5, 4, 3)]
    assert "the values of f7" in sign.sentence
    assert sign.sentence.endswith("; f6, f5, f4 and f3 also changed.")
    again = said("binary", sign, signal="feature:f7", before=0.9, after=0.5, moved=(Move("feature:f7", 0, 0, 0.2),))
    shown: Any = again.evidence["moved"]
    assert [one["signal"] for one in shown] == [f"feature:f{number}" for number in (6, 5, 4, 3, 7)]
    assert again.evidence["found"] == sign.evidence["found"]


def test_one_feature_with_several_signals_is_named_once() -> None:
    sign = None
    for signal in ("novelty:country", "rate:country=a=b", "rate:country=c", "feature:amount"):
        sign = said("binary", sign, signal=signal)
    assert sign is not None
    assert sign.sentence.endswith("; country also changed.")


@pytest.mark.parametrize(
    ("guard", "says"),
    [("fallback", "its last good copy has taken over"), ("withheld", "no prediction")],
)
def test_a_broken_model_is_critical(guard: Any, says: str) -> None:
    sign = failure_sign(pipeline("binary"), guard)
    assert (sign.kind, sign.severity) == ("model_failure", "critical")
    assert says in sign.sentence
    assert sign.evidence == {"guard": guard}


MEANS: dict[str, Any] = {"unit": "rank", "before": 0.5, "after": 0.71, "mean_before": 8.2, "mean_after": 12.1}


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [
        ("pieces", "card-fraud has been further off: off by 8.2 pieces on average before, 12.1 pieces now."),
        (None, "card-fraud has been further off in sales: off by 8.2 on average before, 12.1 now."),
    ],
)
def test_an_error_is_in_the_unit_of_the_label(unit: str | None, sentence: str) -> None:
    chosen = pipeline("regression")
    assert chosen.label is not None
    label = chosen.label.model_copy(update={"unit": unit, "value": "day.sales"})
    sign = drift_sign(chosen.model_copy(update={"label": label}), msgspec.structs.replace(RISE, **MEANS), None)
    assert sign.sentence.endswith(sentence)
    assert sign.evidence["mean_after"] == 12.1


def test_the_segment_that_moved_most_is_named() -> None:
    split = pipeline("binary").metric_by.model_copy(update={"segment": "country"})
    chosen = pipeline("binary").model_copy(update={"metric_by": split})
    sign = drift_sign(chosen, RISE, None, Culprit("FR", 0.02, 0.31, 400))
    assert sign.sentence.endswith("2.1% before, 9.8% now; most in country FR: 2.0% before, 31.0% now.")
    assert sign.evidence["segment"] == {"segment": "country FR", "before": 0.02, "after": 0.31, "count": 400}


def test_a_feature_and_a_delay_are_in_their_own_units() -> None:
    amount = said("binary", signal="feature:amount", monitor="feature:amount", **{**MEANS, "mean_after": 3_618.4})
    assert amount.sentence.endswith("on average 8.2 before, 3,618 now.")
    delay = said("binary", signal="label_delay", **{**MEANS, "mean_before": 7.2e6, "mean_after": 5.04e8})
    assert delay.sentence.endswith("on average after 2 hours before, 140 hours now.")
