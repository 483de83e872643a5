"""Tries an unsigned state before it is used.

Each part of such a state may be of a permitted class and still hold what the code never expects: text where a number
is counted up, a list nested deeper than a snapshot can be written, a number that no journal entry can name. A shard
that went to work with it would end at the next record, and again after each start. So a copy folds a few records first,
and what it made is written as it would be.

Cost: that of a snapshot without the waiting events, and of reading it back.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from driftline.codec.encode import Encoder
from driftline.core.error import SnapshotError
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.record import Event, FeatureValue, Label, LabelValue, Record, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import load, without_ledger
from driftline.core.task import task_of
from driftline.core.timestamp import TIME_MAX_MS

EVENTS = 20
STEP_MS = 1_000


def check_works(shard: Shard) -> None:
    """Whether a copy of a shard takes records, and can be summarized and written.

    Raises:
        SnapshotError: it does not.
    """
    try:
        tried = load(shard.pipeline, shard.number, without_ledger(shard))
        write = Encoder(tried.pipeline, tried.number).encode
        oracle = Oracle()
        for record in _records(tried):
            for made in step(tried, record, oracle).outputs:
                write(made)
            orjson.dumps(tried.summary(), option=orjson.OPT_NON_STR_KEYS)
        tried.moment()
        without_ledger(tried)
        if not -TIME_MAX_MS <= tried.stamp_ms < 2**63:
            raise SnapshotError(f"its records are at {tried.stamp_ms:.6g} ms")
    except SnapshotError:
        raise
    except Exception as error:  # a state of someone else may make anything raise anything
        what = f"{type(error).__name__}: {error}"[:200]
        raise SnapshotError(f"it does not work: after a few records, a copy raised {what}") from error


def _records(shard: Shard) -> Iterator[Record]:
    """Events of the declared types, their labels, and the passing of time."""
    pipeline, topics = shard.pipeline, shard.pipeline.topics
    now_ms = shard.now_ms
    values: dict[str, FeatureValue] = {"number": 1.0, "string": "a", "text": "a", "key": "a", "boolean": True}
    values |= {"items": '[["a",{}]]', "slate": None}
    features, context = pipeline.event.arrange([values[read.type] for read in pipeline.event.read.values()])
    for number in range(EVENTS):
        time_ms = now_ms + number * STEP_MS
        source = Source(topics.events, shard.number, number, time_ms, None, None)
        yield Event(source, time_ms, time_ms, f"\0trial {number}", features, context=context)
        if pipeline.label is not None and topics.labels is not None:
            source = Source(topics.labels, shard.number, number, time_ms, None, None)
            yield Label(source, time_ms, time_ms, f"\0trial {number}", _label(shard))
    yield Tick(shard.number, 1, now_ms + (EVENTS + 1) * STEP_MS)


def _label(shard: Shard) -> LabelValue:
    labels = task_of(shard.pipeline.task).labels
    if task_of(shard.pipeline.task).slates:
        return '["a",1.0]'
    return 1.0 if labels.numeric else True if labels.two_valued else "a"
