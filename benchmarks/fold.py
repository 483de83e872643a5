"""What a pair costs in memory, by model: Driftline's fold, its learner alone, and River by itself.

`python -m benchmarks.fold [--pairs 2000] [--rounds 5] [--models NAME,...]`. One process, in turns, CPU time, no garbage
collection; each run is the same work from a fresh start, so the least of the rounds is what it costs, and what is above
it is the machine's (`Measure`). `tests/benchmarks/test_speed.py` holds the ratios to those in `benchmarks/speed.json`.
`--write` measures these anew: after a change that makes a model faster, and after one that is worth what it costs.

* *fold*: bytes in, bytes out: decode, merge, join, score, learn, metrics, drift detection, outcomes, encode, digest.
* *learner*: score and learn alone, for models of pairs; several of them in turn, which share the cost of a cold start.
* *River*: the same records, decoded already, through the same model of River's (`benchmarks/work.py`).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.machine import versions
from benchmarks.model import MODELS, Made, Model
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.engine.fold import Folder

CHUNKS: Final = 40
LEARNERS: Final = 8  # of a cheap model: one is done with a chunk so soon that cold caches would show in it
PAIRS, ROUNDS = 2_000, 5
SLOWER_MAX: Final = 1.15
BASE: Final = Path(__file__).with_name("speed.json")
Run = Callable[[], Iterator[None]]  # stops after each chunk


@dataclass
class Costs:
    """CPU time a pair, in microseconds: the least of the rounds so far."""

    fold: float
    river: float
    learner: float | None = None

    def ratios(self) -> dict[str, float]:
        """Each over River's."""
        found = {"fold": self.fold / self.river}
        return found if self.learner is None else {**found, "learner": self.learner / self.river}


def slower(costs: Costs, base: dict[str, float]) -> dict[str, float]:
    """Which ratios are above what is allowed, as multiples of what they were."""
    found = {name: ratio / base[name] for name, ratio in costs.ratios().items()}
    return {name: times for name, times in found.items() if times > SLOWER_MAX}


