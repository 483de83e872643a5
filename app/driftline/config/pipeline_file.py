"""Pipeline files: read, with `--set` put in, and every problem with its line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftline.config.document import dump_yaml, read_yaml
from driftline.core.error import InputFileError, PipelineError, Problem
from driftline.core.notation import is_factory
from driftline.core.pipeline import Pipeline, parse_pipeline, read_outline

_FILE_BYTES_MAX = 1_000_000


def load_pipeline(path: Path, overrides: Sequence[str] = (), *, spare: bool = False) -> Pipeline:
    """The pipeline that a file describes.

    Args:
        path: a YAML (or JSON) file.
        overrides: `key.key=value`, each in place of what the file says there, as in `params.lr=0.1`.
        spare: features that nothing uses are not a fault.

    Raises:
        InputFileError: the file cannot be read.
        PipelineError: with every problem in it, each with its line.
    """
    return read_pipeline(_read(path), overrides, spare=spare, name=str(path))


def load_outline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """`load_pipeline` for whoever needs the pipeline's topics and not its model; see `core.pipeline.read_outline`.

    Raises:
        InputFileError: the file cannot be read.
        PipelineError: with every problem in what is read, each with its line.
    """
    doc, lines = _document(_read(path), overrides, str(path))
    with _located(str(path), lines):
        return read_outline(doc)


def read_pipeline(text: str, overrides: Sequence[str] = (), *, spare: bool = False, name: str = "") -> Pipeline:
    """`load_pipeline` for the text of a file.

    Args:
        name: of the file, for problems.

    Raises:
        PipelineError: with every problem in it, each with its line.
    """
    doc, lines = _document(text, overrides, name)
    if isinstance(doc, dict) and is_factory(str(doc.get("model", ""))) and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where a user's factory lies; last, so that it hides no installed module
    with _located(name, lines):
        return parse_pipeline(doc, spare=spare)


def _document(text: str, overrides: Sequence[str], name: str) -> tuple[Any, dict[str, int]]:
    """A pipeline file's content with the overrides in it, and the line of each key."""
    with _located(name, {}):
        doc, lines = read_yaml(text)
    for override in overrides:
        _override(doc, override)
    return doc, lines


def dump_pipeline(pipeline: Pipeline) -> str:
    """The resolved pipeline as YAML that `read_pipeline` reads back to the same."""
    return dump_yaml(pipeline.resolved())


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder; give a pipeline file")
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise InputFileError(
            f"{path} does not exist; give a pipeline file with -p, or write one with `driftline init`"
        ) from None
    except OSError as error:
        raise InputFileError(f"cannot read {path} ({error.strerror}); give another pipeline file with -p") from error
    if len(content) > _FILE_BYTES_MAX:
        raise InputFileError(
            f"{path} is larger than {_FILE_BYTES_MAX} bytes, too large for a pipeline file; give another with -p"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _override(doc: Any, override: str) -> None:
    """Put `key.key=value` into the document."""
    place, equals, text = override.partition("=")
    keys = place.strip().split(".")
    if not equals or not all(keys):
        raise PipelineError([Problem("--set", override, "write key.key=value, as in params.lr=0.1")])
    value, _ = read_yaml(text)
    here = doc
    for depth, key in enumerate(keys):
        if not isinstance(here, dict):
            before = ".".join(keys[:depth]) or "(file)"
            raise PipelineError(
                [
                    Problem(
                        "--set",
                        override,
                        f"{before} is not a mapping in the file, so {key!r} cannot be set in it",
                    )
                ]
            )
        if depth == len(keys) - 1:
            here[key] = value
        else:
            if here.get(key) is None:
                here[key] = {}
            here = here[key]


@contextmanager
def _located(name: str, lines: Mapping[str, int]) -> Iterator[None]:
    """Problems that are raised here name their file and lines."""
    try:
        yield
    except PipelineError as error:
        raise PipelineError([_placed(problem, name, lines) for problem in error.problems]) from None


def _placed(problem: Problem, name: str, lines: Mapping[str, int]) -> Problem:
    """The problem with the line of its key, or of the nearest section around it."""
    key = problem.path
    while key and key not in lines:
        key = key.rpartition(".")[0]
    line = f"{name}:{lines[key]}" if name and key else f"line {lines[key]}" if key else name
    return replace(problem, place=line)
