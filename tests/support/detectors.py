"""Tables of what detectors find and what reactions gain, made by folding streams through a shard.

    python -m tests.support.detectors TABLE [--data FOLDER]

Tables: detectors, alarms, family, reactions. With `--data` (see `driftline` README: data sets are not part of the
repository) the streams from files are in them too. Seeds are fixed here, before any result was looked at.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp
from pathlib import Path
from statistics import fmean, median
from typing import Any

from river import datasets

from driftline.core.drift.monitors import Drift, DriftMonitors
from driftline.core.output import Prediction
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.river.building import build_detector
from driftline.core.shard.state import Shard
from driftline.core.signal import Signal
from tests.support.folding import step

synth: Any = datasets.synth  # River is untyped
Row = tuple[dict[str, float], Any]

SEEDS = range(10)
MODELS = {
    "LR": "StandardScaler() | LogisticRegression()",
    "NB": "GaussianNB()",
    "HT": "HoeffdingTreeClassifier()",
    "HAT": "HoeffdingAdaptiveTreeClassifier(seed=42)",
}
DETECTORS = (
    "ADWIN(delta=0.002)",
    "PageHinkley()",
    "KSWIN()",
    "DDM()",
    "EDDM()",
    "FHDDM()",
    "HDDMA()",
    "HDDMW()",
)
SEA_CHANGES = (12_500, 25_000, 37_500)


# -- streams


def rows_of(folder: Path, name: str, label: str) -> list[Row]:
    """A file of numbers, row by row."""
    with gzip.open(folder / f"{name}.csv.gz", "rt") as lines:
        made = []
        for row in csv.DictReader(lines):
            y = int(float(row.pop(label))) == 1
            made.append(({key: float(value) for key, value in row.items()}, y))
    return made


def sea_switch(seed: int, width: int) -> list[Row]:
    """SEA's thresholds 7 and 9.5, 10,000 rows with the change at 5,000; a tenth of the labels are noise.

    Args:
        width: over how many rows the change goes; 0 for at once (River's own stream overflows below 30).
    """
    before, after = synth.SEA(variant=2, noise=0.1, seed=seed), synth.SEA(variant=3, noise=0.1, seed=seed + 100)
    if not width:
        return _rows(before.take(5_000)) + _rows(after.take(5_000))
    stream = synth.ConceptDriftStream(stream=before, drift_stream=after, position=5_000, width=width, seed=seed)
    return _rows(stream.take(10_000))


def sine(seed: int) -> list[Row]:
    """Sine's functions 0, 1, 2: 8,000 rows each."""
    made: list[Row] = []
    for function in range(3):
        made += _rows(synth.Sine(classification_function=function, seed=10 * seed + function).take(8_000))
    return made


def stationary(seed: int, count: int) -> list[Row]:
    """A stream that does not change: SEA, Sine, radial bases, Mixed and a hyperplane in turn."""
    kinds: list[Callable[[], Any]] = [
        lambda: synth.SEA(variant=seed % 4, noise=0.1, seed=seed),
        lambda: synth.Sine(classification_function=seed % 4, seed=seed, has_noise=True),
        lambda: synth.RandomRBF(seed_model=seed, seed_sample=seed, n_classes=2, n_features=5),
        lambda: synth.Mixed(classification_function=seed % 2, seed=seed),
        lambda: synth.Hyperplane(seed=seed, n_features=5, mag_change=0.0),
    ]
    return _rows(kinds[seed % len(kinds)]().take(count))


def _rows(stream: Iterable[Any]) -> list[Row]:
    return [({str(key): float(value) for key, value in x.items()}, bool(y)) for x, y in stream]


# -- through a shard


def pipeline_of(names: Sequence[str], model: str, drift: Mapping[str, Any]) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "table",
            "task": "binary",
            "event": {"id": "id", "features": dict.fromkeys(names, "number")},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
            "metrics": ["Accuracy"],
            "drift": dict(drift),
        }
    )


class Run:
    """A stream folded through a shard, each label right after its event.

    Attributes:
        found: every drift, with the number of the label.
        errors: of the served predictions, 1 for wrong.
    """

    def __init__(self, rows: Sequence[Row], model: str, drift: Mapping[str, Any]) -> None:
        self.pipeline = pipeline_of(list(rows[0][0]), model, drift)
        self.shard = Shard(self.pipeline, 0)
        self.found: list[tuple[int, Drift]] = []
        self.errors: list[int] = []
        monitors, number = self.shard.monitors, 0
        watch = monitors.on_label

        def recorded(y_true: Any, prediction: Any, scale: float = 1.0) -> Sequence[Drift]:
            changes = watch(y_true, prediction, scale)
            self.errors.append(0 if prediction.label == y_true else 1)
            self.found += [(number, change) for change in changes]
            return changes

        monitors.on_label = recorded  # type: ignore[method-assign]  # to see what is found
        for number, (x, y) in enumerate(rows, 1):
            at = number * 1_000
            source = Source("table.events", 0, number, at, None, None)
            step(self.shard, Event(source, at, at, number, tuple(x.values())))
            source = Source("table.labels", 0, number, at, None, None)
            step(self.shard, Label(source, at, at, number, y))

    @property
    def accuracy(self) -> float:
        return float(self.shard.evaluation.values()["Accuracy"] or 0)

    @property
    def reactions(self) -> int:
        return sum(count for name, count in self.shard.counts.items() if name.startswith("reaction_"))


