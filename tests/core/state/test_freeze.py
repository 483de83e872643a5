"""A shard as bytes: the same behaviour afterwards, and nothing but state comes out of them."""

from __future__ import annotations

import codecs
import functools
import importlib
import io
import operator
import os
import pickle
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import river.datasets
import river.stream

from driftline.codec.encode import Encoder
from driftline.core.error import InvariantError, SnapshotError
from driftline.core.model.learner import Learner
from driftline.core.pickle import reader
from driftline.core.pipeline import Pipeline
from driftline.core.record import LabelValue, Record
from driftline.core.river import building
from driftline.core.shard.state import Shard
from driftline.core.state import freeze
from driftline.core.state.freeze import dump, frozen_digest, load
from tests.support.folding import step
from tests.support.published import digest
from tests.support.small import NOW_MS, control, event, label, small

SELECTED = "(Select('x') | StandardScaler()) + (Select('word') | OneHotEncoder())"
MODELS = [
    ("binary", f"{SELECTED} | LogisticRegression()"),
    ("binary", f"{SELECTED} | HoeffdingTreeClassifier(grace_period=20)"),
    ("binary", f"{SELECTED} | ARFClassifier(n_models=3)"),
    ("binary", f"{SELECTED} | BaggingClassifier(LogisticRegression(), n_models=3)"),
    ("binary", f"{SELECTED} | FMClassifier()"),
    ("binary", f"{SELECTED} | KNNClassifier(engine=LazySearch(window_size=20))"),
    ("multiclass", f"{SELECTED} | GaussianNB()"),
    ("multiclass", f"{SELECTED} | OneVsRestClassifier(LogisticRegression())"),
    ("multiclass", f"{SELECTED} | HoeffdingAdaptiveTreeClassifier(grace_period=20)"),
    ("regression", f"{SELECTED} | LinearRegression()"),
    ("regression", f"{SELECTED} | ARFRegressor(n_models=3)"),
    ("anomaly", "HalfSpaceTrees(n_trees=3, height=3, window_size=10)"),
    ("anomaly", "LocalOutlierFactor(n_neighbors=3)"),
]


def truth(task: str, x: float, rng: random.Random) -> LabelValue:
    match task:
        case "multiclass":
            return "abc"[int(abs(x)) % 3]
        case "regression":
            return 2.0 * x + rng.gauss(0, 1)
    return x + rng.gauss(0, 1) > 0


def records(task: str, count: int, first: int = 0) -> list[Record]:
    """Events whose labels come 20 events later, some never, some early, with a command now and then."""
    rng = random.Random(first)
    made: list[Record] = []
    late: list[tuple[int, float]] = []
    for number in range(first, first + count):
        time_ms, x = NOW_MS + number * 2_000, rng.gauss(0, 3)
        if number % 10 == 3:
            made.append(label(number, truth(task, x, rng), time_ms, offset=number))
        made.append(event(number, time_ms, x, offset=number, word=task != "anomaly"))
        if number % 10 not in (3, 7):
            late.append((number, x))
        if len(late) > 20:
            old, old_x = late.pop(0)
            made.append(label(old, truth(task, old_x, rng), time_ms, offset=number))
        if number % 100 == 99:
            made.append(control("freeze" if number % 200 == 99 else "unfreeze", time_ms, offset=number))
    return made


def pipeline_of(task: str, model: str) -> Pipeline:
    watched: dict[str, Any] = {"features": {"x": "ADWIN()"}, "score": "PageHinkley()", "reference_size": 50}
    return small(task, model=model, drift={**watched, "warmup_labels": 10})


def fold(here: Shard, given: list[Record]) -> str:
    """The digest of everything that these records make."""
    encode = Encoder(here.pipeline, here.number).encode
    return digest(encode(output) for record in given for output in step(here, record))


def state(here: Shard) -> bytes:
    """The digest of what is kept."""
    return frozen_digest(here.pipeline, here.number, dump(here))


@pytest.mark.parametrize(("task", "model"), MODELS)
def test_a_thawed_shard_behaves_as_the_one_that_was_frozen(task: str, model: str) -> None:
    pipeline = pipeline_of(task, model)
    here = Shard(pipeline, 0)
    fold(here, records(task, 230))
    frozen = dump(here)
    there = load(pipeline, 0, frozen)
    assert here.counts["learned"] > 50
    assert there.counts == here.counts
    assert there.summary() == here.summary()
    more = records(task, 300, first=230)
    before = len(more) // 2
    assert fold(there, more[:before]) == fold(here, more[:before])
    there = load(pipeline, 0, dump(there))
    assert fold(there, more[before:]) == fold(here, more[before:])
    assert state(there) == state(here)
    assert state(load(pipeline, 0, frozen)) != state(here)  # it can tell states apart


def test_a_generator_that_no_model_uses_is_not_kept() -> None:
    """River seeds it from the system's entropy: the bytes of equal states would differ, and be large."""
    first, second = (Shard(pipeline_of("multiclass", f"{SELECTED} | GaussianNB()"), 0) for _ in range(2))
    for here in (first, second):
        fold(here, records("multiclass", 100))
    frozen = dump(first)
    assert b"_rng" not in frozen
    assert len(frozen) == len(dump(second))
    assert b"_rng" in pickle.dumps(first.learner)


