"""Feeds a shard hostile inputs, as many as you like: `python -m tests.fuzz --inputs 1000000 --seed 7` (`make fuzz`).

Pipelines of each task, with and without features of the past, with guards, held pairs and KPIs, share the inputs; each
twin is pickled every few thousand. Ends with 0 and what became
of the inputs, or with 1 and the seed, the pipeline and the number of the input that broke something.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.fuzz.hostile import KINDS, Stream, varied
from tests.fuzz.judge import Judge

PICKLE_EVERY = 2_500
SLOW_S = 1.0
LIFE = 10_000  # inputs after which a shard starts anew, with another seed


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    asked = parser.parse_args()
    begun_s = time.monotonic()
    reasons: Counter[str] = Counter()
    slowest_s, fed, life = 0.0, 0, 0
    while fed < asked.inputs:
        task, seed = KINDS[life % len(KINDS)], asked.seed * 1_000_003 + life
        count = min(LIFE, asked.inputs - fed)
        judge = Judge(varied(life), every_schema=False)
        stream = Stream(seed, judge.pipeline)
        for number in range(count):
            kind, given = stream.next()
            try:
                judge.feed(given)
                if number % PICKLE_EVERY == PICKLE_EVERY - 1:
                    judge.pickle_twin(tried=True)
            except Exception as error:
                print(f"--seed {asked.seed}: life {life} ({task}), input {number} ({kind}): {error!r}\n{given!r:.2000}")
                raise
            reasons["accepted tick"] += kind == "tick"
        reasons += judge.reasons
        slowest_s = max(slowest_s, judge.slowest_s[0])
        if slowest_s > SLOW_S:
            print(
                f"--seed {asked.seed}: life {life} ({task}): {slowest_s:.1f} s of CPU for {judge.slowest_s[1]!r:.2000}"
            )
            return 1
        fed, life = fed + count, life + 1
    for name, number in sorted(reasons.items()):
        print(f"{number:9,}  {name}")
    took_s = time.monotonic() - begun_s
    print(f"{fed:,} inputs, seed {asked.seed}, {life} lives, {took_s:.0f} s; slowest {slowest_s * 1e3:.1f} ms of CPU")
    print(f"{sum(reasons.values()):,} accounted for, 0 stops")
    return 0 if sum(reasons.values()) == fed else 1


if __name__ == "__main__":
    sys.exit(main())
