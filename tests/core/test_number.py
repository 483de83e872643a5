"""Texts that are numbers, those that mean that there is none, and the decimal sign of a column."""

from __future__ import annotations

import pytest

from driftline.core.number import Signs, is_missing, parse_number


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("12", 12, 12), ("-7", -7, -7), ("+7", 7, 7), ("007", 7, 7), (" 12.5 ", 12.5, None), ("12,5", None, 12.5),
        (".5", 0.5, None), ("5.", 5.0, None), ("1e3", 1000.0, 1000.0), ("1,5e3", None, 1500.0), ("1 234", 1234, 1234),
        ("1'234.50", 1234.5, None), ("1\u00a0234,50", None, 1234.5), ("\u22123", -3, -3), ("0,125", None, 0.125),
        ("1,234", None, 1.234), ("1.234", 1.234, None), ("12,34,567", None, None), ("1_000", None, None),
        ("", None, None),
        ("inf", None, None), ("nan", None, None), ("1e999", None, None), ("0x10", None, None), ("12 34", None, None),
        ("9223372036854775807", 2**63 - 1, 2**63 - 1), ("9223372036854775808", 2.0**63, 2.0**63), ("１２", None, None),
    ],
)  # fmt: skip
def test_texts_by_decimal_sign(text: str, point: object, comma: object) -> None:
    for expected, found in ((point, parse_number(text)), (comma, parse_number(text, ","))):
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [("1,234.50", 1234.5, None), ("1.234,50", None, 1234.5), ("1,234,567", 1234567, None), ("1.234", 1.234, 1234)],
)
def test_thousands(text: str, point: object, comma: object) -> None:
    assert parse_number(text, ".", thousands=True) == point
    assert parse_number(text, ",", thousands=True) == comma


@pytest.mark.parametrize(
    ("texts", "decimal", "doubtful"),
    [
        (["120,08", "7"], ",", None), (["120.08", "7"], ".", None), (["1,234", "12"], None, "1,234"),
        (["1,234", "12,5"], ",", "1,234"), (["1,234", "12.5"], ".", "1,234"), (["1,234,567"], ".", None),
        (["1.234.567"], ",", None), (["0,125"], ",", None), (["1.234"], None, None), (["x", "", "1"], None, None),
        (["1.234", "1.234,5"], ",", None),
    ],
)  # fmt: skip
def test_sign_of_a_column(texts: list[str], decimal: str | None, doubtful: str | None) -> None:
    signs = Signs()
    signs.add(texts)
    assert (signs.decimal, signs.doubtful) == (decimal, doubtful)


@pytest.mark.parametrize(
    "text", ["", " ", "NA", "n/a", "N/A", "NULL", "None", "nan", "NaN", "?", "-", "<NA>", "#N/A", "\\N"]
)
def test_words_for_missing(text: str) -> None:
    assert is_missing(text)


@pytest.mark.parametrize("text", ["0", "x", "no", "nano", "+", "false"])
def test_words_that_are_something(text: str) -> None:
    assert not is_missing(text)
