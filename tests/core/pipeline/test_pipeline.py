"""The pipeline file: what it says, what is filled in, and every way in which it can be wrong."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import jsonschema
import pytest

from driftline.core.error import PipelineError
from driftline.core.pipeline import DetectorForm, FeatureDetectorForm, Fill, Pipeline, parse_pipeline, pipeline_schema

FRAUD: dict[str, Any] = {
    "pipeline": "card-fraud",
    "task": "binary",
    "topics": {"events": "payments", "labels": "chargebacks"},
    "event": {
        "id": "payment_id",
        "time": "created_at",
        "features": {
            "amount": "number",
            "country": {"path": "card.country", "type": "string", "missing": "unknown"},
            "night": {"path": "local.is_night", "type": "boolean"},
        },
    },
    "label": {"id": "payment_id", "value": "is_fraud", "positive": 1, "wait": "7d", "missing": "drop"},
    "params": {"lr": 0.05},
    "model": "(Select('amount', 'night') | StandardScaler()) + (Select('country') | OneHotEncoder())\n"
    "| LogisticRegression(optimizer=SGD($lr))",
    "decision": {"threshold": 0.8},
    "metrics": ["ROCAUC", "AveragePrecision", "LogLoss"],
    "drift": {"error": "ADWIN(delta=0.002)", "features": {"amount": "ADWIN()"}},
}
AMOUNT = "event.features.amount"
PLAIN = {
    "pipeline": "p",
    "event": {"id": "id", "features": {"x": "number", "y": "number"}},
    "label": {"id": "id", "value": "y", "wait": "1h"},
}
SMALLEST: dict[str, dict[str, Any]] = {
    "binary": {**PLAIN, "task": "binary", "model": "LogisticRegression()"},
    "multiclass": {**PLAIN, "task": "multiclass", "model": "GaussianNB()"},
    "regression": {**PLAIN, "task": "regression", "model": "LinearRegression()"},
    "anomaly": {**PLAIN, "task": "anomaly", "model": "HalfSpaceTrees()", "label": None},
}


def changed(doc: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The document with other values at places such as `event__id`; `...` takes the key away."""
    doc = copy.deepcopy(doc)
    for place, value in changes.items():
        here = doc
        *way, last = place.split("__")
        for key in way:
            here = here.setdefault(key, {})
        if value is ...:
            del here[last]
        else:
            here[last] = value
    return doc


def problems_of(doc: object) -> dict[str, str]:
    """Message by path; messages of the same path are joined."""
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(doc)
    found: dict[str, str] = {}
    for problem in caught.value.problems:
        found[problem.path] = f"{found.get(problem.path, '')} {problem.message}".strip()
    return found


# -- what it says


def test_the_designs_example_says_what_it_says() -> None:
    pipeline = parse_pipeline(FRAUD)
    assert (pipeline.name, pipeline.task, pipeline.seed) == ("card-fraud", "binary", 42)
    assert (pipeline.topics.events, pipeline.topics.labels) == ("payments", "chargebacks")
    assert pipeline.topics.journal == "card-fraud.journal"
    assert pipeline.event.names == ("amount", "country", "night")
    country = pipeline.event.plain["country"]
    assert (country.keys, country.missing, country.fill) == (("card", "country"), Fill(value="unknown"), "unknown")
    assert pipeline.event.features["amount"].missing == "reject"
    assert pipeline.label is not None
    assert (pipeline.label.wait_ms, pipeline.label.early_ms) == (7 * 86_400_000, 7 * 86_400_000)
    assert pipeline.decision is not None
    assert pipeline.decision.threshold == 0.8
    assert pipeline.drift.error == (DetectorForm(detector="ADWIN(delta=0.002)"),)
    assert pipeline.drift.features == {"amount": (FeatureDetectorForm(detector="ADWIN()"),)}
    assert (pipeline.dedupe.horizon_ms, pipeline.dedupe.id_max) == (86_400_000, 200_000)
    assert (pipeline.snapshot.every_records, pipeline.snapshot.every_ms) == (50_000, 600_000)
    assert pipeline.limits.slice_compute_max_ms == 100


@pytest.mark.parametrize("doc", [FRAUD, *SMALLEST.values()], ids=["fraud", *SMALLEST])
def test_resolved_parses_to_the_same(doc: dict[str, Any]) -> None:
    pipeline = parse_pipeline(doc)
    assert parse_pipeline(pipeline.resolved()) == pipeline
    assert parse_pipeline(pipeline.resolved()).resolved() == pipeline.resolved()
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


