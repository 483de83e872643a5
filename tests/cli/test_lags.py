"""Lags of made demand in a linear model that diverges: what `init` writes lets nothing absurd out, `train` marks it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from driftline.cli.demand import DAY_MS, sales
from driftline.codec.keyring import KeyRing
from driftline.codec.parts import refusal
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Score
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.shard.state import Shard
from driftline.core.state.model_file import parse
from tests.cli.command import run

START_MS = 20_000 * DAY_MS
LAGS = [f"lag_{number}" for number in range(1, 29)]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [sale for _, sale in sales(2, 6, 60, 100, START_MS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> Path:
    """The table, and what `init` makes of it."""
    made = tmp_path_factory.mktemp("lags")
    with (made / "demand.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = run(
        *(
            "init",
            "--input",
            made / "demand.csv",
            "--label",
            "demand",
            "--task",
            "regression",
            "--no-trial",
            "-o",
            made / "demand.yaml",
        )
    )
    assert done.returncode == 0, done.stderr
    return made


def lagged(folder: Path, *, guarded: bool = True) -> dict[str, Any]:
    """The file that `init` wrote, with lags and a model of a user's own."""
    document: dict[str, Any] = yaml.safe_load((folder / "demand.yaml").read_text())
    if not guarded:
        del document["guard"]
    history = {name: {"history": f"label_lag({n})", "by": ["store", "item"]} for n, name in enumerate(LAGS, 1)}
    document["event"] = {
        "id": "sale_id", "time": "day",
        "features": {"store": "string", "item": "string", "promo": "number", **history},
    }  # fmt: skip
    names = ", ".join(map(repr, ["promo", *LAGS]))
    scaled, coded = f"Select({names}) | StandardScaler()", "Select('store', 'item') | OneHotEncoder(drop_zeros=True)"
    document["model"] = f"(({scaled}) + ({coded})) | LinearRegression()"
    return document


def scores(pipeline: Pipeline, rows: list[dict[str, Any]]) -> list[Score]:
    shard, found = Shard(pipeline, 0), []
    for number, row in enumerate(rows):
        at_ms, event_id = row["day"], row["sale_id"]
        values = (row["store"], row["item"], float(row["promo"]), *[None] * len(LAGS))
        source = Source("demand.events", 0, number, at_ms, None, b"{}")
        made = step(shard, Event(source, at_ms, at_ms, features=values, event_id=event_id), Oracle()).outputs
        found += [one for one in made if isinstance(one, Score)]
        source = Source("demand.labels", 0, number, at_ms, None, b"{}")
        step(shard, Label(source, at_ms, at_ms, event_id, float(row["demand"])), Oracle())
    return found


def test_what_init_writes_lets_nothing_beyond_the_limits_out(folder: Path, rows: list[dict[str, Any]]) -> None:
    said = [score.prediction.value or 0.0 for score in scores(parse_pipeline(lagged(folder, guarded=False)), rows)]
    assert min(said) < -1_000
    assert max(said) > 1_000
    pipeline = parse_pipeline(lagged(folder))
    assert pipeline.guard is not None
    limits = pipeline.guard.range
    assert limits is not None
    assert limits.min == 0
    assert max(row["demand"] for row in rows) < (limits.max or 0) < 200
    made = scores(pipeline, rows)
    assert len(made) == len(rows)
    assert all(0 <= (score.prediction.value or 0) <= (limits.max or 0) for score in made)
    first = made[:100]  # of a model that has learned little: marked, or replaced
    assert all(any(trip.rung == "untrained" for trip in score.tripped) for score in first)
    assert all(score.guard != "served" for score in first)
    instead = [score for score in made if score.guard == "fallback"]
    assert len(instead) > 100
    assert all(score.prediction.value is not None for score in made)


def test_train_marks_a_model_that_has_diverged(folder: Path) -> None:
    (folder / "lags.yaml").write_text(yaml.safe_dump(lagged(folder)))
    given = ("--input", folder / "demand.csv", "--label", "demand")
    done = run("train", "-p", folder / "lags.yaml", *given, "-o", folder / "bad.bin", DRIFTLINE_SNAPSHOT_KEY="k" * 32)
    assert done.returncode == 1
    assert "WARNING: the model has diverged: " in done.stderr
    manifest, _ = parse((folder / "bad.bin").read_bytes())
    assert str(manifest.diverged) in done.stderr
    assert refusal((folder / "bad.bin").read_bytes(), KeyRing.of("k" * 32)) is None
    done = run("train", "-p", folder / "lags.yaml", *given, "-o", folder / "bad.bin", "--json")
    assert "has diverged" in orjson.loads(done.stdout)["diverged"]
    done = run("train", "-p", folder / "demand.yaml", *given, "-o", folder / "good.bin")
    assert (done.returncode, "diverged" in done.stderr) == (0, False)
    assert b"diverged" not in (folder / "good.bin").read_bytes().split(b"\n", 1)[0]
    done = run(
        *("control", "-p", folder / "lags.yaml", "--bootstrap", "127.0.0.1:1", "--no-wait", "load", folder / "bad.bin")
    )
    assert f"WARNING: {folder / 'bad.bin'}: the model has diverged: " in done.stderr
