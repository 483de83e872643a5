"""Whether a model suits a task and an event's features, as far as can be known without an event.

River's base classes say what a model answers (a class, a number, an anomaly score). Which features a model
reads is known where its branches start with a Select; where one does not, it reads all of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from river import active, base, compose, feature_extraction, preprocessing, reco

from driftline.core.river import timed
from driftline.core.river.baseline import EchoClassifier, EchoRegressor
from driftline.core.river.building import has_probabilities, last_step
from driftline.core.river.select import Select
from driftline.core.task.base import Task

_KINDS: tuple[tuple[Any, str], ...] = (
    (base.AnomalyDetector, "an anomaly detector"),
    (base.SupervisedAnomalyDetector, "an anomaly detector that needs the label to score"),
    (base.AnomalyFilter, "an anomaly filter"),
    (active.base.ActiveLearningClassifier, "an active learner, which does not return plain classes"),
    (base.MultiLabelClassifier, "a multi-label classifier"),
    (base.MultiTargetRegressor, "a multi-target regressor"),
    (reco.base.Ranker, "a recommender, which needs users and items"),
    (base.Classifier, "a classifier"),
    (base.Regressor, "a regressor"),
    (base.Clusterer, "a clusterer"),
    (base.BaseTransformer, "a transformer, which does not predict"),
)
_NEVER = (  # what they answer is not a single prediction, whatever else they are
    active.base.ActiveLearningClassifier,
    base.MultiLabelClassifier,
    base.MultiTargetRegressor,
    reco.base.Ranker,
)


def unfit(model: Any, task: Task) -> list[str]:
    """Why the task cannot use this model; empty when it can."""
    last = last_step(model)
    faults = timed.faults(model)
    faults += [
        f"step {name!r} is {_kind(step)}; only the last step may predict, the others must be transformers"
        for name, step in _misplaced(model)
    ]
    never = isinstance(last, _NEVER) and not (task.slates and isinstance(last, reco.base.Ranker))
    if never or not task.models.suits(last):
        wanted = f"task {task.name} needs {task.models.wants}"
        faults.append(f"its last step is {type(last).__name__}, {_kind(last)}; {wanted}")
    elif (fault := task.models.refuses(last)) is not None:
        faults.append(fault)
    return faults


def without_probabilities(model: Any, task: Task) -> bool:
    """Whether it is a classifier that gives classes only."""
    return task.classes and isinstance(last_step(model), base.Classifier) and not has_probabilities(model)


def _kind(part: Any) -> str:
    for kind, words in _KINDS:
        if isinstance(part, kind):
            return words
    return "not a model"


def _misplaced(model: Any) -> Iterator[tuple[str, Any]]:
    """Steps before the last one that are not transformers."""
    if not isinstance(model, compose.Pipeline):
        return
    steps = list(model.steps.items())
    for name, step in steps[:-1]:
        if isinstance(step, compose.Pipeline):
            last = last_step(step)
            if not isinstance(last, base.BaseTransformer):
                yield name, last
        elif not isinstance(step, base.BaseTransformer | base.AnomalyFilter):
            yield name, step
    yield from _misplaced(steps[-1][1])


def features_read(model: Any) -> tuple[str, ...] | None:
    """The features that the model selects; None when it reads all that there are."""
    match model:  # pipelines first: River's isinstance() answers for them as for their last step
        case compose.Pipeline() if len(model):
            return features_read(next(iter(model.steps.values())))
        case Select():
            return model.keys
        case compose.TransformerUnion():
            names: list[str] = []
            for branch in model.transformers.values():
                read = features_read(branch)
                if read is None:
                    return None
                names += read
            return tuple(dict.fromkeys(names))
    return None


def features_named(model: Any) -> Iterator[tuple[str, Hashable]]:
    """Names of features of the event that the model's first steps ask for, each with who asks."""
    match model:  # pipelines first: River's isinstance() answers for them as for their last step
        case compose.Pipeline() if len(model):
            yield from features_named(next(iter(model.steps.values())))
        case Select():
            yield from ((f"Select({name!r})", name) for name in model.keys)
        case compose.Discard():
            yield from ((f"Discard({name!r})", name) for name in sorted(model.keys, key=str))
        case compose.TransformerUnion():
            for branch in model.transformers.values():
                yield from features_named(branch)
        case compose.Grouper():
            yield from (("Grouper", name) for name in model.by)
            yield from features_named(model.transformer)
        case feature_extraction.TargetAgg():  # before Agg, which it is: it aggregates the label, no feature
            yield from (("TargetAgg", name) for name in model.by or ())
        case feature_extraction.Agg():
            yield from (("Agg", name) for name in [model.on, *(model.by or ())])
        case EchoClassifier() | EchoRegressor():
            yield type(model).__name__, model.on
        case feature_extraction.BagOfWords() if model.on is not None:  # TFIDF too
            yield type(model).__name__, model.on
        case preprocessing.StatImputer():
            yield from (("StatImputer", name) for name in model.imputers)