def test_parsing_leaves_the_document_alone() -> None:
    doc = copy.deepcopy(FRAUD)
    parse_pipeline(doc)
    assert doc == FRAUD


def test_a_pipeline_cannot_be_changed() -> None:
    pipeline = parse_pipeline(FRAUD)
    with pytest.raises(ValueError, match="frozen"):
        pipeline.seed = 1


@pytest.mark.parametrize(
    ("task", "metrics", "error"),
    [
        ("binary", ("Accuracy", "LogLoss", "ROCAUC"), ("ADWIN(delta=0.002)",)),
        ("multiclass", ("Accuracy", "MacroF1"), ("ADWIN(delta=0.002)",)),
        ("regression", ("MAE", "RMSE"), ("ADWIN(delta=0.002)",)),
        ("anomaly", (), ()),
    ],
)
def test_defaults_by_task(task: str, metrics: tuple[str, ...], error: tuple[str, ...]) -> None:
    pipeline = parse_pipeline(SMALLEST[task])
    assert pipeline.metrics == metrics
    assert pipeline.drift.error == tuple(DetectorForm(detector=expression) for expression in error)


def test_anomaly_has_no_labels_topic_without_labels_and_one_with() -> None:
    assert parse_pipeline(SMALLEST["anomaly"]).topics.labels is None
    labelled = parse_pipeline(changed(SMALLEST["anomaly"], label={"id": "id", "value": "y", "wait": "1d"}))
    assert labelled.topics.labels == "p.labels"
    assert labelled.metrics == ("ROCAUC",)


def test_default_metrics_leave_out_what_the_model_cannot_answer() -> None:
    model = "VotingClassifier([LogisticRegression(), GaussianNB()])"
    assert parse_pipeline(changed(SMALLEST["binary"], model=model)).metrics == ("Accuracy",)


@pytest.mark.parametrize("none", ["none", [], None])
def test_no_drift_detector_can_be_asked_for(none: object) -> None:
    assert parse_pipeline(changed(FRAUD, drift={"error": none})).drift.error == ()


def test_detectors_may_be_written_out_and_come_back_as_short_as_they_can() -> None:
    swap = {"detector": "ADWIN()", "warning": "ADWIN(delta=$d)", "reaction": "swap"}
    season = {"detector": "ADWIN()", "season": "1d"}
    watched = {
        "error": ["DDM()", swap],
        "loss": {"detector": "ADWIN()"},
        "features": {"amount": season, "country": "DDM()"},
    }
    pipeline = parse_pipeline(changed(FRAUD, params={"lr": 0.05, "d": 0.1}, drift=watched))
    assert pipeline.drift.error == (
        DetectorForm(detector="DDM()"),
        DetectorForm(detector="ADWIN()", warning="ADWIN(delta=$d)", reaction="swap"),
    )
    told = pipeline.resolved()["drift"]
    assert told["error"] == ["DDM()", swap]
    assert told["loss"] == ["ADWIN()"]
    assert told["features"] == {
        "amount": [{**season, "warning": None, "reaction": "alert", "raw": False}],
        "country": ["DDM()"],
    }
    assert parse_pipeline(pipeline.resolved()) == pipeline
    jsonschema.validate(pipeline.resolved(), pipeline_schema())
    jsonschema.validate(changed(FRAUD, drift=watched), pipeline_schema())


def test_drift_none_turns_all_detectors_off() -> None:
    assert parse_pipeline(changed(FRAUD, drift="none")).drift.error == ()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("reject", "reject"),
        ("omit", "omit"),
        ("none", "none"),
        ({"value": "omit"}, "omit"),
        ({"value": "reject"}, "reject"),
    ],
)
def test_missing_tells_its_words_from_values(written: object, meant: str) -> None:
    feature = parse_pipeline(changed(FRAUD, event__features__country__missing=written)).event.features["country"]
    plain = written in ("reject", "omit")
    assert feature.missing == (meant if plain else Fill(value=meant))


