"""A model card: what one generation of a pipeline's model served, and how well, as a document.

A generation is a model between two changes of it (`ModelVersion`): a reset, a swap, a loaded model. `card_count` makes
the card, `card_page` shows it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class Learned(Struct, frozen=True):
    """Labels that the model had learned from when it first served, and when it last did."""

    first: int
    last: int


class Made(Struct, frozen=True):
    """What made a generation on a shard: a sentence of its alert; `by` where a person's command did."""

    shard: int
    time_ms: int | None
    what: str
    by: str = ""


class Span(Struct, frozen=True):
    """The events of a generation, by event time.

    Args:
        positive: decided as yes.
        guard: events by what the guard did; `served` is nothing.
        tripped: rungs that tripped, the deciding one or not.
        instead: what was served in place of predictions, how often.
    """

    first_ms: int
    last_ms: int
    events: int
    positive: int
    guard: dict[str, int]
    tripped: dict[str, int]
    instead: dict[str, int]


class Second(Struct, frozen=True):
    """The guard's second model beside this one, over the labels at which both had an answer (of forecasts, at each
    horizon): their mean errors."""

    labels: int
    error: float
    first_error: float


class Labels(Struct, frozen=True):
    """What became of the labels.

    Args:
        outcomes: by kind.
        coverage: share of the events whose wait is over that got a label; None before there is one.
        delay_ms: of the labels that came: `p50`, `p90`, `max`.
    """

    outcomes: dict[str, int]
    coverage: float | None
    delay_ms: dict[str, int]


class Segment(Struct, frozen=True):
    """Metrics of the events with one value of a feature; None where there are too few."""

    name: str
    n: int
    metrics: dict[str, float | None]


class KpiFigure(Struct, frozen=True):
    """One KPI: known of events with a label; assumed; estimated for those whose label never came."""

    unit: str
    known_events: int
    known: float
    by_kind: dict[str, int]
    assumed_events: int
    assumed: float
    expired_events: int
    expired_estimate: float | None
    target: float | None
    limit: float | None
    by: str | None
    segments: dict[str, float]


class Rules(Struct, frozen=True):
    """The pipeline file as it was when the generation last served, as far as it bounds what a model may do."""

    model: str
    features: list[str]
    label: dict[str, Any] | None
    decision: dict[str, Any] | None
    guard: dict[str, Any] | None
    learning: dict[str, Any] | None
    alerts: dict[str, Any]


class Trouble(Struct, frozen=True):
    """An episode that was open while the generation served."""

    episode: str
    kind: str
    severity: str
    state: str
    opened_ms: int
    ended_ms: int | None
    sentence: str
    acknowledged_by: str


class Card(Struct, frozen=True):
    """The card of one generation; its schema is `schemas/card.schema.json`.

    Args:
        generations: all that served.
        versions: of Driftline and River.
        whole: the topics still have their beginning.
        labelled: events that the metrics are of; `answered`, those with a prediction.
        second: None without a second model, or a label at which both had an answer.
        commands: by part of the card, what derives it again.
    """

    pipeline: str
    task: str
    generation: int
    generations: list[int]
    versions: dict[str, str]
    whole: bool
    made: list[Made]
    learned: Learned
    served: Span
    labels: Labels
    labelled: int
    answered: int
    metrics: dict[str, float | None]
    segment: str | None
    segments: list[Segment]
    kpis: dict[str, KpiFigure]
    second: Second | None
    rules: Rules
    troubles: list[Trouble]
    commands: dict[str, str]


def encode(card: Card) -> bytes:
    """The card as JSON."""
    return msgspec.json.format(msgspec.json.encode(card), indent=2)


def schema() -> dict[str, Any]:
    """The schema of a card, as in `schemas/card.schema.json`."""
    document = msgspec.json.schema(Card)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Driftline model card", **document}
