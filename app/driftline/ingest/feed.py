"""Turns rows into a stream: each event at its time, each label after some delay.

An event and its label carry the same key and so go to the same partition, the one that Kafka's own default
partitioner would choose, so that other producers agree. Per topic, records go out in the order of their
times: labels wait in a heap until the events have come up to their time. A label goes before an event of
the same time, as in the merge that reads them.

Two topics have no common order, so the order between them is kept by acknowledgements: rows go out in waves, and the
events of a wave are sent once Kafka has acknowledged every label that is due before them. A worker that reads while
we send so never meets an event whose labels before it are still to come, at any rate. The reverse, labels ahead of
events, lasts for a wave at most, and a wave spans no more event time than half of what an early label waits.

Records are packed into batches by hand, because a batch costs a fifth of single sends, and every batch's
acknowledgement is awaited, because the producer alone would let a refused one pass. A broker that is gone is
waited for no longer than `SILENCE_MAX_S`: the producer alone would try forever.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from driftline.codec.decode import MISSING
from driftline.codec.wire import Sent, Wire
from driftline.config import Settings
from driftline.core.error import InputFileError, TopicError, UnreachableError
from driftline.core.fold.future import NAMED_MAX, in_time
from driftline.core.label.partitioner import murmur2
from driftline.core.pipeline import Pipeline
from driftline.core.timestamp import written
from driftline.ingest.label_form import LabelForm
from driftline.ingest.table import Sample
from driftline.kafka.client import admin, answered, client_options, partition_counts, producer, sending_explained

BATCH_BYTES_MAX = 128 * 1024
IN_FLIGHT_MAX = 64  # batches
ROWS_PER_TURN = 100  # rows between two turns of the event loop
SILENCE_MAX_S = 30.0  # without an acknowledgement, while some are waited for
LOOK_EVERY_S = 0.5
LINGER_S = 0.02  # at a given rate: how long a batch waits for more
WAVE_ROWS_MAX = 2_000  # some 20 ms of rows for two acknowledgements, a few ms each
WAVE_BYTES_MAX = 8 * 1024 * 1024


@dataclass(slots=True)
class Fed:
    """What went out, counted as it is acknowledged or, for rows, as it is taken.

    Args:
        rows: taken so far.
        events, labels: handed over to the broker.
        unlabelled: rows without a label.
        disordered: rows whose time lies before that of a row that went before.
        ahead: rows with a time far ahead of the rows around (`core.fold.future`), which go out at the time of the row
            before; the first of them in `ahead_rows`.
        first_ms, last_ms: event times seen, least and most; -1 before the first.
        seconds: wall time, set at the end.
    """

    rows: int = 0
    events: int = 0
    labels: int = 0
    unlabelled: int = 0
    disordered: int = 0
    ahead: int = 0
    ahead_rows: list[str] = field(default_factory=list)
    first_ms: int = -1
    last_ms: int = -1
    seconds: float = 0.0


class RowSender:
    """Sends rows to a pipeline's events and labels topics.

    Args:
        pipeline: says the topics, and where id, label and time are in the JSON.
        settings: where the broker is.
        label_delay_ms: how much later than its event a label is known, in event time.
        rate: rows a second; None is as fast as it goes.

    Attributes:
        fed: what went out so far; may be read while `run` goes on.
    """

    def __init__(
        self, pipeline: Pipeline, settings: Settings, *, label_delay_ms: int = 0, rate: float | None = None
    ) -> None:
        self.fed = Fed()
        self._options = client_options(settings)
        self._events = pipeline.topics.events
        self._labels = pipeline.topics.labels if pipeline.label is not None else None
        self._form = LabelForm(pipeline) if pipeline.label is not None else None
        self._delay_ms = label_delay_ms
        self._ahead_max_ms = pipeline.limits.time_ahead_max_ms
        self._rate = rate
        self._wire = Wire(pipeline.event)
        self._waiting: list[tuple[int, int, int, Sent]] = []  # due, number, partition, record
        self._given: Iterator[tuple[int, Sent]] = iter(())  # labels of a file of their own
        self._next: tuple[int, Sent] | None = None  # the first of them that is not due
        self._taken = 0
        self._label_count = 0
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._wave = _Wave(_wave_span_ms(pipeline))

    async def run(self, samples: Iterable[Sample], labels: Iterable[tuple[int, Sent]] | None = None) -> Fed:
        """Send all rows, and return when the broker has acknowledged every record.

        Args:
            labels: times and records of labels that are no part of the rows, by time.

        Raises:
            UnreachableError: the broker cannot be reached, or acknowledged nothing for `SILENCE_MAX_S`.
            BrokerError: the broker refused a record.
            TopicError: the topics are missing.
        """
        begun = time.monotonic()
        counts = await self._partitions()
        self._label_count = counts.get(self._labels or "", 0)
        if labels is not None:
            self._form, self._given = None, iter(labels)
            self._next = next(self._given, None)
        tuning = {"acks": "all", "enable_idempotence": True, "max_batch_size": BATCH_BYTES_MAX}
        async with producer(self._options, **tuning) as sender:
            outlet = _Outlet(sender)
            self._lanes = {
                (topic, partition): Lane(outlet, topic, partition)
                for topic, count in counts.items()
                for partition in range(count)
            }
            async with _bounded(outlet, str(self._options["bootstrap_servers"])):
                await self._send_all(samples, counts, begun, outlet)
                await outlet.settle()
        self.fed.seconds = time.monotonic() - begun
        return self.fed

    async def _send_all(
        self, samples: Iterable[Sample], counts: Mapping[str, int], begun: float, outlet: _Outlet
    ) -> None:
        fed, count = self.fed, counts[self._events]
        label_count = counts.get(self._labels or "", count)
        for sample, time_ms, is_ahead in in_time(samples, attrgetter("time_ms"), self._ahead_max_ms):
            event_id = self._wire.id_of(sample.event_id)
            event = _encode(self._wire, sample)
            partition = partition_of(event.key, count)
            if is_ahead:
                fed.ahead += 1
                if len(fed.ahead_rows) < NAMED_MAX:
                    fed.ahead_rows.append(f"id {sample.event_id!r:.80}, time {written(sample.time_ms)}")
            if time_ms < fed.last_ms:
                fed.disordered += 1
            else:
                fed.last_ms = time_ms
            fed.first_ms = time_ms if fed.first_ms < 0 else min(fed.first_ms, time_ms)
            await self._make_room(time_ms, outlet)
            await self._release(time_ms, outlet)
            wave = self._wave
            wave.rows += 1
            wave.bytes += self._lanes[self._events, partition].append(event, time_ms)
            fed.events += 1
            fed.rows += 1
            if self._form is not None:
                if sample.label is MISSING:
                    fed.unlabelled += 1
                else:
                    due_ms = time_ms + self._delay_ms
                    label_record = self._form.encode(event_id, sample.label, due_ms)
                    of_label = partition if label_count == count else partition_of(label_record.key, label_count)
                    heapq.heappush(self._waiting, (due_ms, fed.rows, of_label, label_record))
            if self._rate is not None:
                await self._pace(begun, outlet)
            elif fed.rows % ROWS_PER_TURN == 0:
                await asyncio.sleep(0)
        await self._send_wave(outlet)
        await self._release(None, outlet)
        await self._send_wave(outlet)

    async def _release(self, until_ms: int | None, outlet: _Outlet) -> None:
        """Put the labels that are due by `until_ms` into the wave; all of them for None."""
        waiting = self._waiting
        if self._labels is None:
            return
        self._take(until_ms)
        while waiting and (until_ms is None or waiting[0][0] <= until_ms):
            due_ms, _, partition, label = heapq.heappop(waiting)
            await self._make_room(due_ms, outlet)
            wave = self._wave
            wave.labels += 1
            wave.bytes += self._lanes[self._labels, partition].append(label, due_ms)
            self.fed.labels += 1

    def _take(self, until_ms: int | None) -> None:
        """Take the labels of a file that are due by then."""
        while self._next is not None and (until_ms is None or self._next[0] <= until_ms):
            due_ms, record = self._next
            self._taken += 1
            partition = partition_of(record.key, self._label_count)
            heapq.heappush(self._waiting, (due_ms, self._taken, partition, record))
            self._next = next(self._given, None)

    async def _make_room(self, time_ms: int, outlet: _Outlet) -> None:
        """Begin another wave where a record of this time would be too much for the one in hand."""
        if self._wave.full(time_ms):
            await self._send_wave(outlet)
        if self._wave.first_ms is None:
            self._wave.first_ms = time_ms

    async def _send_wave(self, outlet: _Outlet) -> None:
        """Send what is in hand: labels, and once they and all before them are acknowledged, events."""
        if self._wave.labels:
            await outlet.settle()  # events of the wave before: its labels are not to come ahead of them
            await self._flush(self._labels)
            await outlet.settle()
        await self._flush(self._events)
        self._wave = _Wave(self._wave.span_ms)

    async def _flush(self, topic: str | None) -> None:
        for (of, _), lane in self._lanes.items():
            if of == topic:
                await lane.flush()

    async def _pace(self, begun: float, outlet: _Outlet) -> None:
        """Wait until the next row may go, with nothing held back in the meantime."""
        ahead_s = self.fed.rows / (self._rate or 1.0) - (time.monotonic() - begun)
        if ahead_s >= LINGER_S:
            await self._send_wave(outlet)
            await asyncio.sleep(ahead_s)

    async def _partitions(self) -> dict[str, int]:
        """How many partitions each topic has."""
        topics = [topic for topic in (self._events, self._labels) if topic is not None]
        async with admin(self._options) as client:
            with answered(self._options):
                there = await partition_counts(client)
        missing = [topic for topic in topics if not there.get(topic)]
        if missing:
            raise TopicError(
                f"missing topics: {', '.join(missing)}; create them with `driftline topics create -p FILE`"
            )
        return {topic: there[topic] for topic in topics}


class _Wave:
    """What is in hand and goes out together.

    Args:
        span_ms: most event time from the first record to the last; None without a bound.
    """

    __slots__ = ("bytes", "first_ms", "labels", "rows", "span_ms")

    def __init__(self, span_ms: int | None) -> None:
        self.span_ms = span_ms
        self.rows = 0
        self.labels = 0
        self.bytes = 0
        self.first_ms: int | None = None

    def full(self, time_ms: int) -> bool:
        """Whether a record of this time would be too much."""
        first_ms, span_ms = self.first_ms, self.span_ms
        if first_ms is not None and span_ms is not None and abs(time_ms - first_ms) > span_ms:
            return True
        return self.rows >= WAVE_ROWS_MAX or self.labels >= WAVE_ROWS_MAX or self.bytes >= WAVE_BYTES_MAX


def _wave_span_ms(pipeline: Pipeline) -> int | None:
    """Half of what a label waits for its event, so that none is given up before the events of its wave are there."""
    return None if pipeline.label is None else min(pipeline.label.early_ms, pipeline.label.wait_ms) // 2


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key as Kafka's default partitioner has it (murmur2)."""
    return int((murmur2(key) & 0x7FFF_FFFF) % count)


