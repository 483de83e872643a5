"""Drift monitors: a detector on each watched signal of one shard, and the rules of when it is worth an alert.

Which signals there are, what a detector is shown of each and which way it alerts is the table in `signal`.

Rules:

* Detectors of error, loss and score are fed from the first value on, ranks apart, but what they find alerts only
  after `warmup_labels` labels: a model that learns from cold changes its own error and scores. Being fed
  early gives them a past: on sea_50k ADWIN(0.002) finds the error's rises at 25,248 and 37,824 (logistic
  regression), 13,024 and 38,688 (naive Bayes), 25,408 and 39,968 (Hoeffding tree); fed after the warm-up
  only, it finds them at other labels.
* An improvement (a falling error, labels that come sooner) is recorded and never alerted, nor reacted to.
* Warnings are recorded, never alerted; the reaction `swap` starts a background model at them (see `reaction`).
* Of many features some alert by chance: with `correction: bonferroni` the confidence of each detector on the
  events is divided by the number of such monitors, so that all of them together alert by chance as seldom as
  one alone. It costs little, since the bounds of these detectors grow with the logarithm of the confidence only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

from msgspec import structs
from river import base, drift

from driftline.core.digest import digest_of
from driftline.core.drift.feature import CategoryWatch, MissingWatch, SeasonWatch, ValueWatch, VocabularyWatch
from driftline.core.drift.monitor import WARNING_SPAN, Chosen, Detector, Drift, Monitor, Move, make_monitors
from driftline.core.drift.reference import Reference, Season
from driftline.core.error import ExpressionError, InvariantError
from driftline.core.output import Prediction
from driftline.core.record import FeatureValue, LabelValue
from driftline.core.river.building import build_detector
from driftline.core.signal import BITS, DIRECT, OfFeature, OfFold, OfLabel, OfScore, Signal
from driftline.core.task import TaskName, task_of

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline
    from driftline.core.pipeline.feature import AnyFeature
    from driftline.core.pipeline.watch import DetectorForm

__all__ = ["Chosen", "Detector", "Drift", "DriftMonitors", "Monitor", "Move", "corrected"]

Named: TypeAlias = tuple[str, Any]  # a detector's expression, and the detector built from it
CATEGORIES_MAX = 10
MOVED_MAX = 5
_RANK_SPREAD = 12**-0.5
_NONE: tuple[Drift, ...] = ()
_CONNECTED = frozenset({"of_scores", "of_labels", "of_fold", "counts_labels"})  # made again from the rest of the state
_CONFIDENCES: dict[Any, tuple[str, ...]] = {
    drift.ADWIN: ("delta",),
    drift.KSWIN: ("alpha",),
    drift.binary.HDDMA: ("drift_confidence", "warning_confidence"),
    drift.binary.HDDMW: ("drift_confidence", "warning_confidence"),
    drift.binary.FHDDM: ("confidence_level",),
}


def corrected(detector: Any, count: int) -> Any:
    """A fresh detector like this one, as one of `count`: its confidence divided by them (Bonferroni).

    Detectors without a confidence (PageHinkley, DDM, EDDM) are given back as they are.
    """
    names = _CONFIDENCES.get(type(detector))
    if names is None or count == 1:
        return detector
    return detector.clone({name: getattr(detector, name) / count for name in names})


class DriftMonitors:
    """All monitors of one shard.

    Args:
        task: of the pipeline; says what the signals are.
        names: the features' names, in the order in which `on_event` gets their values.
        direct: detectors of the signals of the shard as a whole.
        features: detectors of features, by name.
        bits: detectors of the signals that are bits of a feature, by its name.
        types: of features that are not numbers, by name.
        fills: values that stand in for a missing feature, by name.
        warmup_labels: labels (anomaly: scores) before an error, a loss or a score may alert, 0 or more.
        reference_size: values that form a reference window.
        categories_max: values of a text feature whose rate is watched.
        warning_span: see `Monitor`.

    Attributes:
        direct: monitors of the signals of the shard as a whole; a list for each, however many are watched.
        of_scores, of_labels, of_fold: those of them that there are, by where their values come from.

    Raises:
        ExpressionError: a detector does not fit its signal, or there is no such signal.
    """

    direct: dict[Signal, list[Monitor]]
    counts_labels: bool
    of_scores: tuple[tuple[Callable[[Prediction], float | None], list[Monitor]], ...]
    of_labels: tuple[tuple[Callable[[LabelValue, Prediction], float | None], list[Monitor]], ...]
    of_fold: dict[Signal, list[Monitor]]

    def __init__(
        self,
        task: TaskName,
        names: Sequence[str],
        direct: Mapping[Signal, Sequence[Named | Chosen]] | None = None,
        *,
        features: Mapping[str, Sequence[Named | Chosen]] | None = None,
        bits: Mapping[Signal, Mapping[str, Sequence[Named | Chosen]]] | None = None,
        types: Mapping[str, str] | None = None,
        fills: Mapping[str, FeatureValue] | None = None,
        warmup_labels: int = 5_000,
        reference_size: int = 2_000,
        categories_max: int = CATEGORIES_MAX,
        warning_span: int = WARNING_SPAN,
    ) -> None:
        asked = [signal for signal, chosen in (direct or {}).items() if chosen]
        if not task_of(task).judged and any("error" in signal.row.needs for signal in asked):
            scores = task_of(task).words.scores
            raise ExpressionError(f"drift.error: {scores} have no error; watch score or features")
        self.task: TaskName = task
        self.names = tuple(names)
        self.warmup_labels = warmup_labels
        self.reference_size = reference_size
        self.categories_max = categories_max
        self.warning_span = warning_span
        self.label_count = 0
        self.score_count = 0
        numbers = not task_of(task).classes
        self.direct = {
            signal: self._of(signal, "", _listed((direct or {}).get(signal, ())), numbers=numbers) for signal in DIRECT
        }
        self.features: list[tuple[int, Monitor]] = []
        self.watches: list[tuple[int, ValueWatch]] = []
        for name, chosen in (features or {}).items():
            self._feature(name, _listed(chosen), (types or {}).get(name, "number"))
        for signal in BITS:
            for name, chosen in (bits or {}).get(signal, {}).items():
                self._bits(signal, name, _listed(chosen), (fills or {}).get(name))
        self.of_events = bool(self.features or self.watches)
        self._connect()

    def _of(self, signal: Signal, what: str, chosen: list[Chosen], *, numbers: bool) -> list[Monitor]:
        shown = signal.row.shown_for(numbers=numbers)
        _check(signal, what, chosen, bits=shown == "bit")

        def reference(one: Chosen) -> Reference | None:
            return Reference(self.reference_size) if shown == "rank" and not one.raw else None

        return make_monitors(signal, what, chosen, reference=reference, warning_span=self.warning_span)

    def _connect(self) -> None:
        """Note which monitors are fed from where."""
        task = task_of(self.task)
        scores, labels, fold = [], [], {}
        self.counts_labels = task.judged
        for signal, monitors in self.direct.items():
            if not monitors:
                continue
            match signal.row.origin:
                case OfScore(value):
                    scores.append((value(task), monitors))
                case OfLabel(value_of_label):
                    labels.append((value_of_label(task), monitors))
                case OfFold():
                    fold[signal] = monitors
                case OfFeature():
                    raise InvariantError(f"{signal.row.name} is a signal of features")
                case feed:
                    assert_never(feed)
        self.of_scores, self.of_labels, self.of_fold = tuple(scores), tuple(labels), fold

    def __getstate__(self) -> dict[str, object]:
        """An attribute for each signal, in the order in which states had them before there was a table of signals."""
        kept: dict[str, object] = {}
        for name, part in vars(self).items():
            if name == "direct":
                kept |= {signal.row.name: monitors for signal, monitors in self.direct.items()}
            elif name not in _CONNECTED:
                kept[name] = part
        return kept

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """A signal that the state does not know has no monitors."""
        names, own = {signal.row.name for signal in DIRECT}, vars(self)
        for name, part in state.items():
            if name not in names:
                own[name] = part
            elif "direct" not in own:
                own["direct"] = {signal: state.get(signal.row.name, []) for signal in DIRECT}
        self._connect()

    def _feature(self, name: str, chosen: list[Chosen], kind: str) -> None:
        if name not in self.names:
            raise ExpressionError(f"drift.features.{name}: no such feature; declare it, or remove it here")
        place = self.names.index(name)
        if kind == "string":
            _check(Signal.NOVELTY, name, chosen, bits=True)
            watch = CategoryWatch(name, chosen, self.reference_size, self.categories_max, self.warning_span)
            self.watches.append((place, watch))
            return
        if kind == "text":
            _check(Signal.VOCABULARY, name, chosen, bits=False)
            self.watches.append((place, VocabularyWatch(name, chosen, self.reference_size, self.warning_span)))
            return
        made = self._of(Signal.FEATURE, name, chosen, numbers=kind == "number")
        for one, monitor in zip(chosen, made, strict=True):
            monitor.unit = "bit" if kind == "boolean" else "raw" if one.raw else "rank"
            if one.season_ms is None:
                self.features.append((place, monitor))
            else:
                monitor.reference = None
                season = Season(one.season_ms, self.reference_size)
                self.watches.append((place, SeasonWatch(name, season, monitor)))

    def _bits(self, signal: Signal, name: str, chosen: list[Chosen], fill: FeatureValue) -> None:
        if name not in self.names:
            raise ExpressionError(f"{signal.path(name)}: no such feature; declare it, or remove it here")
        _check(signal, name, chosen, bits=True)
        self.watches.append((self.names.index(name), MissingWatch(signal, name, fill, chosen, self.warning_span)))

    @classmethod
    def of(cls, pipeline: Pipeline) -> DriftMonitors:
        """The monitors that a pipeline asks for.

        Raises:
            ExpressionError: a detector cannot be built, or does not fit its signal.
        """
        watched, declared = pipeline.drift, pipeline.event.features
        family = _family(pipeline) if watched.correction == "bonferroni" else 1

        def built(forms: Sequence[DetectorForm], count: int = 1) -> list[Chosen]:
            return [_built(form, pipeline, count) for form in forms]

        return cls(
            pipeline.task,
            tuple(declared),
            {signal: built(watched.of(signal)) for signal in DIRECT},
            features={name: built(forms, family) for name, forms in watched.features.items()},
            bits={
                signal: {name: built(forms, family) for name, forms in watched.by_feature(signal.row.key).items()}
                for signal in BITS
            },
            types={name: feature.type for name, feature in declared.items()},
            fills={name: feature.fill for name, feature in declared.items()},
            warmup_labels=watched.warmup_labels,
            reference_size=watched.reference_size,
            categories_max=watched.categories_max,
            warning_span=watched.warning_span,
        )

    # -- what is shown to them

    def on_event(self, features: Sequence[FeatureValue], time_ms: int | None = None) -> Sequence[Drift]:
        """Watch one event's features.

        Args:
            features: values in declared order, None where one is omitted.
            time_ms: the event's time, for seasons; None where it is not to be trusted.
        """
        if not self.of_events:
            return _NONE
        found: list[Drift] | None = None
        for place, monitor in self.features:
            value = features[place]
            if isinstance(value, int | float):
                change = monitor.update(value)
                if change is not None:
                    found = [*(found or ()), change]
        for place, watch in self.watches:
            changes = watch.observe(features[place], time_ms)
            if changes:
                found = [*(found or ()), *changes]
        if found is None:
            return _NONE
        return [structs.replace(one, moved=self._moved(one)) if one.kind == "drift" else one for one in found]

    def on_score(self, prediction: Prediction) -> Sequence[Drift]:
        """Watch one served prediction."""
        values = [
            (value, monitors) for value_of, monitors in self.of_scores if (value := value_of(prediction)) is not None
        ]
        if not values:
            return _NONE
        self.score_count += 1
        known = self.label_count if self.counts_labels else self.score_count
        return [change for value, monitors in values for change in _update(monitors, value, known > self.warmup_labels)]

    def on_label(self, y_true: LabelValue, prediction: Prediction, scale: float = 1.0) -> Sequence[Drift]:
        """Watch what a label says of the prediction that was served.

        Args:
            scale: what both were divided by, of numbers.
        """
        self.label_count += 1
        settled = self.label_count > self.warmup_labels
        found: Sequence[Drift] = _NONE
        for value_of, monitors in self.of_labels:
            value = value_of(y_true, prediction)
            if value is None:
                continue
            if len(monitors) == 1:  # most: `_update`, without a call
                change = monitors[0].update(value, settled, value * scale)
                if change is not None:
                    found = [*found, change]
            elif changes := _update(monitors, value, settled, scale):
                found = [*found, *changes]
        return found

    def on_value(self, signal: Signal, value: float) -> Sequence[Drift]:
        """Watch a value that only the fold knows; see `OfFold`."""
        monitors = self.of_fold.get(signal)
        return _NONE if monitors is None else _update(monitors, value, True)

    # -- what they say

    def _moved(self, found: Drift) -> tuple[Move, ...]:
        """The features that moved most since that change began, first the furthest."""
        moves = []
        for monitor in self._event_monitors():
            means = monitor.means_around(found.count_after)
            if monitor.signal == found.signal:
                means = found.before, found.after
            if means is None:
                continue
            before, after = means
            if monitor.name == monitor.signal and monitor.unit != "raw":  # a second detector saw the same
                moves.append(Move(monitor.signal, before, after, abs(after - before) / _spread(monitor, before, after)))
        moves.sort(key=lambda move: -move.size)
        return tuple(moves[:MOVED_MAX])

    def _event_monitors(self) -> Iterator[Monitor]:
        for _, monitor in self.features:
            yield monitor
        for _, watch in self.watches:
            yield from watch.monitors()

    def state(self) -> dict[str, object]:
        """A summary by monitor, for a status page."""
        return {monitor.name: monitor.state() for monitor in self.every()}

    def every(self) -> list[Monitor]:
        """All monitors there are now; a text's rates come to be as its reference is full."""
        return [*(monitor for monitors in self.direct.values() for monitor in monitors), *self._event_monitors()]

    def stopped(self) -> list[str]:
        """The names of those that find nothing any more."""
        return [monitor.name for monitor in self.every() if monitor.stopped]

    def keep(self, old: DriftMonitors, first: DriftMonitors) -> dict[str, str]:
        """Go on from another one's past, of the same features: where a watch began as it begins here, it goes on.

        Args:
            old: is used up, not copied.
            first: as that one was at its beginning.

        Returns:
            The names of the monitors that go on, by what they were called before.
        """
        self.label_count, self.score_count = old.label_count, old.score_count
        names: dict[str, str] = {}
        for signal, monitors in self.direct.items():
            pairs = zip(first.direct[signal], old.direct[signal], strict=True)
            known = {_beginning(start): lived for start, lived in pairs}
            self.direct[signal] = [_going_on(one, known, names) for one in monitors]
        features = zip(first.features, old.features, strict=True)
        known = {_beginning(start): lived for (_, start), (_, lived) in features}
        self.features = [(place, _going_on(one, known, names)) for place, one in self.features]
        watches = zip(first.watches, old.watches, strict=True)
        watched = {(place, digest_of(start)): lived for (place, start), (_, lived) in watches}
        self.watches = [(place, watched.get((place, digest_of(one)), one)) for place, one in self.watches]
        names |= {monitor.name: monitor.name for _, watch in self.watches for monitor in watch.monitors()}
        self._connect()
        return names


