"""One detector on one signal: what it finds, which way the signal went, and since when.

Counts and means are kept outside the detector (`change_point`), because ADWIN forgets its window and its own count at a
detection. Which way a signal went, and since when, comes from there for every detector alike.

A warning is a detector's own zone (DDM, EDDM, HDDMA, HDDMW), or what a second, looser detector finds. It lasts until
the drift, or until the signal has been out of the zone for `warning_span` values.

None of River's detectors raises at a number. One that does is of a state that someone else wrote, and its monitor finds
nothing from then on: the shard goes on, and `stopped` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct
from river import drift
from river.__version__ import __version__

from driftline.core.drift.change_point import BLOCKS, Trail
from driftline.core.drift.reference import Reference
from driftline.core.fault import STOPS
from driftline.core.signal import Bad, Signal

Act: TypeAlias = Literal["alert", "reset", "swap", "boost"]
Unit: TypeAlias = Literal["bit", "rank", "raw"]
WARNING_SPAN = 2_000
_FAR = 1e290  # sums of such values are finite
_ADWIN = drift.ADWIN if __version__ == "0.26.1" else None  # what is known of it


class Move(Struct, frozen=True, gc=False):
    """How a signal moved with another one.

    Args:
        before, after: its means on both sides of the other one's change.
        size: their distance, in units of the signal's own spread.
    """

    signal: str
    before: float
    after: float
    size: float


class Drift(Struct, frozen=True, gc=False):
    """A change that a detector found.

    Args:
        signal: the name of a `Signal`, of a feature's with what it is of: `error`, `feature:NAME`, `rate:NAME=VALUE`.
        monitor: the signal, with `#2` and so on for the second and later detectors on it; unique in a shard.
        detector: its expression.
        kind: `warning` where the detector is not sure yet, `calm` where a warning ended without a drift.
        before, after: mean of the signal on both sides of the most likely change point.
        count_before, count_after: how many values each mean is of; the change began about `count_after`
            values ago.
        observed: values of the signal since the start.
        detection: number of this drift (or warning) among those of its monitor, from 1.
        alerts: whether the signal went the bad way, after the warm-up.
        act: the reaction that is called for; `alert` where nothing is to be done to the model.
        moved: of a drift in the events, the features that moved most with it, first the furthest.
        unit: what the means are of: bits or shares, ranks, or the values themselves.
        mean_before, mean_after: of ranks, the means of the values themselves; None where they are not known.
    """

    signal: str
    monitor: str
    detector: str
    kind: Literal["drift", "warning", "calm"]
    direction: Literal["rise", "fall"]
    before: float
    after: float
    count_before: int
    count_after: int
    observed: int
    detection: int
    alerts: bool
    act: Act = "alert"
    moved: tuple[Move, ...] = ()
    unit: Unit = "rank"
    mean_before: float | None = None
    mean_after: float | None = None


class Detector(Protocol):
    """What all of River's drift detectors have."""

    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


class Chosen(Struct, frozen=True):
    """A detector as a pipeline chose it, built and not yet used.

    Args:
        expression: the detector's, for people.
        looser: a second detector, whose detections are warnings.
        act: what to do at a drift.
        raw: feed a feature's numbers as they are.
        season_ms: compare a feature's numbers with those of the same time in this period.
    """

    expression: str
    detector: Any
    looser: Any = None
    act: Act = "alert"
    raw: bool = False
    season_ms: int | None = None


