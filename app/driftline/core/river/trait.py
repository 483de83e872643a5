"""What River asks of every metric of ours, answered once."""

from __future__ import annotations

from river import base, metrics


class Trait(metrics.base.Metric):
    """A metric of scores, not of classes: each pair counts once, and more is better unless a metric says otherwise."""

    _fmt = ""

    @property
    def requires_labels(self) -> bool:
        return False

    @property
    def bigger_is_better(self) -> bool:
        return True

    @property
    def works_with_weights(self) -> bool:
        return False

    def works_with(self, model: base.Estimator) -> bool:
        return True
