"""Numbers in plain words, for someone who does not program; and text of others, fit to be shown."""

from __future__ import annotations

import re

RUNGS = {
    "range": "out of range",
    "step": "too big a jump",
    "width": "too wide an interval",
    "unfamiliar": "unfamiliar input",
    "untrained": "untrained model",
    "share": "too many positives",
    "distribution": "unusual predictions",
}
"""Why a rung of the guard objects, by its name."""


def percent(share: float) -> str:
    """A share for reading: one digit after the point, two significant ones below 1%."""
    shown = 100 * share
    return f"{shown:.1f}%" if shown >= 1 or shown == 0 else f"{shown:.2g}%"


def plain(number: float) -> str:
    """A number for reading: about three digits, thousands apart, as in 0.0714, 36.2 and 3,618."""
    if not number or not 1e-4 <= abs(number) < 1e15:
        return f"{number:.3g}"
    return f"{number:,.0f}" if abs(number) >= 999.5 else f"{number:.3g}"


_TEXT_CONTROLS = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029),  # directions of writing, ends of lines
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPES = {code: f"\\u{code:04x}" for code in _TEXT_CONTROLS}
_ESCAPES_OF_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}


def escaped(text: str, *, lines: bool = False) -> str:
    """Text whose control characters are written as JSON writes them: as they are, they could write over what a terminal
    shows, turn it around, or begin a line of their own in a log.

    Args:
        lines: ends of lines and tabs stay.
    """
    return text.translate(_ESCAPES_OF_LINES if lines else _ESCAPES)


def cut(text: object, most: int) -> str:
    """A text that is not too long to be shown."""
    shown = text if isinstance(text, str) else str(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?<=\bmailto)(?=:)", re.IGNORECASE)


def unlinked(text: str) -> str:
    """Text in which no program finds an address to make a link of: mail, Slack and Markdown do so by themselves, and a
    stranger's id or category would be a link in a message of ours. Nothing that a reader sees changes.
    """
    return _ADDRESS.sub("\u200b", text)


def money(amount: float, unit: str) -> str:
    """An amount with its unit: `1,204.50 EUR`, `3 orders`; from a hundred thousand on without a fraction."""
    if abs(amount) >= 100_000 or amount == round(amount):
        return f"{amount:,.0f} {unit}"
    return f"{amount:,.2f} {unit}" if abs(amount) >= 0.1 else f"{amount:.3g} {unit}"
