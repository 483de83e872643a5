"""From the expressions of a pipeline to River's objects, seeded.

A model that the expression language cannot say comes from a factory, `package.module:function`: it is imported
and called, with the pipeline's params if it takes an argument, and must return a River model.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import sysconfig
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from river import base, compose, drift, metrics, utils
from river.tree import hoeffding_tree

from driftline.core.digest import DigestError, size_of
from driftline.core.error import ExpressionError, UnseededError
from driftline.core.notation import FACTORY
from driftline.core.river import accent  # noqa: F401 - puts ours in River's place
from driftline.core.river.ahead import Direct, PerSeries, keeps_series
from driftline.core.river.calibration import CALIBRATION_METRICS
from driftline.core.river.curve import OWN_METRICS
from driftline.core.river.expression import RIVER, build
from driftline.core.river.reward import SLATE_METRICS
from driftline.core.river.seasonal import SeasonalNaive, SeasonalRegression
from driftline.core.river.seed import Seeds, differing_part, fill_seeds

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline, Scalar

METRICS = RIVER.including({**OWN_METRICS, **CALIBRATION_METRICS, **SLATE_METRICS})
_NO_DETECTORS = {"binary", "datasets", "DriftRetrainingClassifier"}  # of what River's `drift` exports
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def tree_size(obj: Any, unit: str = "byte") -> int:
    """Bytes that a Hoeffding tree, or a leaf of it, takes.

    Trees stop growing by their size, looked at once in a million pairs or as their parameter says. By `sys.getsizeof`,
    as River measures it, a shard that was recovered would go another way than the one that served.
    """
    return size_of(obj)


vars(hoeffding_tree)["calculate_object_size"] = tree_size


def build_model(pipeline: Pipeline) -> Any:
    """A fresh, untrained model.

    Raises:
        ExpressionError: the expression or factory is wrong.
        UnseededError: a part draws random numbers that no seed controls.
    """
    form = pipeline.forecast
    if form is None:
        return make_model(pipeline.model, pipeline.params, pipeline.seed)
    made = make_model(pipeline.model, pipeline.params, pipeline.seed)
    if isinstance(made, SeasonalNaive | SeasonalRegression):
        made.begin(form.horizons, len(form.declared(pipeline.event.features)) + len(form.known_ahead))
        return made
    if keeps_series(made):
        return PerSeries(made, form.horizons, form.series_max)
    more = range(1, form.horizons if form.models == "per_horizon" else 1)
    return Direct([made, *(make_model(pipeline.model, pipeline.params, pipeline.seed) for _ in more)], form.horizons)


def build_detector(expression: str, pipeline: Pipeline) -> Any:
    """A fresh drift detector (River's `drift` and `drift.binary`)."""
    return make_detector(expression, pipeline.params, pipeline.seed)


def build_metric(expression: str, pipeline: Pipeline) -> Any:
    """A fresh metric; our own stand for River's of the same name."""
    return make_metric(expression, pipeline.params)


def make_model(model: str, params: Mapping[str, Scalar], seed: int) -> Any:
    """`build_model` for parts of a pipeline that is not whole yet."""
    seeds = Seeds(seed)
    match = FACTORY.fullmatch(model.strip())
    made = call_factory(match[1], match[2], dict(params)) if match else build(model, params, RIVER, seeds)
    if not isinstance(made, base.Estimator):
        raise ExpressionError(f"makes a {type(made).__name__}, which is not a model; write one of River's estimators")
    fill_seeds(made, seeds)
    return made


def check_seeded(model: str, params: Mapping[str, Scalar], seed: int) -> None:
    """Make the model twice: two that differ hold random numbers that were drawn before a seed could be filled in.

    Raises:
        UnseededError: they differ; the text names the part.
    """
    try:
        place = differing_part(make_model(model, params, seed), make_model(model, params, seed))
    except DigestError:
        return  # it cannot be compared; the proof of `driftline check` folds records through it instead
    if place is not None:
        raise UnseededError(f"{place}: draws random numbers in its constructor; give it a seed=...")


def make_detector(expression: str, params: Mapping[str, Scalar], seed: int) -> Any:
    """`build_detector` for parts of a pipeline that is not whole yet."""
    seeds = Seeds(seed)
    made = build(expression, params, RIVER, seeds)
    if not isinstance(made, base.DriftDetector | base.BinaryDriftDetector):
        names = [*drift.__all__, *(f"binary.{name}" for name in drift.binary.__all__)]
        kinds = ", ".join(name for name in names if name not in _NO_DETECTORS)
        raise ExpressionError(f"makes a {type(made).__name__}, which is not a drift detector; allowed are {kinds}")
    fill_seeds(made, seeds)
    return made


def make_metric(expression: str, params: Mapping[str, Scalar]) -> Any:
    """`build_metric` for parts of a pipeline that is not whole yet."""
    made = build(expression, params, METRICS)
    if isinstance(made, utils.Rolling | utils.TimeRolling):
        raise ExpressionError("write only the metric: every metric also has a rolling value, over metric_window labels")
    if not isinstance(made, metrics.base.Metric):
        raise ExpressionError(
            f"makes a {type(made).__name__}, which is not a metric; write one of River's, as in Accuracy"
        )
    return made


def last_step(model: Any) -> Any:
    """The estimator that answers: the last step of a pipeline, however deep."""
    while isinstance(model, compose.Pipeline) and len(model):
        model = list(model.steps.values())[-1]
    return model


def has_probabilities(model: Any) -> bool:
    """Whether a classifier gives probabilities: its class may define them, and those that it wraps decide."""
    estimator = last_step(model)
    if not isinstance(estimator, base.Classifier):
        return False
    if type(estimator).predict_proba_one is base.Classifier.predict_proba_one:
        return False
    try:
        copy.deepcopy(model).predict_proba_one({})
    except NotImplementedError:
        return False
    except Exception:  # noqa: BLE001 - an empty event suits few models; only the refusal above is an answer
        return True
    return True


def call_factory(module_name: str, function_name: str, params: dict[str, Any]) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ExpressionError(
            f"the factory's module {module_name!r} cannot be imported ({error}{_where(error)}); it must be installed, "
            "or be in the folder where the command is started"
        ) from error
    except Exception as error:  # the user's own code, which may raise anything
        text = error.msg if isinstance(error, SyntaxError) else error
        raise ExpressionError(
            f"the factory's module {module_name!r} raised {type(error).__name__}: {text}{_where(error)}"
        ) from error
    factory = getattr(module, function_name, None)
    if not callable(factory):
        raise ExpressionError(f"{module_name!r} has no function {function_name!r}; define it, or correct the name")
    try:
        takes_params = len(inspect.signature(factory).parameters) > 0
        return factory(params) if takes_params else factory()
    except MemoryError:  # no fault of its lines
        raise
    except Exception as error:  # the user's own code, which may raise anything
        where = _where(error)
        if not where and isinstance(error, TypeError):
            where = "; it is called with the dict of `params`, or without arguments"
        raise ExpressionError(
            f"the factory {module_name}:{function_name} raised {type(error).__name__}: {error}{where}"
        ) from error


def _where(error: BaseException) -> str:
    """The line of the user's own code at which it was raised: the last one outside installed packages."""
    if isinstance(error, SyntaxError) and error.filename:
        return f", line {error.lineno} of {error.filename}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_installed(frame.filename)]
    return f", line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""


def _is_installed(filename: str) -> bool:
    """Whether code is Python's, a package's or our own."""
    return filename.startswith(("<", *_INSTALLED, __file__))
