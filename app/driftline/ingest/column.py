"""How the columns of a table are written: its numbers, its ids, its times, its labels.

A form is decided once for a column, from its first `SAMPLE_ROWS` rows (and further where these leave open which number
of a date is the day), and then holds for every row; a cell that contradicts it makes its row a bad one. All
commands decide from the same rows by the same rules.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from driftline.codec.decode import MISSING
from driftline.core.error import InputFileError
from driftline.core.notation import is_rooted
from driftline.core.number import Decimal, Signs, is_missing, is_unlabelled, parse_number, split_unit
from driftline.core.pipeline import Pipeline
from driftline.core.pipeline.target import Target, TargetError
from driftline.core.task import task_of
from driftline.core.timestamp import PLAIN, TimeForm, Times

SAMPLE_ROWS = 50_000
CLASSES_SHOWN = 5
_NUMBER = re.compile(r"\s*[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_NUMBER_STARTS = frozenset("0123456789+-. \t")
_WHOLE = re.compile(r"\s*(-?(?:0|[1-9][0-9]{0,18}))(?:[.,]0*)?\s*")
TRUE_WORDS = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "off", "0", "0.0"})

Cell: TypeAlias = str | int | float | bool
Read: TypeAlias = Callable[[str], Any]  # a cell's value, or MISSING; BadCellError for what it cannot be


class BadCellError(ValueError):
    """A cell that contradicts its column; the text says how."""


def read_cell(text: str) -> Cell:
    """A cell as a number, if it is one that JSON can hold and that keeps its text's meaning, else as text."""
    if text[0] not in _NUMBER_STARTS or not _NUMBER.fullmatch(text):
        return text
    if _INTEGER.fullmatch(text):
        whole = int(text)
        return whole if -(2**63) <= whole < 2**63 else text
    number = float(text)
    return number if math.isfinite(number) else text


@dataclass(frozen=True, slots=True)
class NumberForm:
    """How a column writes its numbers; see `core.number.parse_number`.

    Args:
        unit: that its numbers may have, such as a currency; no number may have another one.
    """

    decimal: Decimal = "."
    thousands: bool = False
    unit: str = ""

    def parse(self, text: str) -> int | float | None:
        """The number that a text is; None where it is none."""
        if self.unit:
            number, unit = split_unit(text)
            text = number if unit == self.unit else text
        return parse_number(text, self.decimal, thousands=self.thousands)

    def reader(self, name: str) -> Read:
        def read(text: str) -> Any:
            number = self.parse(text)
            if number is not None:
                return number
            if is_missing(text):
                return MISSING
            comma = " with a decimal comma" if self.decimal == "," else ""
            unit = f" in {self.unit}" if self.unit else ""
            raise BadCellError(f"{name} is {text!r:.80}, which is not a number{unit}{comma}")

        return read


def number_forms(
    path: Path, columns: Mapping[str, Iterable[str]], stated: Decimal | None, separator: str
) -> dict[str, NumberForm]:
    """How each of the columns of numbers is written. Columns of one file have one decimal sign, where one shows it.

    Args:
        columns: the distinct texts of each.
        stated: what the user says of the whole file.

    Raises:
        InputFileError: a column can be read both ways.
    """
    split = {name: [split_unit(text) for text in texts] for name, texts in columns.items()}
    units = {name: _unit_of(path, name, {unit for _, unit in texts if unit}) for name, texts in split.items()}
    if stated is not None:
        return {name: NumberForm(stated, thousands=True, unit=units[name]) for name in columns}
    found = {}
    for name, pairs in split.items():
        found[name] = Signs()
        found[name].add(text for text, _ in pairs)
    seen = {signs.decimal for signs in found.values()} - {None}
    forms = {}
    for name, signs in found.items():
        decimal = signs.decimal or (next(iter(seen)) if len(seen) == 1 and signs.doubtful else None)
        if decimal is None and signs.doubtful:
            raise InputFileError(
                f"{path}, column {name}: {signs.doubtful!r:.40} has either a decimal comma or a thousands separator, "
                "and nothing in the file decides; give --decimal , or --decimal ."
            )
        if decimal is None and signs.has_points and seen == {","}:
            raise InputFileError(
                f"{path}, column {name}: its points are either decimal points or thousands separators, since other "
                "columns have "
                "decimal commas; give --decimal , or --decimal ."
            )
        forms[name] = NumberForm(decimal or ".", thousands=decimal is not None, unit=units[name])
    return forms


