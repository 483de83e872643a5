"""The accuracy that River's models reach through the whole service, beside what River reaches by itself.

With zero label delay the service must be a plain test-then-train loop: an event's label has the event's time, is read
before it, held, and learned as soon as the event is scored. The inputs are produced before the worker starts, so
the merge has to find the order by itself.

    python -m tests.support.table --data DIR [--kind kafka|embedded]

prints the table for the data sets in DIR: elec2, noaa_weather and sea_50k as csv.gz, which a fresh clone has not.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import sys
import tempfile
import time
from collections.abc import Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from river import metrics

from driftline.core.river.building import build_model
from driftline.devbroker import embedded, kafka
from driftline.devbroker.node import Node
from driftline.ingest.column import read_cell
from driftline.kafka.topic import create
from tests.support.command import Command, Worker, succeed
from tests.support.stream import Rows, pipeline_file, pipeline_of, settings_of

MODELS: Mapping[str, str] = {
    "GaussianNB": "GaussianNB()",
    "HoeffdingTree": "HoeffdingTreeClassifier()",
    "HoeffdingAdaptiveTree": "HoeffdingAdaptiveTreeClassifier(seed=42)",
    "LogisticRegression": "StandardScaler() | LogisticRegression()",
}
LABELS: Mapping[str, str] = {"elec2": "class", "noaa_weather": "target", "sea_50k": "class"}
KNOWN: Mapping[str, Mapping[str, float]] = {
    "elec2": dict(zip(MODELS, (0.7319, 0.7734, 0.8118, 0.8165), strict=True)),
    "noaa_weather": dict(zip(MODELS, (0.6922, 0.7354, 0.7332, 0.7679), strict=True)),
    "sea_50k": dict(zip(MODELS, (0.8447, 0.8481, 0.8665, 0.8892), strict=True)),
}
"""What River 0.26.1 itself reaches on these files with default parameters, labels at once."""
RUN_TIMEOUT_S = 240.0
TAIL_TIMEOUT_S = 60


def rows_of(data: Path, name: str) -> Rows:
    """One of the real files."""
    path = data / f"{name}.csv.gz"
    with gzip.open(path, "rt", newline="") as file:
        header = next(csv.reader(file))
        count = sum(1 for _ in file)
    label = LABELS[name]
    return Rows(path, tuple(column for column in header if column != label), label, count)


def samples(rows: Rows) -> Iterator[tuple[dict[Hashable, Any], Any]]:
    """The rows as River takes them."""
    with gzip.open(rows.path, "rt") if rows.path.suffix == ".gz" else rows.path.open() as file:
        for row in csv.DictReader(file):
            yield {name: read_cell(row[name]) for name in rows.features}, row[rows.label] == "1"


class Reached(NamedTuple):
    """What a model reached.

    Args:
        said: its answers, by row; None where it could not say yet, which is no right answer.
        right: the share of right answers among all rows.
        metric: River's own Accuracy, which leaves the None out.
    """

    said: list[bool | None]
    right: float
    metric: float


def by_river(rows: Rows, expression: str) -> Reached:
    """A plain loop: predict, compare, learn."""
    model, accuracy = plain_model(rows, expression), metrics.Accuracy()
    said: list[bool | None] = []
    right = 0
    for features, label in samples(rows):
        answer = model.predict_one(features)
        said.append(answer)
        right += answer == label
        if answer is not None:
            accuracy.update(label, answer)
        model.learn_one(features, label)
    return Reached(said, right / rows.count, float(accuracy.get()))


def plain_model(rows: Rows, expression: str) -> Any:
    """The model as a pipeline builds it."""
    with tempfile.TemporaryDirectory() as folder:
        return build_model(pipeline_of(pipeline_file(Path(folder), "plain", rows, expression)))


def by_service(node: Node, folder: Path, rows: Rows, models: Mapping[str, str], name: str) -> dict[str, Reached]:
    """The same through the service: one pipeline a model, all on the same events and labels, produced beforehand.

    Args:
        models: expressions by name.
        name: of the data set; names the topics.
    """
    delivery = "exactly_once" if node.kind == "kafka" else "at_least_once"
    topics = {"events": f"{name}.events", "labels": f"{name}.labels"}
    files = {
        model: pipeline_file(folder, f"{name}-{model.lower()}", rows, text, topics=topics, delivery=delivery)
        for model, text in models.items()
    }
    for file in files.values():
        asyncio.run(create(pipeline_of(file), settings_of(node.bootstrap), partitions=1, shards=1))
    first = next(iter(files.values()))
    succeed("produce", "-p", first, "--bootstrap", node.bootstrap, "--input", rows.path, "--label", rows.label)
    with ThreadPoolExecutor(len(files)) as pool:
        return dict(zip(files, pool.map(lambda file: _served(node, folder, file, rows), files.values()), strict=True))


def _served(node: Node, folder: Path, file: Path, rows: Rows) -> Reached:
    """Start a worker on what was produced, and a subscriber that takes its outcomes as they come.

    Afterwards would be too late on the embedded broker: it keeps 5 MB.
    """
    with (
        Command(
            folder, *("tail", "outcomes", "-p", file, "--bootstrap", node.bootstrap, "--from-beginning"),
            *("--limit", rows.count, "--timeout", TAIL_TIMEOUT_S),
        ) as tail,
        Worker(file, node.bootstrap, folder, name=file.stem) as worker,
    ):  # fmt: skip
        worker.until(
            lambda: worker.metric("driftline_labels_joined_total") >= rows.count,
            RUN_TIMEOUT_S,
            f"{rows.count} labels are joined",
        )
        assert tail.end(TAIL_TIMEOUT_S) == 0, tail.log()
        metric = worker.metric("driftline_metric", metric="Accuracy", span="total")
        assert worker.metric("driftline_labels_joined_total") == rows.count
        assert worker.stop() == 0
    outcomes = {one["event_id"]: one for one in map(orjson.loads, tail.output().splitlines())}
    assert sorted(outcomes) == list(range(rows.count)), "every row has one outcome"
    assert all(one["kind"] == "joined" for one in outcomes.values())
    said = [outcomes[row]["prediction"] for row in range(rows.count)]
    right = sum(one["prediction"] == one["label"] for one in outcomes.values())
    return Reached(said, right / rows.count, metric)


def same_digits(reached: float, known: float) -> bool:
    """Whether two accuracies are equal to four digits."""
    return f"{reached:.4f}" == f"{known:.4f}"


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a figure differs from River's own in the fourth digit."""
    parser = argparse.ArgumentParser(prog="tests.support.table", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the csv.gz files")
    parser.add_argument("--kind", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--only", choices=list(LABELS), action="append", help="these files [default: all]")
    given = parser.parse_args(arguments)
    wrong = 0
    print(f"{'file':14}" + "".join(f"{model:>24}" for model in MODELS) + f"{'seconds':>10}", flush=True)
    with (
        kafka.start() if given.kind == "kafka" else embedded.start() as node,
        tempfile.TemporaryDirectory(prefix="driftline-table-") as folder,
    ):
        for name in given.only or LABELS:
            begun_s = time.monotonic()
            reached = by_service(node, Path(folder), rows_of(given.data, name), MODELS, name)
            cells = []
            for model, one in reached.items():
                same = same_digits(one.right, KNOWN[name][model])
                wrong += not same
                cells.append(f"{one.right:.4f} ({'=' if same else 'River: '}{KNOWN[name][model]:.4f})")
            print(
                f"{name:14}" + "".join(f"{cell:>24}" for cell in cells) + f"{time.monotonic() - begun_s:10.0f}",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
