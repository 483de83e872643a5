"""What the core makes: scores, outcomes, alerts and rejected records.

Every output has an `output_id`, a pure function of the input that it is about: topic, partition, offset, and 0 for what
became of the record itself (its score, its rejection, a label that found no event), 1 for how an event's wait ended,
from 2 on for alerts (those of a tick name the shard and its slice). So the same input always yields the same ids and a
consumer can drop repeats. Nothing here depends on a clock.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, final

from msgspec import Struct

from driftline.core.place import OWN
from driftline.core.record import EventId, FeatureValue, Headers, LabelValue, Source

OutcomeKind: TypeAlias = Literal[
    "joined",
    "assumed",
    "expired",
    "orphan",
    "duplicate",
    "late",
    "corrected",
    "retracted",
    "unretracted",
    "failed",
]
AlertState: TypeAlias = Literal["opened", "ongoing", "resolved"]
Guard: TypeAlias = Literal[
    "served", "flagged", "clipped", "fallback", "withheld", "held", "approved", "edited", "refused", "overdue"
]
Rung: TypeAlias = Literal["finite", "untrained", "range", "step", "width", "unfamiliar", "share", "distribution"]
Action: TypeAlias = Literal["flag", "clip", "last_good", "fallback", "hold", "withhold"]
Instead: TypeAlias = Literal["last_good", "last_value", "seasonal", "second_model", "value"]


class Prediction(Struct, frozen=True, gc=False, array_like=True):
    """What a model says of one event.

    Args:
        label: the predicted class; None for regression and anomaly, and where the model cannot say yet.
        probabilities: probability of each class as River gives it; None where the model has none.
        value: probability of the positive class (binary), the predicted number (regression), the anomaly score;
            None where the model cannot say.
    """

    label: LabelValue | None = None
    probabilities: dict[LabelValue, float] | None = None
    value: float | None = None


class Several(Prediction, frozen=True, gc=False, array_like=True):
    """A forecast.

    Args:
        value: of the first horizon.
        ahead: of each, from 1 on.
    """

    ahead: tuple[float, ...] = ()


class ModelVersion(Struct, frozen=True, gc=False, array_like=True):
    """Which model: `generation` counts resets and replacements, `learned` its learn calls since the first."""

    generation: int
    learned: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.learned}"


Predicted: TypeAlias = tuple[Prediction | None, Prediction, Guard]
"""What is predicted of one event: what the model made (empty where that is not finite, None where it was not asked),
what is served (the same, or what takes its place), and which of them that is. No struct: one is made for each event."""


class Unserved(Struct, frozen=True, gc=False, array_like=True):
    """A prediction of an event that was made beside the one that was served.

    Args:
        name: of the model that made it; `MODEL` is the pipeline's own, `SECOND` the guard's second one.
        rung: of the guard, that kept it from being served; empty where the pipeline declares no guard.
        ahead: of a forecast, what it was at each horizon; None where it was served.
    """

    name: str
    prediction: Prediction
    version: ModelVersion
    rung: str = ""
    ahead: tuple[float | None, ...] = ()


MODEL: Final = "model"
SECOND: Final = "second model"


class Stakes(Struct, frozen=True, gc=False, array_like=True):
    """What a KPI needs to know of a served event until its truth comes.

    Args:
        layout: which fields `values` are of; see `core.metric.kpi`.
        at_ms: the event's time, or the watermark where the event is ahead of it.
        decision: whether it was decided as yes; None where there is no such decision.
        values: of the fields that prices and segments are of, None where one is missing.
    """

    layout: int
    at_ms: int
    decision: bool | None
    values: tuple[FeatureValue, ...]


class Decision(Struct, frozen=True, gc=False, array_like=True):
    """What was served of a held event in the end, which its label is held against.

    Args:
        yes: whether it counts as decided as yes, by the threshold of that time; None where there is no such decision.
    """

    prediction: Prediction
    yes: bool | None


class Priced(Struct, frozen=True, gc=False, array_like=True):
    """What one event came to under a KPI.

    Args:
        kpi: its name.
        kind: of decision (`core.task.consequence`); empty where no prediction was served, or no label came.
        cost, value: in millionths of the KPI's unit, as whole numbers, so that sums are exact in any order.
        estimated: no label came, and they are what the model's probabilities say.
        lacking: why there is no amount; empty where there is one.
    """

    kpi: str
    kind: str
    cost: int
    value: int
    estimated: bool = False
    lacking: str = ""


class Trip(Struct, frozen=True, gc=False, array_like=True):
    """A rung of the guard that a prediction did not pass.

    Args:
        limit: that it is beyond; None where it has none.
        excess: by how much; negative below a least value.
        feature: that is beyond it, where the limit is one of features.
        horizon: of a forecast, from 1 on; 0 of other tasks.
    """

    rung: Rung
    action: Action
    limit: float | None = None
    excess: float | None = None
    feature: str = ""
    horizon: int = 0


class Forecast(Struct, frozen=True, gc=False, array_like=True):
    """What is served of one series after an observation; each tuple is by horizon, from 1 on.

    Args:
        series: the values that name it.
        time_ms: of the observation's step; horizon h is of `time_ms + h * step_ms`.
        values: the forecast; None where the guard withholds it.
        lower, upper: of its interval; None while too few residuals are known.
        naive: what the same time one season before says.
        interval: share of the observations that the intervals are to hold.
        guard: what the guard did at each horizon; empty where no rung tripped.
        instead: which fallback is served at each horizon, if one is; empty where `guard` is.
    """

    series: tuple[FeatureValue, ...]
    time_ms: int
    step_ms: int
    values: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    naive: tuple[float, ...]
    interval: float
    guard: tuple[Guard, ...] = ()
    instead: tuple[Instead | None, ...] = ()

    @property
    def nearest(self) -> Prediction:
        """The forecast of the first horizon."""
        return Prediction(value=self.values[0])


class Judged(Struct, frozen=True, gc=False, array_like=True):
    """What was forecast of one observation; each tuple has one entry for each horizon at which it was.

    Args:
        series: the values that name it.
        time_ms: of the observation's step; horizon h was served at `time_ms - h * step_ms`.
        horizons: in ascending order.
        values, lower, upper, naive: as of `Forecast`.
        versions: of the models that served them.
        scale: mean distance of the series' observations so far from those a season before, for MASE; None before there
            is one.
        made: what the model forecast, where the guard had something else served, else None; empty where it nowhere had.
        rungs: of the guard, which decided, where `made` says something; else empty texts.
        second: what the guard's second model forecast, served or not; None where it said nothing; empty where it never
            did.
    """

    series: tuple[FeatureValue, ...]
    time_ms: int
    step_ms: int
    horizons: tuple[int, ...]
    values: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    naive: tuple[float, ...]
    versions: tuple[ModelVersion, ...]
    scale: float | None
    interval: float
    made: tuple[float | None, ...] = ()
    rungs: tuple[str, ...] = ()
    second: tuple[float | None, ...] = ()


class Spent(Struct, frozen=True, gc=False, array_like=True):
    """How a decision stood to the budget of alarms.

    Args:
        alarms: in its period so far, itself included; `most` there may be.
        threshold: that its score was held against; None where none could pass, or any.
    """

    alarms: int
    most: int
    threshold: float | None = None


@final
class Score(Struct, frozen=True, gc=False):
    """The served prediction of one event.

    Args:
        guard: `served` as the model predicted it; `flagged`: the same, though a rung tripped; `clipped` to a limit;
            `fallback`: another value in its place, by the last good copy of the model where the pipeline declares no
            guard; `withheld` where nothing may be served: `prediction` is then empty.
        features: what the model saw; not part of what is written.
        forecast: of a series, from this observation on; None of other tasks, and while the series is young.
        decision: whether the prediction reaches the pipeline's threshold, or is an alarm under its budget (`budget`
            then says how it stood); None without either.
        learned: how many labels (or events, where it learns from those) the model that made the prediction had
            learned; 0 of an untrained one, also after a reset.
        tripped: the rungs that the prediction did not pass, in order; the last one decided.
        instead: what was served in its place, where the pipeline declares a guard.
        unserved: what else was predicted; not part of what is written.
    """

    output_id: str
    source: Source
    event_id: EventId
    time_ms: int
    prediction: Prediction
    decision: bool | None
    guard: Guard
    version: ModelVersion
    features: tuple[FeatureValue, ...] = ()
    learned: int = 0
    tripped: tuple[Trip, ...] = ()
    instead: Instead | None = None
    unserved: tuple[Unserved, ...] = ()
    forecast: Forecast | None = None
    budget: Spent | None = None


class HeldBack(Struct, frozen=True, gc=False, array_like=True):
    """A prediction that waits for a person, as the shard keeps it.

    Args:
        deadline_ms: in event time; then `then` is served, which comes from `instead`.
        partition: of the event; `OWN` where it is the shard's own number.
        time_ms: of the event.
        made: what the model predicted.
        last: the last value of its series.
        series: its key, where the guard remembers series.
        ahead, then_ahead: of a forecast, all horizons of `made` and of `then`.
    """

    deadline_ms: int
    partition: int
    key: bytes | None
    time_ms: int
    version: ModelVersion
    learned: int
    tripped: tuple[Trip, ...]
    made: Prediction
    features: tuple[FeatureValue, ...]
    instead: Instead | None
    then: Prediction
    last: float | None
    series: bytes | None
    ahead: Forecast | None = None
    then_ahead: Forecast | None = None


@final
class Decided(Struct, frozen=True, gc=False):
    """What is served of an event that was held: in the scores topic, after the score that reported it.

    Args:
        guard: `approved`, `edited` or `refused` by a person, `overdue` where none decided in time.
        instead: which fallback is served, if one is.
        forecast: as of a score.
    """

    output_id: str
    stamp_ms: int
    event_id: EventId
    time_ms: int
    key: bytes | None
    partition: int
    prediction: Prediction
    decision: bool | None
    guard: Guard
    version: ModelVersion
    learned: int
    tripped: tuple[Trip, ...]
    instead: Instead | None
    forecast: Forecast | None = None
    budget: Spent | None = None


@final
class Review(Struct, frozen=True, gc=False):
    """An event that is held, or what was decided about it: in the review topic.

    Args:
        state: `held`, or as in `Decided`.
        served: what was decided.
        by, why: who decided it, as far as the command says.
        forecast: what was decided of a forecast.
    """

    output_id: str
    stamp_ms: int
    state: Guard
    event_id: EventId
    held: HeldBack
    served: Prediction | None = None
    by: str = ""
    why: str = ""
    forecast: Forecast | None = None


@final
class Outcome(Struct, frozen=True, gc=False):
    """How the wait for one event's label ended: the training log, with truth as it was known at the time.

    Args:
        kind: `joined` (event and label, learned), `assumed` (deadline passed, the pipeline's assumed label learned),
            `expired` (deadline passed or no room left, dropped), `orphan` (label whose event never came),
            `duplicate` (event already had its label), `late` (label after the deadline), `corrected` (another label in
            place of the one that the event had or was assumed to have, learned), `retracted` (its label was taken
            back), `unretracted` (there was none to take back), `failed` (the model raised while learning).
        prediction, version, features, event_time_ms: as they were when the event was served; None for a label
            without a waiting event.
        label_time_ms: event time of the label, None where none came.
        detail: why, in a few words, where the kind alone does not say.
        previous_label: the label that was corrected or retracted.
        partition: of the event or label that it is about; `OWN` where it is the shard's own number.
        unserved: what else was predicted of the event.
        judged: the forecasts whose truth the event is; None of other tasks.
        priced: what it came to, by KPI.
        stakes: what that was made from; not part of what is written.
    """

    output_id: str
    kind: OutcomeKind
    key: bytes | None
    stamp_ms: int
    event_id: EventId
    event_time_ms: int | None
    features: tuple[FeatureValue, ...] | None
    prediction: Prediction | None
    version: ModelVersion | None
    label: LabelValue | None
    label_time_ms: int | None
    detail: str | None = None
    previous_label: LabelValue | None = None
    partition: int = OWN
    unserved: tuple[Unserved, ...] = ()
    judged: Judged | None = None
    priced: tuple[Priced, ...] = ()
    stakes: Stakes | None = None

    @property
    def ended(self) -> OutcomeKind:
        """As `ended_as`."""
        return ended_as(self.kind, self.label_time_ms, self.previous_label)


def ended_as(kind: OutcomeKind, label_time_ms: int | None, previous_label: LabelValue | None) -> OutcomeKind:
    """How a wait ended, also where the model raised while learning: all but that went as usual.

    Args: as of `Outcome`.
    """
    if kind != "failed":
        return kind
    if label_time_ms is None:
        return "assumed"
    return "joined" if previous_label is None else "corrected"


@final
class Alert(Struct, frozen=True, gc=False):
    """Something that a person or a program should act on.

    Args:
        episode: one problem from its opening to its end; the record's key.
        update: number of this message among those of its episode, from 1.
        opened_ms: event time of the episode's opening.
        audience: the roles it is for.
        sentence: plain English, for someone who does not program.
        runbook: address of what to do about it.
        acknowledged, acknowledged_by: an operator acknowledged it, and who, where the command named its sender.
        silenced: an operator silenced it: no one is to be notified now.
        announced: a message of the episode, this one included, was not silenced.
        flapping: the signal has had so many episodes that this one ends only after a long quiet.
        evidence: JSON-able numbers behind it.
        positions: next offset per input (see `core.place`) at the moment of the alert, to replay to.
        opened_at: the same at the moment of the opening.
    """

    output_id: str
    stamp_ms: int
    time_ms: int | None
    episode: str
    state: AlertState
    kind: str
    severity: str
    audience: tuple[str, ...]
    sentence: str
    evidence: dict[str, object]
    positions: dict[str, int]
    update: int
    opened_ms: int
    opened_at: dict[str, int]
    runbook: str
    acknowledged: bool = False
    silenced: bool = False
    announced: bool = True
    flapping: bool = False
    acknowledged_by: str = ""


@final
class Rejected(Struct, frozen=True, gc=False):
    """A record that was read and not folded into the state: the bytes as they came, and why."""

    output_id: str
    source: Source
    reason: str
    detail: str

    @property
    def headers(self) -> Headers:
        return self.source.headers


Output: TypeAlias = Score | Decided | Review | Outcome | Alert | Rejected
