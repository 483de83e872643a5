"""Fields that give the label away are found, and honest ones are left alone."""

from __future__ import annotations

import operator
import random
from collections.abc import Sequence

import pytest

from driftline.author.leak import Cell, Leak, find_leaks

ROWS = 600
RNG = random.Random(5)
NOISE: list[Cell | None] = [RNG.gauss(0, 1) for _ in range(ROWS)]
OTHER: list[Cell | None] = [RNG.gauss(5, 2) for _ in range(ROWS)]
FRAUD: list[Cell] = [int(RNG.random() < 0.05) for _ in range(ROWS)]
KIND: list[Cell] = [RNG.choice(["a", "b", "c"]) for _ in range(ROWS)]
CASUAL: list[Cell | None] = [RNG.randint(0, 90) for _ in range(ROWS)]
REGISTERED: list[Cell | None] = [RNG.randint(0, 300) for _ in range(ROWS)]


def number(cell: Cell | None) -> float:
    assert isinstance(cell, int | float)
    return cell


def found(label: Sequence[Cell], numeric: bool = False, **columns: Sequence[Cell | None]) -> list[Leak]:
    return find_leaks(columns, label, numeric=numeric)


def test_a_scenario_that_is_zero_for_every_honest_row() -> None:
    scenario = [RNG.randint(1, 3) if fraud else 0 for fraud in FRAUD]
    assert found(FRAUD, noise=NOISE, scenario=scenario) == [Leak(("scenario",), "its value alone determines the label")]


def test_a_text_that_says_the_class() -> None:
    words = {"a": "alpha", "b": "beta", "c": "gamma"}
    assert [leak.fields for leak in found(KIND, word=[words[str(kind)] for kind in KIND])] == [("word",)]


def test_a_field_that_is_empty_only_for_one_class() -> None:
    refund = [RNG.randint(1, 5) if fraud else None for fraud in FRAUD]
    assert [leak.fields for leak in found(FRAUD, refund=refund)] == [("refund",)]


def test_a_threshold_on_a_number() -> None:
    scores = [RNG.uniform(0.7, 1.0) if fraud else RNG.uniform(0.0, 0.6) for fraud in FRAUD]
    assert found(FRAUD, score=scores)[0].how == "a threshold on it separates the labels"
    below = [-score for score in scores]
    assert [leak.fields for leak in found(FRAUD, below=below)] == [("below",)]


def test_a_strong_but_honest_field_stays() -> None:
    strong = [number(fraud) * 2 + RNG.gauss(0, 0.7) for fraud in FRAUD]
    mostly = [fraud if RNG.random() < 0.9 else 1 - number(fraud) for fraud in FRAUD]
    assert found(FRAUD, strong=strong, mostly=mostly, noise=NOISE) == []


def test_many_values_that_are_learned_by_heart_are_no_leak() -> None:
    assert found(FRAUD, unique=[f"row-{place}" for place in range(ROWS)]) == []


def test_a_rare_label_is_no_excuse() -> None:
    label: list[Cell] = [int(place % 200 == 0) for place in range(ROWS)]
    assert found(label, constant=[0] * ROWS, noise=NOISE) == []


def test_parts_of_a_total() -> None:
    total: list[Cell] = [number(one) + number(other) for one, other in zip(CASUAL, REGISTERED, strict=True)]
    leaks = found(total, numeric=True, hour=NOISE, casual=CASUAL, registered=REGISTERED)
    assert leaks == [Leak(("casual", "registered"), "casual + registered equals the label")]


@pytest.mark.parametrize("sign", ["-", "x", "/"])
def test_two_fields_and_an_operation(sign: str) -> None:
    ones = [number(one) + 1 for one in CASUAL]
    others = [number(other) + 1 for other in REGISTERED]
    make = {"-": operator.sub, "x": operator.mul, "/": operator.truediv}[sign]
    label: list[Cell] = [make(other, one) for one, other in zip(ones, others, strict=True)]
    leaks = found(label, numeric=True, one=ones, other=others, noise=NOISE)
    assert [(set(leak.fields), sign in leak.how) for leak in leaks] == [({"one", "other"}, True)]


def test_three_parts_of_a_total() -> None:
    parts = {name: [RNG.randint(0, 50) for _ in range(ROWS)] for name in ("a", "b", "c")}
    total: list[Cell] = [sum(row) for row in zip(*parts.values(), strict=True)]
    leaks = found(total, numeric=True, noise=NOISE, other=OTHER, **parts)
    assert leaks == [Leak(("a", "b", "c"), "a + b + c add up to the label")]


def test_the_label_in_another_unit() -> None:
    label: list[Cell] = [number(cell) for cell in OTHER]
    cents = [round(100 * number(cell)) for cell in OTHER]
    assert found(label, numeric=True, cents=cents) == [Leak(("cents",), "it is the label, rescaled")]


def test_a_linear_law_of_several_features_is_no_leak() -> None:
    label: list[Cell] = [
        3 * number(a) - 2 * number(b) + 0.5 * number(c) for a, b, c in zip(NOISE, OTHER, CASUAL, strict=True)
    ]
    assert found(label, numeric=True, a=NOISE, b=OTHER, c=CASUAL) == []


def test_few_rows_prove_nothing() -> None:
    assert find_leaks({"x": [0, 1] * 20}, [0, 1] * 20, numeric=False) == []


def test_gaps_and_text_among_numbers() -> None:
    gaps = [None if place % 3 else 1.0 for place in range(ROWS)]
    texts: list[Cell | None] = ["x" if place % 3 else 1.0 for place in range(ROWS)]
    assert found([number(cell) for cell in OTHER], numeric=True, gaps=gaps, texts=texts) == []
