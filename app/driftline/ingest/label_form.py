"""Labels of rows as records of the labels topic."""

from __future__ import annotations

from typing import Any

from driftline.codec.wire import Sent, Wire, set_path
from driftline.core.error import TopicError
from driftline.core.pipeline import PathPart, Pipeline, parse_path


class LabelForm:
    """Makes label records as the pipeline reads them."""

    def __init__(self, pipeline: Pipeline) -> None:
        form = pipeline.label
        if form is None:
            raise TopicError(f"pipeline {pipeline.name} has no label section; add one")
        self._id = parse_path(form.id)
        self._value = parse_path(form.value)
        self._time: tuple[PathPart, ...] | None = parse_path(form.time) if form.time else None
        self._wire = Wire(form)

    def encode(self, event_id: str | int, label: object, time_ms: int) -> Sent:
        """The record of one label.

        Args:
            event_id: as it is read of the event.
        """
        record: dict[str, Any] = {}
        set_path(record, self._id, event_id)
        set_path(record, self._value, label)
        if self._time is not None:
            set_path(record, self._time, time_ms)
        return self._wire.write(record, event_id, time_ms)
