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
    kinds: Mapping[str, Kind] = {"number": "number", "string": "text", "text": "text", "boolean": "boolean"}
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
        moved: called with the number of records read.

    Raises:
        InputFileError: the disk is full.
    """
    topic = pipeline.topics.outcomes
    place = Place(topic, partition)
    reader = broker.reader()
    written = read = 0
    seen: set[str] = set()
    try:
        await reader.open({place: (await broker.beginnings([place]))[place]})
        with open_part(part) as file:
            write, is_ours = _writer(file, pipeline, partition), _judge(pipeline)
            while sources := await reader.read(place, READ_RECORDS_MAX):
                for source in sources:
                    outcome = document_of(source.value)
                    if outcome is None or not is_ours(outcome) or outcome["kind"] not in kinds:
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


def _judge(pipeline: Pipeline) -> Callable[[Mapping[str, Any]], bool]:
    """A test of whether a document can be the outcome of an event, since other programs may write to the topic."""
    fits: dict[str, Callable[[object], bool]] = {
        "number": _is_number,
        "string": lambda value: type(value) is str,
        "boolean": lambda value: type(value) is bool,
    }
    features = {name: fits[feature.type] for name, feature in pipeline.event.features.items()}

    def is_ours(outcome: Mapping[str, Any]) -> bool:
        given = outcome.get("features") or {}
        return (
            all(type(outcome.get(name)) is str for name in ("output_id", "kind"))
            and type(outcome.get("event_id")) in (str, int, float)
            and _is_whole(outcome.get("event_time_ms"))
            and all(type(outcome.get(name)) in _SCALARS for name in ("prediction", "label", "model_version"))
            and all(
                outcome.get(name) is None or _is_whole(outcome[name]) for name in ("label_time_ms", "label_delay_ms")
            )
            and (outcome.get("probability") is None or _is_number(outcome["probability"]))
            and isinstance(given, dict)
            and all(given.get(name) is None or fit(given[name]) for name, fit in features.items())
        )

    return is_ours


_WHOLE = ("label_time_ms", "label_delay_ms")
_SCALARS = frozenset({str, int, float, bool, type(None)})


def _is_whole(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_number(value: object) -> bool:
    return type(value) is float or type(value) is int


def _writer(file: TextIO, pipeline: Pipeline, partition: int) -> Callable[[dict[str, Any]], object]:
    row = csv.writer(file).writerow
    names = tuple(pipeline.event.features)

    def write(outcome: dict[str, Any]) -> None:
        features = outcome.get("features") or {}
        value = outcome.get("probability")
        prediction = outcome.get("prediction")
        if value is None and isinstance(prediction, int | float) and not isinstance(prediction, bool):
            value = prediction
        row(
            [
                *(outcome["event_id"], outcome["event_time_ms"], partition, outcome["kind"]),
                *(_cell(features.get(name)) for name in names),
                *(_cell(prediction), _cell(value), outcome.get("model_version"), _cell(outcome.get("label"))),
                *(outcome.get("label_time_ms"), outcome.get("label_delay_ms")),
            ]
        )

    return write


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else value
