"""What six history features cost, beside a loop that computes them by hand: CPU time a pair, without Kafka.

`python -m benchmarks.history_cost [PAIRS] [ROUNDS]`. Both get the same bytes in the same order, in one process and in
turns: decode, features, predict, keep until the label comes, learn, encode the score. Driftline does the rest of its
work too: outcomes, metrics, drift detection, digests. `python -m benchmarks throughput --models history` has a real
Kafka, and mixed data.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import orjson
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from benchmarks import case
from benchmarks.case import Kind
from benchmarks.contender.past import Past
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.engine.fold import Folder

SLICE = 2_500
PAIRS, ROUNDS = 20_000, 5


def inputs(pairs: int, *, history: bool) -> list[Source]:
    """Events and labels in order of time."""
    topics = case.pipeline("cost").topics
    made: list[Source] = []
    for number, sample in enumerate(case.samples(pairs, kind=_kind(history=history))):
        key, label_ms = b"%d" % number, sample.time_ms + case.LABEL_DELAY_MS
        label = orjson.dumps({"id": number, "label": sample.label})
        made.append(Source(topics.events, 0, number, sample.time_ms, key, orjson.dumps(sample.event)))
        made.append(Source(topics.labels or "", 0, number, label_ms, key, label))
    return sorted(made, key=lambda source: (source.record_time_ms, source.topic))


def driftline(sources: Sequence[Source], *, history: bool) -> int:
    """Fold them, slice by slice; returns how many labels joined."""
    pipeline = case.pipeline("cost", kind=_kind(history=history))
    shard = Shard(pipeline, 0)
    folder = Folder(shard, dict.fromkeys((pipeline.topics.events, pipeline.topics.labels or ""), 0))
    for begin in range(0, len(sources), SLICE):
        ours = sources[begin : begin + SLICE]
        slice_of = {name: [one for one in ours if one.topic == name] for name in {one.topic for one in ours}}
        folder.fold_range(slice_of)
    return shard.counts.get("joined", 0)


def bare(sources: Sequence[Source], *, history: bool) -> int:
    """The loop that one would write by hand; returns how many pairs it learned."""
    model: Any = StandardScaler() | LogisticRegression()
    past = Past() if history else None
    events_topic = case.pipeline("cost").topics.events
    waiting: dict[int, tuple[int, dict[str, float]]] = {}
    learned, scores = 0, list[bytes]()
    for source in sources:
        document = orjson.loads(source.value or b"")
        event_id = document["id"]
        if source.topic == events_topic:
            features = {name: document[name] for name in case.FEATURES}
            if past is not None:
                past.complete(features, document["card"], source.record_time_ms)
            score = model.predict_proba_one(features).get(True, 0.0)
            scores.append(orjson.dumps({"event_id": event_id, "probability": score}))
            waiting[event_id] = (document.get("card", 0), features)
            continue
        card, features = waiting.pop(event_id)
        if past is not None:
            past.label(card, source.record_time_ms, document["label"])
        model.learn_one(features, bool(document["label"]))
        learned += 1
    return learned


def _kind(*, history: bool) -> Kind:
    return "history" if history else "numbers"


def cost_us(run: Callable[..., int], sources: Sequence[Source], *, history: bool) -> float:
    """CPU time a pair, in microseconds.

    Raises:
        RuntimeError: not every pair was learned.
    """
    begin_s = time.process_time()
    learned = run(sources, history=history)
    if learned != len(sources) // 2:
        raise RuntimeError(f"{run.__name__} learned {learned} of {len(sources) // 2} pairs")
    return (time.process_time() - begin_s) / learned * 1e6


def main(pairs: int = PAIRS, rounds: int = ROUNDS) -> None:
    """Print both with and without history, and the ratios."""
    for history in (False, True):
        sources = inputs(pairs, history=history)
        made = [[cost_us(run, sources, history=history) for run in (driftline, bare)] for _ in range(rounds)]
        ours, theirs = (median(costs) for costs in zip(*made, strict=True))
        ratios = sorted(one[1] / one[0] for one in made)
        what = f"with {len(case.HISTORY)} history features" if history else "without history"
        print(
            f"{what}: Driftline {ours:.1f} us a pair, bare loop {theirs:.1f}; "
            f"ratio {median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
