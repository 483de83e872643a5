"""The pipelines of `examples/` are valid, as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.config import load_pipeline

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in EXAMPLES.glob("*/pipeline.yaml")))
def test_the_pipeline_of_an_example_is_valid(folder: str) -> None:
    pipeline = load_pipeline(EXAMPLES / folder / "pipeline.yaml")
    assert pipeline.name in (EXAMPLES / folder / "pipeline.yaml").read_text()
    assert (EXAMPLES / folder / "README.md").read_text().startswith("# ")