@pytest.mark.parametrize(
    ("kind", "value"), [("number", 0), ("number", 1.5), ("number", -3), ("boolean", False), ("string", "")]
)
def test_missing_values_of_the_features_type(kind: str, value: object) -> None:
    doc = changed(SMALLEST["binary"], event__features__x={"type": kind, "missing": value})
    assert parse_pipeline(doc).event.features["x"].fill == value


def test_sections_with_all_lines_commented_out_are_defaults() -> None:
    empty = dict.fromkeys(("topics", "params", "dedupe", "snapshot", "limits", "drift", "metrics", "decision"))
    assert parse_pipeline({**SMALLEST["binary"], **empty}) == parse_pipeline(SMALLEST["binary"])


# -- the schema for editors


@pytest.mark.parametrize("doc", [FRAUD, *SMALLEST.values()], ids=["fraud", *SMALLEST])
def test_schema_takes_files_and_their_resolved_form(doc: dict[str, Any]) -> None:
    schema = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(doc, schema)
    jsonschema.validate(parse_pipeline(doc).resolved(), schema)


@pytest.mark.parametrize(
    "doc",
    [
        changed(FRAUD, task="binry"),
        changed(FRAUD, event=...),
        changed(FRAUD, label__wait="7 days"),
        changed(FRAUD, event__features__amount="nmber"),
        changed(FRAUD, event__features__amount={"type": "number", "mising": 0}),
        changed(FRAUD, lable={}),
        changed(FRAUD, limits={"string_max": 0}),
        changed(FRAUD, topics={"events": "a b"}),
    ],
)
def test_schema_refuses_what_the_parser_refuses(doc: dict[str, Any]) -> None:
    problems_of(doc)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(doc, pipeline_schema())


# -- what can be wrong


