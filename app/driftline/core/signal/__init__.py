"""The table of drift signals: what is watched for drift, and all that the rest of the code must know of it.

A signal is a member of `Signal`, and the member is its row: a row that lacks a column does not type-check, and there is
no other list of signals. To add one:

    here                     its row, and how its value comes from a prediction or a label
    sentence                 its wording
    pipeline.watch.Drift     its key, so that the pipeline file may name it
    where its value is met   `DriftMonitors.on_value`; for `OfFold` only

Detectors, warm-up, reference windows, reactions, snapshots, alerts, metrics and reports follow from the row. What goes
by a feature's type has state of its own beside that: a `ValueWatch` in `drift.feature`, which `drift.monitors` builds.

Nothing here imports River: the pipeline file's rules read this table, and commands read the pipeline file.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique
from math import exp, log
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec import Struct

from driftline.core.error import InvariantError
from driftline.core.signal.sentence import (
    Facts,
    Level,
    Subject,
    by_error,
    by_loss,
    delay_level,
    error_level,
    feature_level,
    loss_level,
    of_error,
    of_feature,
    of_label_delay,
    of_label_rate,
    of_loss,
    of_missing,
    of_novelty,
    of_rate,
    of_score,
    of_vocabulary,
    score_level,
    share_level,
    warning,
)

if TYPE_CHECKING:
    from driftline.core.output import Prediction
    from driftline.core.pipeline import AlertKind, Severity
    from driftline.core.record import FeatureValue, LabelValue
    from driftline.core.task.base import Task

Bad: TypeAlias = Literal["rise", "fall", "both"]
"""Which way a signal must go to alert; the other way is an improvement, which is counted and nothing else."""

Shown: TypeAlias = Literal["bit", "share", "rank"]
"""What a detector is shown: 0 or 1, a number between them, or a number's rank in a frozen reference window."""

Need: TypeAlias = Literal["error", "classes", "probabilities", "labels"]
"""What a pipeline must have, for the signal to exist: predictions that can be wrong, classes, ..."""

LOSS_MAX: Final = log(1_000)  # of one event: a probability of the truth below 1 in 1,000 counts as that
_LEAST: Final = exp(-LOSS_MAX)


# -- where values come from


class OfScore(Struct, frozen=True):
    """From each served prediction, before its label is known; alerts after the warm-up.

    Args:
        value: for a task, what is read from a prediction; None where it has no such value.
    """

    value: Callable[[Task], Callable[[Prediction], float | None]]


class OfLabel(Struct, frozen=True):
    """From each served prediction and its label, once that is known; alerts after the warm-up.

    Args:
        value: for a task, what is read from a label and the prediction; None where they have no such value.
    """

    value: Callable[[Task], Callable[[LabelValue, Prediction], float | None]]


class OfFold(Struct, frozen=True):
    """The fold gives its values to `DriftMonitors.on_value` where it meets them; may alert from the first on."""


class OfFeature(Struct, frozen=True):
    """From one feature of each event; may alert from the first value on, or once its reference is full.

    Args:
        bit: whether a value has the property, given the one that stands in for a missing value. None for the signals of
            `drift.features`: which of them there are, and how they are watched, goes by the feature's type.
    """

    bit: Callable[[FeatureValue, FeatureValue], bool] | None = None


Origin: TypeAlias = OfScore | OfLabel | OfFold | OfFeature


def loss_of(y_true: LabelValue, prediction: Prediction) -> float | None:
    """The log loss of a served prediction, at most `LOSS_MAX`, as a share of it; None without probabilities."""
    probabilities = prediction.probabilities
    if not probabilities:
        return None
    probability = probabilities.get(y_true, 0.0)
    return 1.0 if probability <= _LEAST else max(0.0, -log(probability) / LOSS_MAX)


def _no_error(y_true: LabelValue, prediction: Prediction) -> None:
    """Of a task whose predictions cannot be wrong."""


def _absent(value: FeatureValue, fill: FeatureValue) -> bool:
    return value is None or (fill is not None and value == fill)


FEATURES: Final = "features"  # the episode that the values of all features share


