"""From a pipeline to its untrained model, in the form in which its task uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.river import building
from driftline.core.task import task_of

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline


def build_model(pipeline: Pipeline) -> Any:
    """A fresh, untrained model.

    Raises:
        ExpressionError: the expression or factory is wrong.
        UnseededError: a part draws random numbers that no seed controls.
    """
    model = building.build_model(pipeline)
    if not task_of(pipeline.task).slates:
        return model
    from driftline.core.recommend.recommender import Recommender

    made = Recommender(model, pipeline.recommend.items_max if pipeline.recommend is not None else 1)
    made.configure(pipeline)
    return made
