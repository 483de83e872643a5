"""Files as the records that a worker would have read, in the order in which it would have folded them.

A table of rows is the stream that `driftline produce` would make of it: an event at the row's time, its label some
delay later. Two files of JSON lines are the two topics themselves (`log`). Both go through `core.fold.merge`, in slices
as a worker that catches up has them, a bounded number of rows at a time.

Rows of plain numbers are read in blocks (`plain`). Everything else takes the way of `produce`, bytes included, and both
ways give the same records.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from msgspec import structs

from driftline.codec.decode import MISSING
from driftline.codec.inputs import Inputs
from driftline.codec.wire import Sent, Wire
from driftline.core.fold.future import NAMED_MAX, in_time
from driftline.core.fold.merge import Merge
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, InputRecord, Label, LabelValue, Source
from driftline.core.timestamp import written
from driftline.ingest.column import Fields
from driftline.ingest.csv_file import CsvFile
from driftline.ingest.label_form import LabelForm
from driftline.ingest.plain import OtherRows, PlainReader
from driftline.ingest.rows import Bad
from driftline.ingest.table import Sample, Table

BATCH_ROWS = 128
LONG_AGO_MS = 946_684_800_000  # rows without times end at 2000-01-01: a backtest gives the same whenever it runs


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
        self._merge: Merge[InputRecord] = Merge([as_it_is] * len(self._inputs.topics))
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
        self._table.file.check_features()

    def batches(self) -> Iterator[list[InputRecord]]:
        """The records, merged, some hundreds at a time."""
        plain = self.plain_reader()
        if plain is None:
            yield from self._all(self._table.samples())
            return
        yield from self._blocks(plain)

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

    def _blocks(self, plain: PlainReader) -> Iterator[list[InputRecord]]:
        for block in plain.blocks():
            if isinstance(block, OtherRows):
                yield from self._long_part(plain.file.part(block.lines, block.before))
            else:
                for first in range(0, len(block), BATCH_ROWS):
                    if self._full():
                        break
                    yield self._short(block[first : first + BATCH_ROWS], plain)
            if self._full():
                break
        yield self._rest()

    def _full(self) -> bool:
        return self._asked.limit is not None and self.done >= self._asked.limit

    def _long_part(self, found: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[InputRecord]]:
        rows: list[tuple[Sample, int, bool]] = []
        for line, row in found:
            if self._asked.limit is not None and self.done + len(rows) >= self._asked.limit:
                break
            sample = self._table.sample(self.done + len(rows), line, row)
            if sample is not None:
                rows.append((sample, sample.time_ms, False))  # times are counted here
            if len(rows) >= BATCH_ROWS:
                yield self._long(rows)
                rows = []
        yield self._long(rows)

    def _short(self, rows: Sequence[Sequence[Any]], plain: PlainReader) -> list[InputRecord]:
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
        for index, row in enumerate(rows):
            events.append(Event(Source(topic, 0, offset, time_ms, None, None), time_ms, time_ms, number, pick(row)))
            if labels is not None:
                heapq.heappush(due, (time_ms + delay_ms, number, number, labels[index]))
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

    def plain_reader(self) -> PlainReader | None:
        """How rows of plain numbers become records; None where the pipeline or the file asks for more than that."""
        pipeline, fields, file = self._pipeline, self._fields, self._table.file
        features = pipeline.event.plain.values()
        positive = pipeline.label.positive if pipeline.label is not None else None
        if not isinstance(file, CsvFile) or not file.is_bare:
            return None
        plain = (
            not pipeline.event.computed
            and self._wire.plain
            and (pipeline.label is None or Wire(pipeline.label).plain)
            and all(
                feature.type == "number" and len(feature.keys) == 1 and feature.path in file.header
                for feature in features
            )
            and fields.event_id is None
            and pipeline.event.id not in file.header
            and fields.time is None
            and pipeline.event.time is None
            and self.counted
            and not isinstance(positive, str)
        )
        return PlainReader(file, self._asked.path, pipeline, fields.label) if plain else None


def as_it_is(record: InputRecord) -> InputRecord:
    """The merge decodes what waits in it; here that was done before, where a bad row is counted."""
    return record
