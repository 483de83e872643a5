"""How good the second model was, by published outcomes: what a shard counts itself."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from driftline.codec.encode import Encoder
from driftline.codec.outcome import OutcomeReader
from driftline.core.guard.beside import Beside, worded
from driftline.core.output import Outcome, Output
from driftline.core.pipeline import Pipeline
from driftline.core.shard.state import Shard
from tests.core.guard.test_second import OTHER, ahead, observed
from tests.support.small import NOW_MS, chosen, event, fold, label, small

STOPS: dict[str, Any] = {"untrained": {"labels_min": 10, "action": "fallback"}}
PIPELINES: dict[str, Pipeline] = {
    "regression": small("regression", guard={**STOPS, "fallback": [{"model": OTHER}, {"value": 0.5}]}),
    "binary": small("binary", guard={**STOPS, "fallback": [{"model": "Select('x') | GaussianNB()"}, {"value": 0.5}]}),
    "multiclass": small(
        "multiclass",
        guard={
            **STOPS,
            "fallback": [{"model": "Select('x') | GaussianNB()"}, {"value": "b"}],
        },
    ),
    "forecast": ahead("StandardScaler() | LinearRegression()", "SeasonalNaive()"),
}


def lived(pipeline: Pipeline, here: Shard) -> list[Output]:
    made = list[Output]()
    for number in range(80):
        x = float(number % 7)
        if number == 50:
            here.learner.reset()  # the second one goes on
        if pipeline.task == "forecast":
            made += observed(here, number, 40.0 + 4 * x)
            continue
        truth: Any = {"regression": x / 6, "binary": x > 3, "multiclass": "ab"[number % 2]}[pipeline.task]
        made += fold(here, event(number, NOW_MS + number, x, offset=number))
        made += fold(here, label(number, truth, NOW_MS + number, offset=number))
    return made


@pytest.mark.parametrize("task", sorted(PIPELINES))
def test_what_outcomes_say_is_what_the_shard_counts(task: str) -> None:
    pipeline = PIPELINES[task]
    here, encoder, reader = Shard(pipeline, 0), Encoder(pipeline, 0), OutcomeReader(pipeline)
    found = Beside(pipeline.task)
    outcomes: list[Outcome] = chosen(lived(pipeline, here), Outcome)
    for outcome in outcomes:
        read = reader.read(orjson.loads(encoder.encode(outcome).value or b""))
        assert read is not None
        found.add(read)
    shown = here.guarded()["second_model"]
    assert found.labels == shown["labels"] > 60
    assert found.means == pytest.approx((shown["first_error"], shown["error"]))
    assert here.counts["instead_second_model"] > 0
    assert str(found.labels) in worded(found.labels, *(found.means or (0.0, 0.0)))
    for outcome in outcomes:
        found.add(outcome, times=-1)
    assert found.means is None


def test_an_outcome_whose_lists_do_not_fit_compares_nothing() -> None:
    pipeline = PIPELINES["forecast"]
    here, encoder, reader = Shard(pipeline, 0), Encoder(pipeline, 0), OutcomeReader(pipeline)
    found = Beside(pipeline.task)
    for outcome in chosen(lived(pipeline, here), Outcome):
        document = orjson.loads(encoder.encode(outcome).value or b"")
        if "forecast" in document:
            document["forecast"]["second_model"] = [1.0] * 7
        if (read := reader.read(document)) is not None:
            found.add(read)
    assert found.means is None