def _encode(wire: Wire, sample: Sample) -> Sent:
    try:
        return wire.write(sample.event, sample.event_id, sample.time_ms)
    except TypeError as error:  # orjson's own is one
        raise InputFileError(
            f"the event {sample.event_id!r:.80} cannot be written as JSON: {error}; "
            "give numbers of at most 64 bits and text in UTF-8"
        ) from error


class _Outlet:
    """Hands batches to the producer, bounds how many are under way, and learns what became of each.

    Attributes:
        open: batches that are handed over, or just being so, and not answered.
        answers: how many were answered.
    """

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.open = 0
        self.answers = 0
        self.under_way: deque[tuple[str, asyncio.Future[Any]]] = deque()

    async def send(self, batch: Any, topic: str, partition: int) -> None:
        under_way = self.under_way
        while under_way and (len(under_way) >= IN_FLIGHT_MAX or under_way[0][1].done()):
            await self._settle_first()
        self.open += 1
        with sending_explained(topic):
            acknowledged = await self.sender.send_batch(batch, topic, partition=partition)
        acknowledged.add_done_callback(self._answered)
        under_way.append((topic, acknowledged))

    async def settle(self) -> None:
        """Wait until all is acknowledged."""
        while self.under_way:
            await self._settle_first()

    async def silence(self) -> None:
        """Return when something is open and nothing was answered for `SILENCE_MAX_S`.

        Counted in looks, so that a machine that slept is not a broker that is silent.
        """
        silent_s, answers = 0.0, 0
        while silent_s < SILENCE_MAX_S:
            await asyncio.sleep(LOOK_EVERY_S)
            silent_s = silent_s + LOOK_EVERY_S if self.open and self.answers == answers else 0.0
            answers = self.answers

    def _answered(self, acknowledged: asyncio.Future[Any]) -> None:
        self.open -= 1
        self.answers += 1
        if not acknowledged.cancelled():
            acknowledged.exception()  # read here, as an error before may end the waiting

    async def _settle_first(self) -> None:
        topic, acknowledged = self.under_way.popleft()
        with sending_explained(topic):
            await acknowledged


