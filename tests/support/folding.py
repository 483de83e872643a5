"""`step` for tests: what one record makes, folded for the first time unless a test says otherwise."""

from __future__ import annotations

from driftline.core.fold.step import step as fold
from driftline.core.oracle import Oracle
from driftline.core.output import Output
from driftline.core.record import Record
from driftline.core.shard.state import Shard


def step(shard: Shard, record: Record, oracle: Oracle | None = None) -> list[Output]:
    """The outputs of one record."""
    return list(fold(shard, record, Oracle() if oracle is None else oracle).outputs)