def test_every_problem_is_told_at_once() -> None:
    doc = changed(
        FRAUD,
        task="binary",
        sed=7,
        event__features__amount="nmber",
        label__wait="soon",
        topics__scores="a b",
        decision__threshold="high",
        limits={"string_max": 0, "number_max": -1},
        metrics=["Acuracy", "MAE"],
        model="LogisticRegresion()",
    )
    found = problems_of(doc)
    assert set(found) == {
        "sed", "event.features.amount.type", "label.wait", "topics.scores", "decision.threshold", "limits.string_max",
        "limits.number_max", "metrics.0", "metrics.1", "model", "params.lr",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("doc", "path", "text"),
    [
        (None, "", "the file is empty"),
        ([], "", "must be a mapping"),
        ("text", "", "must be a mapping"),
        ({}, "pipeline", "is required"),
        ({}, "task", "is required"),
        ({}, "event", "is required"),
        ({}, "model", "is required"),
        (changed(FRAUD, pipeline="Card Fraud"), "pipeline", "lower-case"),
        (changed(FRAUD, pipeline="a" * 101), "pipeline", "at most 100"),
        (changed(FRAUD, task="binry"), "task", "did you mean 'binary'?"),
        (changed(FRAUD, lable=1), "lable", "did you mean 'label'?"),
        (changed(FRAUD, seed=-1), "seed", "greater than or equal to 0"),
        (changed(FRAUD, shards=0), "shards", "greater than or equal to 1"),
        (changed(FRAUD, seed=True), "seed", "whole number"),
        (changed(FRAUD, seed="7"), "seed", "whole number"),
        (changed(FRAUD, delivery="exactly-once"), "delivery", "did you mean 'exactly_once'?"),
        (changed(FRAUD, metric_window=0), "metric_window", "greater than or equal to 1"),
        (changed(FRAUD, event={"features": {"x": "number"}}), "event.id", "is required"),
        (changed(FRAUD, event__id=""), "event.id", "1 to 1000 characters"),
        (changed(FRAUD, event__id="a..b"), "event.id", "empty"),
        (changed(FRAUD, event__id=7), "event.id", "quote a key that is a number"),
        (changed(FRAUD, event__features={}), "event.features", "at least one"),
        (changed(FRAUD, event__features__amount="nmber"), "event.features.amount.type", "did you mean 'number'?"),
        (changed(FRAUD, event__features__amount={}), "event.features.amount.type", "is required"),
        (changed(FRAUD, event__features={1: "number"}), "event.features", "in quotes"),
        (changed(FRAUD, event__features__amount={"type": "number", "mising": 0}), f"{AMOUNT}.mising", "missing"),
        (changed(FRAUD, event__features__amount={"type": "number", "missing": "omitt"}), f"{AMOUNT}.missing", "'omit'"),
        (changed(FRAUD, event__features__amount={"type": "number", "missing": True}), f"{AMOUNT}.missing", "number"),
        (changed(FRAUD, event__features__amount={"type": "number", "missing": 1e16}), f"{AMOUNT}.missing", "1e+15"),
        (changed(FRAUD, event__features__country__missing="x" * 1001), "event.features.country.missing", "string_max"),
        (changed(FRAUD, event__features__country__missing=7), "event.features.country.missing", "string"),
        (changed(FRAUD, event__features__night__missing=0), "event.features.night.missing", "boolean"),
        (changed(FRAUD, event__features__night__missing=[1]), "event.features.night.missing", "single value"),
        (changed(FRAUD, label=...), "label", "is required for task binary"),
        (changed(FRAUD, label__wait=...), "label.wait", "is required"),
        (changed(FRAUD, label__wait=30), "label.wait", "with a unit"),
        (changed(FRAUD, label__wait="7 days"), "label.wait", "7d"),
        (changed(FRAUD, label__missing="keep"), "label.missing", "drop"),
        (changed(FRAUD, label__missing={"assume": "no"}), "label.missing.assume", "not a label of task binary"),
        (changed(FRAUD, label__positive=..., label__missing={"assume": 2}), "label.missing.assume", "false, 1"),
        (changed(FRAUD, label__negative=1), "label.negative", "same as label.positive"),
        (changed(FRAUD, label__negative="no"), "label.negative", "same type"),
        (changed(FRAUD, label__positive=..., label__negative=0), "label.negative", "needs label.positive"),
        (changed(SMALLEST["regression"], label__positive=1), "label.positive", "remove it"),
        (changed(SMALLEST["regression"], label__missing={"assume": "0"}), "label.missing.assume", "number"),
        (changed(SMALLEST["multiclass"], label__missing={"assume": 0.5}), "label.missing.assume", "string"),
        (changed(FRAUD, params__unused=1), "params.unused", "is not used"),
        (changed(FRAUD, params={}), "model", "$lr: no such parameter"),
        (changed(FRAUD, params={"lr": 0.05, "l r": 1}), "params.l r", "is not a valid name"),
        (changed(FRAUD, params={"lr": float("nan")}), "params.lr", "finite"),
        (changed(FRAUD, params={"lr": 2**63}), "params.lr", "64 bits"),
        (changed(FRAUD, params={"lr": [1]}), "params.lr", "single value"),
        (changed(FRAUD, decision={}), "decision", "needs one of the two: threshold: SCORE, or budget: ALARMS"),
        (changed(FRAUD, decision__threshold=1.5), "decision.threshold", "from 0 to 1"),
        (changed(SMALLEST["regression"], decision={"threshold": 1}), "decision", "remove it"),
        (changed(FRAUD, topics__scores="payments"), "topics.scores", "same topic as topics.events"),
        (changed(FRAUD, topics__labels="payments"), "topics.labels", "same topic"),
        (changed(FRAUD, topics__scores="card-fraud_alerts"), "topics.alerts", "'.' and '_'"),
        (changed(FRAUD, alerts={"quite": "1h"}), "alerts.quite", "did you mean 'quiet'?"),
        (changed(FRAUD, alerts={"quiet": 5}), "alerts.quiet", "30s, 15m"),
        (changed(FRAUD, alerts={"episodes_max": 0}), "alerts.episodes_max", "greater than or equal to 1"),
        (changed(FRAUD, alerts={"performance": {"AUC": {"min": 1}}}), "alerts.performance.AUC", "not among this"),
        (changed(FRAUD, alerts={"performance": {"LogLoss": {}}}), "alerts.performance.LogLoss", "a min or a max"),
        (
            changed(FRAUD, alerts={"performance": {"LogLoss": {"min": 2, "max": 1}}}),
            "alerts.performance.LogLoss",
            "min is above max",
        ),
        (changed(FRAUD, alerts={"rejected_max": 1.5}), "alerts.rejected_max", "less than or equal to 1"),
        (changed(FRAUD, alerts={"missing_max": {"amonut": 0.1}}), "alerts.missing_max.amonut", "'amount'?"),
        (changed(FRAUD, alerts={"missing_max": {"amount": 0.1}}), "alerts.missing_max.amount", "rejected_max watches"),
        (changed(FRAUD, alerts={"throughput": {"window": "5ms"}}), "alerts.throughput.window", "at least 1s"),
        (changed(FRAUD, alerts={"throughput": {"rise": 1}}), "alerts.throughput.rise", "greater than 1"),
        (changed(FRAUD, alerts={"severity": {"drift": "critical"}}), "alerts.severity.drift.[key]", "concept_drift"),
        (changed(FRAUD, alerts={"severity": {"throughput": "bad"}}), "alerts.severity.throughput", "'critical'"),
        (changed(FRAUD, alerts={"audience": {"throughput": ["boss"]}}), "alerts.audience.throughput.0", "operations"),
        (changed(FRAUD, alerts={"audience": {"throughput": []}}), "alerts.audience.throughput", "at least one"),
        (changed(FRAUD, alerts={"runbook": "a b"}), "alerts.runbook", "match pattern"),
        (
            changed(SMALLEST["anomaly"], alerts={"label_coverage_min": 0.5}),
            "alerts.label_coverage_min",
            "declare `label`",
        ),
        (changed(FRAUD, topics__events="a b"), "topics.events", "249"),
        (changed(FRAUD, topics__events=".."), "topics.events", "249"),
        (changed(FRAUD, topics__events="x" * 250), "topics.events", "249"),
        (changed(FRAUD, topics__event="x"), "topics.event", "did you mean 'events'?"),
        (changed(SMALLEST["anomaly"], topics={"labels": "x"}), "topics.labels", "needs a `label` section"),
        (changed(FRAUD, metrics=["MAE"]), "metrics", "is not a metric for task binary"),
        (changed(FRAUD, metrics=["Accuracy", "Accuracy"]), "metrics.0", "twice"),
        (changed(FRAUD, metrics=["StandardScaler"]), "metrics", "is not a metric"),
        (changed(FRAUD, metrics=["Rolling(F1, 100)"]), "metrics", "rolling value"),
        (changed(SMALLEST["anomaly"], metrics=["ROCAUC"]), "metrics", "need labels"),
        (changed(FRAUD, drift__error="ADWN()"), "drift.error", "did you mean"),
        (changed(FRAUD, drift__error="Accuracy()"), "drift.error", "is not a drift detector"),
        (changed(FRAUD, drift__error=["ADWIN()", "ADWIN()"]), "drift.error.1", "twice"),
        (changed(FRAUD, drift__error="ADWIN(delta=0)"), "drift.error", "delta = 0 must be above 0 and below 1"),
        (changed(FRAUD, drift__error="ADWIN(clock=0)"), "drift.error", "clock = 0 must be from 1 to 1,000,000"),
        (changed(FRAUD, drift__error="ADWIN(max_buckets=0)"), "drift.error", "max_buckets = 0 must be from 1"),
        (changed(FRAUD, drift__error="HDDMA(drift_confidence=-1)"), "drift.error", "drift_confidence = -1 must be"),
        (changed(FRAUD, drift__error="HDDMW(drift_confidence=5)"), "drift.error", "drift_confidence = 5 must be"),
        (changed(FRAUD, drift__error="FHDDM(short_window_size=500)"), "drift.error", "at most sliding_window_size"),
        (changed(FRAUD, drift__score="KSWIN(stat_size=60)"), "drift.score", "stat_size = 60 must be at most half of"),
        (changed(FRAUD, drift__score="KSWIN(alpha=0)"), "drift.score", "alpha = 0 must be above 0"),
        (changed(FRAUD, drift__score="PageHinkley(threshold=-1)"), "drift.score", "threshold = -1 must be above 0"),
        (
            changed(FRAUD, drift__error={"detector": "ADWIN()", "warning": "ADWIN(clock=0)"}),
            "drift.error.warning",
            "clock = 0 must be",
        ),
        (changed(FRAUD, drift__error="DriftRetrainingClassifier(GaussianNB())"), "drift.error", "are ADWIN, Dummy"),
        (changed(FRAUD, alerts={"label_delay_max": "8d"}), "alerts.label_delay_max", "at most label.wait = 7d"),
        (changed(FRAUD, dedupe={"zzz": 5}), "dedupe.zzz", "unknown key; Allowed: horizon, max"),
        (changed(FRAUD, drift__score="DDM()"), "drift.score", "only takes right or wrong"),
        (changed(SMALLEST["regression"], drift={"error": "DDM()"}), "drift.error", "only takes right or wrong"),
        (changed(SMALLEST["anomaly"], drift={"error": "ADWIN()"}), "drift.error", "no error"),
        (changed(FRAUD, drift__features={"amuont": "ADWIN()"}), "drift.features.amuont", "did you mean 'amount'?"),
        (changed(FRAUD, drift__eror="ADWIN()"), "drift.eror", "did you mean 'error'?"),
        (changed(FRAUD, drift__error={"warning": "ADWIN()"}), "drift.error.0.detector", "is required"),
        (changed(FRAUD, drift__error={"detector": "ADWIN()", "warnings": "A"}), "drift.error.0.warnings", "'warning'?"),
        (changed(FRAUD, drift__error={"detector": "ADWIN()", "warning": "ADWN()"}), "drift.error.warning", "did you"),
        (changed(FRAUD, drift__error={"detector": "ADWIN(dleta=1)"}), "drift.error", "dleta"),
        (changed(FRAUD, drift__error={"detector": "A", "reaction": "rest"}), "drift.error.0.reaction", "'reset'?"),
        (changed(FRAUD, drift__loss="DDM()"), "drift.loss", "only takes right or wrong"),
        (changed(SMALLEST["regression"], drift={"loss": "ADWIN()"}), "drift.loss", "is for classes"),
        (changed(SMALLEST["anomaly"], drift={"loss": "ADWIN()"}), "drift.loss", "no error"),
        (changed(SMALLEST["anomaly"], drift={"label_rate": "ADWIN()"}), "drift.label_rate", "needs labels"),
        (changed(FRAUD, drift__label_delay="DDM()"), "drift.label_delay", "only takes right or wrong"),
        (changed(FRAUD, drift__features={"amount": "DDM()"}), "drift.features.amount", "only takes right or wrong"),
        (
            changed(FRAUD, drift__features={"country": {"detector": "ADWIN()", "raw": True}}),
            "drift.features.country.raw",
            "is for number features",
        ),
        (
            changed(FRAUD, drift__features={"country": {"detector": "ADWIN()", "season": "1d"}}),
            "drift.features.country.season",
            "is for number features",
        ),
        (
            changed(FRAUD, drift__features={"amount": {"detector": "ADWIN()", "season": "1d", "raw": True}}),
            "drift.features.amount.raw",
            "cannot be combined with season",
        ),
        (
            changed(FRAUD, drift__features={"amount": {"detector": "ADWIN()", "season": 0}}),
            "drift.features.amount.0.season",
            "greater than or equal to 1",
        ),
        (changed(FRAUD, drift__missing={"amount": "ADWIN()"}), "drift.missing.amount", "is never missing"),
        (changed(FRAUD, drift__missing={"amuont": "ADWIN()"}), "drift.missing.amuont", "did you mean 'amount'?"),
        (
            changed(FRAUD, params={}, model="GaussianNB()", drift__error={"detector": "ADWIN()", "reaction": "boost"}),
            "drift.error",
            "needs a model with a learning rate",
        ),
        (
            changed(FRAUD, params={}, model="VotingClassifier([GaussianNB(), GaussianNB()])", drift__loss="ADWIN()"),
            "drift.loss",
            "gives only classes",
        ),
        (changed(FRAUD, drift__boost_factor=1), "drift.boost_factor", "greater than 1"),
        (changed(FRAUD, limits={"slice_compute_max": 0}), "limits.slice_compute_max", "must be more than 0"),
        (changed(FRAUD, snapshot={"every": 0}), "snapshot.every", "must be more than 0"),
        (changed(FRAUD, dedupe={"max": 0}), "dedupe.max", "greater than or equal to 1"),
        (changed(FRAUD, dedupe={"id_max": 5}), "dedupe.id_max", "unknown key"),
    ],
)  # fmt: skip
def test_problem(doc: object, path: str, text: str) -> None:
    found = problems_of(doc)
    assert path in found
    assert text in found[path]


