"""Words for labels that contradict the model: how many, and what speaks for a fault of theirs or for a changed world.

A fault and a change look alike in the number of errors. What tells them apart is where the errors are:

* Did the inputs change as well? A changed world often shows in them, a broken label source never does. Inputs that stay
  as they are say nothing: what they mean may have changed.
* Flipped labels contradict where the model is sure as often as where it is not. A boundary that moved contradicts
  near the boundary, where the model was unsure before.
* A fault may have one source, which is one partition of the labels' topic. One value of a feature is named, and is no
  evidence: a new pattern has a place as well.
* A fault stops. A change that lasts is how the world is now; the message that follows says which it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from driftline.core.alert.condition import Condition
from driftline.core.alert.episode import Sign
from driftline.core.guard.quarantine import Pair, Seen
from driftline.core.guard.suspicion import Suspicion
from driftline.core.record import Control
from driftline.core.timestamp import written
from driftline.core.wording import escaped, percent

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline

SHARE_MIN = 0.8  # of the contradictions beyond the usual ones, that come from one value of a feature
PARTITION = "labels of partition"
ALIKE_MIN = 0.8  # of two rates, above which they are called the same
SPREAD_MAX = 0.5  # of the pairs that have that value
VALUES_MAX = 20  # of a feature, beyond which its values say nothing


class Burst(Struct, frozen=True, gc=False):
    """Suspect labels, as far as they have come.

    Args:
        count, contradicting, usual: pairs, those whose label contradicts the prediction, and how many usually do.
        sure, unsure: by how much the rate of contradiction rose where the model is sure, and where it is not; None
            where too few pairs are of the kind.
        inputs: open alerts about inputs.
        where, share: a feature and value, or the labels' partition, that most of them share, and how many do.
        held, undone: pairs that are held, and those of them that were learned and undone.
        deadline_ms: when they are decided.
        over: labels are as usual again.
    """

    count: int
    contradicting: int
    usual: float
    sure: float | None
    unsure: float | None
    inputs: tuple[str, ...]
    where: str
    share: float
    held: int
    undone: int
    deadline_ms: int
    over: bool

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        test: Suspicion,
        seen: Sequence[Seen],
        inputs: tuple[str, ...],
        *,
        held: int,
        undone: int,
        deadline_ms: int,
        over: bool,
    ) -> Burst:
        first = test.first
        burst = [one for one in seen if one.number >= first]
        rates = test.rates
        contradicting = sum(one.contradicts for one in burst)
        where, share = _source(pipeline, burst, rates)
        middle = sorted(rates[one.cell] for one in burst)[len(burst) // 2] if burst else 0.0
        return cls(
            len(burst), contradicting, sum([rates[one.cell] for one in burst]),
            _risen([one for one in burst if rates[one.cell] <= middle], rates),
            _risen([one for one in burst if rates[one.cell] > middle], rates),
            inputs, where, share, held, undone, deadline_ms, over,
        )  # fmt: skip


def _risen(pairs: Sequence[Seen], rates: Sequence[float]) -> float | None:
    """By how much the rate of contradiction rose, as a share of the room there was."""
    room = sum([1.0 - 2.0 * rates[one.cell] for one in pairs])
    if len(pairs) < 10 or room <= 0:
        return None
    return sum([one.contradicts - rates[one.cell] for one in pairs]) / room


def _source(pipeline: Pipeline, burst: Sequence[Seen], rates: Sequence[float]) -> tuple[str, float]:
    """What most of the contradictions beyond the usual ones share, where not most pairs do; and how many share it."""
    excess = sum([one.contradicts - rates[one.cell] for one in burst])
    best = ("", 0.0)
    if excess <= 0:
        return best
    names = [f"{name} =" for name in pipeline.event.names]
    for place, name in enumerate([*names, PARTITION]):
        groups: dict[object, list[Seen]] = {}
        for one in burst:
            value: object = one.values[place] if place < len(names) else one.partition
            if type(value) is not str and type(value) is not bool and place < len(names):
                break
            groups.setdefault(value, []).append(one)
        if not 1 < len(groups) <= VALUES_MAX:
            continue
        for shared, pairs in groups.items():
            share = sum([one.contradicts - rates[one.cell] for one in pairs]) / excess
            if share >= SHARE_MIN and len(pairs) <= SPREAD_MAX * len(burst) and share > best[1]:
                best = (f"{name} {shared}", min(1.0, share))
    return best


def suspect_sign(pipeline: Pipeline, burst: Burst) -> Sign:
    """Labels contradict the model more often than its own error explains, or did so a moment ago."""
    name = pipeline.name
    if burst.over:
        what = f"Labels of {name} agree with its predictions as often as before"
        done = f"{burst.held:,} of the burst are held until {written(burst.deadline_ms)}"
        sentence = f"{what}; {done}: `driftline control release` learns them, `drop` does not."
    else:
        what = f"{burst.contradicting:,} of the last {burst.count:,} labels of {name} contradict its predictions"
        usual = f"{burst.usual:,.0f} are usual" if burst.usual >= 0.5 else "hardly any are usual"
        sentence = f"{what}, where {usual}{_place(burst)}. {_done(pipeline, burst)} {_evidence(burst)}"
    evidence: dict[str, object] = {
        "signal": "labels", "count": burst.count, "contradicting": burst.contradicting, "usual": burst.usual,
        "sure": burst.sure, "unsure": burst.unsure, "inputs": list(burst.inputs), "where": burst.where,
        "share": burst.share, "held": burst.held, "undone": burst.undone, "over": burst.over,
        **({"deadline_ms": burst.deadline_ms} if burst.held else {}),
    }  # fmt: skip
    calm = f"Labels of {name} have agreed with its predictions as often as before"
    return Condition.QUARANTINE.sign("critical" if burst.held else "warning", sentence, calm, evidence, news=burst.over)


def _place(burst: Burst) -> str:
    """Where most of those are that are more than usual, if that is one value of a feature."""
    if not burst.where or burst.where.startswith(PARTITION):
        return ""
    return f"; {percent(burst.share)} of the surplus comes from {burst.where}"


def _done(pipeline: Pipeline, burst: Burst) -> str:
    form = pipeline.quarantine
    if form is None or form.action != "hold":
        return "They are learned anyway."
    return f"They are not learned until someone decides, or until {written(burst.deadline_ms)}."


def _evidence(burst: Burst) -> str:
    """What speaks for a fault of the labels, and what for a changed world.

    A few dozen labels seldom tell: inputs may stay as they are while what they mean changes, and a new pattern has
    mostly one place, where it contradicts the model however sure it was. So none of these is evidence.
    """
    fault, change = [], []
    if burst.where.startswith(PARTITION):
        fault.append(f"{percent(burst.share)} of the surplus comes from {burst.where}")
    if burst.inputs:
        change.append("inputs changed as well")
    if burst.sure is not None and burst.unsure is not None:
        if burst.sure >= ALIKE_MIN * burst.unsure and not _place(burst):
            fault.append("confident predictions are contradicted as often as unsure ones")
        elif burst.sure < burst.unsure / 2:
            change.append("mostly unsure predictions are contradicted")
    if not fault and not change:
        return "Either these labels are wrong or the world has changed; nothing shows yet which."
    found = [("faulty labels", fault), ("a real change", change)]
    return " ".join(f"Evidence for {what}: {', '.join(signs)}." for what, signs in found if signs)


def decided_sign(
    pipeline: Pipeline, pairs: Sequence[Pair], control: Control | None, *, releases: bool, why: str, failed: int,
    lasts: bool,
) -> Sign:  # fmt: skip
    """What was held was learned, or dropped.

    Args:
        control: the command of the person who decided; None where the pipeline file did, because of `why`.
    """
    by, note = ("", "") if control is None else (control.by, escaped(control.why))
    who = f"A command from {by}" if by else "The pipeline file" if control is None else "An operator"
    did = "learned" if releases else "dropped"
    reason = f", because {why}" if why else f" ({note})" if note else ""
    more = f" The model raised at {failed:,} of them." if failed else ""
    more += " Labels are still suspect, and held." if lasts else ""
    sentence = f"{who} had {len(pairs):,} held labels of {pipeline.name} {did}{reason}.{more}"
    evidence: dict[str, object] = {
        "signal": "labels", "decision": "release" if releases else "drop", "pairs": len(pairs), "failed": failed,
        "first": pairs[0].output_id, "last": pairs[-1].output_id, "why": why or note, "by": by,
    }  # fmt: skip
    return Condition.QUARANTINE.sign("warning", sentence, sentence, evidence)
