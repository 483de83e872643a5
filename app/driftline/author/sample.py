"""The first rows of a data file, column by column: what `init` looks at.

Files are read as every command reads them (`ingest.rows`), and the forms of columns are found out by the same rules
(`ingest.column`), only that here nothing says yet which column holds numbers. JSON objects inside a row become
columns by their path (`card.country`); arrays are reported and left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from driftline.author.leak import Cell
from driftline.core.error import InputFileError
from driftline.core.number import Decimal, is_missing, parse_number, split_unit
from driftline.core.pipeline import close_match, format_path
from driftline.ingest.column import FALSE_WORDS, SAMPLE_ROWS, TRUE_WORDS, NumberForm, number_forms
from driftline.ingest.rows import Bad, CsvRows, is_json, json_rows, open_text

_COLUMNS_MAX = 2_000
_NUMBERS_MIN = 0.95  # share of numbers among what is not missing: from here on the others are faults
_CODE = re.compile(r"\s*[+-]?0[0-9]+\s*")  # a zero in front is a part of it, as in a postcode


class Sample(Struct, frozen=True):
    """The beginning of a file.

    Args:
        columns: cells by path, None where a row has none; all of the same length.
        whole: whether that is the whole file.
        arrays: paths that hold arrays, which no feature can be.
        typed: whether the file knows text from numbers, as JSON does and CSV does not.
        bad: lines that are not rows.
        unnamed: places of columns without a name, from 1.
        texts: columns of numbers that are written as text in a file that knows both, and their decimal sign.
        lists: the arrays of those in `arrays`, None where a row has none.
    """

    columns: dict[str, list[Cell | None]]
    whole: bool
    arrays: tuple[str, ...]
    typed: bool
    bad: Bad
    unnamed: tuple[int, ...] = ()
    texts: dict[str, Decimal] = {}
    lists: dict[str, list[list[Any] | None]] = {}

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_sample(path: Path, rows_max: int = SAMPLE_ROWS, decimal: Decimal | None = None) -> Sample:
    """Read at most so many rows.

    Args:
        path: `.csv` (or `.tsv`), `.jsonl` or `.ndjson`, also with `.gz` behind it.
        decimal: the decimal sign; None finds it out.

    Raises:
        InputFileError: it cannot be read as that; the text names the line.
    """
    read = _read_json if is_json(path) else _read_csv
    sample = read(path, rows_max, decimal)
    if not sample.rows:
        raise InputFileError(f"{path} has no rows; give a file with at least a few hundred{sample.bad.first}")
    if len(sample.columns) > _COLUMNS_MAX:
        raise InputFileError(f"{path} has {len(sample.columns)} fields; the limit is {_COLUMNS_MAX}")
    return sample


def find_column(sample: Sample, option: str, name: str) -> str:
    """The column that a flag names.

    Raises:
        InputFileError: there is none; the text has a close match.
    """
    if name in sample.columns:
        return name
    if name in sample.arrays:
        raise InputFileError(f"{option} {name}: it holds arrays; name a field with a single value")
    columns = list(sample.columns)
    shown = ", ".join(columns[:40]) + (", ..." if len(columns) > 40 else "")
    unnamed = not sample.typed and any(map(_is_number, columns))
    hint = ". Is its first line a row? Then put a line of names before it" if unnamed else ""
    raise InputFileError(
        f"{option} {name}: no such field in the data{close_match(name, columns)}. Its fields: {shown}{hint}"
    )


def _read_csv(path: Path, rows_max: int, decimal: Decimal | None) -> Sample:
    bad = Bad()
    with open_text(path) as file:
        rows = CsvRows(path, file)
        made = rows.rows(bad.add)
        first = [texts for _, texts in islice(made, rows_max)]
        whole = next(made, None) is None
    cells = dict(zip(rows.header, zip(*first, strict=True), strict=True)) if first else {}
    unnamed = tuple(place for place, name in enumerate(rows.header, 1) if not name)
    texts = {name: column for name, column in cells.items() if name}
    numeric = {name: set(column) for name, column in texts.items() if _are_numbers(set(column), units=True)}
    forms = number_forms(path, numeric, decimal, rows.separator)
    columns = {name: _values(column, forms.get(name)) for name, column in texts.items()}
    if _is_row(texts):
        number = next(name for name in texts if _is_number(name))
        raise InputFileError(
            f"{path}: its first line must name the columns, and {number!r:.40} and others in it look like values; put "
            "a line of names before it"
        )
    return Sample(columns, whole, (), False, bad, unnamed)


def _is_row(columns: Mapping[str, Sequence[str]]) -> bool:
    """Whether the names of columns are rather the values of a row: a number among them, and several that come again as
    values of their column."""
    again = sum(name in cells for name, cells in columns.items())
    return again >= max(2, len(columns) / 3) and any(map(_is_number, columns))


def _read_json(path: Path, rows_max: int, decimal: Decimal | None) -> Sample:
    bad = Bad()
    with open_text(path) as file:
        rows = (dict(flat((), row)) for _, row in json_rows(file, bad.add, path))
        first = list(islice(rows, rows_max))
        whole = next(rows, None) is None
    names = list(dict.fromkeys(name for row in first for name in row))
    arrays = tuple(name for name in names if any(isinstance(row.get(name), list) for row in first))
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in first] for name in names if name not in arrays}
    numeric = {}
    for name, cells in columns.items():
        texts = {cell for cell in cells if isinstance(cell, str)}
        numbers = any(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)
        if texts and ((numbers and all(map(is_missing, texts))) or (not numbers and _are_numbers(texts))):
            numeric[name] = texts
    forms = number_forms(path, numeric, decimal, "")
    written: dict[str, Decimal] = {}
    for name, form in forms.items():
        if any(not is_missing(text) for text in numeric[name]):
            written[name] = form.decimal
        read = dict(zip(numeric[name], _values(tuple(numeric[name]), form), strict=True))
        columns[name] = [read[cell] if isinstance(cell, str) else cell for cell in columns[name]]
    lists = {name: [cell if isinstance(cell := row.get(name), list) else None for row in first] for name in arrays}
    return Sample(columns, whole, arrays, True, bad, (), written, lists)


def _are_numbers(texts: Iterable[str], *, units: bool = False) -> bool:
    """Whether the distinct texts of a column are numbers, but for a few and those that mean that there is none.

    Args:
        units: they may have a unit, and all the same.
    """
    known = [text for text in texts if not is_missing(text)]
    if units:
        pairs = [split_unit(text) for text in known]
        if len({unit for _, unit in pairs if unit}) > 1:
            return False
        known = [text for text, _ in pairs]
    if not known or any(map(_CODE.fullmatch, known)):
        return False
    numbers = sum(_is_number(text) for text in known)
    return numbers >= _NUMBERS_MIN * len(known)


def _is_number(text: str) -> bool:
    return any(parse_number(text, sign, thousands=True) is not None for sign in (".", ","))


def _values(texts: Sequence[str], form: NumberForm | None) -> list[Any]:
    """The cells of a column: numbers, None where there is none, or else text."""
    if form is None:
        words = {text.strip().lower() for text in set(texts) if not is_missing(text)}
        truths = words <= TRUE_WORDS | FALSE_WORDS and bool(words & TRUE_WORDS) and bool(words & FALSE_WORDS)
        return [None if not text or (truths and is_missing(text)) else text for text in texts]
    read: dict[str, Any] = {}
    for text in set(texts):
        number = form.parse(text)
        read[text] = number if number is not None else None if is_missing(text) else text
    if all(
        isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        for number in read.values()
        if number is not None
    ):
        read = {text: int(number) if number is not None else None for text, number in read.items()}
    return [read[text] for text in texts]


def flat(way: tuple[str, ...], row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a row, those in objects by their path."""
    for key, value in row.items():
        if not key:
            continue  # no path leads there
        if isinstance(value, dict):
            yield from flat((*way, key), value)
        elif isinstance(value, float) and not math.isfinite(value):
            yield format_path((*way, key)), None  # a bare NaN or Infinity counts as missing
        else:
            yield format_path((*way, key)), value
