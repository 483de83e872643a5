"""Whether a model that was trained has diverged: what it predicts last has left the labels far behind.

A linear model whose learning rate is too high for its features swings wider with each label: its numbers are finite,
and mean nothing. What it predicts for the last events of its own history shows it, before anyone acts by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from math import inf, isfinite
from typing import Final

from driftline.core.output import MODEL, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Label, Record
from driftline.core.shard.state import Shard
from driftline.core.task import task_of
from driftline.core.wording import plain

LATEST: Final = 100  # predictions; of a forecast, one for each horizon
SHARE: Final = 0.05  # of them, that lie beyond
LABELS_MIN: Final = 50


class Reach:
    """How far labels and the latest predictions reach.

    Args:
        pipeline: of any task; of one without numbers nothing diverges.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        labels = task_of(pipeline.task).labels
        self._numeric = labels.numeric
        self._least, self._most, self._count = inf, -inf, 0
        self._latest: deque[float] = deque(maxlen=LATEST * (pipeline.forecast.horizons if pipeline.forecast else 1))

    def read(self, shard: Shard, record: Record) -> None:
        """A record of the history."""
        if not self._numeric:
            return
        value: object = record.value if isinstance(record, Label) else None
        if isinstance(record, Event) and shard.forecasts is not None:
            value = (shard.forecasts.read(record) or (b"", None))[1]
        if isinstance(value, int | float) and isfinite(value):
            self._least, self._most = min(self._least, value), max(self._most, value)
            self._count += 1

    def scored(self, score: Score) -> None:
        """A prediction: of the model, whatever was served."""
        if not self._numeric:
            return
        served = (score.prediction.value,) if score.forecast is None else score.forecast.values
        made: Sequence[float | None] = ()
        for one in score.unserved:
            if one.name == MODEL:
                made = one.ahead or (one.prediction.value,)
        predicted = [one if one is not None else other for one, other in zip_longest(made, served)]
        self._latest.extend([one for one in predicted if one is not None])

    @property
    def diverged(self) -> str | None:
        """How the model has diverged, in a sentence; None if it has not, or too little was seen to say so."""
        if self._count < LABELS_MIN or not self._latest:
            return None
        span = (self._most - self._least) or abs(self._most) or 1.0
        beyond = [one for one in self._latest if not self._least - span <= one <= self._most + span]
        if len(beyond) < SHARE * len(self._latest):
            return None
        return (
            f"the model has diverged: {len(beyond):,} of its last {len(self._latest):,} predictions lie far outside "
            f"the labels ({plain(self._least)} to {plain(self._most)}), between {plain(min(beyond))} and "
            f"{plain(max(beyond))}; scale its features, lower its learning rate, or use fewer of them"
        )
