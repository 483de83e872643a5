"""Prequential metrics: equal to River's to the last digit, exact in the window, untouched by reading."""

from __future__ import annotations

import csv
import gzip
import inspect
import math
import os
import pickle
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import river.anomaly
import river.datasets
import river.dummy
import river.ensemble
import river.evaluate
import river.linear_model
import river.metrics
import river.naive_bayes
import river.neighbors
import river.preprocessing
import river.stats
import river.tree

from driftline.core.error import ExpressionError
from driftline.core.metric.check import check_metric, needs_probabilities
from driftline.core.metric.evaluation import Confusion, Evaluation
from driftline.core.output import Prediction
from driftline.core.pipeline import parse_pipeline
from driftline.core.record import LabelValue
from driftline.core.river.curve import OWN_METRICS, ROCAUC, AveragePrecision
from driftline.core.task import TaskName, task_of

# River is untyped.
anomaly: Any = river.anomaly
datasets: Any = river.datasets
dummy: Any = river.dummy
ensemble: Any = river.ensemble
evaluate: Any = river.evaluate
linear_model: Any = river.linear_model
metrics: Any = river.metrics
naive_bayes: Any = river.naive_bayes
neighbors: Any = river.neighbors
preprocessing: Any = river.preprocessing
stats: Any = river.stats
tree: Any = river.tree

Pairs = list[tuple[dict[str, Any], Any]]

TASKS: tuple[TaskName, ...] = ("binary", "multiclass", "regression", "anomaly")


def exact_roc_auc(pairs: Iterable[tuple[bool, float]]) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting half: O(n log n)."""
    below = twice = positives = negatives = 0
    for positive, negative in _ties(pairs):
        twice += positive * (2 * below + negative)
        below += negative
        positives, negatives = positives + positive, negatives + negative
    return twice / (2 * positives * negatives)


def exact_average_precision(pairs: Iterable[tuple[bool, float]]) -> float:
    """The precision at each positive's score, averaged over positives: O(n log n)."""
    hits = alarms = 0
    total = 0.0
    for positive, negative in reversed(_ties(pairs)):
        hits, alarms = hits + positive, alarms + positive + negative
        total += positive * hits / alarms
    return total / hits


def _ties(pairs: Iterable[tuple[bool, float]]) -> list[tuple[int, int]]:
    """Positives and negatives of each distinct score, ascending."""
    counts: dict[float, list[int]] = {}
    for positive, score in pairs:
        counts.setdefault(score, [0, 0])[0 if positive else 1] += 1
    return [(counts[score][0], counts[score][1]) for score in sorted(counts)]


def accepted(task: TaskName) -> dict[str, Any]:
    """Every metric of River's that the task can use, fresh."""
    found: dict[str, Any] = {}
    for name in metrics.__all__:
        made: Any = getattr(metrics, name, None)
        if not inspect.isclass(made):
            continue
        wanted: dict[str, Any] = {"beta": 0.5} if "beta" in inspect.signature(made).parameters else {}
        try:
            metric = made(**wanted)
            check_metric(name, metric, task_of(task))
        except (ExpressionError, TypeError):
            continue
        found[name] = metric
    return found


def served(task: TaskName, model: Any, x: dict[str, Any]) -> Prediction:
    """A prediction as the champion makes it."""
    if task == "regression":
        return Prediction(value=model.predict_one(x))
    if task == "anomaly":
        return Prediction(value=model.score_one(x))
    try:
        probabilities = model.predict_proba_one(x)
    except NotImplementedError:
        return Prediction(label=model.predict_one(x))
    return Prediction(model.predict_one(x), probabilities, probabilities.get(True, 0.0))


def fold(task: TaskName, pairs: Pairs, model: Any, evaluation: Evaluation) -> Evaluation:
    """Test, then train, over all pairs."""
    for x, y in pairs:
        evaluation.update(y, served(task, model, x))
        model.learn_one(x) if task == "anomaly" else model.learn_one(x, y)
    return evaluation


def river_values(pairs: Pairs, model: Callable[[], Any], names: Iterable[str], task: TaskName) -> dict[str, float]:
    """What River's own evaluation says of the same metrics: one run for those of labels, one for the others."""
    chosen = {name: metric for name, metric in accepted(task).items() if name in names}
    found: dict[str, float] = {}
    for asks in (True, False):
        group = {name: m for name, m in chosen.items() if getattr(m, "requires_labels", True) is asks}
        if group:
            several = metrics.base.Metrics(list(group.values()))
            evaluate.progressive_val_score(pairs, model(), several)
            found |= dict(zip(group, several.get(), strict=True))
    return found