@pytest.mark.parametrize(
    ("task", "model", "text"),
    [
        ("binary", "LinearRegression()", "needs a classifier"),
        ("binary", "StandardScaler()", "a transformer"),
        ("binary", "HalfSpaceTrees()", "an anomaly detector"),
        ("binary", "KMeans()", "a clusterer"),
        ("binary", "SGD()", "not a model"),
        ("binary", "LogisticRegression() | StandardScaler()", "step 'LogisticRegression' is a classifier"),
        ("binary", "EntropySampler(LogisticRegression())", "an active learner"),
        ("multiclass", "LogisticRegression()", "OneVsRestClassifier"),
        ("regression", "LogisticRegression()", "needs a regressor"),
        ("regression", "PerOutputRegressor(LinearRegression())", "multi-target"),
        ("regression", "BiasedMF()", "users and items"),
        ("anomaly", "LogisticRegression()", "needs an anomaly detector"),
        ("anomaly", "GaussianScorer()", "needs the label"),
        ("binary", "Select('z') | LogisticRegression()", "'z', which is not a declared feature"),
        ("binary", "Discard('z') | LogisticRegression()", "Discard('z')"),
        ("binary", "(Select('x') + Select('yy')) | LogisticRegression()", "did you mean 'y'?"),
        ("binary", "Agg(on='z', by='x', how=Mean()) | LogisticRegression()", "Agg names 'z'"),
        ("binary", "KNNClassifier()", "SWINN"),
        ("binary", "nowhere.to.be:found", "cannot be imported"),
        ("binary", "os:getcwd_", "has no function"),
    ],
)
def test_model_that_the_task_or_the_event_cannot_use(task: str, model: str, text: str) -> None:
    assert text in problems_of(changed(SMALLEST[task], model=model))["model"]


