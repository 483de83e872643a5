"""What the page believes of a record that it read.

Topics may hold records of others, and whoever writes without a key may write anything: each record is read by a form,
one that does not fit is passed over, and texts are cut. Nothing here is markup: the page shows text as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from driftline.core.record import EventId
from driftline.core.wording import cut as shortened
from driftline.engine.published import document_of

TEXT_MAX = 1_000  # characters of a text that is shown
NAME_MAX = 200  # of a name, and of a feature's value
NAMES_MAX = 40  # features, metrics and the like of one record
EVIDENCE_BYTES_MAX = 4_096
EVIDENCE_LEVELS_MAX = 20  # of lists and mappings in each other: JSON is written some 250 deep, with what is around it

RECORD_BYTES_MAX = 64 * 1024  # larger ones are not shown
PARTS = ("known", "assumed", "waiting", "expired")  # of a KPI: known, and estimated, never added up
ID_MAX = 2_000  # characters of an id or an episode that commands can name

T = TypeVar("T")
NUMBER_MAX = 2**53
Number: TypeAlias = Annotated[int, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
"""What a browser can count. Sums of a few hundred are still within the 64 bits that JSON is written with."""
Few: TypeAlias = Annotated[dict[str, Number], Meta(max_length=100)]


class Command(Struct):
    """A command that a shard has taken."""

    command: str
    by: str = ""
    time_ms: Number = 0


class Second(Struct):
    """The guard's second model beside the first: mean errors, over `labels`."""

    version: str = ""
    served: Number = 0
    failed: Number = 0
    labels: Number = 0
    error: float | None = None
    first_error: float | None = None


class Guard(Struct):
    """What the guard did so far."""

    tripped: Few = {}
    instead: Few = {}
    held: Number = 0
    second_model: Second | None = None


class Learning(Struct):
    """What is not learned, and why."""

    held: Number = 0
    deadline_ms: Number | None = None
    stopped: bool = False


class Ahead(Struct):
    """Metrics of a pipeline that forecasts."""

    metrics: dict[str, float | None] = {}


class Sum(Struct):
    """How many events, and what they came to; None where no one can say."""

    events: Number = 0
    total: float | None = None


class Account(Struct):
    """The figures of a part of the events."""

    known: Sum
    assumed: Sum
    waiting: Sum
    expired: Sum
    lacking: Few = {}


class Span(Account, kw_only=True):
    """The figures of a span of event time."""

    start_ms: Number
    ended: bool


class Kpi(Struct):
    """A KPI in the note of a journal entry, as far as it is shown."""

    unit: str
    better: str
    span_ms: Number
    total: Account
    spans: list[Span]
    target: float | None = None
    limit: float | None = None
    by: str = ""
    by_segment: dict[str, Account] = {}


class Note(Struct):
    """The numbers of a shard, from its journal; see `engine.note`."""

    positions: dict[str, Number]
    watermark_ms: Number | None = None
    pending: Number = 0
    early: Number = 0
    labels: dict[str, Number] = {}
    version: str = ""
    known: Number | None = None
    frozen: bool = False
    counts: dict[str, Number] = {}
    drifts: dict[str, Number] = {}
    episodes: list[str] = []
    metrics: dict[str, float | None] = {}
    window_metrics: dict[str, float | None] = {}
    coverage: float | None = None
    label_delay_ms: dict[str, float | None] = {}
    full: float | None = None
    guard: Guard | None = None
    learning: Learning | None = None
    forecast: Ahead | None = None
    kpi: dict[str, Kpi] = {}
    commands: list[Command] = []
    loading: tuple[Number, Number] | None = None


class Alert(Struct):
    """A message about an episode."""

    episode: str
    state: str
    kind: str
    severity: str
    sentence: str
    update: Number = 1
    time_ms: Number | None = None
    opened_ms: Number = 0
    audience: list[str] = []
    runbook: str = ""
    acknowledged: bool = False
    acknowledged_by: str = ""
    silenced: bool = False
    flapping: bool = False
    evidence: dict[str, Any] = {}


class Trip(Struct):
    """A rung that tripped."""

    rung: str
    action: str = ""
    limit: Any = None
    excess: Any = None
    feature: str = ""


class Score(Struct):
    """A served prediction."""

    output_id: str
    event_id: EventId
    event_time_ms: Number
    guard: str
    model_version: str = ""
    prediction: Any = None
    probability: float | None = None
    decision: bool | None = None
    instead: str = ""
    tripped: list[Trip] = []
    slate: list[Any] = []


class Review(Struct):
    """A prediction that is held, or what was decided about it."""

    output_id: str
    event_id: EventId
    state: str
    event_time_ms: Number = 0
    deadline_ms: Number = 0
    model_version: str = ""
    prediction: Any = None
    probability: float | None = None
    tripped: list[Trip] = []
    features: dict[str, Any] = {}
    at_deadline: dict[str, Any] | None = None
    last_value: Any = None
    served: dict[str, Any] | None = None
    by: str = ""
    why: str = ""


def read(value: bytes | None, form: type[T]) -> T | None:
    """A record of an output topic by its form; None where it has another."""
    document = document_of(value) if value is not None and len(value) <= RECORD_BYTES_MAX else None
    return None if document is None else fit(document, form)


def fit(document: Mapping[str, Any], form: type[T]) -> T | None:
    """A document by its form; None where it has another."""
    try:
        return msgspec.convert(document, form)
    except (ValueError, RecursionError):  # also msgspec's
        return None


def cut(text: object, most: int = TEXT_MAX) -> str:
    """A text that is not too long to be shown."""
    return shortened(text, most)


def plain(value: Any) -> Any:
    """A value of a record as JSON that a page can show: a number that is one, a truth, or a text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not isfinite(value):
            return str(value)
        return value if abs(value) < 2**53 else cut(str(value), NAME_MAX)
    if isinstance(value, str):
        return cut(value, NAME_MAX)
    return cut(orjson.dumps(value, default=str).decode(), NAME_MAX)


def plain_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Named values, not too many."""
    return {cut(name, NAME_MAX): plain(value) for name, value in list(values.items())[:NAMES_MAX]}


def evidence_of(alert: Alert) -> dict[str, Any]:
    """The numbers behind an alert, where they are neither too long nor too deep to be shown."""
    if not _is_shallow(alert.evidence, EVIDENCE_LEVELS_MAX):
        return {}
    return alert.evidence if len(orjson.dumps(alert.evidence)) <= EVIDENCE_BYTES_MAX else {}


def _is_shallow(value: Any, levels: int) -> bool:
    """Whether lists and mappings lie in each other at most so deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)