def numbered(pairs: Iterable[tuple[dict[str, Any], Any]]) -> Pairs:
    """With classes as numbers: the order of River's set of string classes depends on the hash seed."""
    kept = list(pairs)
    places = {label: place for place, label in enumerate(sorted({y for _, y in kept}))}
    return [(x, places[y]) for x, y in kept]


PHISHING: Pairs = list(datasets.Phishing().take(600))
SEGMENTS = numbered(datasets.ImageSegments().take(2300))[::8]
TRUMP: Pairs = list(datasets.TrumpApproval().take(500))

BINARY: dict[str, Callable[[], Any]] = {
    "naive Bayes": naive_bayes.GaussianNB,
    "Hoeffding tree": lambda: tree.HoeffdingTreeClassifier(grace_period=50),
    "logistic regression": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
}
MULTICLASS: dict[str, Callable[[], Any]] = {
    "naive Bayes": naive_bayes.GaussianNB,
    "Hoeffding tree": lambda: tree.HoeffdingTreeClassifier(grace_period=50),
    "neighbours": lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=50)),
}
REGRESSION: dict[str, Callable[[], Any]] = {
    "linear regression": lambda: preprocessing.StandardScaler() | linear_model.LinearRegression(),
    "Hoeffding tree": tree.HoeffdingTreeRegressor,
    "mean": lambda: dummy.StatisticRegressor(stats.Mean()),
}


def _same(task: TaskName, pairs: Pairs, model: Callable[[], Any]) -> None:
    chosen = accepted(task)
    names = list(chosen)
    expected = river_values(pairs, model, names, task)
    values = fold(task, pairs, model(), Evaluation(chosen, window=100)).values()
    assert values.pop("label_count") == len(pairs)
    assert list(values) == names
    assert values == {name: None if math.isnan(expected[name]) else expected[name] for name in names}


@pytest.mark.parametrize("model", BINARY)
def test_binary_totals_are_rivers_to_the_last_digit(model: str) -> None:
    _same("binary", PHISHING, BINARY[model])


@pytest.mark.parametrize("model", MULTICLASS)
def test_multiclass_totals_are_rivers_to_the_last_digit(model: str) -> None:
    _same("multiclass", SEGMENTS, MULTICLASS[model])


@pytest.mark.parametrize("model", REGRESSION)
def test_regression_totals_are_rivers_to_the_last_digit(model: str) -> None:
    _same("regression", TRUMP, REGRESSION[model])


def test_a_model_without_probabilities_fills_metrics_of_labels_only() -> None:
    def model() -> Any:
        return ensemble.VotingClassifier([naive_bayes.GaussianNB(), tree.HoeffdingTreeClassifier()])

    chosen = {
        "Accuracy": metrics.Accuracy(),
        "F1": metrics.F1(),
        "LogLoss": metrics.LogLoss(),
        "ROCAUC": ROCAUC(),
    }
    expected = river_values(PHISHING, model, ["Accuracy", "F1"], "binary")
    values = fold("binary", PHISHING, model(), Evaluation(chosen, window=10)).values()
    assert values == {**expected, "LogLoss": None, "ROCAUC": None, "label_count": len(PHISHING)}


def test_string_classes_give_rivers_values_in_an_order_of_our_own() -> None:
    pairs: Pairs = list(datasets.ImageSegments().take(2300))[::8]
    expected = river_values(pairs, naive_bayes.GaussianNB, ["MacroF1", "CohenKappa"], "multiclass")
    chosen = {"MacroF1": metrics.MacroF1(), "CohenKappa": metrics.CohenKappa()}
    values = fold("multiclass", pairs, naive_bayes.GaussianNB(), Evaluation(chosen, window=10)).values()
    assert values == pytest.approx({**expected, "label_count": len(pairs)}, rel=1e-12)


def test_classes_are_sorted_whatever_their_order_of_arrival() -> None:
    confusion = Confusion()
    for y_true, y_pred in [("b", "c"), ("a", "b"), (2, True), (1.5, "a")]:
        confusion.update(y_true, y_pred)
    assert confusion.classes == [True, 1.5, 2, "a", "b", "c"]


