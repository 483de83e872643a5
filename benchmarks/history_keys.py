"""Memory of a million keys with count and mean over three windows each, and what a snapshot of them takes.

`python -m benchmarks.history_keys [KEYS] [EVENTS A KEY]`: events of a key are spread evenly over 30 days.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from driftline.core.history.history import History
from driftline.core.history.keys import Keys, KeySegment, KeyState
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Source
from driftline.core.state.freeze import _take_up, dump_body, dump_marks

DAY_MS = 86_400_000
SAMPLES = 2_000
Made = TypeVar("Made")


def pipeline(keys_max: int) -> Pipeline:
    windows = ("1d", "7d", "30d")
    features: dict[str, object] = {"amount": "number"}
    features |= {f"count_{over}": {"history": "count", "by": "card", "over": over} for over in windows}
    features |= {f"mean_{over}": {"history": "mean(amount)", "by": "card", "over": over} for over in windows}
    return parse_pipeline(
        {
            "pipeline": "keys",
            "task": "binary",
            "event": {"id": "id", "context": {"card": "key"}, "features": features, "keys_max": keys_max},
            "label": {"id": "id", "value": "y", "wait": "7d"},
            "model": "StandardScaler() | LogisticRegression()",
        }
    )


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """What is made, and the CPU time that it took, in ms."""
    begin = time.process_time()
    made = make()
    return made, (time.process_time() - begin) * 1_000


def dumped(segment: KeySegment) -> tuple[bytes, bytes]:
    state = segment.state()
    return dump_body(state), dump_marks(state)


def recovered(keys: Keys, written: list[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Read a snapshot's segments as recovery does; the longest one's and their CPU time, in ms.

    Raises:
        RuntimeError: not all keys came back.
    """
    made, longest_ms, all_ms = Keys(keys.store, keys.by, keys.keys_max), 0.0, 0.0
    made.begin(keys.view().numbers)
    nothing: Any = None  # the ledger: these are segments of the history
    for body, marks in written:
        history: list[KeyState] = []
        _, read_ms = timed(partial(_take_up, nothing, history, body, marks))
        _, taken_ms = timed(partial(made.take_up, history[0]))
        longest_ms, all_ms = max(longest_ms, read_ms + taken_ms), all_ms + read_ms + taken_ms
    if len(made) != len(keys):
        raise RuntimeError(f"{len(made)} keys were recovered of {len(keys)}")
    return longest_ms, all_ms


def main(count: int, events: int) -> None:
    history = History(pipeline(max(count, SAMPLES)))
    rng, number = random.Random(1), 0
    for card in range(SAMPLES):
        for time_ms in sorted(rng.randint(0, 30 * DAY_MS) for _ in range(events)):
            context = (f"sample {card}",)
            values = (rng.expovariate(0.02), *[None] * 6)
            event = Event(
                Source("events", 0, number, time_ms, None, None), time_ms, time_ms, number, values, context=context
            )
            history.take(history.complete(event, time_ms))
            number += 1
    samples = [history.keys[0].find(b"sample %d" % card) or [] for card in range(SAMPLES)]
    del history
    before = resident_bytes()
    keys = Keys(1, ("card",), count)
    for card in range(count):
        keys.keep(b"%016d" % (card * 7919), samples[card % SAMPLES])
    held = resident_bytes() - before
    print(f"{count:,} keys with {events} events each: {held / count:.0f} bytes a key, {held / 1e6:.0f} MB")
    view, viewed_ms = timed(keys.view)
    slowest_ms, total, written = 0.0, 0, list[tuple[bytes, bytes]]()
    for segment in view.segments:
        (body, marks), took_ms = timed(partial(dumped, segment))
        slowest_ms, total = max(slowest_ms, took_ms), total + len(body) + len(marks)
        written.append((body, marks))
    _, touched_ms = timed(lambda: keys.keep(b"%016d" % 0, samples[0]))
    print(
        f"a snapshot: view {viewed_ms:.1f} ms, slowest segment {slowest_ms:.1f} ms (CPU), {total / 1e6:.0f} MB in all"
    )
    print(f"the first key used while it is held: {touched_ms:.2f} ms")
    longest_ms, all_ms = recovered(keys, written)
    print(f"a recovery from it: {all_ms / 1e3:.1f} s of CPU, the longest segment {longest_ms:.1f} ms, without Kafka")


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:], "1000000", "10")[:2]))
