"""The scores file: one row an event, with what was served and, where it came, the label, and whether the metrics count
it.

Parts are written by each process on its own and put together at the end; the file appears under its name only when it
is whole.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO, TypeAlias

from driftline.backtest.candidate import Rows
from driftline.core.error import InputFileError
from driftline.core.label.pending import Waiting
from driftline.core.output import Outcome, Prediction, Score
from driftline.core.record import EventId

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Kind: TypeAlias = Literal["text", "whole", "number", "boolean"]
COLUMNS: Mapping[str, Kind] = {
    "candidate": "text",
    "partition": "whole",
    "event_id": "text",
    "event_time_ms": "whole",
    "prediction": "text",
    "value": "number",
    "model_version": "text",
    "kind": "text",
    "label": "text",
    "label_time_ms": "whole",
    "label_delay_ms": "whole",
    "counted": "boolean",
}
_BLOCK_ROWS = 20_000


def check_format(path: Path) -> None:
    """Refuse a name that says no format, or one that cannot be written here.

    Raises:
        InputFileError: with what to do.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputFileError(f"{path}: name it .csv or .parquet")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputFileError(f"{path}: Parquet needs pyarrow: pip install 'driftline[parquet]', or name it .csv")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raises InputFileError where a file cannot be put."""
    if path.is_dir():
        raise InputFileError(f"{path} is a folder; name a file")
    folder = path.parent
    if not folder.is_dir():
        raise InputFileError(f"folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise InputFileError(f"cannot write to {folder}; choose another place")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to it when all went well, removed when not.

    Raises:
        InputFileError: the disk is full, or nothing can be written there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def working_folder(beside: Path) -> Iterator[Path]:
    """A hidden folder for parts, on the file system of the file that they become; gone afterwards.

    Raises:
        InputFileError: it cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(dir=beside.parent, prefix=".driftline-")
    except OSError as error:
        raise _unwritten(beside, error) from error
    with folder as name:
        yield Path(name)


def open_part(path: Path) -> TextIO:
    """A part to write to.

    Raises:
        InputFileError: the disk is full, or nothing can be written there; also at each write and when it is closed.
    """
    try:
        raw = _PartFile(path, "w")
    except OSError as error:
        raise _unwritten(path, error) from error
    return TextIOWrapper(BufferedWriter(raw), "utf-8", newline="")


class _PartFile(FileIO):
    """What goes wrong at a write becomes an error that says what to do."""

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise _unwritten(Path(str(self.name)), error) from error


def _unwritten(path: Path, error: OSError) -> InputFileError:
    return InputFileError(
        f"{path} could not be written ({error.strerror or error}); free some space, or choose another place"
    )


class CsvPart(Rows):
    """Rows into a file of their own, without a header.

    Args:
        file: open for text, without translation of line ends.
    """

    def __init__(self, file: IO[str]) -> None:
        self._write = csv.writer(file).writerow

    def outcome(self, name: str, partition: int, outcome: Outcome, *, counted: bool) -> None:
        if outcome.prediction is None:
            return
        delay = None
        if outcome.label_time_ms is not None and outcome.event_time_ms is not None:
            delay = outcome.label_time_ms - outcome.event_time_ms
        self._write(
            [
                *(name, partition, outcome.event_id, outcome.event_time_ms, *_prediction_cells(outcome.prediction)),
                *(outcome.version, outcome.kind, _shown(outcome.label), outcome.label_time_ms, delay, _shown(counted)),
            ]
        )

    def waiting(self, name: str, partition: int, event_id: EventId, waiting: Waiting) -> None:
        served = _prediction_cells(waiting.prediction)
        row = [
            name,
            partition,
            event_id,
            waiting.time_ms,
            *served,
            waiting.version,
            "waiting",
            None,
            None,
            None,
            "false",
        ]
        self._write(row)

    def score(self, name: str, partition: int, score: Score) -> None:
        served = _prediction_cells(score.prediction)
        row = [
            name,
            partition,
            score.event_id,
            score.time_ms,
            *served,
            score.version,
            "scored",
            None,
            None,
            None,
            "false",
        ]
        self._write(row)


def _prediction_cells(prediction: Prediction) -> tuple[Any, Any]:
    return _shown(prediction.label), repr(prediction.value) if prediction.value is not None else None


def _shown(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def drafted(folder: Path | None, path: Path | None) -> Iterator[None]:
    """The scores file is made whole of the parts in the folder at once, and gets its name when all else went well.

    Args:
        folder, path: None without scores.
    """
    if folder is None or path is None:
        yield
        return
    with written(path) as draft:
        _fill(sorted(folder.glob("*.csv")), draft, path.suffix, COLUMNS)
        yield


def put_together(parts: Sequence[Path], path: Path, columns: Mapping[str, Kind] = COLUMNS) -> int:
    """Make a CSV or Parquet file of its parts, CSV files without a header; returns its rows."""
    with written(path) as draft:
        return _fill(parts, draft, path.suffix, columns)


def _fill(parts: Sequence[Path], draft: Path, suffix: str, columns: Mapping[str, Kind]) -> int:
    if suffix.lower() == ".parquet":
        return _parquet(parts, draft, columns)
    with draft.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerow(columns)
        for part in parts:
            with part.open(newline="", encoding="utf-8") as file:
                shutil.copyfileobj(file, out)
    with draft.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def _parquet(parts: Sequence[Path], draft: Path, columns: Mapping[str, Kind]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    total = 0
    with parquet.ParquetWriter(draft, schema) as writer:
        for part in parts:
            with part.open(newline="", encoding="utf-8") as file:
                reader = csv.reader(file)
                while block := [row for _, row in zip(range(_BLOCK_ROWS), reader, strict=False)]:
                    arrays = [
                        pa.array([cell or None for cell in column], pa.string()).cast(kind.type)
                        for column, kind in zip(zip(*block, strict=True), schema, strict=True)
                    ]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    total += len(block)
    return total