# -- windows


def _stream(task: TaskName, count: int, seed: int) -> list[tuple[Any, Prediction]]:
    rng = random.Random(seed)
    made: list[tuple[Any, Prediction]] = []
    for _ in range(count):
        if rng.random() < 0.05:
            made.append((True, Prediction(probabilities={})))
        elif task == "binary":
            p = rng.random() ** 3
            made.append((rng.random() < p, Prediction(p > 0.5, {False: 1 - p, True: p}, p)))
        elif task == "multiclass":
            shares = [rng.random() for _ in range(4)]
            probabilities: dict[LabelValue, float] = {n: share / sum(shares) for n, share in enumerate(shares)}
            label = max(probabilities, key=probabilities.__getitem__)
            made.append((label if rng.random() < 0.6 else rng.randrange(5), Prediction(label, probabilities)))
        else:
            number = rng.gauss(10, 3)
            made.append((number, Prediction(value=number + rng.gauss(0, 1))))
    return made


@pytest.mark.parametrize("task", TASKS[:3])
def test_the_window_holds_the_last_labels_and_nothing_else(task: TaskName) -> None:
    window = 50
    evaluation = Evaluation(accepted(task), window)
    seen: list[tuple[Any, Prediction]] = []
    for number, (y, prediction) in enumerate(_stream(task, 400, seed=7), 1):
        evaluation.update(y, prediction)
        if prediction.label is not None or prediction.value is not None:
            seen.append((y, prediction))
        if number in (1, 30, 49, 50, 51, 400):
            fresh = Evaluation(accepted(task), window)
            for pair in seen[-window:]:
                fresh.update(*pair)
            expected = fresh.values() | {"label_count": min(number, window)}
            assert evaluation.window_values() == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=False)


def test_windowed_curves_are_those_of_the_last_labels() -> None:
    stream = _stream("binary", 900, seed=3)
    evaluation = Evaluation({"ROCAUC": ROCAUC(), "AP": AveragePrecision()}, window=200)
    for y, prediction in stream:
        evaluation.update(y, prediction)
    last = [(y, p.probabilities[True]) for y, p in stream if p.probabilities][-200:]
    values = evaluation.window_values()
    assert values["ROCAUC"] == pytest.approx(exact_roc_auc(last), abs=0.002)
    assert values["AP"] == pytest.approx(exact_average_precision(last), abs=0.002)


def test_no_rounding_error_gathers_in_a_million_updates() -> None:
    """The window's value is the rounded sum of its losses, however many labels there were before."""
    rng = random.Random(5)
    pool = [rng.random() ** 40 for _ in range(997)]
    predictions = [Prediction(p > 0.5, {False: 1 - p, True: p}, p) for p in pool]
    evaluation = Evaluation({"LogLoss": metrics.LogLoss()}, window=100)
    update, count = evaluation.update, 1_000_000
    for number in range(count):
        update(number % 3 == 0, predictions[number % 997])

    def loss(number: int) -> float:
        p = min(max(pool[number % 997], 1e-15), 1 - 1e-15)
        return -math.log(p if number % 3 == 0 else 1 - p)

    assert evaluation.window_values()["LogLoss"] == math.fsum(map(loss, range(count - 100, count))) / 100
    cycle = 997 * 3
    whole, rest = divmod(count, cycle)
    exact = (whole * math.fsum(map(loss, range(cycle))) + math.fsum(map(loss, range(rest)))) / count
    assert evaluation.values()["LogLoss"] == pytest.approx(exact, rel=1e-11)


# -- what does not count, and what cannot be said


def test_values_are_none_until_they_are_defined() -> None:
    chosen = {**accepted("binary"), "AUC": ROCAUC(), "AP": AveragePrecision()}
    evaluation = Evaluation(chosen, window=10)
    empty: dict[str, float | None] = {**dict.fromkeys(chosen), "label_count": 0}
    assert evaluation.values() == evaluation.window_values() == empty
    evaluation.update(True, Prediction())
    evaluation.update(True, Prediction(probabilities={}))
    assert evaluation.values() == evaluation.window_values() == {**empty, "label_count": 2}
    evaluation.update(False, Prediction(False, {False: 1.0}, 0.0))
    values = evaluation.values()
    assert (values["AUC"], values["AP"], values["Accuracy"]) == (None, None, 1.0)


