"""Values are the bytes that a dict in the same order makes, written by orjson: digests in journals rest on them."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.codec.encode import Encoder
from driftline.core.output import ModelVersion, Outcome, Prediction, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from tests.support.small import NOW_MS, small

FEATURES = {"x": "number", "größe": "number", "w": "string"}
PIPELINES = (
    small(model="GaussianNB()", event={"features": FEATURES}),
    small(model="GaussianNB()", event={"features": FEATURES}, limits={"number_max": 1e300}),
    small(model="GaussianNB()", event={"features": {**FEATURES, r"say \"": {"type": "number", "path": "q"}}}),
)

NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1e-7, 1e15, 9999999999999998.0, 1e16, -1e16, 1e22, 5e-324, 1.5])
    | st.integers(-(2**63), 2**64 - 1)
)
SMALL = st.floats(-1e15, 1e15) | st.integers(-(10**15), 10**15)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SHARES = st.floats(0, 1)
VERSIONS = st.builds(ModelVersion, st.integers(0, 9), st.integers(0, 10**9))
LABELS = st.booleans() | TEXTS | NUMBERS
PREDICTIONS = (
    st.builds(lambda p: Prediction(p > 0.5, {False: 1 - p, True: p}, p), SHARES)
    | st.builds(Prediction, LABELS, st.dictionaries(st.booleans() | TEXTS, SHARES))
    | st.builds(lambda value: Prediction(value=value), NUMBERS)
    | st.builds(lambda label: Prediction(label=label), LABELS)
    | st.just(Prediction())
)
IDS = TEXTS | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15)


def said(prediction: Prediction) -> dict[str, Any]:
    label, probabilities = prediction.label, prediction.probabilities
    if probabilities is None:
        return {"prediction": label if label is not None else prediction.value}
    if prediction.value is not None:
        return {"prediction": label, "probability": prediction.value}
    names = {name if isinstance(name, str) else orjson.dumps(name).decode(): p for name, p in probabilities.items()}
    return {"prediction": label, "probabilities": names}


@given(IDS, PREDICTIONS, st.none() | st.booleans(), VERSIONS)
def test_scores(event_id: Any, prediction: Prediction, decision: bool | None, version: ModelVersion) -> None:
    source = Source("p.events", 0, 1, NOW_MS, b"k", b"")
    score = Score("o", source, event_id, -5, prediction, decision, "served", version, learned=9)
    expected = {
        "output_id": "o",
        "pipeline": "p",
        "event_id": event_id,
        "event_time_ms": -5,
        "guard": "served",
        "model_version": str(version),
        "learned": 9,
        **said(prediction),
        **({} if decision is None else {"decision": decision}),
    }
    assert Encoder(PIPELINES[0], 0).encode(score).value == orjson.dumps(expected)


def values(of: Pipeline) -> st.SearchStrategy[tuple[Any, ...]]:
    number = NUMBERS if of.limits.number_max > 1e15 else SMALL
    kinds = {"number": number, "string": TEXTS}
    return st.tuples(*(st.none() | kinds[feature.type] for feature in of.event.features.values()))


@given(
    st.sampled_from(PIPELINES).flatmap(lambda of: st.tuples(st.just(of), values(of))),
    IDS,
    PREDICTIONS,
    VERSIONS,
    st.none() | LABELS,
    st.none() | LABELS,
    st.none() | st.integers(-(10**12), 10**12),
    st.none() | TEXTS,
)
@example((PIPELINES[1], (1e16, -1e300, "a")), 1, Prediction(value=1e17), ModelVersion(0, 0), 1e18, 2e18, None, None)
def test_outcomes(
    served: tuple[Pipeline, tuple[Any, ...]],
    event_id: Any,
    prediction: Prediction,
    version: ModelVersion,
    label: Any,
    previous: Any,
    label_time_ms: int | None,
    detail: str | None,
) -> None:
    pipeline, features = served
    outcome = Outcome(
        "o", "joined", b"k", NOW_MS, event_id, 7, features, prediction, version, label, label_time_ms, detail, previous
    )
    expected = {
        "output_id": "o",
        "pipeline": "p",
        "kind": "joined",
        "event_id": event_id,
        **({} if detail is None else {"detail": detail}),
        "event_time_ms": 7,
        "features": dict(zip(pipeline.event.features, features, strict=True)),
        **said(prediction),
        "model_version": str(version),
        **({} if label is None else {"label": label}),
        **({} if previous is None else {"previous_label": previous}),
        **({} if label_time_ms is None else {"label_time_ms": label_time_ms, "label_delay_ms": label_time_ms - 7}),
    }
    assert Encoder(pipeline, 0).encode(outcome).value == orjson.dumps(expected)


def test_a_label_without_an_event_has_nothing_that_was_served() -> None:
    outcome = Outcome("o", "orphan", None, NOW_MS, "e", None, None, None, None, True, 9, "no event")
    about = {"output_id": "o", "pipeline": "p", "kind": "orphan", "event_id": "e", "detail": "no event"}
    expected = {**about, "label": True, "label_time_ms": 9}
    assert Encoder(PIPELINES[0], 0).encode(outcome).value == orjson.dumps(expected)
