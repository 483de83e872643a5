"""Numbers as text: which texts are numbers, which mean that there is none, and what decimal sign a column has.

A comma is a decimal sign in half of the world and parts thousands in the other half, so one text alone often cannot
tell: `1,234` is both. A column can, as soon as one of its texts can be only one of them (`12,5`, `1,234.50`). Where
none can, nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

Decimal: TypeAlias = Literal[".", ","]

MISSING_WORDS = frozenset(
    (
        "", "na", "n/a", "n.a.", "#n/a", "#n/a n/a", "#na", "<na>", "null", "(null)", "nil", "none", "nan", "-nan",
        "+nan", "nat", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "?", "-", "--", ".", "\\n", "missing", "undefined",
    )
)  # fmt: skip
"""What people and programs write where a number, a time or a boolean is missing, in lower case."""
_CLASS_WORDS = frozenset(("nil", "none", "-", "--", ".", "missing", "undefined"))  # as in none, minor, major

_BLANKS = " \u00a0\u202f\u2009'\u2019"  # part thousands wherever they stand between groups of three digits
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_GROUPED = {
    sign: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:[{_BLANKS}{other}][0-9]{{3}})+(?:{re.escape(sign)}[0-9]*)?")
    for sign, other in ((".", ","), (",", "."))
}
_ONE_GROUP = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
_WHOLE_MIN, _WHOLE_MAX = -(2**63), 2**63 - 1
_UNIT = (
    r"%|[$€£¥₹₽₩₺₴₪]|(?:US|A|C|NZ|HK|R)\$|EUR|USD|GBP|CHF|JPY|CNY|INR|BRL|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|"
    r"RUB|ZAR|MXN|KRW|SGD|HKD|[Ee]uros?|kr\.?|zł|Kč|Ft|Fr\.|Rs\.?"
)
_WITH_UNIT = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:(?P<before>{_UNIT})\s*(?P<first>[+-]?[0-9][0-9.,{_BLANKS}]*)|"
    rf"(?P<last>[0-9][0-9.,{_BLANKS}]*?)\s*(?P<after>{_UNIT}))"
)
_SAME_UNIT = {
    "€": "EUR", "euro": "EUR", "euros": "EUR", "Euro": "EUR", "Euros": "EUR", "£": "GBP", "US$": "USD", "R$": "BRL",
    "Fr.": "CHF", "zł": "PLN",
}  # fmt: skip


def is_missing(text: str) -> bool:
    """Whether a text means that there is no value, where no text is expected."""
    return text.strip().lower() in MISSING_WORDS


def is_unlabelled(text: str) -> bool:
    """Whether a text among the names of classes means that there is no label: most words for missing; not those that
    name a class as well, as in none, minor, major."""
    return is_missing(text) and text.strip().lower() not in _CLASS_WORDS


def parse_number(text: str, decimal: Decimal = ".", *, thousands: bool = False) -> int | float | None:
    """The number that a text is.

    Args:
        decimal: the decimal sign.
        thousands: whether the other of the two signs parts groups of three digits. Blanks and apostrophes may anyway.

    Returns:
        An int for whole numbers of up to 64 bits, else a finite float; None for a text that is not a number.
    """
    text = text.strip().replace("\u2212", "-")
    if decimal == "," or not _PLAIN.fullmatch(text):
        if _GROUPED[decimal].fullmatch(text) and (thousands or ("." if decimal == "," else ",") not in text):
            text = re.sub(rf"[{_BLANKS}{'.' if decimal == ',' else ','}]", "", text)
        if decimal == ",":
            text = "x" if "." in text else text.replace(",", ".")
        if not _PLAIN.fullmatch(text):
            return None
    if _INTEGER.fullmatch(text) and len(text) <= 20 and _WHOLE_MIN <= int(text) <= _WHOLE_MAX:
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else None


def split_unit(text: str) -> tuple[str, str]:
    """A number without its unit, and that unit: a currency or a percent sign, before or after it; empty without one.

    Currencies are not told apart by their value: who adds up numbers must see that they have one unit.
    """
    text = text.strip().replace("\u2212", "-")
    if not text or (text[-1].isdigit() and text[0] in ".0123456789"):
        return text, ""
    found = _WITH_UNIT.fullmatch(text)
    if found is None:
        return text, ""
    unit = found["before"] or found["after"]
    return found["sign"] + (found["first"] or found["last"]).strip(), _SAME_UNIT.get(unit, unit)


class Signs:
    """What a column's numbers say about its decimal sign; `add` its texts, then ask `decimal`.

    Attributes:
        doubtful: the first text that can be read both ways; None without one.
    """

    def __init__(self) -> None:
        self._points = self._commas = 0  # texts that can be read with this decimal sign only
        self._weak = False  # there is a point that might also part thousands, as in 1.234
        self.doubtful: str | None = None

    def add(self, texts: Iterable[str]) -> None:
        for text in map(str.strip, texts):
            if "," not in text and "." not in text:
                continue
            point, comma = (parse_number(text, sign, thousands=True) is not None for sign in (".", ","))
            if point != comma:
                self._points += point
                self._commas += comma
            elif point and _ONE_GROUP.fullmatch(text):
                if "," in text:
                    self.doubtful = self.doubtful or text
                else:
                    self._weak = True

    @property
    def decimal(self) -> Decimal | None:
        """The decimal sign, where the column shows one; the point of `1.234` alone shows nothing."""
        if self._points == self._commas == 0:
            return None
        return "." if self._points >= self._commas else ","

    @property
    def has_points(self) -> bool:
        """Whether a point stands where it may be a decimal sign or part thousands."""
        return self._weak
