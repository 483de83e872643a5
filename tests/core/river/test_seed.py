"""Seeds: every random part gets one, or is refused."""

from __future__ import annotations

import inspect
import random
from types import SimpleNamespace
from typing import Any

import pytest
from river import base, compose, drift, forest, linear_model, preprocessing, tree

from driftline.core.digest import digest_of
from driftline.core.error import UnseededError
from driftline.core.river.building import check_seeded, make_detector, make_model
from driftline.core.river.expression import RIVER
from driftline.core.river.seed import Seeds, differing_part, fill_seeds


def test_the_first_part_of_a_class_gets_the_pipelines_seed_itself() -> None:
    assert make_model("HoeffdingAdaptiveTreeClassifier()", {}, 42).seed == 42
    assert make_model("StandardScaler() | ARFClassifier(seed=None)", {}, 7).steps["ARFClassifier"].seed == 7


def test_seeds_that_are_written_stay() -> None:
    assert make_model("HoeffdingAdaptiveTreeClassifier(seed=5)", {}, 42).seed == 5
    assert make_model("HoeffdingAdaptiveTreeClassifier(seed=$s)", {"s": 6}, 42).seed == 6


def test_twins_get_different_seeds() -> None:
    union = make_model("(RBFSampler() + RBFSampler()) | LogisticRegression()", {}, 42).steps["TransformerUnion"]
    assert [part.seed for part in union.transformers.values()] == [42, 43]


def test_seeds_wrap_around() -> None:
    seeds = Seeds(2**32 - 1)
    assert [seeds.next(int), seeds.next(int), seeds.next(str)] == [2**32 - 1, 0, 2**32 - 1]


def test_detectors_are_seeded() -> None:
    assert make_detector("KSWIN()", {}, 9).seed == 9
    assert isinstance(make_detector("ADWIN()", {}, 9), drift.ADWIN)


def test_parts_that_a_constructor_makes_are_seeded_too() -> None:
    model = compose.Pipeline(preprocessing.StandardScaler(), forest.ARFClassifier(drift_detector=drift.KSWIN()))
    fill_seeds(model, 3)
    arf = model["ARFClassifier"]
    assert (arf.seed, arf.drift_detector.seed) == (3, 3)
    assert arf.drift_detector._rng.getstate() == random.Random(3).getstate()


def test_filling_makes_equal_what_chance_made_different() -> None:
    models = [tree.HoeffdingAdaptiveTreeClassifier() for _ in range(2)]
    assert digest_of(models[0]) != digest_of(models[1])
    for model in models:
        fill_seeds(model, 1)
    assert digest_of(models[0]) == digest_of(models[1])


@pytest.mark.parametrize("expression", ["KNNClassifier()", "StandardScaler() | KNNRegressor()"])
def test_nearest_neighbours_with_rivers_default_engine_are_refused(expression: str) -> None:
    with pytest.raises(UnseededError, match="SWINN"):
        make_model(expression, {}, 42)
    make_model("KNNClassifier(engine=LazySearch(window_size=50))", {}, 42)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (compose.Select("a", "b"), "Select keeps its names in a set"),
        (preprocessing.OneHotEncoder(categories={"a": {"x", "y"}}), "categories in sets"),
    ],
)
def test_parts_of_a_factorys_model_that_hold_sets_are_refused(step: Any, text: str) -> None:
    with pytest.raises(UnseededError, match=text):
        fill_seeds(step | linear_model.LogisticRegression(), 42)


def test_an_object_that_takes_no_seed_is_refused() -> None:
    class Stubborn(base.Base):
        @property
        def closed(self) -> int:
            return 1

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    stubborn = Stubborn()
    stubborn.__dict__["seed"] = None
    with pytest.raises(UnseededError, match=r"Pipeline\.steps\['Stubborn'\]: Stubborn has no seed"):
        fill_seeds(SimpleNamespace(steps=compose.Pipeline(preprocessing.StandardScaler(), stubborn)).steps, 1)


def test_numbers_drawn_before_the_seed_are_found() -> None:
    models = [preprocessing.FeatureHasher() | linear_model.LogisticRegression() for _ in range(2)]
    for model in models:
        fill_seeds(model, 42)
    assert differing_part(*models) == "Pipeline.steps['FeatureHasher']"
    check_seeded("FeatureHasher() | LogisticRegression()", {}, 42)  # an expression gets its seed in time


def test_cycles_end() -> None:
    model = make_model("GaussianNB()", {}, 1)
    model.__dict__["itself"] = [model]
    fill_seeds(model, 1)


def _makeable() -> list[str]:
    """Every estimator of River that River's own tests can make, by path."""
    found = []
    kind: Any
    for path, kind in RIVER.classes.items():
        if issubclass(kind, base.Estimator) and not issubclass(kind, base.Clusterer):
            try:
                kind(**next(iter(kind._unit_test_params())))
            except (TypeError, RuntimeError):
                continue  # it needs arguments, or another Python
            found.append(path)
    return found


def test_every_estimator_of_river_is_reproducible_or_refused() -> None:
    refused = []
    for path in _makeable():
        kind: Any = RIVER.classes[path]
        twins = [kind(**next(iter(kind._unit_test_params()))) for _ in range(2)]
        try:
            for twin in twins:
                fill_seeds(twin, 42)
        except UnseededError:
            refused.append(path)
            continue
        if digest_of(twins[0]) != digest_of(twins[1]):
            assert "seed" in inspect.signature(kind).parameters, path  # filled while an expression is built
    assert set(refused) <= {"compose.Select", "neighbors.KNNClassifier", "neighbors.KNNRegressor", "neighbors.SWINN"}
