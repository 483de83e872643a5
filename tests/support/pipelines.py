"""Pipelines for tests of topics and commands."""

from __future__ import annotations

from typing import Any

from driftline.config import Settings, load_settings
from driftline.core.pipeline import Pipeline, parse_pipeline


def pipeline(name: str = "cards", **changes: Any) -> Pipeline:
    """A small pipeline; `changes` replace its top-level sections."""
    return parse_pipeline(
        {
            "pipeline": name,
            "task": "binary",
            "event": {"id": "id", "features": {"amount": "number", "country": "string"}},
            "label": {"id": "id", "value": "fraud", "wait": "7d"},
            "model": (
                "(Select('amount') | StandardScaler()) + (Select('country') | OneHotEncoder()) | LogisticRegression()"
            ),
            **changes,
        }
    )


def settings(bootstrap: str) -> Settings:
    """Settings of a broker, whatever the environment says."""
    return load_settings({"HOME": "/nonexistent"}, {"bootstrap": bootstrap})