class Row(Struct, frozen=True, kw_only=True):
    """All there is to know of a signal.

    Args:
        name: in alerts, metrics and states; of a feature's, what stands before the colon.
        key: in the pipeline file, `drift.KEY`; of a feature's, the feature follows.
        origin: where its values come from.
        shown: what a detector is shown.
        shown_of_numbers: the same where the task predicts numbers, or the feature is one; None: no other.
        scale: what means are multiplied by in alerts: the unit of what is shown in that of the signal.
        bad: which way it alerts.
        needs: of the pipeline.
        kind: of its alerts.
        episode: which its alerts belong to. Not the name of a `Condition`: a limit may be kept while a signal drifts.
        severity: of its alerts, unless the pipeline file says otherwise.
        counted: what its values are counted in, in sentences.
        wording: what happened, after 'Since about 1,000 events ago'.
        calm: in what no further change has been seen, once it is over; {} is the pipeline.
        stood: what its levels are of, in the sentence that ends an episode; {0} is the pipeline, {1} the feature, {2} a
            value of it.
        level: where it stands, as text.
        cause: what changed, in the alert of a reaction; {} is the feature.
    """

    name: str
    key: str
    origin: Origin
    shown: Shown
    shown_of_numbers: Shown | None = None
    scale: float = 1.0
    bad: Bad
    needs: tuple[Need, ...] = ()
    kind: AlertKind
    episode: str
    severity: Callable[[Facts], Severity] = warning
    counted: Literal["events", "labels"]
    wording: Callable[[Facts], str]
    calm: str
    stood: str
    level: Callable[[Subject, Level], str] = share_level
    cause: str

    def sentence(self, facts: Facts) -> str:
        """What a drift means, for someone who does not program."""
        return f"Since about {facts.drift.count_after:,} {self.counted} ago, {self.wording(facts)}"

    def shown_for(self, *, numbers: bool) -> Shown:
        """What a detector is shown, where the task predicts numbers or the feature is one, and where not."""
        return self.shown_of_numbers if numbers and self.shown_of_numbers is not None else self.shown


