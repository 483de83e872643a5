"""How fast a recovery replays, beside a backtest over the same rows, by model.

`python -m benchmarks.recovery [--pairs 100000] [--rounds 3] [--models numbers,tree]`, on a Kafka of its own. A worker
processes all pairs and ends; then its journal is replayed from the beginning, as after the loss of all snapshots, and
the same rows are backtested as a file, in turns. CPU time a pair, and a ratio within each round: 1 where a recovery
replays as fast as a backtest, which compares no digests, and reads a file.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import case, machine, throughput
from benchmarks.model import LATE, MODELS
from benchmarks.throughput import Bench, Input
from driftline.config import load_settings
from driftline.devbroker import kafka

TIMEOUT_S: Final = 600.0
TARGET: Final = 0.8


def table(path: Path, given: Input) -> None:
    """The rows as a file, with their label."""
    labels = {one.number: one.document["label"] for one in given.made if one.is_label}
    events = [one for one in given.made if not one.is_label]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*events[0].document, "label", "at"])
        writer.writerows([*one.document.values(), labels[one.number], one.time_ms] for one in events)


def measure(bench: Bench, given: Input, rounds: int, core: int | None, path: Path) -> list[dict[str, Any]]:
    """Both, round by round.

    Raises:
        RuntimeError: one of them did not get through all pairs.
    """
    name = bench.timed(given, throughput.OURS)[0]["name"]
    table(path, given)
    asked = {
        "bootstrap": bench.settings.bootstrap,
        "name": name,
        "model": given.name,
        "events": given.topics[0],
        "labels": given.topics[1],
        "core": core,
        "path": str(path),
        "delay_ms": LATE * case.STEP_MS,
    }
    found = []
    for _ in range(rounds):
        runs = {who: machine.run("replay", {**asked, "who": who}, TIMEOUT_S) for who in ("recovery", "backtest")}
        if any(run["count"] != given.pairs for run in runs.values()):
            raise RuntimeError(f"not all of {given.pairs} pairs: {runs}")
        found.append(runs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="numbers,tree")
    asked = parser.parse_args()
    core, _ = machine.split_cores()
    with kafka.start(partitions=case.PARTITIONS) as broker, tempfile.TemporaryDirectory() as folder:
        bench = Bench(load_settings({}, {"bootstrap": broker.bootstrap}), core, case.SHARDS)
        for name in asked.models.split(","):
            given = bench.produce(name, MODELS[name].pairs(asked.pairs), print)
            made = measure(bench, given, asked.rounds, core, Path(folder) / f"{name}.csv")
            cpu_us = {
                who: median(runs[who]["cpu_s"] for runs in made) / given.pairs * 1e6 for who in ("recovery", "backtest")
            }
            ratios = sorted(runs["backtest"]["cpu_s"] / runs["recovery"]["cpu_s"] for runs in made)
            print(
                f"{name}: recovery {cpu_us['recovery']:.1f} us of CPU a pair, backtest {cpu_us['backtest']:.1f}; rate "
                f"over a backtest's {median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f}), target {TARGET}",
                flush=True,
            )
    print(machine.versions())


if __name__ == "__main__":
    main()
