"""Prequential metrics: how good the served predictions were, over all labels and over the last of them.

Over all labels, a value equals that of River's `evaluate.progressive_val_score` to the last digit: each
metric takes what River would give it (the class if it requires labels, else the probabilities, the number or
the anomaly score), and a prediction that says nothing is left out.

A label that is corrected or retracted is taken back by `revert`, from the total and, where it is still in there,
from the window. The window is not kept by River's own `revert`: those gather rounding errors without end (LogLoss),
are wrong for some metrics (RMSLE) and cost as much as an update. Instead the last labels' losses, or inputs, are kept,
and the value is computed when it is read: exact every time, and an update pays one append. A read costs
O(window), so it belongs to a scrape or a status, not to every record.

A read never changes the state. River's confusion matrix, made of `defaultdict`s, grows when it is looked at,
and the order of its classes is that of a set: a scrape would show up in a snapshot's digest, and the hash
seed in the last digit of MacroF1. So ours takes its place.
"""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from math import fsum, inf, isfinite, isnan, log
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from river import metrics

from driftline.core.fault import STOPS
from driftline.core.metric.check import check_metric
from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.river.building import build_metric
from driftline.core.river.curve import Curve, bin_of
from driftline.core.task import task_of

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline

_LEAST, _GREATEST = 1e-15, 1 - 1e-15  # River's bounds of a probability in a logarithm


class Confusion(metrics.ConfusionMatrix):
    """River's confusion matrix, with classes in sorted order and without growth by looking."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # River is untyped
        self.sum_row = _Counts()
        self.sum_col = _Counts()
        self.data = _Rows()

    def update(self, y_true: Any, y_pred: Any, w: float = 1.0) -> None:
        if y_true not in self.data:
            self.data[y_true] = _Counts()
        super().update(y_true, y_pred, w)  # type: ignore[no-untyped-call]  # River is untyped

    @property
    def classes(self) -> list[Any]:
        seen = {**self.sum_row, **self.sum_col}
        return sorted((c for c in seen if self.sum_row[c] or self.sum_col[c]), key=_class_order)


class _Counts(defaultdict[Any, float]):
    """Counts by class; 0 for one never counted."""

    def __missing__(self, _: object) -> float:
        return 0.0


class _Rows(defaultdict[Any, defaultdict[Any, float]]):
    """Counts of predicted classes by true class."""

    def __missing__(self, _: object) -> _Counts:
        return _Counts()


def _class_order(label: Any) -> tuple[bool, str, Any]:
    """Numbers and truth values by size, then the rest by type and value."""
    number = isinstance(label, int | float)
    return (not number, "" if number else type(label).__name__, label)


class Evaluation:
    """Metrics of one shard's served predictions.

    Args:
        chosen: fresh metrics by the name to report them under; they are used up, not copied.
        window: how many labels the windowed values look back, 1 or more.

        revertible: remember which labels are in the windows, so that any can be reverted.

    Attributes:
        label_count: labels seen, those of empty predictions included, without those taken back.
        unanswered: of those, how many came for an empty prediction: no metric counts them.
        taken: number of the latest label.
        since: by metric, the number of the latest label before it began; a metric of the first hour has none.

    Cost: Accuracy and LogLoss together 0.5 us an update, windows included; a curve 0.6 us, others of River's 1 us.
    """

    unanswered = 0  # of states that were written before there was a count

    def __init__(self, chosen: Mapping[str, Any], window: int, *, revertible: bool = False) -> None:
        self.label_count = 0
        self.unanswered = 0
        self.taken = 0
        self.window = window
        self.revertible = revertible
        self.since: dict[str, int] = {}
        self.tracks: dict[str, _Track] = {name: _track(metric, window) for name, metric in chosen.items()}
        self._updates = [track.update for track in self.tracks.values()]

    @classmethod
    def of(cls, pipeline: Pipeline) -> Evaluation:
        """The metrics that a pipeline names.

        Raises:
            ExpressionError: one cannot be built, or does not fit the task.
        """
        chosen, task = {}, task_of(pipeline.task)
        for expression in pipeline.metrics:
            chosen[expression] = build_metric(expression, pipeline)
            check_metric(expression, chosen[expression], task)
        label = pipeline.label
        corrected = label is not None and (label.retract or "correct" in (label.late, label.second))
        return cls(chosen, pipeline.metric_window, revertible=corrected)

    def update(self, y_true: LabelValue, prediction: Prediction) -> int:
        """Take in the label of one served prediction; returns its number, from 1.

        A pair without a finite loss (an overflow, a logarithm of a negative number) is left out of that
        metric and counted in its track's `skipped_count`.
        """
        self.label_count += 1
        if prediction.label is None and prediction.value is None:
            self.unanswered += 1
        self.taken = number = self.taken + 1
        if self.revertible:
            for track in self.tracks.values():
                if track.update(y_true, prediction):
                    track.numbers.append(number)
            return number
        for update in self._updates:
            update(y_true, prediction)
        return number

    def update_all(self, y_true: LabelValue, predictions: Sequence[Prediction]) -> None:
        """`update` with each of some predictions of the same label."""
        if self.revertible:
            for prediction in predictions:
                self.update(y_true, prediction)
            return
        self.label_count += len(predictions)
        self.unanswered += sum(one.label is None and one.value is None for one in predictions)
        self.taken += len(predictions)
        for track in self.tracks.values():
            track.update_all(y_true, predictions)

    def revert(self, y_true: LabelValue, prediction: Prediction, number: int, *, windows: bool = True) -> None:
        """Take back a label, of the metrics that took it in.

        Args:
            number: that `update` took it in under.
            windows: of the windows too; the parts of a split have numbers of their own there.

        Means carry a rounding error of one unit in the last place a revert; counts and curves are exact.

        Cost: O(window) a metric, 5 us with 1,000 labels.
        """
        self.label_count -= 1
        if prediction.label is None and prediction.value is None:
            self.unanswered -= 1
        for name, track in self.tracks.items():
            if number > self.since.get(name, 0) and track.revert(y_true, prediction) and windows:
                _remove(track, number)

    def keep(self, name: str, old: Evaluation) -> None:
        """Let a metric go on from another evaluation's, with as much of its window as this one holds."""
        track = old.tracks[name]
        if track.recent.maxlen != self.window:
            track.recent = deque(track.recent, maxlen=self.window)  # type: ignore[assignment]  # of the same kind
            track.numbers = deque(track.numbers, maxlen=self.window)
        self.tracks[name] = track
        self.since[name] = old.since.get(name, 0)
        self._updates = [one.update for one in self.tracks.values()]

    def values(self) -> dict[str, float | None]:
        """Each metric over all labels, and `label_count`; None where it is undefined."""
        values: dict[str, float | None] = {name: track.value() for name, track in self.tracks.items()}
        values["label_count"] = self.label_count
        return values

    def window_values(self) -> dict[str, float | None]:
        """Each metric over the last `window` labels that it took in, and their `label_count`; None where
        undefined.

        Cost: O(window) a metric: with 1,000 labels 15 us for means of losses, 0.15 to 0.7 ms for the rest.
        """
        values: dict[str, float | None] = {name: track.window_value() for name, track in self.tracks.items()}
        values["label_count"] = min(self.label_count, self.window)
        return values

    def __getstate__(self) -> dict[str, Any]:
        kept = ("label_count", "unanswered", "taken", "window", "revertible", "since", "tracks")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._updates = [track.update for track in self.tracks.values()]


