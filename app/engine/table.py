"""Files of labelled rows, read as what a stream would have held: an event, its label, the time of the event.

CSV has no types, so a cell becomes a number if it is written as one and the pipeline does not call its
column text. `007`, `1_000`, `nan` and numbers beyond 64 bits stay text: each would change on its way to
JSON and back. An empty cell is a missing value and leaves its key out. JSON lines are taken as they are.
"""

from __future__ import annotations

import csv
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import GzipFile
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

import orjson

from app.codec.decode import MISSING, find
from app.core.error import InputFileError
from app.core.moment import parse_time
from app.core.pipeline import PathPart, Pipeline, close_match, parse_path

BAD_SHOWN_MAX = 10
STEP_MS = 1_000
SPAN_MAX_MS = 86_400_000  # rows without times end now and reach back a day at most, so that no topic forgets them
_NUMBER = re.compile(r"\s*[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_NUMBER_STARTS = frozenset("0123456789+-. \t")
_TRUE, _FALSE = frozenset({"true", "t", "yes", "1"}), frozenset({"false", "f", "no", "0"})

Cell = str | int | float | bool


class Sample(NamedTuple):
    """One row.

    Args:
        event_id: text or a whole number; the events topic's key is its text.
        event: the event as JSON, without the label.
        label: the label, or `MISSING` where the row has none.
        time_ms: event time.
    """

    event_id: str | int
    event: dict[str, Any]
    label: Any
    time_ms: int


@dataclass(slots=True)
class Bad:
    """Rows that could not be used: how many, and the first of them by line."""

    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, line: int, message: str) -> None:
        self.count += 1
        if len(self.lines) < BAD_SHOWN_MAX:
            self.lines.append(f"line {line}: {message}")


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
    """

    label: str | None
    event_id: str | None = None
    time: str | None = None
    start_ms: int | None = None
    step_ms: int | None = None


class Table:
    """A file of rows. `samples` may be run through once; what could not be read is in `bad` then.

    Args:
        path: `.csv`, `.jsonl` or `.ndjson`, also with `.gz` behind it.
        pipeline: whose events these are to be.
        fields: which field is what.
        now_ms: wall time; rows without times end here.
        lead_ms: how long before now the last row must be at the latest (labels come later than their events).
        limit: at most so many rows.

    Raises:
        InputFileError: the file cannot be read, or a column is not there.
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
        self._fields = fields
        self._limit = limit
        self.is_json = is_json(path)
        self._event_id = parse_path(pipeline.event.id)
        self._event_time = parse_path(pipeline.event.time) if pipeline.event.time else None
        self._types = {feature.path: feature.type for feature in pipeline.event.features.values()}
        self._paths = {
            text: keys
            for text in (*self._types, pipeline.event.id, pipeline.event.time)
            if text and len(keys := parse_path(text)) > 1
        }
        self._label_text = pipeline.label is not None and isinstance(pipeline.label.positive, str)
        self.count = self._count_rows()
        step_ms = fields.step_ms or max(1, min(STEP_MS, SPAN_MAX_MS // max(self.count, 1)))
        self.step_ms = step_ms
        self.start_ms = fields.start_ms if fields.start_ms is not None else (now_ms - lead_ms - self.count * step_ms)
        self.counted = fields.start_ms is not None or fields.step_ms is not None
        self._check_columns()

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
            return self._sample(number, row)
        except _BadRowError as error:
            self.bad.add(line, str(error))
            return None

    def _sample(self, number: int, row: dict[str, Any]) -> Sample:
        """One row; the row's own dict becomes the event."""
        fields = self._fields
        label = MISSING if fields.label is None else self._take(row, fields.label)
        event_id = self._id(number, row)
        return Sample(event_id, row, MISSING if label is None else label, self._time(number, row))

    def _id(self, number: int, row: dict[str, Any]) -> str | int:
        if self._fields.event_id is not None:
            found = self._find(row, self._fields.event_id)
            if found is MISSING:
                raise _BadRowError(f"there is no id in {self._fields.event_id!r}")
        else:
            found = find(row, self._event_id)
            if found is MISSING or found is None:
                found = number
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise _BadRowError(f"the id {found!r:.80} is neither text nor a whole number")
        if find(row, self._event_id) is MISSING:
            self._place(row, self._event_id, found)
        return found

    def _time(self, number: int, row: dict[str, Any]) -> int:
        found: object = MISSING
        if self._fields.time is not None:
            found = self._find(row, self._fields.time)
            if found is MISSING or found is None:
                raise _BadRowError(f"there is no time in {self._fields.time!r}")
        elif not self.counted and self._event_time is not None:
            found = find(row, self._event_time)
        if found is MISSING or found is None:
            time_ms = self.start_ms + number * self.step_ms
        else:
            try:
                time_ms = parse_time(found)
            except ValueError as error:
                raise _BadRowError(f"the time {error}") from None
        if time_ms < 0:
            raise _BadRowError("the time lies before 1970, which no Kafka record can carry; use --start and --step")
        if self._event_time is not None and (self.counted or find(row, self._event_time) is MISSING):
            self._place(row, self._event_time, time_ms)
        return time_ms

    def _place(self, row: dict[str, Any], keys: Sequence[PathPart], value: object) -> None:
        try:
            place(row, keys, value)
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
        with _open(self.path) as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    row = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    self.bad.add(line, f"is not JSON: {error}")
                    continue
                if isinstance(row, dict):
                    yield line, row
                else:
                    self.bad.add(line, "is JSON, but no object")

    def _read_csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with _open(self.path) as file:
            reader, header = csv_reader(self.path, file)
            yield from self.csv_rows(reader, header)

    def csv_rows(self, reader: Any, header: Sequence[str], line: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of a part of the file, each with its line.

        Args:
            reader: a `csv.reader` at the part's first row.
            line: how many lines of the file lie before what the reader reads.
        """
        columns = [(self._paths.get(name, (name,)), self._reader(name)) for name in header]
        flat = all(len(keys) == 1 for keys, _ in columns)
        cells = [(name, convert) for name, (_, convert) in zip(header, columns, strict=True)]
        width = len(header)
        try:
            for texts in reader:
                if len(texts) != width:
                    if texts:
                        self.bad.add(line + reader.line_num, f"has {len(texts)} cells, the header has {width}")
                    continue
                row: dict[str, Any] = {}
                if flat:
                    for (name, convert), text in zip(cells, texts, strict=True):
                        if text:
                            row[name] = convert(text)
                else:
                    for (keys, convert), text in zip(columns, texts, strict=True):
                        if text:
                            place(row, keys, convert(text))
                yield line + reader.line_num, row
        except csv.Error as error:
            where = line + reader.line_num
            raise InputFileError(f"{self.path}, line {where}: {error}; is it a CSV file?") from error

    def _reader(self, name: str) -> Callable[[str], Cell]:
        """How the cells of a column are read: as the pipeline declares it, else by their look."""
        if name == self._fields.label:
            return str if self._label_text else read_cell
        kind = self._types.get(name)
        if kind == "string":
            return str
        return _read_boolean if kind == "boolean" else read_cell

    def _count_rows(self) -> int:
        """How many rows there are at most (a quoted line break in CSV counts as one too many).

        Raises:
            InputFileError: no line of JSON has the label's field, so nothing of it is to be sent.
        """
        label = self._fields.label if self.is_json else None
        name = str(self._keys(label)[-1]) if label is not None else ""
        sought = f'"{name}"' if name.isascii() and name.isprintable() else None  # as JSON writes it
        lines, first = 0, ""
        with _open(self.path) as file:
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

    def _check_columns(self) -> None:
        if self.is_json:
            return
        with _open(self.path) as file:
            _, header = csv_reader(self.path, file)
        for option, name in (
            ("--label", self._fields.label),
            ("--id", self._fields.event_id),
            ("--time", self._fields.time),
        ):
            if name is not None and name not in header:
                raise InputFileError(
                    f"{self.path} has no column {name!r} ({option}); its columns are {', '.join(header)}"
                    + close_match(name, header)
                )


def _names_in(line: str) -> list[str]:
    """The fields of a line of JSON."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return list(row) if isinstance(row, dict) else []


def read_cell(text: str) -> Cell:
    """A cell as a number, if it is one that JSON can hold and that keeps its text's meaning, else as text."""
    if text[0] not in _NUMBER_STARTS or not _NUMBER.fullmatch(text):
        return text
    if _INTEGER.fullmatch(text):
        whole = int(text)
        return whole if -(2**63) <= whole < 2**63 else text
    number = float(text)
    return number if math.isfinite(number) else text


def _read_boolean(text: str) -> Cell:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    return False if lowered in _FALSE else text


def place(document: dict[str, Any], keys: Sequence[PathPart], value: object) -> None:
    """Set the value at a path, making the objects on its way.

    Raises:
        ValueError: something else than an object is in the way.
    """
    inner: Any = document
    for key in keys[:-1]:
        inner = inner.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise ValueError(f"cannot set {'.'.join(map(str, keys))}: {key} is no object")
    inner[str(keys[-1])] = value


def is_json(path: Path) -> bool:
    """Whether a file holds JSON lines, by its name; otherwise it is a table.

    Raises:
        InputFileError: the name says neither.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    match suffixes[-1:]:
        case [".csv" | ".tsv" | ".txt"]:
            return False
        case [".jsonl" | ".ndjson"]:
            return True
    raise InputFileError(f"{path}: cannot tell what it is; name it .csv or .jsonl (either may end in .gz)")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked; what goes wrong while they are read or decoded becomes an `InputFileError`."""
    packed = path.suffix.lower() == ".gz"
    try:
        with path.open("rb") as raw, cast(BinaryIO, GzipFile(fileobj=raw) if packed else raw) as file:
            yield file
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"cannot read {path}: {error}; give a CSV or JSON-lines file") from error


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """The file's text."""
    with open_bytes(path) as raw, TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        yield text


def csv_reader(path: Path, file: TextIO) -> tuple[Any, list[str]]:
    """A reader behind the header, and the header. The separator is the one that the header holds most of."""
    first = file.readline()
    if not first.strip():
        raise InputFileError(f"{path} is empty; its first line must name the columns")
    separator = max(",;\t|", key=first.count)
    reader = csv.reader(chain([first], file), delimiter=separator)
    names = [name.strip() for name in next(reader)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputFileError(f"{path}: columns {', '.join(sorted(twice))} appear twice; give each its own name")
    return reader, names
