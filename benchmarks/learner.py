"""What a model costs as Driftline calls it, beside River by itself: CPU time a pair, in memory.

`python -m benchmarks.learner [PAIRS] [ROUNDS]`. Each pair is scored and then learned, by the learner of a shard and by
the same model as River runs it, in turns; features are in dictionaries already for River. Medians over the rounds.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

from benchmarks import case
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.task.build import build_model

PAIRS, ROUNDS = 3_000, 5
PAST = tuple(f"h{number}" for number in range(6))
VOCABULARY = 2_000
OWN_RATES = "LogisticRegression(optimizer=AdaGrad(0.1))"
HASHED = "FeatureHasher(n_features=4096, alternate_sign=False)"

Row = tuple[Any, ...]


class Model(NamedTuple):
    """A pipeline, and rows for it."""

    pipeline: Pipeline
    row: Callable[[random.Random], Row]


def models() -> dict[str, Model]:
    """By name."""
    numbers, columns = dict.fromkeys(case.NUMBERS, "number"), dict.fromkeys((*case.COLUMNS, "merchant"), "string")
    quoted = ", ".join(map(repr, case.NUMBERS))
    with_past = case.MIXED_MODEL.replace(quoted, f"{quoted}, {', '.join(map(repr, PAST))}")
    few = dict.fromkeys(case.COLUMNS, "string")
    return {
        "the benchmark's": Model(case.pipeline("learner"), lambda rng: _numbers(rng, len(case.FEATURES))),
        "mixed, as init writes": Model(_pipeline(numbers | columns, case.MIXED_MODEL), _mixed),
        "mixed, six features more": Model(
            _pipeline(numbers | dict.fromkeys(PAST, "number") | columns, with_past),
            lambda rng: (*_numbers(rng, len(case.NUMBERS) + len(PAST)), *_mixed(rng)[len(case.NUMBERS) :]),
        ),
        "Hoeffding tree, numbers": Model(
            _pipeline(numbers, "HoeffdingTreeClassifier(grace_period=100)"),
            lambda rng: _numbers(rng, len(case.NUMBERS)),
        ),
        "Hoeffding tree, mixed": Model(
            _pipeline(numbers | few, "HoeffdingTreeClassifier(grace_period=100)"), lambda rng: _mixed(rng)[:-1]
        ),
        "words, linear": Model(
            _pipeline({"text": "text"}, f"BagOfWords(on='text') | FeatureHasher(n_features=4096) | {OWN_RATES}"), _words
        ),
        "words, naive Bayes": Model(
            _pipeline({"text": "text"}, f"BagOfWords(on='text') | {HASHED} | MultinomialNB()"), _words
        ),
    }


def main(pairs: int = PAIRS, rounds: int = ROUNDS) -> None:
    """Print both, and River's time over ours."""
    for name, model in models().items():
        rng = random.Random(7)
        rows = [(row, _truth(row)) for row in islice(_rows(model, rng), pairs)]
        made = [(driftline(model.pipeline, rows), river(model.pipeline, rows)) for _ in range(rounds)]
        ours, theirs = (median(costs) for costs in zip(*made, strict=True))
        ratios = sorted(one[1] / one[0] for one in made)
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        print(f"{name}: Driftline {ours:.1f} us a pair, River {theirs:.1f}; ratio {spread}", flush=True)


def driftline(pipeline: Pipeline, rows: list[tuple[Row, bool]]) -> float:
    """CPU time a pair of a shard's learner, in microseconds."""
    learner, oracle = Learner(pipeline), Oracle()
    begin_s = time.process_time()
    for values, label in rows:
        learner.score(values, "score", oracle)
        learner.learn(values, label, "learn", 0, oracle)
    return (time.process_time() - begin_s) / len(rows) * 1e6


def river(pipeline: Pipeline, rows: list[tuple[Row, bool]]) -> float:
    """The same of the model by itself."""
    model, names = build_model(pipeline), list(pipeline.event.features)
    features = [(dict(zip(names, values, strict=True)), label) for values, label in rows]
    begin_s = time.process_time()
    for x, label in features:
        model.predict_proba_one(x)
        model.learn_one(x, label)
    return (time.process_time() - begin_s) / len(rows) * 1e6


def _pipeline(features: dict[str, str], model: str) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "learner",
            "task": "binary",
            "event": {"id": "id", "features": features},
            "label": {"id": "id", "value": "label", "wait": "1d"},
            "model": model,
        }
    )


def _rows(model: Model, rng: random.Random) -> Iterator[Row]:
    while True:
        yield model.row(rng)


def _numbers(rng: random.Random, count: int) -> Row:
    return tuple([round(rng.gauss(5, 2), 4) for _ in range(count)])


def _mixed(rng: random.Random) -> Row:
    places = f"s{rng.randrange(7)}", f"c{rng.randrange(29)}", f"m{rng.randrange(5_003)}"
    return (*_numbers(rng, len(case.NUMBERS)), *places)


def _words(rng: random.Random) -> Row:
    return (" ".join([f"w{int(VOCABULARY * rng.random() ** 2)}" for _ in range(20)]),)


def _truth(row: Row) -> bool:
    return len(row[0]) % 2 == 1 if isinstance(row[0], str) else bool(row[0] > 5)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
