"""Many numbers at once are seen as each of them is by itself."""

from __future__ import annotations

import struct
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.core.forecast.transform import transform_of

NAMES: tuple[Literal["none", "sqrt", "log"], ...] = ("none", "sqrt", "log")


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.floats(-1e15, 1e15), max_size=40))
def test_many_numbers_are_seen_bit_for_bit_as_one_is(name: Literal["none", "sqrt", "log"], values: list[float]) -> None:
    transform = transform_of(name, None)
    values = [value + 0.0 for value in values]  # without -0.0, whose sign says nothing
    singly = [transform.forth(value) for value in values]
    assert struct.pack(f"{len(values)}d", *transform.forth_all(values)) == struct.pack(f"{len(values)}d", *singly)
