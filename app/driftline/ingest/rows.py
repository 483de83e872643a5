"""A file of rows as raw cells, whoever wrote it: packing, encoding, line ends, separator, header, quotes.

Every command that reads a table reads it through here, so none takes a file that another refuses. What has one
meaning only is read, as an unnamed column of row numbers is skipped; what has two is refused with its line.
"""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import GzipFile
from io import BufferedReader, RawIOBase, TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import orjson

from driftline.codec.json import parse_json
from driftline.core.error import InputFileError

BAD_SHOWN_MAX = 10
SEPARATORS = ",;\t|"
CELL_MAX = 10_000_000  # characters of a cell, and of a line of JSON
LINE_BYTES_MAX = 64 * 1024 * 1024  # a packed file of 64 kB can hold a line of 64 MB
BLANK_BYTES_MAX = 4 * 1024 * 1024
UNPACKED_MIN, UNPACKED_RATIO = 32 * 1024 * 1024, 250  # gzip takes a thousandth of what is all alike
_BLANKS = b"\r\n\t \0"
_LINES_LOOKED_AT = 20
_BYTES_LOOKED_AT = 4_096
_BUFFER_BYTES = 128 * 1024
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

csv.field_size_limit(CELL_MAX)  # of the whole process: `csv` knows no other


@dataclass(slots=True)
class Bad:
    """Rows that could not be used: how many, and the first of them by line."""

    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, line: int, message: str) -> None:
        self.count += 1
        if len(self.lines) < BAD_SHOWN_MAX:
            self.lines.append(f"line {line}: {message}")

    @property
    def first(self) -> str:
        """The first of them as the end of a sentence; empty without any."""
        return f"; the first of {self.count:,}: {self.lines[0]}" if self.lines else ""


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
    raise InputFileError(f"{path}: unknown file type; name it .csv or .jsonl, optionally followed by .gz")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked; what goes wrong while they are read or decoded becomes an `InputFileError`."""
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder; give a CSV or JSON-lines file")
        packed = _is_packed(path)
        with path.open("rb") as raw, cast(BinaryIO, GzipFile(fileobj=raw) if packed else raw) as file:
            yield BufferedReader(_Lines(path, file, raw if packed else None), _BUFFER_BYTES)
    except FileNotFoundError:
        raise InputFileError(f"cannot read {path}: no such file") from None
    except UnicodeError as error:
        raise InputFileError(_undecodable(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputFileError(f"cannot read {path}: {error}; give a CSV or JSON-lines file") from error


class _Lines(RawIOBase):
    """Bytes that have an end of line now and then, and something in some line; else a small file could fill the memory,
    or take minutes.

    Args:
        packed: what they are unpacked from; None where they are not.
    """

    def __init__(self, path: Path, file: BinaryIO, packed: BinaryIO | None) -> None:
        self._path, self._file, self._packed = path, file, packed
        self._length = 0  # of the line that was begun
        self._blank = 0  # bytes since the last that is not blank
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._file.read(len(buffer))
        ended = max(read.rfind(b"\n"), read.rfind(b"\r"))
        self._length = self._length + len(read) if ended < 0 else len(read) - ended - 1
        if self._length > LINE_BYTES_MAX:
            raise InputFileError(
                f"{self._path} has a line longer than {LINE_BYTES_MAX // 1024**2} MB; write one row per line"
            )
        written = read.rstrip(_BLANKS)
        self._blank = len(read) - len(written) + (0 if written else self._blank)
        if self._blank > BLANK_BYTES_MAX:
            raise InputFileError(
                f"{self._path} has more than {BLANK_BYTES_MAX // 1024**2} MB of blank lines in a row; remove them"
            )
        self._size += len(read)
        if self._packed is not None and self._size > max(UNPACKED_MIN, UNPACKED_RATIO * self._packed.tell()):
            raise InputFileError(
                f"{self._path} unpacks to more than {UNPACKED_RATIO} times its size. If it is what it should be, "
                "unpack it first, as with `gunzip -k`"
            )
        buffer[: len(read)] = read
        return len(read)


def _is_packed(path: Path) -> bool:
    with path.open("rb") as raw:
        begin = raw.read(4)
    if begin in (_ZIP, _PARQUET):
        kind = "a ZIP file or a workbook" if begin == _ZIP else "a Parquet file"
        raise InputFileError(f"{path} is {kind}, not text; save it as CSV")
    return path.suffix.lower() == ".gz" or begin.startswith(_GZIP)


def encoding_of(begin: bytes) -> str:
    """The encoding of a text, by its first bytes: a byte order mark, or the zeros between Latin letters."""
    for mark, encoding in _MARKS:
        if begin.startswith(mark):
            return encoding
    if len(begin) >= 4 and begin[1] == begin[3] == 0 != begin[0]:
        return "utf-16-le"
    return "utf-16-be" if len(begin) >= 4 and begin[0] == begin[2] == 0 != begin[1] else "utf-8-sig"


def _undecodable(path: Path) -> str:
    """Where a file is not the text that it should be."""
    line = 0
    with open_bytes(path) as file:
        for line, text in enumerate(file, 1):
            try:
                text.decode()
            except UnicodeDecodeError as error:
                byte = text[error.start]
                return (
                    f"{path} is not UTF-8: line {line} has the byte 0x{byte:02x}. Save it as UTF-8, as with "
                    f"`iconv -f WINDOWS-1252 -t UTF-8`"
                )
    return f"{path} ends in the middle of a character in line {line}; save it as UTF-8"


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file's text, lines with the ends that they have."""
    with open_bytes(path) as file:
        begin = file.read(4)
    with open_bytes(path) as file, TextIOWrapper(file, encoding_of(begin), newline="") as text:
        yield text


