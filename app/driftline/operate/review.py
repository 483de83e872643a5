"""Predictions that wait for a person, read from the review topic."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.error import InputFileError, TopicError
from driftline.core.pipeline import Pipeline
from driftline.core.record import EventId, LabelValue
from driftline.core.task import task_of
from driftline.engine.published import document_of
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.transport.port import Broker, Place

READ_RECORDS_MAX = 500
HELD = "held"
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class _Trip(msgspec.Struct):
    rung: str
    limit: float | None = None
    excess: float | None = None


class _Ahead(msgspec.Struct):
    values: list[Any] = []
    series: dict[str, Any] | None = None


class _Instead(msgspec.Struct):
    forecast: _Ahead | None = None


class _Form(msgspec.Struct):
    """What commands rely on in a review: the topic may hold records of others."""

    event_id: str | int | float
    state: str
    deadline_ms: int = 0
    tripped: list[_Trip] = []
    features: dict[str, Any] = {}
    at_deadline: _Instead | None = None
    forecast: _Ahead | None = None


def value_of(text: str, pipeline: Pipeline, predicted: object) -> LabelValue:
    """What a person wrote as a prediction.

    Args:
        predicted: by the model, which says of which type classes are.

    Raises:
        InputFileError: the task wants a number.
    """
    task = task_of(pipeline.task)
    if task.classes and not task.probability:
        return _class_of(text, predicted)
    try:
        return float(text)
    except ValueError as error:
        raise InputFileError(f"{text!r} is not a number") from error


def _class_of(text: str, like: object) -> LabelValue:
    """A class as it is among labels; a text where the other one is, or where it is nothing else."""
    if isinstance(like, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if isinstance(like, int) and not isinstance(like, bool) and _WHOLE.fullmatch(text):
        return int(text)
    return text


async def open_reviews(broker: Broker, pipeline: Pipeline, settings: Settings) -> list[dict[str, Any]]:
    """The reviews that no one has decided, oldest deadline first.

    Raises:
        InputFileError: the pipeline holds nothing.
        TopicError: its review topic does not exist.
    """
    topic = pipeline.topics.review
    if topic is None:
        raise InputFileError("the pipeline holds no predictions: no rung of `guard` has the action hold")
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if topic not in there:
        raise TopicError(f"topic {topic} does not exist; create it with `driftline topics create -p FILE`")
    layout = layout_of(pipeline, there)
    places = [place for shard in range(layout.shards) for place in layout.places([topic], shard)]
    found: dict[EventId, dict[str, Any]] = {}
    reader = broker.reader()
    await reader.open(await broker.beginnings(places))
    try:
        for place in places:
            await read_held(reader, place, found)
    finally:
        await reader.close()
    return sorted(found.values(), key=lambda review: review.get("deadline_ms", 0))


async def read_held(reader: Any, place: Place, found: dict[EventId, dict[str, Any]]) -> None:
    """Take in what one partition holds; an event lies in one partition only, so its decision comes after its review."""
    while sources := await reader.read(place, READ_RECORDS_MAX):
        for source in sources:
            review = document_of(source.value)
            try:
                form = msgspec.convert(review, _Form)
            except msgspec.ValidationError:
                continue
            if review is not None and form.state == HELD:
                found[form.event_id] = review
            else:
                found.pop(form.event_id, None)
