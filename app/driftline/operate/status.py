"""The status of every shard from its journal: positions, lag, and the summary in its entries.

Reads Kafka alone, so it answers whether or not a worker runs; it joins no group and changes nothing. `look` is for when
something is wrong: it says what it could not learn instead of waiting for it, and what stands in the way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from driftline.codec.inputs import Inputs
from driftline.codec.journal import EpochEntry, Link, decode_link
from driftline.codec.seal import is_sealed
from driftline.core.error import DriftlineError, InvariantError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_name, input_place, topic_of
from driftline.engine.trust import name_of
from driftline.kafka.broker import KafkaBroker
from driftline.operate.kpi import KpiNote
from driftline.transport.obstacle import open_text
from driftline.transport.port import Place

LOOK_BACK = 400  # journal offsets
READ_RECORDS_MAX = 1_000
AT_ONCE = 8  # shards; each takes a few connections
SHOWN_AHEAD = ("MAE", "MASE", "Coverage")  # metrics of forecasts, by horizon
SHOWN = frozenset({*SHOWN_AHEAD, "NaiveMAE", "NaiveMASE"})
SECOND_LOOK_S = 1.0  # a transaction that is as open after this long is worth a word
STEPS_PATIENCE = 5  # a cluster that has answered may take so many times longer over the rest


class ShardStatus(Struct, frozen=True):
    """One shard, as its journal has it.

    Args:
        positions: next offset by input; empty before the first start.
        lag: offsets from there to the last stable offset, by input; none where nothing readable is left.
        slice_number, epoch: of the last entry.
        note: the shard's own summary, at most a second older than the last entry under load; None if there is none.
        lag_to_end: as `lag`, to the end, with what open transactions hold back.
        troubles: what stands in the way, or could not be learned, as text.
    """

    partition: int
    positions: dict[str, int]
    lag: dict[str, int]
    slice_number: int
    epoch: int
    note: dict[str, Any] | None
    lag_to_end: dict[str, int] = {}
    troubles: tuple[str, ...] = ()


class Edges(NamedTuple):
    """Where partitions begin and end: the first offset that is kept, the last stable offset, the high watermark."""

    beginnings: Mapping[Place, int]
    stable: Mapping[Place, int]
    ends: Mapping[Place, int]


class _Journal:
    """The end of one journal, as far as it is shown: whoever wrote its records may have made them large and many.

    Args:
        names: of the shard's inputs.

    Attributes:
        positions: next offset by input, as far as an entry names it.
        slice_number, epoch: the greatest.
        note: the last summary of the state that the shard has; None where another state has begun since.
        noted: some entry has one.
        bad, bad_count: offset of the first record that is not an entry, and what is wrong with it; and how many there
            are.
        signed: an entry among them is sealed with a key of the deployment, which has one.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self.bad: tuple[int, str] | None = None
        self.bad_count = 0
        self.signed = False
        self._begin()

    def _begin(self) -> None:
        self.positions: dict[str, int] = {}
        self.slice_number = self.epoch = 0
        self.note: dict[str, Any] | None = None
        self.noted = False

    def sign(self) -> None:
        """An entry that is sealed comes: what lies before it may be anybody's."""
        if not self.signed:
            self.signed = True
            self._begin()

    def refuse(self, offset: int, why: str) -> None:
        """A record is not an entry of ours."""
        self.bad = self.bad or (offset, why)
        self.bad_count += 1

    def take(self, linked: Link) -> None:
        """The next entry."""
        entry = linked.entry
        if isinstance(entry, EpochEntry):
            self._move(entry.positions)
            self.epoch = max(self.epoch, entry.number)
            if entry.state != "kept":
                self.note = None
        else:
            self._move({name: part.stop for name, part in entry.inputs.items()})
            self.slice_number = max(self.slice_number, entry.number)
            self.epoch = max(self.epoch, entry.epoch)
        if linked.note is not None:
            self.note, self.noted = linked.note, True
            self._move(linked.note["positions"])

    def _move(self, positions: Mapping[str, int]) -> None:
        self.positions.update({name: offset for name, offset in positions.items() if name in self._names})


async def read_status(broker: KafkaBroker, pipeline: Pipeline, layout: Layout) -> Sequence[ShardStatus]:
    """Every shard of a pipeline.

    Raises:
        BrokerError: Kafka cannot be reached.
    """
    places = {shard: _places(pipeline, layout, shard) for shard in range(layout.shards)}
    edges = await _edges(broker, [place for ours in places.values() for place in ours])
    return [await _shard(broker, pipeline, shard, ours, edges) for shard, ours in places.items()]


