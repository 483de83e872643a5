"""Tries an unsigned state before it is used.

Each part of such a state may be of a permitted class and still hold what the code never expects: text where a number
is counted up, a list nested deeper than a snapshot can be written, a number that no journal entry can name. A shard
that went to work with it would end at the next record, and again after each start. So a copy folds a few records first,
and what it made is written as it would be.

Cost: that of a snapshot without the waiting events, and of reading it back; and some microseconds for each of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import orjson
from msgspec import structs

from driftline.codec.encode import Encoder
from driftline.core.error import SnapshotError
from driftline.core.fault import STOPS
from driftline.core.fold.step import step
from driftline.core.label.early import Held
from driftline.core.label.pending import Waiting
from driftline.core.oracle import Oracle
from driftline.core.record import Event, FeatureValue, Label, LabelValue, Record, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import load, without_ledger
from driftline.core.state.soundness import sound
from driftline.core.task import task_of
from driftline.core.timestamp import TIME_MAX_MS

EVENTS = 20
STRAYS = 30  # more than make a shard look for their cause
STEP_MS = 1_000


def check_works(shard: Shard) -> None:
    """Whether a shard is sound (`core.state.soundness`), and a copy of it takes records, and can be summarized and
    written.

    Raises:
        SnapshotError: it is not, or does not.
    """
    for _ in trying(shard):
        pass


def trying(shard: Shard) -> Generator[None, None, None]:
    """`check_works`, pausing now and then."""
    try:
        waiting, early = yield from sound(shard)
        tried = load(shard.pipeline, shard.number, without_ledger(shard))
        _use(tried, waiting, early)
    except (SnapshotError, *STOPS):
        raise
    except BaseException as error:  # of a state of someone else anything may raise anything
        what = f"{type(error).__name__}: {error}"[:200]
        raise SnapshotError(f"it does not work: after a few records, a copy raised {what}") from error


def _use(tried: Shard, waiting: Sequence[Waiting], early: Sequence[Held]) -> None:
    """Fold a few records into a copy, write what they make, and look at all that is shown of it."""
    write = Encoder(tried.pipeline, tried.number).encode
    oracle = Oracle()
    for record in _records(tried, waiting, early):
        for made in step(tried, record, oracle).outputs:
            write(made)
    tried.moment()
    orjson.dumps([tried.next_deadline_ms, tried.awaits_events, tried.summary()], option=orjson.OPT_NON_STR_KEYS)
    without_ledger(tried)
    if not -TIME_MAX_MS <= tried.stamp_ms < 2**63:
        raise SnapshotError(f"its records are at {tried.stamp_ms:.6g} ms")


def _records(shard: Shard, waiting: Sequence[Waiting], early: Sequence[Held]) -> Iterator[Record]:
    """Events of the declared types and their labels; labels of the events that wait, and events of the labels that
    came early, one of each kind; labels that find no event, and the passing of time."""
    made = _Maker(shard)
    for number in range(EVENTS):
        yield made.event(f"\0trial {number}")
        yield from made.label(f"\0trial {number}")
    for number, one in enumerate(waiting):
        for name in ("labelled", "late"):
            shard.pending.add(f"\0{name} {number}", shard.now_ms, one)
        yield from made.label(f"\0labelled {number}")
    for number, held in enumerate(early):
        for name in ("met", "orphan"):
            shard.early.hold(structs.replace(held, event_id=f"\0{name} {number}"))
        yield made.event(f"\0met {number}")
    for number in range(STRAYS):
        yield from made.label(f"\0nowhere {number}")
    label = shard.pipeline.label
    yield made.tick((label.wait_ms + label.early_ms if label else 0) + STEP_MS)
    for number in range(EVENTS):
        yield made.event(f"\0later {number}")
        yield from made.label(f"\0trial {number}")


class _Maker:
    """Makes records, each a second after the one before."""

    def __init__(self, shard: Shard) -> None:
        pipeline = shard.pipeline
        self._shard = shard
        self._topics = pipeline.topics
        values: dict[str, FeatureValue] = {"number": 1.0, "string": "a", "text": "a", "key": "a", "boolean": True}
        values |= {"items": '["a"]', "slate": None}
        self._values = pipeline.event.arrange([values[read.type] for read in pipeline.event.read.values()])
        self._time_ms = shard.now_ms
        self._count = 0

    def _source(self, topic: str) -> Source:
        self._count += 1
        self._time_ms += STEP_MS
        return Source(topic, self._shard.number, self._count, self._time_ms, None, None)

    def event(self, event_id: str) -> Event:
        source, (features, context) = self._source(self._topics.events), self._values
        return Event(source, self._time_ms, self._time_ms, event_id, features, context=context)

    def label(self, event_id: str) -> Iterator[Label]:
        """One; none where the pipeline has none."""
        if self._shard.pipeline.label is not None and self._topics.labels is not None:
            source = self._source(self._topics.labels)
            yield Label(source, self._time_ms, self._time_ms, event_id, _label(self._shard))

    def tick(self, by_ms: int) -> Tick:
        self._time_ms += by_ms
        return Tick(self._shard.number, 1, self._time_ms)


def _label(shard: Shard) -> LabelValue:
    labels = task_of(shard.pipeline.task).labels
    if task_of(shard.pipeline.task).slates:
        return '["a",1.0]'
    return 1.0 if labels.numeric else True if labels.two_valued else "a"
