"""Records a second of each case's pipeline, beside a bare loop over the same records: in memory, without Kafka.

`python -m benchmarks.cases [RECORDS] [ROUNDS]`, in CPU time of one core. Both get the same bytes in the same order, in
slices that take turns. The bare loops decode, ask the model of the pipeline, encode the score, keep what waits, and
learn when the truth comes. The pipelines do that and the rest of their work: outcomes, metrics by horizon or item,
intervals, detectors, the guard, digests. For forecasts the bare loop is a Holt-Winters model of River's for each
series, which sees nothing else; for slates it draws from the same model as the pipeline.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any, Final

import numpy as np
import orjson
from river.time_series import HoltWinters

from driftline.cli import card_fraud, demand, news, spam_mail
from driftline.config import read_pipeline
from driftline.core.pipeline import Pipeline
from driftline.core.record import Source
from driftline.core.river.items import LinearItems
from driftline.core.shard.state import Shard
from driftline.core.task.build import build_model
from driftline.engine.fold import Folder

SLICE: Final = 400
DELAY_MS: Final = 60_000
START_MS: Final = 1_577_836_800_000
Slice = list[Source]
Take = Callable[[Slice], list[bytes]]  # gives the scores of a slice


def pipeline_of(text: str, **settings: Any) -> Pipeline:
    return read_pipeline(text.format(name="measured", delivery="at_least_once", **settings))


class Ours:
    """The pipeline itself."""

    def __init__(self, pipeline: Pipeline) -> None:
        topics = [pipeline.topics.events, *([pipeline.topics.labels] if pipeline.topics.labels else [])]
        self.topics = topics
        self._folder = Folder(Shard(pipeline, 0), dict.fromkeys(topics, 0))

    def take(self, part: Slice) -> list[bytes]:
        inputs = {topic: [one for one in part if one.topic == topic] for topic in self.topics}
        folded = self._folder.fold_range({topic: some for topic, some in inputs.items() if some})
        return [message.value or b"" for message in folded.messages if message.kind == "scores"]


class BareClassifier:
    """A classifier, and its labels when they come."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._model, self._events = build_model(pipeline), pipeline.topics.events
        self._id, self._label = pipeline.event.id, pipeline.label.value if pipeline.label is not None else ""
        self._paths = {name: one.keys for name, one in pipeline.event.plain.items()}
        self._waiting: dict[Any, dict[str, Any]] = {}

    def take(self, part: Slice) -> list[bytes]:
        scores = []
        for source in part:
            document = orjson.loads(source.value or b"")
            event_id = document[self._id]
            if source.topic != self._events:
                self._model.learn_one(self._waiting.pop(event_id), document[self._label])
                continue
            x = {}
            for name, (first, *rest) in self._paths.items():
                x[name] = document[first] if not rest else document[first][rest[0]]
            share = self._model.predict_proba_one(x).get(True, 0.0)
            self._waiting[event_id] = x
            scores.append(orjson.dumps({"event_id": event_id, "probability": share}))
        return scores


class BareSeries:
    """A smoothing model for each series."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._models: dict[Any, Any] = defaultdict(lambda: HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality=7))
        self._seen: dict[Any, int] = defaultdict(int)

    def take(self, part: Slice) -> list[bytes]:
        scores = []
        for source in part:
            document = orjson.loads(source.value or b"")
            key = document["store"], document["item"]
            model = self._models[key]
            model.learn_one(document["demand"])
            self._seen[key] += 1
            ahead = model.forecast(horizon=14) if self._seen[key] > 7 else []
            scores.append(orjson.dumps({"event_id": document["sale_id"], "values": ahead}))
        return scores


class BareSlates:
    """The model of the pipeline, drawn from by Thompson sampling."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._model, self._events = LinearItems(half_life=3000), pipeline.topics.events
        self._rng = np.random.default_rng(1)
        self._clicks: dict[str, dict[str, float]] = {}
        self._waiting: deque[tuple[int, str, dict[str, Any]]] = deque()

    def take(self, part: Slice) -> list[bytes]:
        scores = []
        for source in part:
            document = orjson.loads(source.value or b"")
            if source.topic != self._events:
                if document["request_id"] in self._clicks:
                    self._clicks[document["request_id"]][document["article"]] = 1.0
                continue
            while self._waiting and self._waiting[0][0] <= source.record_time_ms:
                _, request, seen = self._waiting.popleft()
                self._model.learn_many(seen, self._clicks.pop(request))
            x = {name: document[name] for name in ("reader", "evening", "age")}
            means, spreads = self._model.estimate(x, document["articles"])
            drawn = means + 0.3 * spreads * self._rng.standard_normal(len(means))
            slate = [document["articles"][place] for place in np.argsort(-drawn)[:3].tolist()]
            self._clicks[document["request_id"]] = dict.fromkeys(slate, 0.0)
            self._waiting.append((source.record_time_ms + 2 * DELAY_MS, document["request_id"], x))
            slates = [{"item": item, "propensity": None} for item in slate]
            scores.append(orjson.dumps({"event_id": document["request_id"], "slate": slates}))
        return scores


