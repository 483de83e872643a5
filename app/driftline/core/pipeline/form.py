"""A pipeline: one use case as its file describes it, checked and with everything filled in.

The classes here are only the shape. They are frozen, refuse keys that they do not know, and name every setting
by its unit in code (`wait_ms`) and without it in the file (`wait: 7d`), where the unit is written. What must
hold between settings is in `rule`; what is filled in when the file is silent is in `parse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    Expression,
    PathText,
    Scalar,
    ScalarValue,
    StartPlace,
    TopicName,
    check_scalar,
)
from driftline.core.pipeline.digest import DigestForm
from driftline.core.pipeline.feature import AnyFeature, Feature, Form, HistoryFeature, Text
from driftline.core.pipeline.forecast import ForecastForm
from driftline.core.pipeline.guard import GuardForm
from driftline.core.pipeline.kind import AlertKind
from driftline.core.pipeline.kpi import KpiForm
from driftline.core.pipeline.learning import LearningForm, QuarantineForm, tests_labels
from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.signal import DIRECT, FEATURE_KEYS, Signal
from driftline.core.task import SLATES, TASK_NAMES, TaskName, task_of

Detector: TypeAlias = Expression
KEYS_MAX = 100_000
REWARDS_EARLY_MAX = 100  # rewards of one request that are held until it comes
Severity: TypeAlias = Literal["warning", "critical"]
Role: TypeAlias = Literal["data_science", "data_engineering", "operations", "domain_expert"]

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


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


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
        order, read = tuple(map(places.get, self.features)), len(places)
        return lambda values: (
            tuple([None if place is None else values[place] for place in order]),
            tuple(values[read:]),
        )

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


class Topics(Form):
    """The Kafka topics of a pipeline."""

    events: TopicName
    labels: TopicName | None = Field(description="none for anomaly scoring without labels")
    control: TopicName
    scores: TopicName
    outcomes: TopicName
    alerts: TopicName
    rejected: TopicName
    review: TopicName | None = Field(default=None, description="only where the guard holds predictions")
    journal: TopicName
    snapshots: TopicName


class Decision(Form):
    """When a score counts as a yes."""

    threshold: float = Field(description="probability (binary) or anomaly score from which on the decision is positive")


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


class Dedupe(Form):
    """How long and how many event ids are remembered, to recognize repeats."""

    horizon_ms: Duration = Field(
        default=86_400_000, alias="horizon", description="how long ids are remembered, in event time"
    )
    id_max: Count = Field(default=200_000, alias="max", description="maximum number of ids, per shard")


class Snapshot(Form):
    """How often a shard's state is written down."""

    every_records: Count = Field(default=50_000, description="number of records between snapshots")
    every_ms: Duration = Field(default=600_000, alias="every", description="time between snapshots")


class MetricSplit(Form):
    """How the metrics are distinguished, besides the total."""

    segment: str | None = Field(default=None, description="a feature: break metrics down by its values")
    segment_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=20, description="maximum number of segments; further values share one named (other)"
    )
    ages_ms: Annotated[tuple[Duration, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), alias="ages", description="label delays that separate the classes of label age, in ascending order"
    )


