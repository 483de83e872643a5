"""A scaler's arithmetic by place, in Python and compiled, against River's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import preprocessing

from driftline.core.digest import digest_of
from driftline.core.model.fast import kernel, weighted
from driftline.core.model.fast.weighted import Moments, PlainScale, Scale, same_scale

NUMBERS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e15, 1e15))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20)
NAMES = ("a", "b")
MAKES = [PlainScale, *([weighted.compiled_scale] if weighted.compiled_scale is not None else [])]


@pytest.mark.parametrize("make", MAKES)
@given(rows=ROWS)
def test_each_scales_and_learns_as_river_does(make: Callable[[Moments], Scale], rows: list[tuple[float, ...]]) -> None:
    scaler, theirs = preprocessing.StandardScaler(), preprocessing.StandardScaler()
    ours = kernel.row_scaling(scaler)
    assert ours is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "Scaled", make)
        for row in rows:
            x = dict(zip(NAMES, row, strict=True))
            assert list(ours.transform_row(NAMES, row)) == list(theirs.transform_one(x).values())
            theirs.learn_one(x)
            assert list(ours.advance_row(NAMES, row)) == list(theirs.transform_one(x).values())
    ours.settle()
    assert digest_of(scaler) == digest_of(theirs)


def test_one_that_gives_other_bits_is_not_the_same() -> None:
    class Fused(PlainScale):
        def transform(self, row: object) -> list[float]:
            return [value * (1 + 2**-52) for value in super().transform(row)]  # type: ignore[arg-type]  # as given

    class Forgets(PlainScale):
        def numbers(self) -> Moments:
            count, means, variances = super().numbers()
            return count - 1, means, variances

    def breaks(numbers: Moments) -> Scale:
        raise TypeError("made of something else")

    assert same_scale(PlainScale)
    assert [same_scale(one) for one in (Fused, Forgets, breaks)] == [False, False, False]


def test_numbers_that_are_no_floats_are_left_to_river() -> None:
    scaler = preprocessing.StandardScaler()
    scaler.learn_one({"a": 1.0})
    scaler.means["a"] = 1  # as no scaler that only learned has it
    ours = kernel.row_scaling(scaler)
    assert ours is not None
    assert list(ours.advance_row(("a",), (3.0,))) == [1.0]
    assert type(scaler.means["a"]) is float


@pytest.mark.parametrize("count", [2**62, 2**63 - 1, 2**63])
def test_counts_that_leave_64_bits_are_left_to_river(count: int) -> None:
    scaler, theirs = preprocessing.StandardScaler(), preprocessing.StandardScaler()
    for one in (scaler, theirs):
        one.learn_one({"a": 1.0})
        one.counts["a"] = count
    ours = kernel.row_scaling(scaler)
    assert ours is not None
    theirs.learn_one({"a": 3.0})
    ours.advance_row(("a",), (3.0,))
    ours.settle()
    assert digest_of(scaler) == digest_of(theirs)
