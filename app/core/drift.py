"""Drift monitors: a detector on each watched signal of one shard, and the rules of when it is worth an alert.

Signals, and the values that a detector sees:

    error    binary, multiclass: 1 where the served class is not the label (none served counts as wrong), else 0
             regression: the absolute error, as a rank in the errors at the end of the warm-up
             anomaly: none
    score    binary: the probability of the positive class; multiclass: the greatest probability
             regression, anomaly: the number, as a rank in the numbers at the end of the warm-up
    feature  a number: its rank in the first `reference_size` values

Rules:

* Counts and means are kept outside the detector (see `trail`), because ADWIN forgets its window and its own
  count at a detection. Which way a signal went, and since when, comes from there for every detector alike.
* Detectors of error and score are fed from the first value on, ranks apart, but what they find alerts only
  after `warmup_labels` labels: a model that learns from cold changes its own error and scores. Being fed
  early gives them a past: on sea_50k ADWIN(0.002) finds the error's rises at 25,248 and 37,824 (logistic
  regression), 13,024 and 38,688 (naive Bayes), 25,408 and 39,968 (Hoeffding tree); fed after the warm-up
  only, it finds them at other labels.
* A falling error is recorded and never alerted. Scores and features alert both ways.
* Where a detector knows a warning zone, its beginning is recorded, never alerted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from msgspec import Struct
from river import base, drift

from app.core.build import build_detector
from app.core.error import ExpressionError
from app.core.output import Prediction
from app.core.record import FeatureValue, LabelValue
from app.core.reference import Reference
from app.core.trail import Trail

if TYPE_CHECKING:
    from app.core.pipeline import Pipeline, Task

Named: TypeAlias = tuple[str, Any]  # a detector's expression, and the detector built from it


class Drift(Struct, frozen=True, gc=False):
    """A change that a detector found.

    Args:
        signal: `error`, `score` or `feature:NAME`.
        monitor: the signal, with `#2` and so on for the second and later detectors on it; unique in a shard.
        detector: its expression.
        kind: `warning` where the detector is not sure yet.
        before, after: mean of the signal on both sides of the most likely change point.
        count_before, count_after: how many values each mean is of; the change began about `count_after`
        values ago.
        observed: values of the signal since the start.
        detection: number of this drift (or warning) among those of its monitor, from 1.
        alerts: whether the rules above call for an alert.
    """

    signal: str
    monitor: str
    detector: str
    kind: Literal["drift", "warning"]
    direction: Literal["rise", "fall"]
    before: float
    after: float
    count_before: int
    count_after: int
    observed: int
    detection: int
    alerts: bool


class Detector(Protocol):
    """What all of River's drift detectors have."""

    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


