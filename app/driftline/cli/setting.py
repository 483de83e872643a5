"""Settings and pipeline from the options that several commands share."""

from __future__ import annotations

from pathlib import Path

from driftline.config import Settings, load_outline, load_pipeline, load_settings
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline


def settings_of(**flags: object) -> Settings:
    """The deployment's settings; flags that were not given are None."""
    return load_settings(flags=flags)


def pipeline_of(settings: Settings, file: Path | None, overrides: tuple[str, ...]) -> Pipeline:
    """The pipeline of `-p`, else of DRIFTLINE_PIPELINE.

    Raises:
        InputFileError: neither is given.
    """
    return load_pipeline(_file_of(settings, file), overrides)


def outline_of(settings: Settings, file: Path | None, overrides: tuple[str, ...]) -> Pipeline:
    """`pipeline_of` for commands that only ask Kafka: nothing is built, see `core.pipeline.read_outline`.

    Raises:
        InputFileError: neither is given.
    """
    return load_outline(_file_of(settings, file), overrides)


def _file_of(settings: Settings, file: Path | None) -> Path:
    path = file or settings.pipeline
    if path is None:
        raise InputFileError("no pipeline: give its file with -p FILE, or set DRIFTLINE_PIPELINE")
    return path
