"""What moved a score, against the model's own answer."""

from __future__ import annotations

import random
from math import exp, log
from typing import Any

import pytest

from driftline.backtest.contribution import weights_of
from driftline.core.river.building import make_model
from driftline.core.river.expression import parse_expression

SPAM = ["win", "cash", "prize", "now", "call", "900", "free"]
HAM = ["see", "you", "at", "home", "for", "dinner", "tonight"]
MARKS = r"tokenizer_pattern=r'[^\W\d_]+|\d|[^\w\s]', ngram_range=(1, 2)"


def taught(expression: str, *, numeric: bool = False, count: int = 400) -> Any:
    parse_expression(expression, {})
    model, rng = make_model(expression, {}, 42), random.Random(2)
    for number in range(count):
        x = event(rng, spam=number % 3 == 0)
        model.learn_one(x, 20.0 + 3 * x["amount"] if numeric else number % 3 == 0)
    return model


def event(rng: random.Random, *, spam: bool) -> dict[str, Any]:
    words = rng.choices(SPAM if spam else HAM, k=6)
    return {"text": " ".join(words), "amount": rng.gauss(4 if spam else 2, 1), "shop": rng.choice("abc")}


@pytest.mark.parametrize(
    "expression",
    [
        "BagOfWords(on='text') | FeatureHasher(n_features=64) | LogisticRegression(optimizer=AdaGrad(0.1))",
        f"BagOfWords(on='text', {MARKS}) | FeatureHasher(n_features=512) | LogisticRegression()",
        "((Select('amount') | StandardScaler()) + (Select('shop') | OneHotEncoder())"
        " + (Select('text') | BagOfWords(on='text') | FeatureHasher(n_features=64) | Prefixer('text ')))"
        " | LogisticRegression()",
        "BagOfWords(on='text') | Normalizer() | LogisticRegression()",
    ],
)
def test_the_parts_of_a_linear_model_make_its_answer(expression: str) -> None:
    model, rng = taught(expression), random.Random(9)
    for spam in (True, False):
        x = event(rng, spam=spam)
        found, intercept = weights_of(model, x)
        assert intercept is not None
        total = sum(one.adds for one in found) + intercept
        assert 1 / (1 + exp(-total)) == pytest.approx(model.predict_proba_one(x)[True], rel=1e-9)
        assert all(one.adds == pytest.approx(one.value * one.weight) for one in found)


def test_words_have_their_names_whatever_column_they_were_hashed_into() -> None:
    model = taught("BagOfWords(on='text') | FeatureHasher(n_features=256) | LogisticRegression(optimizer=AdaGrad(0.1))")
    found, _ = weights_of(model, {"text": "win win dinner", "amount": 1.0, "shop": "a"})
    by_name = {one.name: one for one in found}
    assert set(by_name) == {"win", "dinner"}
    assert (by_name["win"].value, by_name["dinner"].value) == (2, 1)
    assert by_name["win"].adds > 0 > by_name["dinner"].adds


def test_pairs_are_written_as_they_stand_in_the_text() -> None:
    model = taught(f"BagOfWords(on='text', {MARKS}) | FeatureHasher(n_features=4096) | LogisticRegression()")
    found, _ = weights_of(model, {"text": "call 90!", "amount": 1.0, "shop": "a"})
    assert {one.name for one in found} == {"call", "9", "0", "!", "call 9", "9 0", "0 !"}


def test_a_scaled_label_is_explained_in_its_own_units() -> None:
    encoders = "(Select('amount') | StandardScaler()) + (Select('shop') | OneHotEncoder())"
    regressor = "TargetStandardScaler(regressor=LinearRegression(optimizer=AdaGrad(0.1)))"
    model = taught(f"({encoders}) | {regressor}", numeric=True)
    x = event(random.Random(1), spam=True)
    found, intercept = weights_of(model, x)
    assert sum(one.adds for one in found) + (intercept or 0) == pytest.approx(model.predict_one(x), rel=1e-9)
    assert found[0].name == "amount"


def test_naive_bayes_is_explained_by_leaving_each_word_out() -> None:
    model = taught("BagOfWords(on='text') | FeatureHasher(n_features=512, alternate_sign=False) | MultinomialNB()")
    found, intercept = weights_of(model, {"text": "win cash dinner"})
    assert intercept is None
    odds = [model.predict_proba_one({"text": text})[True] for text in ("win cash dinner", "cash dinner")]
    moved = log(odds[0] / (1 - odds[0])) - log(odds[1] / (1 - odds[1]))
    by_name = {one.name: one.adds for one in found}
    assert by_name["win"] == pytest.approx(moved, rel=1e-6)
    assert by_name["cash"] > 0 > by_name["dinner"]


def test_trees_have_no_parts() -> None:
    assert weights_of(taught("Select('amount', 'shop') | HoeffdingTreeClassifier()"), {"amount": 1.0, "shop": "a"}) == (
        [],
        None,
    )


def test_a_label_learned_as_a_logarithm_is_explained_in_logarithms() -> None:
    encoders = "(Select('amount') | Logarithms() | StandardScaler()) + (Select('shop') | OneHotEncoder())"
    regressor = "LogTargetRegressor(regressor=TargetStandardScaler(regressor=LinearRegression(optimizer=AdaGrad(0.1))))"
    model = taught(f"({encoders}) | {regressor}", numeric=True)
    x = event(random.Random(1), spam=True)
    found, intercept = weights_of(model, x)
    assert sum(one.adds for one in found) + (intercept or 0) == pytest.approx(log(1 + model.predict_one(x)), rel=1e-9)
    assert {"amount", f"shop_{x['shop']}"} <= {one.name for one in found}


def test_naive_bayes_of_words_beside_other_fields_is_explained_by_leaving_each_out() -> None:
    words = "BagOfWords(on='text') | FeatureHasher(n_features=512, alternate_sign=False) | Prefixer('text ')"
    model = taught(
        f"Discard('amount') | ((Select('shop') | OneHotEncoder()) + (Select('text') | {words})) | MultinomialNB()"
    )
    texts = ("win cash dinner", "cash dinner")
    found, intercept = weights_of(model, {"text": texts[0], "amount": 1.0, "shop": "a"})
    assert intercept is None
    odds = [model.predict_proba_one({"text": text, "amount": 1.0, "shop": "a"})[True] for text in texts]
    moved = log(odds[0] / (1 - odds[0])) - log(odds[1] / (1 - odds[1]))
    by_name = {one.name: one.adds for one in found}
    assert by_name["win"] == pytest.approx(moved, rel=1e-6)
    assert by_name["cash"] > 0 > by_name["dinner"]
    assert "shop" in by_name
