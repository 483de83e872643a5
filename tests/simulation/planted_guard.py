"""Faults in what is served, learned and counted, for `planted`: guard, reviews, quarantine, corrections and KPIs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from msgspec import structs

from driftline.core.fold import feedback, learning
from driftline.core.guard.ahead import _Climb
from driftline.core.guard.quarantine import Pair, Quarantine
from driftline.core.guard.second import Second
from driftline.core.label.pending import Waiting
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard


@contextmanager
def released_pair_learned_twice() -> Iterator[None]:
    """A pair that is released is learned, and once more."""

    def learn_late(shard: Shard, pair: Pair, out: Outbox) -> bool:
        right(shard, pair, out)
        return right(shard, pair, out)

    right = learning._learn_late
    with patch.object(learning, "_learn_late", learn_late):
        yield


@contextmanager
def dropped_pair_learned() -> Iterator[None]:
    """What is dropped is counted as dropped, and learned all the same."""

    def decide(shard: Shard, why: str, control: Any, out: Outbox) -> None:
        pairs = list(shard.quarantine.held)
        right(shard, why, control, out)
        for pair in pairs if shard.counts.get("quarantine_dropped") else ():
            learning._learn_late(shard, pair, out)

    right = learning._decide
    with patch.object(learning, "_decide", decide):
        yield


@contextmanager
def corrected_label_still_held() -> Iterator[None]:
    """What is held of a label that was corrected is learned when it is released."""
    with patch.object(Quarantine, "withdraw", lambda self, event_id: 0):
        yield


@contextmanager
def learned_while_an_alert_stops_it() -> Iterator[None]:
    """Alerts of `learning.freeze_on` stop nothing."""
    with patch.object(Shard, "stopped", property(lambda self: False)):
        yield


@contextmanager
def corrected_label_counted_twice_by_the_kpi() -> Iterator[None]:
    """A KPI does not take back the label that is corrected."""
    with patch.object(feedback, "take_back", lambda *args, **kwargs: None):
        yield


@contextmanager
def clipped_forecast_unclipped_at_the_last_horizon() -> Iterator[None]:
    """What the guard clips is clipped at every horizon but the last of several."""

    def put(self: _Climb, place: int, value: float, guard: Any, rung: str) -> None:
        made = self._made.values[place]
        last = place == len(self._values) - 1 > 0 and guard == "clipped"
        right(self, place, made if last and made is not None else value, guard, rung)

    right = _Climb._put
    with patch.object(_Climb, "_put", put):
        yield


@contextmanager
def correction_not_taken_back_from_the_past() -> Iterator[None]:
    """A history of labels keeps the label that was corrected, beside the one in its place."""
    with patch.object(feedback, "_take_back", _without_history(feedback._take_back)):
        yield


@contextmanager
def second_model_learns_while_learning_is_frozen() -> Iterator[None]:
    """An operator's freeze holds the first model alone."""

    def learn(shard: Shard, values: Any, label: Any, output_id: str, time_ms: int, oracle: Any) -> str | None:
        if shard.frozen and shard.second is not None and not shard.terms.ahead:
            learning.learn_beside(shard, shard.second, values, label, output_id, time_ms, oracle)
        return right(shard, values, label, output_id, time_ms, oracle)

    right = learning.learn
    with patch.object(learning, "learn", learn):
        yield


@contextmanager
def second_model_forgotten_at_recovery() -> Iterator[None]:
    """A state that is read back begins with an untrained second model."""
    with patch.object(Second, "loaded", lambda self, kept: self):
        yield


def _without_history(right: Any) -> Any:
    def take_back(shard: Shard, before: Any, waiting: Waiting) -> None:
        right(shard, before, structs.replace(waiting, keys=()))

    return take_back


FAULTS: Sequence[Any] = (
    released_pair_learned_twice,
    dropped_pair_learned,
    corrected_label_still_held,
    learned_while_an_alert_stops_it,
    corrected_label_counted_twice_by_the_kpi,
    clipped_forecast_unclipped_at_the_last_horizon,
    correction_not_taken_back_from_the_past,
    second_model_learns_while_learning_is_frozen,
    second_model_forgotten_at_recovery,
)