def test_a_class_named_zero_or_false_is_a_prediction_too() -> None:
    evaluation = Evaluation({"Accuracy": metrics.Accuracy(), "CohenKappa": metrics.CohenKappa()}, window=10)
    for y in (0, 1, 0, 1):
        evaluation.update(y, Prediction(0, {0: 0.8, 1: 0.2}))
    assert evaluation.values() == {"Accuracy": 0.5, "CohenKappa": 0.0, "label_count": 4}


@pytest.mark.parametrize("name", ["MSE", "RMSE", "RMSLE", "MAE"])
def test_a_loss_that_is_no_number_is_left_out_and_counted(name: str) -> None:
    evaluation = Evaluation({name: getattr(metrics, name)()}, window=10)
    evaluation.update(1.0, Prediction(value=1.5))
    before = evaluation.values()[name]
    bad = {"RMSLE": -5.0, "MAE": math.inf}.get(name, 1e300)
    evaluation.update(1.0, Prediction(value=bad))
    assert evaluation.values()[name] == evaluation.window_values()[name] == before
    assert evaluation.tracks[name].skipped_count == 1


def test_a_total_beyond_the_floats_is_undefined() -> None:
    evaluation = Evaluation({"MSE": metrics.MSE()}, window=10)
    for _ in range(3):
        evaluation.update(0.0, Prediction(value=1e154))
    assert evaluation.window_values()["MSE"] is None or evaluation.window_values()["MSE"] == pytest.approx(1e308)


@pytest.mark.parametrize("task", TASKS)
def test_reading_leaves_no_trace(task: TaskName) -> None:
    chosen = accepted(task)
    if task == "binary":
        chosen |= {"AUC": ROCAUC(), "AP": AveragePrecision()}
    evaluation = Evaluation(chosen, window=20)
    for y, prediction in _stream(task, 60, seed=11):
        evaluation.update(y, prediction)
    before = pickle.dumps(evaluation)
    evaluation.values()
    evaluation.window_values()
    assert pickle.dumps(evaluation) == before


@pytest.mark.parametrize("task", TASKS[:3])
def test_a_pickle_midway_changes_nothing(task: TaskName) -> None:
    stream = _stream(task, 200, seed=2)
    straight, broken = Evaluation(accepted(task), 30), Evaluation(accepted(task), 30)
    for number, (y, prediction) in enumerate(stream):
        straight.update(y, prediction)
        broken.update(y, prediction)
        if number in (0, 77, 150):
            broken = pickle.loads(pickle.dumps(broken))
    assert broken.values() == straight.values()
    assert broken.window_values() == straight.window_values()


# -- anomaly scores, and data with few positives


def test_anomaly_scores_are_evaluated_as_they_are() -> None:
    rng = random.Random(4)
    pairs: Pairs = []
    for _ in range(1_500):
        odd = rng.random() < 0.03
        pairs.append(({"a": rng.gauss(5 if odd else 0, 1), "b": rng.gauss(0, 1)}, odd))
    for model in (anomaly.HalfSpaceTrees(seed=1, window_size=50), anomaly.OneClassSVM()):
        scores = []
        evaluation = Evaluation({"ROCAUC": ROCAUC(), "AP": AveragePrecision()}, window=100)
        for x, y in pairs:
            prediction = served("anomaly", model, x)
            scores.append((y, prediction.value or 0.0))
            evaluation.update(y, prediction)
            model.learn_one(x)
        values = evaluation.values()
        assert values["ROCAUC"] == pytest.approx(exact_roc_auc(scores), abs=0.01)
        assert values["AP"] == pytest.approx(exact_average_precision(scores), abs=0.01)


@pytest.mark.parametrize("gap", [0.8, 1.6, 3.0])
def test_few_positives_among_low_scores(gap: float) -> None:
    rng = random.Random(6)
    pairs = []
    for _ in range(40_000):
        y = rng.random() < 0.0087
        pairs.append((y, 1 / (1 + math.exp(6 - (gap if y else 0.0) - rng.gauss(0, 0.7)))))
    _close_to_exact(pairs)


