"""What is learned, and when: at once, later, or never.

Each pair of an event and its label ends in exactly one of these, and is counted there: in the model (`learned`), in the
model's exceptions (`failed`), passed over while learning was frozen (`unlearned`), or dropped (`quarantine_dropped`,
`quarantine_withdrawn` where its label was taken back). Until it does, it is held (`core.guard.quarantine`). What the
model learned of a burst before that was found is undone and held (`quarantine_undone`).
"""

from __future__ import annotations

from bisect import bisect_left

from driftline.core.alert.condition import Condition
from driftline.core.alert.suspect import Burst, decided_sign, suspect_sign
from driftline.core.fault import ModelRaisedError
from driftline.core.fold.incident import calm, notice, notice_change, reject, watch_faults
from driftline.core.guard.quarantine import Copies, Pair, Seen
from driftline.core.guard.second import Second
from driftline.core.guard.suspicion import EDGES, Turn, code_of
from driftline.core.label.pending import Waiting
from driftline.core.model.learner import Learner, learn_call
from driftline.core.oracle import Oracle
from driftline.core.record import Control, EventId, LabelValue
from driftline.core.river.ahead import Given
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard

HELD = "held back from learning: the labels contradict the model"


def learn(
    shard: Shard,
    values: Given,
    label: LabelValue | None,
    output_id: str,
    time_ms: int,
    oracle: Oracle,
) -> str | None:
    """Learn unless frozen; returns what the model raised, in a line.

    Args:
        output_id: of what comes of it; names the call in the journal.
        time_ms: of the event.
    """
    if shard.frozen or (shard.terms.freeze_on and shard.stopped):
        shard.count("unlearned")
        return None
    now_ms = shard.watermark_ms or 0
    time_ms = time_ms if time_ms < now_ms else now_ms  # `min` is slower
    if shard.second is not None and not shard.terms.ahead:
        learn_beside(shard, shard.second, values, label, output_id, time_ms, oracle)
    try:
        shard.learner.learn(values, label, output_id, time_ms, oracle)
    except ModelRaisedError as raised:
        return str(raised)
    counts = shard.counts
    if shard.ladder is not None and shard.ladder.knows and not shard.terms.ahead:
        shard.kept.learn(values)  # type: ignore[arg-type]  # of what is no forecast: the features
    counts["learned"] = counts.get("learned", 0) + 1
    if shard.reactor.background is not None and shard.reactor.learn(
        shard.learner, values, label, learn_call(output_id), time_ms, oracle
    ):
        shard.count("background_failed")
    return None


def learn_beside(
    shard: Shard, second: Second, values: Given, label: LabelValue | None, output_id: str, time_ms: int, oracle: Oracle
) -> None:
    """Let the guard's second model learn what the first one learns."""
    if not second.learn(values, label, output_id, time_ms, oracle):
        shard.count("second_failed")


def learn_pair(
    shard: Shard, waiting: Waiting, label: LabelValue, event_id: EventId, output_id: str, out: Outbox
) -> tuple[str | None, str | None]:
    """Learn a pair, or hold it back where the pipeline `holds`; returns what the model raised, and why it is held."""
    terms, kept = shard.terms, shard.quarantine
    now_ms = shard.now_ms
    values = (*waiting.features,)  # a copy: one object here and in the ledger would be two after a recovery
    pair = Pair(output_id, event_id, values, label, min(waiting.time_ms, now_ms), kept.test.number)
    if kept.test.suspect and not shard.frozen:
        kept.held.append(pair)
        shard.count("quarantine_held")
        if kept.deadline_ms is None:
            kept.deadline_ms = now_ms + terms.hold_ms
        return None, HELD
    return _learn_kept(shard, pair, output_id, waiting.time_ms, out.oracle), None


def _learn_kept(shard: Shard, pair: Pair, output_id: str, time_ms: int, oracle: Oracle) -> str | None:
    """Learn a pair that may have to be undone; returns what the model raised.

    Args:
        output_id: as of `learn`.
    """
    models: list[tuple[Learner, Copies]] = [(shard.learner, shard.quarantine)]
    if shard.second is not None:
        models.append((shard.second.learner, shard.second.copies))
    before = [learner.learned for learner, _ in models]
    failure = learn(shard, pair.values, pair.label, output_id, time_ms, oracle)
    for (learner, copies), count in zip(models, before, strict=True):
        if learner.learned > count:
            copies.learned(learner, pair)
    return failure


# -- the test


def suspect(shard: Shard, waiting: Waiting, label: LabelValue, partition: int) -> Turn:
    """Test the label of an event; what was learned of a burst that is found is undone.

    Args:
        partition: of the label.
    """
    kept, prediction, generation = shard.quarantine, waiting.prediction, waiting.version.generation
    test, value = kept.test, prediction.value
    if value is None or waiting.unserved:
        code = code_of(prediction, waiting.unserved, label)
        if code < 0:
            return ""
    else:  # `code_of`, without a call
        code = 2 * bisect_left(EDGES, value) + ((not label) if value > 0.5 else bool(label))
    if not (code & 1 or test.runs or test.suspect) and generation == test.newest and test.number + 1 < test.turn_at:
        test.latest[code] += 1.0  # as of most labels: `take` would count them, and no more
        test.number += 1
        return ""
    turn = test.take(code, generation, shard.classes, shard.terms.odds)
    if test.runs and test.warm:
        kept.seen.append(Seen(test.number, code, (*waiting.features,), partition))
    if turn or test.suspect:
        return _turn(shard, turn)
    return turn


