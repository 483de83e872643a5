"""Rows that are sorted by their class, as a set for learning may be and a stream never is.

In such rows the last label is right nearly always, so a trial over them would choose it, and nothing that it shows
would hold for a stream. They are shuffled for the trial, from a seed.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from driftline.author.leak import Cell
from driftline.author.sample import Sample
from driftline.ingest.rows import CsvRows, is_json, open_text

_SEED: Final = 0
_ROWS_A_RUN: Final = 20  # of one class: from here on, where classes come one after the other, rows are sorted
_RUNS_A_CLASS: Final = 2


def are_sorted(label: Sequence[Cell | None]) -> bool:
    """Whether rows are sorted by their class: hardly more runs than classes, and each long."""
    known = [cell for cell in label if cell is not None]
    classes, runs = len(set(known)), 1 + sum(a != b for a, b in pairwise(known))
    return classes > 1 and runs <= _RUNS_A_CLASS * classes and len(known) >= _ROWS_A_RUN * runs


def shuffled(sample: Sample) -> Sample:
    """The sample with its rows in another order."""
    order = list(range(sample.rows))
    random.Random(_SEED).shuffle(order)
    columns = {name: [cells[place] for place in order] for name, cells in sample.columns.items()}
    return replace(sample, columns=columns)


def write_shuffled(path: Path, folder: Path, rows: int) -> Path:
    """The first rows of a file in another order.

    Returns:
        The new file, in the folder.
    """
    target = folder / ("shuffled.jsonl" if is_json(path) else "shuffled.csv")
    rng = random.Random(_SEED)
    with open_text(path) as file, target.open("w", encoding="utf-8", newline="") as out:
        if is_json(path):
            lines = [line.strip() for line in islice(file, rows) if line.strip()]
            rng.shuffle(lines)
            out.writelines(f"{line}\n" for line in lines)
        else:
            read = CsvRows(path, file)
            texts = [cells for _, cells in islice(read.rows(lambda line, message: None), rows)]
            rng.shuffle(texts)
            csv.writer(out).writerows([read.header, *texts])
    return target
