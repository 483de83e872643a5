"""`ARFClassifier`, a forest of Hoeffding trees: each tree is asked and taught as `hoeffding` does.

What the forest does around its trees (how often each learns an event, its metric, its detectors, the tree that waits in
the background) is done as River does, with River's own objects, in the same order. Tests hold the forests against
River's, digest by digest.

Source: river 0.26, `forest/adaptive_random_forest.py`, `base/classifier.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from river import forest as forests
from river import metrics
from river.utils.random import poisson

from driftline.core.model.fast import leaf as arithmetic
from driftline.core.model.fast.hoeffding import Hoeffding


class Forest:
    """A forest as it is asked and taught. `settle` before anyone else looks at it."""

    def __init__(self, forest: Any) -> None:
        self._forest = forest
        self._trees: dict[Any, Hoeffding] = {}
        metric = forest.metric
        self._by_share = isinstance(metric, metrics.base.ClassificationMetric) and not metric.requires_labels

    def settle(self) -> None:
        """Make all trees what they would be by themselves."""
        for tree in self._trees.values():
            tree.settle()
        self._trees.clear()

    def ask(self, features: Any) -> Any:
        """What `predict_proba_one` says."""
        forest = self._forest
        if not forest.data:
            return forest.predict_proba_one(features)
        weighted, found = not forest.disable_weighted_vote, Counter[Any]()
        for tree, metric in zip(forest.data, forest._metrics, strict=True):
            shares, worth = self._way(tree).ask(features), metric.get()
            if weighted and worth > 0.0:
                shares = {label: share * worth for label, share in shares.items()}
            if found:
                for label, share in shares.items():
                    found[label] = share + found.get(label, 0)
            else:
                dict.update(found, shares)
        total = sum(found.values())
        return {label: share / total for label, share in found.items()} if total > 0 else found

    def teach(self, features: Any, label: Any) -> None:
        """What `learn_one` does."""
        forest = self._forest
        if not forest.data:
            forest._init_ensemble(sorted(features))
        for place, tree in enumerate(forest.data):
            way = self._way(tree)
            shares = way.ask(features)
            said = max(shares, key=shares.__getitem__) if shares else None
            forest._metrics[place].update(y_true=label, y_pred=shares if self._by_share else said)
            times = poisson(rate=forest.lambda_value, rng=forest._rng)
            if times == 0:
                continue
            waiting = None if forest._warning_detection_disabled else forest._background[place]
            if waiting is not None:
                self._way(waiting).teach(features, label, times)
            way.teach(features, label, times)
            self._watch(place, forest._drift_detector_input(place, label, said))

    def _watch(self, place: int, wrong: float) -> None:
        """Let a tree's detectors see whether it was wrong: at a warning another begins, which takes over at a drift."""
        forest = self._forest
        if not forest._warning_detection_disabled:
            forest._warning_detectors[place].update(wrong)
            if forest._warning_detectors[place].drift_detected:
                self._trees.pop(forest._background[place], None)
                forest._background[place] = forest._new_base_model()
                forest._warning_detectors[place] = forest.warning_detector.clone()
                forest._warning_tracker[place] += 1
        if forest._drift_detection_disabled:
            return
        forest._drift_detectors[place].update(wrong)
        if not forest._drift_detectors[place].drift_detected:
            return
        self._trees.pop(forest.data[place], None)
        if not forest._warning_detection_disabled and forest._background[place] is not None:
            forest.data[place], forest._background[place] = forest._background[place], None
            forest._warning_detectors[place] = forest.warning_detector.clone()
        else:
            forest.data[place] = forest._new_base_model()
        forest._drift_detectors[place] = forest.drift_detector.clone()
        forest._metrics[place] = forest.metric.clone()
        forest._drift_tracker[place] += 1

    def _way(self, tree: Any) -> Hoeffding:
        way = self._trees.get(tree)
        if way is None:
            way = self._trees[tree] = Hoeffding(tree)
        return way


def forest(model: Any) -> Forest | None:
    """The way of an `ARFClassifier` with naive Bayes at the leaves of its trees; None for any other model, and where
    the arithmetic of leaves is not compiled: River's is as fast then."""
    if arithmetic.Taken is None or type(model) is not forests.ARFClassifier or model.leaf_prediction != "nba":
        return None
    return Forest(model)
