"""Labels in a file of their own, put behind the rows of their events.

A label finds its event by a field that both files have: an id that no two events share. Ids that are written otherwise
in one of the files (`000017`, `17.0`) are compared as whole numbers, where no two events have the same one. A file that
lists the events of one class only, such as chargebacks, makes all others members of the other class.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import orjson

from driftline.author.moment import Moments
from driftline.author.sample import find_column, flat, read_sample
from driftline.author.word import looks_like_id
from driftline.codec.wire import set_path
from driftline.core.duration import round_span, spoken
from driftline.core.error import InputFileError
from driftline.core.number import Decimal, is_missing
from driftline.core.pipeline import parse_path
from driftline.core.task.seen import ProfileError
from driftline.core.timestamp import TimeForm
from driftline.ingest.column import read_cell
from driftline.ingest.rows import Bad, CsvRows, is_json, json_rows, open_text

_WHOLE: Final = re.compile(r"0*([0-9]+)(?:\.0+)?")
_SAME_MIN: Final = 0.5  # share of the labels whose id must be an event's as it is written
_LISTED_MAX: Final = 0.95  # share of the events that a list of one class may name
_OTHER: Final = {"1": "0", "true": "false", "t": "f", "yes": "no", "y": "n"}
_NEARLY_ALL: Final = 0.99
_FIELDS_SHOWN: Final = 20

Row = dict[str, Any]  # cells by path
Same = Callable[[str], str]


class Wanted(NamedTuple):
    """What the user says about the two files.

    Args:
        label: field of the labels' file.
        event_id: field of both; None where the files show it.
        time: field of the events' file; None likewise.
        decimal, form: how numbers and times are written; None likewise.
    """

    label: str
    event_id: str | None = None
    time: str | None = None
    decimal: Decimal | None = None
    form: TimeForm | None = None


class Joined(NamedTuple):
    """What came of it.

    Args:
        delay_ms: how much later than its event a label came, the median; 0 where that is not known.
        slow_ms: the same of the slowest but one in a hundred.
        assumed: the label of an event that the labels' file does not list; None where that has none.
        notes: for people.
    """

    delay_ms: int
    slow_ms: int
    assumed: str | int | float | None
    notes: tuple[str, ...]


NOT_JOINED: Final = Joined(0, 0, None, ())
"""Labels that stand in the rows of their events."""


class _Label(NamedTuple):
    value: Any
    time_ms: int | None


class _Match(NamedTuple):
    """Which label is an event's.

    Args:
        key: the field of the id.
        same: what the writings of one id have in common.
        found: labels by that.
        other: the label of an event that has none of these.
    """

    key: str
    same: Same
    found: Mapping[str, _Label]
    other: _Label

    def label_of(self, row: Row) -> _Label:
        """The label of a row of events."""
        return self.found.get(self.same(_text(row.get(self.key))), self.other)


class _File:
    """One of the two.

    Args:
        time: field that holds its rows' times; None to find it.
    """

    def __init__(self, path: Path, wanted: Wanted, time: str | None) -> None:
        self.path, self.bad = path, Bad()
        self.sample = read_sample(path, decimal=wanted.decimal)
        try:
            moments = Moments(time, self.sample.columns, wanted.form)
        except ProfileError as error:
            raise InputFileError(f"{path}, {error}") from None
        self._time, self._form = moments.name, moments.form

    def rows(self) -> Iterator[tuple[Row, Any]]:
        """Each row's cells by path, and the row as it is written; `bad` has those that cannot be read."""
        self.bad = Bad()
        with open_text(self.path) as file:
            if is_json(self.path):
                for _, document in json_rows(file, self.bad.add, self.path):
                    yield dict(flat((), document)), document
                return
            table = CsvRows(self.path, file)
            for _, texts in table.rows(self.bad.add):
                yield {name: text for name, text in zip(table.header, texts, strict=True) if name and text}, texts

    def begun(self, out: TextIO, label: str) -> Any:
        """A table with this one's columns and the label's, as it is begun; None where rows are JSON."""
        if is_json(self.path):
            return None
        with open_text(self.path) as file:
            table = CsvRows(self.path, file)
        made = csv.writer(out, delimiter=table.separator)  # which shows how numbers are written
        made.writerow([*table.header, label])
        return made

    def time_ms(self, row: Row) -> int | None:
        """Epoch milliseconds; None without a time."""
        cell = row.get(self._time or "")
        if cell is None:
            return None
        with suppress(ValueError):
            return self._form.read(read_cell(cell) if isinstance(cell, str) else cell)
        return None

    def tells_apart(self, name: str) -> bool:
        """Whether no two rows of the sample have the same value of a field."""
        cells = [cell for cell in self.sample.columns[name] if cell is not None]
        return bool(cells) and len(set(cells)) == len(cells)

    @property
    def fields(self) -> str:
        """The first of its fields, for an error."""
        return ", ".join(list(self.sample.columns)[:_FIELDS_SHOWN])


