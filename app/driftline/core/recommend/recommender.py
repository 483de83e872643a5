"""The model of a recommending pipeline: the reward of each candidate, and the slate that a policy makes of it.

The pipeline's `model` says what an item earns; its `recommend` section says what is shown. Both are one model to the
rest of the core, so versions, snapshots, faults, reactions and replays are those of any other task. What the model
learns of a request is the text that `slate.feedback_text` makes of its rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from river import base, compose, reco

from driftline.core.error import InvariantError
from driftline.core.output import ModelVersion, Prediction, Unserved
from driftline.core.recommend.policy import NEEDS_DEVIATIONS, Floats, best, certain, draw, generator, shares_of
from driftline.core.record import FeatureValue, LabelValue
from driftline.core.river.building import last_step
from driftline.core.river.items import Items, Popularity
from driftline.core.slate import (
    ESTIMATE,
    POLICY,
    POPULARITY,
    Item,
    ItemFeatures,
    read_feedback,
    read_items,
    read_shown,
)

if TYPE_CHECKING:
    from driftline.core.pipeline import Pipeline
    from driftline.core.pipeline.recommend import RecommendForm

ITEM: Final = "item"
"""The feature that holds an item's id, for models that see one item at a time; its own features are `item.NAME`."""
_ESTIMATE_MAX: Final = 1e300


class Ranked(Prediction, frozen=True, gc=False, array_like=True):
    """A slate, and what is kept beside it until its rewards have come.

    Args:
        label: whether the slate differs from the best that is known; None where another policy chose it.
        probabilities: the propensity of each item, in the order of the slate.
        value: the reward that the model expects of the slate.
        beside: other policies, and estimates.
    """

    beside: tuple[tuple[str, Prediction], ...] = ()


class ShortWay(NamedTuple):
    """How a model that sees one item at a time is asked and taught with fewer calls than River's.

    Args:
        ask: says of features what the model predicts: of a classifier, the probability of True.
        teach: what `learn_one` does.
        settle: makes the model what it would be by itself, without which no one else may look at it.
    """

    ask: Callable[[Any], Any]
    teach: Callable[[Any, Any], None]
    settle: Callable[[], None]


def share_of_yes(shares: Callable[[Any], Mapping[Any, float]]) -> Callable[[Any], float]:
    """How a classifier is asked for its probability of True, from how it is asked for those of all classes."""
    return lambda x: shares(x).get(True, 0.0)


Shorten: TypeAlias = Callable[[Any], ShortWay | None]
"""The short way of a model; None of one that has none."""


class _Conditions:
    """What the pipeline file says, looked up once; and the short way of the model, once it was asked or taught."""

    def __init__(self, pipeline: Pipeline, shorten: Shorten) -> None:
        self.shorten = shorten
        self.way: ShortWay | None = None
        form = pipeline.recommend
        if form is None:
            raise InvariantError("a recommender was made of a pipeline that says nothing of slates")
        self.form: RecommendForm = form
        self.seed = pipeline.seed
        names = tuple(pipeline.event.features)
        self.count = len(names)
        aside = {form.candidates, form.shown}
        self.candidates = names.index(form.candidates) if form.candidates is not None else None
        self.shown = names.index(form.shown) if form.shown in names else None
        self.context = [(name, place) for place, name in enumerate(names) if name not in aside]
        self.catalogue = [Item(item, dict(features)) for item, features in form.catalogue.items()]

    def context_of(self, values: Sequence[FeatureValue]) -> dict[str, FeatureValue]:
        return {name: values[place] for name, place in self.context if values[place] is not None}

    def candidates_of(self, values: Sequence[FeatureValue]) -> list[Item]:
        text = values[self.candidates] if self.candidates is not None else None
        return read_items(text) if isinstance(text, str) else self.catalogue

    def shown_of(self, values: Sequence[FeatureValue]) -> dict[str, float] | None:
        text = values[self.shown] if self.shown is not None else None
        return read_shown(text) if isinstance(text, str) else None