@pytest.mark.parametrize(
    ("model", "unused"),
    [
        ("Select('x') | LogisticRegression()", ["event.features.y"]),
        ("Select('x') + Select('y') | LogisticRegression()", []),
        ("((Select('x') | StandardScaler()) + Select('x')) | LogisticRegression()", ["event.features.y"]),
        ("StandardScaler() | LogisticRegression()", []),
        ("(Select('x') + StandardScaler()) | LogisticRegression()", []),
        ("StandardScaler() | Select('x') | LogisticRegression()", []),
        ("((StandardScaler() | Select('x')) + Select('y')) | LogisticRegression()", []),
        ("((Select('x') | Select('x')) + Select('x')) | LogisticRegression()", ["event.features.y"]),
    ],
)
def test_features_that_no_select_names_are_told(model: str, unused: list[str]) -> None:
    doc = changed(SMALLEST["binary"], model=model)
    if unused:
        assert list(problems_of(doc)) == unused
    else:
        parse_pipeline(doc)


@pytest.mark.parametrize(
    "change",
    [
        {"drift": {"features": {"y": "ADWIN()"}}},
        {"drift": {"missing": {"y": "ADWIN()"}}},
        {"alerts": {"missing_max": {"y": 0.1}}},
        {"metric_by": {"segment": "y"}},
    ],
)
def test_a_feature_may_be_there_to_be_watched_only(change: dict[str, Any]) -> None:
    features = {"x": "number", "y": {"type": "string", "missing": "omit"}}
    doc = changed(SMALLEST["binary"], model="Select('x') | LogisticRegression()", event__features=features)
    assert list(problems_of(doc)) == ["event.features.y"]
    parse_pipeline(doc | change)


@pytest.mark.parametrize(
    ("change", "path"), [({"decision": {"threshold": 0.5}}, "decision"), ({"metrics": ["LogLoss"]}, "metrics")]
)
def test_probabilities_are_needed(change: dict[str, Any], path: str) -> None:
    doc = changed(SMALLEST["binary"], model="VotingClassifier([LogisticRegression(), GaussianNB()])", **change)
    assert "probabilities" in problems_of(doc)[path]


def test_a_document_too_deep_or_too_large_is_told() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert "too deep" in next(iter(problems_of({"pipeline": deep}).values()))
    assert "too large" in next(iter(problems_of({"params": dict.fromkeys(map(str, range(30_000)), 1)}).values()))


def test_a_problem_shows_path_value_and_what_is_allowed() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(changed(FRAUD, task="binry"))
    assert str(caught.value).startswith("task = 'binry': must be 'binary', 'multiclass', 'regression', 'anomaly'")
    assert caught.value.exit_code == 2


def test_a_pipeline_is_a_pipeline() -> None:
    assert isinstance(parse_pipeline(FRAUD), Pipeline)
