"""The sections `event` and `label` of a pipeline file: where what is read stands in the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from driftline.core.format import FormatName, listing
from driftline.core.notation import (
    Count,
    Duration,
    PathText,
    Scalar,
    ScalarValue,
    check_scalar,
)
from driftline.core.pipeline.feature import AnyFeature, Feature, Form, HistoryFeature, Text

KEYS_MAX = 100_000
REWARDS_EARLY_MAX = 100  # rewards of one request that are held until it comes

_SELECT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            {"type": ["boolean", "number", "string", "null"]},
            {"type": "array", "minItems": 1, "items": {"type": ["boolean", "number", "string", "null"]}},
        ]
    },
}
_ASSUME_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"const": "drop"},
        {
            "type": "object",
            "properties": {"assume": {"type": ["boolean", "number", "string"]}},
            "required": ["assume"],
            "additionalProperties": False,
        },
    ]
}


class Assume(Form):
    """The label that an event gets when none came within the wait."""

    assume: ScalarValue


def _read_assume(value: object) -> object:
    if value == "drop" or isinstance(value, Assume):
        return value
    if isinstance(value, dict) and list(value) == ["assume"]:
        return Assume(assume=check_scalar(value["assume"]))
    raise ValueError("write drop (no learning without a label) or {assume: VALUE} (learn that label)")


Wanted: TypeAlias = Scalar | None


def _read_select(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping from a path to a value, or to a list of values")
    made: dict[object, tuple[Wanted, ...]] = {}
    for path, wanted in value.items():
        values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
        if not values:
            raise ValueError(f"{path}: name at least one value")
        made[path] = tuple(None if one is None else check_scalar(one) for one in values)
    return made


class InputForm(Form):
    """What is around the values of a record, and which records are meant: of events and of labels alike."""

    envelope: FormatName = Field(
        default="none",
        description=f"envelope around the JSON: {listing()}; paths refer to the content",
    )
    key: Literal["text", "json", "integer", "binary"] = Field(
        default="text",
        description="format of $key: text, json, integer (digits), or binary (as written by Kafka's Integer and "
        "Long serializers)",
    )
    select: Annotated[
        dict[PathText, tuple[Wanted, ...]], BeforeValidator(_read_select), WithJsonSchema(_SELECT_SCHEMA)
    ] = Field(
        default_factory=dict,
        description="use only records with this value, or one of a list, at each path; skip the others",
    )


class EventForm(InputForm):
    """How an event is read from a record."""

    id: PathText = Field(description="path of the event's id, a string or integer")
    time: PathText | None = Field(
        default=None,
        description="path of the event's time, ISO 8601 or epoch s/ms [default: the record's time]",
    )
    hour: PathText | None = Field(
        default=None,
        description="path of the hour of the day, from 0 to below 24, where `time` is a date without one",
    )
    context: dict[str, Feature] = Field(
        default_factory=dict,
        description="values that are read and not shown to the model: ids (type key) and numbers for history features",
    )
    keys_max: Count = Field(
        default=KEYS_MAX,
        description="most keys whose past is kept, for each `by` and partition; the least recent one is let go",
    )
    features: Annotated[dict[str, AnyFeature], Field(min_length=1)] = Field(
        description="the features by name, in the order in which the model gets them"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names in declared order."""
        return tuple(self.features)

    @property
    def plain(self) -> dict[str, Feature]:
        """The features that are read from the event, in declared order."""
        return {name: feature for name, feature in self.features.items() if isinstance(feature, Feature)}

    @property
    def read(self) -> dict[str, Feature]:
        """All that is read from an event beside its id and time: `plain`, then the context."""
        return {**self.plain, **self.context}

    @property
    def computed(self) -> bool:
        """Whether the model sees more, or something else, than what is read."""
        return len(self.plain) < len(self.features) or bool(self.context)

    def arrange(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Features in declared order, None where one is computed, and the context, from the values of `read`."""
        return self.arranger()(values)

    def arranger(self) -> Callable[[Sequence[Any]], tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """`arrange`, for many events."""
        places = {name: place for place, name in enumerate(self.plain)}
        order, read = [places.get(name, -1) for name in self.features], len(places)
        if len(order) == 1:
            (only,) = order
            return lambda values: (((*values, None)[only],), tuple(values[read:]))
        pick = itemgetter(*order)  # at -1 is the None that is put behind the values
        return lambda values: (pick((*values, None)), tuple(values[read:]))

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead into a record."""
        read = [feature.path for feature in self.read.values()]
        return (self.id, *filter(None, (self.time, self.hour)), *read, *self.select)

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without what only history features need, where there are none, and without an hour that is not read."""
        written = write(self)
        if self.hour is None:
            del written["hour"]
        if not self.context:
            del written["context"]
        if not any(isinstance(one, HistoryFeature) for one in self.features.values()):
            del written["keys_max"]
        return written


class LabelForm(InputForm):
    """How a label is read, and how long an event waits for it."""

    item: PathText | None = Field(default=None, description="recommend: path of the item that the reward is for")
    id: PathText = Field(description="path of the id of the label's event")
    value: PathText = Field(description="path of the label itself")
    unit: Annotated[str, Field(min_length=1, max_length=30, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = Field(
        default=None, description="what a label that is a number counts, as in pieces or EUR: the word of alerts"
    )
    time: PathText | None = Field(default=None, description="path of the label's time [default: the record's time]")
    text: Text = Field(
        default=False, description="also accept numbers, true and false as strings: true or point, comma"
    )
    positive: ScalarValue | None = Field(default=None, description="binary: the positive class [default: true or 1]")
    negative: ScalarValue | None = Field(
        default=None,
        description="binary: the only other value accepted [default: any value other than `positive`]",
    )
    wait_ms: Duration = Field(alias="wait", description="how long an event waits for its label")
    missing: Annotated[Literal["drop"] | Assume, BeforeValidator(_read_assume), WithJsonSchema(_ASSUME_SCHEMA)] = Field(
        default="drop", description="if no label arrives in time: drop the event, or learn {assume: VALUE}"
    )
    late: Literal["ignore", "correct"] = Field(
        default="ignore", description="a label that arrives after one was assumed: ignore it, or correct the assumption"
    )
    second: Literal["ignore", "correct"] = Field(
        default="ignore", description="a second label of an event: ignore it, or correct the first"
    )
    retract: bool = Field(default=False, description="whether a null label retracts the event's label")
    correct_ms: Duration = Field(
        alias="correct_for",
        description="how long a label, real or assumed, can be corrected or retracted [default: as `wait`]",
    )
    correct_max: Count = Field(
        default=100_000, description="maximum number of events whose label can be corrected or retracted, per shard"
    )
    labels_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=1,
        description="maximum number of labels per event; above 1, each label until the deadline is learned",
    )
    early_ms: Duration = Field(
        alias="early", description="how long an early label waits for its event [default: as `wait`]"
    )
    pending_max: Count = Field(default=1_000_000, description="maximum number of pending events, per shard")
    early_max: Count = Field(default=100_000, description="maximum number of early labels, per shard")

    @property
    def each_max(self) -> int:
        """How many labels of one event are held until it comes."""
        return self.labels_max if self.item is None else max(self.labels_max, REWARDS_EARLY_MAX)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead into a record."""
        item = [self.item] if self.item else []
        return (self.id, *item, self.value, *([self.time] if self.time else []), *self.select)

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without the item, where rewards have none, and without a unit that is not declared."""
        written = write(self)
        for key in ("item", "unit"):
            if getattr(self, key) is None:
                del written[key]
        return written
