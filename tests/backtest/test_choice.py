"""Which candidate of a trial wins."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from driftline.backtest.choice import Choice, choose
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource

LINEAR = "StandardScaler() | LinearRegression()"


def pipeline_of(model: str) -> Pipeline:
    return parse_pipeline(
        {
            "pipeline": "choice",
            "task": "regression",
            "event": {"id": "id", "features": {"x": "number"}},
            "label": {"id": "id", "value": "y", "wait": "1h"},
            "model": model,
        }
    )


def chosen(folder: Path, slow_model: str, fast_model: str, noise: float) -> Choice:
    rng = random.Random(3)
    rows = [f"{(x := rng.gauss(0, 1)):.4f},{2 * x + rng.gauss(0, noise):.4f}" for _ in range(600)]
    path = folder / "rows.csv"
    path.write_text("\n".join(["x,y", *rows]) + "\n")
    models = {"slow": pipeline_of(slow_model), "fast": pipeline_of(fast_model)}
    return choose(
        models,
        [],
        TableSource(path, Fields("y"), 0, 600),
        600,
        "MAE",
        processes=1,
        moved=lambda done, total: None,
        slow={"slow"},
    )


@pytest.mark.parametrize("model", [LINEAR, "StandardScaler() | LinearRegression(optimizer=SGD(0.0101))"])
def test_a_slow_model_that_gains_nothing_or_little_does_not_win(tmp_path: Path, model: str) -> None:
    choice = chosen(tmp_path, LINEAR, model, 1.0)
    assert choice.near is not None or choice.entries[0].name == "fast"
    assert choice.winner is not None
    assert choice.winner.name == "fast"


def test_why_it_did_not_win_is_known(tmp_path: Path) -> None:
    near = chosen(tmp_path, LINEAR, LINEAR, 1.0).near
    assert near is not None
    assert (near.slow.name, near.fast.name, near.gain, near.error) == ("slow", "fast", 0.0, 0.0)


def test_a_slow_model_that_is_clearly_better_wins(tmp_path: Path) -> None:
    choice = chosen(tmp_path, LINEAR, "StatisticRegressor(Mean())", 0.1)
    assert choice.near is None
    assert choice.winner is not None
    assert choice.winner.name == "slow"


def test_candidates_that_are_not_slow_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compared(*given: object) -> list[object]:
        asked.append(given)
        return []

    monkeypatch.setattr("driftline.backtest.report.compare", compared)
    assert chosen(tmp_path, LINEAR, LINEAR, 1.0).near is not None
    assert asked == []