def _remove(track: _Track, number: int) -> None:
    """Take a label out of a window, if it is still in there."""
    numbers = track.numbers
    if number in numbers:
        place = numbers.index(number)
        del numbers[place]
        del track.recent[place]


class _Mean:
    """A metric that is the mean of a loss per label; subclasses say which loss.

    The mean over all labels repeats the arithmetic of `river.stats.Mean`; the one over the window is the
    correctly rounded sum of its losses, divided.
    """

    def __init__(self, window: int) -> None:
        self.count = 0.0
        self.mean = 0.0
        self.skipped_count = 0
        self.recent: deque[float] = deque(maxlen=window)
        self.numbers: deque[int] = deque(maxlen=window)

    def loss(self, y_true: LabelValue, prediction: Prediction) -> float | None:
        """Of one label; None for a prediction that says nothing."""
        raise NotImplementedError

    def update(self, y_true: LabelValue, prediction: Prediction) -> bool:
        """Take in one label; returns whether it counts."""
        loss = self.loss(y_true, prediction)
        if loss is None:
            return False
        if not isfinite(loss):
            self.skipped_count += 1
            return False
        self.count += 1.0
        self.mean += (1.0 / self.count) * (loss - self.mean)
        self.recent.append(loss)
        return True

    def update_all(self, y_true: LabelValue, predictions: Sequence[Prediction]) -> None:
        """`update` with each of some predictions."""
        if type(self).update is not _Mean.update:
            for prediction in predictions:
                self.update(y_true, prediction)
            return
        loss_of, count, mean, recent = self.loss, self.count, self.mean, self.recent
        for prediction in predictions:
            loss = loss_of(y_true, prediction)
            if loss is None:
                continue
            if not isfinite(loss):
                self.skipped_count += 1
                continue
            count += 1.0
            mean += (1.0 / count) * (loss - mean)
            recent.append(loss)
        self.count, self.mean = count, mean

    def revert(self, y_true: LabelValue, prediction: Prediction) -> bool:
        """Take one label back, from the total; returns whether it counted."""
        loss = self.loss(y_true, prediction)
        if loss is None:
            return False
        if not isfinite(loss):
            self.skipped_count -= 1
            return False
        self.count -= 1.0
        self.mean = self.mean - (loss - self.mean) / self.count if self.count else 0.0
        return True

    def value(self) -> float | None:
        return _defined(self._shown(self.mean)) if self.count else None

    def window_value(self) -> float | None:
        if not self.recent:
            return None
        try:
            return _defined(self._shown(fsum(self.recent) / len(self.recent)))
        except OverflowError:  # losses near the greatest float
            return None

    def _shown(self, mean: float) -> float:
        return mean