async def look(
    broker: KafkaBroker, pipeline: Pipeline, layout: Layout, leaderless: Collection[tuple[str, int]], patience_s: float
) -> Sequence[ShardStatus]:
    """Every shard of a pipeline; what cannot be learned in time is named in its `troubles`.

    Args:
        leaderless: partitions, as (topic, number), that no broker answers for.
        patience_s: how long a cluster may take to answer at all; it has done so once already.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(shard: int) -> ShardStatus:
        async with room:
            places = _places(pipeline, layout, shard)
            return await _look_at(broker, pipeline, shard, places, leaderless, patience_s * STEPS_PATIENCE)

    return await asyncio.gather(*map(one, range(layout.shards)))


async def _look_at(
    broker: KafkaBroker,
    pipeline: Pipeline,
    shard: int,
    places: Sequence[Place],
    leaderless: Collection[tuple[str, int]],
    patience_s: float,
) -> ShardStatus:
    if away := [place for place in places if place in leaderless]:
        return _unknown(shard, f"no broker available for {', '.join(f'{one.topic}-{one.partition}' for one in away)}")
    try:
        async with asyncio.timeout(patience_s):
            edges = await _edges(broker, places)
            found = await _shard(broker, pipeline, shard, places, edges)
            found = await _without_tails(broker, found, edges)
            return replace(found, troubles=(*found.troubles, *await _open(broker, pipeline, places, edges)))
    except TimeoutError:
        return _unknown(shard, f"Kafka did not answer for its partitions within {patience_s:g} s")
    except DriftlineError as error:
        return _unknown(shard, str(error))


def _unknown(shard: int, why: str) -> ShardStatus:
    return ShardStatus(shard, {}, {}, 0, 0, None, {}, (f"shard {shard} is unknown: {why}",))


def by_topic(values: Mapping[str, int]) -> dict[str, int]:
    """The figures of a shard's inputs, added up by topic."""
    found: Counter[str] = Counter()
    for name, value in values.items():
        found[topic_of(name)] += value
    return dict(found)


def _places(pipeline: Pipeline, layout: Layout, shard: int) -> list[Place]:
    """The inputs of a shard, and last its journal."""
    return [*layout.places(Inputs(pipeline).topics, shard), Place(pipeline.topics.journal, shard)]


async def _edges(broker: KafkaBroker, places: Sequence[Place]) -> Edges:
    return Edges(
        *await asyncio.gather(broker.beginnings(places), broker.ends(places), broker.ends(places, readable=False))
    )


async def _shard(
    broker: KafkaBroker, pipeline: Pipeline, shard: int, places: Sequence[Place], edges: Edges
) -> ShardStatus:
    *inputs, place = places
    names = {input_name(*one, shard) for one in inputs}
    journal = await _last_entries(broker, place, names, edges.beginnings[place], edges.stable[place])
    positions = journal.positions or {input_name(*one, shard): edges.beginnings[one] for one in inputs}

    def lag(ends: Mapping[Place, int]) -> dict[str, int]:
        known = [(name, ends.get(input_place(name, shard))) for name in positions]
        return {name: max(0, end - positions[name]) for name, end in known if end is not None}

    return ShardStatus(
        shard,
        positions,
        lag(edges.stable),
        journal.slice_number,
        journal.epoch,
        journal.note,
        lag(edges.ends),
        tuple(_bad_texts(place, journal)),
    )


def _bad_texts(place: Place, journal: _Journal) -> Iterator[str]:
    if journal.bad is not None:
        offset, why = journal.bad
        more = f" and {journal.bad_count - 1:,} more" if journal.bad_count > 1 else ""
        where = f"{place.topic}-{place.partition}"
        yield (
            f"{where} holds a record at offset {offset}{more} that is not a journal entry ({why}): another program "
            "writes to it. A worker stops there when it recovers; run `driftline verify` for details"
        )


async def _without_tails(broker: KafkaBroker, found: ShardStatus, edges: Edges) -> ShardStatus:
    """Count a lag from the first record that can be read: what was aborted, and markers, take offsets too."""
    lag, lag_to_end = dict(found.lag), dict(found.lag_to_end)
    for name in [name for name, count in found.lag.items() if count]:
        place = input_place(name, found.partition)
        stop = edges.stable[place]
        reader = broker.reader()
        try:
            await reader.open({place: max(found.positions[name], edges.beginnings[place])})
            left = await reader.read(place, 1, stop)
        finally:
            await reader.close()
        lag[name] = stop - left[0].offset if left else 0
        lag_to_end[name] -= found.lag[name] - lag[name]
    return replace(found, lag=lag, lag_to_end=lag_to_end)


