"""A file of labels as they will stand in the labels topic: a line of JSON each, with its event's id and its own time.

Several labels may name one event, as rewards of a slate do; a row of a table has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from driftline.codec.document import MISSING, find
from driftline.codec.wire import Sent, Wire
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline, parse_path
from driftline.core.timestamp import parse_time
from driftline.ingest.rows import Bad, is_json, json_rows, open_text


class LabelFile:
    """Labels of a file, in its order, which should be that of their times.

    Args:
        path: `.jsonl` or `.ndjson`, also with `.gz` behind it.
        pipeline: whose labels these are to be.

    Attributes:
        bad: lines that could not be used, once they have been read.

    Raises:
        InputFileError: it is no file of JSON lines, or the pipeline does not say where a label's time is.
    """

    def __init__(self, path: Path, pipeline: Pipeline) -> None:
        form = pipeline.label
        if form is None or form.time is None:
            raise InputFileError(f"--labels {path}: pipeline {pipeline.name} needs label.time, where each has its time")
        if not is_json(path):
            raise InputFileError(f"--labels {path}: give labels as JSON lines, as in the labels topic")
        self.path, self.bad = path, Bad()
        self._id, self._time, self._value = parse_path(form.id), parse_path(form.time), parse_path(form.value)
        self._id_name, self._time_name, self._value_name = form.id, form.time, form.value
        self._wire = Wire(form)

    def labels(self) -> Iterator[tuple[int, Sent]]:
        """Each label's time and record."""
        with open_text(self.path) as file:
            for line, row in json_rows(file, self.bad.add, self.path):
                event_id, moment = find(row, self._id), find(row, self._time)
                if isinstance(event_id, bool) or not isinstance(event_id, str | int):
                    self.bad.add(line, f"no id in {self._id_name!r}")
                elif find(row, self._value) is MISSING:
                    self.bad.add(line, f"no label in {self._value_name!r}")
                else:
                    try:
                        time_ms = parse_time(moment if moment is not MISSING else None)
                    except ValueError as error:
                        self.bad.add(line, f"the time in {self._time_name!r}: {error}")
                        continue
                    yield time_ms, self._wire.write(row, event_id, time_ms)
