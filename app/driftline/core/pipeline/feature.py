"""Features as a pipeline file declares them: read from the event, computed from past events, or from the event's time.

A history feature names a function of the past, and by which fields the past is kept apart:

    card_count_1d: {history: count, by: card_id, over: 1d}
    risk_7d:       {history: label_mean, by: terminal_id, over: 7d}

`event.context` declares what is read and not shown to the model: ids to keep the past by, and numbers that only
history features look at.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Tag,
    WithJsonSchema,
    model_serializer,
)

from driftline.core.notation import Duration, PathPart, PathText, Scalar, ScalarValue, check_scalar, parse_path

FeatureType: TypeAlias = Literal["number", "string", "boolean", "text", "key", "items", "slate"]
FEATURE_TYPES: Final = ("number", "string", "boolean", "text", "items", "slate")
SLATE_TYPES: Final = ("items", "slate")
"""Of task recommend: the candidates of a request, and the slate that was shown."""
CONTEXT_TYPES: Final = ("key", "number", "string", "boolean")

MISSING_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["reject", "omit"]},
        {"type": ["boolean", "number", "string"]},
        {
            "type": "object",
            "properties": {"value": {"type": ["boolean", "number", "string"]}},
            "required": ["value"],
            "additionalProperties": False,
        },
    ]
}


class Form(BaseModel):
    """What all parts of a pipeline share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Fill(Form):
    """The value that stands in for a missing feature."""

    value: ScalarValue


def _read_missing(value: object) -> object:
    if value in ("reject", "omit") or isinstance(value, Fill):
        return value
    if isinstance(value, dict):
        if list(value) != ["value"]:
            raise ValueError("write reject, omit, a value, or {value: V} where V is itself one of these words")
        return Fill(value=check_scalar(value["value"]))
    return Fill(value=check_scalar(value))


Missing: TypeAlias = Annotated[
    Literal["reject", "omit"] | Fill, BeforeValidator(_read_missing), WithJsonSchema(MISSING_SCHEMA)
]


def _read_text(value: object) -> object:
    if value is True:
        return "point"
    if value is None or value is False or value in ("point", "comma"):
        return value or False
    raise ValueError("write true (numbers as 1234.5), comma (numbers as 1234,5), or false")


Text: TypeAlias = Annotated[
    Literal[False, "point", "comma"],
    BeforeValidator(_read_text),
    WithJsonSchema({"enum": [False, True, "point", "comma"]}),
]


class Feature(Form):
    """One value that is read from an event: where it is in the user's JSON, its type, and what if it is missing."""

    path: PathText = Field(description="path of the value in the event [default: the feature's name]")
    type: FeatureType = Field(
        description="number, string, boolean or text; in event.context also key; task recommend: items, slate"
    )
    missing: Missing = Field(
        default="reject",
        description="if it is missing: reject the event, omit the feature, or use this value",
    )
    text: Text = Field(
        default=False,
        description="numbers: also accept strings: true or point (1234.5), comma (1234,5)",
    )
    chars_max: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="type text: truncate after this many characters [default: 10,000]"
    )

    @property
    def keys(self) -> tuple[PathPart, ...]:
        """The parsed path."""
        return parse_path(self.path)

    @property
    def fill(self) -> Scalar | None:
        """The value that stands in when the feature is missing; None with `reject` and `omit`."""
        return self.missing.value if isinstance(self.missing, Fill) else None

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without settings that are for another type."""
        written = write(self)
        if self.chars_max is None:
            del written["chars_max"]
        return written


# -- history

HISTORY_FUNCTIONS: Final = ("count", "sum", "mean", "min", "max", "std", "distinct", "last", "lag", "since_last",
                            "decayed_mean")  # fmt: skip
LABEL_FUNCTIONS: Final = ("label_count", "label_sum", "label_mean", "label_min", "label_max", "label_std",
                          "label_distinct", "label_last", "label_lag", "label_decayed_mean")  # fmt: skip
LAG_MAX: Final = 1_000
_BARE: Final = ("count", "since_last")  # of the events themselves, not of a field of them
_UNWINDOWED: Final = ("last", "lag", "decayed_mean")
_CALL = re.compile(r"([a-z_]+)\s*(?:\((.*)\))?", re.DOTALL)  # linear: documents of others are read with it


class Past(NamedTuple):
    """A function of the past.

    Args:
        name: without `label_`.
        of_label: it is of labels, not of events.
        source: the field that it is of; None for labels, and for functions of the events themselves.
        lag: of `lag`: how many values back.
    """

    name: str
    of_label: bool
    source: str | None
    lag: int


def parse_past(text: str) -> Past:
    """What is written after `history:`.

    Raises:
        ValueError: it is not a function of the past, or lacks its field.
    """
    found = _CALL.fullmatch(text.strip())
    name = found[1] if found else text.strip()
    if found is None or name not in (*HISTORY_FUNCTIONS, *LABEL_FUNCTIONS):
        allowed = ", ".join((*HISTORY_FUNCTIONS, *LABEL_FUNCTIONS))
        raise ValueError(f"{name!r:.60} is not a history function; allowed: {allowed}")
    of_label, function = name in LABEL_FUNCTIONS, name.removeprefix("label_") if name in LABEL_FUNCTIONS else name
    source, lag = (found[2] or "").strip(), 1
    if function == "lag":
        source, comma, count = source.rpartition(",") if not of_label else ("", ",", source)
        count = count.strip()
        if not comma or not count.isdecimal() or not 1 <= int(count) <= LAG_MAX:
            example = "label_lag(7)" if of_label else "lag(demand, 7)"
            raise ValueError(f"{name} needs the number of values to look back, 1 to {LAG_MAX}, as in {example}")
        source, lag = source.strip(), int(count)
    if of_label or function in _BARE:
        if source:
            raise ValueError(f"{name} takes no field; write {name}{f'({lag})' if function == 'lag' else ''}")
        return Past(function, of_label, None, lag)
    if not source:
        raise ValueError(f"{name} needs a field, as in {name}(amount{', 7' if function == 'lag' else ''})")
    return Past(function, of_label, source, lag)


def _check_past(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string: a function of the past, as in count, mean(amount) or label_mean")
    past = parse_past(value)
    name = f"label_{past.name}" if past.of_label else past.name
    inside = ", ".join([*([past.source] if past.source else []), *([str(past.lag)] if past.name == "lag" else [])])
    return f"{name}({inside})" if inside else name


def _read_by(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


By: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_read_by),
    PlainSerializer(list),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class HistoryFeature(Form):
    """A number that past events, or their labels, give: those with the same values in the fields of `by`."""

    history: Annotated[str, BeforeValidator(_check_past), WithJsonSchema({"type": "string", "minLength": 1})] = Field(
        description="a function of the past, as in count, mean(amount), lag(demand, 7), label_mean"
    )
    by: By = Field(default=(), description="the field or fields to group by: each value has a history of its own")
    over_ms: Annotated[Duration, Field(ge=32)] | None = Field(
        default=None, alias="over", description="how far back it looks, in event time [default: no limit]"
    )
    half_life_ms: Annotated[Duration, Field(ge=1)] | None = Field(
        default=None, alias="half_life", description="decayed_mean: the age at which a value counts half"
    )
    missing: Missing = Field(default=Fill(value=0), description="value while there is no history, or omit [default: 0]")

    @property
    def type(self) -> FeatureType:
        return "number"

    @property
    def past(self) -> Past:
        """The parsed function."""
        return parse_past(self.history)

    @property
    def fill(self) -> Scalar | None:
        """The value that stands in while there is no past; None with `omit`."""
        return self.missing.value if isinstance(self.missing, Fill) else None

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without what is not given."""
        return {name: value for name, value in write(self).items() if value is not None}


