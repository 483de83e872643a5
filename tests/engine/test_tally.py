"""Histograms count the same, one by one or many at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.engine.tally import SECONDS, Histogram

NEAR = st.sampled_from(SECONDS) | st.floats(-1, 100)


@given(st.lists(st.lists(NEAR, max_size=60), max_size=3))
def test_many_at_once_are_counted_as_one_by_one(slices: list[list[float]]) -> None:
    single, together = Histogram(SECONDS), Histogram(SECONDS)
    for values in slices:
        for value in values:
            single.observe(value)
        together.observe_all(iter(values))
    assert together.counts == single.counts
    assert sum(together.counts) == sum(map(len, slices))
    assert together.total == pytest.approx(single.total)
    assert together.buckets()[-1] == ("+Inf", float(sum(together.counts)))
