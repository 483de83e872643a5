"""Files of labelled rows, read as what a stream would have held: an event, its label, the time of the event.

How a file and its columns are written is found out in `rows` and `column`. CSV has no types, so a cell becomes what the
pipeline declares its column to be; a column that it does not declare gives numbers where cells are written as such.
`007`, `1_000`, `nan` and numbers beyond 64 bits stay text there: each would change on its way to JSON and back. An
empty cell is a missing value and leaves its key out. JSON lines are taken as they are. A row that the pipeline would
reject is not sent, and named with its line and the pipeline's own reason.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from driftline.codec.decode import MISSING, Decoder, find, hour_ms_of
from driftline.codec.feature import from_text
from driftline.codec.json import NotFinite
from driftline.codec.reason import RefusedError
from driftline.codec.wire import Wire
from driftline.core.error import InputFileError
from driftline.core.notation import is_rooted
from driftline.core.number import Decimal
from driftline.core.pipeline import PathPart, Pipeline, close_match, parse_path
from driftline.core.pipeline.target import Target, TargetError
from driftline.core.record import InputRecord, Malformed, Passed, Source
from driftline.core.task import task_of
from driftline.core.timestamp import TimeForm
from driftline.ingest.column import (
    SAMPLE_ROWS,
    BadCellError,
    Cell,
    Columns,
    NumberForm,
    Read,
    Roles,
    check_labels,
    decide,
    find_time_form,
    plain_label,
    read_boolean,
    read_cell,
    read_whole_id,
)
from driftline.ingest.rows import Bad, CsvRows, is_json, json_rows, open_bytes, open_text, read_cells

STEP_MS = 1_000
SPAN_MAX_MS = 86_400_000  # rows without times end now and reach back a day at most, so that no topic forgets them
_PLAIN = b"0123456789+-.eE, \r\n"
_LABELS_SEEN_MAX = 1_000


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


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a row is what. A field is a column of a CSV file, or a path into a line of JSON.

    Args:
        label: None where there is no label.
        event_id: None takes the field at the pipeline's own path if rows have it, else the number of the row.
        time: None takes the field at the pipeline's own path if it names one and no start is given.
        start_ms, step_ms: times that are counted instead: row i is at start + i * step.
        decimal: the decimal sign of all columns, the other one parting thousands; None finds it out.
        time_form: how times are written; None finds it out.
    """

    label: str | None
    event_id: str | None = None
    time: str | None = None
    start_ms: int | None = None
    step_ms: int | None = None
    decimal: Decimal | None = None
    time_form: TimeForm | None = None


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
        header: of a CSV file, empty names included.
        separator: of a CSV file.
        is_bare: whether it is a CSV file of UTF-8 whose header is its first line and whose numbers have points, so
            that its lines can be read without a look at the columns.

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
        self.header: tuple[str, ...] = ()
        self.separator = ""
        self.is_bare = False
        self._pipeline = pipeline
        self._fields = fields
        self._limit = limit
        self.is_json = is_json(path)
        self._event_id = parse_path(pipeline.event.id)
        self._event_time = parse_path(pipeline.event.time) if pipeline.event.time else None
        self._event_hour = parse_path(pipeline.event.hour) if pipeline.event.hour else None
        features = pipeline.event.read
        rooted = {name: one.keys for name, one in features.items() if is_rooted(one.keys)}
        self._types = {name: features[name].type for name in rooted}  # a column of the feature's own name, too
        self._types |= {feature.path: feature.type for feature in features.values()}
        self._paths = rooted | {
            text: keys
            for text in pipeline.event.paths
            if text not in rooted and [*map(str, keys := parse_path(text))] != [text]  # a column may be called 0
        }
        self._wire = Wire(pipeline.event)
        self._decode = Decoder(pipeline).event
        self._target = Target(pipeline.label, pipeline) if pipeline.label is not None else None
        self._labels = task_of(pipeline.task).labels
        self._label_text = from_text(pipeline.label, self._labels) if pipeline.label is not None else None
        self.count = self._count_rows()
        step_ms = fields.step_ms or max(1, min(STEP_MS, SPAN_MAX_MS // max(self.count, 1)))
        self.step_ms = step_ms
        self.start_ms = fields.start_ms if fields.start_ms is not None else (now_ms - lead_ms - self.count * step_ms)
        self.counted = fields.start_ms is not None or fields.step_ms is not None
        self._columns = self._json_columns() if self.is_json else self._csv_columns()

    def samples(self) -> Iterator[Sample]:
        """The rows in file order."""
        number = 0
        read = self._read_json if self.is_json else self._read_csv
        for line, row in read():
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

    def check_features(self) -> None:
        """Refuse a CSV file without a column that the model needs, as each of its rows would be rejected.

        Raises:
            InputFileError: it is such a file.
        """
        if self.is_json:
            return
        names = [name for name in self.header if name]
        for name, feature in self._pipeline.event.read.items():
            here = (feature.path, name) if is_rooted(feature.keys) else (feature.path,)
            if feature.missing == "reject" and not any(one in names for one in here):
                raise InputFileError(
                    f"{self.path} has no column {feature.path!r}, which feature {name} of {self._pipeline.name} "
                    f"needs; its columns are {', '.join(names)}{close_match(feature.path, names)}"
                )

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

    def _in_words(self, label: Any) -> Any:
        """A label as the pipeline takes it where it may be written as text."""
        if not isinstance(label, str) or self._label_text is None:
            return label
        try:
            return self._label_text(label)
        except RefusedError:
            return MISSING

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
                if self._pipeline.event.id in self.header:
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
                time_ms = self._columns.time.read(found)
            except ValueError as error:
                raise _BadRowError(f"the time {error}") from None
            if self._columns.time.name and self._fields.time in (None, self._pipeline.event.time):
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

    def _place(self, row: dict[str, Any], keys: Sequence[PathPart], value: object) -> None:
        try:
            set_path(row, keys, value)
        except ValueError as error:
            raise _BadRowError(str(error)) from None

    def _find(self, row: dict[str, Any], name: str) -> Any:
        return find(row, self._keys(name))

    def _take(self, row: dict[str, Any], name: str) -> Any:
        """Remove a field and give it back."""
        *way, last = self._keys(name)
        inner = find(row, way)
        if not isinstance(inner, dict):
            return MISSING
        return inner.pop(str(last), MISSING)

    def _keys(self, name: str) -> tuple[PathPart, ...]:
        """Where a field that the user named is in a row."""
        if self.is_json:
            return parse_path(name)
        return self._paths.get(name, (name,))

    def _read_json(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open_text(self.path) as file:
            yield from json_rows(file, self.bad.add, self.path)

    def _read_csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with open_text(self.path) as file:
            yield from self._made(CsvRows(self.path, file).rows(self.bad.add))

    def part(self, lines: Iterator[str], before: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of a part of a CSV file, each with its line.

        Args:
            lines: of the part, which begins with a row.
            before: how many lines of the file lie before.
        """
        reader = csv.reader(lines, delimiter=self.separator)
        return self._made(read_cells(self.path, reader, len(self.header), self.bad.add, before))

    def _made(self, rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of cells as dicts of values."""
        columns = [
            (set_path, self._paths.get(name, (name,)), self._reader(name))
            for set_path, name in enumerate(self.header)
            if name
        ]
        for line, texts in rows:
            row: dict[str, Any] = {}
            try:
                for at, keys, convert in columns:
                    text = texts[at]
                    if text:
                        value = convert(text)
                        if value is MISSING:
                            continue
                        if len(keys) == 1:
                            row[keys[0]] = value  # type: ignore[index]  # a key of its own is text
                        else:
                            set_path(row, keys, value)
            except BadCellError as error:
                self.bad.add(line, str(error))
                continue
            yield line, row

    def _reader(self, name: str) -> Read:
        """How the cells of a column are read: as the pipeline declares it, else by their look."""
        if name == self._fields.label:
            return self._columns.label
        kind = self._types.get(name)
        if kind in ("string", "text"):
            return str
        if kind == "boolean":
            return read_boolean(name)
        if name in self._columns.numbers:
            return self._columns.numbers[name].reader(name)
        if name == (self._fields.event_id or self._pipeline.event.id):
            return read_whole_id if self._columns.whole_ids else str
        return read_cell

    def _roles(self) -> Roles:
        time = self._fields.time
        if time is None and not self.counted:
            time = self._pipeline.event.time
        return Roles(self._fields.label, self._fields.event_id or self._pipeline.event.id, time, self._types)

    def _csv_columns(self) -> Columns:
        """The forms of the columns, from the first rows."""
        with open_text(self.path) as file:
            rows = CsvRows(self.path, file)
            self.header, self.separator = rows.header, rows.separator
            self._check_columns(rows.names)
            bare = rows.line == 1 and file.encoding == "utf-8-sig" and self.separator == ","
            self.is_bare = bare and file.newlines in ("\n", "\r\n") and self._fields.decimal in (None, ".")
            roles = self._roles()
            if self._shows_nothing(roles):
                label = plain_label(self._pipeline, roles.label)
                return Columns(dict.fromkeys(roles.types, NumberForm()), label=label)
            first = list(islice(rows.rows(lambda line, message: None), SAMPLE_ROWS))
        cells = dict(zip(self.header, zip(*(texts for _, texts in first), strict=True), strict=True)) if first else {}
        columns = decide(
            self.path,
            self._pipeline,
            roles,
            cells,
            self.separator,
            decimal=self._fields.decimal,
            time_form=self._fields.time_form,
            rest=self._rest_of,
        )
        if roles.label in cells and first:
            self._check_csv_labels(columns, roles.label, cells[roles.label], [line for line, _ in first])
        return columns

    def _shows_nothing(self, roles: Roles) -> bool:
        """Whether the first rows are plain numbers and nothing is asked of them but numbers: the commonest file, and
        looked at in no time."""
        plain = self.is_bare and roles.time is None and roles.id not in self.header
        if not plain or any(kind != "number" for kind in roles.types.values()):
            return False
        if self._labels.textual or (self._pipeline.label and self._pipeline.label.positive is not None):
            return False
        with open_bytes(self.path) as file:
            file.readline()
            return not b"".join(islice(file, SAMPLE_ROWS)).translate(None, _PLAIN)

    def _rest_of(self, name: str) -> Iterator[str]:
        """The cells of a column behind the sample."""
        with open_text(self.path) as file:
            rows = CsvRows(self.path, file)
            set_path = rows.header.index(name)
            for _, texts in islice(rows.rows(lambda line, message: None), SAMPLE_ROWS, None):
                yield texts[set_path]

    def _check_csv_labels(self, columns: Columns, name: str, cells: Sequence[str], lines: Sequence[int]) -> None:
        seen: Counter[Any] = Counter()
        first: dict[Any, int] = {}
        texts = Counter(cells)
        if len(texts) > _LABELS_SEEN_MAX:
            return
        for text, count in texts.items():
            try:
                label = columns.label(text) if text else MISSING
            except BadCellError:
                label = text
            if label is not MISSING:
                seen[label] += count
                first.setdefault(label, lines[cells.index(text)])
        check_labels(self.path, name, self._pipeline, seen, first)

    def _json_columns(self) -> Columns:
        """How times are written, from the first rows; JSON knows numbers from text."""
        roles, times, seen, lines = self._roles(), [], Counter[Any](), dict[Any, int]()
        with open_text(self.path) as file:
            for line, row in islice(json_rows(file, lambda line, message: None, self.path), SAMPLE_ROWS):
                if roles.time is not None:
                    times.append(self._find(row, roles.time))
                label = self._find(row, roles.label) if roles.label is not None else None
                label = self._in_words(label)
                if isinstance(label, Cell) and len(seen) < _LABELS_SEEN_MAX:
                    seen[label] += 1
                    lines.setdefault(label, line)
        columns = Columns()
        if roles.label is not None:
            check_labels(self.path, roles.label, self._pipeline, seen, lines)
        if roles.time is not None:
            columns.time = self._fields.time_form or find_time_form(self.path, roles.time, times, self._rest_of_json)
        return columns

    def _rest_of_json(self, name: str) -> Iterator[Any]:
        with open_text(self.path) as file:
            for _, row in islice(json_rows(file, lambda line, message: None, self.path), SAMPLE_ROWS, None):
                yield self._find(row, name)

    def _count_rows(self) -> int:
        """How many rows there are at most (a quoted line break in CSV counts as one too many).

        Raises:
            InputFileError: no line of JSON has the label's field, so nothing of it is to be sent.
        """
        label = self._fields.label if self.is_json else None
        name = str(self._keys(label)[-1]) if label is not None else ""
        sought = f'"{name}"' if name.isascii() and name.isprintable() else None  # as JSON writes it
        lines, first = 0, ""
        with open_text(self.path) as file:
            for line in file:
                lines += 1
                first = first or line.strip()
                if sought is not None and sought in line:
                    sought = None
        if sought is not None and label is not None and lines:
            known = _names_in(first)
            raise InputFileError(
                f"no line of {self.path} has the field {label!r} (--label); the first has {', '.join(known) or 'none'}"
                + close_match(label, known)
            )
        rows = lines if self.is_json else max(lines - 1, 0)
        return rows if self._limit is None else min(rows, self._limit)

    def _check_columns(self, names: Sequence[str]) -> None:
        for option, name in (
            ("--label", self._fields.label),
            ("--id", self._fields.event_id),
            ("--time", self._fields.time),
        ):
            if name is not None and name not in names:
                raise InputFileError(
                    f"{self.path} has no column {name!r} ({option}); its columns are {', '.join(names)}"
                    + close_match(name, list(names))
                )


def _names_in(line: str) -> list[str]:
    """The fields of a line of JSON."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return list(row) if isinstance(row, dict) else []


def set_path(document: dict[str, Any], keys: Sequence[PathPart], value: object) -> None:
    """Set the value at a path, making the objects on its way.

    Raises:
        ValueError: something else than an object is in the way.
    """
    inner: Any = document
    for key in keys[:-1]:
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise ValueError(f"cannot set {'.'.join(map(str, keys))}: {key} is not an object")
    inner[str(keys[-1])] = value
