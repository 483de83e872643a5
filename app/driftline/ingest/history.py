"""Files as the records that a worker would have read, in the order in which it would have folded them.

A table of rows is the stream that `driftline produce` would make of it: an event at the row's time, its label some
delay later. Two files of JSON lines are the two topics themselves. Both go through `core.fold.merge`, in slices as a
worker that catches up has them, a bounded number of rows at a time.

Rows that are plain numbers are read without a detour over text and JSON objects: a block of lines that holds nothing
but digits and separators is one JSON array of arrays, by JSON's own grammar. Everything else takes the way of
`produce`, bytes included, and both ways give the same records.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO, RawIOBase, StringIO, TextIOWrapper
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson
from msgspec import structs

from driftline.codec.decode import MISSING, find
from driftline.codec.inputs import Inputs
from driftline.codec.json import parse_json
from driftline.codec.wire import Sent, Wire
from driftline.core.error import InputFileError
from driftline.core.fold.future import FOLLOWERS, NAMED_MAX, Judge, in_time
from driftline.core.fold.merge import Merge
from driftline.core.pipeline import Pipeline, parse_path
from driftline.core.pipeline.target import Target, TargetError
from driftline.core.record import Event, InputRecord, Label, LabelValue, Malformed, Passed, Source
from driftline.core.task import task_of
from driftline.core.timestamp import parse_time, written
from driftline.ingest.feed import LabelForm
from driftline.ingest.rows import Bad, open_bytes
from driftline.ingest.table import Fields, Sample, Table

BLOCK_BYTES = 128 * 1024
BATCH_ROWS = 128
LONG_AGO_MS = 946_684_800_000  # rows without times end at 2000-01-01: a backtest gives the same whenever it runs
_PLAIN_BYTES = b"0123456789+-.eE, \r\n"
_LABELS_KNOWN_MAX = 1_000


class History(Protocol):
    """Records in the order in which they are to be folded.

    Attributes:
        total: rows or records, at most, for a progress bar.
        done: of them, read so far.
        bad: what could not be read.
        order: how the order came about, for the report.
        ahead: rows whose time lies far ahead; see `core.fold.future`.
        ahead_rows: the first of them, as text.
    """

    total: int
    done: int
    bad: Bad

    def batches(self) -> Iterator[list[InputRecord]]: ...


@dataclass(frozen=True, slots=True)
class TableSource:
    """`--input`: one file with a row an event.

    Args:
        label_delay_ms: how much later than its event a label is known.
    """

    path: Path
    fields: Fields
    label_delay_ms: int = 0
    limit: int | None = None

    @property
    def names(self) -> list[str]:
        return [str(self.path)]

    def open(self, pipeline: Pipeline) -> TableHistory:
        return TableHistory(self, pipeline)


@dataclass(frozen=True, slots=True)
class LogSource:
    """`--events` and `--labels`: one file a topic.

    Args:
        labels: None for a pipeline without labels.
        time, label_time: fields that hold the records' own times, for pipelines that name none.
    """

    events: Path
    labels: Path | None
    time: str | None = None
    label_time: str | None = None
    limit: int | None = None

    @property
    def names(self) -> list[str]:
        return [str(path) for path in (self.events, self.labels) if path is not None]

    def open(self, pipeline: Pipeline) -> LogHistory:
        return LogHistory(self, pipeline)


class TableHistory:
    """A table's rows as events and labels.

    Attributes:
        total, done: rows.
        unlabelled: rows without a label.
        disordered: rows earlier than one before them.
        counted: times are counted, not read; `start_ms` and `step_ms` then say how.

    Raises:
        InputFileError: the file cannot be read, or has not the columns that the pipeline needs.
    """

    def __init__(self, asked: TableSource, pipeline: Pipeline) -> None:
        fields = asked.fields
        bare = fields.time is None and fields.start_ms is None and pipeline.event.time is None
        if bare:
            fields = Fields(fields.label, fields.event_id, None, LONG_AGO_MS, fields.step_ms or 1_000)
        self._table = Table(asked.path, pipeline, fields, now_ms=LONG_AGO_MS, limit=asked.limit)
        self._pipeline = pipeline
        self._asked = asked
        self._fields = fields
        self._inputs = Inputs(pipeline)
        self._wire = Wire(pipeline.event)
        self._form = LabelForm(pipeline) if pipeline.label is not None else None
        self._merge: Merge[InputRecord] = Merge([_as_it_is] * len(self._inputs.topics))
        self._events_rank = len(self._inputs.topics) - 1
        self._events_topic = pipeline.topics.events
        self._labels_topic = pipeline.topics.labels or ""
        self._due: list[
            tuple[int, int, Any, Any]
        ] = []  # when, number, event id, the record's bytes or the label itself
        self._offsets = [0, 0]  # of labels, of events
        self._latest_ms = -1
        self.bad = self._table.bad
        self.total = self._table.count
        self.done = 0
        self.unlabelled = 0
        self.disordered = 0
        self.ahead = 0
        self.ahead_rows: list[str] = []
        self.counted = fields.start_ms is not None or fields.step_ms is not None
        self.start_ms, self.step_ms = self._table.start_ms, self._table.step_ms
        self._table.check_features()

    def batches(self) -> Iterator[list[InputRecord]]:
        """The records, merged, some hundreds at a time."""
        if self._table.is_json:
            yield from self._all(self._table.samples())
            return
        plain = self.plain_reader()
        if plain is None:
            yield from self._all(self._table.samples())
            return
        with open_bytes(self._asked.path) as file:
            file.readline()
            yield from self._blocks(file, plain)

    # -- the long way: as `produce` sends it

    def _all(self, samples: Iterator[Sample]) -> Iterator[list[InputRecord]]:
        placed = in_time(samples, attrgetter("time_ms"), self._pipeline.limits.time_ahead_max_ms)
        while rows := list(islice(placed, BATCH_ROWS)):
            yield self._long(rows)
        yield self._rest()

    def _long(self, rows: Sequence[tuple[Sample, int, bool]]) -> list[InputRecord]:
        """Rows, each with the time at which it stands, and whether its own lies far ahead."""
        events: list[InputRecord] = []
        for row, time_ms, is_ahead in rows:
            record = row.record
            if record is not None:
                if is_ahead:  # as `produce` sends it: the record's time is that at which it stands
                    source = structs.replace(record.source, record_time_ms=time_ms)
                    record = self._inputs.decoders[self._events_rank](source)
                events.append(record)
                self._offsets[1] += 1
            if is_ahead:
                self.ahead += 1
                if len(self.ahead_rows) < NAMED_MAX:
                    self.ahead_rows.append(f"id {row.event_id!r:.80}, time {written(row.time_ms)}")
            if time_ms < self._latest_ms:
                self.disordered += 1
            else:
                self._latest_ms = time_ms
            if self._form is not None:
                if row.label is MISSING:
                    self.unlabelled += 1
                else:
                    due_ms = time_ms + self._asked.label_delay_ms
                    event_id = self._wire.id_of(row.event_id)
                    label_record = self._form.encode(event_id, row.label, due_ms)
                    heapq.heappush(self._due, (due_ms, self.done, event_id, label_record))
            self.done += 1
        self._release(self._latest_ms)
        self._merge.push(self._events_rank, events)
        return self._taken()

    def _source(self, time_ms: int, sent: Sent | None = None) -> Source:
        """Of a label."""
        offset = self._offsets[0]
        self._offsets[0] = offset + 1
        key, value, headers = sent if sent is not None else (None, None, ())
        return Source(self._labels_topic, 0, offset, time_ms, key, value, headers)

    def _release(self, until_ms: int | None) -> None:
        """Labels that are known by then go into the merge."""
        due, decode = self._due, self._inputs.decoders[1] if self._form is not None else None
        labels: list[InputRecord] = []
        while due and (until_ms is None or due[0][0] <= until_ms):
            due_ms, _, event_id, value = heapq.heappop(due)
            if decode is not None and isinstance(value, Sent):
                labels.append(decode(self._source(due_ms, value)))
            else:
                labels.append(Label(self._source(due_ms), due_ms, due_ms, event_id, value))
        if labels:
            self._merge.push(1, labels)

    def _taken(self, *, last: bool = False) -> list[InputRecord]:
        """What can be taken now: the labels of all times so far are in the merge, and further events will come."""
        at_end = (*(True for _ in range(self._events_rank)), last)
        return [record for _, record in self._merge.take(sys.maxsize, at_end)]

    def _rest(self) -> list[InputRecord]:
        self._release(None)
        return self._taken(last=True)

    # -- the short way: blocks of plain numbers

    def _blocks(self, file: BinaryIO, plain: _Plain) -> Iterator[list[InputRecord]]:
        lines_read = 1
        while lines := file.readlines(BLOCK_BYTES):
            block = b"".join(lines)
            odd = block.translate(None, _PLAIN_BYTES) or block.count(b"\r") != block.count(b"\r\n")
            rows = None if odd else plain.rows(lines)
            if rows is not None:
                for first in range(0, len(rows), BATCH_ROWS):
                    if self._full():
                        break
                    yield self._short(rows[first : first + BATCH_ROWS], plain)
            elif b'"' in block:
                # A cell with quotes may hold line breaks: from there on, lines are not rows.
                rest = TextIOWrapper(BufferedReader(_Behind(block, file)), "utf-8", newline="")
                yield from self._long_part(rest, lines_read)
                break
            else:
                yield from self._long_part(StringIO(block.decode(), newline=""), lines_read)
            lines_read += _lines_in(block)
            if self._full():
                break
        yield self._rest()

    def _full(self) -> bool:
        return self._asked.limit is not None and self.done >= self._asked.limit

    def _long_part(self, texts: Iterator[str], lines: int) -> Iterator[list[InputRecord]]:
        rows: list[tuple[Sample, int, bool]] = []
        for line, row in self._table.part(texts, lines):
            if self._asked.limit is not None and self.done + len(rows) >= self._asked.limit:
                break
            sample = self._table.sample(self.done + len(rows), line, row)
            if sample is not None:
                rows.append((sample, sample.time_ms, False))  # times are counted here
            if len(rows) >= BATCH_ROWS:
                yield self._long(rows)
                rows = []
        yield self._long(rows)

    def _short(self, rows: Sequence[Sequence[Any]], plain: _Plain) -> list[InputRecord]:
        """The same records as the long way makes of these rows, and in the same order."""
        if self._asked.limit is not None:
            rows = rows[: self._asked.limit - self.done]
        nothing_waits = not self._due and not any(map(self._merge.waiting, range(self._events_rank + 1)))
        if plain.targets is not None and not self._asked.label_delay_ms and self.step_ms > 0 and nothing_waits:
            return self._paired(rows, plain.pick, plain.targets(rows))
        topic, pick = self._events_topic, plain.pick
        labels = plain.targets(rows) if plain.targets is not None else None
        delay_ms, due, step_ms = self._asked.label_delay_ms, self._due, self.step_ms
        number, time_ms, offset = self.done, self.start_ms + self.done * self.step_ms, self._offsets[1]
        events: list[InputRecord] = []
        for place, row in enumerate(rows):
            events.append(Event(Source(topic, 0, offset, time_ms, None, None), time_ms, time_ms, number, pick(row)))
            if labels is not None:
                heapq.heappush(due, (time_ms + delay_ms, number, number, labels[place]))
            number += 1
            offset += 1
            time_ms += step_ms
        self._offsets[1], self.done, self._latest_ms = offset, number, time_ms - step_ms
        self._release(self._latest_ms)
        self._merge.push(self._events_rank, events)
        return self._taken()

    def _paired(
        self,
        rows: Sequence[Sequence[Any]],
        pick: Callable[[Sequence[Any]], tuple[Any, ...]],
        targets: Sequence[LabelValue],
    ) -> list[InputRecord]:
        """What the merge would make of rows whose labels are known at once: each event behind its own label."""
        events, labels, step_ms = self._events_topic, self._labels_topic, self.step_ms
        number, time_ms = self.done, self.start_ms + self.done * self.step_ms
        of_label, of_event = self._offsets
        records: list[InputRecord] = []
        for row, target in zip(rows, targets, strict=True):
            source = Source(labels, 0, of_label, time_ms, None, None)
            records.append(Label(source, time_ms, time_ms, number, target))
            source = Source(events, 0, of_event, time_ms, None, None)
            records.append(Event(source, time_ms, time_ms, number, pick(row)))
            number += 1
            of_label += 1
            of_event += 1
            time_ms += step_ms
        self._offsets[:] = of_label, of_event
        self.done, self._latest_ms = number, time_ms - step_ms
        return records

    def plain_reader(self) -> _Plain | None:
        """How rows of plain numbers become records; None where the pipeline or the file asks for more than that."""
        pipeline, fields, header = self._pipeline, self._fields, self._table.header
        features = pipeline.event.plain.values()
        positive = pipeline.label.positive if pipeline.label is not None else None
        plain = (
            self._table.is_bare
            and not pipeline.event.computed
            and self._wire.plain
            and (pipeline.label is None or Wire(pipeline.label).plain)
            and all(
                feature.type == "number" and len(feature.keys) == 1 and feature.path in header for feature in features
            )
            and fields.event_id is None
            and pipeline.event.id not in header
            and fields.time is None
            and pipeline.event.time is None
            and self.counted
            and not isinstance(positive, str)
        )
        return _Plain(pipeline, header, fields.label) if plain else None


class _Behind(RawIOBase):
    """Bytes, and then what is left of a file."""

    def __init__(self, begin: bytes, file: BinaryIO) -> None:
        self._begin, self._file = BytesIO(begin), file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._begin.read(len(buffer)) or self._file.read(len(buffer))
        buffer[: len(read)] = read
        return len(read)


def _lines_in(block: bytes) -> int:
    """Lines, whatever they end in; the last one too if it has no end."""
    ends = block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
    return ends + (not block.endswith((b"\n", b"\r")))


class _Plain:
    """Reads rows of plain numbers.

    Args:
        label: the column that holds it.

    Attributes:
        pick: from a row to the features in declared order.
        targets: from rows to what their labels mean; None without labels.
    """

    def __init__(self, pipeline: Pipeline, header: Sequence[str], label: str | None) -> None:
        places = [header.index(feature.path) for feature in pipeline.event.plain.values()]
        self._width = len(header)
        self._number_max = pipeline.limits.number_max
        self._place = places[0]
        self.pick: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*places) if len(places) > 1 else self._only
        self.targets: Callable[[Sequence[Sequence[Any]]], list[LabelValue]] | None = None
        self._label = -1
        if pipeline.label is not None and label is not None:
            self._label = header.index(label)
            self._read = Target(pipeline.label, pipeline).read
            self._known: dict[Any, LabelValue] = {}
            self.targets = self._numbers if task_of(pipeline.task).labels.numeric else self._classes

    def _only(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return (row[self._place],)

    def rows(self, lines: Sequence[bytes]) -> list[list[Any]] | None:
        """The rows, if JSON reads every one as numbers that the pipeline takes."""
        try:
            rows: list[list[Any]] = orjson.loads(b"[[" + b"],[".join(lines) + b"]]")
        except orjson.JSONDecodeError:
            return None
        if set(map(len, rows)) != {self._width}:
            return None
        bound = self._number_max
        if max(map(max, rows)) > bound or min(map(min, rows)) < -bound:
            return None
        if self.targets is not None:
            try:
                self.targets(rows)
            except TargetError:
                return None
        return rows

    def _classes(self, rows: Sequence[Sequence[Any]]) -> list[LabelValue]:
        place, known = self._label, self._known
        try:
            return [known[row[place]] for row in rows]
        except KeyError:  # one that is new
            return [self._class(row[place]) for row in rows]

    def _class(self, value: Any) -> LabelValue:
        known = self._known.get(value)
        if known is None:
            known = self._read(value)
            if len(self._known) < _LABELS_KNOWN_MAX:
                self._known[value] = known
        return known

    def _numbers(self, rows: Sequence[Sequence[Any]]) -> list[LabelValue]:
        return [self._read(row[self._label]) for row in rows]


class LogHistory:
    """Two files of JSON lines as the two topics of a pipeline.

    Attributes:
        total, done: lines.
        disordered: lines, of events or of labels, earlier than one before them in their file.
    """

    unlabelled = 0
    counted = False
    start_ms = 0
    step_ms = 1

    def __init__(self, asked: LogSource, pipeline: Pipeline) -> None:
        self._asked = asked
        self._pipeline = pipeline
        self._inputs = Inputs(pipeline)
        self.judge = Judge(pipeline.limits.time_ahead_max_ms)
        self._merge: Merge[InputRecord] = Merge([_as_it_is] * len(self._inputs.topics), self.judge)
        self.bad = Bad()
        self.done = 0
        self.disordered = 0
        label = pipeline.label
        if pipeline.event.time is None and asked.time is None:
            raise InputFileError(
                f"{asked.events}: JSON lines carry no record time, and {pipeline.name} has no event.time: name the "
                "field "
                "with --time FIELD, or set event.time in the pipeline file"
            )
        if label is not None and asked.labels is None:
            raise InputFileError(f"pipeline {pipeline.name} learns from labels: add --labels FILE")
        if label is not None and label.time is None and asked.label_time is None:
            raise InputFileError(
                f"{asked.labels}: JSON lines carry no record time, and {pipeline.name} has no label.time: "
                "name the field with --label-time FIELD, or set label.time in the pipeline file"
            )
        files = [asked.events] if label is None or asked.labels is None else [asked.labels, asked.events]
        self.total = sum(map(_count_lines, files))
        times = [asked.time] if len(files) == 1 else [asked.label_time, asked.time]
        self._lanes = [
            self._counted(self._lane(rank, path, time))
            for rank, (path, time) in enumerate(zip(files, times, strict=True), 1)
        ]

    @property
    def ahead(self) -> int:
        return sum(map(len, self.judge.found.values()))

    @property
    def ahead_rows(self) -> list[str]:
        return self.judge.named

    def batches(self) -> Iterator[list[InputRecord]]:
        """The records, merged, some hundreds at a time."""
        merge = self._merge
        at_end = [True, *(False for _ in self._lanes)]
        taken: list[InputRecord] = []
        while True:
            popped = merge.pop(at_end)
            if popped is not None:
                taken.append(popped[1])
                if len(taken) >= BATCH_ROWS:
                    yield taken
                    taken = []
                continue
            if all(at_end):
                yield taken
                return
            for rank, lane in enumerate(self._lanes, 1):
                if merge.waiting(rank) <= FOLLOWERS and not at_end[rank]:
                    more = list(islice(lane, BATCH_ROWS))
                    merge.push(rank, more)
                    at_end[rank] = not more

    def _counted(self, lane: Iterator[InputRecord]) -> Iterator[InputRecord]:
        """The records of a file; those earlier than one before them are counted."""
        latest_ms = -1
        for record, time_ms, is_ahead in in_time(lane, attrgetter("order_ms"), self._pipeline.limits.time_ahead_max_ms):
            if not is_ahead and time_ms >= latest_ms:
                latest_ms = time_ms
            # One that is rejected may have no time.
            elif is_ahead or isinstance(record, Passed):
                pass
            elif record.source.record_time_ms >= 0 or not isinstance(record, Malformed):
                self.disordered += 1
            yield record

    def _lane(self, rank: int, path: Path, time: str | None) -> Iterator[InputRecord]:
        keys = parse_path(time) if time is not None else None
        topic, is_event = self._inputs.topics[rank], rank == len(self._inputs.topics) - 1
        label = self._pipeline.label
        wire = Wire(self._pipeline.event if is_event or label is None else label)
        offset = 0
        with open_bytes(path) as file:
            for line, text in enumerate(file, 1):
                if is_event and self._asked.limit is not None and offset >= self._asked.limit:
                    return
                value = text.removeprefix(b"\xef\xbb\xbf").strip()
                self.done += 1
                if not value:
                    continue
                time_ms = -1
                if keys is not None:
                    try:
                        time_ms = parse_time(find(parse_json(value), keys))
                    except ValueError as error:
                        self.bad.add(line, f"{path.name}: no time in {time!r} ({error})")
                        continue
                try:
                    key, value, headers = wire.read(value)
                except ValueError as error:
                    self.bad.add(line, f"{path.name}: {error}")
                    continue
                yield self._inputs.decoders[rank](Source(topic, 0, offset, time_ms, key, value, headers))
                offset += 1


def _as_it_is(record: InputRecord) -> InputRecord:
    """The merge decodes what waits in it; here that was done before, where a bad row is counted."""
    return record


def _count_lines(path: Path) -> int:
    with open_bytes(path) as file:
        return sum(1 for _ in file)