CASES: Final[dict[str, tuple[str, type[BareClassifier] | type[BareSeries] | type[BareSlates]]]] = {
    "fraud": (card_fraud.PIPELINE, BareClassifier),
    "spam": (spam_mail.PIPELINE, BareClassifier),
    "demand": (demand.PIPELINE, BareSeries),
    "recommend": (news.PIPELINE, BareSlates),
}


# -- records


def labelled(pipeline: Pipeline, samples: Iterator[Any]) -> list[Slice]:
    """Events and their labels, a minute later, in order of time."""
    label = pipeline.label
    if label is None:
        raise ValueError("a pipeline without labels")
    made = []
    for number, sample in enumerate(samples):
        key, answer = str(sample.event_id).encode(), {label.id: sample.event_id, label.value: sample.label}
        made.append(Source(pipeline.topics.events, 0, number, sample.time_ms, key, orjson.dumps(sample.event)))
        at_ms = sample.time_ms + DELAY_MS
        made.append(Source(pipeline.topics.labels or "", 0, number, at_ms, key, orjson.dumps(answer)))
    made.sort(key=lambda source: (source.record_time_ms, source.topic))
    return [made[place : place + SLICE] for place in range(0, len(made), SLICE)]


def observed(pipeline: Pipeline, count: int) -> list[Slice]:
    days = max(count // 100, 20)
    made = [
        Source(pipeline.topics.events, 0, number, time_ms, None, orjson.dumps(event))
        for number, (time_ms, event) in enumerate(demand.sales(10, 10, days, days // 2, START_MS))
    ]
    return [made[place : place + SLICE] for place in range(0, len(made), SLICE)]


def asked(pipeline: Pipeline, count: int) -> Iterator[tuple[Slice, Callable[[list[bytes]], None]]]:
    """Requests, and with the next slice of them the clicks on the slates that were shown."""
    page, clicks, offset = news.NewsPage(), list[dict[str, Any]](), 0
    for begin in range(0, count, SLICE):
        requests = {one["request_id"]: one for one in (page.request(begin + n, START_MS) for n in range(SLICE))}
        part = []
        for click in clicks:
            offset += 1
            value = orjson.dumps(click)
            part.append(Source(pipeline.topics.labels or "", 0, offset, click["at"], None, value))
        for number, one in enumerate(requests.values()):
            part.append(Source(pipeline.topics.events, 0, begin + number, one["at"], None, orjson.dumps(one)))
        part.sort(key=lambda source: source.record_time_ms)
        clicks = []

        yield part, partial(_click, page, requests, clicks)


def _click(page: news.NewsPage, requests: dict[str, Any], clicks: list[dict[str, Any]], scores: list[bytes]) -> None:
    """What readers click on the slates that were shown."""
    for score in map(orjson.loads, scores):
        slate = [one["item"] for one in score.get("slate") or ()]
        clicks.extend(page.clicks(requests[score["event_id"]], slate))


def timed(parts: Iterator[tuple[Slice, Callable[[list[bytes]], None]]], take: Take) -> Iterator[float]:
    """Records a second of each slice, in CPU time."""
    for part, shown in parts:
        begun = time.process_time()
        scores = take(part)
        spent = time.process_time() - begun
        shown(scores)
        yield len(part) / max(spent, 1e-9)


def measure(name: str, count: int) -> tuple[float, float]:
    """Records a second: the medians over slices of the pipeline and of the bare loop, without the first tenth."""
    text, bare = CASES[name]
    pipeline = pipeline_of(text, **({"horizons": 14} if name == "demand" else {}))
    takes: list[Take] = [Ours(pipeline).take, bare(pipeline).take]
    if name == "recommend":
        streams = [timed(asked(pipeline, count), take) for take in takes]
    else:
        if name == "demand":
            slices = observed(pipeline, count)
        else:
            module: Any = card_fraud.payments if name == "fraud" else spam_mail.messages
            slices = labelled(pipeline, module(count, count // 2, START_MS))
        streams = [timed(((part, _ignore) for part in slices), take) for take in takes]
    rates = list(zip(*streams, strict=True))  # slice by slice, in turns
    later = rates[len(rates) // 10 :]
    return median(ours for ours, _ in later), median(theirs for _, theirs in later)


def _ignore(scores: list[bytes]) -> None:
    """No truth depends on what was served."""


def main(arguments: Sequence[str]) -> None:
    count = int(arguments[0]) if arguments else 8_000
    rounds = int(arguments[1]) if len(arguments) > 1 else 3
    print(f"records a second of one core, medians of {rounds} rounds of {count:,} events")
    print(f"{'case':12}{'Driftline':>12}{'bare loop':>12}{'ratio':>8}  lowest to highest")
    for name in CASES:
        made = [measure(name, count) for _ in range(rounds)]
        ours, theirs = (median(rates) for rates in zip(*made, strict=True))
        ratios = sorted(one / other for one, other in made)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"{name:12}{ours:>12,.0f}{theirs:>12,.0f}{median(ratios):>8.2f}  {spread}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
