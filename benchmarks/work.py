"""What every contender but Driftline does with a record, by kind of model, in plain River.

A loop decodes a record, hands it to one of these, and publishes what comes back. What is joined, learned and predicted
is thus the same for all of them; they differ in how records come and go. Nothing here is kept when the process ends.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from math import log2
from statistics import fmean
from typing import Any

from benchmarks.contender.past import Past

Document = dict[str, Any]


class Work:
    """Events to scores, labels to the model.

    Attributes:
        scored, learned: events and pairs, so far.
        taught: number, features and truth of every pair.
    """

    def __init__(self) -> None:
        self.scored = self.learned = 0
        self.taught: list[tuple[int, Document, Any]] = []

    def done(self, asked: Document) -> bool:
        """Whether all that the benchmark sent is scored and learned."""
        return bool(self.scored >= asked["scored"] and self.learned >= asked["learned"])

    def quality(self) -> float:
        """How good the model is in the end on the last quarter of the pairs, by number.

        What was served while it learned also depends on the order in which the two topics were read.
        """
        last = max((number for number, _, _ in self.taught), default=0)
        return fmean(self.worth(x, truth) for number, x, truth in self.taught if number >= 0.75 * last)

    @abstractmethod
    def worth(self, x: Document, truth: Any) -> float:
        """Of the model's answer now."""

    @abstractmethod
    def event(self, document: Document, time_ms: int) -> Document:
        """The score of an event."""

    @abstractmethod
    def label(self, document: Document, time_ms: int) -> None:
        """What a label teaches."""


class Pairs(Work):
    """A classifier: an event waits for its label, or the label for its event.

    Args:
        names: of the fields that the model sees.
        past: features of the past of each card.
    """

    def __init__(self, model: Any, names: Sequence[str], past: Past | None = None) -> None:
        super().__init__()
        self._model, self._names, self._past = model, names, past
        self._waiting: dict[int, Document] = {}
        self._early: dict[int, bool] = {}
        self._cards: dict[int, int] = {}

    def event(self, document: Document, time_ms: int) -> Document:
        event_id = document["id"]
        x = {name: document[name] for name in self._names}
        if self._past is not None:
            self._past.complete(x, document["card"], time_ms)
            self._cards[event_id] = document["card"]
        probability = self._model.predict_proba_one(x).get(True, 0.0)
        self.scored += 1
        if event_id in self._early:
            self._learn(event_id, x, self._early.pop(event_id), time_ms)
        else:
            self._waiting[event_id] = x
        return {"event_id": event_id, "probability": probability}

    def label(self, document: Document, time_ms: int) -> None:
        event_id, truth = document["id"], bool(document["label"])
        known = self._waiting.pop(event_id, None)
        if known is None:
            self._early[event_id] = truth
        else:
            self._learn(event_id, known, truth, time_ms)

    def _learn(self, event_id: int, x: Document, truth: bool, time_ms: int) -> None:
        if self._past is not None:
            self._past.label(self._cards.pop(event_id), time_ms, truth)
        self._model.learn_one(x, truth)
        self.learned += 1
        self.taught.append((event_id, x, truth))

    def worth(self, x: Document, truth: Any) -> float:
        return float((self._model.predict_proba_one(x).get(True, 0.0) > 0.5) == truth)


class Series(Work):
    """A model for each series, which learns an observation and forecasts what follows.

    Args:
        made: gives a new model.
        known: observations of a series before it is forecast.
    """

    def __init__(self, made: Callable[[], Any], horizons: int, known: int) -> None:
        super().__init__()
        self._models: dict[str, Any] = defaultdict(made)
        self._seen: dict[str, int] = defaultdict(int)
        self._horizons, self._known = horizons, known

    def event(self, document: Document, time_ms: int) -> Document:
        series = document["series"]
        model = self._models[series]
        model.learn_one(document["load"])
        self.learned += 1
        self.scored += 1
        self._seen[series] += 1
        values = model.forecast(horizon=self._horizons) if self._seen[series] >= self._known else None
        return {"event_id": document["id"], "values": values}

    def label(self, document: Document, time_ms: int) -> None:
        raise ValueError("a forecast has no labels")

    def quality(self) -> float:
        """A model for each series: what they hold is the same however series are mixed."""
        levels = [model.forecast(horizon=1)[0] for model in self._models.values()]
        return fmean(levels) / 100

    def worth(self, x: Document, truth: Any) -> float:
        raise ValueError("forecasts are judged as they were served")


class Slates(Work):
    """A classifier of clicks: items in the order of their odds; a request is learned when its wait is over.

    Time passes where all partitions of both topics have come to it: any other rule would end the wait of requests whose
    clicks have not been read yet.
    """

    def __init__(self, model: Any, items: Sequence[str], wait_ms: int, partitions: int) -> None:
        super().__init__()
        self._model, self._items, self._wait_ms = model, items, wait_ms
        self._clicks: dict[int, set[str]] = defaultdict(set)
        self._waiting: list[deque[tuple[int, int, Document]]] = [deque() for _ in range(partitions)]
        self._latest_ms = [[0] * partitions, [0] * partitions]  # of events and of labels, by partition

    def event(self, document: Document, time_ms: int) -> Document:
        event_id = document["id"]
        x = {name: document[name] for name in ("reader", "device", "evening")}
        slate = self._slate(x)
        self.scored += 1
        partition = event_id % len(self._waiting)
        self._waiting[partition].append((time_ms + self._wait_ms, event_id, x))
        self._pass(0, partition, time_ms)
        return {"event_id": event_id, "slate": [{"item": item, "propensity": 1.0} for item in slate]}

    def label(self, document: Document, time_ms: int) -> None:
        event_id = document["id"]
        self._clicks[event_id].add(document["item"])
        self._pass(1, event_id % len(self._waiting), time_ms)

    def _slate(self, x: Document) -> list[str]:
        odds = {item: self._model.predict_proba_one({**x, "item": item}).get(True, 0.0) for item in self._items}
        return sorted(self._items, key=lambda item: -odds[item])

    def worth(self, x: Document, truth: Any) -> float:
        return gain(self._slate(x), truth)

    def _pass(self, topic: int, partition: int, time_ms: int) -> None:
        latest_ms = self._latest_ms
        latest_ms[topic][partition] = time_ms
        now_ms = min(map(min, latest_ms))
        for waiting in self._waiting:
            while waiting and waiting[0][0] <= now_ms:
                _, event_id, x = waiting.popleft()
                clicks = self._clicks.pop(event_id, set())
                for item in self._items:
                    self._model.learn_one({**x, "item": item}, item in clicks)
                self.learned += 1
                self.taught.append((event_id, x, clicks))


def gain(slate: Sequence[str], clicks: set[str]) -> float:
    """Clicks, each worth less the further down it is."""
    return sum(1 / log2(place + 2) for place, item in enumerate(slate) if item in clicks)
