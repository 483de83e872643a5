"""The sections `drift` and `alerts` of a pipeline file: what is watched, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from driftline.core.notation import (
    Count,
    Duration,
    Expression,
)
from driftline.core.pipeline.feature import Form
from driftline.core.pipeline.kind import AlertKind
from driftline.core.signal import DIRECT, FEATURE_KEYS, Signal

Detector: TypeAlias = Expression
Severity: TypeAlias = Literal["warning", "critical"]
Role: TypeAlias = Literal["data_science", "data_engineering", "operations", "domain_expert"]


class DetectorForm(Form):
    """A detector on a signal, and what to do when it finds a drift."""

    detector: Detector = Field(description="a River expression, as in ADWIN(delta=0.002)")
    warning: Detector | None = Field(
        default=None, description="a second, more sensitive detector, whose detections are warnings"
    )
    reaction: Literal["alert", "reset", "swap", "boost"] = Field(
        default="alert",
        description="on a drift: alert only; reset (an untrained model takes over); swap (a background model that "
        "has learned since the warning takes over); boost (learn faster for a while)",
    )

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Only the expression, where nothing else is requested."""
        return self.detector if self == type(self)(detector=self.detector) else write(self)


class FeatureDetectorForm(DetectorForm):
    """A detector on a feature."""

    raw: bool = Field(default=False, description="numbers: feed the detector the numbers instead of their ranks")
    season_ms: Annotated[Duration, Field(ge=1)] | None = Field(
        default=None,
        alias="season",
        description="numbers: compare with the same time in this period, as in 1d",
    )


class Drift(Form):
    """Which signals are watched, each by which detectors (River expressions), and what is done about it."""

    error: tuple[DetectorForm, ...] = Field(default=(), description="on the error of served predictions")
    loss: tuple[DetectorForm, ...] = Field(
        default=(), description="on the log loss of served probabilities; best if one class is rare"
    )
    score: tuple[DetectorForm, ...] = Field(default=(), description="on the score itself")
    features: dict[str, tuple[FeatureDetectorForm, ...]] = Field(
        default_factory=dict,
        description="on features: numbers as ranks in a frozen reference window; strings by new values and the rate "
        "of each frequent value; booleans by their rate",
    )
    missing: dict[str, tuple[DetectorForm, ...]] = Field(
        default_factory=dict, description="on how often a feature is missing (omitted, or filled in)"
    )
    label_rate: tuple[DetectorForm, ...] = Field(
        default=(), description="on the share of events whose label arrived within the wait"
    )
    label_delay: tuple[DetectorForm, ...] = Field(default=(), description="on the time from the event to its label")
    warmup_labels: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=5_000, description="number of labels before the error is watched, since a new model's error varies"
    )
    reference_size: Count = Field(default=2_000, description="number of values in the reference window")
    categories_max: Annotated[int, Field(ge=1, le=100)] = Field(
        default=10, description="how many of a string feature's most frequent values are watched"
    )
    correction: Literal["bonferroni", "none"] = Field(
        default="bonferroni",
        description="against false alarms with many features: bonferroni divides each detector's confidence by the "
        "number of monitors on events",
    )
    warning_span: Count = Field(default=2_000, description="number of values after which a warning ends")
    cooldown_labels: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=2_000, description="labels to learn between two reactions, so that one change causes one reaction"
    )
    boost_factor: Annotated[float, Field(gt=1, le=1_000)] = Field(
        default=5.0, description="reaction boost: factor for learning rates"
    )
    boost_labels: Count = Field(default=1_000, description="reaction boost: number of labels to learn at that rate")

    def of(self, signal: Signal) -> tuple[DetectorForm, ...]:
        """The detectors of a signal of the shard as a whole."""
        found: tuple[DetectorForm, ...] = getattr(self, signal.row.key)
        return found

    def by_feature(self, key: str) -> Mapping[str, tuple[DetectorForm, ...]]:
        """The detectors of features' signals under a key of the file, by feature."""
        found: Mapping[str, tuple[DetectorForm, ...]] = getattr(self, key)
        return found

    def every(self) -> Iterator[tuple[str, str | None, tuple[DetectorForm, ...]]]:
        """All detectors by where they stand in the file: the key, and the feature under it where there is one."""
        for signal in DIRECT:
            yield signal.row.key, None, self.of(signal)
        for key in FEATURE_KEYS:
            for name, watches in self.by_feature(key).items():
                yield key, name, watches


class Limit(Form):
    """Bounds of a metric."""

    min: float | None = Field(default=None, description="alert below this")
    max: float | None = Field(default=None, description="alert above this")


class Throughput(Form):
    """How many events a shard usually gets, and what is unusual."""

    window_ms: Duration = Field(
        default=600_000, alias="window", description="span of event time over which events are counted"
    )
    rise: Annotated[float, Field(gt=1, le=1_000)] = Field(
        default=2.0, description="alert if a span has this many times the usual count"
    )


def _read_roles(value: object) -> object:
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Roles: TypeAlias = Annotated[tuple[Role, ...], BeforeValidator(_read_roles), Field(min_length=1)]


class Alerts(Form):
    """What is alerted beside drift and broken models, how long an episode is, and for whom it is."""

    quiet_ms: Duration | None = Field(
        default=None,
        alias="quiet",
        description="an episode ends after this long without another sign [default: 1h, or 4 times the mean "
        "time between events if that is longer]",
    )
    ongoing_ms: Duration | None = Field(
        default=None,
        alias="ongoing",
        description="minimum time between alerts about an ongoing episode [default: 1d, or 7 times the mean time "
        "between events if that is longer]",
    )
    episodes_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=5,
        description="maximum number of episodes of one signal per `within`; the last one stays open for that span",
    )
    within_ms: Duration = Field(default=86_400_000, alias="within", description="the span of `episodes_max`")
    performance: dict[str, Limit] = Field(
        default_factory=dict, description="limits of metrics, over the last metric_window labels"
    )
    label_coverage_min: Share | None = Field(
        default=None, description="minimum share of events whose label arrived within the wait"
    )
    label_delay_max_ms: Duration | None = Field(
        default=None, alias="label_delay_max", description="alert if most labels arrive later than this"
    )
    unmatched_max: Share = Field(
        default=0.1,
        description="maximum share of labels that match no event, or too late; 1: no limit, and labels may stop",
    )
    rejected_max: Share = Field(
        default=0.1, description="maximum share of rejected events, and of rejected labels; 1: no limit"
    )
    guard_max: Share = Field(
        default=0.1,
        description="maximum share of the latest 100 to 200 predictions that a rung of the guard may stop; 0: alert at "
        "the first, 1: no limit",
    )
    missing_max: dict[str, Share] = Field(
        default_factory=dict, description="maximum share of events without a feature, by feature"
    )
    throughput: Throughput | None = Field(default=None, description="watch the number of events [default: not watched]")
    severity: dict[AlertKind, Severity] = Field(
        default_factory=dict, description="severity by kind of alert, instead of the usual one"
    )
    audience: dict[AlertKind, Roles] = Field(
        default_factory=dict, description="roles to notify by kind of alert, instead of the usual ones"
    )
    runbook: Annotated[str, Field(max_length=500, pattern=r"^[^\s#]+$")] = Field(
        default="docs/runbook.md", description="address of the runbook; # and the kind of alert are appended"
    )
