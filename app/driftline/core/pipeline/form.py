"""A pipeline: one use case as its file describes it, checked and with everything filled in.

The classes here are only the shape. They are frozen, refuse keys that they do not know, and name every setting
by its unit in code (`wait_ms`) and without it in the file (`wait: 7d`), where the unit is written. What must
hold between settings is in `rule`; what is filled in when the file is silent is in `parse`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from driftline.core.format import FormatName, listing
from driftline.core.notation import (
    Count,
    Duration,
    Expression,
    PathPart,
    PathText,
    Scalar,
    ScalarValue,
    StartPlace,
    TopicName,
    check_scalar,
    parse_path,
)
from driftline.core.signal import DIRECT, FEATURE_KEYS, Signal
from driftline.core.task import TASK_NAMES, TaskName

FeatureType: TypeAlias = Literal["number", "string", "boolean"]
Detector: TypeAlias = Expression
AlertKind: TypeAlias = Literal[
    "data_drift",
    "concept_drift",
    "score_drift",
    "performance",
    "label_coverage",
    "label_delay",
    "label_match",
    "data_quality",
    "model_failure",
    "model_change",
    "throughput",
]
Severity: TypeAlias = Literal["warning", "critical"]
Role: TypeAlias = Literal["data_science", "data_engineering", "operations", "domain_expert"]

_MISSING_SCHEMA: dict[str, Any] = {
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


class Form(BaseModel):
    """What all parts of a pipeline share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Fill(Form):
    """The value that stands in for a missing feature."""

    value: ScalarValue


class Assume(Form):
    """The label that an event gets when none came within the wait."""

    assume: ScalarValue


def _read_missing(value: object) -> object:
    if value in ("reject", "omit") or isinstance(value, Fill):
        return value
    if isinstance(value, dict):
        if list(value) != ["value"]:
            raise ValueError("write reject, omit, a value, or {value: V} where V is itself one of these words")
        return Fill(value=check_scalar(value["value"]))
    return Fill(value=check_scalar(value))


def _read_assume(value: object) -> object:
    if value == "drop" or isinstance(value, Assume):
        return value
    if isinstance(value, dict) and list(value) == ["assume"]:
        return Assume(assume=check_scalar(value["assume"]))
    raise ValueError("write drop (no learning without a label) or {assume: VALUE} (learn that label)")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


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
    """One feature of an event: where it is in the user's JSON, its type, and what to do without it."""

    path: PathText = Field(description="where the value is in the event; the feature's name by default")
    type: FeatureType = Field(description="number, string or boolean")
    missing: Annotated[
        Literal["reject", "omit"] | Fill, BeforeValidator(_read_missing), WithJsonSchema(_MISSING_SCHEMA)
    ] = Field(
        default="reject",
        description="what to do without it: reject the event, omit the feature, or a value to use instead",
    )
    text: Text = Field(
        default=False,
        description="numbers: whether they may be written as text: true or point (1234.5), comma (1234,5)",
    )

    @property
    def keys(self) -> tuple[PathPart, ...]:
        """The parsed path."""
        return parse_path(self.path)

    @property
    def fill(self) -> Scalar | None:
        """The value that stands in when the feature is missing; None with `reject` and `omit`."""
        return self.missing.value if isinstance(self.missing, Fill) else None


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
        description=f"what the JSON is wrapped in: {listing()}; paths lead into what is inside",
    )
    key: Literal["text", "json", "integer", "binary"] = Field(
        default="text",
        description="how $key is read: text, json, integer (digits), or binary (as Kafka's serializers of Integer and "
        "Long write it)",
    )
    select: Annotated[
        dict[PathText, tuple[Wanted, ...]], BeforeValidator(_read_select), WithJsonSchema(_SELECT_SCHEMA)
    ] = Field(
        default_factory=dict,
        description="only records that have this value, or one of a list, at each path; others are passed over",
    )