def test_freezing_changes_nothing() -> None:
    pipeline = pipeline_of(*MODELS[0])
    here, undisturbed = Shard(pipeline, 0), Shard(pipeline, 0)
    for part in range(3):
        given = records("binary", 50, first=50 * part)
        assert fold(here, given) == fold(undisturbed, given)
        dump(here)


def test_everything_a_shard_holds_is_kept_or_made_from_the_pipeline() -> None:
    """A member that is added to the shard must be kept, or it is lost at the next start."""
    made_anew = {"pipeline", "number", "terms", "assumed", "life", "labels_max", "ladder", "alarms_max", "places"}
    assert set(vars(Shard(small(), 0))) == set(freeze.KEPT) | made_anew


def test_a_good_copy_of_the_model_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.model.learner.COPY_EVERY", 5)
    here = Shard(small(), 0)
    fold(here, records("binary", 60))
    there = load(here.pipeline, 0, dump(here))
    for one in (here, there):
        one.learner.fall_back()
    more = records("binary", 60, first=60)
    assert fold(there, more) == fold(here, more)
    assert there.learner.generation == 1


# -- what is refused


class Gadget:
    """Asks for a call when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class _Duck:
    """Looks like a pipeline, and is none."""

    model = "os:getcwd"
    task = "binary"
    seed = 1


def thawed(gadget: object) -> Shard:
    return load(small(), 0, pickle.dumps(dict.fromkeys(freeze.KEPT, gadget), protocol=5))


FUNCTIONS: list[Callable[..., Any]] = [
    os.system,
    os.getcwd,
    subprocess.Popen,
    eval,
    exec,
    compile,
    open,
    io.open_code,
    print,
    __import__,
    importlib.import_module,
    shutil.rmtree,
    codecs.open,
    operator.attrgetter,
    operator.methodcaller,
    functools.reduce,
    map,
    setattr,
    delattr,
    vars,
    pickle.loads,
    Path,
    np.load,
    np.fromfile,
    np.memmap,
    np.lib.npyio.DataSource,
    np.loadtxt,
    river.stream.iter_csv,
    river.stream.Cache,
    river.datasets.Phishing,
    river.datasets.CreditCard,
    building.build_model,
    building.make_model,
    building.call_factory,
    freeze.load,
    reader.Thaw,
    Shard,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: f"{one.__module__}.{one.__qualname__}")
def test_a_pickle_that_would_call_something_is_refused_before_it_does(function: Callable[..., Any]) -> None:
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(function, "touched", "os", "system"))


def test_the_builder_of_user_factories_is_no_way_in(tmp_path: Path) -> None:
    """It imports and calls what it is told to: the very thing that the allowlist is for."""
    touched = tmp_path / "touched"
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(building.call_factory, "os", "system", f"touch {touched}"))
    assert not touched.exists()


def test_an_array_over_a_file_is_no_way_out(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(np.memmap, str(touched), "uint8", "w+", 0, (4,)))
    assert not touched.exists()


def test_a_learner_is_made_of_a_real_pipeline_only() -> None:
    with pytest.raises(InvariantError):
        Learner(_Duck())  # type: ignore[arg-type]  # what a pickle could hold


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("river.base.base", "inspect.sys"),
        ("river.compose.pipeline", "functools.reduce"),
        ("river.compose.pipeline", "base.Estimator"),
        ("driftline.core.model.learner", "build_model"),
        ("driftline.core.model.learner", "pickle.loads"),
        ("driftline.core.model.learner", "base"),
        ("driftline.core.record", "Struct.__init_subclass__"),
        ("driftline.core.drift.monitors", "DriftMonitors.of"),
        ("numpy", "core.os.system"),
        ("numpy.random", "mtrand.os"),
        ("scipy.io", "netcdf_file"),
        ("appendix.core", "x"),
        ("riverbed", "x"),
        ("builtins", "eval"),
    ],
)
def test_a_name_that_walks_elsewhere_is_refused(module: str, name: str) -> None:
    """Written by hand, as `pickle` itself would not."""
    told = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93."
    with pytest.raises(SnapshotError):
        load(small(), 0, told)


@pytest.mark.parametrize(
    ("owner", "name"),
    [("text", "format"), ([], "append"), (Learner, "attach"), (random.Random(1), "seed"), ({}, "update")],
)
def test_bound_methods_are_rivers_only(owner: object, name: str) -> None:
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(getattr, owner, name))


def test_bound_methods_of_river_are_not_the_dunder_ones() -> None:
    model = building.make_model("LogisticRegression()", {}, 1)
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(getattr, model, "__class__"))
    with pytest.raises(SnapshotError, match="not on the allowlist"):
        thawed(Gadget(getattr, model, "__reduce_ex__"))


@pytest.mark.parametrize("frozen", [b"", b"\x80", b"no pickle", b"\x80\x05.", dump(Shard(small(), 0))[:-20]])
def test_torn_bytes_are_refused(frozen: bytes) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        load(small(), 0, frozen)


@pytest.mark.parametrize("kept", [None, [], {}, {"learner": 1}, dict.fromkeys([*freeze.KEPT, "more"])])
def test_another_set_of_parts_is_refused(kept: object) -> None:
    with pytest.raises(SnapshotError, match="has not the parts"):
        load(small(), 0, pickle.dumps(kept))
