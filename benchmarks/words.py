"""How soon the signal `vocabulary` finds new words in texts, and how often it is wrong: `python -m benchmarks.words`.

Texts are made up: their words follow Zipf's law, as those of a language do. From some text on, a share of their words
comes from another vocabulary. With `--texts FILE` (JSON lines with `label` and `text`), also real ones: shuffled, and
for a change with most of the rarer label's at the end.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import river.drift

from driftline.core.drift.monitors import Chosen, DriftMonitors

RUNS = 20
TEXTS = 12_000
CHANGE = 8_000
WORDS = 12
VOCABULARY = 30_000
EXPONENT = 1.05

_drift: Any = river.drift  # River is untyped


def watch(texts: Sequence[str], change: int) -> tuple[int, int | None, float]:
    """Alerts before the change, texts from the change to the first alert behind it, and the share before."""
    chosen = Chosen("ADWIN(delta=0.002)", _drift.ADWIN(delta=0.002))
    monitors = DriftMonitors("binary", ("text",), features={"text": [chosen]}, types={"text": "text"})
    found = [
        (number, one.before)
        for number, text in enumerate(texts)
        for one in monitors.on_event((text,), None)
        if one.alerts
    ]
    behind = [(number - change, before) for number, before in found if number >= change]
    return len(found) - len(behind), behind[0][0] if behind else None, behind[0][1] if behind else 0.0


def made(rng: random.Random, share: float) -> list[str]:
    """Texts of one vocabulary, and from the change on with a share of words of another."""
    weights = list(accumulate(1 / rank**EXPONENT for rank in range(1, VOCABULARY + 1)))
    ranks = range(VOCABULARY)
    texts = []
    for number in range(TEXTS):
        words = rng.choices(ranks, cum_weights=weights, k=WORDS)
        other = number >= CHANGE
        texts.append(" ".join(f"{'n' if other and rng.random() < share else 'w'}{_name(word)}" for word in words))
    return texts


def _name(number: int) -> str:
    """In letters: digits count as one."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def shuffled(rng: random.Random, rows: Sequence[dict[str, str]], change: int, *, changed: bool) -> list[str]:
    """Real texts; where they change, those of the rarer label are seven of ten at the end and few before."""
    labels = [row["label"] for row in rows]
    rare = min(set(labels), key=labels.count)
    some = [row["text"] for row in rows if row["label"] == rare]
    most = [row["text"] for row in rows if row["label"] != rare]
    rng.shuffle(some)
    rng.shuffle(most)
    if not changed:
        everything = some + most
        rng.shuffle(everything)
        return everything
    before = [some.pop() if rng.random() < 0.05 else most.pop() for _ in range(change)]
    behind = [some.pop() if rng.random() < 0.7 else most.pop() for _ in range(600) if some and most]
    return before + behind


def show(name: str, runs: Sequence[tuple[int, int | None, float]]) -> None:
    delays = [delay for _, delay, _ in runs if delay is not None]
    before = [share for _, delay, share in runs if delay is not None]
    delay = f"{median(delays):,.0f} (most {max(delays):,})" if delays else "-"
    share = f"{median(before):.3f}" if before else "-"
    false = sum(count > 0 for count, _, _ in runs)
    print(f"| {name} | {false} of {len(runs)} | {len(delays)} of {len(runs)} | {share} | {delay} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="JSON lines with label and text, may be gzipped")
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args(arguments)
    print("| texts | runs with an alert before the change | changes found | share before | texts until found |")
    print("| --- | --- | --- | --- | --- |")
    for share in (0.0, 0.01, 0.03, 0.1, 0.3):
        runs = [watch(made(random.Random(seed), share), CHANGE if share else TEXTS) for seed in range(chosen.runs)]
        show(f"made up, {share:.0%} new" if share else "made up, no change", runs)
    if chosen.texts is not None:
        opened = gzip.open if chosen.texts.suffix == ".gz" else open
        with opened(chosen.texts, "rt") as file:
            rows = [json.loads(line) for line in file]
        for changed in (False, True):
            change = 4_000 if changed else len(rows)
            runs = [
                watch(shuffled(random.Random(seed), rows, change, changed=changed), change)
                for seed in range(chosen.runs)
            ]
            show("real, other kinds of text" if changed else "real, shuffled", runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
