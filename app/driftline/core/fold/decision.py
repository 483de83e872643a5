"""Whether what is served counts as a yes: by the pipeline's threshold, or under its budget of alarms."""

from __future__ import annotations

from driftline.core.output import Prediction, Spent
from driftline.core.shard.state import Shard


def decide(shard: Shard, prediction: Prediction) -> tuple[Prediction, bool | None, Spent | None]:
    """Whether a prediction that is served counts as a yes; None where there is no such decision.

    Under a budget that is what the prediction says then, and the third is how it stood.
    """
    threshold, value, terms = shard.terms.threshold, prediction.value, shard.terms
    if value is None:
        return prediction, None, None
    if threshold is not None:
        return prediction, value >= threshold, None
    if not terms.budgeted:
        return prediction, None, None
    budget, most = shard.budget, shard.alarms_max
    now_ms = max(shard.now_ms + terms.zone_ms, 0)
    yes = budget.decide(value, now_ms, most, terms.per_ms, shard.learner.generation)
    return Prediction(yes, prediction.probabilities, value), yes, budget.spent(most)
