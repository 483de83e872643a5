"""Strips accents in a time that grows with the text.

River's `BagOfWords` and `TFIDF` bring a text into Unicode's form NFKD and leave out the combining marks. To put the
marks that follow a letter in order takes the square of their number: twenty seconds for a text of 100,000, whoever sent
it. As all marks are left out, their order is of no matter: so a text is taken in pieces, with the same result. This
stands in River's place, under its name, so states do not change.

Source: https://www.unicode.org/reports/tr15/#Stream_Safe_Text_Format
"""

from __future__ import annotations

from typing import Final
from unicodedata import combining, normalize

from river.feature_extraction import vectorize

PIECE: Final = 64  # characters


def strip_accents(text: str) -> str:
    """A text without accents, as River's own function has it."""
    if text.isascii():
        return text
    pieces = (normalize("NFKD", text[at : at + PIECE]) for at in range(0, len(text), PIECE))
    return "".join([sign for piece in pieces for sign in piece if not combining(sign)])


strip_accents.__module__, strip_accents.__qualname__ = vectorize.__name__, "strip_accents_unicode"  # as states name it
vars(vectorize)["strip_accents_unicode"] = strip_accents