class Recommender(base.Estimator):
    """A model of items' rewards under a policy.

    Args:
        model: what an item earns: one of `core.river.items`, or a regressor, classifier or recommender of River's,
            which sees one item at a time.
        items_max: most items whose popularity is kept.

    Attributes:
        popularity: the policy beside: the mean reward of every item, whatever the request.
    """

    def __init__(self, model: Any, items_max: int = 1_000) -> None:
        self.model = model
        self.popularity = Popularity(items_max=items_max)
        self._conditions: _Conditions | None = None

    def configure(self, pipeline: Pipeline, shorten: Shorten = lambda model: None) -> None:
        """Take up the pipeline's policy and catalogue, which are not part of the state."""
        self._conditions = _Conditions(pipeline, shorten)

    def settle(self) -> None:
        """Make the model what it would be by itself, without which no one else may look at it."""
        if self._conditions is not None and self._conditions.way is not None:
            self._conditions.way.settle()

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return {"model": self.model, "popularity": self.popularity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _conditions=None)

    @property
    def conditions(self) -> _Conditions:
        if self._conditions is None:
            raise InvariantError("a recommender was asked before it had a pipeline")
        return self._conditions

    # -- asking

    def rank(self, values: Sequence[FeatureValue]) -> Ranked | None:
        """The slate for a request, or what is kept of one that was shown already.

        Args:
            values: of the features in declared order, then the request's id, which seeds the draw.

        Returns:
            None where the model's estimates are not finite, or so large that a sum of them might not be.
        """
        under = self.conditions
        context, items = under.context_of(values), under.candidates_of(values)
        shown = under.shown_of(values)
        candidates = len(items)
        if shown is not None:
            known = {item.item for item in items}
            items = [*items, *(Item(item) for item in shown if item not in known)]
        means, deviations, popularity = self.estimates(context, items)
        if not ((np.abs(means) <= _ESTIMATE_MAX).all() and (np.abs(deviations) <= _ESTIMATE_MAX).all()):
            return None  # of NaN, neither is true
        random = generator(under.seed, values[under.count] if len(values) > under.count else "")
        chosen = means[:candidates]
        shares, order = shares_of(under.form, chosen, deviations[:candidates], popularity[:candidates], random)
        count = min(under.form.slate, candidates)
        popular = certain(popularity[:candidates], count)
        beside = [(POPULARITY, popular, float(popular @ chosen))]
        explored = None
        if shown is None:
            slate = draw(shares, count, random) if count else []
            slate = sorted(slate, key=lambda place: (-order[place], place))
            explored = set(slate) != set(best(order, count).tolist())
            propensities = {items[place].item: float(shares[place]) for place in slate}
        else:
            beside.append((POLICY, shares, float(shares @ chosen)))
            places = {item.item: place for place, item in enumerate(items)}
            slate, propensities = [places[item] for item in shown], shown
        names = list(propensities)
        kept = [
            (name, _of_slate(names, slate, part, candidates), value)
            for name, part, value in beside
        ]  # fmt: skip
        kept.append(
            (ESTIMATE, {name: float(means[place]) for name, place in zip(names, slate, strict=True)}, candidates)
        )
        expected = float(sum(means[place] for place in slate))
        aside = tuple((name, Prediction(None, _labels(part), float(value))) for name, part, value in kept)
        return Ranked(explored, _labels(propensities), expected, aside)

    def reasons(self, values: Sequence[FeatureValue]) -> list[dict[str, Any]]:
        """Per candidate, in the order in which the policy has them: what it went by."""
        under = self.conditions
        context, items = under.context_of(values), under.candidates_of(values)
        means, deviations, popularity = self.estimates(context, items)
        random = generator(under.seed, values[under.count] if len(values) > under.count else "")
        shares, order = shares_of(under.form, means, deviations, popularity, random)
        bonus = under.form.alpha * deviations if under.form.policy in NEEDS_DEVIATIONS else np.zeros(len(means))
        return [
            {
                "item": items[place].item,
                "expected": float(means[place]),
                "bonus": float(bonus[place]),
                "popularity": float(popularity[place]),
                "propensity": float(shares[place]),
            }
            for place in best(order, len(items)).tolist()
        ]

    def estimates(self, context: dict[str, FeatureValue], items: Sequence[Item]) -> tuple[Floats, Floats, Floats]:
        """Mean and deviation of each item's reward, and its popularity."""
        popularity, _ = self.popularity.estimate({}, [item.item for item in items])
        last: Any = last_step(self.model)
        if isinstance(last, Items):
            means, deviations = last.estimate(self._transformed(context), [item.item for item in items])
            return means, deviations, popularity
        seen = [_seen(context, item.item, item.features) for item in items]
        if _pairs(last):
            pairs = [self._pair(context, item.item) for item in items]
            said = [float(last.predict_one(*pair, x)) for pair, x in zip(pairs, seen, strict=True)]
        else:
            said = [float(one) for one in map(self._way(last).ask, seen)] if seen else []
        return np.array(said, dtype=float), np.zeros(len(items)), popularity

    def _way(self, last: Any) -> ShortWay:
        """How the model is asked and taught. It is looked for at the first item: a short way is part of no state, but
        River's pipelines are, and learn their own steps when they are called.

        Args:
            last: the step that answers.
        """
        under = self.conditions
        if under.way is None:
            model: Any = self.model
            under.way = under.shorten(model)
            if under.way is None:
                ask = share_of_yes(model.predict_proba_one) if isinstance(last, base.Classifier) else model.predict_one
                under.way = ShortWay(ask, model.learn_one, lambda: None)
        return under.way

    def _pair(self, context: Mapping[str, FeatureValue], item: str) -> tuple[Any, str]:
        return context.get(self.conditions.form.user or ""), item

    def _transformed(self, context: Mapping[str, FeatureValue]) -> Mapping[str, Any]:
        x: Any = context
        for step in _transformers(self.model):
            x = step.transform_one(x)
        return x  # type: ignore[no-any-return]  # River is untyped

    # -- learning

    def learn_one(self, x: dict[str, FeatureValue], y: str) -> None:
        """Learn what a request earned.

        Args:
            x: its features.
            y: as `slate.feedback_text` has it.
        """
        under, rewards = self.conditions, read_feedback(y).rewards
        if not rewards:
            return
        aside = (under.form.candidates, under.form.shown)
        context = {name: value for name, value in x.items() if name not in aside}
        self.popularity.learn_many({}, rewards)
        last: Any = last_step(self.model)
        if isinstance(last, Items):
            transformed: Any = context
            for step in _transformers(self.model):
                if not step._supervised:
                    step.learn_one(transformed)
                transformed = step.transform_one(transformed)
            last.learn_many(transformed, rewards)
            return
        features = self._features_of(x) if under.candidates is not None else {}
        catalogue = {} if features else under.form.catalogue
        yes_or_no = isinstance(last, base.Classifier)
        for item, reward in rewards.items():
            seen = _seen(context, item, features.get(item) or dict(catalogue.get(item, {})))
            if _pairs(last):
                last.learn_one(*self._pair(context, item), reward, seen)
            else:
                self._way(last).teach(seen, reward > 0 if yes_or_no else reward)

    def _features_of(self, x: Mapping[str, FeatureValue]) -> dict[str, ItemFeatures]:
        text = x.get(self.conditions.form.candidates or "")
        return {item.item: item.features for item in read_items(text)} if isinstance(text, str) else {}

    @property
    def evicted(self) -> int:
        """Items that were let go."""
        return self.popularity.evicted + getattr(last_step(self.model), "evicted", 0)


