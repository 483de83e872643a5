"""What the made sales leave to no model and no interval is known by their law (`benchmarks/forecast.py`)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecast import World


@pytest.mark.parametrize("planned", [False, True])
def test_intervals_of_the_law_hold_the_share_that_is_asked(planned: bool) -> None:
    world = World(4, 5, 80, seed=3)
    inside = world.inside(0.9, planned=planned, rng=np.random.default_rng(1))
    assert inside.shape == (40, 20)
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


def test_to_know_promotions_ahead_makes_forecasts_better() -> None:
    world = World(4, 5, 80, seed=3)
    assert world.mase(planned=True) < world.mase(planned=False) < 1.0
