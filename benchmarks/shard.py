"""What the fold costs: CPU time a pair, in memory, from bytes to what is published and its digest.

    python -m benchmarks.shard [--kind numbers|mixed|history|init] [--pairs 20000] [--rounds 5] [--profile FILE]

Events and labels of four partitions go through a shard as a worker folds them. Decoding is timed by itself, and the
least of the rounds is given beside the median: the more so the more others use the machine. Two trees do the same
where their digests are the same: of all that was published, and of the state in the end. `init` is the pipeline of
mixed data with six history features and five rungs of the guard.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import median
from typing import Any, Final, NamedTuple, get_args

import orjson

from benchmarks import case
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.place import input_name
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, frozen_digest
from driftline.engine.fold import Folder
from driftline.engine.worker import GARBAGE_THRESHOLDS

SLICE: Final = 2_000
START_MS: Final = 1_700_000_000_000
KINDS: Final = (*get_args(case.Kind), "init")

Slice = dict[str, list[Source]]


class Cost(NamedTuple):
    """Of one round, in microseconds of CPU a pair; and what came of it."""

    whole_us: float
    decode_us: float
    outputs: str
    state: str


def pipeline_of(kind: str) -> Pipeline:
    if kind != "init":
        return case.pipeline("shard", kind=kind)  # type: ignore[arg-type]  # one of `case.Kind`
    document: dict[str, Any] = case.pipeline("shard", kind="mixed").resolved()
    past = {name: {**form, "by": "merchant"} for name, form in case.HISTORY.items()}
    document["event"]["features"] |= past
    quoted = ", ".join(map(repr, case.NUMBERS))
    document["model"] = case.MIXED_MODEL.replace(quoted, f"{quoted}, {', '.join(map(repr, past))}")
    document["guard"] = {**case.RUNGS, "fallback": "last_value"}
    return parse_pipeline(document)


def records(pipeline: Pipeline, kind: str, pairs: int, partitions: int = case.PARTITIONS) -> Iterator[Source]:
    """Events and their labels, in order of time; made as they are asked for."""
    kind = "mixed" if kind == "init" else kind
    labels: deque[Source] = deque()
    for number, sample in enumerate(case.samples(pairs, kind=kind)):  # type: ignore[arg-type]  # one of `case.Kind`
        key, partition, offset = b"%d" % number, number % partitions, number // partitions
        at_ms = START_MS + number * case.STEP_MS
        while labels and labels[0].record_time_ms <= at_ms:
            yield labels.popleft()
        yield Source(pipeline.topics.events, partition, offset, at_ms, key, orjson.dumps(sample.event))
        answer = orjson.dumps({"id": number, "label": sample.label})
        labelled_ms = at_ms + case.LABEL_DELAY_MS
        labels.append(Source(pipeline.topics.labels or "", partition, offset, labelled_ms, key, answer))
    yield from labels


def slices(records: Iterable[Source]) -> Iterator[Slice]:
    """The records, cut as a worker cuts them."""
    remaining = iter(records)
    while piece := list(islice(remaining, SLICE)):
        part: Slice = {}
        for source in piece:
            part.setdefault(input_name(source.topic, source.partition, 0), []).append(source)
        yield part


def folder_of(pipeline: Pipeline, partitions: int = case.PARTITIONS) -> Folder:
    """A new shard at the beginning of its inputs."""
    inputs = (pipeline.topics.events, pipeline.topics.labels or "")
    names = {input_name(topic, partition, 0): 0 for topic in inputs for partition in range(partitions)}
    return Folder(Shard(pipeline, 0), names, counts=dict.fromkeys(outputs_of(pipeline), partitions))


def outputs_of(pipeline: Pipeline) -> list[str]:
    topics = pipeline.topics
    return [topics.scores, topics.outcomes, topics.alerts, topics.rejected]


def run(pipeline: Pipeline, parts: Sequence[Slice], profiler: cProfile.Profile | None = None) -> Cost:
    """Fold them all, and time it."""
    folder = folder_of(pipeline)
    shard = folder.shard
    outputs = hashlib.blake2b(digest_size=8)
    gc.collect()
    begun_s = time.process_time()
    if profiler is not None:
        profiler.enable()
    for part in parts:
        folded = folder.fold_range(part)
        outputs.update(folded.digest.encode())
    if profiler is not None:
        profiler.disable()
    whole_s = time.process_time() - begun_s
    begun_s = time.process_time()
    for part in parts:
        for name, sources in part.items():
            decode = folder.inputs.decoders[folder.inputs.of[name]]
            for source in sources:
                decode(source)
    decode_s = time.process_time() - begun_s
    pairs = shard.counts["joined"]
    return Cost(
        whole_s / pairs * 1e6,
        decode_s / pairs * 1e6,
        outputs.hexdigest(),
        frozen_digest(pipeline, 0, dump(shard)).hex()[:16],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", help="a file for the profile of one more round")
    asked = parser.parse_args()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    for kind in asked.kind or KINDS:
        pipeline = pipeline_of(kind)
        parts = list(slices(records(pipeline, kind, asked.pairs)))
        costs = [run(pipeline, parts) for _ in range(asked.rounds)]
        whole, decode = [cost.whole_us for cost in costs], [cost.decode_us for cost in costs]
        print(
            f"{kind}: {median(whole):.2f} us a pair (least {min(whole):.2f}), of which decoding {median(decode):.2f}; "
            f"outputs {costs[0].outputs}, state {costs[0].state}",
            flush=True,
        )
        if asked.profile:
            profiler = cProfile.Profile(time.process_time)
            run(pipeline, parts, profiler)
            profiler.dump_stats(asked.profile)


if __name__ == "__main__":
    main()
