"""What becomes of a label, and of a wait that ends without one: the acts of the table in `core.label.life`.

`take_label`, `await_label` and `end_wait` find the state of the event, look up the move, and do what it says; each act
is a function here. The heart is `_join`: evaluate the served prediction, update the detectors, learn, publish.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from driftline.core.error import InvariantError
from driftline.core.fold.incident import note_drift, reject, watch_faults, watch_labels, watch_strays
from driftline.core.fold.kpi import as_decided, price, price_again, stake, take_back
from driftline.core.fold.learning import learn, learn_pair, report_turn, suspect, watch_bound, withdraw
from driftline.core.guard.ladder import Ladder
from driftline.core.label.early import Held
from driftline.core.label.life import Act, Move, State
from driftline.core.label.pending import Found, Settled, Waiting
from driftline.core.output import Decision, Outcome, OutcomeKind, Priced, Score
from driftline.core.place import OWN
from driftline.core.record import Event, EventId, Label, LabelValue
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard
from driftline.core.slate import feedback_text, gathered, read_reward

_WAITING: Final = State.WAITING  # a member takes longer to find by its name

OnLabel: TypeAlias = Callable[[Shard, Found, Held, Move, Outbox], None]
OnEnd: TypeAlias = Callable[[Shard, Found, str, Move, Outbox], None]


def take_label(shard: Shard, label: Label, out: Outbox) -> None:
    terms = shard.terms
    if not terms.labelled:
        reject(shard, label.source, "unexpected_label", "the pipeline declares no label", out)
        return
    value, now_ms = label.value, shard.watermark_ms or 0
    if terms.bounded and value is not None and not _admit_class(shard, value):
        detail = f"{value!r} would be class {len(shard.classes) + 1}, beyond limits.classes_max"
        reject(shard, label.source, "too_many_classes", detail, out)
        return
    found = shard.pending.look(label.event_id, now_ms) or shard.early.look(label.event_id)
    source = label.source
    own = OWN if source.partition == shard.number else source.partition  # `own`, here and below without a call
    held = Held(now_ms + terms.early_ms, label.event_id, source.offset, source.key, label.time_ms, value, own)
    moves = shard.life[found.state]
    move = moves.retraction if value is None else moves.same if found.label == value else moves.label
    _ON_LABEL[move.act](shard, found, held, move, out)


def _admit_class(shard: Shard, value: LabelValue) -> bool:
    known = shard.classes.get(value)
    if known is None and len(shard.classes) >= shard.pipeline.limits.classes_max:
        return False
    shard.classes[value] = (known or 0) + 1
    return True


def await_label(shard: Shard, event: Event, score: Score, series: bytes | None, now_ms: int, out: Outbox) -> None:
    """Remember the event, and what was predicted, until its label comes; a label that is here already comes now.

    Args:
        series: of the guard, that the label is a value of.
    """
    source, pending, strays, terms = event.source, shard.pending, shard.strays, shard.terms
    time_ms, prediction = event.time_ms, score.prediction
    if time_ms > strays.event_ms and not event.time_ahead:
        strays.event_ms = time_ms
    keys = shard.history.label_keys if terms.label_history else ()
    own = OWN if source.partition == shard.number else source.partition
    stakes = stake(shard, event, prediction) if terms.priced else None
    waiting = Waiting(
        source.offset, source.key, time_ms, event.features, prediction, score.version,
        score.unserved, keys, own, series, stakes,
    )  # fmt: skip
    index = pending.add(event.event_id, now_ms, waiting)
    for number, held in enumerate(shard.early.take(event.event_id)):
        strays.meet(event.event_id, now_ms + terms.early_ms - held.deadline_ms)
        move = shard.life[_WAITING].label  # of `PARTLY` too, where several labels are held
        found = pending.at(index) if number else Found(_WAITING, index, waiting)  # with what came before
        _ON_LABEL[move.act](shard, found, held, move, out)
    while (oldest := pending.crowded()) is not None:
        end_wait(shard, oldest, "more events were waiting than label.pending_max", out)


def end_wait(shard: Shard, index: int, why: str, out: Outbox) -> None:
    """The wait of an event ends: at its deadline, as too many wait, or with the last label that may come."""
    found = shard.pending.at(index)
    move = shard.life[found.state].end
    _ON_END[move.act](shard, found, why, move, out)


def end_hold(shard: Shard, held: Held, why: str, out: Outbox) -> None:
    """A label is held no longer: its deadline passed, or too many are held."""
    unjoined(shard, held, Act.ORPHAN, out, detail=why)


# -- a label without an event


def _hold(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """Keep a label until its event comes."""
    early = shard.early
    if not early.hold(label):
        unjoined(shard, label, Act.HELD_STANDS, out)
        return
    while (crowded_out := early.crowded()) is not None:
        end_hold(shard, crowded_out, "more early labels were held than label.early_max", out)
    shard.strays.hold(label, shard.now_ms)
    watch_strays(shard, out)


def _replace(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    shard.early.replace(label)
    unjoined(shard, label, move.act, out, found.label)


def _drop(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    shard.early.take(label.event_id)
    unjoined(shard, label, move.act, out, found.label)


# -- a label of an event that waits


def _join(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """The heart: evaluate what was served, update the detectors, learn, publish the pair."""
    waiting, value = found.waiting, label.value
    if waiting is None or value is None:  # `_kept` and `_value`, without a call
        raise InvariantError("a label or its event is missing where both were to be joined")
    as_served, decision = waiting, None
    if shard.kept.decided:
        waiting, decision = _as_decided(shard, label.event_id, waiting)
    prediction, label_time_ms, now_ms = waiting.prediction, label.time_ms, shard.watermark_ms or 0
    delay_ms = label_time_ms - waiting.time_ms
    number = shard.evaluation.update(value, prediction)
    shard.maturity.on_label(shard.pipeline, value, delay_ms, prediction, waiting.features, now_ms)
    shard.pending.settle(found.index, move.then.fate, now_ms, number, value, label_time_ms, decision)
    if shard.ladder is not None and shard.ladder.learns:
        _remember(shard, shard.ladder, waiting, value)
    if waiting.keys:
        shard.history.label(waiting.keys, value, now_ms, now_ms)
    drifts = shard.monitors.on_label(value, prediction)
    output_id = _ending_id(shard, waiting)
    turn = suspect(shard, waiting, value, label.partition) if shard.terms.tests else ""
    priced = price(shard, as_served, waiting, value, out) if shard.terms.priced else ()
    _settle(shard, "joined", output_id, label.event_id, waiting, value, label_time_ms, None, out, priced=priced)
    if turn:
        report_turn(shard, turn, out)
    watch_labels(shard, delay_ms, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def _add(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """`_join`, for one of several labels."""
    waiting, value = _kept(found), _value(label)
    as_served = waiting
    if shard.kept.decided:
        waiting, _ = _as_decided(shard, label.event_id, waiting, last=False)
    prediction, now_ms = waiting.prediction, shard.now_ms
    count = shard.pending.count_label(found.index)
    first, delay_ms = count == 1, label.time_ms - waiting.time_ms
    shard.evaluation.update(value, prediction)
    shard.maturity.on_label(shard.pipeline, value, delay_ms, prediction, waiting.features, now_ms, first=first)
    if shard.ladder is not None and shard.ladder.learns:
        _remember(shard, shard.ladder, waiting, value)
    if waiting.keys:
        shard.history.label(waiting.keys, value, now_ms, now_ms)
    if count >= shard.labels_max:
        end_wait(shard, found.index, "", out)
    drifts = shard.monitors.on_label(value, prediction)
    turn = suspect(shard, waiting, value, label.partition) if shard.terms.tests else ""
    priced: tuple[Priced, ...] = ()
    if shard.terms.priced:
        priced = price(shard, as_served, waiting, value, out) if first else price_again(shard, waiting, value, out)
    output_id = _label_id(shard, label)
    _settle(shard, "joined", output_id, label.event_id, waiting, value, label.time_ms, None, out, priced=priced)
    if turn:
        report_turn(shard, turn, out)
    if first:
        watch_labels(shard, delay_ms, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def _gather(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """Keep a reward until the wait ends."""
    slate = _kept(found).prediction.probabilities or {}
    item, reward = read_reward(_value(label))
    if item not in slate:
        unjoined(shard, label, Act.ORPHAN, out, detail="the item was not in the slate")
        return
    before = found.settled
    text = gathered(None if before is None else str(before.label), item, reward)
    first_ms = label.time_ms if before is None or before.label_time_ms is None else before.label_time_ms
    shard.pending.gather(found.index, text, first_ms)
    shard.count("gathered")


# -- the end of a wait


def _reap(shard: Shard, found: Found, why: str, move: Move, out: Outbox) -> None:
    """Evaluate and learn all rewards of a request: those that came, and 0 where none did."""
    pending, waiting, before = shard.pending, _kept(found), found.settled
    came, first_ms = (None, None) if before is None else (str(before.label), before.label_time_ms)
    delay_ms = None if first_ms is None else first_ms - waiting.time_ms
    value, prediction = feedback_text(waiting.prediction, waiting.unserved, came), waiting.prediction
    event_id = pending.id_at(found.index)
    shard.evaluation.update(value, prediction)
    if delay_ms is None:
        shard.maturity.on_expiry()
    else:
        features = waiting.features
        shard.maturity.on_label(shard.pipeline, value, delay_ms, prediction, features, shard.now_ms)
    pending.settle(found.index, move.then.fate, shard.now_ms)
    drifts = shard.monitors.on_label(value, prediction)
    kind, detail = move.act.deed.published, why if delay_ms is None else None
    priced = price(shard, waiting, waiting, value, out, assumed=delay_ms is None) if shard.terms.priced else ()
    _settle(shard, kind, _ending_id(shard, waiting), event_id, waiting, value, first_ms, detail, out, priced=priced)
    watch_labels(shard, delay_ms, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def _expire(shard: Shard, found: Found, why: str, move: Move, out: Outbox) -> None:
    pending, now_ms, waiting = shard.pending, shard.now_ms, _kept(found)
    event_id, as_served = pending.id_at(found.index), waiting
    if shard.kept.decided:
        waiting, _ = _as_decided(shard, event_id, waiting)
    shard.maturity.on_expiry()
    shard.strays.give_up(event_id, pending.seen_ms(found.index), now_ms, pending.wait_ms)
    pending.settle(found.index, move.then.fate, now_ms)
    priced = price(shard, as_served, waiting, None, out) if shard.terms.priced else ()
    _settle(shard, "expired", _ending_id(shard, waiting), event_id, waiting, None, None, why, out, priced=priced)
    watch_labels(shard, None, out)


def _assume(shard: Shard, found: Found, why: str, move: Move, out: Outbox) -> None:
    """Evaluate and learn the label that the pipeline assumes where none came."""
    pending, assumed, waiting = shard.pending, shard.assumed, _kept(found)
    if assumed is None:
        raise InvariantError("a label was to be assumed, and the pipeline names none")
    event_id, as_served, decision = pending.id_at(found.index), waiting, None
    if shard.kept.decided:
        waiting, decision = _as_decided(shard, event_id, waiting)
    shard.maturity.on_expiry()
    number = shard.evaluation.update(assumed, waiting.prediction)
    pending.settle(found.index, move.then.fate, shard.now_ms, number, assumed, decision=decision)
    if waiting.keys:
        shard.history.label(waiting.keys, assumed, shard.now_ms, shard.now_ms)
    drifts = shard.monitors.on_label(assumed, waiting.prediction)
    priced = price(shard, as_served, waiting, assumed, out, assumed=True) if shard.terms.priced else ()
    _settle(shard, "assumed", _ending_id(shard, waiting), event_id, waiting, assumed, None, why, out, priced=priced)
    watch_labels(shard, None, out)
    for drift in drifts:
        note_drift(shard, drift, out)


def _complete(shard: Shard, found: Found, why: str, move: Move, out: Outbox) -> None:
    shard.kept.decided.pop(shard.pending.id_at(found.index), None)
    shard.pending.settle(found.index, move.then.fate, shard.now_ms)


# -- a label of an event that waits no longer


def _ignore(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    if move.act.deed.closed:
        shard.count("uncorrectable")
    unjoined(shard, label, move.act, out)


def _too_late(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    unjoined(shard, label, move.act, out)
    delay_ms = label.time_ms - shard.pending.seen_ms(found.index)
    shard.strays.miss(delay_ms, shard.now_ms - label.time_ms, shard.now_ms)
    watch_strays(shard, out)


def _confirm(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """The label that was assumed comes: it was evaluated and learned then."""
    before, waiting, value = _correctable(found), _as_judged(found), _value(label)
    _count_in(shard, value, label.time_ms, waiting)
    shard.maturity.unlabelled -= 1
    if shard.terms.priced:
        take_back(shard, waiting, value, before.number, assumed=True)
        price_again(shard, waiting, value, out, before.number)
    shard.pending.change(found.index, move.then.fate, before.number, value, label.time_ms)
    unjoined(shard, label, move.act, out)


def _correct(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """Take the label back that the event had, if any, and evaluate and learn this one.

    A model cannot unlearn: it learned the first label, and learns this one on top. Detectors saw the error of the
    first; one pair is one observation, so they see it once.
    """
    before, waiting, value = _correctable(found), _as_judged(found), _value(label)
    _take_back(shard, before, waiting)
    withdraw(shard, label.event_id)
    if shard.ladder is not None and shard.ladder.learns:
        _remember(shard, shard.ladder, waiting, value)
    if waiting.keys:
        shard.history.label(waiting.keys, value, _came_ms(shard, before), shard.now_ms)
    number = shard.evaluation.update(value, waiting.prediction)
    _count_in(shard, value, label.time_ms, waiting)
    shard.pending.change(found.index, move.then.fate, number, value, label.time_ms)
    kind, output_id = move.act.deed.published, _label_id(shard, label)
    priced = price_again(shard, waiting, value, out) if shard.terms.priced else ()
    came = (value, label.time_ms, None, out, before.label)
    _settle(shard, kind, output_id, label.event_id, waiting, *came, priced=priced)


def _retract(shard: Shard, found: Found, label: Held, move: Move, out: Outbox) -> None:
    """Take the label back: nothing is learned, and metrics are as if it had not come."""
    before, waiting = _correctable(found), _as_judged(found)
    _take_back(shard, before, waiting)
    withdraw(shard, label.event_id)
    shard.maturity.on_expiry()
    shard.pending.change(found.index, move.then.fate, 0, None, None)
    kind, output_id = move.act.deed.published, _label_id(shard, label)
    _settle(shard, kind, output_id, label.event_id, waiting, None, label.time_ms, None, out, before.label)


def _never(shard: Shard, found: Found, what: object, move: Move, out: Outbox) -> None:
    raise InvariantError(f"what cannot happen in state {found.state.name} happened to event {found.index}")


def _correctable(found: Found) -> Settled:
    if found.settled is None:
        raise InvariantError(f"the label of an event that is {found.state.name} was to be changed")
    return found.settled


def _as_judged(found: Found) -> Waiting:
    """An event whose label may be changed, with the prediction that the label was held against."""
    waiting, decision = _kept(found), _correctable(found).decision
    return waiting if decision is None else as_decided(waiting, decision)


def _kept(found: Found) -> Waiting:
    if found.waiting is None:
        raise InvariantError(f"an event that is {found.state.name} was let go")
    return found.waiting


def _value(label: Held) -> LabelValue:
    if label.value is None:
        raise InvariantError("a label of null was to be learned")
    return label.value


def _count_in(shard: Shard, value: LabelValue, label_time_ms: int, waiting: Waiting) -> None:
    """Let the metrics by age, and the coverage, see a label that came."""
    delay_ms = label_time_ms - waiting.time_ms
    shard.maturity.on_label(shard.pipeline, value, delay_ms, waiting.prediction, waiting.features, shard.now_ms)


def _take_back(shard: Shard, before: Settled, waiting: Waiting) -> None:
    """Make the metrics as if the label that the event had, if any, had not come."""
    if before.label is not None:
        if waiting.keys:
            shard.history.take_back(waiting.keys, before.label, _came_ms(shard, before), shard.now_ms)
        shard.evaluation.revert(before.label, waiting.prediction, before.number)
        if shard.terms.priced:
            take_back(shard, waiting, before.label, before.number, assumed=before.label_time_ms is None)
    if before.label_time_ms is None:
        shard.maturity.unlabelled -= 1
    elif before.label is not None:
        delay_ms = before.label_time_ms - waiting.time_ms
        shard.maturity.revert(before.label, delay_ms, waiting.prediction, waiting.features, before.number)


def _as_decided(
    shard: Shard, event_id: EventId, waiting: Waiting, *, last: bool = True
) -> tuple[Waiting, Decision | None]:
    """A held event, with what was served of it in the end; and the decision, if there was one.

    Args:
        last: no other label comes, unless it corrects this one.
    """
    decided = shard.kept.decided
    decision = decided.pop(event_id, None) if last else decided.get(event_id)
    return (waiting, None) if decision is None else (as_decided(waiting, decision), decision)


def _remember(shard: Shard, ladder: Ladder, waiting: Waiting, value: LabelValue) -> None:
    """Let the guard know the truth about a series."""
    ladder.label(shard.kept, waiting.features, waiting.series, float(value), waiting.time_ms)


def _came_ms(shard: Shard, before: Settled) -> int:
    """When the first label of an event came, or was assumed: there a correction counts too."""
    return before.until_ms - shard.pending.correct_ms


_ON_LABEL: Final[Mapping[Act, OnLabel]] = {
    Act.HOLD: _hold,
    Act.HELD_STANDS: _ignore,
    Act.REPLACE: _replace,
    Act.DROP: _drop,
    Act.JOIN: _join,
    Act.ADD: _add,
    Act.GATHER: _gather,
    Act.STANDS: _ignore,
    Act.FULL: _ignore,
    Act.SAME: _ignore,
    Act.CORRECT: _correct,
    Act.REJOIN: _correct,
    Act.CONFIRM: _confirm,
    Act.TOO_LATE: _too_late,
    Act.CLOSED: _ignore,
    Act.CLOSED_LATE: _ignore,
    Act.RETRACT: _retract,
    Act.KEPT: _ignore,
    Act.NO_LABEL: _ignore,
    Act.NO_EVENT: _ignore,
    Act.NEVER: _never,
}
_ON_END: Final[Mapping[Act, OnEnd]] = {
    Act.EXPIRE: _expire,
    Act.ASSUME: _assume,
    Act.COMPLETE: _complete,
    Act.REAP: _reap,
    Act.EARN_NOTHING: _reap,
    Act.NEVER: _never,
}


# -- learning and publishing


def _settle(
    shard: Shard,
    kind: OutcomeKind,
    output_id: str,
    event_id: EventId,
    waiting: Waiting,
    label: LabelValue | None,
    label_time_ms: int | None,
    detail: str | None,
    out: Outbox,
    previous: LabelValue | None = None,
    *,
    priced: tuple[Priced, ...] = (),
) -> None:
    """Learn the pair, if there is one, and publish how the wait ended."""
    failure = None
    terms = shard.terms
    if label is not None and terms.limited:
        shard.watch.judge(waiting.version.generation, shard.learner.generation)
    if label is not None and shard.second is not None and previous is None:
        shard.second.compare(label, waiting.prediction, waiting.unserved)
    if label is not None and terms.supervised:
        if terms.holds:
            failure, held = learn_pair(shard, waiting, label, event_id, output_id, out)
            detail = held or detail
        else:
            failure = learn(shard, waiting.features, label, output_id, waiting.time_ms, out.oracle)
        if failure is not None:
            kind, detail = "failed", failure
    counts = shard.counts
    counts[kind] = counts.get(kind, 0) + 1
    out.outputs.append(
        Outcome(
            output_id,
            kind,
            waiting.key,
            shard.stamp_ms,
            event_id,
            waiting.time_ms,
            waiting.features,
            waiting.prediction,
            waiting.version,
            label,
            label_time_ms,
            detail,
            previous,
            waiting.partition,
            waiting.unserved,
            None,
            priced,
            shard.kpis.current(waiting.stakes) if priced else None,
        )
    )
    if failure is not None:
        watch_faults(shard, out)
    if shard.quarantine.held:
        watch_bound(shard, out)


def unjoined(
    shard: Shard, label: Held, act: Act, out: Outbox, previous: LabelValue | None = None, detail: str | None = None
) -> None:
    """Publish what became of a label that found no waiting event.

    Args:
        detail: why, where the act alone does not say.
    """
    deed = act.deed
    kind = deed.published
    shard.count(kind)
    out.outputs.append(
        Outcome(
            _label_id(shard, label),
            kind,
            label.key,
            shard.stamp_ms,
            label.event_id,
            None,
            None,
            None,
            None,
            label.value,
            label.time_ms,
            deed.detail or detail,
            previous,
            label.partition,
        )
    )


def _ending_id(shard: Shard, waiting: Waiting) -> str:
    """Of how the wait of an event ended, whatever ended it."""
    number = shard.number if waiting.partition == OWN else waiting.partition
    return f"{shard.terms.events}-{number}-{waiting.offset}-1"


def _label_id(shard: Shard, label: Held) -> str:
    """Of what became of a label that did not end a wait."""
    number = shard.number if label.partition == OWN else label.partition
    return f"{shard.terms.labels}-{number}-{label.offset}-0"