class CsvRows:
    """The rows of a table behind its header.

    Args:
        path: for errors.
        lines: of the file, from its first on.

    Attributes:
        header: the columns' names; empty for one without a name, which holds nothing that anything could be called.
        separator: between cells.
        line: how many lines were read.

    Raises:
        InputFileError: there is no header, or two of its columns have one name.
    """

    def __init__(self, path: Path, lines: Iterator[str]) -> None:
        self._path = path
        self._before = 0  # lines before those that the reader reads
        first = ""
        for text in lines:
            if text.strip():
                first = text
                break
            self._before += 1
        if not first:
            raise InputFileError(f"{path} is empty; its first line must name the columns")
        stated = first.strip().strip('"').lower()
        if stated.startswith("sep=") and len(stated) == 5:  # for spreadsheets
            self._before += 1
            head, self.separator = list(islice(lines, _LINES_LOOKED_AT)), stated[-1]
        else:
            head = [first, *islice(lines, _LINES_LOOKED_AT)]
            self.separator = _separator(head)
        self._reader = csv.reader(chain(head, lines), delimiter=self.separator)
        self.header = self._read_header()

    def _read_header(self) -> tuple[str, ...]:
        try:
            names = tuple(name.strip() for name in next(self._reader, ()))
        except csv.Error as error:
            raise InputFileError(f"{self._path}, line {self.line}: {error}; is it a CSV file?") from error
        if not any(names):
            raise InputFileError(f"{self._path} has no column names; its first line must hold them")
        twice = sorted(name for name, count in Counter(names).items() if name and count > 1)
        if twice:
            which = f"columns {', '.join(twice)} appear" if len(twice) > 1 else f"column {twice[0]} appears"
            raise InputFileError(
                f"{self._path}: {which} more than once; its first line must give each column a name of its own"
            )
        return names

    @property
    def line(self) -> int:
        return self._before + int(self._reader.line_num)

    @property
    def names(self) -> list[str]:
        """Of the columns that have one."""
        return [name for name in self.header if name]

    def rows(self, bad: Callable[[int, str], None]) -> Iterator[tuple[int, list[str]]]:
        """Each row's last line and its cells, as many as the header has names.

        Args:
            bad: called with the line of a row that has another number of them, and what is wrong.

        Raises:
            InputFileError: it is not CSV from some line on.
        """
        yield from read_cells(self._path, self._reader, len(self.header), bad, self._before)


def read_cells(
    path: Path, reader: Any, width: int, bad: Callable[[int, str], None], before: int
) -> Iterator[tuple[int, list[str]]]:
    """See `CsvRows.rows`; of a part of a file.

    Args:
        reader: a `csv.reader` at the part's first row.
        before: how many lines of the file lie before what the reader reads.
    """
    try:
        for texts in reader:
            if len(texts) != width:
                if not texts or (len(texts) == 1 and not texts[0].strip()):
                    continue
                if len(texts) < width or any(texts[width:]):
                    bad(before + reader.line_num, f"has {len(texts)} cells, the header has {width}")
                    continue
                del texts[width:]
            yield before + reader.line_num, texts
    except csv.Error as error:
        where = before + reader.line_num
        unclosed = "perhaps a quotation mark is not closed" if "field larger" in str(error) else "is it a CSV file?"
        raise InputFileError(f"{path}, line {where}: {error}; {unclosed}") from error


def _separator(lines: Sequence[str]) -> str:
    """The separator by which most lines have as many cells as the first, and then as many as can be."""

    def fit(separator: str) -> tuple[bool, int, int]:
        try:
            widths = [len(cells) for cells in csv.reader(lines, delimiter=separator) if cells]
        except csv.Error:
            return False, 0, 0
        return widths[0] > 1, widths.count(widths[0]), widths[0]

    return max(SEPARATORS, key=fit)


def json_rows(
    lines: Iterator[str], bad: Callable[[int, str], None], path: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line of JSON and its number.

    Args:
        bad: called with the number of a line that is not an object, and what is wrong.

    Raises:
        InputFileError: the file is one JSON array.
    """
    begun = False
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            row = parse_json(text.encode())
        except orjson.JSONDecodeError as error:
            if not begun and text.lstrip().startswith("["):
                raise InputFileError(_array(path)) from None
            bad(line, f"is not JSON: {error}")
        else:
            if isinstance(row, dict):
                yield line, row
            elif not begun and isinstance(row, list) and row and isinstance(row[0], dict):
                raise InputFileError(_array(path))
            else:
                bad(line, "is JSON but not an object")
        begun = True


def _array(path: Path) -> str:
    return f"{path} is a JSON array; write one object per line, as with `jq -c '.[]'`"