def _turn(shard: Shard, turn: Turn) -> Turn:
    """Labels became suspect, are suspect, or are as usual again; returns which of these an alert is to be about."""
    kept, terms = shard.quarantine, shard.terms
    test = kept.test
    if turn == "opened":
        kept.opened_ms = shard.now_ms
        if kept.deadline_ms is None or terms.holds:
            kept.deadline_ms = shard.now_ms + terms.hold_ms
        shard.count("quarantine_opened")
        if terms.holds and not shard.frozen:
            _undo(shard)
    elif test.suspect and not terms.holds and test.lasted >= terms.held_max:
        test.believe(shard.classes)
        turn = "calm"
    if turn == "calm" and not kept.held:
        kept.deadline_ms = None
    return turn


def _undo(shard: Shard) -> None:
    kept = shard.quarantine
    undone = kept.undo(shard.learner)
    if not undone:
        return
    if shard.second is not None:
        shard.second.undo(undone)
    kept.held.extend(undone)
    shard.counts["quarantine_held"] = shard.counts.get("quarantine_held", 0) + len(undone)
    shard.counts["quarantine_undone"] = shard.counts.get("quarantine_undone", 0) + len(undone)
    shard.reactor.forget()  # a model that learned them in the background is of no use


def report_turn(shard: Shard, turn: Turn, out: Outbox) -> None:
    """Alert about labels that became suspect, or are as usual again; not where as many are held as may be, and all was
    decided at once."""
    kept, name = shard.quarantine, Condition.QUARANTINE.named()
    if turn == "opened" and kept.test.suspect:
        notice(shard, name, suspect_sign(shard.pipeline, _burst(shard)), out, holds=True)
    elif kept.held:
        notice(shard, name, suspect_sign(shard.pipeline, _burst(shard, over=True)), out, holds=True)
    else:
        calm(shard, name, out)


def _burst(shard: Shard, *, over: bool = False) -> Burst:
    kept = shard.quarantine
    inputs = [name for name in shard.episodes.open if name.startswith(("features", "missing"))]
    undone = shard.counts.get("quarantine_undone", 0)
    return Burst.of(
        shard.pipeline, kept.test, kept.seen, tuple(inputs), held=len(kept.held), undone=undone,
        deadline_ms=kept.deadline_ms or 0, over=over,
    )  # fmt: skip


# -- decisions


def watch_bound(shard: Shard, out: Outbox) -> None:
    """Decide if as many pairs are held as may be."""
    most = shard.terms.held_max
    if len(shard.quarantine.held) >= most:
        _decide(shard, f"{most:,} were held", None, out)


def end_quarantine(shard: Shard, out: Outbox) -> None:
    """The deadline of what is held has passed."""
    if shard.quarantine.held:
        _decide(shard, "no one decided in time", None, out)
    else:
        _believe(shard, out)


def rule_quarantine(shard: Shard, control: Control, out: Outbox) -> None:
    """A person decides about all that is held. Every shard gets the command."""
    kept = shard.quarantine
    if not kept.held:
        if (shard.pipeline.shards or 1) > 1:
            shard.count("quarantine_elsewhere")
            return
        reject(shard, control.source, "quarantine_empty", "no labels are held back from learning", out)
        return
    if control.command == "release" and (shard.frozen or shard.stopped):
        detail = "learning is frozen, so nothing could be learned; unfreeze first"
        reject(shard, control.source, "quarantine_frozen", detail, out)
        return
    _decide(shard, "", control, out)


def _decide(shard: Shard, why: str, control: Control | None, out: Outbox) -> None:
    """Learn all that is held, in order, or drop it.

    Args:
        why: where no person decided.
    """
    kept, terms = shard.quarantine, shard.terms
    pairs, releases = list(kept.held), terms.releases if control is None else control.command == "release"
    kept.held.clear()
    kept.deadline_ms = None
    failed = 0
    for pair in pairs:
        if not releases:
            shard.count("quarantine_dropped")
            continue
        shard.count("quarantine_released")
        failed += _learn_late(shard, pair, out)
    lasts = kept.test.suspect
    if lasts and (releases or control is None):
        kept.test.believe(shard.classes)
        lasts = False
    sign = decided_sign(shard.pipeline, pairs, control, releases=releases, why=why, failed=failed, lasts=lasts)
    notice_change(shard, sign, out, Condition.QUARANTINE)
    if failed:
        watch_faults(shard, out)
    if not lasts:
        calm(shard, Condition.QUARANTINE.named(), out)


def _learn_late(shard: Shard, pair: Pair, out: Outbox) -> bool:
    """Learn a pair that was held; returns whether the model raised."""
    output_id = f"{pair.output_id} late"  # it may be learned and undone in the same slice
    if shard.terms.holds:
        failure = _learn_kept(shard, pair, output_id, pair.time_ms, out.oracle)
    else:
        failure = learn(shard, pair.values, pair.label, output_id, pair.time_ms, out.oracle)
    if failure is not None:
        shard.count("failed")
    return failure is not None


def _believe(shard: Shard, out: Outbox) -> None:
    """What is suspect has lasted so long that it is how things are."""
    kept = shard.quarantine
    kept.deadline_ms = None
    if kept.test.suspect:
        kept.test.believe(shard.classes)
    calm(shard, Condition.QUARANTINE.named(), out)


def withdraw(shard: Shard, event_id: EventId) -> None:
    """The label of an event was corrected or retracted: what is held of it is not to be learned."""
    kept = shard.quarantine
    if kept.held and (count := kept.withdraw(event_id)):
        counts = shard.counts
        counts["quarantine_withdrawn"] = counts.get("quarantine_withdrawn", 0) + count
        if not kept.held and not kept.test.suspect:
            kept.deadline_ms = None
