"""A small campaign of `make chaos`: ten faults on one shard or several, and the promise checked from the topics."""

from __future__ import annotations

import random

import pytest

from tests.chaos.run import Plan, run


@pytest.mark.timeout(600)
async def test_ten_faults(kafka_needs: None) -> None:
    told: list[str] = []
    seed, shards = random.randrange(10_000), random.choice((1, 4))
    plan = Plan(seed, faults=10, events=5_000, gap_s=4.0, workers=2, partitions=4, shards=shards, away_s=12.0)
    result = await run(plan, told.append)
    shown = "\n".join((*told, result.summary(), *result.complaints))
    assert result.ledger.faults.total() == 10
    assert not result.wrong, shown
    assert not result.complaints, shown