async def _open(broker: KafkaBroker, pipeline: Pipeline, places: Sequence[Place], edges: Edges) -> list[str]:
    """Transactions that are open and stay so, as text."""
    held = [place for place in places if edges.stable[place] < edges.ends[place]]
    if not held or pipeline.delivery != "exactly_once":
        return []
    await asyncio.sleep(SECOND_LOOK_S)
    again = await broker.ends(held)
    return [
        open_text(
            place,
            edges.stable[place],
            await broker.time_of(place, edges.stable[place]),
            edges.ends[place] - edges.stable[place],
        )
        for place in held
        if again[place] == edges.stable[place]
    ]


async def _last_entries(
    broker: KafkaBroker, place: Place, names: Collection[str], beginning: int, end: int
) -> _Journal:
    """The last entries of a journal, back to one that names every position: an epoch, or one with a note.

    With keys back to a sealed one: without it, entries cannot be distinguished from what others wrote after them.
    """
    look_back = LOOK_BACK
    while True:
        start = max(beginning, end - look_back)
        found = await _entries_from(broker, place, names, start, end)
        trusted = found.signed or not broker.ring
        if start == beginning or (trusted and found.noted):
            return found
        look_back *= 8


async def _entries_from(broker: KafkaBroker, place: Place, names: Collection[str], start: int, end: int) -> _Journal:
    found = _Journal(names)
    reader = broker.reader()
    await reader.open({place: start})
    try:
        while sources := await reader.read(place, READ_RECORDS_MAX, end):
            for source in sources:
                if is_sealed(source.value, name_of(place), broker.ring):
                    found.sign()
                elif found.signed:
                    found.refuse(source.offset, "not signed with a key of this deployment")
                    continue
                try:
                    found.take(_sound(decode_link(source.value)))
                except InvariantError as error:
                    found.refuse(source.offset, str(error).partition("(")[2].partition(")")[0] or "unknown")
    finally:
        await reader.close()
    return found


class _Taken(Struct):
    """A command in a note."""

    command: str
    by: str
    time_ms: int


class _Guard(Struct):
    """What the guard did, in a note."""

    tripped: dict[str, int]
    instead: dict[str, int]
    held: int = 0


class _Learning(Struct):
    """What is held back from learning, in a note."""

    stopped: bool = False
    held: int = 0
    deadline_ms: int | None = None
    quarantine: dict[str, int] = {}
    suspect: bool = False


class _Forecast(Struct):
    """Forecasts, in a note: metrics over all horizons, and by horizon."""

    series: int
    evicted: int
    judged: int
    metrics: dict[str, float | None] = {}
    by_horizon: dict[str, list[float | None]] = {}

    def __post_init__(self) -> None:
        shown = all(self.by_horizon.get(name) for name in SHOWN_AHEAD) and self.metrics.keys() >= SHOWN
        if self.judged and not shown:
            raise ValueError("forecasts without their metrics")


class _Note(Struct):
    """The kinds of what an entry carries for people, as far as it is shown."""

    positions: dict[str, int]
    pending: int = 0
    counts: dict[str, int] = {}
    metrics: dict[str, float | None] = {}
    window_metrics: dict[str, float | None] = {}
    watermark_ms: int | None = None
    unanswered: int = 0
    early: int = 0
    labels: dict[str, int] = {}
    rejected: dict[str, int] = {}
    coverage: float | None = None
    version: str = ""
    frozen: bool = False
    loading: tuple[int, int] | None = None
    commands: list[_Taken] = []
    episodes: list[str] = []
    acknowledged: list[str] = []
    stopped_detectors: list[str] = []
    history: dict[str, dict[str, int]] = {}
    full: float | None = None
    kpi: dict[str, KpiNote] = {}
    guard: _Guard | None = None
    learning: _Learning | None = None
    forecast: _Forecast | None = None


def _sound(linked: Link) -> Link:
    """Raises InvariantError where what an entry carries for people is of another kind."""
    if linked.note is not None:
        try:
            for name in msgspec.convert(linked.note, _Note).positions:
                input_place(name, 0)
        except ValueError as error:  # also msgspec's
            raise InvariantError(f"a journal entry has an unexpected note ({error})") from error
    return linked
