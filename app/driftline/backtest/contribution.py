"""What moved a score: the parts of the event that a model added up, words of a text among them.

A linear model's answer is a sum. Its inputs are followed through the steps before it one by one, each feature and each
word by itself, so that what a word adds has the word's name and not that of the column it was hashed into. That is
right as long as the steps treat their inputs one by one, which is checked; where they do not, columns are shown.

Other models on the words of a text are asked again without each word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isclose, log
from typing import Any, TypeAlias

from msgspec import Struct
from river import compose, feature_extraction, multiclass, preprocessing

from driftline.core.river.amount import LogTargetRegressor

Columns: TypeAlias = dict[Any, Any]
Parts: TypeAlias = list[tuple[str, float, Columns]]  # name, how often, and the columns that it became

_WORDS_MAX = 2_000
_LEAST = 1e-12


class Weight(Struct, frozen=True):
    """What one input adds to a model's answer, before its link function."""

    name: str
    value: float
    weight: float
    adds: float


def weights_of(model: Any, features: Mapping[str, Any]) -> tuple[list[Weight], float | None]:
    """What each input of a linear model adds, the largest part first, and the intercept; what each word moves in
    other models on words, without an intercept; nothing for all others."""
    steps = list(model.steps.values()) if isinstance(model, compose.Pipeline) else [model]
    transformers, last = steps[:-1], steps[-1]
    inputs: Columns = dict(features)
    for step in transformers:
        inputs = step.transform_one(inputs)
    last, scale, shift = _linear(last, inputs)
    weights = getattr(last, "weights", None)
    if not isinstance(weights, Mapping) or not hasattr(last, "intercept"):
        beside = _by_parts(transformers, last, inputs, features)
        return beside or _by_removal(steps, features), None
    parts: Parts = [(str(name), 1.0, {name: value}) for name, value in features.items()]
    for step in transformers:
        parts = _through(step, parts)
    if not _adds_up(parts, inputs):
        parts = [(str(name), 1.0, {name: value}) for name, value in inputs.items()]
    made = [made for part in parts if (made := _weighed(*part, weights, scale)) is not None]
    return sorted(made, key=lambda one: -abs(one.adds)), float(last.intercept) * scale + shift


def _linear(last: Any, inputs: Columns) -> tuple[Any, float, float]:
    """The linear model inside of one that scales the label or asks one a class, and what makes its answer one in the
    label's units: times, plus."""
    if isinstance(last, LogTargetRegressor):  # what is added is the logarithm
        return _linear(last.regressor, inputs)
    if isinstance(last, preprocessing.TargetStandardScaler):
        return last.regressor, last.var.get() ** 0.5, last.var.mean.get()
    if isinstance(last, multiclass.OneVsRestClassifier) and last.classifiers:
        chosen: Any = last.predict_one(inputs)
        return last.classifiers[chosen], 1.0, 0.0
    return last, 1.0, 0.0


def _through(step: Any, parts: Parts) -> Parts:
    """Each part by itself through a step."""
    match step:  # pipelines first: River's isinstance() answers for them as for their last step
        case compose.Pipeline():
            for inner in step.steps.values():
                parts = _through(inner, parts)
            return parts
        case compose.TransformerUnion():
            return [part for branch in step.transformers.values() for part in _through(branch, parts)]
        case feature_extraction.BagOfWords():  # TFIDF too
            everything = {name: value for _, _, columns in parts for name, value in columns.items()}
            words = step.transform_one(everything)
            return [(_shown(word), count, {word: count}) for word, count in words.items()]
    changed = [(name, count, step.transform_one(columns)) for name, count, columns in parts]
    return [(name, count, columns) for name, count, columns in changed if columns]


def _shown(word: Any) -> str:
    """A word, or several that stand beside each other."""
    return " ".join(map(str, word)) if isinstance(word, tuple) else str(word)