def _close_to_exact(pairs: list[tuple[bool, float]]) -> None:
    area, precision = ROCAUC(), AveragePrecision()
    for y, score in pairs:
        area.update(y, score)
        precision.update(y, {False: 1 - score, True: score})
    assert area.get() == pytest.approx(exact_roc_auc(pairs), abs=0.01)
    assert precision.get() == pytest.approx(exact_average_precision(pairs), abs=0.01)


DATA = os.environ.get("DRIFTLINE_DATA")


@pytest.mark.skipif(DATA is None, reason="set DRIFTLINE_DATA to a folder with fraud_handbook_2018-06.csv.gz")
def test_the_fraud_set() -> None:
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    pairs = []
    with gzip.open(Path(DATA or "") / "fraud_handbook_2018-06.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            x = {"amount": float(row["TX_AMOUNT"]), "hour": float(row["TX_DATETIME"][11:13])}
            y = row["TX_FRAUD"] == "1"
            pairs.append((y, model.predict_proba_one(x)[True]))
            model.learn_one(x, y)
    _close_to_exact(pairs)


# -- the choice of metrics


@pytest.mark.parametrize(
    ("task", "metric", "says"),
    [
        ("binary", metrics.MAE(), "common ones are Accuracy, LogLoss, ROCAUC"),
        ("binary", metrics.ROCAUC(), "it is binned"),
        ("binary", metrics.RollingROCAUC(), "write ROCAUC"),
        ("binary", metrics.RollingPRAUC(), "write AveragePrecision"),
        ("binary", metrics.ConfusionMatrix(), "table"),
        ("binary", metrics.ClassificationReport(), "table"),
        ("binary", metrics.Accuracy() + metrics.F1(), "one by one"),
        ("binary", metrics.Silhouette(), "not a metric"),
        ("binary", object(), "not a metric"),
        ("multiclass", metrics.LogLoss(), "two classes"),
        ("multiclass", metrics.F1(), "two classes"),
        ("multiclass", metrics.F1(pos_val="cat"), "wrong value with pos_val"),
        ("multiclass", ROCAUC(), "two classes"),
        ("multiclass", metrics.MultiFBeta(betas={"a": 1.0}, weights=None), "needs weights"),
        ("regression", metrics.Accuracy(), "common ones are MAE, RMSE"),
        ("anomaly", metrics.Accuracy(), "common ones are ROCAUC"),
        ("anomaly", metrics.LogLoss(), "not a metric"),
    ],
)
def test_a_metric_that_the_task_cannot_use_is_refused(task: TaskName, metric: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        check_metric("it", metric, task_of(task))


def test_a_curve_of_one_class_against_the_rest() -> None:
    check_metric("it", ROCAUC(pos_val="cat"), task_of("multiclass"))
    evaluation = Evaluation({"AUC": ROCAUC(pos_val="cat")}, window=10)
    for y, p in (("cat", 0.9), ("dog", 0.2), ("cow", 0.3)):
        evaluation.update(y, Prediction("cat" if p > 0.5 else "dog", {"cat": p, "dog": 1 - p}))
    assert evaluation.values() == evaluation.window_values() == {"AUC": 1.0, "label_count": 3}


def test_river_needs_no_pos_val_yet() -> None:
    """Why it is refused: all right, and still 0. Allow it when this fails."""
    metric = metrics.F1(pos_val="cat")
    metric.update("cat", "cat")
    assert metric.get() == 0.0


def test_metrics_that_need_probabilities() -> None:
    needy = [metrics.LogLoss(), metrics.CrossEntropy(), *(own() for own in OWN_METRICS.values())]
    assert all(needs_probabilities(metric) for metric in needy)
    assert not any(needs_probabilities(metric) for metric in (metrics.Accuracy(), metrics.F1(), metrics.MAE()))


@pytest.mark.parametrize("task", TASKS)
def test_a_pipeline_gets_its_metrics(task: TaskName) -> None:
    models = {
        "regression": "LinearRegression()",
        "anomaly": "HalfSpaceTrees()",
        "binary": "LogisticRegression()",
    }
    pipeline = parse_pipeline(
        {
            "pipeline": "it",
            "task": task,
            "event": {"id": "id", "features": {"a": "number"}},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": models.get(task, "GaussianNB()"),
            "metrics": list(task_of(task).metrics),
            "metric_window": 7,
        }
    )
    evaluation = Evaluation.of(pipeline)
    assert list(evaluation.values()) == [*task_of(task).metrics, "label_count"]
    assert evaluation.window == 7
