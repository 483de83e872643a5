"""`make sim`: runs many seeds, and cuts down whatever fails to the little that makes it fail.

python -m tests.simulation --seed 7             one seed
python -m tests.simulation --seed 0 --seeds 10000
python -m tests.simulation --seed 7 --trace     every moment of it
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tests.simulation.minimise import minimise
from tests.simulation.run import run, run_seed
from tests.simulation.scenario import Scenario, draw

FAILURES_MAX = 3  # a fourth would say nothing new
PROCESSES_MAX = 2
COLLECT_EVERY = 50


def attempt(seed: int) -> tuple[int, list[str], dict[str, int], float]:
    """One seed: what it violates, which faults struck, and how long it simulated."""
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    try:
        verdict = run_seed(seed)
    except Exception:  # noqa: BLE001 - the simulator's own fault is told like any other, with its seed
        return seed, [traceback.format_exc()], {}, 0.0
    return seed, verdict.violations, verdict.reached, verdict.simulated_s


def _settle_in() -> None:
    gc.freeze()  # what was imported is not looked at again and again
    gc.disable()


def outcomes(seeds: Sequence[int], processes: int) -> Iterator[tuple[int, list[str], dict[str, int], float]]:
    """Every seed's outcome, in any order."""
    if processes == 1 or len(seeds) < 2 * COLLECT_EVERY:
        _settle_in()
        yield from map(attempt, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _settle_in) as pool:
        yield from pool.imap_unordered(attempt, seeds, chunksize=COLLECT_EVERY)


def explain(seed: int, save: Path | None) -> None:
    """The least that makes this seed fail, what happens in it, and how to see it again."""
    print(f"\nseed {seed} fails; cutting it down …", flush=True)
    least, violations = minimise(draw(seed))
    try:
        trace = run(least, traced=True).trace
    except Exception:  # noqa: BLE001 - the simulator's own fault: its traceback is among the violations
        trace = []
    calls = [line for line in trace if not line[2].startswith(("poll", "read"))]
    print(f"{len(least.faults)} faults, {len(least.sends)} records, {least.workers} workers are enough:")
    for fault in least.faults:
        print(f"  {_short(fault)}")
    for send in least.sends[:12]:
        print(f"  {_short(send)}")
    print(f"  pipeline: {json.dumps(least.pipeline)}")
    for at_s, who, what in calls[-40:]:
        print(f"  {at_s:9.4f} {who:6} {what}")
    for violation in violations:
        print(f"VIOLATED: {violation[:2000]}")
    if save is not None:
        save.write_bytes(msgspec.json.format(msgspec.json.encode({"because": "", "scenario": least}), indent=1))
    print(f"again: make sim SEED={seed}        whole trace: python -m tests.simulation --seed {seed} --trace")


def _short(struct: msgspec.Struct) -> str:
    told = {name: value for name, value in msgspec.structs.asdict(struct).items() if value not in (None, "", 0, 0.0)}
    return f"{type(struct).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def show_trace(scenario: Scenario) -> int:
    verdict = run(scenario, traced=True)
    print(msgspec.json.encode(scenario).decode())
    for at_s, who, what in verdict.trace:
        print(f"{at_s:9.4f} {who:6} {what}")
    for violation in verdict.violations:
        print(f"VIOLATED: {violation}")
    print(f"digest {verdict.digest}")
    return 1 if verdict.violations else 0


def campaign(seeds: Sequence[int], processes: int, save: Path | None = None) -> int:
    """Run all these seeds; returns how many failed."""
    started_s = time.monotonic()
    failed: list[int] = []
    struck: Counter[str] = Counter()
    simulated_s = 0.0
    ran = 0
    for seed, violations, reached, length_s in outcomes(seeds, processes):
        ran += 1
        struck.update(reached)
        simulated_s += length_s
        if violations:
            failed.append(seed)
            print(f"seed {seed}: {violations[0][:500]}", flush=True)
            if len(failed) >= FAILURES_MAX:
                break
        if ran % 1000 == 0 and len(seeds) > 1000:
            print(f"  {ran} of {len(seeds)} seeds, {time.monotonic() - started_s:.0f} s", flush=True)
    took_s = time.monotonic() - started_s
    faults = ", ".join(f"{count} {what}" for what, count in struck.most_common())
    print(
        f"{ran} seeds ({seeds[0]} to {seeds[-1]}): {len(failed)} failed; "
        f"{simulated_s / 3600:.1f} simulated hours in {took_s:.0f} s\nfaults that struck: {faults}"
    )
    for seed in sorted(failed)[:FAILURES_MAX]:
        explain(seed, save)
    return len(failed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="random", help="the first seed, or: random")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after the other")
    parser.add_argument("--processes", type=int, default=min(PROCESSES_MAX, os.cpu_count() or 1))
    parser.add_argument("--trace", action="store_true", help="print every moment of the one seed")
    parser.add_argument("--save", type=Path, help="where to write the least scenario that fails, for `regressions`")
    chosen = parser.parse_args(arguments)
    first = random.SystemRandom().randrange(10**9) if chosen.seed == "random" else int(chosen.seed)
    if chosen.trace:
        return show_trace(draw(first))
    return 1 if campaign(range(first, first + chosen.seeds), chosen.processes, chosen.save) else 0


if __name__ == "__main__":
    sys.exit(main())
