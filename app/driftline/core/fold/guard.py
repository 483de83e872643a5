"""What the guard does to a shard: it judges a prediction, and reports what it did not let pass."""

from __future__ import annotations

from driftline.core.alert.condition import Condition
from driftline.core.alert.content import failure_sign
from driftline.core.fold.incident import calm_guard, notice, watch_guard
from driftline.core.fold.review import hold
from driftline.core.guard.kept import BLOCK, CLEAN
from driftline.core.guard.ladder import PASSED, Judged, Ladder
from driftline.core.output import MODEL, Guard, ModelVersion, Predicted, Prediction, Score, Unserved
from driftline.core.record import Event
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard


def judge(shard: Shard, ladder: Ladder, event: Event, predicted: Predicted, learned: int, out: Outbox) -> Judged:
    """Whether a prediction may be served, and what is served instead.

    Args:
        event: with its computed features.
        learned: how many labels the model that made the prediction had learned.
    """
    kept, learner, values, call, oracle = shard.kept, shard.learner, event.features, out.own_id(), out.oracle
    ask_good = lambda: learner.ask_good(values, call, oracle)  # noqa: E731 - it is called now and then only
    passed = ladder.judge(kept, event, predicted, learned, ask_good)
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
    return (Unserved(MODEL, made, version, passed.tripped[-1].rung if passed.tripped else ""),)


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