class _Accuracy(_Mean):
    """Share of labels whose class was served; `mean` counts the hits, which is what River divides."""

    def update(self, y_true: LabelValue, prediction: Prediction) -> bool:
        label = prediction.label
        if label is None:
            return False
        hit = label == y_true
        self.count += 1.0
        self.mean += hit
        self.recent.append(hit)
        return True

    def revert(self, y_true: LabelValue, prediction: Prediction) -> bool:
        if prediction.label is None:
            return False
        self.count -= 1.0
        self.mean -= prediction.label == y_true
        return True

    def value(self) -> float | None:
        return self.mean / self.count if self.count else None


class _LogLoss(_Mean):
    def loss(self, y_true: LabelValue, prediction: Prediction) -> float | None:
        probabilities = prediction.probabilities
        if not probabilities:
            return None
        p = probabilities.get(True, 0.0)
        p = _LEAST if p < _LEAST else _GREATEST if p > _GREATEST else p
        return -log(p) if y_true else -log(1 - p)

    def update(self, y_true: LabelValue, prediction: Prediction) -> bool:
        """As of any mean, without a call for its loss."""
        probabilities = prediction.probabilities
        if not probabilities:
            return False
        p = probabilities.get(True, 0.0)
        p = _LEAST if p < _LEAST else _GREATEST if p > _GREATEST else p
        loss = -log(p) if y_true else -log(1 - p)
        if loss != loss:  # of NaN: between those bounds, nothing else is not finite
            self.skipped_count += 1
            return False
        self.count = count = self.count + 1.0
        self.mean += (1.0 / count) * (loss - self.mean)
        self.recent.append(loss)
        return True


class _CrossEntropy(_Mean):
    """As River has it, a class that the model does not know yet costs nothing."""

    def loss(self, y_true: LabelValue, prediction: Prediction) -> float | None:
        probabilities = prediction.probabilities
        if not probabilities:
            return None
        p = probabilities.get(y_true)
        return 0.0 if p is None else -log(_LEAST if p < _LEAST else _GREATEST if p > _GREATEST else p)


class _AbsoluteError(_Mean):
    def loss(self, y_true: Any, prediction: Prediction) -> float | None:
        return None if prediction.value is None else abs(y_true - prediction.value)


class _SquaredError(_Mean):
    def loss(self, y_true: Any, prediction: Prediction) -> float | None:
        if prediction.value is None:
            return None
        try:
            return float((y_true - prediction.value) ** 2)
        except OverflowError:
            return inf


class _RootSquaredError(_SquaredError):
    def _shown(self, mean: float) -> float:
        return float(mean**0.5)


class _Binned:
    """One of our curves; the window keeps each pair as its bin and its class in one integer."""

    def __init__(self, metric: Curve, window: int) -> None:
        self.metric = metric
        self.skipped_count = 0
        self.recent: deque[int] = deque(maxlen=window)
        self.numbers: deque[int] = deque(maxlen=window)

    def update(self, y_true: LabelValue, prediction: Prediction) -> bool:
        score = self._score(prediction)
        if score is None:
            return False
        try:
            place = bin_of(score)
        except ValueError:
            self.skipped_count += 1
            return False
        metric = self.metric
        positive = y_true == metric.pos_val
        metric.add(place, positive)
        self.recent.append(2 * place + positive)
        return True

    def update_all(self, y_true: LabelValue, predictions: Sequence[Prediction]) -> None:
        """`update` with each of some predictions."""
        for prediction in predictions:
            self.update(y_true, prediction)

    def revert(self, y_true: LabelValue, prediction: Prediction) -> bool:
        score = self._score(prediction)
        if score is None:
            return False
        if isnan(score):
            self.skipped_count -= 1
            return False
        try:
            self.metric.revert(y_true, score)
        except ValueError:  # it was never counted: of a state that someone else wrote
            return False
        return True

    def _score(self, prediction: Prediction) -> float | None:
        probabilities = prediction.probabilities
        if probabilities:
            return probabilities.get(self.metric.pos_val, 0.0)
        return prediction.value if probabilities is None else None

    def value(self) -> float | None:
        return _defined(self.metric.get())

    def window_value(self) -> float | None:
        curve = type(self.metric)(pos_val=self.metric.pos_val)
        for code in self.recent:
            curve.add(code >> 1, code & 1 == 1)
        return _defined(curve.get())


