"""The guard as a pipeline file declares it: what may leave, and what is served in place of what may not.

Each rung is a section with its limits and an action. The order of the rungs is fixed (`core.guard`), whatever the order
in the file.
"""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from driftline.core.notation import Count, Duration, Expression, ScalarValue, check_scalar
from driftline.core.pipeline.feature import Form

SEASON_MS_MIN = 60_000
SETTLE_MIN = 10  # observations beyond the limits, before a series counts as moved
SETTLE_RATIO_MIN = 10.0  # times, up to which a series moves by itself; or twice `ratio_max`, if that is more
PlainAction: TypeAlias = Literal["flag", "last_good", "fallback", "hold", "withhold"]
ClipAction: TypeAlias = Literal["flag", "clip", "last_good", "fallback", "hold", "withhold"]
_ACTION = (
    "flag (serve it, and mark the score), {}last_good (serve what the last good model says), fallback (serve the first "
    "of guard.fallback that may pass), hold (ask a person first, see guard.hold) or withhold (serve nothing)"
)
_WITHOUT_CLIP = _ACTION.format("")
_WITH_CLIP = _ACTION.format("clip (serve the limit), ")


class Constant(Form):
    """A value that is served in place of a prediction."""

    value: ScalarValue


class Seasonal(Form):
    """What was accepted for the same series one season ago."""

    season_ms: Annotated[Duration, Field(ge=SEASON_MS_MIN)] = Field(
        alias="seasonal", description="the season, as in 1d; it has 24 parts, each with a value of its own"
    )


class SecondModel(Form):
    """A model that learns beside the pipeline's own, and is asked in its place."""

    model: Expression


_FALLBACK_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["last_good", "last_value", "seasonal"]},
        {
            "type": "object",
            "properties": {"value": {"type": ["boolean", "number", "string"]}},
            "required": ["value"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"seasonal": {"type": "string"}},
            "required": ["seasonal"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"model": {"type": "string"}},
            "required": ["model"],
            "additionalProperties": False,
        },
    ]
}


def _read_fallback(value: object) -> object:
    if value in ("last_good", "last_value", "seasonal") or isinstance(value, Constant | Seasonal | SecondModel):
        return value
    if isinstance(value, dict) and list(value) == ["value"]:
        return Constant(value=check_scalar(value["value"]))
    if isinstance(value, dict) and list(value) == ["seasonal"]:
        return Seasonal.model_validate(value)
    if isinstance(value, dict) and list(value) == ["model"]:
        return SecondModel.model_validate(value)
    raise ValueError(
        "write last_good, last_value, {seasonal: DURATION} (of forecasts: seasonal alone), {model: EXPRESSION} or "
        "{value: VALUE}"
    )


Fallback: TypeAlias = Annotated[
    Literal["last_good", "last_value", "seasonal"] | Constant | Seasonal | SecondModel,
    BeforeValidator(_read_fallback),
    WithJsonSchema(_FALLBACK_SCHEMA),
]


class Untrained(Form):
    """When a model has learned too little to be served without a word."""

    labels_min: Count = Field(
        description="number of labels (task anomaly: of events) that the model must have learned; after a reset it "
        "begins at 0 again"
    )
    action: PlainAction = Field(default="flag", description=_WITHOUT_CLIP)


class Range(Form):
    """Between which values a prediction must lie."""

    min: float | None = Field(default=None, description="least value (binary: probability) that may be served")
    max: float | None = Field(default=None, description="greatest value (binary: probability) that may be served")
    action: ClipAction = Field(default="clip", description=_WITH_CLIP)


class Step(Form):
    """How far a prediction may be from the series' last accepted value, or from its last label."""

    ratio_max: Annotated[float, Field(gt=1)] | None = Field(
        default=None, description="greatest ratio to the last value, in either direction"
    )
    difference_max: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="greatest difference from the last value"
    )
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="a difference of up to this much always passes, so that small values may vary"
    )
    settle: Count | None = Field(
        default=None,
        description="task forecast: after so many observations in a row beyond the limits, the series has moved to "
        "another level [default: two seasons, at least 10]",
    )
    settle_ratio_max: Annotated[float, Field(gt=1)] | None = Field(
        default=None,
        description="task forecast: greatest ratio of a new level to the old one, in either direction; a series that "
        "has moved farther keeps its old level until a person decides, since its unit may have changed [default: 10, "
        "or twice ratio_max if that is more; no limit without ratio_max]",
    )
    action: ClipAction = Field(default="fallback", description=_WITH_CLIP)


class Width(Form):
    """How wide the interval of a forecast may be."""

    max: Annotated[float, Field(gt=0)] | None = Field(default=None, description="greatest width")
    ratio_max: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="greatest width, as a multiple of the forecast"
    )
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="a width of up to this much always passes, so that small forecasts may be unsure"
    )
    action: PlainAction = Field(
        default="flag", description=_WITHOUT_CLIP + "; a fallback is served without an interval"
    )


class Unfamiliar(Form):
    """How unlike to what was learned from an event may be."""

    score_max: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="greatest surprise, from 0 to 1: one minus the probability of a value as new as this one (a number "
        "beyond those that were learned from, a text that was not among them)"
    )
    action: PlainAction = Field(default="flag", description=_WITHOUT_CLIP)


