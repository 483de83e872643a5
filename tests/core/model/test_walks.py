"""Random pipelines say and learn what River's own walk does, in any order of what a learner does with a model.

To see a case again: `follow(case_of(SEED))`.
"""

from __future__ import annotations

import pytest

from driftline.core.model.dispatch import Form, Walk
from driftline.core.river.building import make_model
from tests.core.model.walks import case_of, follow

FEW, MANY = 50, 1_250

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, where numbers are as large as they get


def _followed(first: int, count: int) -> None:
    calls = sum(follow(case_of(seed)) for seed in range(first, first + count))
    assert calls > 50 * count  # most of what is done does not raise


def test_a_few_random_pipelines_keep_rivers_bits() -> None:
    _followed(0, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, 120))
def test_random_pipelines_keep_rivers_bits(first: int) -> None:
    _followed(first, 120)


@pytest.mark.parametrize("optimizer", ["FTRLProximal()", "AdaDelta()", "Adam()"])
def test_an_optimizer_need_not_have_one_rate(optimizer: str) -> None:
    model = make_model(f"StandardScaler() | LogisticRegression(optimizer=optim.{optimizer})", {}, 1)
    walk = Walk(model, Form("ab", may_omit=False))
    learn, chance = walk.learn(), walk.probability()
    assert chance is not None
    for number in range(20):
        learn((float(number), 1.0), number > 9)
    assert chance((19.0, 1.0)) != chance((0.0, 1.0))