def _beginning(monitor: Monitor) -> bytes:
    """What a monitor's past depends on, before it has one."""
    return digest_of((monitor.signal, monitor.bad, monitor.unit, monitor.detector, monitor.looser, monitor.reference))


def _going_on(fresh: Monitor, known: Mapping[bytes, Monitor], names: dict[str, str]) -> Monitor:
    """The monitor that goes on in this one's place, with this one's name and reaction, or this one."""
    lived = known.get(_beginning(fresh))
    if lived is None:
        return fresh
    names[lived.name] = fresh.name
    lived.name, lived.act, lived.expression, lived.warning_span = (
        fresh.name,
        fresh.act,
        fresh.expression,
        fresh.warning_span,
    )
    return lived


def _spread(monitor: Monitor, before: float, after: float) -> float:
    """The standard deviation of one value, without a change: of a rank, or of a bit."""
    if monitor.unit == "bit":
        share = min(max((before + after) / 2, 0.001), 0.999)
        return float((share * (1 - share)) ** 0.5)
    return _RANK_SPREAD


def _update(monitors: list[Monitor], value: float, settled: bool, scale: float = 1.0) -> Sequence[Drift]:
    if len(monitors) == 1:
        change = monitors[0].update(value, settled, value * scale)
        return _NONE if change is None else (change,)
    changes = [monitor.update(value, settled, value * scale) for monitor in monitors]
    return [change for change in changes if change is not None]


