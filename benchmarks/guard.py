"""What a guard costs: the fold in memory with five rungs on, and with a second model, against the same without.

    python -m benchmarks.guard [--pairs 20000] [--rounds 7]

CPU time of `step` on events and labels, interleaved, as ratios of medians. A worker on Kafka loses less, by the share
of its time that is not the fold.
"""

from __future__ import annotations

import argparse
import gc
import time
from statistics import median
from typing import Any, Final

from benchmarks.case import FEATURES, STEP_MS, pipeline, samples
from benchmarks.machine import versions
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Record, Source
from driftline.core.shard.state import Shard

LATE: Final = 1_000  # events between an event and its label
RUNGS: Final[dict[str, Any]] = {
    "untrained": {"labels_min": 100, "action": "flag"},
    "range": {"min": 1e-9, "max": 0.999999, "action": "clip"},
    "step": {"difference_max": 0.99, "action": "fallback"},
    "unfamiliar": {"score_max": 0.999, "action": "flag"},
    "share": {"positive_max": 0.9, "action": "flag"},
}


def guarded(plain: Pipeline, rungs: dict[str, Any]) -> Pipeline:
    """The same with these rungs."""
    fallback = {"fallback": "last_value"} if "step" in rungs else {}
    return parse_pipeline({**plain.resolved(), "guard": {**rungs, **fallback}})


def records(plain: Pipeline, count: int) -> list[Record]:
    """Events and their labels, in order of time."""
    made: list[Record] = []
    truths: list[bool] = []
    events, labels = plain.topics.events, plain.topics.labels or ""
    for number, sample in enumerate(samples(count + LATE)):
        at_ms, row = 1_700_000_000_000 + number * STEP_MS, sample.event
        values = tuple([row[name] for name in FEATURES])
        source = Source(events, 0, number, at_ms, None, b"")
        if number < count:
            made.append(Event(source, at_ms, at_ms, features=values, event_id=number))
        if number >= LATE:
            source = Source(labels, 0, number - LATE, at_ms, None, b"")
            made.append(Label(source, at_ms, at_ms, number - LATE, truths[number - LATE]))
        truths.append(bool(sample.label))
    return made


def fold(chosen: Pipeline, made: list[Record]) -> float:
    """CPU seconds of a fresh shard over the records, the first fifth left out."""
    shard, oracle, warm = Shard(chosen, 0), Oracle(), len(made) // 5
    for record in made[:warm]:
        step(shard, record, oracle)
    gc.collect()
    begun_s = time.process_time()
    for record in made[warm:]:
        step(shard, record, oracle)
    return time.process_time() - begun_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    plain = pipeline("guard-cost")
    made = records(plain, asked.pairs)
    ways = {"without": plain, "five rungs": guarded(plain, RUNGS)}
    ways |= {f"{name} alone": guarded(plain, {name: limit}) for name, limit in RUNGS.items()}
    beside = {"untrained": RUNGS["untrained"], "fallback": [{"model": plain.model}]}
    ways["a second model"] = parse_pipeline({**plain.resolved(), "guard": beside})
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, chosen in ways.items():
            spent[name].append(fold(chosen, made))
    print(f"{versions()}\n{'':18} us a pair  of the fold without")
    for name, seconds in spent.items():
        ratio = median(one / base for one, base in zip(seconds, spent["without"], strict=True))
        print(f"{name:18} {median(seconds) / (0.8 * asked.pairs) * 1e6:9.2f}  {ratio:.3f}")


if __name__ == "__main__":
    main()