class EventForm(InputForm):
    """How an event is read from a record."""

    id: PathText = Field(description="path of the event's id, text or whole number")
    time: PathText | None = Field(
        default=None,
        description="path of the event's time, ISO 8601 or epoch s/ms; without it, the record's own time",
    )
    features: Annotated[dict[str, Feature], Field(min_length=1)] = Field(
        description="the features by name, in the order in which the model sees them"
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names in declared order."""
        return tuple(self.features)

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead into a record."""
        features = [feature.path for feature in self.features.values()]
        return (self.id, *([self.time] if self.time else []), *features, *self.select)


class LabelForm(InputForm):
    """How a label is read, and how long an event waits for it."""

    id: PathText = Field(description="path of the id of the event that the label belongs to")
    value: PathText = Field(description="path of the label itself")
    time: PathText | None = Field(default=None, description="path of the label's time; else the record's own time")
    text: Text = Field(
        default=False, description="whether a number (or true, false) may be written as text: true or point, comma"
    )
    positive: ScalarValue | None = Field(default=None, description="binary: the value that means yes (true or 1)")
    negative: ScalarValue | None = Field(
        default=None,
        description="binary: the only other value allowed; without it, all that is not `positive`",
    )
    wait_ms: Duration = Field(alias="wait", description="how long an event waits for its label")
    missing: Annotated[Literal["drop"] | Assume, BeforeValidator(_read_assume), WithJsonSchema(_ASSUME_SCHEMA)] = Field(
        default="drop", description="without a label by then: drop the event, or learn {assume: VALUE}"
    )
    late: Literal["ignore", "correct"] = Field(
        default="ignore", description="a label that comes after one was assumed: ignore it, or correct the assumption"
    )
    second: Literal["ignore", "correct"] = Field(
        default="ignore", description="another label of the same event: ignore it, or correct the first"
    )
    retract: bool = Field(default=False, description="whether a label of null takes the event's label back")
    correct_ms: Duration = Field(
        alias="correct_for",
        description="how long after an event got its label, or was assumed to have it, that may be corrected or "
        "retracted; as `wait` by default",
    )
    correct_max: Count = Field(
        default=100_000, description="most events whose label may be corrected or retracted, per partition"
    )
    labels_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=1,
        description="most labels of one event; with more than 1 it waits for them to its deadline, and each is learned",
    )
    early_ms: Duration = Field(alias="early", description="how long a label waits for its event; as `wait` by default")
    pending_max: Count = Field(default=1_000_000, description="most events that wait at once, per partition")
    early_max: Count = Field(default=100_000, description="most labels that wait for their event, per partition")

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead into a record."""
        return (self.id, self.value, *([self.time] if self.time else []), *self.select)


class Topics(Form):
    """The Kafka topics of a pipeline."""

    events: TopicName
    labels: TopicName | None = Field(description="none for anomaly scoring without labels")
    control: TopicName
    scores: TopicName
    outcomes: TopicName
    alerts: TopicName
    rejected: TopicName
    journal: TopicName
    snapshots: TopicName


class Decision(Form):
    """When a score counts as a yes."""

    threshold: float = Field(
        description="a probability (binary) or an anomaly score, from which on the decision is yes"
    )


class Watch(Form):
    """A detector on a signal, and what to do when it finds a drift."""

    detector: Detector = Field(description="a River expression, as in ADWIN(delta=0.002)")
    warning: Detector | None = Field(
        default=None, description="a second, looser detector, whose detections are warnings of the first one's"
    )
    reaction: Literal["alert", "reset", "swap", "boost"] = Field(
        default="alert",
        description="at a drift: alert only; reset (an untrained model takes over); swap (a background model that "
        "learns from the warning on takes over); boost (learn faster for a while)",
    )

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Only the expression, where nothing else is asked for."""
        return self.detector if self == type(self)(detector=self.detector) else write(self)


class FeatureWatch(Watch):
    """A detector on a feature."""

    raw: bool = Field(default=False, description="numbers: show the detector the numbers themselves, not their ranks")
    season_ms: Annotated[Duration, Field(ge=1)] | None = Field(
        default=None,
        alias="season",
        description="numbers: compare with those of the same time in this period, as in 1d",
    )


