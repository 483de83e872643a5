"""What one shard of a pipeline holds on this machine, and which histories several shards would divide.

Measured over the records that `check` processes anyway: CPU time, so that other load moves it less.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from driftline.codec.encode import Digest, Encoder
from driftline.core.fold.step import step
from driftline.core.notation import ROOTS, parse_path
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Record
from driftline.core.shard.state import Shard

TOGETHER = 32
WARM = 0.25  # of the records, before the watch begins: first calls cost more
LONG_S = 2.0  # of CPU; a slow model is known by then
KAFKA_S = 10e-6  # an event with its label, read and written: measured by `python -m benchmarks throughput`


def events_a_second(pipeline: Pipeline, records: Sequence[Record]) -> float | None:
    """How many events with their labels one shard processes in a second of one core; None without enough records.

    Args:
        records: in order of time.
    """
    shard, oracle, encode = Shard(pipeline, 0), Oracle(), Encoder(pipeline, 0).encode
    warm, begin_s, events = int(len(records) * WARM), 0.0, 0
    for start in range(0, len(records), TOGETHER):
        if start >= warm and not begin_s:
            begin_s = time.process_time()
        together = records[start : start + TOGETHER]
        made = [output for record in together for output in step(shard, record, oracle).outputs]
        Digest().add([encode(output) for output in made])
        if begin_s:
            events += sum(type(record) is Event for record in together)
            if time.process_time() - begin_s > LONG_S:
                break
    spent_s = time.process_time() - begin_s
    return 1 / (spent_s / events + KAFKA_S) if begin_s and events and spent_s > 0 else None


def divided(pipeline: Pipeline) -> Iterator[str]:
    """Of several shards each sees its partitions only: histories by anything but the events' key, as warnings."""
    shards = pipeline.shards or 1
    if shards == 1:
        return
    form = pipeline.event
    seen: set[tuple[str, ...]] = set()
    for feature in form.features.values():
        by = getattr(feature, "by", None)
        if by is None or by in seen:
            continue
        seen.add(by)
        paths = [form.read[name].path for name in by if name in form.read]
        if any(parse_path(path)[0] == ROOTS["$key"] for path in paths):
            continue
        name = "+".join(by) or "nothing (all events)"
        yield (
            f"history by {name}: each of {shards} shards keeps only what its own partitions hold. Let the producer use "
            f"{name if by else 'one field'} as the records' key, so that all of its events are in one partition, "
            "or use `shards: 1`, which sees all of them"
        )
