"""The tables of signals, conditions and kinds of alert: nothing is watched that one of them forgets."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import river.drift
from msgspec import structs

from driftline.author.proof import synthetic_records
from driftline.core.alert.condition import LOST, SILENT, Condition, watched
from driftline.core.alert.content import drift_sign, reaction_sign
from driftline.core.alert.kind import row_of
from driftline.core.drift.monitor import Drift
from driftline.core.drift.monitors import DriftMonitors
from driftline.core.drift.reaction import Reaction
from driftline.core.error import InvariantError
from driftline.core.output import Prediction
from driftline.core.pipeline import AlertKind, Pipeline, parse_pipeline
from driftline.core.pipeline.watch import Drift as Section
from driftline.core.shard.state import Shard
from driftline.core.signal import BITS, DIRECT, FEATURE_KEYS, Signal
from driftline.core.task import TASK_NAMES, TaskName
from tests.support.folding import step
from tests.support.series import pipeline as series
from tests.support.watching import watching

drift: Any = river.drift  # River is untyped

ROOT = Path(__file__).resolve().parents[2]
FIRES = "DummyDriftDetector(t_0=30)"
FALLS = Drift("error", "error", FIRES, "drift", "fall", 0.5, 0.25, 900, 300, 1_200, 1, alerts=True)


def pipeline(task: TaskName = "binary", **sections: Any) -> Pipeline:
    models = {"regression": "LinearRegression()", "anomaly": "HalfSpaceTrees()", "forecast": "LinearRegression()"}
    model = {**models, "recommend": "LinearItems()"}.get(task, "GaussianNB()")
    features = {"a": "number", "b": {"type": "number", "missing": "omit"}, "c": "string", "d": "boolean"}
    if task == "binary":
        model = "(Select('a', 'b', 'd') | StandardScaler()) + (Select('c') | OneHotEncoder()) | GaussianNB()"
    else:
        features = {"a": "number"}
    own: dict[str, Any] = {"label": {"id": "id", "value": "y", "wait": "10s"}}
    if task == "recommend":
        own = {"label": {**own["label"], "item": "item"}, "recommend": {"catalogue": ["a", "b"]}}
    elif task == "forecast":
        own = {"forecast": {"target": "a", "step": "1d", "horizons": 2}}
    document = {"pipeline": "fraud", "task": task, "event": {"id": "id", "features": features}, "model": model}
    return parse_pipeline({**document, **own, **sections})


def name_of(signal: Signal) -> str:
    return signal.named("c=x" if signal is Signal.RATE else "c")


def test_every_signal_that_a_file_may_name_reaches_its_detectors_and_the_counts() -> None:
    """A signal that nobody feeds is found here: each one's detector fires at its thirtieth value."""
    asked: dict[str, Any] = {signal.row.key: FIRES for signal in DIRECT}
    asked |= {"features": dict.fromkeys("acde", FIRES)} | {signal.row.key: {"b": FIRES} for signal in BITS}
    features = {"a": "number", "b": {"type": "number", "missing": "omit"}, "c": "string", "d": "boolean", "e": "text"}
    event = {"id": "id", "features": features}
    shard = Shard(pipeline(event=event, drift={**asked, "reference_size": 50, "warmup_labels": 10}), 0)
    made = [output for record in synthetic_records(shard.pipeline, 600) for output in step(shard, record)]
    assert made
    assert {Signal.read(name)[0] for name, _ in shard.drifts} == set(Signal)


def test_a_state_from_before_a_signal_was_added_goes_on_without_its_detectors() -> None:
    whole = watching("binary", (), loss=[("A", drift.ADWIN())], error=[("B", drift.ADWIN())])
    state = whole.__getstate__()
    assert {signal.row.name for signal in DIRECT} < state.keys()
    del state["loss"]
    older = DriftMonitors.__new__(DriftMonitors)
    older.__setstate__(state)
    assert list(older.state()) == ["error"]
    assert older.on_label(True, Prediction(True, {True: 0.9, False: 0.1}, 0.9)) == ()
    assert older.direct[Signal.ERROR][0].observed == 1
    assert pickle.loads(pickle.dumps(older)).state() == older.state()


def test_the_file_s_section_has_a_key_for_each_signal_and_no_other() -> None:
    lists = {
        name: field for name, field in Section.model_fields.items() if "DetectorForm" in str(field.annotation)
    }  # detectors, unlike the settings beside them
    assert set(lists) == {signal.row.key for signal in DIRECT} | set(FEATURE_KEYS)


