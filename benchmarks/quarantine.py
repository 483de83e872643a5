"""How soon flipped labels are held back, what they cost, and how often the test is wrong.

`python -m benchmarks.quarantine power` tests a stream whose own error is 15%, with a burst of 2,000 labels of which a
share is flipped. `loss` folds such a stream through a shard with `learning: {quarantine: hold}`, lets an operator drop
what is held, and compares the model's log loss on 5,000 other events with that of a run that never saw the burst.
`alarms` tests streams that do not change, as docs/drift.md does; `drift --data FOLDER` real drifts, with `alert`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from driftline.core.guard.suspicion import BEGIN, BLOCK, Suspicion, code_of
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.output import Alert, Prediction
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.pipeline.learning import ERROR_RATE
from driftline.core.record import Control, Event, Label, Record, Source
from driftline.core.shard.state import Shard
from tests.support.detectors import MODELS, SEA_CHANGES, rows_of, stationary
from tests.support.folding import step

ERROR, BURST, BEFORE, JUDGED = 0.15, 2_000, 10_000, 5_000
TWO = (False, True)


def pipeline_of(names: Sequence[str], model: str, quarantine: str) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "table",
            "task": "binary",
            "event": {"id": "id", "features": dict.fromkeys(names, "number")},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
            "drift": "none",
            "learning": {"quarantine": quarantine},
        }
    )


def pair(number: int, values: tuple[float, ...], y: bool) -> tuple[Record, Record]:
    at_ms = number * 1_000
    event = Event(Source("table.events", 0, number, at_ms, None, None), at_ms, at_ms, number, values)
    return event, Label(Source("table.labels", 0, number, at_ms, None, None), at_ms, at_ms, number, y)


def truth(rng: random.Random) -> tuple[tuple[float, ...], bool]:
    """Two numbers, and on which side of a line they lie, with an error of its own in 15 of 100."""
    x = (rng.gauss(0, 1), rng.gauss(0, 1))
    return x, (x[0] + 0.5 * x[1] > 0) != (rng.random() < ERROR)


def loss(shard: Shard, seed: int) -> float:
    rng, total = random.Random(seed), 0.0
    for _ in range(JUDGED):
        x, y = truth(rng)
        p = shard.learner.score(x, "", Oracle())[1].value or 0.0
        total -= log(max(1e-6, p if y else 1.0 - p))
    return total / JUDGED


class Ran:
    """One seed."""

    def __init__(self, model: str, share: float, seed: int) -> None:
        rng = random.Random(seed)
        shard, plain = (Shard(pipeline_of(("a", "b"), model, action), 0) for action in ("hold", "none"))
        self.early, self.found = 0, None
        for number in range(BEFORE):
            records = pair(number, *truth(rng))
            self.early += sum(is_alert(one) for record in records for one in step(shard, record))
            for record in records:
                step(plain, record)
        clean = loss(plain, seed + 1_000)
        for number in range(BEFORE, BEFORE + BURST):
            x, y = truth(rng)
            for record in pair(number, x, y != (rng.random() < share)):
                made = step(shard, record)
                step(plain, record)
                if self.found is None and any(map(is_alert, made)):
                    self.found = number - BEFORE + 1
        step(shard, Control(Source("table.control", 0, 0, BEFORE * 1_000, None, None), 0, "drop"))
        self.held = loss(shard, seed + 1_000) / clean - 1.0
        self.learned = loss(plain, seed + 1_000) / clean - 1.0


def is_alert(one: object) -> bool:
    return isinstance(one, Alert) and one.kind == "quarantine"


def power(seeds: int) -> Iterator[str]:
    """The test alone, on a stream whose labels contradict in 15 of 100, whatever the confidence."""
    yield "| flipped | seeds | found | within 300 | median | most | false before |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for share in (0.05, 0.1, 0.2, 0.3):
        found, early = [], 0
        for seed in range(seeds):
            rng, test = random.Random(seed), Suspicion()
            for number in range(BEFORE + BURST):
                contradicts = (rng.random() < ERROR) != (number >= BEFORE and rng.random() < share)
                if test.take(6 + contradicts, 0, TWO, 1 / ERROR_RATE) == "opened":
                    early += number < BEFORE
                    found += [number - BEFORE + 1] if number >= BEFORE else []
                    break
        soon = sum(one <= 300 for one in found)
        middle, most = (f"{median(found):.0f}", f"{max(found)}") if found else ("-", "-")
        yield f"| {share:.0%} | {seeds} | {len(found)} | {soon} | {middle} | {most} | {early} |"


def losses(seeds: int, model: str) -> Iterator[str]:
    """Through a shard: what a burst does to the model, with and without the quarantine."""
    yield "| flipped | seeds | held within 300 | most | loss, held: mean | most | loss, learned: mean | most |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    runs = [Ran(MODELS[model], 0.3, seed) for seed in range(seeds)]
    found = [run.found for run in runs if run.found is not None]
    cells: list[object] = [sum(one <= 300 for one in found), max(found, default=None)]
    for values in ([run.held for run in runs], [run.learned for run in runs]):
        cells += [f"{sum(values) / seeds:+.2%}", f"{max(values):+.2%}"]
    yield f"| 30% | {seeds} | {' | '.join(map(str, cells))} |"


# -- where nothing changes


def alarms(count: int) -> Iterator[str]:
    """False alarms of ten streams each."""
    yield "| what does not change | labels | false alarms |"
    yield "| --- | --- | --- |"
    for share in (0.02, 0.1, 0.15, 0.3):
        found = sum(bits(share, seed, count) for seed in range(10))
        yield f"| errors, a share of {share:g} | {10 * count:,} | {found} |"
    yield f"| a rare class, 1.2% | {10 * count:,} | {sum(rare(seed, count) for seed in range(10))} |"
    for name in ("LR", "NB", "HT"):
        for burst, how in (
            (1, "which learns from cold"),
            (BURST, f"from cold, labels in bursts of {BURST:,} on average"),
        ):
            found = sum(learning(name, seed, count // 5, burst) for seed in range(10))
            yield f"| {name}, {how} | {2 * count:,} | {found} |"


def bits(share: float, seed: int, count: int) -> int:
    rng, test, found = random.Random(seed), Suspicion(), 0
    for _ in range(count):
        found += test.take(6 + (rng.random() < share), 0, TWO, 1 / ERROR_RATE) == "opened"
    return found


def rare(seed: int, count: int) -> int:
    """Labels as likely as the probabilities say, most of them far below a hundredth."""
    rng, test, found = random.Random(seed), Suspicion(), 0
    for _ in range(count):
        p = 1 / (1 + exp(-rng.gauss(-5.5, 1.5)))
        code = code_of(Prediction(p > 0.5, None, p), (), rng.random() < p)
        found += test.take(code, 0, TWO, 1 / ERROR_RATE) == "opened"
    return found


def learning(name: str, seed: int, count: int, burst: int) -> int:
    """A model that learns from cold; where labels come in bursts, as to a worker that is behind, it predicts stale."""
    rows, test, found, at = stationary(seed, count), Suspicion(), 0, 0
    learner, oracle = Learner(pipeline_of(list(rows[0][0]), MODELS[name], "none")), Oracle()
    rng = random.Random(seed)
    while at < count:
        stop = at + 1 + (int(rng.expovariate(1 / burst)) if burst > 1 else 0)
        pairs = [(tuple(x.values()), y) for x, y in rows[at:stop]]
        codes = [code_of(learner.score(values, "", oracle)[1], (), y) for values, y in pairs]
        for code, (values, y) in zip(codes, pairs, strict=True):
            found += code >= 0 and test.take(code, 0, TWO, 1 / ERROR_RATE) == "opened"
            learner.learn(values, y, "", at, oracle)
        at = stop
    return found


def drift(data: Path) -> Iterator[str]:
    """What the dry run says of real drifts."""
    yield "| stream | model | labels | alerts at | what it says |"
    yield "| --- | --- | --- | --- | --- |"
    for stream in ("sea_50k",):
        rows = rows_of(data, stream, "class")
        for name in ("LR", "NB", "HT"):
            shard = Shard(pipeline_of(list(rows[0][0]), MODELS[name], "alert"), 0)
            found: list[tuple[int, Any]] = []
            for number, (x, y) in enumerate(rows):
                for record in pair(number, tuple(x.values()), y):
                    made = [one for one in step(shard, record) if isinstance(one, Alert)]
                    found += [(number, one) for one in made if is_alert(one) and one.state == "opened"]
            said = "; ".join(one.sentence.partition("learned anyway. ")[2] for _, one in found[:1])
            places = ", ".join(f"{number:,}" for number, _ in found[:8]) + (", ..." if len(found) > 8 else "")
            yield f"| {stream} | {name} | {len(rows):,} | {len(found)}: {places} | {said} |"
    yield f"\nsea_50k changes at {SEA_CHANGES}; the test begins after {BEGIN + 2 * BLOCK:,} labels."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quarantine", description=__doc__)
    parser.add_argument("table", choices=("power", "loss", "alarms", "drift"))
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--labels", type=int, default=100_000, help="of each of ten streams that do not change")
    parser.add_argument("--model", choices=sorted(MODELS), default="LR")
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.table == "drift" and chosen.data is None:
        parser.error("drift needs --data")
    made = {
        "power": lambda: power(chosen.seeds),
        "loss": lambda: losses(chosen.seeds, chosen.model),
        "alarms": lambda: alarms(chosen.labels),
        "drift": lambda: drift(chosen.data),
    }[chosen.table]()
    for line in made:
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