def _adds_up(parts: Parts, inputs: Columns) -> bool:
    """Whether the parts together are what the model gets."""
    sums: dict[Any, float] = {}
    for _, _, columns in parts:
        for name, value in columns.items():
            if not isinstance(value, int | float):
                return False
            sums[name] = sums.get(name, 0.0) + value
    names = {*sums, *inputs}
    return all(isclose(sums.get(name, 0.0), inputs.get(name, 0.0), rel_tol=1e-9, abs_tol=1e-12) for name in names)


def _weighed(name: str, count: float, columns: Columns, weights: Mapping[Any, float], scale: float) -> Weight | None:
    numbers = [(column, value) for column, value in columns.items() if isinstance(value, int | float)]
    if not numbers:
        return None
    adds = sum(float(value) * float(weights.get(column, 0.0)) for column, value in numbers) * scale
    numbers = [one for one in numbers if one[1]] or numbers[:1]
    column, value = numbers[0]
    if len(numbers) == 1 and isinstance(column, str):
        return Weight(column, float(value), float(weights.get(column, 0.0)) * scale, adds)
    return Weight(name, float(count), adds / (count or 1.0), adds)


def _by_parts(transformers: Sequence[Any], last: Any, inputs: Columns, features: Mapping[str, Any]) -> list[Weight]:
    """By how much each word and each other input moves the log odds, where texts stand beside other fields."""
    if not any(isinstance(step, compose.TransformerUnion) for step in transformers):
        return []
    parts: Parts = [(str(name), 1.0, {name: value}) for name, value in features.items()]
    for step in transformers:
        parts = _through(step, parts)
    answer = _odds([last], inputs, None)
    if answer is None or not _holds_words(transformers) or len(parts) > _WORDS_MAX or not _adds_up(parts, inputs):
        return []
    label, whole = answer
    made = []
    for name, count, columns in parts:
        left = {column: value - columns.get(column, 0.0) for column, value in inputs.items()}
        rest = _odds([last], {column: value for column, value in left.items() if value}, label)
        if rest is not None:
            moved = whole - rest[1]
            made.append(Weight(name, count, moved / (count or 1.0), moved))
    return sorted(made, key=lambda one: -abs(one.adds))


def _holds_words(steps: Iterable[Any]) -> bool:
    """Whether a text is counted in words somewhere in these steps."""
    for step in steps:
        match step:
            case compose.Pipeline():
                inner: Iterable[Any] = step.steps.values()
            case compose.TransformerUnion():
                inner = step.transformers.values()
            case feature_extraction.BagOfWords():
                return True
            case _:
                continue
        if _holds_words(inner):
            return True
    return False


def _by_removal(steps: Sequence[Any], features: Mapping[str, Any]) -> list[Weight]:
    """By how much each word moves the log odds of the answer: those with it less those without it."""
    if len(steps) < 2 or not isinstance(steps[0], feature_extraction.BagOfWords):
        return []
    words: Columns = steps[0].transform_one(dict(features))
    answer = _odds(steps[1:], words, None)
    if answer is None or len(words) > _WORDS_MAX:
        return []
    label, whole = answer
    made = []
    for word, count in words.items():
        rest = _odds(steps[1:], {other: times for other, times in words.items() if other != word}, label)
        if rest is not None:
            moved = whole - rest[1]
            made.append(Weight(_shown(word), float(count), moved / count, moved))
    return sorted(made, key=lambda one: -abs(one.adds))


def _odds(steps: Sequence[Any], words: Columns, label: Any) -> tuple[Any, float] | None:
    """A class and its log odds: that of yes where there is one, or else the likeliest; None without probabilities."""
    inputs = words
    for step in steps[:-1]:
        inputs = step.transform_one(inputs)
    try:
        shares = steps[-1].predict_proba_one(inputs)
    except (AttributeError, NotImplementedError):  # River: a model without probabilities lacks it, or raises this
        return None
    if not shares:
        return None
    if label is None:
        label = True if True in shares else max(shares, key=lambda one: shares[one])
    share = min(max(shares.get(label, 0.0), _LEAST), 1.0 - _LEAST)
    return label, log(share / (1.0 - share))
