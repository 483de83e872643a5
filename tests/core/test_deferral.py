"""What starts a command does not load SciPy's statistics; what needs them gets SciPy's own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from driftline.core.deferral import DEFERRED

USE = """
import random
from river import drift, metrics, preprocessing, proba, tree
source = random.Random(3)
mean, area, window = metrics.GeometricMean(), metrics.ROCAUC(), drift.KSWIN(seed=3)
gaussian, boosted = proba.MultivariateGaussian(seed=3), tree.SGTClassifier(grace_period=50)
topics = preprocessing.LDA(n_components=2, number_of_documents=20, seed=3)
detected = 0
for number in range(600):
    x = {"a": source.gauss(0, 1), "b": source.gauss(0, 1)}
    y = x["a"] + source.gauss(0, 0.3) > (number > 300)
    mean.update(y, boosted.predict_one(x))
    area.update(y, boosted.predict_proba_one(x))
    boosted.learn_one(x, y)
    gaussian.update(x)
    window.update(x["a"] + 2 * (number > 300))
    detected += window.drift_detected
for text in ("a b c", "b c d", "a a d"):
    topics.learn_one({word: text.count(word) for word in text.split()})
found = [mean.get(), area.get(), detected, gaussian(x), gaussian.cdf(x), gaussian.sample()]
found.append(boosted.predict_proba_one(x))
found.append(topics.transform_one({"a": 2, "d": 1}))
print(repr(found))
"""


def printed(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_backtest_starts_without_what_it_may_never_call() -> None:
    late = {*DEFERRED.values(), "aiokafka"}
    assert printed(f"import sys, driftline.cli.backtest\nprint({late!r} & sys.modules.keys())") == "set()\n"


def test_what_is_loaded_late_computes_the_same() -> None:
    """To the bit, and each of the modules is used."""
    ours = printed(f"import driftline\n{USE}")
    assert ours == printed(USE)
    assert "nan" not in ours


@pytest.mark.parametrize("first", ["import driftline", "import driftline, river.metrics, river.proba"])
def test_everyone_else_gets_scipy_itself(first: str) -> None:
    code = f"{first}\nimport scipy.stats, scipy.integrate, scipy\nfrom scipy.stats import norm\n"
    code += "print(isinstance(norm, scipy.stats.rv_continuous), scipy.integrate.__file__ is not None, norm.cdf(0.0))"
    assert printed(code) == "True True 0.5\n"


@pytest.mark.parametrize("module", DEFERRED)
def test_the_table_is_of_the_river_that_is_installed(module: str) -> None:
    """A module that no longer names its part of SciPy, or a new one that does, belongs out of it or into it."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    part = DEFERRED[module].removeprefix("scipy.")
    source = Path(spec.origin).read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if line.startswith(("from scipy", "import scipy"))]
    assert any(part in line for line in lines), lines


def test_a_source_can_still_be_read() -> None:
    """Tracebacks and `inspect` ask the loader."""
    code = "import driftline, inspect\nfrom river.drift import kswin\nprint(type(kswin.__loader__).__name__)\n"
    code += "print('ks_2samp' in inspect.getsource(kswin))"
    assert printed(code).split() == ["SourceFileLoader", "True"]


def test_another_program_is_left_alone() -> None:
    """River without Driftline loads what it always loaded."""
    assert printed("import sys, river.metrics\nprint('scipy.stats' in sys.modules)") == "True\n"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
