"""The logistic function and the slope of its loss are River's, compiled or not."""

from __future__ import annotations

import os
import random
import struct
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest
from river import optim
from river.utils.math import clamp
from river.utils.math import sigmoid as theirs

from driftline.core.model.fast import logistic
from driftline.core.model.fast.logistic import SlopeOf, plain_sigmoid, plain_slope, same_logistic, slope_of

EDGES = (0.0, 18.0, 18.01, 30.0, 30.01, 745.0, float("inf"), float("nan"))
SOURCE = random.Random(3)
RAWS = [*EDGES, *[-one for one in EDGES], *[SOURCE.gauss(0, 9) for _ in range(300)]]


def _sign(number: float) -> str:
    """A NaN has one too."""
    return f"{number!r} {struct.pack('d', number)!r}"


@pytest.mark.parametrize("sigmoid", list(dict.fromkeys([plain_sigmoid, logistic.sigmoid])))
def test_the_function_is_rivers(sigmoid: Any) -> None:
    assert [repr(sigmoid(raw)) for raw in RAWS] == [repr(theirs(raw)) for raw in RAWS]


@pytest.mark.parametrize("most", [1e12, 0.25, 0.0, -1.0])
@pytest.mark.parametrize("label", [True, False, 1, 0, 1.0])
@pytest.mark.parametrize("weights", [(1, 1), (1.0, 1.0), (3, 1), (1, 0)])
def test_the_slope_is_rivers(most: float, label: Any, weights: tuple[float, float]) -> None:
    loss = optim.losses.Log(*weights)
    for raw in RAWS:
        expected = _sign(float(clamp(loss.gradient(label, raw) * 1.0, -most, most)))
        assert _sign(slope_of(loss, most)(label, raw)) == expected, raw
        assert _sign(plain_slope(loss, most)(label, raw)) == expected, raw


def test_others_are_not_taken() -> None:
    def plain(flat: float, most: float, other: SlopeOf) -> SlopeOf:
        return other

    def off(flat: float, most: float, other: SlopeOf) -> SlopeOf:
        return lambda label, raw: other(label, raw) * (1 + 1e-15)

    assert same_logistic(plain_sigmoid, plain)
    assert not same_logistic(lambda raw: plain_sigmoid(raw) * (1 - 1e-15), plain)
    assert not same_logistic(plain_sigmoid, off)


def test_they_are_taken_where_they_were_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert logistic.is_compiled or not os.environ.get("CI"), "CI has a C compiler, and nothing was compiled"
    monkeypatch.setitem(sys.modules, "driftline.core.model.fast._weighted", None)  # an import of it raises
    spec = find_spec("driftline.core.model.fast.logistic")
    assert spec is not None
    assert spec.loader is not None
    alone = module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert not alone.is_compiled
    assert alone.sigmoid is alone.plain_sigmoid
    assert alone.slope_of(optim.losses.Log(), 1e12)(True, 0.0) == -0.5
