"""The accuracy that River's models reach on real data, reached by `driftline backtest` to four digits.

Opt-in: DRIFTLINE_DATA names a folder with elec2, noaa_weather and sea_50k as csv.gz, which a fresh clone has not.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from tests.cli.command import run
from tests.support.stream import pipeline_file
from tests.support.table import KNOWN, LABELS, MODELS, rows_of

DATA = os.environ.get("DRIFTLINE_DATA")


@pytest.mark.skipif(DATA is None, reason="set DRIFTLINE_DATA to the folder of the real data sets")
@pytest.mark.parametrize("name", LABELS)
def test_backtest_reaches_what_river_reaches(tmp_path: Path, name: str) -> None:
    rows = rows_of(Path(DATA or ""), name)
    files = [
        pipeline_file(tmp_path, model.lower(), rows, expression, metrics=["Accuracy"])
        for model, expression in MODELS.items()
    ]
    flags = [part for file in files for part in ("-p", file)]
    done = run("backtest", *flags, "--input", rows.path, "--label", rows.label, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    made = orjson.loads((tmp_path / "report.json").read_bytes())
    reached = {  # of all rows, as River's: the metric leaves out the first row where a model has no answer yet
        model: one["metrics"]["Accuracy"] * one["answered"] / rows.count
        for model, one in zip(MODELS, made["candidates"], strict=True)
    }
    assert {model: round(value, 4) for model, value in reached.items()} == dict(KNOWN[name])
