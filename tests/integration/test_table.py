"""With no label delay, a model reaches through the whole service what it reaches in River's own loop: the same answers.

The default run takes a small made-up stream. With DRIFTLINE_DATA set to a folder that holds elec2, noaa_weather and
sea_50k as csv.gz, the table of known figures is run too; `python -m tests.support.table` prints it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from river import evaluate, metrics

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from tests.support.stream import weather
from tests.support.table import KNOWN, LABELS, MODELS, by_river, by_service, plain_model, rows_of, same_digits, samples

ROWS = 2_000


@pytest.fixture(scope="session")
def data() -> Path:
    folder = os.environ.get("DRIFTLINE_DATA")
    if not folder:
        pytest.skip("set DRIFTLINE_DATA to a folder with elec2.csv.gz, noaa_weather.csv.gz and sea_50k.csv.gz")
    return Path(folder)


def test_every_answer_is_rivers_own(kafka: KafkaNode, tmp_path: Path) -> None:
    rows = weather(tmp_path, ROWS)
    reached = by_service(kafka, tmp_path, rows, MODELS, "table-made-up")
    for model, expression in MODELS.items():
        alone, through = by_river(rows, expression), reached[model]
        assert through.said == alone.said, model
        assert through.right == alone.right, model
        own = evaluate.progressive_val_score(samples(rows), plain_model(rows, expression), metrics.Accuracy())
        assert through.metric == own.get(), model


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LABELS)
def test_known_table(data: Path, kafka: KafkaNode, tmp_path: Path, name: str) -> None:
    reached = by_service(kafka, tmp_path, rows_of(data, name), MODELS, f"table-{name}")
    shown = {model: f"{one.right:.4f}" for model, one in reached.items()}
    print(name, shown)
    assert all(same_digits(one.right, KNOWN[name][model]) for model, one in reached.items()), shown


@pytest.mark.timeout(600)
def test_known_table_on_the_embedded_broker(data: Path, embedded: EmbeddedNode, tmp_path: Path) -> None:
    name = "noaa_weather"
    reached = by_service(embedded, tmp_path, rows_of(data, name), MODELS, f"table-{name}")
    shown = {model: f"{one.right:.4f}" for model, one in reached.items()}
    assert all(same_digits(one.right, KNOWN[name][model]) for model, one in reached.items()), shown