def _unit_of(path: Path, name: str, units: set[str]) -> str:
    """The unit of a column's numbers; empty where they have none.

    Raises:
        InputFileError: they have several, so they cannot be compared.
    """
    if len(units) > 1:
        raise InputFileError(
            f"{path}, column {name}: its numbers are in {' and '.join(sorted(units)[:3])}; convert them to one unit"
        )
    return next(iter(units), "")


def read_boolean(name: str) -> Read:
    def read(text: str) -> Any:
        lowered = text.strip().lower()
        if lowered in TRUE_WORDS:
            return True
        if lowered in FALSE_WORDS:
            return False
        if is_missing(text):
            return MISSING
        raise BadCellError(f"{name} is {text!r:.80}, which is neither true nor false")

    return read


def read_whole_id(text: str) -> Cell:
    """An id of a column of whole numbers: `1001.0` is 1001."""
    found = _WHOLE.fullmatch(text)
    whole = int(found[1]) if found is not None else 2**63
    return whole if -(2**63) <= whole < 2**63 else text


def are_whole(texts: Iterable[str]) -> bool:
    """Whether all ids of a column are whole numbers, which no leading zero or exponent must be kept of."""
    return all(_WHOLE.fullmatch(text) or is_missing(text) for text in texts)


@dataclass
class Columns:
    """The forms of a table's columns.

    Args:
        numbers: of the columns that hold numbers, the label among them.
        whole_ids: whether the id column has whole numbers only.
        time: how its times are written.
        label: reads the label.
    """

    numbers: dict[str, NumberForm] = field(default_factory=dict)
    whole_ids: bool = True
    time: TimeForm = PLAIN
    label: Read = read_cell


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

    @property
    def counted(self) -> bool:
        """Whether times are counted, and not read."""
        return self.start_ms is not None or self.step_ms is not None


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column of a table is what.

    Args:
        label, id, time: None where no column is.
        types: of features by column.
    """

    label: str | None
    id: str | None
    time: str | None
    types: Mapping[str, str]

    @classmethod
    def of(cls, fields: Fields, pipeline: Pipeline) -> Roles:
        """Those that the user names, else those of the pipeline's own paths."""
        features = pipeline.event.read
        types = {name: one.type for name, one in features.items() if is_rooted(one.keys)}  # or of the feature's name
        types |= {feature.path: feature.type for feature in features.values()}
        time = fields.time
        if time is None and not fields.counted:
            time = pipeline.event.time
        return cls(fields.label, fields.event_id or pipeline.event.id, time, types)


def decide(
    path: Path,
    pipeline: Pipeline,
    roles: Roles,
    sample: Mapping[str, Sequence[str]],
    separator: str,
    *,
    decimal: Decimal | None,
    time_form: TimeForm | None,
    rest: Callable[[str], Iterator[str]],
) -> Columns:
    """Decide the forms of a table's columns.

    Args:
        sample: the cells of the first rows, by column.
        decimal, time_form: what the user says.
        rest: reads further cells of a column, behind the sample.

    Raises:
        InputFileError: a form cannot be known; the text is a question, and how to answer it.
    """
    numeric = [name for name, kind in roles.types.items() if kind == "number" and name in sample]
    if roles.label is not None and roles.label in sample and _is_numeric(pipeline, sample[roles.label]):
        numeric.append(roles.label)
    columns = Columns(number_forms(path, {name: set(sample[name]) for name in numeric}, decimal, separator))
    if roles.id is not None and roles.id in sample:
        columns.whole_ids = are_whole(set(sample[roles.id]))
    if roles.time is not None and roles.time in sample:
        columns.time = time_form or find_time_form(path, roles.time, sample[roles.time], rest)
    if roles.label is not None and pipeline.label is not None:
        columns.label = _label_reader(pipeline, roles.label, columns.numbers.get(roles.label))
    return columns


