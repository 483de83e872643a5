"""What a guard costs: the fold in memory with five rungs on, and with a second model, against the same without.

    python -m benchmarks.guard [--pairs 10000] [--rounds 5]

CPU time of `step` on events and labels. A worker on Kafka loses less, by the share of its time that is not the fold:
`python -m benchmarks throughput --models numbers --subjects driftline,driftline-guarded`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks.case import FEATURES, RUNGS, STEP_MS, pipeline, samples
from benchmarks.fold import CHUNKS, undisturbed
from benchmarks.machine import versions
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Record, Source
from driftline.core.shard.state import Shard

LATE: Final = 1_000  # events between an event and its label
WARM: Final = CHUNKS // 5  # chunks that do not count


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


def fold(chosen: Pipeline, chunks: Sequence[Sequence[Record]]) -> Iterator[float]:
    """CPU seconds of a fresh shard, chunk by chunk."""
    shard, oracle = Shard(chosen, 0), Oracle()
    for chunk in chunks:
        begun_s = time.process_time()
        for record in chunk:
            step(shard, record, oracle)
        yield time.process_time() - begun_s


def measure(ways: Mapping[str, Pipeline], made: Sequence[Record], rounds: int) -> dict[str, float]:
    """CPU seconds of each way. All advance in turns, and a chunk counts the least of all rounds, as in
    `benchmarks.fold`: other load on the machine hardly shows."""
    size = -(-len(made) // CHUNKS)
    chunks = [made[place : place + size] for place in range(0, len(made), size)]
    least = {name: [float("inf")] * len(chunks) for name in ways}
    for _ in range(rounds):
        with undisturbed():
            running = {name: fold(chosen, chunks) for name, chosen in ways.items()}
            for place in range(len(chunks)):
                for name, run in running.items():
                    least[name][place] = min(least[name][place], next(run))
    return {name: sum(found[WARM:]) for name, found in least.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    plain = pipeline("guard-cost")
    ways = {"without": plain, "five rungs": guarded(plain, RUNGS)}
    ways |= {f"{name} alone": guarded(plain, {name: limit}) for name, limit in RUNGS.items()}
    beside = {"untrained": RUNGS["untrained"], "fallback": [{"model": plain.model}]}
    ways["a second model"] = parse_pipeline({**plain.resolved(), "guard": beside})
    ways["labels not tested"] = parse_pipeline({**plain.resolved(), "learning": {"quarantine": "none"}})
    spent = measure(ways, records(plain, asked.pairs), asked.rounds)
    pairs = asked.pairs * (CHUNKS - WARM) / CHUNKS
    print(f"{versions()}\n{'':18} us a pair  of the fold without")
    for name, seconds in spent.items():
        print(f"{name:18} {seconds / pairs * 1e6:9.2f}  {seconds / spent['without']:.3f}")


if __name__ == "__main__":
    main()