class Limits(Form):
    """Bounds on what is read, kept and written."""

    record_bytes_max: Count = Field(default=1_000_000, description="maximum size of an input record, in bytes")
    output_bytes_max: Count = Field(default=950_000, description="maximum size of an output record, in bytes")
    number_max: Annotated[float, Field(gt=0)] = Field(default=1e15, description="largest magnitude of a number")
    string_max: Count = Field(
        default=1_000, description="maximum length of an id, string feature or class, in characters"
    )
    time_ahead_max_ms: Duration = Field(
        default=3_600_000,
        alias="time_ahead_max",
        description="how far an event time may be in the future",
    )
    classes_max: Count = Field(default=1_000, description="maximum number of classes")
    model_error_max: Count = Field(
        default=10, description="number of exceptions among the model's last 1,000 calls that raises an alert"
    )
    slice_records_max: Count = Field(
        default=5_000, description="maximum number of records processed and committed together"
    )
    slice_compute_max_ms: Duration = Field(
        default=100, alias="slice_compute_max", description="maximum computing time of a slice"
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
        default=42, description="default for every seed in the expressions"
    )
    topics: Topics = Field(description="topic names [default: <pipeline>.<kind>]")
    shards: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None,
        description="models that share the partitions of the inputs: shard s of N learns from partitions p with p mod "
        "N = s. The partitions of the journal say how many; 1 where there is none yet",
    )
    start: StartPlace = Field(
        default="earliest",
        description="where a new pipeline starts reading events and labels: earliest, latest or a time; no effect "
        "once it has started",
    )
    event: EventForm = Field(description="how an event is read")
    label: LabelForm | None = Field(
        default=None, description="how a label is read; required unless task is anomaly or forecast"
    )
    forecast: ForecastForm | None = Field(
        default=None, description="task forecast: what is forecast, and how far ahead"
    )
    params: dict[str, ScalarValue] = Field(default_factory=dict, description="values of $name in expressions")
    model: Expression = Field(description="a River expression, or package.module:factory")
    recommend: RecommendForm | None = Field(default=None, description="task recommend: candidates, slate and policy")
    decision: Decision | None = Field(default=None, description="binary and anomaly: which scores count as positive")
    guard: GuardForm | None = Field(
        default=None, description="which predictions may be served, and what is served instead of the others"
    )
    kpi: dict[str, KpiForm] = Field(
        default_factory=dict, description="what decisions cost and bring, by the name of the KPI"
    )
    learning: LearningForm | None = Field(default=None, description="which labels are learned, and when")
    digests: dict[str, DigestForm] = Field(
        default_factory=dict, description="digests that workers send on a schedule, by name"
    )
    metrics: tuple[Expression, ...] = Field(description="River metrics of the served predictions")
    metric_window: Count = Field(default=1_000, description="number of labels in each metric's rolling value")
    metric_span_ms: Duration | None = Field(
        default=None,
        alias="metric_span",
        description="also report each metric over this span of event time, up to 2,000 labels",
    )
    metric_by: MetricSplit = Field(default=MetricSplit(), description="metrics by segment and by label age")
    drift: Drift = Field(description="what is watched for drift, and by which detectors")
    alerts: Alerts = Field(default=Alerts(), description="limits, and how alerts are published")
    dedupe: Dedupe = Field(default=Dedupe(), description="how duplicate event ids are recognized")
    snapshot: Snapshot = Field(default=Snapshot(), description="how often snapshots are taken")
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once", description="exactly_once (Kafka transactions) or at_least_once"
    )
    limits: Limits = Field(default=Limits(), description="limits on what is read, kept and written")

    @property
    def quantity(self) -> str:
        """What predictions are of, where they are numbers: the name of the label's field, or of what is forecast."""
        if self.forecast is not None:
            return self.forecast.target
        return "" if self.label is None else self.label.value.rpartition(".")[2]

    @property
    def unit(self) -> str:
        """What they are counted in; empty where the file does not say."""
        return "" if self.label is None else self.label.unit or ""

    @property
    def quarantine(self) -> QuarantineForm | None:
        """How labels are tested; None where they are not."""
        if self.label is None or not tests_labels(task_of(self.task)):
            return None
        form = QuarantineForm() if self.learning is None else self.learning.quarantine
        return None if form.action == "none" else form

    def resolved(self) -> dict[str, Any]:
        """The whole pipeline as a file would write it, JSON-able, with every default filled in."""
        written = self.model_dump(mode="json", by_alias=True)
        if self.recommend is None:
            del written[SLATES]
        if self.forecast is None:
            del written["forecast"]
        if not self.kpi:
            del written["kpi"]
        if not self.digests:
            del written["digests"]
        if self.learning is None:
            del written["learning"]
        return written
