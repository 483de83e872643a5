"""Pipelines by chance: as a file has them, of what `driftline check` admits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

KINDS = {"a": "number", "b": "number", "n": "whole", "flag": "truth", "shop": "category", "city": "category"}
TEXT = "text"

Chosen = TypeVar("Chosen")


class Pipelines:
    """Expressions for features of these names."""

    def __init__(self, source: random.Random, names: list[str], task: str) -> None:
        self._source, self._names, self._task = source, names, task
        self._numbers = [name for name in names if KINDS.get(name) in ("number", "whole", "truth")]
        self._words = [name for name in names if name not in self._numbers]

    def model(self) -> str:
        before = self._before()
        return " | ".join([*before, self._last()])

    def _before(self) -> list[str]:
        pick = self._source.random()
        if not self._words and pick < 0.7:
            return self._choose([[], ["StandardScaler()"], ["StandardScaler()"], ["StandardScaler()"] * 2,
                                 ["MinMaxScaler()"], [self._number_step(), self._number_step()],
                                 [self._some(self._numbers), "StandardScaler()"]])  # fmt: skip
        if pick < 0.15 and TEXT in self._names:
            return self._text_steps()
        steps = [self._union(0)] if pick < 0.9 else self._branch(0)
        while self._source.random() < 0.25:
            steps.append(self._choose([self._number_step(), "Prefixer('p ')", self._hasher()]))
        return steps

    def _union(self, depth: int) -> str:
        branches = [self._parts(depth) for _ in range(self._source.randint(1, 4))]
        joined = ", ".join(" | ".join(one) for one in branches)
        return f"TransformerUnion({joined})"

    def _parts(self, depth: int) -> list[str]:
        steps = self._branch(depth)
        if self._source.random() < 0.7:  # else two branches may write the same names
            steps.append(f"Prefixer('{self._source.randrange(1000)} ')")
        return steps

    def _branch(self, depth: int) -> list[str]:
        kinds = [self._number_branch] * bool(self._numbers) + [self._word_branch] * bool(self._words)
        if TEXT in self._names:
            kinds.append(self._text_steps)
        if depth < 2 and self._source.random() < 0.2:
            return self._nested(depth)
        return self._choose(kinds)()

    def _nested(self, depth: int) -> list[str]:
        return [self._union(depth + 1)]

    def _number_branch(self) -> list[str]:
        steps = [self._some(self._numbers)]
        steps += [self._number_step() for _ in range(self._choose([0, 1, 1, 1, 2]))]
        return steps

    def _word_branch(self) -> list[str]:
        steps = [self._some(self._names if self._source.random() < 0.3 else self._words)]
        steps.append(self._choose([self._one_hot(), self._one_hot(), self._hasher()]))
        if self._source.random() < 0.2:
            steps.append(self._number_step())
        return steps

    def _text_steps(self) -> list[str]:
        words = self._choose(["BagOfWords", "BagOfWords", "TFIDF"])
        ngrams = self._choose(["", "", ", ngram_range=(1, 2)", ", lowercase=False"])
        select = [f"Select('{TEXT}')"] if self._source.random() < 0.5 else []
        more = self._choose([[], [self._hasher()], ["StandardScaler()"]])
        return [*select, f"{words}(on='{TEXT}'{ngrams})", *more]

    def _number_step(self) -> str:
        return self._choose(
            ["StandardScaler()", "StandardScaler()", "StandardScaler(with_std=False)", "StandardScaler(window_size=5)",
             "MinMaxScaler()", "MaxAbsScaler()", "AdaptiveStandardScaler(fading_factor=0.4)", "Normalizer()",
             "Binarizer(threshold=0.5)", "Prefixer('q ')", "Suffixer(' s')", "StatImputer()", "PreviousImputer()",
             "feature_extraction.PolynomialExtender(degree=2)", "feature_extraction.RBFSampler(n_components=3, seed=1)",
             "feature_selection.VarianceThreshold()", "SelectKBest(similarity=stats.PearsonCorr(), k=2)",
             "Discard('a')", "Renamer({'a': 'z'})", "SelectType(numbers.Number)",
             "TransformerProduct(Select('a'), Select('b') | StandardScaler())",
             "TargetAgg(by='flag', how=stats.Mean())", "Agg(on='a', by='flag', how=stats.Mean())",
             "StandardScaler() | MinMaxScaler()", "TransformerUnion(StandardScaler(), MinMaxScaler() | Prefixer('u '))"]
        )  # fmt: skip

    def _one_hot(self) -> str:
        drops = [option for option in ("drop_zeros", "drop_first") if self._source.random() < 0.5]
        if self._source.random() < 0.4:
            drops = ["drop_zeros"]
        return f"OneHotEncoder({', '.join(f'{option}=True' for option in drops)})"

    def _hasher(self) -> str:
        sign = self._choose(["", ", alternate_sign=False"])
        return f"FeatureHasher(n_features={self._choose([2, 8, 64])}, seed=1{sign})"

    def _some(self, names: list[str]) -> str:
        chosen = self._source.sample(names, self._source.randint(1, len(names)))
        if self._source.random() < 0.1:
            chosen.append("nothing")
        return f"Select({', '.join(map(repr, chosen))})"

    # the last step

    def _last(self) -> str:
        if self._task == "number":
            return self._choose([self._regression, self._regression, self._regression, self._regressor])()
        if self._task == "binary":
            return self._choose([self._logistic, self._logistic, self._logistic, self._classifier])()
        return self._classifier()

    def _linear(self) -> list[str]:
        given = [f"optimizer={self._optimizer()}"] if self._source.random() < 0.7 else []
        penalty = self._source.random()
        if penalty < 0.25:
            given.append(f"l2={self._choose([0.01, 0.5, 1])}")
        elif penalty < 0.35:
            given.append("l1=0.01")
        if self._source.random() < 0.2:
            given.append(f"intercept_init={self._choose([0, 1, -0.5])}")
        if self._source.random() < 0.3:
            given.append(f"intercept_lr={self._choose([0, 0.0, 1, self._schedule()])}")
        if self._source.random() < 0.2:
            given.append(f"clip_gradient={self._choose([1, 0.1, 0, 1e3])}")
        if self._source.random() < 0.2:
            start = self._choose(["Zeros()", "Constant(0.5)", "Constant(1)", "Normal(seed=3)"])
            given.append(f"initializer=optim.initializers.{start}")
        return given

    def _logistic(self) -> str:
        given = self._linear()
        if self._source.random() < 0.25:
            loss = self._choose(["Log(weight_pos=3, weight_neg=0.5)", "Hinge()", "Hinge(threshold=0.0)",
                                 "BinaryFocalLoss()", "Log(2, 1)"])  # fmt: skip
            given.append(f"loss=optim.losses.{loss}")
        return f"LogisticRegression({', '.join(given)})"

    def _regression(self) -> str:
        given = self._linear()
        if self._source.random() < 0.25:
            loss = self._choose(["Absolute()", "Squared()", "Cauchy()", "Huber()", "EpsilonInsensitiveHinge()",
                                 "Quantile(0.8)", "Poisson()"])  # fmt: skip
            given.append(f"loss=optim.losses.{loss}")
        made = f"linear_model.LinearRegression({', '.join(given)})"
        return f"TargetStandardScaler({made})" if self._source.random() < 0.2 else made

    def _optimizer(self) -> str:
        rate = self._choose([0.01, 0.5, 1, 30.0, self._schedule()])
        return self._choose(
            [f"optim.SGD({rate})", f"optim.SGD({rate})", f"optim.AdaGrad({rate})", f"optim.AdaGrad({rate}, eps=0.1)",
             f"optim.Adam({rate})", f"optim.RMSProp({rate})", "optim.AdaDelta()", "optim.FTRLProximal()",
             f"optim.Momentum({rate})", f"optim.NesterovMomentum({rate})", f"optim.AdaMax({rate})",
             f"optim.Nadam({rate})", f"optim.AMSGrad({rate})"]
        )  # fmt: skip

    def _schedule(self) -> str:
        return "optim.schedulers." + self._choose(
            ["InverseScaling(0.5)", "Optimal(optim.losses.Log())", "Constant(0.1)"]
        )

    def _classifier(self) -> str:
        tree = self._tree("Classifier")
        linear = self._logistic()
        return self._choose(
            [tree, tree, "MultinomialNB()", "MultinomialNB(alpha=0.5)", "MultinomialNB(alpha=1)", "BernoulliNB()",
             "BernoulliNB(true_threshold=1)", "ComplementNB()", "GaussianNB()", "KNNClassifier(engine=LazySearch(9))",
             "forest.ARFClassifier(n_models=2, grace_period=10, seed=1)", "PAClassifier()", "Perceptron()",
             "linear_model.ALMAClassifier()", "SoftmaxRegression()", f"OneVsRestClassifier({linear})",
             f"OneVsOneClassifier({linear})", "naive_bayes.GaussianNB()", "dummy.PriorClassifier()",
             f"ensemble.BaggingClassifier({self._tree('Classifier')}, n_models=2, seed=1)",
             f"ensemble.LeveragingBaggingClassifier({linear}, n_models=2, seed=1)",
             "forest.AMFClassifier(n_estimators=2, seed=1)",
             f"ensemble.AdaBoostClassifier({self._tree('Classifier')}, n_models=2, seed=1)"]
        )  # fmt: skip

    def _regressor(self) -> str:
        return self._choose(
            [self._tree("Regressor"), "KNNRegressor(engine=LazySearch(50))", "dummy.StatisticRegressor(stats.Mean())",
             "linear_model.PARegressor()", "linear_model.BayesianLinearRegression()",
             "forest.ARFRegressor(n_models=2, grace_period=10, seed=1)",
             f"TargetStandardScaler({self._tree('Regressor')})", "TargetMinMaxScaler(linear_model.LinearRegression())",
             "ensemble.BaggingRegressor(linear_model.LinearRegression(), n_models=2, seed=1)"]
        )  # fmt: skip

    def _tree(self, kind: str) -> str:
        given = [f"grace_period={self._choose([5, 20])}", f"delta={self._choose([0.5, 1e-3])}"]
        more = ["max_depth=1", "nominal_attributes=['a', 'shop']", "leaf_prediction='nb'", "leaf_prediction='mc'",
                "remove_poor_attrs=True", "merit_preprune=False", "memory_estimate_period=20, max_size=0.02",
                "binary_split=True", "splitter=tree.splitter.HistogramSplitter()", "max_share_to_split=0.7",
                "stop_mem_management=True", "tau=0.5"]  # fmt: skip
        own = kind == "Classifier"
        if own:
            given += [option for option in more if self._source.random() < 0.12]
        if len([option for option in given if option.startswith("leaf")]) > 1:
            given.remove("leaf_prediction='mc'")
        name = self._choose(["HoeffdingTree"] * 4 + ["HoeffdingAdaptiveTree"])
        seeded = ", seed=1" if name == "HoeffdingAdaptiveTree" else ""
        return f"tree.{name}{kind}({', '.join(given)}{seeded})"

    def _choose(self, of: Sequence[Chosen]) -> Chosen:
        return self._source.choice(of)
