"""KPIs in the fold: events are counted as they are served and as their labels come, and spans judged as they end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from driftline.core.alert.condition import Condition
from driftline.core.alert.kpi import kpi_sign
from driftline.core.alert.watch import Verdict
from driftline.core.fold.incident import judge
from driftline.core.label.pending import Waiting
from driftline.core.metric.kpi import NEVER, Judged
from driftline.core.output import Decision, Prediction, Priced, Stakes
from driftline.core.record import Event, LabelValue
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard


def decided(shard: Shard, prediction: Prediction) -> bool | None:
    """Whether a prediction was served as a yes; None where there is no such decision."""
    threshold, label = shard.terms.threshold, prediction.label
    if threshold is not None:
        return None if prediction.value is None else prediction.value >= threshold
    return label if isinstance(label, bool) else None


def stake(shard: Shard, event: Event, prediction: Prediction) -> Stakes:
    """Count an event that waits for its label; returns what it has to carry."""
    stakes = shard.kpis.stakes(event, decided(shard, prediction), shard.now_ms)
    shard.kpis.next_ms = min(shard.kpis.next_ms, shard.kpis.await_label(stakes, prediction))
    return stakes


def price(
    shard: Shard, served: Waiting, waiting: Waiting, label: LabelValue | None, out: Outbox, *, assumed: bool = False
) -> tuple[Priced, ...]:
    """The wait of an event ends; returns what it came to.

    Args:
        served: the event as it was served, and `waiting` with what was decided of it since.
        label: None where none came.
    """
    if served.stakes is None or waiting.stakes is None:
        return ()
    priced = shard.kpis.end_wait(served.stakes, served.prediction, expired=label is None)
    if label is not None:
        priced = shard.kpis.settle(waiting.stakes, waiting.prediction, label, assumed=assumed)
    judge_label(shard, waiting.stakes, out)
    return priced


def price_again(
    shard: Shard, waiting: Waiting, label: LabelValue, out: Outbox, number: int = NEVER
) -> tuple[Priced, ...]:
    """Another label of an event came, or a correction of the one that was taken back.

    Args:
        number: that the shard's metrics took the label in under, where they did so before.
    """
    if waiting.stakes is None:
        return ()
    priced = shard.kpis.settle(waiting.stakes, waiting.prediction, label, number=number)
    judge_label(shard, waiting.stakes, out)
    return priced


def take_back(shard: Shard, waiting: Waiting, label: LabelValue, number: int, *, assumed: bool) -> None:
    """A label is corrected or retracted."""
    if waiting.stakes is not None:
        shard.kpis.take_back(waiting.stakes, waiting.prediction, label, number, assumed=assumed)


def price_truth(
    shard: Shard, event: Event, ahead: Mapping[int, Prediction], value: LabelValue, out: Outbox
) -> tuple[tuple[Priced, ...], Stakes]:
    """Forecasts met their truth; they count at its time.

    Args:
        ahead: what was forecast, by how many steps before.
    """
    kpis = shard.kpis
    stakes = kpis.stakes(event, None, shard.now_ms)
    priced = kpis.settle_ahead(stakes, ahead, value)
    judge_label(shard, stakes, out)
    kpis.next_ms = min(kpis.next_ms, kpis.due_ms(shard.now_ms))
    return priced, stakes


def as_decided(waiting: Waiting, decision: Decision) -> Waiting:
    """A held event, with what was served of it in the end."""
    stakes = waiting.stakes
    if stakes is not None:
        stakes = structs.replace(stakes, decision=decision.yes)
    prediction = structs.replace(decision.prediction)  # a copy: what two parts of a state share is two after a recovery
    return structs.replace(waiting, prediction=prediction, stakes=stakes)


def judge_label(shard: Shard, stakes: Stakes, out: Outbox) -> None:
    """A label came: its span may be above its limit now, or have nothing left to wait for."""
    _report(shard, shard.kpis.judge_costs(stakes), out)
    if shard.kpis.is_over(stakes, shard.now_ms):
        end_spans(shard, out)


def end_spans(shard: Shard, out: Outbox) -> None:
    """Time has moved on: judge the spans that have ended."""
    kpis = shard.kpis
    _report(shard, kpis.judge_ended(shard.now_ms), out)
    kpis.next_ms = kpis.due_ms(shard.now_ms)


def _report(shard: Shard, found: Iterable[Judged], out: Outbox) -> None:
    for one in list(found):
        name = Condition.KPI.named(one.name)
        if one.passed is not None:
            judge(shard, [Verdict(name, kpi_sign(shard.pipeline, one))], out)
        elif not shard.kpis.broken(one.name):
            judge(shard, [Verdict(name, None)], out)
        if (episode := shard.episodes.open.get(name)) is not None:
            episode.quiet_ms = max(episode.quiet_ms, one.form.span_ms)  # one good span is no end of a bad time