# -- from the pipeline's words to monitors


def _listed(chosen: Sequence[Named | Chosen]) -> list[Chosen]:
    return [one if isinstance(one, Chosen) else Chosen(*one) for one in chosen]


def _built(form: DetectorForm, pipeline: Pipeline, family: int) -> Chosen:
    detector = build_detector(form.detector, pipeline)
    own = corrected(detector, family)
    return Chosen(
        expression=form.detector if own is detector else f"{form.detector}, as one of {family}",
        detector=own,
        looser=None if form.warning is None else build_detector(form.warning, pipeline),
        act=form.reaction,
        raw=getattr(form, "raw", False),
        season_ms=getattr(form, "season_ms", None),
    )


def _family(pipeline: Pipeline) -> int:
    """How many monitors may watch the events: with each text's rates, as many as there may be."""
    watched, declared = pipeline.drift, pipeline.event.features
    count = sum(
        len(forms) * _monitors_of(declared[name], watched.categories_max) for name, forms in watched.features.items()
    )
    return max(1, count + sum(len(forms) for signal in BITS for forms in watched.by_feature(signal.row.key).values()))


def _monitors_of(feature: AnyFeature, categories_max: int) -> int:
    return categories_max + 1 if feature.type == "string" else 1


def _check(signal: Signal, what: str, chosen: Sequence[Chosen], *, bits: bool) -> None:
    for one in chosen:
        for detector in (one.detector, one.looser):
            if detector is None:
                continue
            asked = f"{signal.path(what)}: {one.expression}"
            if not isinstance(detector, base.DriftDetector | base.BinaryDriftDetector):
                raise ExpressionError(f"{asked} is not a drift detector; use ADWIN() or another of river.drift")
            if isinstance(detector, base.BinaryDriftDetector) and not bits:
                raise ExpressionError(f"{asked} takes right or wrong, not numbers; use ADWIN, PageHinkley or KSWIN")
