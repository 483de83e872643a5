"""Files of labelled rows, read as what a stream would have held: an event, its label, the time of the event.

How a file and its columns are written is found out in `rows`, `column` and the two kinds of file (`csv_file`,
`json_file`). A row that the pipeline would reject is not sent, and named with its line and the pipeline's own reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from driftline.codec.decode import MISSING, Decoder, find, hour_ms_of
from driftline.codec.json import NotFinite
from driftline.codec.reason import RefusedError
from driftline.codec.wire import Wire, set_path
from driftline.core.pipeline import PathPart, Pipeline, parse_path
from driftline.core.pipeline.target import Target, TargetError
from driftline.core.record import InputRecord, Malformed, Passed, Source
from driftline.ingest.column import Fields
from driftline.ingest.csv_file import CsvFile
from driftline.ingest.json_file import JsonFile, label_in_words
from driftline.ingest.rows import Bad, is_json

STEP_MS = 1_000
SPAN_MAX_MS = 86_400_000  # rows without times end now and reach back a day at most, so that no topic forgets them


class Sample(NamedTuple):
    """One row.

    Args:
        event_id: text or a whole number; the events topic's key is its text.
        event: the event as JSON, without the label.
        label: the label, or `MISSING` where the row has none.
        time_ms: event time.
        record: as a worker reads it from the topic; None where no one looked.
    """

    event_id: str | int
    event: dict[str, Any]
    label: Any
    time_ms: int
    record: InputRecord | None = None


class _BadRowError(Exception):
    """Carries the reason out of a row's reading; never leaves this module."""


