"""An encoder that writes a zero for every text but one is warned of."""

from __future__ import annotations

from random import Random

import pytest
from river.compose import Select
from river.linear_model import LogisticRegression
from river.preprocessing import OneHotEncoder

from driftline.author import encoding
from tests.support.small import small


@pytest.mark.parametrize(
    ("encoder", "warned"),
    [
        ("(Select('word', 'flag') | OneHotEncoder())", ["OneHotEncoder() on word gives"]),
        ("(Select('word') | OneHotEncoder(drop_zeros=True))", []),
        ("(Select('flag') | OneHotEncoder())", []),
        ("(SelectType(str) | OneHotEncoder())", ["OneHotEncoder() on word, note gives"]),
        (
            "((Select('word') | OneHotEncoder()) + (Select('note') | OneHotEncoder()))",
            ["OneHotEncoder() on word gives", "OneHotEncoder() on note gives"],
        ),
    ],
)
def test_an_encoder_that_writes_zeros_is_warned_of(encoder: str, warned: list[str]) -> None:
    """Numbers and yes or no have few values, or are not encoded."""
    features = {"x": "number", "word": "string", "flag": "boolean", "note": "text"}
    hashed = "(Select('word', 'flag', 'note') | FeatureHasher(n_features=8))"  # so that each is used
    model = f"(Select('x') | StandardScaler()) + {hashed} + {encoder} | LogisticRegression()"
    found = list(encoding.warnings(small(event={"features": features}, model=model)))
    assert [text.partition(" the model")[0] for text in found] == warned


def test_a_linear_model_learns_the_same_without_the_zeros() -> None:
    """As the warning says."""
    with_zeros, without = (
        Select("word") | OneHotEncoder(drop_zeros=drop) | LogisticRegression() for drop in (False, True)
    )
    rng = Random(1)
    for _ in range(500):
        x, y = {"word": f"w{rng.randrange(20)}"}, rng.random() < 0.3
        assert with_zeros.predict_proba_one(x) == without.predict_proba_one(x)
        with_zeros.learn_one(x, y)
        without.learn_one(x, y)
