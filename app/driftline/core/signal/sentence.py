"""What alerts say of drifts, and how severe they are: the words of the table of signals."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TYPE_CHECKING

from msgspec import Struct

from driftline.core.duration import round_span, spoken
from driftline.core.wording import percent, plain

if TYPE_CHECKING:
    from driftline.core.drift.monitor import Drift, Unit
    from driftline.core.metric.culprit import Culprit
    from driftline.core.pipeline import Severity
    from driftline.core.task.base import Task


class Subject(Struct, frozen=True, gc=False):
    """What a signal is of.

    Args:
        name: the pipeline's.
        what: what stands behind the colon of the signal's name; empty where there is none.
        quantity, unit: what predictions are of, where they are numbers, and what that is counted in, if declared.
    """

    name: str
    task: Task
    what: str
    quantity: str
    unit: str

    def amount(self, number: float) -> str:
        """A number in the unit of the label."""
        return f"{plain(number)} {self.unit}".rstrip()


class Facts(Subject, frozen=True, gc=False):
    """What a sentence about a drift is made of.

    Args:
        culprit: the segment that moved most, where one did.
    """

    drift: Drift
    culprit: Culprit | None = None

    @property
    def rises(self) -> bool:
        return self.drift.direction == "rise"

    @property
    def often(self) -> str:
        return "more often" if self.rises else "less often"


class Level(Struct, frozen=True, gc=False):
    """Where a signal stands, or stood.

    Args:
        shown: its mean as the detector is shown it.
        mean: of ranks, the mean of the values themselves; None where it is not known.
        unit: of what is shown.
    """

    shown: float
    mean: float | None
    unit: Unit


def before_of(drift: Drift) -> Level:
    return Level(drift.before, drift.mean_before, drift.unit)


def after_of(drift: Drift) -> Level:
    return Level(drift.after, drift.mean_after, drift.unit)


def share_level(facts: Subject, level: Level) -> str:
    return percent(level.shown)


def _rank(level: Level) -> str:
    return f"higher than {percent(level.shown)} of the reference values"


def _pair(before: str, after: str) -> str:
    """Two levels; of ranks, the words are in the first one only."""
    return f"{before} before, {after.removeprefix('higher than ').removesuffix(' of the reference values')} now."


def error_level(facts: Subject, level: Level) -> str:
    if facts.task.classes:
        return f"wrong {percent(level.shown)} of the time"
    if level.mean is None:
        return f"with errors {_rank(level)}"
    return f"off by {facts.amount(level.mean)} on average"


def loss_level(facts: Subject, level: Level) -> str:
    return f"a probability of {percent(exp(-level.shown))}"


def score_level(facts: Subject, level: Level) -> str:
    if facts.task.classes:
        return percent(level.shown)
    return _rank(level) if level.mean is None else facts.amount(level.mean)


def delay_level(facts: Subject, level: Level) -> str:
    return _rank(level) if level.mean is None else spoken(round_span(level.mean))


def feature_level(facts: Subject, level: Level) -> str:
    match level.unit:
        case "bit":
            return percent(level.shown)
        case "raw":
            return plain(level.shown)
    return _rank(level) if level.mean is None else plain(level.mean)


def of_error(facts: Facts) -> str:
    name, drift = facts.name, facts.drift
    if facts.task.classes:
        shares = f"{percent(drift.before)} before, {percent(drift.after)} now"
        return f"{name} has been wrong {facts.often}: {shares}{_where(facts, percent)}."
    how = "further off" if facts.rises else "closer"
    if drift.mean_before is None or drift.mean_after is None:
        ranks = f"higher than {percent(drift.before)} of the reference values before, {percent(drift.after)} now."
        return f"{name} has been {how}: its errors were on average {ranks}"
    of = "" if facts.unit or not facts.quantity else f" in {facts.quantity}"
    figures = f"{facts.amount(drift.mean_before)} on average before, {facts.amount(drift.mean_after)} now"
    return f"{name} has been {how}{of}: off by {figures}{_where(facts, facts.amount)}."


def _where(facts: Facts, show: Callable[[float], str]) -> str:
    """The segment that moved most."""
    one = facts.culprit
    return "" if one is None else f"; most in {one.segment}: {show(one.before)} before, {show(one.after)} now"


def of_loss(facts: Facts) -> str:
    how = "been more confident when wrong or less when right" if facts.rises else "given better probabilities"
    before, after = (loss_level(facts, level) for level in (before_of(facts.drift), after_of(facts.drift)))
    return f"{facts.name} has {how}: it gave what turned out to be true {before} before, {after.split()[-1]} now."


def of_score(facts: Facts) -> str:
    drift, words = facts.drift, facts.task.words
    before, after = score_level(facts, before_of(drift)), score_level(facts, after_of(drift))
    average = "" if facts.task.classes else "on average "
    return f"{facts.name} has {words.moved(facts.rises)}{average}{_pair(before, after)}"


def of_label_rate(facts: Facts) -> str:
    shares = f"{percent(facts.drift.before)} before, {percent(facts.drift.after)} now."
    return f"events of {facts.name} have received their label in time {facts.often}: {shares}"


def of_label_delay(facts: Facts) -> str:
    before, after = delay_level(facts, before_of(facts.drift)), delay_level(facts, after_of(facts.drift))
    how = "later" if facts.rises else "sooner"
    if facts.drift.mean_before is None:
        return f"labels of {facts.name} have arrived {how}: with delays on average {_pair(before, after)}"
    return f"labels of {facts.name} have arrived {how}: on average after {before} before, {after} now."


def of_feature(facts: Facts) -> str:
    name, what, drift = facts.name, facts.what, facts.drift
    before, after = feature_level(facts, before_of(drift)), feature_level(facts, after_of(drift))
    if drift.unit == "bit":
        return f"{what} in {name} has been true {facts.often}: {before} before, {after} now."
    how = "higher" if facts.rises else "lower"
    return f"the values of {what} in {name} have been {how}: on average {_pair(before, after)}"


def of_novelty(facts: Facts) -> str:
    shares = f"{percent(facts.drift.before)} before, {percent(facts.drift.after)} now."
    return f"{facts.what} in {facts.name} has had previously unseen values {facts.often}: {shares}"


def of_vocabulary(facts: Facts) -> str:
    drift, how = facts.drift, "more" if facts.rises else "fewer"
    return (
        f"{facts.what} in {facts.name} has used {how} words that were not seen lately: "
        f"{percent(drift.before)} of a text's words before, {percent(drift.after)} now."
    )


def of_rate(facts: Facts) -> str:
    feature, _, value = facts.what.partition("=")
    shares = f"{percent(facts.drift.before)} before, {percent(facts.drift.after)} now."
    return f"{feature} in {facts.name} has been {value!r} {facts.often}: {shares}"


def of_missing(facts: Facts) -> str:
    shares = f"{percent(facts.drift.before)} before, {percent(facts.drift.after)} now."
    return f"{facts.what} in {facts.name} has been missing {facts.often}: {shares}"


# -- severity


def warning(facts: Facts) -> Severity:
    """The model may well cope with it."""
    return "warning"


def by_error(facts: Facts) -> Severity:
    before, after = facts.drift.before, facts.drift.after
    if not facts.task.classes:
        return "critical" if after - before >= 0.25 else "warning"
    return "critical" if after - before >= 0.1 or after >= 2 * before else "warning"


def by_loss(facts: Facts) -> Severity:
    return "critical" if facts.drift.after >= 2 * facts.drift.before else "warning"
