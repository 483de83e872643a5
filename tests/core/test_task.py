"""Tasks: each object is of its name, whole, and nothing outside the package knows a task by its name."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import metrics

from driftline.core.drift.monitors import DriftMonitors
from driftline.core.output import Judged, ModelVersion, Outcome, Prediction, Several
from driftline.core.river.building import make_metric, make_model
from driftline.core.river.curve import OWN_METRICS
from driftline.core.signal import Signal
from driftline.core.task import TASK_NAMES, UNLABELLED, TaskName, find_task, task_of, tasks

APP = Path(__file__).resolve().parents[2] / "app" / "driftline"
HOME = APP / "core" / "task"
SAME_WORD = {  # a key of bytes, a module of River's, a section of the pipeline file
    "codec/key.py": {"'binary'"},
    "core/river/building.py": {"'binary'"},
    "core/pipeline/beside.py": {"'forecast'"},
    "core/pipeline/form.py": {"'forecast'"},
    "core/pipeline/input.py": {"'binary'"},
    "core/pipeline/forecast.py": {"'forecast'"},
    "core/pipeline/parse.py": {"'forecast'"},
    "core/pipeline/place.py": {"'binary'"},
    "core/pipeline/kpi.py": {"'forecast'"},
    "core/pipeline/rule.py": {"'forecast'"},
    "core/shard/state.py": {"'forecast'"},
    "cli/explain.py": {"'forecast'"},
    "cli/review.py": {"'forecast'"},
    "cli/shards.py": {"'forecast'"},
    "cli/demo_demand.py": {"'forecast'"},
    "engine/note.py": {"'forecast'"},
    "operate/metric.py": {"'forecast'"},
}


@pytest.mark.parametrize("name", TASK_NAMES)
def test_an_object_is_that_of_its_name(name: TaskName) -> None:
    task = task_of(name)
    assert task.name == name
    assert find_task(name) is task is task_of(name)


@pytest.mark.parametrize("given", ["Binary", "", None, 3, ["binary"]])
def test_what_names_no_task(given: object) -> None:
    assert find_task(given) is None


def test_data_without_a_label_has_a_task_that_needs_none() -> None:
    assert not task_of(UNLABELLED).supervised


def _names_compared(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in TASK_NAMES:
            yield f"line {node.lineno}: {node.value!r}"


def test_no_other_module_names_a_task() -> None:
    found = {}
    for path in sorted(APP.rglob("*.py")):
        if HOME in path.parents or str(path.relative_to(APP)) in SAME_WORD:
            continue
        if names := list(_names_compared(ast.parse(path.read_text()))):
            found[str(path.relative_to(APP))] = names
    assert found == {}


def test_a_module_that_has_the_same_word_has_only_that() -> None:
    for name, same in SAME_WORD.items():
        words = {found.split()[-1] for found in _names_compared(ast.parse((APP / name).read_text()))}
        assert words == same, name


def test_tasks_load_neither_river_nor_numpy() -> None:
    code = (
        "import sys; from driftline.core.task import tasks; list(tasks()); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'river', 'numpy', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=APP.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def outcome(prediction: Prediction, label: Any) -> Outcome:
    judged = None
    if isinstance(prediction, Several):
        values, bounds = prediction.ahead, ((1.0, None), (5.0, None))
        versions = (ModelVersion(0, 0),) * 2
        judged = Judged((), 0, 1_000, (1, 2), values, *bounds, (4.0, 4.0), versions, 2.0, 0.9)
    return Outcome("e-0-0-1", "joined", None, 0, "e", 0, None, prediction, None, label, 0, None, judged=judged)


SERVED: dict[TaskName, tuple[Prediction, Any]] = {
    "binary": (Prediction(True, {False: 0.25, True: 0.75}, 0.75), True),
    "multiclass": (Prediction("a", {"a": 0.5, "b": 0.5}), "b"),
    "regression": (Prediction(value=3.0), 4.5),
    "anomaly": (Prediction(value=0.9), True),
    "recommend": (Prediction(True, {"a": 0.5, "b": 0.25}, 0.6), '{"rewards":{"a":1.0,"b":0.0}}'),
    "forecast": (Several(value=3.0, ahead=(3.0, 5.0)), 4.5),
}


@pytest.mark.parametrize("name", TASK_NAMES)
def test_what_is_measured_has_a_value_or_is_of_pairs(name: TaskName) -> None:
    measure = task_of(name).measure
    prediction, label = SERVED[name]
    outcomes = [outcome(prediction, label), outcome(Prediction(), label)]
    columns = measure.columns(outcomes, 0.5)
    assert measure.sums[:2] == ("n", "answered")
    assert columns.sums.shape == (len(measure.sums), 2)
    assert columns.sums[0].tolist() == [1.0, 1.0]
    assert columns.sums[1].tolist() == [1.0, 0.0]
    assert (columns.scores is not None) == bool(measure.bins)
    curve = np.zeros((2, measure.bins), dtype=np.int64) if measure.bins else None
    column = dict(zip(measure.sums, columns.sums.sum(axis=1), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = measure.values(column, curve, None)
    pairs = measure.values_of_pairs(Counter({(label, prediction.label): 1}))
    shown = [metric.name for metric in measure.metrics]
    assert {*values, *pairs} == {*shown}
    assert {*measure.headline} <= {*shown}
    assert {*measure.headline_costs} <= {*shown, "CostPerEvent"}


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_measure_passes_between_processes(name: TaskName) -> None:
    measure = task_of(name).measure
    assert type(pickle.loads(pickle.dumps(measure))) is type(measure)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_usual_metrics_and_naive_models_fit_their_task(name: TaskName) -> None:
    task = task_of(name)
    for expression in task.metrics:
        assert task.refuses_metric(make_metric(expression, {})) is None
    for expression in task.draft.metrics(0.05, True):
        assert task.refuses_metric(make_metric(expression, {})) is None
    for other in (metrics.MAE(), metrics.Accuracy(), OWN_METRICS["ROCAUC"]()):
        fault = task.refuses_metric(other)
        assert fault is None or fault.startswith("is ")
    if task.naive is not None:
        last = make_model(task.naive.model, {}, 42)
        assert task.models.suits(last)
        assert task.models.refuses(last) is None


def test_errors_and_scores_of_each_task() -> None:
    errors = {task.name: task.error and task.error(SERVED[task.name][1], SERVED[task.name][0]) for task in tasks()}
    numbers = {"regression": 1.5, "anomaly": None, "recommend": 0.5, "forecast": 1.5}
    assert errors == {"binary": 0, "multiclass": 1, **numbers}
    assert {task.name: task.watched(SERVED[task.name][0]) for task in tasks()} == {
        "binary": 0.75,
        "multiclass": 0.5,
        "regression": 3.0,
        "anomaly": 0.9,
        "recommend": 0.6,
        "forecast": 3.0,
    }
    for task in tasks():
        if task.error is not None:
            assert task.error(SERVED[task.name][1], Prediction()) == (1 if task.classes else None)
        assert task.watched(Prediction()) is None


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_state_of_monitors_holds_the_name_alone(name: TaskName) -> None:
    state = DriftMonitors(name, ("a",)).__getstate__()
    assert state["task"] == name
    assert not any(callable(part) for part in state.values())
    assert {signal.row.name for signal in Signal if not signal.of_feature} <= state.keys()


@pytest.mark.parametrize("assumed", [None, 1, "a"])
@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_synthetic_label_is_one_of_the_kind(name: TaskName, assumed: Any) -> None:
    class Rules:
        positive = negative = None
        number_max, string_max = 1e15, 1_000

    task = task_of(name)
    for signal in (-3.0, 0.0, 7.5):
        label = task.synthetic(signal, assumed)
        assert task.labels.reader(Rules(), Rules())(label) == label
        assert task.labels.assumable(Rules())(label)
