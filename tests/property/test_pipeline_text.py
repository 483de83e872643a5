"""Whatever a person writes, it is read or refused with a text: nothing else is ever raised."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.config import read_yaml, yaml_scalar
from driftline.core.digest import digest_of
from driftline.core.duration import format_duration, parse_duration
from driftline.core.error import ExpressionError, PipelineError
from driftline.core.pipeline import format_path, parse_path, parse_pipeline
from driftline.core.river.expression import build

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT
TREE: st.SearchStrategy[Any] = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)
PIECES = st.lists(
    st.sampled_from(
        [
            *"()[]{},.:=|+*-~$'\"\\\n#a1é",
            *(
                "$lr",
                "1.5",
                "1e9",
                "None",
                "Select('a')",
                "StandardScaler",
                "LogisticRegression()",
                "SGD(0.1)",
                "model=",
            ),
            *("seed=", " lambda ", " for ", " in ", " if ", " else ", " not ", "__class__"),
        ]
    ),
    max_size=25,
)


@given(st.integers(0, 3_660 * 86_400_000))
def test_durations_round_trip(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms


@given(st.lists(TEXT.filter(bool) | st.integers(0, 999_999_999), min_size=1, max_size=6))
def test_paths_round_trip(parts: list[str | int]) -> None:
    assert parse_path(format_path(tuple(parts))) == tuple(parts)


@given(PIECES.map("".join) | PIECES.map(" ".join) | st.text(max_size=60))
def test_an_expression_builds_or_is_refused(text: str) -> None:
    with suppress(ExpressionError):
        build(text, {"lr": 0.1})


@given(st.text(max_size=60) | PIECES.map("".join))
def test_yaml_is_read_or_refused(text: str) -> None:
    with suppress(PipelineError):
        read_yaml(text)


@given(TREE)
def test_yaml_is_read_as_it_is_written(tree: Any) -> None:
    assert digest_of(read_yaml(yaml_scalar(tree))[0]) == digest_of(tree)


@given(TREE)
def test_any_document_that_is_no_pipeline_is_refused_with_problems(tree: Any) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(tree)
    assert caught.value.problems


@given(
    st.sampled_from(
        ["pipeline", "task", "topics", "event", "label", "params", "model", "decision", "metrics", "drift", "limits"]
    ),
    TREE,
)
def test_any_section_can_be_anything(section: str, tree: Any) -> None:
    doc = {
        "pipeline": "p",
        "task": "binary",
        "event": {"id": "id", "features": {"x": "number"}},
        "label": {"id": "id", "value": "y", "wait": "1h"},
        "model": "LogisticRegression()",
    }
    with suppress(PipelineError):
        pipeline = parse_pipeline({**doc, section: tree})
        assert parse_pipeline(pipeline.resolved()) == pipeline