def _of_slate(names: Sequence[str], slate: Sequence[int], shares: Floats, candidates: int) -> dict[str, float]:
    """Shares of the items of a slate; what was no candidate has none."""
    return {name: float(shares[place]) if place < candidates else 0.0 for name, place in zip(names, slate, strict=True)}


def _labels(shares: Mapping[str, float]) -> dict[LabelValue, float]:
    return dict(shares.items())


def _pairs(last: Any) -> bool:
    """Whether a model asks for user and item."""
    return isinstance(last, reco.base.Ranker)


def _seen(context: Mapping[str, FeatureValue], item: str, features: ItemFeatures) -> dict[str, Any]:
    """What a model that sees one item at a time is given."""
    return {**context, ITEM: item, **{f"{ITEM}.{name}": value for name, value in features.items()}}


def _transformers(model: Any) -> list[Any]:
    """The steps before the last."""
    if not isinstance(model, compose.Pipeline):
        return []
    *before, last = model.steps.values()
    return [*before, *_transformers(last)]


def beside_slate(ranked: Prediction, version: ModelVersion) -> tuple[Prediction, tuple[Unserved, ...]]:
    """A ranking as the core keeps it: the slate, and what is beside it."""
    if not isinstance(ranked, Ranked):
        return ranked, ()
    beside = tuple(  # each with a version of its own, as it comes out of a snapshot: digests see what is one object
        Unserved(name, prediction, ModelVersion(version.generation, version.learned))
        for name, prediction in ranked.beside
    )
    return Prediction(ranked.label, ranked.probabilities, ranked.value), beside