class Drift(Form):
    """Which signals are watched, each by which detectors (River expressions), and what is done about it."""

    error: tuple[Watch, ...] = Field(default=(), description="on the error of the served prediction")
    loss: tuple[Watch, ...] = Field(
        default=(), description="on the log loss of the served probabilities: where one class is rare, say this"
    )
    score: tuple[Watch, ...] = Field(default=(), description="on the score itself")
    features: dict[str, tuple[FeatureWatch, ...]] = Field(
        default_factory=dict,
        description="on features: numbers as ranks in a frozen reference window; of texts new values and the rate "
        "of each frequent one; of booleans the rate",
    )
    missing: dict[str, tuple[Watch, ...]] = Field(
        default_factory=dict, description="on how often a feature is missing (omitted, or filled in)"
    )
    label_rate: tuple[Watch, ...] = Field(
        default=(), description="on the share of events whose label came within the wait"
    )
    label_delay: tuple[Watch, ...] = Field(default=(), description="on the time from the event to its label")
    warmup_labels: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=5_000, description="labels before the error is watched: a young model's error moves"
    )
    reference_size: Count = Field(default=2_000, description="values that form the reference window")
    categories_max: Annotated[int, Field(ge=1, le=100)] = Field(
        default=10, description="values of a text feature whose rate is watched, the most frequent ones"
    )
    correction: Literal["bonferroni", "none"] = Field(
        default="bonferroni",
        description="with many features some alert by chance: bonferroni divides each detector's confidence by how "
        "many monitors of events there are",
    )
    warning_span: Count = Field(default=2_000, description="values of the signal after which a warning is over")
    cooldown_labels: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=2_000, description="labels learned after a reaction before another may follow: one change, one reaction"
    )
    boost_factor: Annotated[float, Field(gt=1, le=1_000)] = Field(
        default=5.0, description="of the reaction boost: what learning rates are multiplied by"
    )
    boost_labels: Count = Field(default=1_000, description="of the reaction boost: labels learned that fast")

    def of(self, signal: Signal) -> tuple[Watch, ...]:
        """The detectors of a signal of the shard as a whole."""
        found: tuple[Watch, ...] = getattr(self, signal.row.key)
        return found

    def by_feature(self, key: str) -> Mapping[str, tuple[Watch, ...]]:
        """The detectors of features' signals under a key of the file, by feature."""
        found: Mapping[str, tuple[Watch, ...]] = getattr(self, key)
        return found

    def every(self) -> Iterator[tuple[str, str | None, tuple[Watch, ...]]]:
        """All detectors by where they stand in the file: the key, and the feature under it where there is one."""
        for signal in DIRECT:
            yield signal.row.key, None, self.of(signal)
        for key in FEATURE_KEYS:
            for name, watches in self.by_feature(key).items():
                yield key, name, watches


class Limit(Form):
    """Bounds of a metric."""

    min: float | None = Field(default=None, description="alert below it")
    max: float | None = Field(default=None, description="alert above it")


class Throughput(Form):
    """How many events a partition usually gets, and what is unusual."""

    window_ms: Duration = Field(
        default=600_000, alias="window", description="events are counted over such spans of event time"
    )
    rise: Annotated[float, Field(gt=1, le=1_000)] = Field(
        default=2.0, description="alert when a span has so many times the usual count"
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
        description="an episode is over after so long without a further sign of it; by default 1h, or 4 times the mean "
        "time between events where that is longer",
    )
    ongoing_ms: Duration | None = Field(
        default=None,
        alias="ongoing",
        description="an episode that lasts is told again at most so often; by default 1d, or 7 times the mean time "
        "between events where that is longer",
    )
    episodes_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=5, description="most episodes of one signal within `within`; the last of them then waits out that span"
    )
    within_ms: Duration = Field(default=86_400_000, alias="within", description="the span of `episodes_max`")
    performance: dict[str, Limit] = Field(
        default_factory=dict, description="limits of metrics, over the last metric_window labels"
    )
    label_coverage_min: Share | None = Field(
        default=None, description="least share of events whose label came within the wait"
    )
    label_delay_max_ms: Duration | None = Field(
        default=None, alias="label_delay_max", description="alert when most labels come later than this"
    )
    unmatched_max: Share = Field(
        default=0.1,
        description="greatest share of labels that find no event, or find it too late; 1: any, and none need come",
    )
    rejected_max: Share = Field(default=0.1, description="greatest share of rejected events, and of labels; 1: any")
    missing_max: dict[str, Share] = Field(
        default_factory=dict, description="greatest share of events without that feature, by feature"
    )
    throughput: Throughput | None = Field(default=None, description="watch how many events come; none by default")
    severity: dict[AlertKind, Severity] = Field(
        default_factory=dict, description="in place of the rule, by kind of alert"
    )
    audience: dict[AlertKind, Roles] = Field(
        default_factory=dict, description="roles that a kind of alert is for, in place of the usual ones"
    )
    runbook: Annotated[str, Field(max_length=500, pattern=r"^[^\s#]+$")] = Field(
        default="docs/runbook.md", description="address of the page that says what to do; the kind is added after #"
    )