@asynccontextmanager
async def _bounded(outlet: _Outlet, address: str) -> AsyncIterator[None]:
    """Ends what is done inside when the broker is silent."""

    async def end() -> None:
        await outlet.silence()
        bound.reschedule(0.0)

    silence: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(None) as bound:
            silence = asyncio.create_task(end())
            yield
            silence.cancel()
    except TimeoutError as error:
        raise UnreachableError(
            f"Kafka at {address} has acknowledged nothing for {SILENCE_MAX_S:.0f} s: check that the broker runs, has "
            "space on its disk and is reachable. Some records may have been written: start again with fresh "
            "topics"
        ) from error
    finally:
        if silence is not None:
            silence.cancel()


class Lane:
    """One partition's batches in the making."""

    def __init__(self, outlet: _Outlet, topic: str, partition: int) -> None:
        self._outlet = outlet
        self._topic = topic
        self._partition = partition
        self._batches: list[Any] = []

    def append(self, record: Sent, time_ms: int) -> int:
        """Put a record behind the others; returns about how many bytes it takes."""
        key, value, headers = record
        fields = {"timestamp": time_ms, "key": key, "value": value, "headers": list(headers)}
        if not self._batches or self._batches[-1].append(**fields) is None:
            # The first record of a batch is taken whatever its size; the broker has the last word.
            self._batches.append(self._outlet.sender.create_batch())
            self._batches[-1].append(**fields)
        return len(key) + len(value)

    async def flush(self) -> None:
        batches, self._batches = self._batches, []
        for batch in batches:
            await self._outlet.send(batch, self._topic, self._partition)
