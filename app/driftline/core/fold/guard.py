"""What is served of a prediction: the guard judges it, and what it did not let pass is reported."""

from __future__ import annotations

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import failure_sign, second_failure_sign
from driftline.core.fold.decision import decide
from driftline.core.fold.incident import calm_guard, notice, watch_guard, watch_second
from driftline.core.fold.review import hold
from driftline.core.guard.kept import BLOCK, CLEAN
from driftline.core.guard.ladder import PASSED, Judged, Ladder
from driftline.core.output import MODEL, Guard, Instead, ModelVersion, Predicted, Prediction, Score, Unserved
from driftline.core.recommend.recommender import beside_slate
from driftline.core.record import Event
from driftline.core.river.ahead import Given
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard


def lets_pass(shard: Shard, ladder: Ladder, event: Event, prediction: Prediction, learned: int, out: Outbox) -> bool:
    """Whether the guard serves what the model predicted as it is; else `serve` goes on from here."""
    kept = shard.kept
    if ladder.compares:
        kept.outputs.follow(shard.learner.generation)
    if not ladder.passes(kept, event, prediction, learned):
        return False
    shard.learner.trusted = kept.clean >= CLEAN
    if kept.filled == BLOCK:
        calm_guard(shard, out)
    return True


def serve(
    shard: Shard, event: Event, predicted: Predicted, asked: ModelVersion, out: Outbox, *, begun: bool = False
) -> tuple[Score, Judged]:
    """The score of an event whose prediction the model did not simply make: the last good copy did, a guard may have
    another one served, or it is a slate.

    Args:
        event: with its computed features.
        asked: the version of the model that was asked.
        begun: `lets_pass` was asked, and was false.
    """
    made, prediction, guard = predicted
    learner, ladder, terms = shard.learner, shard.ladder, shard.terms
    version, learned = (asked if guard == "served" else learner.version), learner.known
    unserved = unserved_of(made, prediction, asked)
    if terms.slates:
        prediction, unserved = beside_slate(prediction, version)
    second = ask_second(shard, event.features, out)
    passed = PASSED
    if ladder is not None:
        passed = _judge(shard, ladder, event, (made, prediction, guard), second, out, begun=begun)
    if passed is not PASSED:
        if passed.prediction is not prediction:
            unserved = unserved_of(made, passed.prediction, asked, passed)
        prediction, guard = passed.prediction, passed.guard
    if second is not None:
        unserved = (*unserved, second)
    prediction, decision, spent = decide(shard, prediction)
    score = Score(
        out.own_id(), event.source, event.event_id, event.time_ms, prediction, decision, guard, version,
        event.features, learned, passed.tripped, passed.instead, unserved, budget=spent,
    )  # fmt: skip
    return score, passed


def ask_second(shard: Shard, values: Given, out: Outbox) -> Unserved | None:
    """What the second model says of an event; None where there is none, or it has nothing to say. Alert where it fails.

    Args:
        values: as of `Learner.score`.
    """
    second = shard.second
    if second is None:
        return None
    generation = second.learner.generation
    answer = second.ask(values, out.own_id(), out.oracle)
    if answer is None:
        shard.count("second_failed")
    if second.learner.generation != generation:
        sign = second_failure_sign(shard.pipeline, answers=answer is not None)
        notice(shard, Condition.SECOND_BROKEN.named(), sign, out)
    watch_second(shard, second, out)
    return answer


def _copied(said: Prediction) -> Prediction:
    """One object in the score and beside it would be two in a replay."""
    shares = said.probabilities
    return Prediction(said.label, None if shares is None else dict(shares), said.value)


def _judge(
    shard: Shard,
    ladder: Ladder,
    event: Event,
    predicted: Predicted,
    second: Unserved | None,
    out: Outbox,
    *,
    begun: bool,
) -> Judged:
    kept, learner = shard.kept, shard.learner
    if not begun and predicted[2] == "served":
        begun = True
        if lets_pass(shard, ladder, event, predicted[1], learner.known, out):
            return ladder.passed(kept, predicted[1])

    def ask(which: Instead) -> tuple[Prediction | None, int]:
        if which == "last_good":
            return learner.ask_good(event.features, out.own_id(), out.oracle)
        known = 0 if shard.second is None else shard.second.learner.known
        return (None if second is None else _copied(second.prediction)), known

    if ladder.compares:
        kept.outputs.follow(learner.generation)
    passed = ladder.judge(kept, event, predicted, learner.known, ask, begun=begun)
    learner.trusted = kept.clean >= CLEAN
    if kept.filled == BLOCK:
        calm_guard(shard, out)
    return passed


def unserved_of(
    made: Prediction | None, served: Prediction, version: ModelVersion, passed: Judged = PASSED
) -> tuple[Unserved, ...]:
    """What the model made, where something else is served.

    Args:
        version: of the model that was asked.
        passed: what the guard found, where it was asked.
    """
    if made is None or made is served:
        return ()
    own = ModelVersion(version.generation, version.learned)  # one object here and in the score would be two in a replay
    return (Unserved(MODEL, made, own, passed.tripped[-1].rung if passed.tripped else ""),)


def report(shard: Shard, finite: Guard, score: Score, passed: Judged, out: Outbox, *, resting: bool) -> None:
    """Alert about a model that broke down and about what was not let pass; ask for a review of what is held.

    Args:
        finite: what the learner made of the prediction.
        resting: the model rests, which is reported elsewhere.
    """
    if finite != "served" and not resting:
        notice(shard, Condition.BROKEN.named(), failure_sign(shard.pipeline, finite), out)
    if passed.tripped:
        watch_guard(shard, passed, out)
    if passed.holding is not None:
        hold(shard, score, passed, out)