def by_hand(expression: str, pipeline: Pipeline, errors: Sequence[int]) -> list[int]:
    """Where the detector alone finds a drift; FHDDM reads 1 as right."""
    detector, found = build_detector(expression, pipeline), []
    for number, wrong in enumerate(errors, 1):
        detector.update(1 - wrong if expression.startswith("FHDDM") else wrong)
        if detector.drift_detected:
            found.append(number)
    return found


# -- tables


def detectors(data: Path | None) -> Iterator[str]:
    """What each detector finds in the errors of GaussianNB, through the shard and by hand."""
    streams: dict[str, list[tuple[list[Row], tuple[int, ...]]]] = {
        "abrupt": [(sea_switch(seed, 0), (5_000,)) for seed in SEEDS],
        "gradual": [(sea_switch(seed, 1_000), (5_000,)) for seed in SEEDS],
    }
    if data is not None:
        streams["sea_50k"] = [(rows_of(data, "sea_50k", "class"), SEA_CHANGES)]
    yield "| stream | detector | changes found | false alarms | median delay | equal to the detector by hand |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, cases in streams.items():
        runs = [
            (Run(rows, MODELS["NB"], {"error": list(DETECTORS), "warmup_labels": 1_000}), changes)
            for rows, changes in cases
        ]
        for place, expression in enumerate(DETECTORS, 1):
            monitor = "error" if place == 1 else f"error#{place}"
            hits: list[int] = []
            false_alarms, equal = 0, True
            for run, changes in runs:
                mine = [(number, one) for number, one in run.found if one.monitor == monitor and one.kind == "drift"]
                alone = by_hand(expression, run.pipeline, run.errors)
                equal = equal and [number for number, _ in mine] == alone
                found, others = judged([number for number, one in mine if one.alerts], changes)
                hits += found
                false_alarms += others
            total = sum(len(changes) for _, changes in runs)
            delay = f"{median(hits):,.0f}" if hits else "-"
            told = "yes" if equal else "NO"
            yield f"| {name} | `{expression}` | {len(hits)} of {total} | {false_alarms} | {delay} | {told} |"


def judged(alerts: Sequence[int], changes: Sequence[int]) -> tuple[list[int], int]:
    """Delays of the changes that were found, and how many alerts were none's first one."""
    ends = [*changes[1:], 10**9]
    delays = []
    for change, end in zip(changes, ends, strict=True):
        first = next((number for number in alerts if change < number <= end), None)
        if first is not None:
            delays.append(first - change)
    return delays, len(alerts) - len(delays)


def alarms(data: Path | None) -> Iterator[str]:
    """How often the shipped defaults alert where nothing changes, and what they find in two files."""
    yield "| what does not change | streams | values | alerts |"
    yield "| --- | --- | --- | --- |"
    for share in (0.02, 0.1, 0.3):
        count = sum(bernoulli(share, seed) for seed in SEEDS)
        yield f"| errors, a share of {share:g} | 10 | 1,000,000 | {count} |"
    yield f"| a lognormal feature | 10 | 1,000,000 | {sum(lognormal(seed) for seed in SEEDS)} |"
    yield f"| the log loss of a rare class, 1.2% | 10 | 1,000,000 | {sum(rare_loss(seed) for seed in SEEDS)} |"
    for name in ("LR", "NB", "HT"):
        count = 0
        for seed in SEEDS:
            run = Run(stationary(seed, 100_000), MODELS[name], {})
            count += sum(one.alerts for _, one in run.found)
        yield f"| errors of {name}, which learns from cold | 10 | 1,000,000 | {count} |"
    if data is None:
        return
    run = Run(rows_of(data, "sea_50k", "class"), MODELS["NB"], {})
    yield ""
    yield f"NB on sea_50k, changes at {SEA_CHANGES}: alerts at {[number for number, one in run.found if one.alerts]}"
    yield ""
    yield "| noaa_weather: alerts by feature | raw | as a rank | with `season: 365.25d` |"
    yield "| --- | --- | --- | --- |"
    rows = rows_of(data, "noaa_weather", "target")
    for name in rows[0][0]:
        counts = [feature_alerts(rows, name, more) for more in ({"raw": True}, {}, {"season": "365.25d"})]
        yield f"| {name} | {' | '.join(map(str, counts))} |"


def bernoulli(share: float, seed: int) -> int:
    rng = random.Random(seed)
    (monitor,) = DriftMonitors.of(pipeline_of(["x"], MODELS["NB"], {})).direct[Signal.ERROR]
    found = [monitor.update(float(rng.random() < share), settled=number > 5_000) for number in range(1, 100_001)]
    return sum(one.alerts for one in found if one is not None)