def join(events: Path, labels: Path, wanted: Wanted, target: Path) -> Joined:
    """Write the rows of events with their labels; the last one where an event has several.

    Args:
        target: a file of the events' kind, which is written anew.

    Raises:
        InputFileError: one of the files cannot be read, or nothing shows which label is whose.
    """
    left, right = _File(events, wanted, wanted.time), _File(labels, wanted, None)
    find_column(right.sample, "--label", wanted.label)
    if wanted.label in left.sample.columns:
        raise InputFileError(
            f"both {events} and {labels} have a field {wanted.label!r}: rename one of them, or leave --labels out"
        )
    key = _key(left, right, wanted.event_id)
    known, notes = _labels(right, key, wanted.label)
    ids = [_text(row.get(key)) for row, _ in left.rows()]
    same, remark = _same(left, right, key, ids, known)
    found = {same(text): label for text, label in known.items()}
    assumed = _assumed(found, len(ids))
    labelled, delays = _write(left, _Match(key, same, found, _Label(assumed, None)), wanted.label, target)
    notes.insert(0, f"{labelled:,} of {len(ids):,} events have a label, joined by {key}; {_later(delays)}")
    for file in (left, right):
        if file.bad.count:
            notes.append(f"{file.bad.count:,} rows of {file.path} cannot be read{file.bad.first}")
    notes += [*remark, *_left_over(found, {same(text) for text in ids}, left.path)]
    if assumed is not None:
        name = wanted.label
        notes.append(f"{name} is the same in every label, so events without one count as {name} = {assumed}")
    delay_ms, slow_ms = (max(0, round_span(_at(delays, share))) for share in (0.5, _NEARLY_ALL))
    return Joined(delay_ms, slow_ms, assumed, tuple(notes))


def _key(left: _File, right: _File, event_id: str | None) -> str:
    """The field by which a label finds its event."""
    if event_id is not None:
        for file in (left, right):
            find_column(file.sample, "--id", event_id)
        return event_id
    shared = [name for name in right.sample.columns if name in left.sample.columns]
    if not shared:
        raise InputFileError(
            f"{left.path} and {right.path} have no field in common by which a label could find its event: give the "
            f"event's id one name in both. {left.path} has {left.fields}; {right.path} has {right.fields}"
        )
    ids = [name for name in shared if left.tells_apart(name)]
    if not ids:
        raise InputFileError(
            f"{left.path} and {right.path} share {', '.join(shared)}, but that is no id: several rows of {left.path} "
            "have the same value. A label needs a field that names one event"
        )
    return next((name for name in ids if looks_like_id(name)), ids[0])


def _labels(right: _File, key: str, label: str) -> tuple[dict[str, _Label], list[str]]:
    """The last label of each id, by the id as it is written, and remarks."""
    known: dict[str, _Label] = {}
    without, again = 0, 0
    for row, _ in right.rows():
        text, value = _text(row.get(key)), row.get(label)
        if not text or value is None:
            without += 1
            continue
        again += text in known
        known[text] = _Label(value, right.time_ms(row))
    notes = [f"{again:,} labels in {right.path} are of an event that has another; the last one counts"] if again else []
    if without:
        notes.append(f"{without:,} rows of {right.path} lack {key} or {label}")
    return known, notes


