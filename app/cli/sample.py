"""The first rows of a data file, column by column: what `init` looks at.

Cells are read as `driftline produce` reads them: a CSV cell that is written as a number is one, an empty cell
is missing. JSON objects inside a row become columns by their path (`card.country`); arrays are told and left
out.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

import orjson
from msgspec import Struct

from app.core.error import InputFileError
from app.core.leak import Cell
from app.core.pipeline import close_match, format_path
from app.engine.column import read_cell
from app.engine.rows import is_json

ROWS_MAX = 50_000
_LINE_CHARACTERS_MAX = 10_000_000
_CHARACTERS_MAX = 200_000_000
_COLUMNS_MAX = 2_000


class Sample(Struct, frozen=True):
    """The beginning of a file.

    Args:
        columns: cells by path, None where a row has none; all of the same length.
        whole: whether that is the whole file.
        arrays: paths that hold arrays, which no feature can be.
        typed: whether the file knows text from numbers, as JSON does and CSV does not.
    """

    columns: dict[str, list[Cell | None]]
    whole: bool
    arrays: tuple[str, ...]
    typed: bool

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_sample(path: Path, rows_max: int = ROWS_MAX) -> Sample:
    """Read at most so many rows.

    Args:
        path: `.csv` (or `.tsv`), `.jsonl` or `.ndjson`, also with `.gz` behind it.

    Raises:
        InputFileError: it cannot be read as that; the text names the line.
    """
    as_json = is_json(path)
    with _opened(path) as lines:
        rows = _json_rows(path, lines) if as_json else _csv_rows(path, lines)
        first = list(islice(rows, rows_max))
        whole = next(rows, None) is None
    if not first:
        raise InputFileError(f"{path} holds no rows; give a file with some hundreds of them at least")
    names = list(dict.fromkeys(name for row in first for name in row))
    if len(names) > _COLUMNS_MAX:
        raise InputFileError(f"{path} has {len(names)} fields; at most {_COLUMNS_MAX} are looked at")
    arrays = tuple(name for name in names if any(isinstance(row.get(name), list) for row in first))
    columns = {name: [row.get(name) for row in first] for name in names if name not in arrays}
    return Sample(columns, whole, arrays, as_json)


def find_column(sample: Sample, option: str, name: str) -> str:
    """The column that a flag names.

    Raises:
        InputFileError: there is none; the text has a close match.
    """
    if name in sample.columns:
        return name
    if name in sample.arrays:
        raise InputFileError(f"{option} {name}: it holds arrays; name a field that holds one value")
    columns = list(sample.columns)
    shown = ", ".join(columns[:40]) + (", ..." if len(columns) > 40 else "")
    raise InputFileError(f"{option} {name}: the data has no such field{close_match(name, columns)} Its fields: {shown}")


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[str]]:
    """Lines of text; what goes wrong while they are read becomes an `InputFileError`."""
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder; give a CSV or JSON-lines file in it")
        packed = path.suffix.lower() == ".gz"
        with (
            path.open("rb") as raw,
            TextIOWrapper(GzipFile(fileobj=raw) if packed else raw, "utf-8-sig", newline="") as text,
        ):
            yield _lines(path, text)
    except FileNotFoundError:
        raise InputFileError(f"there is no file {path}; give one with --input") from None
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"cannot read {path}: {error}; give a CSV or JSON-lines file") from error


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    total = 0
    number = 0
    while line := text.readline(_LINE_CHARACTERS_MAX):
        number += 1
        total += len(line)
        if len(line) == _LINE_CHARACTERS_MAX:
            raise InputFileError(f"{path}, line {number}: longer than {_LINE_CHARACTERS_MAX} characters; is it text?")
        yield line
        if total > _CHARACTERS_MAX:
            return


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    first = next(lines, "")
    if not first.strip():
        raise InputFileError(f"{path} is empty; its first line must name the columns")
    separator = max(",;\t|", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=separator)
    header: list[str] = []
    try:
        header = [name.strip() for name in next(reader)]
        _check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputFileError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, and the header has {len(header)}; "
                    "is a separator inside a cell that has no quotes?"
                )
            yield {name: read_cell(cell) if cell else None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InputFileError(f"{path}, line {reader.line_num}: {error}; is it a CSV file?") from error


def _check_header(path: Path, header: list[str]) -> None:
    if not all(header):
        raise InputFileError(f"{path}: column {header.index('') + 1} has no name; the first line must name the columns")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputFileError(f"{path}: columns {', '.join(twice)} appear twice; give each its own name")


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InputFileError(f"{path}, line {number}: is not JSON ({error}); write one object a line") from error
        if not isinstance(row, dict):
            raise InputFileError(f"{path}, line {number}: is JSON, but no object; write one object a line")
        yield dict(_flat((), row))


def _flat(way: tuple[str, ...], row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if not key:
            continue  # no path leads there
        if isinstance(value, dict):
            yield from _flat((*way, key), value)
        else:
            yield format_path((*way, key)), value
