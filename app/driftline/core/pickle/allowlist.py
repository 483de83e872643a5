"""What a state or a model file may hold, by exact names, and how each of it is made.

Four tables, for `core.pickle.reader`:

* River's classes (`core.pickle.river_classes`) and our own (`OWN`): plain objects. Their constructors are never called,
  and their state is a dict of attributes, or goes through a `__setstate__` that was read and found to do no more.
* River's parts in Rust: made with plain numbers, and given the bytes that they gave.
* Containers, dates, random generators and numpy's arrays: what they may be given is checked here, each on its own
  (`core.pickle.container`), so that nothing is computed, imported or made larger than the bytes that stand for it.
* Functions that are attributes of River's models. They are never called while a state is read.

Of a model that the operator's own factory makes, what the bytes of the untrained model name is added, and the classes
that stand in the same modules of his: see `of_factory`. None of it comes from what is read.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, Final

from msgspec import Struct

from driftline.core.moved import MOVED
from driftline.core.notation import is_factory
from driftline.core.pickle import container
from driftline.core.pickle.container import Method
from driftline.core.pickle.reader import Admitted, Put, check_names, fill, refused
from driftline.core.pickle.river_classes import RIVER
from driftline.core.pickle.writer import pickled
from driftline.core.pipeline import Pipeline
from driftline.core.task.build import build_model

OWN: Final[dict[str, str]] = {
    "river.arrival": "Arrivals",
    "river.baseline": "EchoClassifier EchoRegressor",
    "budget": "Budget Period",
    "river.calibration": "Brier ECE",
    "label.cause": "Leap Probe",
    "shard.command": "Commands",
    "river.curve": "AveragePrecision ROCAUC",
    "drift.monitors": "DriftMonitors",
    "label.early": "EarlyLabels Held",
    "guard.distribution": "Outputs",
    "guard.kept": "Kept",
    "guard.quarantine": "Copies Pair Quarantine Seen",
    "guard.second": "Second",
    "guard.suspicion": "Suspicion",
    "alert.episode": "Episode Episodes Moment Notice Sign Was",
    "metric.culprit": "Errors",
    "metric.evaluation": (
        "Confusion Evaluation _AbsoluteError _Accuracy _Binned _Counts _CrossEntropy _LogLoss _Mean _Replayed "
        "_RootSquaredError _RootSquaredLogError _Rows _SquaredError"
    ),
    "drift.feature": "CategoryWatch MissingWatch SeasonWatch ValueWatch VocabularyWatch",
    "label.ledger": "Ledger",
    "shard.upload": "Loading",
    "metric.account": "Account",
    "metric.kpi": "Kpi Kpis Span",
    "metric.maturity": "Delays Expected Maturity",
    "model.learner": "Learner",
    "drift.monitor": "Chosen Drift Flipped Monitor Move",
    "output": (
        "Alert Decision Forecast HeldBack ModelVersion Outcome Prediction Rejected Score Spent Stakes Trip Unserved"
    ),
    "fault": "Faults",
    "river.learning_rate": "Boosted",
    "river.amount": "Logarithms LogTargetRegressor",
    "drift.reaction": "Background Reaction Reactor",
    "forecast.board": "Board",
    "forecast.forecasts": "Forecasts",
    "forecast.interval": "Intervals",
    "river.ahead": "Direct PerSeries",
    "record": "Chunk Control Event Label Malformed Passed Source Tick",
    "drift.reference": "Reference Season",
    "river.select": "Select",
    "river.items": "LinearItems Popularity",
    "river.seasonal": "SeasonalNaive SeasonalRegression",
    "river.reward": "ClickRate Coverage Explored Hit NDCG PopularityReward Reward Uplift",
    "recommend.recommender": "Recommender",
    "label.unmatched": "Mark Silence Strays",
    "drift.change_point": "Trail",
    "label.pending": "Settled Waiting",
    "alert.watch": "Block Shares Verdict Watch",
}
"""By module within `core`, the names of classes. One that is added to the state is added here."""

_FUNCTIONS: Final[dict[str, str]] = {
    "river._river_rust.vectordict": "euclidean_distance_dict euclidean_distance_tuple",
    "river.feature_extraction.vectorize": (
        "find_all_ngrams remove_stop_words strip_accents_unicode tokenize_using_regex_pattern"
    ),
    "river.forest.online_extra_trees": "ExtraTrees._detection_mode_all ExtraTrees._detection_mode_off",
    "river.metrics.mutual_info": "_average_arithmetic _average_geometric _average_max _average_min",
    "river.naive_bayes.gaussian": "GaussianNB._make_gaussian",
    "river.tree.splitter.ebst_splitter": (
        "EBSTNode._update_estimator_multivariate EBSTNode._update_estimator_univariate"
    ),
    "river.tree.splitter.nominal_splitter_reg": (
        "NominalSplitterReg._update_estimator_multivariate NominalSplitterReg._update_estimator_univariate"
    ),
    "river.utils.math": "minkowski_distance",
}
_METHODS: Final[dict[str, str]] = {  # of one of River's objects, as an attribute of one
    "bandit.thompson.ThompsonSampling": "_clone_reward_obj_with_seed",
    "drift.dummy.DummyDriftDetector": "_fixed_trigger _random_trigger",
    "drift.page_hinkley.PageHinkley": "_test_both _test_down _test_up",
    "ensemble.bagging.LeveragingBaggingClassifier": (
        "_leveraging_bag _leveraging_bag_half _leveraging_bag_me _leveraging_bag_wt _leveraging_bag_sub"
    ),
    "feature_extraction.kernel_approx.RBFSampler": "_random_weights",
    "linear_model.pa.PAClassifier": "_calc_tau_0 _calc_tau_1 _calc_tau_2",
    "linear_model.pa.PARegressor": "_calc_tau_0 _calc_tau_1 _calc_tau_2",
    "metrics.accuracy.Accuracy": "clone",
    "metrics.mae.MAE": "clone",
    "multiclass.occ.OutputCodeClassifier": "_next_code",
    "preprocessing.random_projection.GaussianRandomProjector": "_rand_gauss",
    "preprocessing.random_projection.SparseRandomProjector": "_rand_weights_for_feature",
    "preprocessing.scale_target.TargetMinMaxScaler": "_scale _unscale",
    "preprocessing.scale_target.TargetStandardScaler": "_scale _unscale",
    "stats.mean.Mean": "clone",
}
_RUST: Final[dict[str, str]] = {
    "drift": "AdaptiveWindowing",
    "stats": (
        "RsEWMean RsEWVar RsIQR RsKurtosis RsPeakToPeak RsQuantile RsRollingIQR RsRollingPRAUC RsRollingQuantile "
        "RsRollingROCAUC RsSkew"
    ),
}
_STATEFUL: Final = frozenset({"MaxAbsScaler", "MinMaxScaler", "StandardScaler"})  # their __setstate__ adds one default
_TREES: Final = ("river.tree.", "river.stats.kolmogorov_smirnov", "river.forest.")
_SEASONAL: Final = "AdditiveLevel AdditiveSeason MultiplicativeLevel MultiplicativeSeason Trend"
_NEVER: Final = frozenset(
    {"driftline", "numpy", "river", "scipy", *sys.stdlib_module_names}
)  # have tables, or none at all


@cache
def common() -> Admitted:
    """What every state may hold."""
    admitted = Admitted()
    for module, name, kind in _classes("driftline.core.", OWN):
        _admit_own(admitted, module, name, kind)
    for module, name, kind in _classes("river.", RIVER):
        _admit_plain(admitted, module, name, kind, _set_state if kind.__name__ in _STATEFUL else fill)
        if module.startswith(_TREES):
            admitted.trees.add(id(kind))
    for module, name, kind in _classes("river._river_rust.", _RUST):
        admitted.names[module, name] = kind
        admitted.news[id(kind)] = container.rust_maker(kind)
        admitted.windows.add(id(kind))
        admitted.states[id(kind)] = container.put_bytes
    for _, _, kind in _classes("river.time_series.", {"holt_winters": _SEASONAL}):
        admitted.calls[id(kind)] = container.seasonal_maker(kind)
        admitted.lists.add(kind)
    for module, names in _FUNCTIONS.items():
        for name in names.split():
            if (found := _found(module, name)) is not None:
                admitted.names[module, name] = found
    container.admit(admitted, dict(_methods()))
    for (module, name), kind in list(admitted.names.items()):
        for former in MOVED.get(module, ()):
            admitted.names[former, name] = kind
    return admitted


def admitted_for(pipeline: Pipeline) -> Admitted:
    """What a state of this pipeline may hold."""
    return of_factory(pipeline) if is_factory(pipeline.model) else common()


def of_factory(pipeline: Pipeline) -> Admitted:
    """What every state may hold, and what the model of the operator's own factory is made of.

    That are the names in the bytes of the model that his factory makes now, untrained, and the plain classes of the
    modules that these stand in, which it may come to hold as it learns.
    """
    admitted = common().extended()
    model = build_model(pipeline)
    modules: dict[str, None] = {}
    for module, name in _names_in(pickled(model)):
        if (module, name) in admitted.names or module.partition(".")[0] in _NEVER:
            continue
        found = _found(module, name)
        modules[module] = None
        if isinstance(found, type):
            _admit_users(admitted, module, name, found)
        elif found is not None:
            admitted.names[module, name] = found
            admitted.calls[id(found)] = container.caller(found)
    for module in modules:
        for name, kind in list(vars(sys.modules[module]).items()):
            plain = isinstance(kind, type) and kind.__module__ == module and kind.__qualname__ == name
            if plain and (module, name) not in admitted.names and kind.__new__ is object.__new__:
                _admit_users(admitted, module, name, kind)
    return admitted


def _names_in(content: bytes) -> Iterator[tuple[str, str]]:
    """What the bytes of a pickle of our own making name."""
    texts: list[str] = []
    memo: list[str | None] = []
    last: str | None = None
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name.endswith("BINUNICODE"):
            texts.append(last := str(argument))
        elif instruction.name == "MEMOIZE":
            memo.append(last)
        elif instruction.name in ("BINGET", "LONG_BINGET") and isinstance(argument, int):
            if (recalled := memo[argument]) is not None:
                texts.append(recalled)
        elif instruction.name == "STACK_GLOBAL":
            yield texts[-2], texts[-1]
            last = None
        else:
            last = None
        del texts[:-2]


def _admit_own(admitted: Admitted, module: str, name: str, kind: Any) -> None:
    if issubclass(kind, Struct):
        admitted.names[module, name] = kind
        admitted.calls[id(kind)] = container.caller(kind)
        admitted.loose.add(id(kind))
    elif issubclass(kind, dict):
        admitted.names[module, name] = kind
        admitted.calls[id(kind)] = container.empty_maker(kind)
        admitted.states[id(kind)] = fill
        admitted.maps.add(kind)
    else:
        _admit_plain(admitted, module, name, kind, _set_state if hasattr(kind, "__setstate__") else fill)


def _admit_plain(admitted: Admitted, module: str, name: str, kind: Any, put: Put) -> None:
    admitted.names[module, name] = kind
    admitted.news[id(kind)] = container.bare_maker(kind)
    admitted.states[id(kind)] = put


def _admit_users(admitted: Admitted, module: str, name: str, kind: type) -> None:
    """A class of the operator's own: his code, and made as he wrote it."""
    admitted.names[module, name] = kind
    admitted.news[id(kind)] = lambda given: kind.__new__(kind, *given)
    admitted.calls[id(kind)] = container.caller(kind)
    admitted.states[id(kind)] = _set_state if hasattr(kind, "__setstate__") else fill
    if issubclass(kind, dict):
        admitted.maps.add(kind)
    if issubclass(kind, list):
        admitted.lists.add(kind)


def _set_state(target: Any, state: Any) -> None:
    if type(state) not in (dict, tuple, list, bytes):
        raise refused(f"put a {type(state).__name__} into a {type(target).__name__}")
    if type(state) is dict:
        check_names(state)
    target.__setstate__(state)


def _classes(package: str, table: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    """Those of a table that the installed version has."""
    for module, names in table.items():
        for name in names.split():
            if isinstance(found := _found(package + module, name), type):
                yield package + module, name, found


def _methods() -> Iterable[tuple[type, Method]]:
    for path, names in _METHODS.items():
        module, _, name = path.rpartition(".")
        if isinstance(kind := _found(f"river.{module}", name), type):
            yield kind, frozenset(names.split())


def _found(module: str, name: str) -> Any:
    """What a name in one of the tables above stands for; None where the installed version has it not."""
    try:
        found: Any = import_module(module)
    except ImportError:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None
