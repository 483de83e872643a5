"""`HoeffdingTreeClassifier` with naive Bayes at its leaves: predict and learn with fewer calls.

River asks every leaf for two predictions as it learns, each through four calls a feature and class, and copies a
dictionary each time. Here the same operations are done on the same tree in the same order, so that every bit is River's
own: the arithmetic of a leaf in `leaf`, on numbers that are taken out of it where that is compiled. Whatever is not the
usual case (a feature that is missing on the way, a leaf of another kind, text) is left to River. Tests hold the trees
against River's, digest by digest.

Source: river 0.26, `tree/hoeffding_tree_classifier.py`.
"""

from __future__ import annotations

from typing import Any

from river import tree as trees
from river.tree.nodes.arf_htc_nodes import RandomLeafNaiveBayesAdaptive
from river.tree.nodes.htc_nodes import LeafNaiveBayesAdaptive

from driftline.core.model.fast import leaf as arithmetic
from driftline.core.model.fast.leaf import Leaf, plain_learn, says

_ODD_MAX = 100
_LEAVES = (LeafNaiveBayesAdaptive, RandomLeafNaiveBayesAdaptive)  # the second learns some of the features


class Hoeffding:
    """A tree as it is asked and taught.

    What the leaf of the last features answered is kept: where they are learned next, as when labels do not wait, it is
    asked once for both. The numbers of leaves are taken out as features come to them. `settle` puts these back and
    forgets the answer, without which no one else may look at the tree, or change it.

    A leaf gives up its numbers before what is not compiled; a tree that needs this for more than a tenth of what it
    learns keeps them.
    """

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self._odd = self._learned = 0
        self._leaves: dict[Any, Leaf] = {}
        self.settle()

    def settle(self) -> None:
        """Make the tree what it would be by itself."""
        self._put_back()
        self._leaves.clear()
        self._asked: Any = None
        self._found: tuple[Any, Any] = (None, None)
        self._votes: dict[Any, float] | None = None

    def ask(self, features: Any) -> Any:
        """What `predict_proba_one` says."""
        tree = self._tree
        leaf, parent = _leaf(tree._root, features)
        if leaf is None:
            self._put_back()
            return tree.predict_proba_one(features)
        shares = dict.fromkeys(sorted(tree.classes), 0.0)
        taken, votes = self._leaves.get(leaf) or self._take(leaf), None
        said = None if taken is None else taken.ask(features)
        if said is None:
            self._leave(leaf, taken)
            said, votes = says(leaf, features)
        shares.update(said)
        self._asked, self._found, self._votes = features, (leaf, parent), votes
        return shares

    def teach(self, features: Any, label: Any, times: float = 1.0) -> None:
        """What `learn_one` does with a weight of so many times."""
        tree, votes = self._tree, None
        if features is self._asked:
            (leaf, parent), votes = self._found, self._votes
        else:
            leaf, parent = _leaf(tree._root, features)
        self._asked = None
        if leaf is None:
            self.settle()
            tree.learn_one(features, label, w=times)
            return
        tree.classes.add(label)
        tree._train_weight_seen_by_model += times
        self._learned += 1
        taken = self._leaves.get(leaf) or self._take(leaf)
        weight = None if taken is None else taken.learn(features, label, times)
        if weight is None:
            self._leave(leaf, taken, odd=taken is not None and taken.knows(label))
            if type(leaf) is LeafNaiveBayesAdaptive and times == 1.0:
                weight = plain_learn(leaf, features, label, tree.nominal_attributes, votes)
            else:
                leaf.learn_one(features, label, w=times, tree=tree)
                weight = leaf.total_weight
        if tree._growth_allowed:
            self._grow(leaf, parent, features, weight)
        if tree._train_weight_seen_by_model % tree.memory_estimate_period == 0:
            self.settle()
            tree._estimate_model_size()

    def _grow(self, leaf: Any, parent: Any, features: Any, weight: float) -> None:
        """Split the leaf if it is time to try."""
        tree = self._tree
        if leaf.depth >= tree.max_depth:
            self._leave(leaf, self._leaves.get(leaf))
            leaf.deactivate()
            tree._n_active_leaves -= 1
            tree._n_inactive_leaves += 1
        elif weight - leaf._last_split_attempt_at >= tree.grace_period:
            self._leave(leaf, self._leaves.get(leaf))
            weight = leaf.total_weight
            tree._attempt_to_split(leaf, parent, None if parent is None else parent.branch_no(features))
            leaf.last_split_attempt_at = weight

    def _take(self, leaf: Any) -> Leaf | None:
        """Take the numbers of a leaf out; None if they cannot be."""
        if arithmetic.Taken is None or (self._odd > _ODD_MAX and self._odd * 10 > self._learned):
            return None
        random = type(leaf) is RandomLeafNaiveBayesAdaptive
        if random and leaf.splitters and set(leaf.splitters) != set(leaf.feature_indices):
            return None
        try:
            taken = self._leaves[leaf] = arithmetic.Taken(leaf, not random)
        except ValueError:
            self._odd += bool(leaf.splitters)  # a new leaf has none yet
            return None
        return taken

    def _leave(self, leaf: Any, taken: Leaf | None, *, odd: bool = False) -> None:
        """What is done with the leaf next is done on its own numbers."""
        if taken is not None:
            taken.put_back()
            self._leaves.pop(leaf, None)
            self._odd += odd

    def _put_back(self) -> None:
        for taken in self._leaves.values():
            taken.put_back()


def hoeffding(model: Any) -> Hoeffding | None:
    """The way of a `HoeffdingTreeClassifier`; None for any other model."""
    return Hoeffding(model) if type(model) is trees.HoeffdingTreeClassifier else None


def _leaf(root: Any, features: Any) -> tuple[Any, Any]:
    """The leaf that features lead to, and the branch above it; no leaf where River must see for itself."""
    node, parent = arithmetic.way(root, features)
    usual = type(node) in _LEAVES and node.splitters is not None
    return (node, parent) if usual else (None, None)