def find_time_form(
    path: Path, name: str, cells: Sequence[Any], rest: Callable[[str], Iterator[Any]] = lambda name: iter(())
) -> TimeForm:
    """How a column writes its times.

    Raises:
        InputFileError: it cannot be known.
    """
    times = Times()
    times.add(cell for cell in cells if not _is_nothing(cell))
    if times.is_open():
        for cell in rest(name):
            if not _is_nothing(cell):
                times.add((cell,))
                if not times.is_open():
                    break
    try:
        return times.form()
    except ValueError as error:
        raise InputFileError(f"{path}, column {name}: {error}") from None


def _is_nothing(cell: Any) -> bool:
    return cell is None or cell is MISSING or (isinstance(cell, str) and is_missing(cell))


def _is_numeric(pipeline: Pipeline, cells: Sequence[str]) -> bool:
    """Whether a label is to be read as a number."""
    labels = task_of(pipeline.task).labels
    if labels.numeric:
        return True
    positive = pipeline.label.positive if pipeline.label is not None else None
    if positive is not None:
        return not isinstance(positive, str | bool)
    return labels.textual and all(parse_number(text) is not None or is_missing(text) for text in set(cells))


def plain_label(pipeline: Pipeline, name: str | None) -> Read:
    """How a label is read in a file of plain numbers."""
    if name is None or pipeline.label is None:
        return read_cell
    return _label_reader(pipeline, name, NumberForm() if task_of(pipeline.task).labels.numeric else None)


def _label_reader(pipeline: Pipeline, name: str, numbers: NumberForm | None) -> Read:
    """How the label's cells are read."""
    if numbers is not None:
        return numbers.reader(name)
    form = pipeline.label
    positive = form.positive if form is not None else None
    if isinstance(positive, str):
        known = {positive, form.negative if form is not None else None}
        return lambda text: text if text in known or not is_missing(text) else MISSING
    if task_of(pipeline.task).labels.textual:
        return lambda text: MISSING if is_unlabelled(text) else text
    words = read_boolean(name)

    def read(text: str) -> Any:
        number = parse_number(text)
        return words(text) if number is None else number

    return read


# -- labels that mean nothing to the pipeline


def check_labels(path: Path, name: str, pipeline: Pipeline, seen: Counter[Any], lines: Mapping[Any, int]) -> None:
    """Refuse labels that would all be taken for something else than they are.

    Args:
        seen: labels of the first rows.
        lines: where each was seen first.

    Raises:
        InputFileError: some differ from `positive` or `negative` only in case or blanks; or none can be used, or none
            is positive though there are several.
    """
    form = pipeline.label
    if form is None or not seen:
        return
    begin = f"{path}, column {name}:"
    for key, value in (("positive", form.positive), ("negative", form.negative)):
        for label in seen:
            if label not in (form.positive, form.negative) and _alike(label, value):
                raise InputFileError(
                    f"{begin} the label {label!r:.80} (line {lines[label]}) differs from label.{key} {value!r:.80} "
                    "only in case or spaces, so it would not match. Write them alike, in the pipeline file or "
                    "in the data"
                )
    target = Target(form, pipeline)
    held = ", ".join(f"{label!r:.40} ({count:,})" for label, count in seen.most_common(CLASSES_SHOWN))
    if (
        form.positive is not None
        and form.positive not in seen
        and (len(seen) > 1 if form.negative is None else form.negative not in seen)
    ):
        raise InputFileError(
            f"{begin} no label is {form.positive!r:.80} (label.positive)"
            + ("" if form.negative is None else f" or {form.negative!r:.80} (label.negative)")
            + f"; it holds {held}, the first in line {min(lines.values())}. Put these values into the pipeline file"
        )
    first = ""
    for label in seen:
        try:
            target.read(label)
        except TargetError as error:
            first = first or f"line {lines[label]}: {error}"
        else:
            return
    raise InputFileError(f"{begin} no usable label; it holds {held}. {first}")


def _alike(one: object, other: object) -> bool:
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
