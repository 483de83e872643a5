"""Beyond one shard and beyond an hour: what a pair costs with more partitions, after ten million, and on two cores.

    python -m benchmarks.scale [--kind numbers|mixed|history|init] [--pairs 10000000] [--rounds 3]

In memory, from bytes to what is published and its digest; CPU time of the fold, not of making the records. Partitions:
the same events and labels over 4, 16 and 64, in turns. Length: one shard folds them all, and is timed around the
hundred thousandth, the millionth and the last. Cores: two processes, a shard each, at once, beside one alone.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time
from itertools import islice
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event, Semaphore
from statistics import median
from typing import Final

from benchmarks.history_keys import resident_bytes
from benchmarks.shard import KINDS, SLICE, folder_of, pipeline_of, records, slices
from driftline.engine.worker import GARBAGE_THRESHOLDS

PARTITIONS: Final = (4, 16, 64)
SHORT: Final = 20_000  # pairs of what is run in turns
SPAN: Final = 50_000  # pairs that are timed together in the long run


def fold_us(kind: str, pairs: int, partitions: int) -> float:
    """CPU time a pair, in microseconds."""
    pipeline = pipeline_of(kind)
    parts = list(slices(records(pipeline, kind, pairs, partitions)))
    folder = folder_of(pipeline, partitions)
    gc.collect()
    begun_s = time.process_time()
    for part in parts:
        folder.fold_range(part)
    return (time.process_time() - begun_s) / folder.shard.counts["joined"] * 1e6


def by_partitions(kind: str, rounds: int) -> None:
    costs: dict[int, list[float]] = {count: [] for count in PARTITIONS}
    for number in range(rounds):
        for count in PARTITIONS[number % 3 :] + PARTITIONS[: number % 3]:
            costs[count].append(fold_us(kind, SHORT, count))
    for count, found in costs.items():
        ratios = [one / first for one, first in zip(found, costs[PARTITIONS[0]], strict=True)]
        print(
            f"{kind}, one shard over {count} partitions: {median(found):.1f} us a pair, "
            f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) of that over {PARTITIONS[0]}",
            flush=True,
        )


def by_length(kind: str, pairs: int) -> None:
    """One shard that goes on; each span is timed as the records of it are made, piece by piece."""
    pipeline = pipeline_of(kind)
    folder = folder_of(pipeline)
    parts = slices(records(pipeline, kind, pairs))
    done, first_us = 0, 0.0
    for end in sorted({one for one in (100_000, 1_000_000, pairs) if 2 * SPAN <= one <= pairs}):
        for part in islice(parts, (2 * (end - SPAN) - done) // SLICE):
            folder.fold_range(part)
        spent_s = 0.0
        for part in islice(parts, 2 * SPAN // SLICE):
            begun_s = time.process_time()
            folder.fold_range(part)
            spent_s += time.process_time() - begun_s
        done = 2 * end
        cost_us = spent_s / SPAN * 1e6
        first_us = first_us or cost_us
        print(
            f"{kind}, pairs {end - SPAN:,} to {end:,}: {cost_us:.1f} us each, {cost_us / first_us:.2f} of the first; "
            f"{resident_bytes() / 1e6:.0f} MB",
            flush=True,
        )


def _rate(kind: str, ready: Semaphore, go: Event, found: Queue[float]) -> None:
    """Pairs a second of one process, by the wall's clock."""
    pipeline = pipeline_of(kind)
    parts = list(slices(records(pipeline, kind, 2 * SHORT)))
    folder = folder_of(pipeline)
    gc.collect()
    ready.release()
    go.wait()
    begun_s = time.perf_counter()
    for part in parts:
        folder.fold_range(part)
    found.put(folder.shard.counts["joined"] / (time.perf_counter() - begun_s))


def together(kind: str, count: int) -> float:
    """Pairs a second of so many shards at once, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready, go, found = context.Semaphore(0), context.Event(), context.Queue()
    processes = [context.Process(target=_rate, args=(kind, ready, go, found)) for _ in range(count)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    go.set()
    rates: list[float] = [found.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rates)


def by_cores(kind: str, rounds: int) -> None:
    ratios = []
    for _ in range(rounds):
        alone = together(kind, 1)
        ratios.append(together(kind, 2) / alone)
    print(
        f"{kind}, two shards on two cores: {median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) of one's rate",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kind", choices=KINDS, default="numbers")
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    by_partitions(asked.kind, asked.rounds)
    by_cores(asked.kind, asked.rounds)
    by_length(asked.kind, asked.pairs)


if __name__ == "__main__":
    main()