class _RootSquaredLogError(_RootSquaredError):
    def loss(self, y_true: Any, prediction: Prediction) -> float | None:
        if prediction.value is None:
            return None
        try:
            return float((log(y_true + 1) - log(prediction.value + 1)) ** 2)
        except ValueError:  # of a number of -1 or less
            return inf


_Input: TypeAlias = Literal["label", "probabilities", "value"]


class _Replayed:
    """Any other metric of River's; the window is a fresh copy that takes in the last labels again."""

    def __init__(self, metric: Any, window: int) -> None:
        _replace_confusions(metric, {})
        self.metric = metric
        self.fresh = copy.deepcopy(metric)
        self.input: _Input = "value"
        if not isinstance(metric, metrics.base.RegressionMetric):
            self.input = "label" if metric.requires_labels else "probabilities"
        self.count = 0
        self.skipped_count = 0
        self.recent: deque[tuple[Any, Any]] = deque(maxlen=window)
        self.numbers: deque[int] = deque(maxlen=window)

    def update(self, y_true: LabelValue, prediction: Prediction) -> bool:
        y_pred = getattr(prediction, self.input)
        if y_pred is None or y_pred == {}:
            return False
        try:
            self.metric.update(y_true, y_pred)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - of a state that someone else wrote, it may raise anything
            self.skipped_count += 1
            return False
        self.count += 1
        self.recent.append((y_true, y_pred))
        return True

    def update_all(self, y_true: LabelValue, predictions: Sequence[Prediction]) -> None:
        """`update` with each of some predictions."""
        for prediction in predictions:
            self.update(y_true, prediction)

    def revert(self, y_true: LabelValue, prediction: Prediction) -> bool:
        y_pred = getattr(prediction, self.input)
        if y_pred is None or y_pred == {}:
            return False
        try:
            self.metric.revert(y_true, y_pred)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - as in `update`
            self.skipped_count -= 1
            return False
        self.count -= 1
        return True

    def value(self) -> float | None:
        return _reading(self.metric) if self.count else None

    def window_value(self) -> float | None:
        if not self.recent:
            return None
        try:
            metric = copy.deepcopy(self.fresh)
            for y_true, y_pred in self.recent:
                metric.update(y_true, y_pred)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - as in `update`
            return None
        return _reading(metric)


_Track: TypeAlias = _Mean | _Binned | _Replayed

_LEAN: dict[type, type[_Mean]] = {
    metrics.Accuracy: _Accuracy,
    metrics.LogLoss: _LogLoss,
    metrics.CrossEntropy: _CrossEntropy,
    metrics.MAE: _AbsoluteError,
    metrics.MSE: _SquaredError,
    metrics.RMSE: _RootSquaredError,
    metrics.RMSLE: _RootSquaredLogError,
}


def _track(metric: Any, window: int) -> _Track:
    lean = _LEAN.get(type(metric))
    if lean is not None:
        return lean(window)
    if isinstance(metric, Curve):
        return _Binned(metric, window)
    return _Replayed(metric, window)


def _replace_confusions(metric: Any, made: dict[int, Confusion]) -> None:
    """Give a fresh metric, and those that it is made of, our confusion matrix, shared where River's was."""
    for name, part in vars(metric).items():
        if type(part) is metrics.ConfusionMatrix:
            setattr(metric, name, made.setdefault(id(part), Confusion()))
        elif isinstance(part, metrics.base.Metric) and not isinstance(part, Confusion):
            _replace_confusions(part, made)


def _reading(metric: Any) -> float | None:
    try:
        return _defined(metric.get())
    except STOPS:
        raise
    except BaseException:  # noqa: BLE001 - as in `_Replayed.update`
        return None


def _defined(value: float) -> float | None:
    return float(value) if isfinite(value) else None