@pytest.mark.parametrize("task", TASK_NAMES)
@pytest.mark.parametrize("signal", Signal)
def test_every_signal_is_worded_as_itself(signal: Signal, task: TaskName) -> None:
    name = name_of(signal)
    signs = [
        drift_sign(pipeline(task), structs.replace(FALLS, signal=name, direction=direction), None)
        for direction in ("rise", "fall")
    ]
    assert signs[0].sentence != signs[1].sentence
    for sign in signs:
        assert sign.kind == signal.row.kind
        assert sign.sentence.startswith(f"Since about 300 {signal.row.counted} ago, ")
        assert sign.sentence.endswith(" now.")
        assert "fraud" in sign.sentence
        assert sign.calm.startswith("No further change in ")
        assert "fraud" in sign.calm
        assert ("the values of" in sign.sentence) == (signal is Signal.FEATURE)
        assert sign.evidence["signal"] == name
    told = reaction_sign(pipeline(task), Reaction("boost", structs.replace(FALLS, signal=name), 5)).sentence
    assert ("because c" in told) == signal.of_feature


def test_sentences_differ_between_signals() -> None:
    signs = [drift_sign(pipeline(), structs.replace(FALLS, signal=name_of(signal)), None) for signal in Signal]
    assert len({sign.sentence for sign in signs}) == len(Signal)


@pytest.mark.parametrize("name", ["entropy", "entropy:amount", "", "Error"])
def test_a_signal_that_the_table_has_not_is_no_data_drift(name: str) -> None:
    with pytest.raises(InvariantError, match="no drift signal"):
        drift_sign(pipeline(), structs.replace(FALLS, signal=name), None)


def test_names_are_read_back() -> None:
    for signal in Signal:
        assert Signal.read(name_of(signal)) == (signal, ("c=x" if signal is Signal.RATE else "c") * signal.of_feature)
    assert Signal.FEATURE.named("a:b") == "feature:a:b"
    assert Signal.FEATURE.path("a:b") == "drift.features.a:b"
    assert Signal.ERROR.path() == "drift.error"


def test_docs_and_schema_list_each_signal() -> None:
    rows = re.findall(r"^\| `([a-z_]+)[^|]*\|[^|]*\| (\w+) \|$", (ROOT / "docs/drift.md").read_text(), re.MULTILINE)
    way = {"rise": "rises", "fall": "falls", "both": "moves"}
    assert dict(rows) == {signal.row.name: way[signal.row.bad] for signal in Signal}
    schema = json.loads((ROOT / "schemas/alert.schema.json").read_text())
    described = schema["oneOf"][0]["properties"]["evidence"]["properties"]["signal"]["description"]
    assert set(re.findall(r"\w+", described)) >= {signal.row.name for signal in Signal}


# -- conditions and kinds


def test_no_condition_shares_its_episode_with_another_or_with_a_drift() -> None:
    kpi = {"loss": {"unit": "EUR", "costs": {"false_positive": 1}, "limit": 5}}
    asked: dict[str, Any] = {
        "label_coverage_min": 0.5, "label_delay_max": "5s", "performance": {"LogLoss": {"max": 1}},
        "missing_max": {"b": 0.5}, "throughput": {"window": "1h"},
    }  # fmt: skip
    fallback = [{"model": "Select('a') | GaussianNB()"}]
    guard = {"untrained": {"labels_min": 5, "action": "fallback"}, "fallback": fallback}
    names = watched(pipeline(alerts=asked, guard=guard, kpi=kpi))
    of_series = watched(series(guard={"step": {"ratio_max": 3, "action": "flag"}}))
    assert "level" in of_series
    assert "level" not in watched(series(guard={"step": {"difference_max": 3, "action": "flag"}}))
    names |= of_series
    assert {"metric:LogLoss", "missing:b", "rejected:events", "label_match:ids", "throughput", "errors"} < names
    assert {name.partition(":")[0] for name in names} == {condition.row.name for condition in Condition}
    assert names.isdisjoint(signal.row.episode for signal in Signal)
    assert names > {*LOST, SILENT}


def test_a_condition_is_watched_only_where_it_is_asked_for() -> None:
    names = watched(pipeline("anomaly", label=None, alerts={"unmatched_max": 1}))
    assert names == {"rejected:events", "rejected:labels", "errors", "model", "model_change"}


def test_every_kind_of_alert_is_raised_by_something_and_has_its_row() -> None:
    raised = {signal.row.kind for signal in Signal} | {condition.row.kind for condition in Condition}
    assert raised == set(get_args(AlertKind))
    assert all(row_of(kind).audience for kind in raised)
