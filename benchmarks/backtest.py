"""How fast a backtest folds a file, beside a bare loop over the same file, and what a second candidate costs.

The file is elec2 five times over where DRIFTLINE_DATA names a folder that has it, else made up in its shape. Rounds
are interleaved; a ratio is taken within its round, by CPU time, which other load on the machine moves less.
"""

from __future__ import annotations

import gzip
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import exp
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks import machine

TIMES = 5
ROWS = 45_312
FEATURES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
LABEL = "class"
TIMEOUT_S = 600.0
TARGETS = {"logistic": 0.65, "tree": 0.82, "two": 1.3}
ABOUT = {
    "logistic": "events a second, of a bare loop's: StandardScaler | LogisticRegression",
    "tree": "events a second, of a bare loop's: HoeffdingTree",
    "two": "time of both candidates in one pass, of one reading and both models' own time",
}


@dataclass(frozen=True)
class Ratio:
    """A ratio within rounds; `met` where it is on the right side of its target."""

    name: str
    median: float
    least: float
    most: float
    by_wall: float
    target: float

    @property
    def met(self) -> bool:
        return self.median <= self.target if self.name == "two" else self.median >= self.target


@dataclass(frozen=True)
class Report:
    ratios: list[Ratio]
    rates: dict[str, float]
    setting: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        ratios = [{**asdict(ratio), "met": ratio.met} for ratio in self.ratios]
        return {"ratios": ratios, "rates": self.rates, "setting": self.setting}


def measure(rounds: int, say: Callable[[str], None]) -> Report:
    """Run every contender in every round."""
    core, _ = machine.split_cores()
    with tempfile.TemporaryDirectory() as folder:
        path, what = _file(Path(folder))
        made: list[dict[str, dict[str, Any]]] = []
        for number in range(rounds):
            runs: dict[str, dict[str, Any]] = {}
            for key, who, models in (
                ("bare logistic", "bare", ["logistic"]),
                ("logistic", "ours", ["logistic"]),
                ("bare tree", "bare", ["tree"]),
                ("tree", "ours", ["tree"]),
                ("reading", "reading", []),
                ("both", "ours", ["logistic", "tree"]),
            ):
                options = {"who": who, "path": str(path), "label": LABEL, "models": models, "core": core}
                runs[key] = machine.run("history", options, TIMEOUT_S)
                say(
                    f"round {number + 1} of {rounds}: {key} {runs[key]['count'] / runs[key]['cpu_s']:,.0f} a CPU second"
                )
            made.append(runs)
    rates = {key: median(runs[key]["count"] / runs[key]["cpu_s"] for runs in made) for key in made[0]}
    ratios = [_ratio(name, made) for name in TARGETS]
    peaks = {key: max(runs[key]["peak_mb"] for runs in made) for key in ("logistic", "both")}
    setting = {
        "file": what,
        "rounds": rounds,
        "peak memory": {key: f"{peak:.0f} MB" for key, peak in peaks.items()},
        "versions": {name: number for name, number in machine.versions().items() if name != "kafka"},
    }
    return Report(ratios, rates, setting)


def _ratio(name: str, made: list[dict[str, dict[str, Any]]]) -> Ratio:
    def of(runs: dict[str, dict[str, Any]], clock: str) -> float:
        if name != "two":
            return float(runs[f"bare {name}"][clock] / runs[name][clock])
        reading = runs["reading"][clock]
        own = sum(runs[model][clock] - reading for model in ("logistic", "tree"))
        return float(runs["both"][clock] / (reading + own))

    by_cpu = [of(runs, "cpu_s") for runs in made]
    by_wall = median(of(runs, "seconds") for runs in made)
    return Ratio(name, median(by_cpu), min(by_cpu), max(by_cpu), by_wall, TARGETS[name])


def _file(folder: Path) -> tuple[Path, str]:
    """A table of `TIMES * ROWS` rows."""
    data = os.environ.get("DRIFTLINE_DATA")
    path = folder / "history.csv"
    if data and (Path(data) / "elec2.csv.gz").exists():
        with gzip.open(Path(data) / "elec2.csv.gz", "rt") as file:
            header, *lines = file.read().splitlines()
        what = f"elec2, {TIMES} times over"
    else:
        source = random.Random(7)
        header, lines = ",".join((*FEATURES, LABEL)), []
        for _ in range(ROWS):
            values = [round(source.random(), 6) for _ in FEATURES]
            odds = 4 * (values[1] - values[3]) + 2 * (values[2] - 0.5)
            lines.append(",".join(map(str, (*values, int(source.random() < 1 / (1 + exp(-odds)))))))
        what = f"made up, {TIMES * ROWS:,} rows"
    path.write_text("\n".join((header, *(lines * TIMES))) + "\n")
    return path, what


def tables(report: Report) -> list[Table]:
    """For a terminal."""
    ratios = Table(title="Backtest", width=100)
    for name in ("ratio", "median", "min - max", "by wall", "target"):
        ratios.add_column(name, justify="left" if name == "ratio" else "right")
    for one in report.ratios:
        sign = "at most" if one.name == "two" else "at least"
        met = "" if one.met else " MISSED"
        ratios.add_row(
            ABOUT[one.name],
            f"{one.median:.2f}",
            f"{one.least:.2f} - {one.most:.2f}",
            f"{one.by_wall:.2f}",
            f"{sign} {one.target}{met}",
        )
    rates = Table(title="Events a CPU second")
    rates.add_column("who")
    rates.add_column("rate", justify="right")
    for key, rate in report.rates.items():
        rates.add_row(key, f"{rate:,.0f}")
    return [ratios, rates]