@unique
class Signal(Enum):
    """What is watched for drift. Its members' order is that of monitors and of problems in the pipeline file."""

    ERROR = Row(
        name="error",
        key="error",
        origin=OfLabel(lambda task: task.error or _no_error),
        shown="bit",
        shown_of_numbers="rank",  # the absolute error's, in the errors at the end of the warm-up
        bad="rise",
        needs=("error",),
        kind="concept_drift",
        episode="error",
        severity=by_error,
        counted="labels",
        wording=of_error,
        calm="the errors of {}",
        stood="{0}",
        level=error_level,
        cause="its errors",
    )
    LOSS = Row(
        name="loss",
        key="loss",
        origin=OfLabel(lambda _: loss_of),
        shown="share",
        scale=LOSS_MAX,
        bad="rise",
        needs=("error", "classes", "probabilities"),
        kind="concept_drift",
        episode="loss",
        severity=by_loss,
        counted="labels",
        wording=of_loss,
        calm="the loss of {}",
        stood="the probability that {0} gives to what turns out to be true",
        level=loss_level,
        cause="its loss",
    )
    SCORE = Row(
        name="score",
        key="score",
        origin=OfScore(lambda task: task.watched),
        shown="share",
        shown_of_numbers="rank",  # in the numbers at the end of the warm-up
        bad="both",
        kind="score_drift",
        episode="score",
        counted="events",
        wording=of_score,
        calm="the predictions of {}",
        stood="the average of what {0} predicts",
        level=score_level,
        cause="its predictions",
    )
    LABEL_RATE = Row(
        name="label_rate",
        key="label_rate",
        origin=OfFold(),  # when an event's wait is over, in order of arrival
        shown="bit",  # 1 where its label came within the wait
        bad="fall",
        needs=("labels",),
        kind="label_coverage",
        episode="label_rate_drift",
        counted="events",
        wording=of_label_rate,
        calm="how many labels of {} arrive in time",
        stood="the share of labels of {0} that come in time",
        cause="the share of its labels that arrive in time",
    )
    LABEL_DELAY = Row(
        name="label_delay",
        key="label_delay",
        origin=OfFold(),  # when an event's first label came
        shown="rank",  # of the time from event to label, in the first ones
        bad="rise",
        needs=("labels",),
        kind="label_delay",
        episode="label_delay_drift",
        counted="labels",
        wording=of_label_delay,
        calm="the label delay of {}",
        stood="the average delay of labels of {0}",
        level=delay_level,
        cause="the delay of its labels",
    )
    FEATURE = Row(
        name="feature",
        key="features",
        origin=OfFeature(),
        shown="bit",  # of a boolean: 1 for true
        shown_of_numbers="rank",  # in the first values, or in those of its season; or `raw`, the number itself
        bad="both",
        kind="data_drift",
        episode=FEATURES,
        counted="events",
        wording=of_feature,
        calm="the data of {}",
        stood="{1}",
        level=feature_level,
        cause="{}",
    )
    NOVELTY = Row(
        name="novelty",
        key="features",
        origin=OfFeature(),
        shown="bit",  # of a text: 1 where it was not among the first
        bad="rise",
        kind="data_drift",
        episode=FEATURES,
        counted="events",
        wording=of_novelty,
        calm="the data of {}",
        stood="the share of new values of {1}",
        cause="{}",
    )
    VOCABULARY = Row(
        name="vocabulary",
        key="features",
        origin=OfFeature(),
        shown="share",  # of a text of many words: of those that were not seen lately
        bad="rise",
        kind="data_drift",
        episode=FEATURES,
        counted="events",
        wording=of_vocabulary,
        calm="the data of {}",
        stood="the share of new words in {1}",
        cause="{}",
    )
    RATE = Row(
        name="rate",
        key="features",
        origin=OfFeature(),
        shown="bit",  # of a text: 1 where it is that value, one of the most frequent of the first
        bad="both",
        kind="data_drift",
        episode=FEATURES,
        counted="events",
        wording=of_rate,
        calm="the data of {}",
        stood="the share of {2} in {1}",
        cause="{}",
    )
    MISSING = Row(
        name="missing",
        key="missing",
        origin=OfFeature(_absent),
        shown="bit",  # 1 where it is omitted, or has the value that stands in for a missing one
        bad="rise",
        kind="data_quality",
        episode="missing_drift",
        counted="events",
        wording=of_missing,
        calm="the data of {}",
        stood="the share of events without {1}",
        cause="{}",
    )

    @property
    def row(self) -> Row:
        return self.value

    @property
    def of_feature(self) -> bool:
        return isinstance(self.row.origin, OfFeature)

    def named(self, what: str = "") -> str:
        """Its full name, as in `feature:amount`.

        Args:
            what: of a feature's signal, the feature; of a text's rate, `feature=value`.
        """
        return f"{self.row.name}:{what}" if self.of_feature else self.row.name

    def path(self, what: str = "") -> str:
        """Where the pipeline file names its detectors."""
        return f"drift.{self.row.key}.{what}" if self.of_feature else f"drift.{self.row.key}"

    @classmethod
    def read(cls, text: str) -> tuple[Signal, str]:
        """The signal of a name, and what stands behind the colon.

        Raises:
            InvariantError: there is no such signal.
        """
        name, _, what = text.partition(":")
        signal = _BY_NAME.get(name)
        if signal is None:
            raise InvariantError(f"no drift signal is called {text!r}")
        return signal, what


_BY_NAME: Final = {signal.row.name: signal for signal in Signal}
DIRECT: Final = tuple(signal for signal in Signal if not signal.of_feature)
"""Signals of the shard as a whole: `drift.KEY` in the pipeline file names their detectors."""

BITS: Final = tuple(
    signal for signal in Signal if isinstance(signal.row.origin, OfFeature) and signal.row.origin.bit is not None
)
"""Signals of a feature of any type: `drift.KEY.FEATURE` names their detectors."""

FEATURE_KEYS: Final = tuple(dict.fromkeys(signal.row.key for signal in Signal if signal.of_feature))
"""Keys of those, and of the signals that go by a feature's type."""

CONCEPT: Final = frozenset(signal.row.episode for signal in Signal if signal.row.kind == "concept_drift")
"""Episodes of a changed concept: while one is open, the model's own probabilities say nothing of its accuracy."""


def feature_of(name: str) -> str:
    """The feature that a feature's signal is of."""
    signal, what = Signal.read(name)
    return what.partition("=")[0] if signal is Signal.RATE else what


def shows_bits(key: str, *, numbers: bool, prose: bool = False) -> bool:
    """Whether all detectors under a key of the pipeline file are shown bits; see `Row.shown_for`.

    Args:
        prose: they are of a feature of type `text`.
    """
    if prose and key == Signal.VOCABULARY.row.key:
        return False
    others = [signal for signal in Signal if signal.row.key == key and signal is not Signal.VOCABULARY]
    return all(signal.row.shown_for(numbers=numbers) == "bit" for signal in others)
