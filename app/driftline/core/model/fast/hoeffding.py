"""`HoeffdingTreeClassifier` with naive Bayes at its leaves: predict and learn with fewer calls.

River asks every leaf for two predictions as it learns, each through four calls a feature and class, and copies a
dictionary each time. Here the same operations are done on the same tree in the same order, so that every bit is River's
own. Whatever is not the usual case (a feature that is missing, text, a leaf of another kind, a first value of a class)
is left to River. Tests hold the trees against River's, digest by digest.

Source: river 0.26, `tree/hoeffding_tree_classifier.py`, `tree/nodes/htc_nodes.py`, `tree/nodes/leaf.py`,
`tree/utils.py`, `tree/splitter/gaussian_splitter.py`, `proba/gaussian.py`.
"""

from __future__ import annotations

from math import exp, inf, isnan, log, tau
from typing import Any

from river import tree as trees
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.htc_nodes import LeafNaiveBayesAdaptive
from river.tree.splitter import GaussianSplitter
from river.tree.utils import do_naive_bayes_prediction

_HALF_LOG_TAU = 0.5 * log(tau)


class Hoeffding:
    """A tree as it is asked and taught.

    What the leaf of the last features answered is kept: where they are learned next, as when labels do not wait, it is
    asked once for both. `settle` forgets it, without which no one else may change the tree.
    """

    __slots__ = ("_asked", "_leaf", "_leaf_votes", "_parent", "_tree")

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self.settle()

    def settle(self) -> None:
        """Forget the last answer."""
        self._asked: Any = None
        self._leaf: Any = None
        self._parent: Any = None
        self._leaf_votes: dict[Any, float] | None = None

    def ask(self, features: Any) -> Any:
        """What `predict_proba_one` says."""
        tree = self._tree
        leaf, parent = _leaf(tree._root, features)
        if leaf is None:
            return tree.predict_proba_one(features)
        votes = None
        shares = dict.fromkeys(sorted(tree.classes), 0.0)
        if leaf._nb_correct_weight >= leaf._mc_correct_weight:
            votes = _votes(features, leaf.stats, leaf.splitters)
            shares.update(votes)
        else:
            shares.update(_shares(leaf.stats))
        self._asked, self._leaf, self._parent, self._leaf_votes = features, leaf, parent, votes
        return shares

    def teach(self, features: Any, label: Any) -> None:
        """What `learn_one` does."""
        tree = self._tree
        if features is self._asked:
            leaf, parent, votes = self._leaf, self._parent, self._leaf_votes
        else:
            (leaf, parent), votes = _leaf(tree._root, features), None
        self._asked = None
        if leaf is None:
            tree.learn_one(features, label)
            return
        tree.classes.add(label)
        tree._train_weight_seen_by_model += 1.0
        _teach(leaf, features, label, tree.nominal_attributes, votes)
        if tree._growth_allowed:
            _grow(tree, leaf, parent, features)
        if tree._train_weight_seen_by_model % tree.memory_estimate_period == 0:
            tree._estimate_model_size()


def hoeffding(model: Any) -> Hoeffding | None:
    """The way of a `HoeffdingTreeClassifier`; None for any other model."""
    return Hoeffding(model) if type(model) is trees.HoeffdingTreeClassifier else None


def _leaf(node: Any, features: Any) -> tuple[Any, Any]:
    """The leaf that features lead to, and the branch above it; no leaf where River must see for itself."""
    parent = None
    while type(node) is NumericBinaryBranch:
        value = features.get(node.feature)
        if value is None:
            return None, None
        parent = node
        node = node.children[0 if value <= node.threshold else 1]
    usual = type(node) is LeafNaiveBayesAdaptive and node.splitters is not None
    return (node, parent) if usual else (None, None)


def _shares(stats: Any) -> dict[Any, float]:
    """Of each class that a leaf saw, as `normalize_values_in_dict` says it."""
    total = sum(stats.values())
    if total == 0 or isnan(total):
        return dict(stats)
    scale = 1 / total
    return {name: weight * scale for name, weight in stats.items()}


def _votes(features: Any, stats: Any, splitters: Any) -> dict[Any, float]:
    """Of each class, by naive Bayes, as `do_naive_bayes_prediction` says it."""
    total = sum(stats.values())
    if not stats or total == 0:
        return {}
    known = []
    for name, splitter in splitters.items():
        if type(splitter) is not GaussianSplitter:
            return do_naive_bayes_prediction(features, stats, splitters)  # type: ignore[no-any-return]  # untyped
        if name in features:
            known.append((features[name], splitter._att_dist_per_class))
    votes = {}
    for label, weight in stats.items():
        if not weight > 0:
            votes[label] = 0.0
            continue
        vote = log(weight / total)
        for value, distributions in known:
            distribution = distributions.get(label)
            if distribution is None:
                continue
            spread = distribution._var
            mean = spread.mean
            freedom = mean.n - spread.ddof
            if freedom > 0 and (variance := spread._S / freedom) > 0.0:
                density = (value - mean._mean) ** 2 / (-2.0 * variance) - _HALF_LOG_TAU - 0.5 * log(variance)
                if density > -inf:
                    vote += density
        votes[label] = vote
    most = max(votes.values())
    scale = most + log(sum([exp(vote - most) for vote in votes.values()]))
    return {label: exp(vote - scale) for label, vote in votes.items()}


def _teach(leaf: Any, features: Any, label: Any, nominal: Any, votes: dict[Any, float] | None) -> None:
    """What `LeafNaiveBayesAdaptive.learn_one` does with a weight of 1.

    Args:
        votes: of the features, where they are known.
    """
    stats, splitters = leaf.stats, leaf.splitters
    if not stats or _first_of_most(_shares(stats)) == label:
        leaf._mc_correct_weight += 1.0
    if votes is None:
        votes = _votes(features, stats, splitters)
    if votes and _first_of_most(votes) == label:
        leaf._nb_correct_weight += 1.0
    stats[label] = stats[label] + 1.0 if label in stats else 1.0
    for name, value in features.items():
        splitter = splitters.get(name)
        distribution = splitter._att_dist_per_class.get(label) if type(splitter) is GaussianSplitter else None
        if distribution is None or value is None:
            leaf.update_splitters({name: value}, label, 1.0, nominal)
            continue
        if value < splitter._min_per_class[label]:
            splitter._min_per_class[label] = value
        if value > splitter._max_per_class[label]:
            splitter._max_per_class[label] = value
        spread = distribution._var
        mean = spread.mean
        before = mean._mean
        mean.n = count = mean.n + 1.0
        mean._mean = after = before + (1.0 / count) * (value - before)
        spread._S += (value - before) * (value - after)


def _first_of_most(shares: dict[Any, float]) -> Any:
    return max(shares, key=shares.__getitem__)


def _grow(tree: Any, leaf: Any, parent: Any, features: Any) -> None:
    """Split the leaf if it is time to try."""
    if leaf.depth >= tree.max_depth:
        leaf.deactivate()
        tree._n_active_leaves -= 1
        tree._n_inactive_leaves += 1
        return
    weight = leaf.total_weight
    if weight - leaf.last_split_attempt_at >= tree.grace_period:
        tree._attempt_to_split(leaf, parent, None if parent is None else parent.branch_no(features))
        leaf.last_split_attempt_at = weight
