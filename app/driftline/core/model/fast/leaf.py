"""The arithmetic of a Hoeffding tree's leaf with naive Bayes: what it says of features, and how it learns them.

It is written twice, as that of `weighted` is: here, on River's own objects, and in `_leaf.pyx`, which takes the numbers
out of them. `Taken` is the compiled one if it is there and gives, on this machine, the bits of the one in Python.

Compiled is the usual case: numbers that a float holds exactly, classes and features that the leaf has met, squares that
neither overflow nor vanish. Of anything else it says None and changes nothing; its numbers are put back, and the rest
is done here, or by River.

Source: river 0.26, `tree/nodes/htc_nodes.py`, `tree/nodes/leaf.py`, `tree/utils.py`,
`tree/splitter/gaussian_splitter.py`, `proba/gaussian.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import exp, inf, isnan, log, tau
from typing import Any, Protocol, TypeAlias

from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.htc_nodes import LeafNaiveBayesAdaptive
from river.tree.splitter import GaussianSplitter
from river.tree.utils import do_naive_bayes_prediction

_HALF_LOG_TAU = 0.5 * log(tau)


class Leaf(Protocol):
    """A leaf whose numbers were taken out."""

    def ask(self, features: Any) -> dict[Any, float] | None:
        """What it says of features, by class."""

    def learn(self, features: Any, label: Any, weight: float) -> float | None:
        """Learn them; the weight of all that it has learned."""

    def knows(self, label: Any) -> bool:
        """Whether it has met each feature with this label."""

    def put_back(self) -> None:
        """Give River's objects their numbers, without which no one else may look at them."""


Take: TypeAlias = Callable[[Any, bool], Leaf]
"""From a leaf of River's, and whether it learns all features there are. Raises `ValueError` where its numbers cannot be
taken."""
Way: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]
"""From a node and features to the node that they lead to, and the branch above it; no node where River must see for
itself."""


def plain_way(node: Any, features: Any) -> tuple[Any, Any]:
    """The one in Python."""
    parent = None
    while type(node) is NumericBinaryBranch:
        value = features.get(node.feature)
        if value is None:
            return None, None
        parent = node
        node = node.children[0 if value <= node.threshold else 1]
    return node, parent


def shares_of(stats: Any) -> dict[Any, float]:
    """Of each class that a leaf saw, as `normalize_values_in_dict` says it."""
    total = sum(stats.values())
    if total == 0 or isnan(total):
        return dict(stats)
    scale = 1 / total
    return {name: weight * scale for name, weight in stats.items()}


def votes_of(leaf: Any, features: Any) -> dict[Any, float]:
    """Of each class, by naive Bayes, as `do_naive_bayes_prediction` says it."""
    stats, splitters = leaf.stats, leaf.splitters
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


def plain_learn(leaf: Any, features: Any, label: Any, nominal: Any, votes: dict[Any, float] | None = None) -> float:
    """What `LeafNaiveBayesAdaptive.learn_one` does with a weight of 1.

    Args:
        votes: of the features, where they are known.

    Returns:
        The weight of all that it has learned.
    """
    stats, splitters = leaf.stats, leaf.splitters
    if not stats or _first_of_most(shares_of(stats)) == label:
        leaf._mc_correct_weight += 1.0
    if votes is None:
        votes = votes_of(leaf, features)
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
    return float(sum(stats.values()))


def _first_of_most(shares: dict[Any, float]) -> Any:
    return max(shares, key=shares.__getitem__)


def says(leaf: Any, features: Any) -> tuple[dict[Any, float], dict[Any, float] | None]:
    """What a leaf says, and the votes of naive Bayes, where it went by these."""
    if leaf._nb_correct_weight >= leaf._mc_correct_weight:
        votes = votes_of(leaf, features)
        return votes, votes
    return shares_of(leaf.stats), None


def same_leaf(take: Take, way: Way) -> bool:
    """Whether leaves taken so give the bits of those in Python, as far as 300 steps show; see `weighted.same_bits`."""
    try:
        return _same_leaf(take) and _same_way(way)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, there is another
        return False


def _same_leaf(take: Take) -> bool:
    source = random.Random(30)
    leaves = [LeafNaiveBayesAdaptive({}, 0, GaussianSplitter()) for _ in range(2)]
    for label in ("x", "y", "x", "y"):
        for leaf in leaves:
            plain_learn(leaf, {"a": 1.0, "b": 3, "c": -7.0}, label, None)
    one, taken = leaves[0], take(leaves[1], True)
    for number in range(300):
        label, size = source.choice("xxy"), 10.0 ** source.randint(-70, 3)
        features = {"a": source.gauss(label == "x", 2), "b": source.randrange(9), "c": source.random() * size}
        said, _ = says(one, features)
        if said != taken.ask(features) or plain_learn(one, features, label, None) != taken.learn(features, label, 1.0):
            return False
        if number % 60 == 59:
            taken.put_back()
            if _numbers(one) != _numbers(leaves[1]):
                return False
    return True


def _numbers(leaf: Any) -> Any:
    rights = leaf._mc_correct_weight, leaf._nb_correct_weight, leaf.stats
    return rights, [
        (splitter._min_per_class, splitter._max_per_class, one._var._S, one._var.mean.n, one._var.mean._mean)
        for splitter in leaf.splitters.values()
        for one in splitter._att_dist_per_class.values()
    ]


def _same_way(way: Way) -> bool:
    def branch(name: str, threshold: float, *children: Any) -> Any:
        return NumericBinaryBranch({}, name, threshold, 0, *children)

    root = branch("a", 0.5, branch("b", 2, 1, branch("a", -1.0, 2, 3)), branch("c", 1e300, branch("b", 7.5, 4, 5), 6))
    source = random.Random(31)
    for _ in range(60):
        features = {"a": source.gauss(0, 1), "b": source.randrange(9), "c": source.choice((1, 1e301, None))}
        if way(root, features) != plain_way(root, features):
            return False
    return True


compiled: tuple[Take, Way] | None
try:
    from driftline.core.model.fast._leaf import Leaf as CompiledLeaf
    from driftline.core.model.fast._leaf import way as compiled_way

    compiled = CompiledLeaf, compiled_way
except ImportError:  # no compiler was there when it was installed, or it was compiled from an older source
    compiled = None

Taken: Take | None = None
way: Way = plain_way
if compiled is not None and same_leaf(*compiled):
    Taken, way = compiled
is_compiled = Taken is not None