def _same(
    left: _File, right: _File, key: str, ids: Sequence[str], known: Mapping[str, _Label]
) -> tuple[Same, list[str]]:
    """What the two writings of one id have in common, and a remark if they differ.

    Raises:
        InputFileError: no label is of an event.
    """
    there = dict.fromkeys(text for text in ids if text)
    matched = sum(text in there for text in known)
    if matched and matched >= _SAME_MIN * len(known):
        return str, []
    one, other = next(iter(there), ""), next(iter(known), "")
    numbers = {_whole(text) for text in there}
    if len(numbers) == len(there) and sum(_whole(text) in numbers for text in known) > matched:
        return _whole, [
            f"{key} is written in two ways, {one!r:.40} in {left.path} and {other!r:.40} in {right.path}: joined as "
            "whole numbers. In Kafka, give labels the ids that their events have"
        ]
    if not matched:
        raise InputFileError(
            f"no label in {right.path} has the {key} of an event: it is {other!r:.40} there and {one!r:.40} in "
            f"{left.path}. Name the field that is the same in both with --id"
        )
    return str, []


def _left_over(found: Mapping[str, _Label], there: Set[str], events: Path) -> list[str]:
    """What is to be known of labels without an event."""
    without = sum(text not in there for text in found)
    return [f"{without:,} of {len(found):,} labels are of no event in {events} and are left out"] if without else []


def _whole(text: str) -> str:
    found = _WHOLE.fullmatch(text)
    return found[1] if found else text


def _text(cell: Any) -> str:
    """An id as text; empty where there is none."""
    if cell is None or isinstance(cell, list) or (isinstance(cell, str) and is_missing(cell)):
        return ""
    return cell.strip() if isinstance(cell, str) else str(cell)


def _assumed(found: Mapping[str, _Label], count: int) -> str | int | float | None:
    """The label of events that are not listed, where only those of one class are."""
    values = {_text(label.value).lower() for label in found.values()}
    other = _OTHER.get(next(iter(values), "").removesuffix(".0")) if len(values) == 1 else None
    return read_cell(other) if other is not None and len(found) <= _LISTED_MAX * count else None


def _write(left: _File, match: _Match, label: str, target: Path) -> tuple[int, list[int]]:
    """Write the file of both; how many events have a label, and how much later than its event each came, in order."""
    delays, labelled = list[int](), 0
    with target.open("w", encoding="utf-8", newline="") as out:
        table = left.begun(out, label)
        for row, written in left.rows():
            one, begun_ms = match.label_of(row), left.time_ms(row)
            labelled += one is not match.other
            if one.time_ms is not None and begun_ms is not None:
                delays.append(one.time_ms - begun_ms)
            if table is not None:
                table.writerow([*written, _cell(one.value)])
                continue
            if one.value is not None:
                try:
                    set_path(written, parse_path(label), _value(one.value))
                except ValueError as error:
                    raise InputFileError(f"{left.path}: {error}; give the label another name") from None
            out.write(orjson.dumps(written).decode() + "\n")
    return labelled, sorted(delays)


def _at(delays: list[int], share: float) -> int:
    return delays[min(len(delays) - 1, int(share * len(delays)))] if delays else 0


def _later(delays: list[int]) -> str:
    if not delays:
        return "nothing shows when labels come: say it with --label-delay"
    median, slow = (round_span(_at(delays, share)) for share in (0.5, _NEARLY_ALL))
    if median < 0:
        return "labels have times before those of their events"
    slower = f", 1 in 100 after more than {spoken(slow)}" if slow > median else ""
    return f"labels come {spoken(median)} after their events{' (median)' if slower else ''}{slower}"


def _cell(value: Any) -> str:
    """A label as a cell of a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _value(value: Any) -> Any:
    """A label as JSON has it."""
    return read_cell(value) if isinstance(value, str) and value else value
