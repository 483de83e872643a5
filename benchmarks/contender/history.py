"""Events a second over a file: `driftline backtest`, or a bare loop that parses it, predicts, learns and counts.

python -m benchmarks.contender.history '{"who": "bare", "path": "elec2.csv", "label": "class", "models": ["..."]}'
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from river import linear_model, metrics, preprocessing, tree

from benchmarks import machine
from driftline.backtest.candidate import Spec
from driftline.backtest.run import Options, run
from driftline.core.pipeline import parse_pipeline
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource

MODELS = {
    "logistic": "StandardScaler() | LogisticRegression()",
    "tree": "HoeffdingTreeClassifier()",
}


def bare(path: Path, label: str, name: str) -> int:
    """The loop that one would write by hand."""
    model: Any = tree.HoeffdingTreeClassifier()
    if name == "logistic":
        model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    metric = metrics.Accuracy()
    count = 0
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        place = header.index(label)
        features = [column for column in header if column != label]
        for row in reader:
            truth = row.pop(place) == "1"
            x = dict(zip(features, map(float, row), strict=True))
            metric.update(truth, model.predict_one(x))
            model.learn_one(x, truth)
            count += 1
    return count


def specs(path: Path, label: str, names: list[str]) -> list[Spec]:
    with path.open() as file:
        features = [column for column in file.readline().strip().split(",") if column != label]
    return [
        Spec(
            f"{name}-{number}",
            parse_pipeline(
                {
                    "pipeline": name,
                    "task": "binary",
                    "event": {"id": "id", "features": dict.fromkeys(features, "number")},
                    "label": {"id": "id", "value": label, "wait": "1d"},
                    "model": MODELS[name],
                    "metrics": ["Accuracy"],
                }
            ).resolved(),
            "benchmark",
        )
        for number, name in enumerate(names)
    ]


def ours(path: Path, label: str, names: list[str]) -> int:
    source = TableSource(path, Fields(label))
    outcome = run(
        specs(path, label, names), source, Options(), processes=1, scores=None, moved=lambda done, total: None
    )
    return outcome.facts.rows


def reading(path: Path, label: str) -> int:
    """What a backtest does before any candidate folds."""
    history = TableSource(path, Fields(label)).open(parse_pipeline(specs(path, label, ["logistic"])[0].pipeline))
    for _ in history.batches():
        pass
    return history.done


def main() -> None:
    options = json.loads(sys.argv[1])
    machine.pin(options.get("core"))
    path, label, names = Path(options["path"]), options["label"], options.get("models", [])
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    match options["who"]:
        case "bare":
            count = bare(path, label, names[0])
        case "reading":
            count = reading(path, label)
        case _:
            count = ours(path, label, names)
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"count": count, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
