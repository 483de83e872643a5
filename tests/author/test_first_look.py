"""Tables as people have them: amounts with currencies, words for missing, no header, rows sorted by class."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from driftline.author.profile import profile
from driftline.author.sample import read_sample
from driftline.author.shuffle import are_sorted, shuffled, write_shuffled
from driftline.core.error import InputFileError
from driftline.core.number import split_unit
from driftline.ingest.column import NumberForm, number_forms

ROWS = 200
RNG = random.Random(4)


def written(folder: Path, rows: list[list[Any]], name: str = "rows.csv") -> Path:
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    return path


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("78,11 €", "78,11", "EUR"), ("$1,234.50", "1,234.50", "$"), ("-$5", "-5", "$"), ("20,39 EUR", "20,39", "EUR"),
        ("EUR 1.234,50", "1.234,50", "EUR"), ("CHF 1'200.-", "CHF 1'200.-", ""), ("10%", "10", "%"), ("€", "€", ""),
        ("1 234,5 kr", "1 234,5", "kr"), ("12.5", "12.5", ""), ("A0009", "A0009", ""), ("", "", ""), ("-5", "-5", ""),
        ("12 kg", "12 kg", ""), ("R$ 3,50", "3,50", "BRL"), ("(5 €)", "(5 €)", ""),
    ],
)  # fmt: skip
def test_a_number_and_its_unit(text: str, number: str, unit: str) -> None:
    assert split_unit(text) == (number, unit)


def test_amounts_with_a_currency_are_numbers_in_its_own_decimal_form(tmp_path: Path) -> None:
    rows = [[f"1.{place:03d},50 €", f"{place} %", f"Ware {place}"] for place in range(ROWS)]
    sample = read_sample(written(tmp_path, [["Betrag", "Rabatt", "Text"], *rows]))
    assert sample.columns["Betrag"][1] == 1001.5
    assert sample.columns["Rabatt"][7] == 7
    assert sample.columns["Text"][0] == "Ware 0"


def test_a_column_of_two_currencies_is_no_number_and_a_stranger_a_bad_cell(tmp_path: Path) -> None:
    rows = [[f"{place * 37 % 101} EUR", f"{place} {'USD' if place % 2 else 'EUR'}"] for place in range(ROWS)]
    path = written(tmp_path, [["a", "b"], *rows])
    columns: dict[str, Any] = read_sample(path).columns
    assert columns["a"][2] == 74
    label = [int(RNG.random() < 0.3) for _ in range(ROWS)]
    found = profile({**columns, "label": label}, "label")
    assert next(left.why for left in found.left if left.name == "b").startswith("its numbers are in EUR and USD")
    with pytest.raises(InputFileError, match="column b: its numbers are in EUR and USD; convert them to one unit"):
        number_forms(path, {"b": ["1 EUR", "2 USD"]}, None, ";")
    read = NumberForm(unit="EUR").reader("a")
    assert (read("5 €"), read("6")) == (5, 6)
    with pytest.raises(ValueError, match="not a number in EUR"):
        read("7 USD")


@pytest.mark.parametrize(
    ("values", "noted"),
    [
        ([*range(70), 999, 999, 999, 999, 999], "999 stands in 5 rows, the others are from 0 to 69"),
        ([*([1, 2, 3] * 9), *([-1] * 20)], "-1 stands in 20 rows"),
        ([*range(70), 999], ""),  # once
        ([*range(0, 1000, 9), *([999] * 5)], ""),  # not far from the others
        ([*range(-50, 50), -9, -9, -9, -9, -9], ""),
    ],
)
def test_a_number_that_may_mean_none_is_pointed_out(values: list[int], noted: str) -> None:
    cells: list[Any] = list(values)
    RNG.shuffle(cells)
    label = [int(RNG.random() < 0.4) for _ in cells]
    found = profile({"x": cells, "label": label}, "label", task="binary")
    note = next(field.note for field in found.features if field.name == "x")
    assert note.startswith(noted)
    assert bool(note) == bool(noted)


def test_a_file_without_a_header_is_refused_and_one_of_numbered_columns_is_not(tmp_path: Path) -> None:
    rows = [[place, RNG.randrange(90) / 10, RNG.choice("ab"), RNG.randrange(2)] for place in range(7, ROWS)]
    with pytest.raises(InputFileError, match="first line must name the columns, and '7' and others in it look like"):
        read_sample(written(tmp_path, rows))
    numbered = [[place + 100, 0.5, "a", 0.1] for place in range(ROWS)]
    assert read_sample(written(tmp_path, [[0, 1, 2, 3], *numbered], "numbered.csv")).rows == ROWS


def test_rows_sorted_by_class_are_shuffled_alike_in_both_forms(tmp_path: Path) -> None:
    rows = [[place, f"class {place // 50}"] for place in range(ROWS)]
    path = written(tmp_path, [["x", "y"], *rows])
    sample = read_sample(path)
    assert are_sorted(sample.columns["y"])
    mixed = shuffled(sample)
    assert not are_sorted(mixed.columns["y"])
    assert sorted(mixed.columns["x"], key=str) == sorted(sample.columns["x"], key=str)
    assert read_sample(write_shuffled(path, tmp_path, ROWS)).columns == mixed.columns


@pytest.mark.parametrize("cells", [["a", "b"] * 100, ["a"] * 10 + ["b"] * 10, ["a"] * 200, [None] * 50])
def test_other_rows_are_not_sorted(cells: list[Any]) -> None:
    assert not are_sorted(cells)
