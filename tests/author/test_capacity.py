"""What a shard holds, and which histories several of them divide."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.author.capacity import KAFKA_S, divided, events_a_second
from driftline.author.proof import synthetic_records
from driftline.core.pipeline import Pipeline, parse_pipeline


def pipeline(**event: Any) -> Pipeline:
    features = {"x": "number", "n": {"history": "count", "by": ["card", "shop"], "over": "1h"}}
    features |= {"m": {"history": "mean(x)", "by": ["card", "shop"], "over": "1h"}}
    document = {
        "pipeline": "p",
        "task": "binary",
        "shards": event.pop("shards", 1),
        "event": {"id": "id", "context": {"card": "key", "shop": "key", **event}, "features": features},
        "label": {"id": "id", "value": "y", "wait": "1d"},
        "model": "StandardScaler() | LogisticRegression()",
    }
    return parse_pipeline(document)


def test_a_shard_holds_what_its_cpu_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = pipeline()
    records = synthetic_records(chosen, 300)
    rate = events_a_second(chosen, records)
    assert rate is not None
    assert 100 < rate < 1 / KAFKA_S
    ticks = iter(range(10**6))
    monkeypatch.setattr("driftline.author.capacity.time.process_time", lambda: next(ticks) * 0.01)
    slow = events_a_second(chosen, records)
    assert slow is not None
    assert 500 < slow < 3_000  # .01 s for each 32 records, of which half are labels
    assert events_a_second(chosen, []) is None


def test_several_shards_divide_a_history_unless_it_is_by_the_records_key() -> None:
    assert list(divided(pipeline())) == []
    (warning,) = divided(pipeline(shards=3))
    assert warning.startswith("history by card+shop: each of 3 shards keeps only")
    assert "records' key" in warning
    keyed = {"type": "key", "path": "$key"}
    assert list(divided(pipeline(shards=3, card=keyed))) == []
