"""`driftline guard`: limits for a pipeline, from history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from driftline.backtest.suggest import Suggestion
from driftline.backtest.suggest import suggest as suggested
from driftline.cli.command.history import Files
from driftline.cli.echo import show
from driftline.cli.history import source_of
from driftline.cli.setting import pipeline_of, settings_of
from driftline.config import yaml_scalar
from driftline.core.pipeline import Pipeline
from driftline.core.record import Record

COLUMN = 78


def suggest(pipeline_file: Path | None, overrides: tuple[str, ...], history: Files, as_json: bool) -> None:
    """What `driftline guard suggest` does."""
    pipeline = pipeline_of(settings_of(), pipeline_file, overrides)
    source, _ = source_of(history, pipeline)

    def batches(under: Pipeline) -> Iterator[Sequence[Record]]:
        yield from source.open(under).batches()

    found = suggested(pipeline, batches)
    show(found, lambda: lines(found), as_json=as_json)


def lines(found: Suggestion) -> Iterator[str]:
    """The section, with what each limit was made from and how often it would have tripped."""
    yield f"# of {found.scored:,} predictions; see docs/guard.md"
    yield "guard:"
    for name, value in found.guard.items():
        if name in found.why:
            count = found.trips[name]
            share = f" ({count / found.scored:.2%})" if found.scored else ""
            yield from _comment(found.why[name], "  ")
            yield f"  # would have tripped {count:,} times{share}"
        if name == "fallback" and found.second is not None:
            yield from _second(found.second)
        yield f"  {name}: {yaml_scalar(value)}"
    for note in found.notes:
        yield from _comment(note)


def _comment(text: str, margin: str = "") -> Iterator[str]:
    first, *others = wrap(text, COLUMN - len(margin) - 2, break_long_words=False)
    yield f"{margin}# {first}"
    yield from (f"{margin}#   {line}" for line in others)


def _second(second: Mapping[str, Any]) -> Iterator[str]:
    """How good the second model was beside the first, and whether it fails."""
    if second["error"] is None:
        yield "  # second model: no labels at which both models had an answer"
    else:
        better = "better" if second["error"] < second["first_error"] else "no better"
        errors = f"mean error {second['error']:.4g}, of the first {second['first_error']:.4g}"
        yield from _comment(f"second model: {errors} ({better}), over {second['labels']:,} labels", "  ")
    failed = f"; it failed {second['failed']:,} times" if second["failed"] else ""
    yield f"  # would have been served {second['served']:,} times{failed}"
