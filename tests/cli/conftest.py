"""Files that commands work on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import PIPELINE, stop


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    """A small pipeline."""
    path = tmp_path / "cards.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Two hundred labelled rows."""
    path = tmp_path / "rows.csv"
    lines = [f"t{i},{i * 1.5},{'NL' if i % 3 else 'DE'},{i % 2}" for i in range(200)]
    path.write_text("id,amount,country,fraud\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Commands that a test started; whatever still runs is ended."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        stop(process)