class Flipped:
    """A detector of bits that is shown the opposite ones.

    DDM, EDDM, HDDMA and HDDMW find rises of what they are shown. FHDDM finds falls: its definition reads 1 as right.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.warns = hasattr(detector, "warning_detected")

    def update(self, x: float) -> None:
        self.detector.update(1 - x)

    @property
    def drift_detected(self) -> bool:
        return bool(self.detector.drift_detected)

    @property
    def warning_detected(self) -> bool:
        return self.warns and bool(self.detector.warning_detected)


def facing(detector: Any, bad: Bad) -> Any:
    """The detector, turned so that it finds the changes that are bad."""
    one_sided = isinstance(
        detector, drift.binary.DDM | drift.binary.EDDM | drift.binary.HDDMA | drift.binary.HDDMW | drift.binary.FHDDM
    )
    if not one_sided:
        return detector
    finds_rises = not isinstance(detector, drift.binary.FHDDM)
    return detector if finds_rises == (bad != "fall") else Flipped(detector)


class Monitor:
    """One detector on one signal.

    Args:
        name: see `Drift.monitor`.
        signal: see `Drift.signal`.
        expression: the detector's, for people.
        detector: a fresh one; it is used up, not copied.
        bad: which way the signal must go to alert.
        reference: where values are ranked; None where they are in [0, 1] already, or raw.
        looser: a second detector, whose detections in the bad direction are warnings.
        act: what to do at a drift in the bad direction.
        scale: what a mean is multiplied by in alerts: the unit of the values in that of the signal.
        warning_span: values without a further warning after which one is over.

    Attributes:
        unit: what the detector is shown, for the spread of one value.
        means: of ranks, the values themselves, in the blocks of the trail: what people count in.

    Cost: 0.6 us a value with ADWIN, 1.2 us with a reference of 2,000 values.
    """

    means: Trail | None = None  # of states that were written before they were kept

    def __init__(
        self,
        name: str,
        signal: str,
        expression: str,
        detector: Detector,
        *,
        bad: Bad = "rise",
        reference: Reference | None = None,
        looser: Detector | None = None,
        act: Act = "alert",
        scale: float = 1.0,
        warning_span: int = WARNING_SPAN,
    ) -> None:
        self.name = name
        self.signal = signal
        self.expression = expression
        self.detector: Detector = facing(detector, bad)
        self.bad = bad
        self.reference = reference
        self.looser: Detector | None = None if looser is None else facing(looser, bad)
        self.act = act
        self.scale = scale
        self.warning_span = warning_span
        self.unit: Unit = "bit" if reference is None else "rank"
        self.trail = Trail()
        if reference is not None:
            self.means = Trail()
        self.observed = 0
        self.drift_count = 0
        self.warning_count = 0
        self.warned = False
        self.calm_at = 0  # the value at which the warning is over; 0 without one
        self.settled = False
        self.moved_from: tuple[float, int] | None = None  # mean before the last drift, and the value it began at
        self.warns = looser is not None or hasattr(self.detector, "warning_detected")

    def update(self, value: float, settled: bool = True, natural: float | None = None) -> Drift | None:
        """Show the detector one value.

        Args:
            value: of the signal; in [0, 1] without a reference.
            natural: the same in the unit of people, where it is another.
            settled: whether the warm-up is over: before, nothing alerts, and a reference keeps sliding.

        Returns:
            The drift, the beginning warning or its end that this value brought to light, seldom one.
        """
        self.observed += 1
        reference = self.reference
        if reference is not None:
            if not reference.frozen:
                reference.collect(value, settled=settled)
                return None
            natural = value if natural is None else natural
            value = reference.rank(value)
        if settled and not self.settled:
            # A cold start is not a past to compare with: of the warm-up, its later half is kept.
            self.settled = True
            self._forget_before(self.observed // 2)
        trail = self.trail
        newest = trail.levels[0]  # `append`, without a call
        newest.append(value)
        if len(newest) == BLOCKS:
            trail.merge()
        if self.means is not None:
            self.means.append(value if natural is None else min(max(natural, -_FAR), _FAR))
        detector = self.detector
        try:
            if type(detector) is _ADWIN and not self.warns:  # as most: its own `update`, without the calls
                if detector._drift_detected:
                    detector._reset()
                detector._drift_detected = found = detector._helper.update(value)
                if not found:
                    return None
                drifts, warns = True, False
            else:
                drifts, warns = self._show(value)
        except STOPS:
            raise
        except BaseException:  # noqa: BLE001 - River's parts in Rust panic past Exception
            self._give_up()
            return None
        if drifts:
            return self._drift(settled)
        return self._warning(warns, settled) if self.warns else None

    def _show(self, value: float) -> tuple[bool, bool]:
        """Show the detectors a value; returns whether there is a drift, and whether one of them warns of it."""
        detector, looser = self.detector, self.looser
        detector.update(value)
        if not self.warns:
            return bool(detector.drift_detected), False
        if looser is not None:
            looser.update(value)
            return bool(detector.drift_detected), bool(looser.drift_detected)
        return bool(detector.drift_detected), bool(getattr(detector, "warning_detected", False))

    def _give_up(self) -> None:
        """Find nothing any more."""
        self.detector = drift.NoDrift()
        if self.looser is not None:
            self.looser = drift.NoDrift()

    @property
    def stopped(self) -> bool:
        """Whether it gave up: its detector is not the one that the file names."""
        return type(self.detector) is drift.NoDrift and "NoDrift" not in self.expression

    def _drift(self, settled: bool) -> Drift:
        self.drift_count += 1
        self.warned = False
        self.calm_at = 0
        return self._found("drift", settled)

    def _warning(self, inside: bool, settled: bool) -> Drift | None:
        """Begin or end a warning, without a drift.

        Args:
            inside: whether a detector warns; a looser one also warns where the signal goes well.
        """
        looser = self.looser
        if looser is not None:
            inside = inside and self._goes_bad()
        if inside:
            self.calm_at = self.observed + self.warning_span
            before, self.warned = self.warned, looser is None
            if before:
                return None
            self.warning_count += 1
            return self._found("warning", settled)
        self.warned = False
        if self.calm_at and self.observed >= self.calm_at:
            self.calm_at = 0
            return self._found("calm", settled) if self.act == "swap" else None
        return None

    def _goes_bad(self) -> bool:
        change = self.trail.change()
        return self._is_bad(change.after > change.before)

    def _is_bad(self, rises: bool) -> bool:
        return self.bad == "both" or (self.bad == "rise") == rises

    def _found(self, kind: Literal["drift", "warning", "calm"], settled: bool) -> Drift:
        change = self.trail.change()
        means = None if self.means is None else self.means.around(change.count_after)
        if kind == "drift":
            self._forget_before(change.count_after)
            self.moved_from = (change.before, self.observed - change.count_after)
        rises = change.after > change.before
        bad = settled and self._is_bad(rises)
        return Drift(
            signal=self.signal,
            monitor=self.name,
            detector=self.expression,
            kind=kind,
            direction="rise" if rises else "fall",
            before=change.before * self.scale,
            after=change.after * self.scale,
            count_before=change.count_before,
            count_after=change.count_after,
            observed=self.observed,
            detection=self.drift_count if kind == "drift" else self.warning_count,
            alerts=bad and kind == "drift",
            act=self.act if bad and kind != "calm" else "alert",
            unit=self.unit,
            mean_before=None if means is None or not means.count_before else means.before,
            mean_after=None if means is None or not means.count_after else means.after,
        )

    def _forget_before(self, count: int) -> None:
        self.trail.forget_before(count)
        if self.means is not None:
            self.means.forget_before(count)

    def level(self, count: int) -> tuple[float, float | None, int]:
        """The mean of about the last `count` values as the detector is shown them, and of the values themselves where
        those are others and kept; and of how many it is."""
        late = self.trail.around(count)
        means = None if self.means is None else self.means.around(count)
        return late.after * self.scale, None if means is None else means.after, late.count_after

    def means_around(self, count: int) -> tuple[float, float] | None:
        """Means before and after a change that another monitor found `count` values ago; None where one is unknown."""
        if self.moved_from is not None and self.observed - self.moved_from[1] <= 2 * count:
            return self.moved_from[0], self.trail.around(10**18).after  # found here too, and forgotten up to there
        change = self.trail.around(count)
        return (change.before, change.after) if change.count_before and change.count_after else None

    def state(self) -> dict[str, object]:
        """A summary for a status page."""
        return {
            "detector": self.expression,
            "observed": self.observed,
            "watching": self.reference is None or self.reference.frozen,
            "drifts": self.drift_count,
            "warnings": self.warning_count,
        }


def make_monitors(
    signal: Signal,
    what: str,
    chosen: list[Chosen],
    *,
    reference: Callable[[Chosen], Reference | None] = lambda _: None,
    warning_span: int = WARNING_SPAN,
) -> list[Monitor]:
    """A monitor for each detector of one signal, with names of their own.

    Args:
        what: see `Signal.named`.
        reference: makes what each one's values are ranked in.
    """
    row, name = signal.row, signal.named(what)
    return [
        Monitor(
            name if number == 1 else f"{name}#{number}",
            name,
            one.expression,
            one.detector,
            bad=row.bad,
            reference=reference(one),
            looser=one.looser,
            act=one.act,
            scale=row.scale,
            warning_span=warning_span,
        )
        for number, one in enumerate(chosen, 1)
    ]
