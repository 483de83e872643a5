"""A file of JSON lines: how its times are written, and its rows as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from driftline.codec.decode import MISSING, find
from driftline.codec.feature import from_text
from driftline.codec.reason import RefusedError
from driftline.core.error import InputFileError
from driftline.core.pipeline import PathPart, Pipeline, close_match, parse_path
from driftline.core.task import task_of
from driftline.ingest.column import SAMPLE_ROWS, Cell, Columns, Fields, Roles, check_labels, find_time_form
from driftline.ingest.rows import Bad, json_rows, open_text

_LABELS_SEEN_MAX = 1_000


class JsonFile:
    """A file of JSON lines as rows of a pipeline; JSON knows numbers from text.

    Args:
        bad: takes the lines that are not rows.

    Attributes:
        count: lines.

    Raises:
        InputFileError: the file cannot be read, its times can be read in two ways, or no line has a label.
    """

    header = ()
    is_bare = False

    def __init__(self, path: Path, pipeline: Pipeline, fields: Fields, bad: Bad) -> None:
        self._path = path
        self._pipeline = pipeline
        self._fields = fields
        self._bad = bad
        self._in_words = label_in_words(pipeline)
        self.count = self._count_lines()
        self.columns = self._find_columns()

    def keys(self, name: str) -> tuple[PathPart, ...]:
        """Where a field that the user named is in a row."""
        return parse_path(name)

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row and its line."""
        with open_text(self._path) as file:
            yield from json_rows(file, self._bad.add, self._path)

    def check_features(self) -> None:
        """Lines may hold what the first does not."""

    def _find_columns(self) -> Columns:
        """How times are written, from the first rows."""
        roles, times, seen, lines = Roles.of(self._fields, self._pipeline), [], Counter[Any](), dict[Any, int]()
        with open_text(self._path) as file:
            for line, row in islice(json_rows(file, lambda line, message: None, self._path), SAMPLE_ROWS):
                if roles.time is not None:
                    times.append(find(row, self.keys(roles.time)))
                label = find(row, self.keys(roles.label)) if roles.label is not None else None
                label = self._in_words(label)
                if isinstance(label, Cell) and len(seen) < _LABELS_SEEN_MAX:
                    seen[label] += 1
                    lines.setdefault(label, line)
        columns = Columns()
        if roles.label is not None:
            check_labels(self._path, roles.label, self._pipeline, seen, lines)
        if roles.time is not None:
            columns.time = self._fields.time_form or find_time_form(self._path, roles.time, times, self._rest_of)
        return columns

    def _rest_of(self, name: str) -> Iterator[Any]:
        with open_text(self._path) as file:
            for _, row in islice(json_rows(file, lambda line, message: None, self._path), SAMPLE_ROWS, None):
                yield find(row, self.keys(name))

    def _count_lines(self) -> int:
        """How many lines there are.

        Raises:
            InputFileError: none has the label's field, so nothing of it is to be sent.
        """
        label = self._fields.label
        name = str(self.keys(label)[-1]) if label is not None else ""
        sought = f'"{name}"' if name.isascii() and name.isprintable() else None  # as JSON writes it
        lines, first = 0, ""
        with open_text(self._path) as file:
            for line in file:
                lines += 1
                first = first or line.strip()
                if sought is not None and sought in line:
                    sought = None
        if sought is not None and label is not None and lines:
            known = _names_in(first)
            raise InputFileError(
                f"no line of {self._path} has the field {label!r} (--label); the first has {', '.join(known) or 'none'}"
                + close_match(label, known)
            )
        return lines


def label_in_words(pipeline: Pipeline) -> Callable[[Any], Any]:
    """Reads a label as the pipeline takes it, where it may be written as text; `MISSING` where that is no label."""
    if pipeline.label is None:
        return lambda label: label
    from_words = from_text(pipeline.label, task_of(pipeline.task).labels)
    if from_words is None:
        return lambda label: label

    def read(label: Any) -> Any:
        if not isinstance(label, str):
            return label
        try:
            return from_words(label)
        except RefusedError:
            return MISSING

    return read


def _names_in(line: str) -> list[str]:
    """The fields of a line of JSON."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return []
    return list(row) if isinstance(row, dict) else []
