"""A pipeline: one use case as its file describes it, checked and with everything filled in.

The classes here are only the shape. They are frozen, refuse keys that they do not know, and name every setting
by its unit in code (`wait_ms`) and without it in the file (`wait: 7d`), where the unit is written. What must
hold between settings is in `rule`; what is filled in when the file is silent is in `parse`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
    ScalarValue,
    StartPlace,
    TopicName,
)
from driftline.core.pipeline.digest import DigestForm
from driftline.core.pipeline.feature import Form, Zone, offset_ms_of
from driftline.core.pipeline.forecast import ForecastForm
from driftline.core.pipeline.guard import GuardForm
from driftline.core.pipeline.input import EventForm, LabelForm
from driftline.core.pipeline.kpi import KpiForm
from driftline.core.pipeline.learning import LearningForm, QuarantineForm, tests_labels
from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.pipeline.watch import Alerts, Drift
from driftline.core.task import SLATES, TASK_NAMES, TaskName, task_of


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
    """When a score counts as a yes: from a threshold on, or as far as a budget of alarms reaches."""

    threshold: float | None = Field(
        default=None, description="probability (binary) or anomaly score from which on the decision is positive"
    )
    budget: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None,
        description="instead of a threshold: so many events a period are decided as positive, those with the highest "
        "scores, each at once; never more. Several shards share it",
    )
    per_ms: Annotated[Duration, Field(ge=1, le=604_800_000)] = Field(
        default=86_400_000, alias="per", description="period of the budget, counted from midnight in `zone`"
    )
    zone: Zone = Field(
        default="UTC", description="where a period of the budget begins: UTC, or an offset such as +01:00"
    )

    @property
    def offset_ms(self) -> int:
        """Of the zone, from UTC."""
        return offset_ms_of(self.zone)

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Only what rules."""
        written = write(self)
        zone = ("zone",) if self.zone != "UTC" else ()
        names = ("threshold",) if self.budget is None else ("budget", "per_ms", "per", *zone)
        return {name: value for name, value in written.items() if name in names}


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


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


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

    @property
    def second(self) -> Pipeline | None:
        """The same pipeline with the guard's second model as its own; None without one."""
        model = None if self.guard is None else self.guard.second
        return None if model is None else self.model_copy(update={"model": model})

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