class Positives(Form):
    """How many predictions may be positive within a span of time."""

    positive_max: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="greatest share of positive predictions, judged from 100 predictions in the window on"
    )
    window_ms: Annotated[Duration, Field(ge=1_000)] = Field(
        default=600_000, alias="window", description="span of event time"
    )
    action: PlainAction = Field(default="flag", description=_WITHOUT_CLIP)


class Distribution(Form):
    """How unlike earlier predictions the latest ones may be."""

    distance_max: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="greatest distance between the distributions of the latest predictions and of 1,000 earlier ones "
        "that passed, from 0 to 1: the greatest difference of their cumulative shares (of classes: the commonest "
        "first; of forecasts: of their distances from the season before)"
    )
    latest: Annotated[int, Field(ge=20, le=10_000)] = Field(
        default=200, description="number of predictions that are compared"
    )
    action: PlainAction = Field(default="flag", description=_WITHOUT_CLIP)


def _read_list(value: object) -> object:
    """One of something, or a list of them."""
    if isinstance(value, list | tuple):
        return tuple(value)
    return (value,)


class Hold(Form):
    """How long a prediction waits for a person, and what then."""

    wait_ms: Annotated[Duration, Field(ge=1)] = Field(alias="wait", description="how long, in event time")
    then: Literal["last_good", "fallback", "withhold"] = Field(
        default="withhold",
        description="what to serve if no one decides in time, or too many wait; see the actions of these names",
    )
    held_max: Count = Field(
        default=1_000, alias="max", description="most predictions that wait, per shard; others are not held"
    )


AnyRung: TypeAlias = Untrained | Range | Step | Width | Unfamiliar | Positives | Distribution


class GuardForm(Form):
    """What may be served."""

    by: Annotated[
        tuple[str, ...],
        BeforeValidator(_read_list),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(
        default=(),
        description="features or context fields that tell one series from another, for step, last_value and seasonal "
        "[default: all events are one series]",
    )
    untrained: Untrained | None = Field(default=None, description="limits for a model that has learned little")
    range: Range | None = Field(default=None, description="limits of the prediction")
    step: Step | None = Field(default=None, description="limits of the change from the last value of the series")
    width: Width | None = Field(default=None, description="task forecast: limits of the interval's width")
    unfamiliar: Unfamiliar | None = Field(default=None, description="limits of what is new about an event's features")
    share: Positives | None = Field(
        default=None, description="binary, and anomaly with a decision: limits of how many predictions are positive"
    )
    distribution: Distribution | None = Field(
        default=None, description="limits of how unlike earlier predictions the latest ones are"
    )
    fallback: Annotated[
        tuple[Fallback, ...],
        BeforeValidator(_read_list),
        WithJsonSchema({"anyOf": [_FALLBACK_SCHEMA, {"type": "array", "items": _FALLBACK_SCHEMA}]}),
    ] = Field(
        default=(),
        description="what to serve instead, in this order: last_good (the last good copy of the model), last_value "
        "(the series' last accepted value), {seasonal: DURATION} (of forecasts: seasonal alone), {model: EXPRESSION} "
        "(a second model, which learns beside the first), {value: VALUE}; nothing where none may pass",
    )
    hold: Hold | None = Field(default=None, description="required by the action hold")
    keys_max: Count = Field(
        default=10_000, description="most series that are remembered, per shard; the least recently used one is dropped"
    )

    @property
    def rungs(self) -> dict[str, AnyRung]:
        """The rungs that are declared, by name, in the order in which they are asked."""
        found: dict[str, AnyRung | None] = {
            "untrained": self.untrained,
            "range": self.range,
            "step": self.step,
            "width": self.width,
            "unfamiliar": self.unfamiliar,
            "share": self.share,
            "distribution": self.distribution,
        }
        return {name: rung for name, rung in found.items() if rung is not None}

    @property
    def holds(self) -> bool:
        """Whether a prediction may wait for a person."""
        return any(rung.action == "hold" for rung in self.rungs.values())

    @property
    def season_ms(self) -> int:
        """Of the seasonal fallback; 0 without one."""
        return next((one.season_ms for one in self.fallback if isinstance(one, Seasonal)), 0)

    @property
    def second(self) -> str | None:
        """The expression of the second model; None without one."""
        return next((one.model for one in self.fallback if isinstance(one, SecondModel)), None)

    @property
    def remembers(self) -> bool:
        """Whether anything needs the last values of a series."""
        return self.step is not None or any(one == "last_value" or isinstance(one, Seasonal) for one in self.fallback)

    def settle_of(self, season: int) -> int:
        """After how many observations beyond the limits a series of forecasts has moved to another level.

        Args:
            season: in steps.
        """
        settle = None if self.step is None else self.step.settle
        return max(2 * season, SETTLE_MIN) if settle is None else settle

    @property
    def settle_ratio(self) -> float:
        """How many times a series of forecasts may move by itself to another level."""
        step = self.step
        if step is None or (step.settle_ratio_max is None and step.ratio_max is None):
            return inf
        return step.settle_ratio_max or max(SETTLE_RATIO_MIN, 2 * (step.ratio_max or 0.0))
