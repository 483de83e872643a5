"""Whether a model writes a zero for every text but one, at every event.

`OneHotEncoder()` makes a column of each value that it has seen, and gives all of them to what follows: an event costs
the more the more values there are. `drop_zeros=True` gives the one column that is 1. A linear model learns the same
from it: a weight times zero adds nothing, and does not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from river import compose, preprocessing

from driftline.core.pipeline import Pipeline
from driftline.core.river.building import build_model
from driftline.core.river.select import Select

_TEXTS = ("string", "text")


def warnings(pipeline: Pipeline) -> Iterator[str]:
    """What a user may write instead, for each such encoder."""
    features = pipeline.event.features
    for names in _with_zeros(build_model(pipeline), tuple(features)):
        texts = [name for name in names if name in features and features[name].type in _TEXTS]
        if texts:
            yield (
                f"OneHotEncoder() on {', '.join(texts)} gives the model a 0 for every other value that it has seen, so "
                "each event costs more with every new value; write OneHotEncoder(drop_zeros=True), from which a linear "
                "model learns the same"
            )


def _with_zeros(part: Any, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The features that reach each encoder of a part of a model that keeps zeros.

    Args:
        names: that reach the part.
    """
    match part:  # pipelines first: River's isinstance() answers for them as for their last step
        case compose.Pipeline():
            for step in part.steps.values():
                yield from _with_zeros(step, names)
                if isinstance(step, Select):
                    names = [name for name in step.keys if name in names]
        case compose.TransformerUnion():
            for branch in part.transformers.values():
                yield from _with_zeros(branch, names)
        case preprocessing.OneHotEncoder() if not part.drop_zeros:
            yield names
