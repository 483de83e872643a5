"""Task `recommend`: a slate of items for a request, learned from the rewards that they earn.

Exploration, policies and estimates are in `core.recommend`; here is what the rest of Driftline asks of a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.core.output import Prediction
from driftline.core.record import LabelValue
from driftline.core.slate import SlateError, read_feedback, read_reward, reward_text
from driftline.core.task.base import Draft, Models, Task, Words, foreign_metric, higher, nothing, value_of
from driftline.core.task.consequence import OF_SLATES
from driftline.core.task.label import Bounds, LabelKind, Read, Rules, TargetError
from driftline.core.task.predict import Asked, Predict
from driftline.core.task.seen import ProfileError, Seen, Target

if TYPE_CHECKING:
    from driftline.core.task.measure import Measure

_USUAL = ("Reward", "ClickRate", "Hit", "NDCG", "Coverage", "Explored", "PopularityReward", "Uplift")


def _reward_reader(rules: Rules, bounds: Bounds) -> Read:
    """Reads the pair of item and number that the decoder has put together; or its text, which is read as itself."""

    def read(value: object) -> LabelValue:
        try:
            item, reward = value if isinstance(value, tuple) else read_reward(value)
            return reward_text(item, reward, int(bounds.string_max), bounds.number_max)
        except SlateError as error:
            raise TargetError(str(error)) from None

    return read


REWARD = LabelKind(
    numeric=False,
    textual=False,
    two_valued=False,
    reader=_reward_reader,
    assumable=lambda _: lambda value: isinstance(value, str),
    allowed=lambda _: "nothing: without a reward, an item has earned 0",
)


def _suits(last: Any) -> bool:
    from river import base, reco

    from driftline.core.river.items import Items

    return isinstance(last, Items | base.Regressor | base.Classifier | reco.base.Ranker)


def _predictor(asked: Asked, model: Any, threshold: float | None, probabilistic: bool, /) -> Predict:
    return model.rank  # type: ignore[no-any-return]  # a `Recommender`: see `core.model.learner`


def _error(y_true: Any, prediction: Prediction) -> float | None:
    """Share of the slate that earned nothing."""
    rewards = read_feedback(y_true).rewards if prediction.probabilities else {}
    return sum(reward <= 0 for reward in rewards.values()) / len(rewards) if rewards else None


def _refuses_metric(metric: Any) -> str | None:
    from driftline.core.river.reward import SlateMetric

    return None if isinstance(metric, SlateMetric) else foreign_metric("recommend", _USUAL)


def _look(seen: Seen) -> Target:
    raise ProfileError("task recommend learns from what was shown, and not from rows alone; see docs/recommend.md")


def _synthetic(signal: float, assumed: LabelValue | None) -> LabelValue:
    return reward_text("a", signal > 1.0, 1, 1.0)


def _measure() -> Measure:
    from driftline.core.task.slates import OfSlates

    return OfSlates()


RECOMMEND = Task(
    name="recommend",
    labels=REWARD,
    classes=False,
    probability=False,
    decides=False,
    models=Models(
        wants="a model of rewards, as in LinearItems(), LinearRegression() or BiasedMF()", suits=_suits, refuses=nothing
    ),
    predictor=_predictor,
    error=_error,
    watched=value_of,
    metrics=_USUAL,
    refuses_metric=_refuses_metric,
    make_measure=_measure,
    consequences=OF_SLATES,
    words=Words("an expected reward", "expected rewards", higher("expected rewards")),
    draft=Draft(
        looks=lambda seen: False,
        look=_look,
        prose=False,
        numbers_only=False,
        note="One small model an item.",
        model="LinearItems()",
        head="{}",
        threshold=None,
        metrics=lambda rare, labelled: _USUAL,
    ),
    naive=None,
    synthetic=_synthetic,
    slates=True,
)