class Monitor:
    """One detector on one signal.

    Args:
        name: see `Drift.monitor`.
        signal: see `Drift.signal`.
        expression: the detector's, for people.
        detector: a fresh one; it is used up, not copied.
        both_ways: whether falls alert as rises do.
        reference: where values are ranked; None where they are in [0, 1] already.

    Cost: 0.6 us a value with ADWIN, 1.1 us with a reference of 2,000 values.
    """

    def __init__(
        self,
        name: str,
        signal: str,
        expression: str,
        detector: Detector,
        *,
        both_ways: bool,
        reference: Reference | None = None,
    ) -> None:
        self.name = name
        self.signal = signal
        self.expression = expression
        self.detector = detector
        self.both_ways = both_ways
        self.reference = reference
        self.trail = Trail()
        self.observed = 0
        self.drift_count = 0
        self.warning_count = 0
        self.warned = False
        self.settled = False
        self.warns = hasattr(detector, "warning_detected")

    def update(self, value: float, *, settled: bool = True) -> Drift | None:
        """Show the detector one value.

        Args:
            value: of the signal; in [0, 1] without a reference.
            settled: whether the warm-up is over: before, nothing alerts, and a reference keeps sliding.

        Returns:
            The drift or the beginning warning that this value brought to light, seldom one.
        """
        self.observed += 1
        reference = self.reference
        if reference is not None:
            if not reference.frozen:
                reference.collect(value, settled=settled)
                return None
            value = reference.rank(value)
        if settled and not self.settled:
            # A cold start is no past to compare with: of the warm-up, its later half is kept.
            self.settled = True
            self.trail.forget_before(self.observed // 2)
        self.trail.append(value)
        detector = self.detector
        detector.update(value)
        if detector.drift_detected:
            self.drift_count += 1
            self.warned = False
            return self._found("drift", settled)
        if self.warns:
            return self._warning()
        return None

    def _warning(self) -> Drift | None:
        """Tell the beginning of a warning zone, once until it ends."""
        before = self.warned
        self.warned = bool(getattr(self.detector, "warning_detected", False))
        if before or not self.warned:
            return None
        self.warning_count += 1
        return self._found("warning", settled=False)

    def _found(self, kind: Literal["drift", "warning"], settled: bool) -> Drift:
        change = self.trail.change()
        if kind == "drift":
            self.trail.forget_before(change.count_after)
        rises = change.after > change.before
        return Drift(
            signal=self.signal,
            monitor=self.name,
            detector=self.expression,
            kind=kind,
            direction="rise" if rises else "fall",
            before=change.before,
            after=change.after,
            count_before=change.count_before,
            count_after=change.count_after,
            observed=self.observed,
            detection=self.drift_count if kind == "drift" else self.warning_count,
            alerts=kind == "drift" and settled and (rises or self.both_ways),
        )

    def state(self) -> dict[str, object]:
        """A summary for a status page."""
        return {
            "detector": self.expression,
            "observed": self.observed,
            "watching": self.reference is None or self.reference.frozen,
            "drifts": self.drift_count,
            "warnings": self.warning_count,
        }


_NONE: tuple[Drift, ...] = ()


class DriftMonitors:
    """All monitors of one shard.

    Args:
        task: of the pipeline; says what the signals are.
        names: the features' names, in the order in which `on_event` gets their values.
        error, score, features: detectors by signal; a feature's by its name.
        warmup_labels: labels (anomaly: scores) before an error or a score may alert, 0 or more.
        reference_size: values that form a reference window.

    Raises:
        ExpressionError: a detector does not fit its signal, or there is no such signal.
    """

    def __init__(
        self,
        task: Task,
        names: Sequence[str],
        *,
        error: Sequence[Named] = (),
        score: Sequence[Named] = (),
        features: Mapping[str, Sequence[Named]] | None = None,
        warmup_labels: int = 5_000,
        reference_size: int = 2_000,
    ) -> None:
        if task == "anomaly" and error:
            raise ExpressionError("drift.error: anomaly scores have no error; watch score or features")
        self.task: Task = task
        self.warmup_labels = warmup_labels
        self.label_count = 0
        self.score_count = 0
        classes = task in ("binary", "multiclass")
        size = reference_size
        self.error = _monitors("error", error, bits=classes, both_ways=False, size=None if classes else size)
        self.score = _monitors("score", score, bits=False, both_ways=True, size=None if classes else size)
        self.features: list[tuple[int, Monitor]] = []
        for name, chosen in (features or {}).items():
            if name not in names:
                raise ExpressionError(f"drift.features.{name}: no such feature; declare it, or take it out here")
            made = _monitors(f"feature:{name}", chosen, bits=False, both_ways=True, size=size)
            self.features += [(names.index(name), monitor) for monitor in made]

    @classmethod
    def of(cls, pipeline: Pipeline) -> DriftMonitors:
        """The monitors that a pipeline asks for.

        Raises:
            ExpressionError: a detector cannot be built, or does not fit its signal.
        """

        def built(expressions: Sequence[str]) -> list[Named]:
            return [(expression, build_detector(expression, pipeline)) for expression in expressions]

        watched = pipeline.drift
        return cls(
            pipeline.task,
            tuple(pipeline.event.features),
            error=built(watched.error),
            score=built(watched.score),
            features={name: built(expressions) for name, expressions in watched.features.items()},
            warmup_labels=watched.warmup_labels,
            reference_size=watched.reference_size,
        )

    def on_event(self, features: Sequence[FeatureValue]) -> Sequence[Drift]:
        """Watch one event's features.

        Args:
            features: values in declared order, None where one is omitted.
        """
        if not self.features:
            return _NONE
        found = None
        for place, monitor in self.features:
            value = features[place]
            if isinstance(value, int | float):
                change = monitor.update(value)
                if change is not None:
                    found = [*(found or ()), change]
        return found or _NONE

    def on_score(self, prediction: Prediction) -> Sequence[Drift]:
        """Watch one served prediction."""
        if not self.score:
            return _NONE
        value = prediction.value
        if self.task == "multiclass":
            value = max(prediction.probabilities.values()) if prediction.probabilities else None
        if value is None:
            return _NONE
        self.score_count += 1
        known = self.score_count if self.task == "anomaly" else self.label_count
        return _update(self.score, value, known > self.warmup_labels)

    def on_label(self, y_true: LabelValue, prediction: Prediction) -> Sequence[Drift]:
        """Watch the error of a served prediction, now that its label is known."""
        self.label_count += 1
        if not self.error:
            return _NONE
        if self.task != "regression":
            wrong = 0 if prediction.label == y_true else 1
            return _update(self.error, wrong, self.label_count > self.warmup_labels)
        if prediction.value is None:
            return _NONE
        error = abs(y_true - prediction.value)  # type: ignore[operator]  # a regression's labels are numbers
        return _update(self.error, error, self.label_count > self.warmup_labels)

    def state(self) -> dict[str, object]:
        """A summary by monitor, for a status page."""
        return {monitor.name: monitor.state() for monitor in self.every()}

    def every(self) -> list[Monitor]:
        """All monitors."""
        return [*self.error, *self.score, *(monitor for _, monitor in self.features)]


def _update(monitors: list[Monitor], value: float, settled: bool) -> Sequence[Drift]:
    if len(monitors) == 1:
        change = monitors[0].update(value, settled=settled)
        return _NONE if change is None else (change,)
    changes = [monitor.update(value, settled=settled) for monitor in monitors]
    return [change for change in changes if change is not None]


def _monitors(signal: str, chosen: Sequence[Named], *, bits: bool, both_ways: bool, size: int | None) -> list[Monitor]:
    made = []
    for number, (expression, detector) in enumerate(chosen, 1):
        _check(signal, expression, detector, bits=bits)
        name = signal if number == 1 else f"{signal}#{number}"
        reference = None if size is None else Reference(size)
        made.append(Monitor(name, signal, expression, detector, both_ways=both_ways, reference=reference))
    return made


def _check(signal: str, expression: str, detector: object, *, bits: bool) -> None:
    asked = f"drift.{signal.replace(':', 's.')}: {expression}"
    if not isinstance(detector, base.DriftDetector | base.BinaryDriftDetector):
        raise ExpressionError(f"{asked} is no drift detector; take ADWIN() or another of river.drift")
    if isinstance(detector, drift.binary.FHDDM):
        # River 0.26 compares the best share of ones with the present one, as if 1 meant right.
        raise ExpressionError(f"{asked} finds falling errors only; take DDM, HDDMA or ADWIN instead")
    if isinstance(detector, base.BinaryDriftDetector) and not bits:
        raise ExpressionError(f"{asked} takes right or wrong, not numbers; take ADWIN, PageHinkley or KSWIN")