class Measure:
    """Measures one model, a round at a time.

    All runs advance in turns, a chunk of records each, so that they meet the same machine; what a run costs is the sum
    of its chunks, each the least of all rounds.

    Args:
        asked: pairs of the benchmark's model; dear ones get fewer.
    """

    def __init__(self, name: str, asked: int = PAIRS) -> None:
        model = MODELS[name]
        self.pairs = model.pairs(asked)
        self.rounds = 0
        made = list(model.records(self.pairs))
        size = -(-len(made) // CHUNKS)
        chunks = [made[place : place + size] for place in range(0, len(made), size)]
        self._runs: dict[str, Run] = {"fold": folding(model, chunks), "river": river(model, chunks)}
        if "label" in model.document and "recommend" not in model.document:
            self._learners = max(1, LEARNERS * self.pairs // asked)
            self._runs["learner"] = learner(model, chunks, self._learners)
        self._least = {name: [float("inf")] * len(chunks) for name in self._runs}

    def round(self) -> Costs:
        """One more round; the costs so far."""
        with undisturbed():
            running = {name: run() for name, run in self._runs.items()}
            for place in range(len(self._least["fold"])):
                for name, run in running.items():
                    begun_s = time.process_time()
                    next(run)
                    self._least[name][place] = min(self._least[name][place], time.process_time() - begun_s)
            for run in running.values():
                next(run, None)
        self.rounds += 1
        found = {name: sum(chunks) / self.pairs * 1e6 for name, chunks in self._least.items()}
        if "learner" in found:
            found["learner"] /= self._learners
        return Costs(**found)


def folding(model: Model, chunks: Sequence[Sequence[Made]]) -> Run:
    """A fresh shard, chunk by chunk."""
    pipeline, pairs = model.pipeline("measured"), _pairs(model, chunks)
    offsets: dict[str, int] = dict.fromkeys([pipeline.topics.events, *filter(None, [pipeline.topics.labels])], 0)
    slices: list[dict[str, list[Source]]] = []
    for chunk in chunks:
        slices.append({})
        for one in chunk:
            topic = (pipeline.topics.labels or "") if one.is_label else pipeline.topics.events
            value = orjson.dumps(one.document)
            source = Source(topic, 0, offsets[topic], one.time_ms, b"%d" % one.number, value)
            slices[-1].setdefault(topic, []).append(source)
            offsets[topic] += 1

    def run() -> Iterator[None]:
        folder = Folder(Shard(pipeline, 0), dict.fromkeys(offsets, 0))
        for part in slices:
            folder.fold_range(part)
            yield
        counts = folder.shard.counts
        _check(model, pairs, counts.get("scored", 0), counts.get("learned", 0))

    return run


def river(model: Model, chunks: Sequence[Sequence[Made]]) -> Run:
    """The same work in plain River."""
    pairs = _pairs(model, chunks)

    def run() -> Iterator[None]:
        work = model.work()
        event, label = work.event, work.label
        for chunk in chunks:
            for is_label, _, time_ms, document in chunk:
                if is_label:
                    label(document, time_ms)
                else:
                    event(document, time_ms)
            yield
        _check(model, pairs, work.scored, work.learned)

    return run


def learner(model: Model, chunks: Sequence[Sequence[Made]], count: int) -> Run:
    """So many learners alone, which get events and labels in the same order, joined already."""
    pipeline = model.pipeline("measured")
    names = list(pipeline.event.features)
    events = [one for chunk in chunks for one in chunk if not one.is_label]
    # A history feature is not the learner's work: 1.
    rows = {one.number: tuple([one.document.get(name, 1.0) for name in names]) for one in events}
    parts = [
        [(rows[one.number], bool(one.document["label"]) if one.is_label else None) for one in chunk] for chunk in chunks
    ]

    def run() -> Iterator[None]:
        learners, oracle = [Learner(pipeline) for _ in range(count)], Oracle()
        for part in parts:
            for asked in learners:
                for values, truth in part:
                    if truth is None:
                        asked.score(values, "score", oracle)
                    else:
                        asked.learn(values, truth, "learn", 0, oracle)
            yield
        for asked in learners:
            _check(model, len(events), len(events), asked.learned)

    return run


def _pairs(model: Model, chunks: Sequence[Sequence[Made]]) -> int:
    return sum(not one.is_label for chunk in chunks for one in chunk) - model.closing


def _check(model: Model, pairs: int, scored: int, learned: int) -> None:
    if (scored, learned) != (pairs + model.closing, pairs):
        raise RuntimeError(f"of {pairs} pairs, {scored} were scored and {learned} learned")


@contextmanager
def undisturbed() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def main() -> None:
    """Print costs and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--write", action="store_true", help=f"write {BASE.name} anew")
    asked = parser.parse_args()
    base: dict[str, Any] = {"python": platform.python_version_tuple()[:2], "river": version("river")}
    print(f"{versions()}\nus a pair, the least of {asked.rounds} rounds, and as a multiple of River's")
    print(f"{'':10} {'fold':>14} {'learner':>14} {'River':>8}")
    for name in asked.models.split(","):
        measure = Measure(name, asked.pairs)
        costs = [measure.round() for _ in range(asked.rounds)][-1]
        ratios = costs.ratios()
        learned = f"{costs.learner:8.1f} {ratios['learner']:5.2f}" if costs.learner is not None else f"{'':14}"
        print(f"{name:10} {costs.fold:8.1f} {ratios['fold']:5.2f} {learned} {costs.river:8.1f}", flush=True)
        base[name] = {key: round(ratio, 3) for key, ratio in ratios.items()}
    if asked.write and asked.models == ",".join(MODELS):
        BASE.write_text(json.dumps(base, indent=2) + "\n")


if __name__ == "__main__":
    main()
