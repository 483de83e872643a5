"""Rows of plain numbers, without a detour over text and JSON objects.

A block of lines that holds nothing but digits and separators is one JSON array of arrays, by JSON's own grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader, BytesIO, RawIOBase, StringIO, TextIOWrapper
from operator import itemgetter
from pathlib import Path as FilePath
from typing import Any, BinaryIO, NamedTuple

import orjson

from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.target import Target, TargetError
from driftline.core.record import LabelValue
from driftline.core.task import task_of
from driftline.ingest.csv_file import CsvFile
from driftline.ingest.rows import open_bytes

BLOCK_BYTES = 128 * 1024
_PLAIN_BYTES = b"0123456789+-.eE, \r\n"
_LABELS_KNOWN_MAX = 1_000


class OtherRows(NamedTuple):
    """Lines that are not plain numbers.

    Args:
        before: lines of the file before them.
    """

    lines: Iterator[str]
    before: int


class PlainReader:
    """Reads the rows of a CSV file of plain numbers.

    Args:
        label: the column that holds it.

    Attributes:
        pick: from a row to the features in declared order.
        targets: from rows to what their labels mean; None without labels.
    """

    def __init__(self, file: CsvFile, path: FilePath, pipeline: Pipeline, label: str | None) -> None:
        self.file, self._path, header = file, path, file.header
        columns = [header.index(feature.path) for feature in pipeline.event.plain.values()]
        self._width = len(header)
        self._number_max = pipeline.limits.number_max
        self._column = columns[0]
        self.pick: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(*columns) if len(columns) > 1 else self._only
        self.targets: Callable[[Sequence[Sequence[Any]]], list[LabelValue]] | None = None
        self._label = -1
        if pipeline.label is not None and label is not None:
            self._label = header.index(label)
            self._read = Target(pipeline.label, pipeline).read
            self._known: dict[Any, LabelValue] = {}
            self.targets = self._numbers if task_of(pipeline.task).labels.numeric else self._classes

    def _only(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return (row[self._column],)

    def blocks(self) -> Iterator[list[list[Any]] | OtherRows]:
        """The rows of the file: plain ones, and the lines of others."""
        lines_read = 1
        with open_bytes(self._path) as file:
            file.readline()
            while lines := file.readlines(BLOCK_BYTES):
                block = b"".join(lines)
                odd = block.translate(None, _PLAIN_BYTES) or block.count(b"\r") != block.count(b"\r\n")
                rows = None if odd else self._rows(lines)
                if rows is not None:
                    yield rows
                elif b'"' in block:
                    # A cell with quotes may hold line breaks: from there on, lines are not rows.
                    rest = TextIOWrapper(BufferedReader(_Behind(block, file)), "utf-8", newline="")
                    yield OtherRows(rest, lines_read)
                    return
                else:
                    yield OtherRows(StringIO(block.decode(), newline=""), lines_read)
                lines_read += _lines_in(block)

    def _rows(self, lines: Sequence[bytes]) -> list[list[Any]] | None:
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
        column, known = self._label, self._known
        try:
            return [known[row[column]] for row in rows]
        except KeyError:  # one that is new
            return [self._class(row[column]) for row in rows]

    def _class(self, value: Any) -> LabelValue:
        known = self._known.get(value)
        if known is None:
            known = self._read(value)
            if len(self._known) < _LABELS_KNOWN_MAX:
                self._known[value] = known
        return known

    def _numbers(self, rows: Sequence[Sequence[Any]]) -> list[LabelValue]:
        return [self._read(row[self._label]) for row in rows]


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