class Table:
    """A file of rows. `samples` may be run through once; what could not be read is in `bad` then.

    Args:
        path: `.csv`, `.jsonl` or `.ndjson`, also with `.gz` behind it.
        pipeline: whose events these are to be.
        fields: which field is what.
        now_ms: wall time; rows without times end here.
        lead_ms: how long before now the last row must be at the latest (labels come later than their events).
        limit: at most so many rows.

    Attributes:
        file: how the rows are read.
        count: rows, at most.

    Raises:
        InputFileError: the file cannot be read, a column is not there, or it can be read in two ways.
    """

    def __init__(
        self,
        path: Path,
        pipeline: Pipeline,
        fields: Fields,
        *,
        now_ms: int,
        lead_ms: int = 0,
        limit: int | None = None,
    ) -> None:
        self.path = path
        self.bad = Bad()
        self._pipeline = pipeline
        self._fields = fields
        self._limit = limit
        self._event_id = parse_path(pipeline.event.id)
        self._event_time = parse_path(pipeline.event.time) if pipeline.event.time else None
        self._event_hour = parse_path(pipeline.event.hour) if pipeline.event.hour else None
        self._wire = Wire(pipeline.event)
        self._decode = Decoder(pipeline).event
        self._target = Target(pipeline.label, pipeline) if pipeline.label is not None else None
        self._in_words = label_in_words(pipeline)
        kind = JsonFile if is_json(path) else CsvFile
        self.file: JsonFile | CsvFile = kind(path, pipeline, fields, self.bad)
        self.count = self.file.count if limit is None else min(self.file.count, limit)
        step_ms = fields.step_ms or max(1, min(STEP_MS, SPAN_MAX_MS // max(self.count, 1)))
        self.step_ms = step_ms
        self.start_ms = fields.start_ms if fields.start_ms is not None else (now_ms - lead_ms - self.count * step_ms)
        self.counted = fields.counted

    def samples(self) -> Iterator[Sample]:
        """The rows in file order."""
        number = 0
        for line, row in self.file.rows():
            if self._limit is not None and number >= self._limit:
                return
            sample = self.sample(number, line, row)
            if sample is not None:
                number += 1
                yield sample

    def sample(self, number: int, line: int, row: dict[str, Any]) -> Sample | None:
        """One row as the sample of this number; None for one that could not be used, which is in `bad` then."""
        try:
            return self._checked(number, self._sample(number, self._wire.rooted(row)))
        except _BadRowError as error:
            self.bad.add(line, str(error))
            return None

    def _checked(self, number: int, sample: Sample) -> Sample:
        """The sample with its record.

        Raises:
            _BadRowError: the pipeline would reject it, or its label.
        """
        in_words = self._in_words(sample.label)
        if in_words is MISSING:
            sample = sample._replace(label=MISSING)
        elif self._target is not None:
            try:
                self._target.read(in_words)
            except TargetError as error:
                raise _BadRowError(str(error)) from None
        try:
            key, value, headers = self._wire.write(sample.event, sample.event_id, sample.time_ms)
        except TypeError as error:  # orjson's own is one
            raise _BadRowError(f"cannot be written as JSON: {error}") from None
        record = self._decode(Source(self._pipeline.topics.events, 0, number, sample.time_ms, key, value, headers))
        if isinstance(record, Malformed):
            raise _BadRowError(f"{record.reason}: {record.detail}")
        if isinstance(record, Passed):  # and so is its label
            return sample._replace(record=record, label=MISSING)
        return sample._replace(record=record)

    def _sample(self, number: int, row: dict[str, Any]) -> Sample:
        """One row; the row's own dict becomes the event."""
        fields = self._fields
        label = MISSING if fields.label is None else self._take(row, fields.label)
        event_id = self._id(number, row)
        return Sample(
            event_id, row, MISSING if label is None or isinstance(label, NotFinite) else label, self._time(number, row)
        )

    def _id(self, number: int, row: dict[str, Any]) -> str | int:
        if self._fields.event_id is not None:
            found = self._find(row, self._fields.event_id)
            if found is MISSING:
                raise _BadRowError(f"no id in {self._fields.event_id!r}")
        else:
            found = find(row, self._event_id)
            if found is MISSING or found is None:
                if self._pipeline.event.id in self.file.header:
                    raise _BadRowError(f"no id in {self._pipeline.event.id!r}")
                found = number
        if isinstance(found, float) and found.is_integer() and abs(found) <= 2**53:
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise _BadRowError(f"the id {found!r:.80} is neither a string nor an integer")
        if find(row, self._event_id) is MISSING:
            self._place(row, self._event_id, found)
        return found

    def _time(self, number: int, row: dict[str, Any]) -> int:
        found: object = MISSING
        hour_ms = self._hour_ms(row)
        if self._fields.time is not None:
            found = self._find(row, self._fields.time)
            if found is MISSING or found is None:
                raise _BadRowError(f"no time in {self._fields.time!r}")
        elif not self.counted and self._event_time is not None:
            found = find(row, self._event_time)
        if found is MISSING or found is None:
            time_ms = self.start_ms + number * self.step_ms
        else:
            try:
                time_ms = self.file.columns.time.read(found)
            except ValueError as error:
                raise _BadRowError(f"the time {error}") from None
            if self.file.columns.time.name and self._fields.time in (None, self._pipeline.event.time):
                self._place(row, self._event_time or (), time_ms)  # as the pipeline can read it
            if self._fields.time in (None, self._pipeline.event.time):
                time_ms += hour_ms
        if time_ms < 0:
            raise _BadRowError("the time is before 1970, which a Kafka record cannot carry; use --start and --step")
        if self._event_time is not None and (self.counted or find(row, self._event_time) is MISSING):
            self._place(row, self._event_time, time_ms - hour_ms)
        return time_ms

    def _hour_ms(self, row: dict[str, Any]) -> int:
        """What the hour of the day adds to the date, if the pipeline reads one."""
        if self._event_hour is None:
            return 0
        try:
            return hour_ms_of(find(row, self._event_hour))
        except RefusedError as error:
            raise _BadRowError(error.detail) from None

    def _place(self, row: dict[str, Any], keys: tuple[PathPart, ...], value: object) -> None:
        try:
            set_path(row, keys, value)
        except ValueError as error:
            raise _BadRowError(str(error)) from None

    def _find(self, row: dict[str, Any], name: str) -> Any:
        return find(row, self.file.keys(name))

    def _take(self, row: dict[str, Any], name: str) -> Any:
        """Remove a field and give it back."""
        *way, last = self.file.keys(name)
        inner = find(row, way)
        if not isinstance(inner, dict):
            return MISSING
        return inner.pop(str(last), MISSING)
