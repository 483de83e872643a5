"""Mutates real states and model files: `python -m tests.fuzz.frozen --inputs 100000 --seed 7`.

Bytes are flipped, cut, repeated, spliced, and instructions are put among them. Whatever comes of it is a state that is
read or a `SnapshotError`; nothing is compiled, imported, opened or started, and no reading takes long or much memory.
Ends with 0 and what became of the inputs, or with 1 and the number of the input that broke something.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter

from driftline.core.error import SnapshotError
from driftline.core.pickle.allowlist import common
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, dump_model, load, load_model
from tests.core.pickle.test_allowlist import BOMBS, GADGETS, Hook
from tests.core.state.test_freeze import MODELS, fold, pipeline_of, records
from tests.support.lived import Life, pipelines

SLOW_S = 20.0  # of CPU, for a state of some ten kilobytes, on a machine at work
MEMORY_BYTES = 1 << 30  # more than at the beginning
_INSTRUCTIONS = b"N\x88\x89K\x00]}\x8f()tR\x81bsuaeh\x00\x940\x85\x86\x87\x93\x91\x90"


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes to which something was done, once or a few times."""
    spoilt = bytearray(content)
    pieces = [*GADGETS.values(), *BOMBS.values()]
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        at = rng.randrange(len(spoilt) or 1)
        size = rng.choice((1, 2, 8, 60, 500))
        match rng.randrange(7):
            case 0:
                spoilt[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                spoilt[at : at + 1] = rng.choice(_INSTRUCTIONS).to_bytes(1, "little")
            case 2:
                del spoilt[at : at + size]
            case 3:
                spoilt[at:at] = spoilt[at : at + size]
            case 4:
                other = rng.randrange(len(spoilt) or 1)
                spoilt[at : at + size] = spoilt[other : other + size]
            case 5:
                spoilt[at:at] = rng.choice(pieces)
            case _:
                spoilt[at : at + 8] = rng.choice((b"\xff" * 8, b"\x7f" * 8, bytes(8), (10**12).to_bytes(8, "little")))
    return bytes(spoilt)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz.frozen", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    whole = []
    for task, model in MODELS:
        shard = Shard(pipeline_of(task, model), 0)
        fold(shard, records(task, 120))
        whole.append((shard.pipeline, dump(shard), dump_model(shard.learner.model)))
        load(shard.pipeline, 0, whole[-1][1])
    for pipeline in pipelines().values():
        life = Life(pipeline)
        life.run(120)
        whole.append((pipeline, dump(life.shard), dump_model(life.shard.learner.model)))
    common()
    hook = Hook()
    sys.addaudithook(hook)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + MEMORY_BYTES
    became: Counter[str] = Counter()
    for number in range(asked.inputs):
        pipeline, state, model_bytes = whole[rng.randrange(len(whole))]
        begun_s = time.process_time()
        try:
            if number % 2:
                load(pipeline, 0, mutated(state, rng))
            else:
                load_model(pipeline, mutated(model_bytes, rng))
            became["read"] += 1
        except SnapshotError:
            became["refused"] += 1
        took_s = time.process_time() - begun_s
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        # The pipeline's own expressions are parsed by Python's parser, and nothing of them is executed.
        seen = [one for one in hook.seen if not one.startswith("compile (b")]
        hook.seen.clear()
        if seen or took_s > SLOW_S or grown > memory:
            print(f"--seed {asked.seed}: input {number}: {took_s:.1f} s, {grown:,} bytes, {seen[:3]}", flush=True)
            return 1
    print(f"{asked.inputs:,} states and models, seed {asked.seed}: {dict(became)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
