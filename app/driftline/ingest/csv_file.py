"""A CSV file: which of its columns is what, how each is written, and its rows as values."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from driftline.codec.decode import MISSING
from driftline.codec.wire import set_path
from driftline.core.error import InputFileError
from driftline.core.notation import is_rooted
from driftline.core.pipeline import PathPart, Pipeline, close_match, parse_path
from driftline.core.task import task_of
from driftline.ingest.column import (
    SAMPLE_ROWS,
    BadCellError,
    Columns,
    Fields,
    NumberForm,
    Read,
    Roles,
    check_labels,
    decide,
    plain_label,
    read_boolean,
    read_cell,
    read_whole_id,
)
from driftline.ingest.rows import Bad, CsvRows, open_bytes, open_text, read_cells

_PLAIN = b"0123456789+-.eE, \r\n"
_LABELS_SEEN_MAX = 1_000


class CsvFile:
    """A CSV file as rows of a pipeline.

    CSV has no types, so a cell becomes what the pipeline declares its column to be; a column that it does not declare
    gives numbers where cells are written as such. `007`, `1_000`, `nan` and numbers beyond 64 bits stay text there:
    each would change on its way to JSON and back. An empty cell is a missing value and leaves its key out.

    Args:
        bad: takes the rows that cannot be read.

    Attributes:
        count: rows, at most: a quoted line break counts as one too many.
        header: empty names included.
        is_bare: whether it is UTF-8, its header is its first line and its numbers have points, so that its lines can be
            read without a look at the columns.

    Raises:
        InputFileError: the file cannot be read, a column is not there, or it can be read in two ways.
    """

    def __init__(self, path: Path, pipeline: Pipeline, fields: Fields, bad: Bad) -> None:
        self._path = path
        self._pipeline = pipeline
        self._fields = fields
        self._bad = bad
        self._roles = Roles.of(fields, pipeline)
        rooted = {name: one.keys for name, one in pipeline.event.read.items() if is_rooted(one.keys)}
        self._paths = rooted | {
            text: keys
            for text in pipeline.event.paths
            if text not in rooted and [*map(str, keys := parse_path(text))] != [text]  # a column may be called 0
        }
        self._labels = task_of(pipeline.task).labels
        self.header: tuple[str, ...] = ()
        self.is_bare = False
        self._separator = ""
        with open_text(path) as file:
            self.count = max(sum(1 for _ in file) - 1, 0)
        self.columns = self._find_columns()

    def keys(self, name: str) -> tuple[PathPart, ...]:
        """Where a field that the user named is in a row."""
        return self._paths.get(name, (name,))

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row and its line."""
        with open_text(self._path) as file:
            yield from self._made(CsvRows(self._path, file).rows(self._bad.add))

    def part(self, lines: Iterator[str], before: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of a part of the file, each with its line.

        Args:
            lines: of the part, which begins with a row.
            before: how many lines of the file lie before.
        """
        reader = csv.reader(lines, delimiter=self._separator)
        return self._made(read_cells(self._path, reader, len(self.header), self._bad.add, before))

    def check_features(self) -> None:
        """Refuse a CSV file without a column that the model needs, as each of its rows would be rejected.

        Raises:
            InputFileError: it is such a file.
        """
        names = [name for name in self.header if name]
        for name, feature in self._pipeline.event.read.items():
            here = (feature.path, name) if is_rooted(feature.keys) else (feature.path,)
            if feature.missing == "reject" and not any(one in names for one in here):
                raise InputFileError(
                    f"{self._path} has no column {feature.path!r}, which feature {name} of {self._pipeline.name} "
                    f"needs; its columns are {', '.join(names)}{close_match(feature.path, names)}"
                )

    def _made(self, rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows of cells as dicts of values."""
        columns = [(at, self.keys(name), self._reader(name)) for at, name in enumerate(self.header) if name]
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
                self._bad.add(line, str(error))
                continue
            yield line, row

    def _reader(self, name: str) -> Read:
        """How the cells of a column are read: as the pipeline declares it, else by their look."""
        if name == self._fields.label:
            return self.columns.label
        kind = self._roles.types.get(name)
        if kind in ("string", "text"):
            return str
        if kind == "boolean":
            return read_boolean(name)
        if name in self.columns.numbers:
            return self.columns.numbers[name].reader(name)
        if name == self._roles.id:
            return read_whole_id if self.columns.whole_ids else str
        return read_cell

    def _find_columns(self) -> Columns:
        """The forms of the columns, from the first rows."""
        with open_text(self._path) as file:
            rows = CsvRows(self._path, file)
            self.header, self._separator = rows.header, rows.separator
            self._check_columns(rows.names)
            bare = rows.line == 1 and file.encoding == "utf-8-sig" and self._separator == ","
            self.is_bare = bare and file.newlines in ("\n", "\r\n") and self._fields.decimal in (None, ".")
            roles = self._roles
            if self._shows_nothing(roles):
                label = plain_label(self._pipeline, roles.label)
                return Columns(dict.fromkeys(roles.types, NumberForm()), label=label)
            first = list(islice(rows.rows(lambda line, message: None), SAMPLE_ROWS))
        cells = dict(zip(self.header, zip(*(texts for _, texts in first), strict=True), strict=True)) if first else {}
        columns = decide(
            self._path,
            self._pipeline,
            roles,
            cells,
            self._separator,
            decimal=self._fields.decimal,
            time_form=self._fields.time_form,
            rest=self._rest_of,
        )
        if roles.label in cells and first:
            self._check_labels(columns, roles.label, cells[roles.label], [line for line, _ in first])
        return columns

    def _shows_nothing(self, roles: Roles) -> bool:
        """Whether the first rows are plain numbers and nothing is asked of them but numbers: the commonest file, and
        looked at in no time."""
        plain = self.is_bare and roles.time is None and roles.id not in self.header
        if not plain or any(kind != "number" for kind in roles.types.values()):
            return False
        if self._labels.textual or (self._pipeline.label and self._pipeline.label.positive is not None):
            return False
        with open_bytes(self._path) as file:
            file.readline()
            return not b"".join(islice(file, SAMPLE_ROWS)).translate(None, _PLAIN)

    def _rest_of(self, name: str) -> Iterator[str]:
        """The cells of a column behind the sample."""
        with open_text(self._path) as file:
            rows = CsvRows(self._path, file)
            at = rows.header.index(name)
            for _, texts in islice(rows.rows(lambda line, message: None), SAMPLE_ROWS, None):
                yield texts[at]

    def _check_labels(self, columns: Columns, name: str, cells: Sequence[str], lines: Sequence[int]) -> None:
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
        check_labels(self._path, name, self._pipeline, seen, first)

    def _check_columns(self, names: Sequence[str]) -> None:
        for option, name in (
            ("--label", self._fields.label),
            ("--id", self._fields.event_id),
            ("--time", self._fields.time),
        ):
            if name is not None and name not in names:
                raise InputFileError(
                    f"{self._path} has no column {name!r} ({option}); its columns are {', '.join(names)}"
                    + close_match(name, list(names))
                )