def rare_loss(seed: int) -> int:
    """Labels as likely as the served probabilities say, most of them far below a hundredth."""
    rng = random.Random(seed)
    monitors = DriftMonitors.of(pipeline_of(["x"], MODELS["NB"], {"error": "none", "loss": "ADWIN(delta=0.002)"}))
    count = 0
    for _ in range(100_000):
        p = 1 / (1 + exp(-rng.gauss(-5.5, 1.5)))
        served = Prediction(p > 0.5, {True: p, False: 1 - p}, p)
        count += sum(one.alerts for one in monitors.on_label(rng.random() < p, served))
    return count


def lognormal(seed: int) -> int:
    rng = random.Random(seed)
    monitors = DriftMonitors.of(pipeline_of(["x"], MODELS["NB"], {"features": {"x": "ADWIN()"}}))
    return sum(one.alerts for _ in range(100_000) for one in monitors.on_event((rng.lognormvariate(3, 1),)))


def feature_alerts(rows: Sequence[Row], name: str, more: Mapping[str, Any]) -> int:
    watched = {"features": {name: {"detector": "ADWIN(delta=0.002)", **more}}}
    monitors = DriftMonitors.of(pipeline_of(list(rows[0][0]), MODELS["NB"], watched))
    day_ms = 86_400_000
    return sum(
        one.alerts for day, (x, _) in enumerate(rows) for one in monitors.on_event(tuple(x.values()), day * day_ms)
    )


def family(_: Path | None) -> Iterator[str]:
    """How often any of many features that do not change alerts, and how late a real change is found."""
    runs, events = 20, 20_000
    yield f"| detector | features | of {runs} runs with false alarms: none | bonferroni | delay: none | bonferroni |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for expression in ("ADWIN(delta=0.002)", "ADWIN(delta=0.3)"):
        for count in (1, 10, 50):
            cells: list[list[str]] = [[], []]
            for correction in ("none", "bonferroni"):
                outcomes = [one_family(expression, count, correction, seed, events) for seed in range(runs)]
                cells[0].append(str(sum(wrong > 0 for wrong, _ in outcomes)))
                delays = [delay for _, delay in outcomes if delay is not None]
                cells[1].append(f"{median(delays):,.0f}" if delays else "-")
            yield f"| `{expression}` | {count} | {' | '.join(cells[0] + cells[1])} |"


def one_family(expression: str, count: int, correction: str, seed: int, events: int) -> tuple[int, int | None]:
    """False alarms of all features in `events` events, then the delay of a shift by .3 spreads in the first one."""
    rng = random.Random(seed)
    names = [f"f{number}" for number in range(count)]
    watched = {"features": dict.fromkeys(names, expression), "correction": correction}
    monitors = DriftMonitors.of(pipeline_of(names, MODELS["NB"], watched))
    gauss = rng.gauss
    wrong = sum(len(monitors.on_event([gauss(0, 1) for _ in names])) for _ in range(events))
    (_, monitor), found = monitors.features[0], None
    for number in range(1, 20_001):
        if monitor.update(gauss(0.3, 1)) is not None:
            found = number
            break
    return wrong, found


REACTIONS: Mapping[str, Mapping[str, Any]] = {
    "alert": {"error": "ADWIN(delta=0.002)"},
    "reset": {"error": {"detector": "ADWIN(delta=0.002)", "reaction": "reset"}},
    "swap": {"error": {"detector": "ADWIN(delta=0.002)", "warning": "ADWIN(delta=0.05)", "reaction": "swap"}},
    "boost": {"error": {"detector": "ADWIN(delta=0.002)", "reaction": "boost"}},
}


def reactions(data: Path | None) -> Iterator[str]:
    """Prequential accuracy of the served predictions under each reaction, and how often it came."""
    streams: dict[str, list[list[Row]]] = {"Sine": [sine(seed) for seed in SEEDS]}
    if data is not None:
        streams |= {name: [rows_of(data, name, "class")] for name in ("sea_50k", "elec2")}
    yield f"| stream | model | {' | '.join(REACTIONS)} | reactions |"
    yield f"| --- | --- |{' --- |' * (len(REACTIONS) + 1)}"
    for name, cases in streams.items():
        for model, expression in MODELS.items():
            cells, counts = [], []
            for act, drift in REACTIONS.items():
                if act == "boost" and model != "LR":
                    cells.append("no rate")
                    continue
                runs = [Run(rows, expression, drift) for rows in cases]
                cells.append(f"{fmean(run.accuracy for run in runs):.4f}".lstrip("0"))
                if act != "alert":
                    counts.append(f"{act} {sum(run.reactions for run in runs)}")
            yield f"| {name} | {model} | {' | '.join(cells)} | {', '.join(counts)} |"


TABLES: Mapping[str, Callable[[Path | None], Iterator[str]]] = {
    "detectors": detectors,
    "alarms": alarms,
    "family": family,
    "reactions": reactions,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables of what detectors find and what reactions gain.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, help="folder with sea_50k, elec2 and noaa_weather as csv.gz")
    chosen = parser.parse_args()
    for line in TABLES[chosen.table](chosen.data):
        print(line, flush=True)


if __name__ == "__main__":
    main()