class Dedupe(Form):
    """How long and how many event ids are remembered, to tell repeats."""

    horizon_ms: Duration = Field(default=86_400_000, alias="horizon", description="in event time")
    id_max: Count = Field(default=200_000, alias="max", description="most ids, per partition")


class Snapshot(Form):
    """How often a shard's state is written down."""

    every_records: Count = Field(default=50_000, description="records since the last one")
    every_ms: Duration = Field(default=600_000, alias="every", description="time since the last one")


class MetricSplit(Form):
    """How the metrics are told apart, besides the total."""

    segment: str | None = Field(default=None, description="a feature: the metrics for each of its values")
    segment_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=20, description="most segments; values beyond them share one called (other)"
    )
    ages_ms: Annotated[tuple[Duration, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), alias="ages", description="label delays that bound the classes of label age, in rising order"
    )


class Limits(Form):
    """Bounds on what is read, kept and written."""

    record_bytes_max: Count = Field(default=1_000_000, description="longest input record, in bytes")
    output_bytes_max: Count = Field(default=950_000, description="longest output record, in bytes")
    number_max: Annotated[float, Field(gt=0)] = Field(default=1e15, description="largest magnitude of a number")
    string_max: Count = Field(default=1_000, description="longest id, string feature and class, in characters")
    time_ahead_max_ms: Duration = Field(
        default=3_600_000,
        alias="time_ahead_max",
        description="furthest that an event time may lie in the future",
    )
    classes_max: Count = Field(default=1_000, description="most classes that a model may learn")
    model_error_max: Count = Field(
        default=10, description="exceptions among the model's last 1,000 calls at which an alert is raised"
    )
    slice_records_max: Count = Field(default=5_000, description="most records folded and committed together")
    slice_compute_max_ms: Duration = Field(
        default=100, alias="slice_compute_max", description="longest that a slice may compute"
    )


class Pipeline(Form):
    """One use case, whole: `parse_pipeline` makes it from a file's content, `resolved` gives that back.

    Invariant: `parse_pipeline(pipeline.resolved()) == pipeline`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")] = Field(
        alias="pipeline",
        description="the pipeline's name: lower-case letters, digits, '.', '_', '-', at most 100",
    )
    task: TaskName = Field(description=f"{', '.join(TASK_NAMES[:-1])} or {TASK_NAMES[-1]}")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = Field(
        default=42, description="fills every seed that the expressions leave unset"
    )
    topics: Topics = Field(description="topic names; <pipeline>.<kind> by default")
    start: StartPlace = Field(
        default="earliest",
        description="where a new pipeline begins on events and labels: earliest, latest, or at records of a time; what "
        "has begun goes on where it is",
    )
    event: EventForm = Field(description="how an event is read")
    label: LabelForm | None = Field(default=None, description="how a label is read; required unless task is anomaly")
    params: dict[str, ScalarValue] = Field(
        default_factory=dict, description="values that $name stands for in expressions"
    )
    model: Expression = Field(description="a River expression, or package.module:factory")
    decision: Decision | None = Field(default=None, description="binary and anomaly: when a score counts as a yes")
    metrics: tuple[Expression, ...] = Field(description="River metrics, computed on the served predictions")
    metric_window: Count = Field(default=1_000, description="labels in the rolling form of each metric")
    metric_span_ms: Duration | None = Field(
        default=None,
        alias="metric_span",
        description="event time over which each metric is told as well, at most 2,000 labels",
    )
    metric_by: MetricSplit = Field(default=MetricSplit(), description="metrics by segment and by age of the label")
    drift: Drift = Field(description="what is watched for drift, and by which detectors")
    alerts: Alerts = Field(default=Alerts(), description="limits that alert, and how alerts are told")
    dedupe: Dedupe = Field(default=Dedupe(), description="how repeats of an event id are told")
    snapshot: Snapshot = Field(default=Snapshot(), description="how often state is written down")
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once", description="exactly_once (Kafka transactions) or at_least_once"
    )
    limits: Limits = Field(default=Limits(), description="bounds on what is read, kept and written")

    def resolved(self) -> dict[str, Any]:
        """The whole pipeline as a file would write it, JSON-able, with every default filled in."""
        return self.model_dump(mode="json", by_alias=True)
