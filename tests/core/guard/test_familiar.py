"""What was learned of each feature, in Python and compiled."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.core.guard import familiar
from driftline.core.guard.familiar import TEXT_MAX, TEXTS_MAX, Known, nothing, plain_learn, plainly_familiar
from driftline.core.record import FeatureValue

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) - 1, 2**53 + 1),
    st.floats(allow_nan=True),
    st.sampled_from(["a", "b", "c", "x" * (TEXT_MAX + 1)]),
)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=30)


@pytest.mark.skipif(familiar.learn is plain_learn, reason="no C compiler was there at the installation")
@given(ROWS)
def test_the_compiled_one_learns_and_finds_the_same(rows: list[tuple[FeatureValue, ...]]) -> None:
    one: list[Known] = [nothing(), nothing()]  # of fewer features than an event has now
    other = copy.deepcopy(one)
    for row in rows:
        assert plainly_familiar(one, row) == familiar.is_familiar(other, row)
        plain_learn(one, row)
        familiar.learn(other, row)
        assert repr(one) == repr(other)


@pytest.mark.parametrize("learn", list(dict.fromkeys([plain_learn, familiar.learn])))
def test_too_many_texts_are_names_and_forgotten(learn: object) -> None:
    known = [nothing()]
    for number in range(TEXTS_MAX + 2):
        assert callable(learn)
        learn(known, (f"text {number}",))
    assert known == [[TEXTS_MAX + 2, None, None, None, 0]]
    assert plainly_familiar(known, ("new",))
    assert familiar.is_familiar(known, ("new",))


@pytest.mark.parametrize("is_familiar", list(dict.fromkeys([plainly_familiar, familiar.is_familiar])))
def test_numbers_within_what_was_learned_and_known_texts_are_familiar(is_familiar: object) -> None:
    known = [nothing(), nothing()]
    for row in ((1.0, "a"), (3, "b")):
        plain_learn(known, row)
    assert callable(is_familiar)
    assert [is_familiar(known, (number, "a")) for number in (0.99, 1, 2.5, 3.0, 3.01, None)] == [
        False, True, True, True, False, True,
    ]  # fmt: skip
    assert [is_familiar(known, (2.0, text)) for text in ("a", "c", None, True)] == [True, False, True, False]
