"""Historical data in files, as several commands read it."""

from __future__ import annotations

from typing import Any

import click

from driftline.backtest.run import HistorySource
from driftline.cli.command.history import Files
from driftline.core.error import InputFileError, InvariantError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Malformed
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from driftline.ingest.log import LogSource


def source_of(files: Files, pipeline: Pipeline) -> tuple[HistorySource, list[str]]:
    """The history that the options name, and the names of its files.

    Args:
        files: that were checked, see `Files.check`.

    Raises:
        UsageError: they do not fit the pipeline.
    """
    if files.path is not None:
        if pipeline.label is not None and files.label is None:
            raise click.UsageError(f"pipeline {pipeline.name} learns from labels: name the field with --label FIELD")
        if pipeline.label is None and files.label is not None:
            raise click.UsageError(
                f"pipeline {pipeline.name} has no section `label`, so --label "
                f"{files.label} has no effect: add the section, or drop --label"
            )
        fields = Fields(
            files.label, files.event_id, files.time, files.start_ms, files.step_ms, files.decimal, files.time_form
        )
        rows = TableSource(files.path, fields, files.label_delay_ms, files.limit)
        return rows, rows.names
    if files.events is None:
        raise InvariantError("options were checked and name no file")
    records = LogSource(files.events, files.labels, files.time, files.label_time, files.limit)
    return records, records.names


def look_through(history: Files, pipeline: Pipeline) -> dict[str, Any]:
    """Read the files as a backtest of this pipeline would, without a fold.

    Returns:
        rows, bad, bad_lines, unlabelled, and rejected (records of two files that the pipeline rejects).

    Raises:
        InputFileError: they cannot be read, no label means anything to the pipeline, or no row can be used.
    """
    source, names = source_of(history, pipeline)
    opened = source.open(pipeline)
    records = rejected = 0
    for batch in opened.batches():
        records += len(batch)
        rejected += sum(isinstance(record, Malformed) for record in batch)
    if not records:
        raise InputFileError(f"no records in {' and '.join(names)}{opened.bad.first}")
    return {
        "rows": opened.done,
        "bad": opened.bad.count,
        "bad_lines": opened.bad.lines,
        "unlabelled": opened.unlabelled,
        "rejected": rejected,
    }
