"""Accents go as River strips them, in a time that grows with the text."""

from __future__ import annotations

import pickle
import time
import unicodedata
from random import Random

import pytest
from river.feature_extraction import BagOfWords, vectorize

from driftline.core.pickle.allowlist import common
from driftline.core.pickle.reader import Thaw
from driftline.core.river.accent import PIECE, strip_accents

MARKS = "\u0301\u0316"  # one above, one below: each pair has to change places
LOOSE = "\u0f73"  # no mark itself, and two of them once it is taken apart


def by_river(text: str) -> str:
    """As in River's source."""
    return "".join([sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign)])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_left_is_what_river_leaves(seed: int) -> None:
    random = Random(seed)
    signs = ["a", "\u00e9", "\u1e69", "\ufb01", "\uac01", "\u1112\u1161\u11ab", *MARKS, LOOSE, "\U0001d160", "\u0344"]
    for _ in range(30):
        text = "".join(random.choices(signs, k=random.randrange(4 * PIECE)))
        text += "".join(map(chr, random.choices(range(0x300, 0x3000), k=PIECE)))
        assert strip_accents(text) == by_river(text)


def test_every_sign_goes_as_river_has_it() -> None:
    for first in range(0, 0x110000, 0x100):
        text = "a".join(chr(code) for code in range(first, first + 0x100) if not 0xD800 <= code < 0xE000)
        assert strip_accents(text) == by_river(text)


@pytest.mark.parametrize(
    "text",
    [MARKS * 20_000, LOOSE * 40_000, MARKS[0] * 20_000 + MARKS[1] * 20_000],
    ids=["in turn", "taken apart", "half and half"],
)
def test_a_text_of_marks_takes_no_longer_than_others(text: str) -> None:
    """Of 40,000 marks River's own takes seconds, the square of their number."""
    words = BagOfWords(on="body")

    def took_s(text: str) -> float:
        begun_s = time.process_time()
        words.transform_one({"body": text})
        return time.process_time() - begun_s

    marks_s, letters_s = took_s("a" + text), took_s("\u00e9" * 40_000)
    assert marks_s < 20 * letters_s


def test_states_name_river_s_function_and_get_ours() -> None:
    written = pickle.dumps(BagOfWords(on="body"), protocol=5)
    assert b"strip_accents_unicode" in written
    assert b"driftline" not in written
    read = Thaw(written, common(), "model").read()
    assert strip_accents in read.processing_steps
    assert vectorize.strip_accents_unicode is strip_accents
