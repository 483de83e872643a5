"""The regression behind forecasts: equal to a ridge regression made another way, and robust where that is not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from driftline.core.river.ahead import Asked, Batch, Taught
from driftline.core.river.seasonal import BATCH_MAX, CONSTANT, SeasonalNaive, SeasonalRegression

HORIZONS, COLUMNS = 3, 6
Floats = NDArray[np.float64]


def asked(rows: Floats, scale: float = 2.0) -> Asked:
    return Asked(b"a", 0, scale, 0.0, 0.0, (10.0,) * HORIZONS, (), rows)


def taught(rows: Floats, targets: Floats, numbers: list[int] | None = None) -> Taught:
    return Taught(b"a", 0, (0.0,), (), Batch(rows, np.array(numbers or range(len(rows))), targets))


def begun(**settings: object) -> SeasonalRegression:
    model = SeasonalRegression(**settings)  # type: ignore[arg-type]  # the test's own
    model.begin(HORIZONS, 0)
    return model


def observations(count: int, seed: int = 1) -> list[tuple[Floats, Floats]]:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.3, (HORIZONS, COLUMNS))
    made = []
    for _ in range(count):
        rows = rng.normal(0, 1, (HORIZONS, COLUMNS))
        made.append((rows, (weights * rows).sum(axis=1) + rng.normal(0, 0.05, HORIZONS)))
    return made


def test_it_is_the_ridge_regression_of_all_that_it_learned() -> None:
    model, made = begun(l2=3.0, huber=100.0, mixed=False), observations(300)
    for rows, targets in made:
        model.learn_one(taught(rows, targets))
    model.solve()
    for number in range(HORIZONS):
        x = np.array([rows[number] for rows, _ in made])
        y = np.array([targets[number] for _, targets in made])
        padded = np.concatenate([x, np.sqrt(3.0) * np.eye(COLUMNS)])
        expected, *_ = np.linalg.lstsq(padded, np.concatenate([y, np.zeros(COLUMNS)]), rcond=None)
        assert model.weights[number] == pytest.approx(expected, abs=1e-9)
    rows = made[0][0]
    said = model.predict_one(asked(rows))
    assert said == pytest.approx(10.0 + 2.0 * (model.weights * rows).sum(axis=1), abs=1e-9)


def test_what_is_explained_adds_up_to_the_forecast() -> None:
    model, made = begun(), observations(120)
    for rows, targets in made:
        model.learn_one(taught(rows, targets))
    rows, names = made[-1][0], ["last", "level", "x", CONSTANT, "usual", "y"]
    for number, row in enumerate(rows):
        weighed, seen = model.explained(number, names, row)
        adds = weighed.intercept * row[3] + sum(weighed.weights[name] * value for name, value in seen.items())
        said = model.predict_one(asked(rows))
        assert said is not None
        assert said[number] == pytest.approx(10.0 + 2.0 * adds, abs=1e-12)


def test_before_it_has_learned_it_gives_the_seasonal_naive_forecast() -> None:
    rows = np.zeros((HORIZONS, COLUMNS))
    assert begun().predict_one(asked(rows)) == [10.0] * HORIZONS
    naive = SeasonalNaive()
    assert naive.predict_one(asked(rows)) == [10.0] * HORIZONS


def test_being_asked_changes_nothing() -> None:
    rows = observations(1)[0][0]
    for learned in (0, 30):
        model = begun()
        for seen, targets in observations(learned):
            model.learn_one(taught(seen, targets))
        before = pickle.dumps(model)
        model.predict_one(asked(rows))
        model.explained(0, ["last", "level", "x", CONSTANT, "usual", "y"], rows[0])
        assert pickle.dumps(model) == before


def test_wild_observations_move_it_little() -> None:
    calm, wild = begun(mixed=False), begun(mixed=False)
    for place, (rows, targets) in enumerate(observations(400)):
        calm.learn_one(taught(rows, targets))
        wild.learn_one(taught(rows, targets + (15.0 if place % 25 == 0 else 0.0)))
    ordinary = begun(mixed=False, huber=100.0)
    for place, (rows, targets) in enumerate(observations(400)):
        ordinary.learn_one(taught(rows, targets + (15.0 if place % 25 == 0 else 0.0)))
    off = {name: np.abs(one.weights - calm.weights).max() for name, one in (("h", wild), ("o", ordinary))}
    assert off["h"] < 0.25 * off["o"]


def test_what_cannot_be_learned_is_forecast_as_the_naive_forecast_has_it() -> None:
    """Of noise alone, the regression overfits: what is served is hardly worse than the seasonal naive forecast."""
    rng, model, alone = np.random.default_rng(7), begun(l2=0.01), begun(l2=0.01, mixed=False)
    errors: dict[str, list[float]] = {"mixed": [], "alone": [], "naive": []}
    for _ in range(300):
        rows = rng.normal(0, 1, (HORIZONS, 40))
        targets = rng.standard_t(1.5, HORIZONS)
        for name, one in (("mixed", model), ("alone", alone)):
            said = np.array(one.predict_one(asked(rows, 1.0))) - 10.0
            errors[name].append(float(np.abs(said - targets).mean()))
            one.learn_one(taught(rows, targets))
        errors["naive"].append(float(np.abs(targets).mean()))
    mean = {name: float(np.mean(one)) for name, one in errors.items()}
    assert mean["mixed"] < 1.02 * mean["naive"] < mean["alone"]


@pytest.mark.parametrize("half_life", [None, 50.0])
def test_a_copy_from_bytes_goes_on_bit_for_bit(half_life: float | None) -> None:
    model = begun(half_life=half_life)
    made = observations(2 * BATCH_MAX + 9)
    for rows, targets in made[:-20]:
        model.learn_one(taught(rows, targets))
    copy = pickle.loads(pickle.dumps(model))
    for rows, targets in made[-20:]:
        for one in (model, copy):
            one.learn_one(taught(rows, targets))
        assert copy.predict_one(asked(rows)) == model.predict_one(asked(rows))


def test_it_forgets_by_half_life() -> None:
    old, new = observations(300, seed=1), observations(300, seed=2)
    models = {half_life: begun(half_life=half_life, mixed=False) for half_life in (None, 50.0)}
    for rows, targets in (*old, *new):
        for model in models.values():
            model.learn_one(taught(rows, targets))
    errors = {
        half_life: np.mean([abs((model.weights * rows).sum(axis=1) - targets).mean() for rows, targets in new])
        for half_life, model in models.items()
    }
    assert errors[50.0] < 0.5 * errors[None]


def test_declared_columns_are_scaled() -> None:
    small, large = begun(mixed=False), begun(mixed=False)
    for one in (small, large):
        one.begin(HORIZONS, 1)
    for rows, targets in observations(200):
        small.learn_one(taught(rows, targets))
        times = rows.copy()
        times[:, -1] = 1e6 * times[:, -1] + 5e6
        large.learn_one(taught(times, targets))
        said = [one.predict_one(asked(seen)) for one, seen in ((small, rows), (large, times))]
        assert said[0] == pytest.approx(said[1], rel=1e-6)


@pytest.mark.parametrize("wrong", [{"l2": 0.0}, {"huber": -1.0}, {"half_life": 0.5}])
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SeasonalRegression(**wrong)  # type: ignore[arg-type]  # meant to be wrong


def test_how_many_cores_there_are_changes_no_bit() -> None:
    """OpenBLAS divides products of this size among its threads, and then the last bits differ."""
    program = """
from driftline.core.river.ahead import Batch, Taught
from driftline.core.river.seasonal import SeasonalRegression
import hashlib, numpy as np

model, rng = SeasonalRegression(), np.random.default_rng(1)
for slot in range(64):
    rows = rng.normal(size=(1, 300))
    model.learn_one(Taught(b"a", slot, (1.0,), (), Batch(rows, np.array([0]), rng.normal(size=1))))
model.solve()
print(hashlib.sha256(model.weights.tobytes()).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "OPENBLAS_NUM_THREADS": count}, check=True,
            capture_output=True,
        ).stdout
        for count in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
