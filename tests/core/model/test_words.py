"""The words of a text are those that River finds, in its order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import feature_extraction, preprocessing
from river.feature_extraction import BagOfWords

from driftline.core.model.fast.words import transform_of

STEPS: dict[str, Any] = {
    "as it is": BagOfWords(on="text"),
    "in capitals too": BagOfWords(on="text", lowercase=False),
    "with accents": BagOfWords(on="text", strip_accents=False),
    "pairs": BagOfWords(on="text", ngram_range=(1, 2)),
    "pairs only": BagOfWords(on="text", ngram_range=(2, 2)),
    "without some": BagOfWords(on="text", stop_words={"the", "ab"}),
    "by another pattern": BagOfWords(on="text", tokenizer_pattern=r"[a-z]"),
    "by a pattern with a group": BagOfWords(on="text", tokenizer_pattern=r"(\w)\w*"),
    "by a group that may fail": BagOfWords(on="text", tokenizer_pattern=r"(a)|b|(c)"),
    "by a function": BagOfWords(on="text", tokenizer=str.split),
    "prepared": BagOfWords(on="text", preprocessor=str.upper),
}
texts = st.one_of(st.text(), st.text("ab cé-_\n\u0301İ", max_size=60), st.just("the quick-brown the ab \u0130x"))


@pytest.mark.parametrize("name", STEPS)
@given(text=texts)
def test_words_are_rivers(name: str, text: str) -> None:
    expected = STEPS[name].transform_one({"text": text})
    found = transform_of(STEPS[name])({"text": text})
    assert list(found.items()) == list(expected.items())
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [None, 3, ["a"]])
def test_what_is_no_text_raises_as_river_does(value: Any) -> None:
    with pytest.raises(AttributeError) as theirs:
        STEPS["as it is"].transform_one({"text": value})
    with pytest.raises(AttributeError, match=str(theirs.value)):
        transform_of(STEPS["as it is"])({"text": value})


def test_other_steps_are_left_as_they_are() -> None:
    for step in (BagOfWords(), feature_extraction.TFIDF(on="text"), preprocessing.FeatureHasher(8)):
        assert transform_of(step) == step.transform_one