# -- calendar

CalendarPart: TypeAlias = Literal["minute", "hour", "weekday", "weekend", "day", "month", "yearday"]
_ZONE = re.compile(r"([+-])(0[0-9]|1[0-4]):?([0-5][0-9])")


def _check_zone(value: object) -> str:
    if value == "UTC":
        return "UTC"
    if not isinstance(value, str) or not _ZONE.fullmatch(value):
        raise ValueError("write UTC, or an offset such as +01:00 (the rules of named zones change, but scores "
                         "must not)")  # fmt: skip
    return value


Zone: TypeAlias = Annotated[str, BeforeValidator(_check_zone), WithJsonSchema({"type": "string"})]
"""UTC, or an offset such as +01:00."""


def offset_ms_of(zone: str) -> int:
    """How far a zone is from UTC, eastwards."""
    found = _ZONE.fullmatch(zone)
    if found is None:
        return 0
    east_ms = (int(found[2]) * 60 + int(found[3])) * 60_000
    return -east_ms if found[1] == "-" else east_ms


class CalendarFeature(Form):
    """A number that the event's time gives."""

    calendar: CalendarPart = Field(description="minute, hour, weekday (Monday is 0), weekend, day, month or yearday")
    cyclic: Literal["sin", "cos"] | None = Field(
        default=None,
        description="true: two features, NAME_sin and NAME_cos, so that the end of the cycle is next to its start",
    )
    zone: Zone = Field(default="UTC", description="UTC, or an offset such as +01:00")

    @property
    def type(self) -> FeatureType:
        return "boolean" if self.calendar == "weekend" else "number"

    @property
    def missing(self) -> Literal["reject"]:
        """Every event has a time."""
        return "reject"

    @property
    def fill(self) -> None:
        return None

    @property
    def offset_ms(self) -> int:
        """Of the zone, from UTC."""
        return offset_ms_of(self.zone)

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without what is not given."""
        return {name: value for name, value in write(self).items() if value is not None}


def _kind_of(value: object) -> str:
    if isinstance(value, HistoryFeature) or (isinstance(value, dict) and "history" in value):
        return "HistoryFeature"
    if isinstance(value, CalendarFeature) or (isinstance(value, dict) and "calendar" in value):
        return "CalendarFeature"
    return "Feature"


FORMS: Final[dict[str, type[Form]]] = {
    "Feature": Feature, "HistoryFeature": HistoryFeature, "CalendarFeature": CalendarFeature,
}  # fmt: skip

AnyFeature: TypeAlias = Annotated[
    Annotated[Feature, Tag("Feature")]
    | Annotated[HistoryFeature, Tag("HistoryFeature")]
    | Annotated[CalendarFeature, Tag("CalendarFeature")],
    Discriminator(_kind_of),
]
"""A feature of the model; `FORMS` names each form as errors do."""
