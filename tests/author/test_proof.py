"""The proof of determinism, without its processes; and what a pipeline will need."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from river import linear_model, preprocessing

from driftline.author.need import bytes_of_waiting, need
from driftline.author.proof import compare, first_difference, fold, look, synthetic_records
from driftline.core.digest import digest_of
from driftline.core.label.ledger import Ledger
from driftline.core.label.pending import Waiting
from driftline.core.label.store import LOOSE
from driftline.core.output import ModelVersion, Outcome, Prediction
from driftline.core.pipeline import parse_pipeline
from driftline.core.record import Event, Label
from driftline.core.river.building import build_model
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.lived import pipelines

FEATURES = {
    "amount": "number",
    "count": {"type": "number", "missing": "omit"},
    "country": {"type": "string", "missing": "none"},
    "night": "boolean",
}
DOC: dict[str, Any] = {
    "pipeline": "p",
    "task": "binary",
    "event": {"id": "id", "features": FEATURES},
    "label": {"id": "id", "value": "y", "wait": "1h"},
    "model": "(Select('amount', 'count', 'night') | StandardScaler()) + (Select('country') | OneHotEncoder())"
    " | LogisticRegression()",
}


def test_records_are_the_same_every_time_and_cover_every_case() -> None:
    pipeline = parse_pipeline(DOC)
    records = synthetic_records(pipeline, 500)
    assert records == synthetic_records(pipeline, 500)
    assert records != synthetic_records(parse_pipeline({**DOC, "seed": 43}), 500)
    events = [record for record in records if isinstance(record, Event)]
    assert len(events) == 500
    assert any(event.features[1] is None for event in events)
    assert any(event.features[2] == "none" for event in events)
    assert {type(event.features[3]) for event in events} == {bool}
    labels = [record for record in records if isinstance(record, Label)]
    assert {label.value for label in labels} == {True, False}
    assert 0.6 < len(labels) / len(events) < 0.95
    shard = Shard(pipeline, 0)
    kinds = Counter(made.kind for record in records for made in step(shard, record) if isinstance(made, Outcome))
    assert {"joined", "expired", "late"} <= set(kinds)


@pytest.mark.parametrize(
    ("task", "model", "kind"),
    [
        ("regression", "LinearRegression()", float),
        ("multiclass", "GaussianNB()", str),
        ("binary", "GaussianNB()", bool),
    ],
)
def test_labels_are_of_the_tasks_type(task: str, model: str, kind: type) -> None:
    doc = {**DOC, "task": task, "model": model, "event": {"id": "id", "features": {"x": "number"}}}
    labels = [record.value for record in synthetic_records(parse_pipeline(doc), 100) if isinstance(record, Label)]
    assert {type(value) for value in labels} == {kind}


def test_classes_are_whole_numbers_where_the_assumed_one_is() -> None:
    label = {"id": "id", "value": "y", "wait": "1h", "missing": {"assume": 0}}
    doc = {**DOC, "task": "multiclass", "model": "PriorClassifier()", "label": label}
    labels = [record.value for record in synthetic_records(parse_pipeline(doc), 100) if isinstance(record, Label)]
    assert {type(value) for value in labels} == {int}


def test_numbers_can_be_kept_from_going_below_zero() -> None:
    def least(negative: bool) -> float:
        records = synthetic_records(parse_pipeline(DOC), 300, negative=negative)
        return min(float(record.features[0] or 0) for record in records if isinstance(record, Event))

    assert least(True) < 0 <= least(False)


def test_folds_with_and_without_freezing_are_equal() -> None:
    pipeline = parse_pipeline(DOC)
    records = synthetic_records(pipeline, 200)
    plain, frozen = fold(pipeline, records), fold(pipeline, records, freeze_at=100)
    verdict = compare(plain, frozen)
    assert verdict.equal
    assert verdict.comparable
    assert plain.state == frozen.state
    assert (plain.scored, plain.failed, plain.withheld) == (200, 0, 0)


EARLY = {  # of a guard that trips while little was learned, and not later
    "untrained": {"labels_min": 20, "action": "fallback"},
    "fallback": [{"value": 0.1}],
}


@pytest.mark.parametrize("name", [*pipelines(), "early"])
def test_freezing_leaves_no_trace_in_any_kind_of_pipeline(name: str) -> None:
    pipeline = parse_pipeline({**DOC, "guard": EARLY}) if name == "early" else pipelines()[name]
    records = synthetic_records(pipeline, 300)
    plain, frozen = fold(pipeline, records), fold(pipeline, records, freeze_at=150)
    verdict = compare(plain, frozen)
    assert (verdict.record, verdict.parts) == (None, ())
    assert verdict.comparable
    assert verdict.equal


class Noisy(preprocessing.StandardScaler):
    chance = random.Random(1)

    def transform_one(self, x: Any) -> Any:
        scaled: dict[str, float] = super().transform_one(x)  # type: ignore[no-untyped-call]  # River's
        return {name: value + self.chance.random() for name, value in scaled.items()}


def test_the_first_step_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("a_users_module")
    module.make = lambda: preprocessing.MinMaxScaler() | Noisy() | linear_model.LogisticRegression()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    features = {"x": "number", "y": "number"}
    pipeline = parse_pipeline({**DOC, "event": {"id": "id", "features": features}, "model": "a_users_module:make"})
    records = synthetic_records(pipeline, 30)
    first = fold(pipeline, records)
    second = fold(pipeline, records)
    verdict = compare(first, second)
    assert not verdict.equal
    assert verdict.record is not None
    looks = [fold(pipeline, records, look_at=verdict.record).steps for _ in range(2)]
    assert first_difference(*looks) == "model > Noisy (its output differs)"


def test_every_step_is_looked_at_and_left_as_it_was() -> None:
    pipeline = parse_pipeline(DOC)
    shard = Shard(pipeline, 0)
    for record in synthetic_records(pipeline, 50):
        step(shard, record)
    features: dict[str, Any] = {"amount": 1.0, "country": "x", "night": True}
    steps = list(look(shard.learner.model, features))
    assert [name.rpartition(" > ")[2] for name, _, _ in steps] == [
        "Select", "StandardScaler", "Select", "OneHotEncoder", "LogisticRegression",
    ]  # fmt: skip
    assert steps == list(look(shard.learner.model, features))


def test_looking_leaves_a_step_that_draws_on_demand_alone() -> None:
    doc = {**DOC, "model": "SparseRandomProjector() | LogisticRegression()"}
    model = build_model(parse_pipeline({**doc, "event": {"id": "id", "features": {"x": "number"}}}))
    before = digest_of(model)
    assert list(look(model, {"x": 1.0}))
    assert digest_of(model) == before


def test_failures_are_counted_with_what_was_raised() -> None:
    pipeline = parse_pipeline({**DOC, "model": "StandardScaler() | LogisticRegression()"})
    trace = fold(pipeline, synthetic_records(pipeline, 50))
    assert trace.failed > 20
    assert trace.failure is not None
    assert "TypeError" in trace.failure


# -- needs


def test_pending_events_are_rate_times_wait() -> None:
    estimate = need(parse_pipeline({**DOC, "shards": 4}), 100)
    assert estimate.pending_events == 360_000
    assert estimate.pending_bytes == 360_000 * estimate.event_bytes
    assert not estimate.crowded
    assert estimate.retention_ms == 25 * 3_600_000
    crowded = need(parse_pipeline({**DOC, "shards": 4}), 10_000)
    assert crowded.crowded
    assert crowded.pending_bytes == 4_000_000 * crowded.event_bytes


def test_without_a_rate_the_bound_is_told() -> None:
    estimate = need(parse_pipeline({**DOC, "shards": 2}), None)
    assert (estimate.pending_events, estimate.pending_max, estimate.crowded) == (2_000_000, 2_000_000, False)


def test_without_labels_nothing_waits() -> None:
    doc = {
        **DOC,
        "task": "anomaly",
        "label": None,
        "model": "HalfSpaceTrees()",
        "event": {"id": "i", "features": {"x": "number"}},
    }
    assert need(parse_pipeline(doc), 100).pending_bytes == 0


def test_the_estimate_is_near_what_python_takes() -> None:
    features = {f"x{number}": "number" for number in range(10)}
    pipeline = parse_pipeline({**DOC, "event": {"id": "id", "features": features}, "model": "LogisticRegression()"})
    count = 24 * LOOSE  # most of them have waited for so long that they are packed
    tracemalloc.start()
    pending = Ledger(pending_max=10 * count, id_max=10 * count)
    before, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        prediction = Prediction(True, {False: number * 0.1, True: number * 0.2}, number * 0.3)
        values = tuple(number * 1.1 + place for place in range(10))
        key = f"{number:036d}".encode()
        waiting = Waiting(number, key, 10**12 + number, values, prediction, ModelVersion(0, number))
        pending.add(f"{number:036d}", 0, waiting)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    measured = (after - before) / count
    assert 0.75 * measured < bytes_of_waiting(pipeline) < 1.5 * measured
