"""Published outcomes are read back as what they were written from: figures made of either are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from driftline.backtest.measure import total_values
from driftline.backtest.tally import Tally
from driftline.codec.encode import Encoder, Message
from driftline.codec.outcome import OutcomeReader
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome
from driftline.core.record import Record
from tests.support.lived import Life, pipelines


class Recorded(Life):
    """Keeps the outcomes as they were made."""

    outcomes: list[Outcome]

    def _fold(self, record: Record) -> list[Message]:
        made = step(self.shard, record, Oracle()).outputs
        self.outcomes += [one for one in made if isinstance(one, Outcome)]
        return []


@pytest.mark.parametrize("name", sorted(pipelines()))
def test_figures_of_what_was_published_are_those_of_what_was_made(name: str) -> None:
    chosen = pipelines()[name]
    life = Recorded(chosen)
    life.outcomes = []
    life.run(300)
    life.end()
    encode, reader = Encoder(chosen, 0).encode, OutcomeReader(chosen)
    read = [reader.read(orjson.loads(encode(one).value or b"")) for one in life.outcomes]
    pairs: list[list[Outcome]] = [
        [one for one in part if one is not None and one.label is not None and one.prediction is not None]
        for part in (life.outcomes, read)
    ]
    assert len(pairs[0]) == len(pairs[1]) > 50
    tallies = [Tally(chosen.model_copy(update={"kpi": {}, "guard": None}), None) for _ in pairs]
    for tally, part in zip(tallies, pairs, strict=True):
        tally.add(part)
    first, second = tallies
    assert np.array_equal(first.total.sums, second.total.sums)
    assert np.array_equal(first.total.curve, second.total.curve)
    assert first.confusion == second.confusion
    assert total_values(first, None).keys()
    for one, other in zip(*pairs, strict=True):
        assert (one.kind, one.event_id, one.event_time_ms, one.label_time_ms, one.version, one.priced) == (
            other.kind, other.event_id, other.event_time_ms, other.label_time_ms, other.version, other.priced
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "none of ours"},
        {"event_time_ms": "noon"},
        {"model_version": "1.x"},
        {"model_version": "9" * 30 + ".1"},
        {"probability": [1]},
        {"probability": 2.0},
        {"probability": -1e308},
        {"probabilities": {"a": 1e308}},
        {"features": {"word": [1]}},
        {"features": 3},
    ],
)
def test_what_is_not_of_our_form_is_passed_over(change: dict[str, Any]) -> None:
    document = {"output_id": "e-0-1-1", "kind": "joined", "event_id": "e1", "model_version": "0.3", "prediction": True}
    reader = OutcomeReader(pipelines()["guarded class"])
    assert reader.read(document) is not None
    assert reader.read({**document, **change}) is None
