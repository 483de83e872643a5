"""Outcomes of a pipeline as a table for training elsewhere: features as they were when the event was served, what was
served, and the label with the time at which it came.

Reads the outcomes topic, which has all of it point in time, and nothing else.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

from driftline.backtest.score import Kind, open_part
from driftline.core.pipeline import Pipeline
from driftline.engine.published import document_of
from driftline.transport.port import Broker, Place

READ_RECORDS_MAX = 2_000
_BEFORE: Mapping[str, Kind] = {"event_id": "text", "event_time_ms": "whole", "partition": "whole", "kind": "text"}
_AFTER: Mapping[str, Kind] = {
    "prediction": "text",
    "value": "number",
    "model_version": "text",
    "label": "text",
    "label_time_ms": "whole",
    "label_delay_ms": "whole",
}


def columns_of(pipeline: Pipeline) -> dict[str, Kind]:
    """The columns; a feature whose name is taken by one of ours gets `feature_` before it."""
    kinds: Mapping[str, Kind] = {"number": "number", "string": "text", "boolean": "boolean"}
    features = {column_of(name): kinds[feature.type] for name, feature in pipeline.event.features.items()}
    return {**_BEFORE, **features, **_AFTER}


def column_of(feature: str) -> str:
    return f"feature_{feature}" if feature in _BEFORE or feature in _AFTER else feature


async def export(
    broker: Broker,
    pipeline: Pipeline,
    partition: int,
    part: Path,
    *,
    from_ms: int | None,
    to_ms: int | None,
    kinds: Collection[str],
    moved: Callable[[int], None],
) -> int:
    """Write the outcomes of one partition, without a header; returns how many.

    Args:
        from_ms, to_ms: by the event's time, the end left out.
        kinds: of outcomes, as `core.output.OutcomeKind` has them; those without an event are left out.
        moved: told how many records were read.

    Raises:
        InputFileError: the disk is full.
    """
    topic = pipeline.topics.outcomes
    place = Place(topic, partition)
    reader = broker.reader(partition)
    written = read = 0
    seen: set[str] = set()
    try:
        await reader.open({topic: (await broker.beginnings([place]))[place]})
        with open_part(part) as file:
            write = _writer(file, pipeline, partition)
            while sources := await reader.read(topic, READ_RECORDS_MAX):
                for source in sources:
                    outcome = document_of(source.value)
                    if outcome is None or not _is_ours(outcome) or outcome["kind"] not in kinds:
                        continue
                    time_ms = outcome["event_time_ms"]
                    if (from_ms is not None and time_ms < from_ms) or (to_ms is not None and time_ms >= to_ms):
                        continue
                    if pipeline.delivery == "at_least_once":  # repeats carry the same id
                        if outcome["output_id"] in seen:
                            continue
                        seen.add(outcome["output_id"])
                    write(outcome)
                    written += 1
                read += len(sources)
                moved(read)
    finally:
        await reader.close()
    return written


def _is_ours(outcome: Mapping[str, Any]) -> bool:
    """Whether it can be the outcome of an event: others may have written it."""
    wanted: Mapping[str, tuple[type, ...]] = {
        "output_id": (str,), "kind": (str,), "event_id": (str, int, float), "event_time_ms": (int,),
    }  # fmt: skip
    plain = all(type(outcome.get(name)) in kinds for name, kinds in wanted.items())
    return plain and isinstance(outcome.get("features") or {}, dict)


def _writer(file: TextIO, pipeline: Pipeline, partition: int) -> Callable[[dict[str, Any]], object]:
    row = csv.writer(file).writerow
    names = tuple(pipeline.event.features)

    def write(outcome: dict[str, Any]) -> None:
        features = outcome.get("features") or {}
        value = outcome.get("probability")
        said = outcome.get("prediction")
        if value is None and isinstance(said, int | float) and not isinstance(said, bool):
            value = said
        row(
            [
                *(outcome["event_id"], outcome["event_time_ms"], partition, outcome["kind"]),
                *(_cell(features.get(name)) for name in names),
                *(_cell(said), _cell(value), outcome.get("model_version"), _cell(outcome.get("label"))),
                *(outcome.get("label_time_ms"), outcome.get("label_delay_ms")),
            ]
        )

    return write


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else value
