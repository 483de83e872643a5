"""The models that `driftline init` tries, as expressions for the fields of a table.

A handful, each of a kind of its own: linear models with one and with many learning rates, one for the median, a tree
that adapts, naive Bayes, words and signs of a text. All are bounded: words are hashed into a fixed number of columns,
and a tree stops growing. The first one is what `init` writes without a trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from driftline.author.past import Proposal
from driftline.author.profile import Profile
from driftline.core.task import task_of
from driftline.core.task.rule import Rule

HASH_COLUMNS: Final = 1_024
WORD_COLUMNS: Final = 4_096
PAIR_COLUMNS: Final = 16_384
EXPRESSION_MAX: Final = 15_000  # characters, of the 20,000 that an expression may have
_MARKS = r"r'[^\W\d_]+|\d|[^\w\s]'"  # words, single digits and signs
_OWN_RATES = "LogisticRegression(optimizer=AdaGrad(0.1))"
_OWN_RATES_OF_NUMBERS = "TargetStandardScaler(regressor=LinearRegression(optimizer=AdaGrad(0.1)))"
_OF_LOGARITHMS = f"LogTargetRegressor({_OWN_RATES_OF_NUMBERS})"
_FOREST = "Ten adaptive trees on parts of the data: finds what features say only together, at far more work an event."
_OF_MEDIAN = "TargetStandardScaler(regressor=LinearRegression(optimizer=AdaGrad(0.1), loss=optim.losses.Quantile(0.5)))"
_UNEVEN = 0.25  # share of the rarer class of two below which who finds it matters more than how often one is right


class Contender(Struct, frozen=True):
    """A model to try.

    Args:
        name: in the table of a trial.
        note: a sentence about it, for the file.
        lines: of the expression.
        alone: it sees a series and no other field; of forecasts.
        slow: it takes so long an event that it is tried on few cells only.
    """

    name: str
    note: str
    lines: tuple[str, ...]
    alone: bool = False
    slow: bool = False


Uses = Mapping[str, Sequence[str]]  # the names of features, by how a model takes them


def uses_of(found: Profile, past: Proposal) -> dict[str, list[str]]:
    """The features of a file by how a model takes them: as numbers, categories, hashed or as text."""
    by_use: dict[str, list[str]] = {}
    for field in found.features:
        by_use.setdefault("number" if field.use == "boolean" else field.use, []).append(field.name)
    for name in past.features:
        by_use.setdefault("category" if name in past.calendar else "number", []).append(name)
    return by_use


def contenders(found: Profile, past: Proposal) -> list[Contender]:
    """What to try for a table, the default first."""
    task = task_of(found.target.task)
    uses = uses_of(found, past)
    if not task.supervised:
        return [Contender("detector", task.draft.note, (str(task.draft.model),))]
    if task.ahead and not past.features:
        return [Contender("forecasts", task.draft.note, (str(task.draft.model),))]
    amounts = _amounts(found, past)
    if task.labels.numeric:
        spread = _apart(uses, amounts) if found.target.spread else None
        return list(_of_numbers(uses, spread))
    if "text" in uses:
        return list(_of_text(uses, task.draft.head))
    return list(_of_classes(uses, _apart(uses, amounts) if amounts else None, task.draft.head))


def _amounts(found: Profile, past: Proposal) -> set[str]:
    """Numbers whose logarithms say more of them, as far as a line goes: amounts, counts, and times since an event."""
    of_past = {
        name for name, form in past.features.items() if not str(form.get("history", "label")).startswith("label")
    }
    return {field.name for field in found.features if field.spread} | of_past


def _apart(uses: Uses, amounts: set[str]) -> Uses:
    """Features with the amounts among the numbers as a use of their own."""
    numbers = uses.get("number", ())
    apart = {
        "number": [one for one in numbers if one not in amounts],
        "amount": [one for one in numbers if one in amounts],
    }
    return {**apart, **{use: names for use, names in uses.items() if use != "number"}}


def _of_numbers(uses: Uses, spread: Uses | None) -> Iterator[Contender]:
    tree = Contender(
        "adaptive tree",
        "A tree that adapts to changes; it predicts means of labels it has seen, so it cannot diverge.",
        _of_plain(uses, "HoeffdingAdaptiveTreeRegressor(grace_period=50, leaf_prediction='mean')"),
    )
    linear = Contender(
        "linear",
        "A linear model of scaled numbers, with a learning rate per weight; the label is scaled as well.",
        _linear(uses, _OWN_RATES_OF_NUMBERS),
    )
    yield linear
    if "text" not in uses and _plain(uses):
        yield tree
    yield Contender(
        "linear, median",
        "A linear model of the median: labels far from the others, or mostly 0, move it less than they move a mean.",
        _linear(uses, _OF_MEDIAN),
    )
    if spread is not None:
        yield Contender(
            "linear, logarithms",
            "A linear model of the label's logarithm: each feature counts as a share of the label, not as an amount.",
            _linear(spread, _OF_LOGARITHMS),
        )
    if _plain(uses) and "text" not in uses:
        yield Contender(
            "forest",
            _FOREST,
            _forest_of_numbers(uses),
            slow=True,
        )


def _plain(uses: Uses) -> list[str]:
    """What a tree can split by: numbers, and texts of few values."""
    return [*uses.get("number", ()), *uses.get("category", ())]


def _forest_of_numbers(uses: Uses) -> tuple[str, ...]:
    """Linear models in its leaves need scaled numbers, and raise at texts."""
    if "category" in uses:
        return _of_plain(uses, "ARFRegressor(n_models=10, leaf_prediction='mean')")
    last = "TargetStandardScaler(regressor=ARFRegressor(n_models=10))"
    return (
        _linear({"number": uses["number"]}, last)
        if len(uses) == 1
        else (f"Select({', '.join(map(repr, uses['number']))})", "| StandardScaler()", f"| {last}")
    )


def _of_plain(uses: Uses, last: str) -> tuple[str, ...]:
    """A model of trees, behind a choice of what it can use where that is not all."""
    if set(uses) <= {"number", "category"}:
        return (last,)
    return (f"Select({', '.join(map(repr, _plain(uses)))})", f"| {last}")


def _of_classes(uses: Uses, spread: Uses | None, head: str) -> Iterator[Contender]:
    yield Contender(
        "linear",
        "A linear model on scaled numbers: fast, stable from the first label, gives probabilities.",
        _linear(uses, head.format("LogisticRegression()")),
    )
    yield Contender(
        "linear, own rates",
        "A linear model on scaled numbers, with a learning rate per weight: rare categories learn fast.",
        _linear(uses, head.format(_OWN_RATES)),
    )
    yield Contender(
        "linear, fast",
        "A linear model on scaled numbers that learns five times as fast: it follows changes, and is less steady.",
        _linear(uses, head.format("LogisticRegression(optimizer=SGD(0.05))")),
    )
    if spread is not None:
        yield Contender(
            "linear, logarithms",
            "A linear model on logarithms of amounts and counts: a few great ones do not outweigh the rest.",
            _linear(spread, head.format(_OWN_RATES)),
        )
    if _plain(uses):
        tree = _of_plain(uses, "HoeffdingAdaptiveTreeClassifier(grace_period=100)")
        yield Contender("adaptive tree", "A tree that grows with the data and replaces branches that fail.", tree)
        yield Contender(
            "forest",
            _FOREST,
            _of_plain(uses, "ARFClassifier(n_models=10)"),
            slow=True,
        )
    if list(uses) == ["number"]:
        yield Contender("naive Bayes", "A normal distribution of each number in each class.", ("GaussianNB()",))
        yield Contender(
            "neighbours",
            "The commonest class among the eleven most similar of the last 1,000 events: any shape, at far more work.",
            ("StandardScaler() | KNNClassifier(n_neighbors=11, engine=LazySearch(window_size=1000))",),
            slow=True,
        )


def _of_text(uses: Uses, head: str) -> Iterator[Contender]:
    yield Contender(
        "linear, words, signs, pairs",
        f"A linear model on counts of words, digits, signs and pairs of them, hashed into {PAIR_COLUMNS:,} columns, so "
        "new words need no more memory.",
        _linear(uses, head.format(_OWN_RATES), pairs=True),
    )
    yield Contender(
        "linear, words",
        f"A linear model on counts of words, hashed into {WORD_COLUMNS:,} columns, so new words need no more memory.",
        _linear(uses, head.format(_OWN_RATES)),
    )
    yield Contender(
        "naive Bayes, words",
        f"Naive Bayes on counts of words, hashed into {WORD_COLUMNS:,} columns, so new words need no more memory.",
        _bayes_of_words(uses),
    )


def _bayes_of_words(uses: Uses) -> tuple[str, ...]:
    """Naive Bayes counts: words, and categories beside them. Numbers are no counts."""
    texts = uses["text"]
    hashed = f"FeatureHasher(n_features={WORD_COLUMNS}, alternate_sign=False)"
    if list(uses) == ["text"] and len(texts) == 1:
        return (f"BagOfWords(on={texts[0]!r}) | {hashed} | MultinomialNB()",)
    branches = [f"(Select({name!r}) | BagOfWords(on={name!r}) | {hashed} | Prefixer({name + ' '!r}))" for name in texts]
    if "category" in uses:
        selected = ", ".join(map(repr, uses["category"]))
        branches.insert(0, f"(Select({selected}) | OneHotEncoder(drop_zeros=True))")
    first, *others = branches
    counted = [f"({first}", *(f" + {branch}" for branch in others)]
    counted[-1] += ")"
    left = [*uses.get("number", ()), *uses.get("hashed", ())]
    if left:
        counted[0] = f"| {counted[0]}"
        counted.insert(0, f"Discard({', '.join(map(repr, left))})")
    return (*counted, "| MultinomialNB()")


def _words(name: str, *, pairs: bool) -> str:
    """The steps that count the words of a text."""
    if pairs:
        counted = f"BagOfWords(on={name!r}, tokenizer_pattern={_MARKS}, ngram_range=(1, 2))"
        return f"{counted} | FeatureHasher(n_features={PAIR_COLUMNS})"
    return f"BagOfWords(on={name!r}) | FeatureHasher(n_features={WORD_COLUMNS})"


def _linear(uses: Uses, last: str, *, pairs: bool = False) -> tuple[str, ...]:
    """A model that adds up, behind the encoders that the features need."""
    uses = {use: names for use, names in uses.items() if names}
    if list(uses) == ["text"] and len(uses["text"]) == 1:
        return (_words(uses["text"][0], pairs=pairs), f"| {last}")
    if set(uses) == {"number"}:
        return (f"StandardScaler() | {last}",)
    encoders = {
        "number": "StandardScaler()",
        "amount": "Logarithms() | StandardScaler()",
        "category": "OneHotEncoder(drop_zeros=True)",
        "hashed": f"FeatureHasher(n_features={HASH_COLUMNS})",
    }
    selects = {use: f"Select({', '.join(map(repr, names))})" for use, names in uses.items()}
    if sum(map(len, selects.values())) > EXPRESSION_MAX:
        selects = {"number": "SelectType(numbers.Number)", "hashed": "SelectType(str)"}
    branches = [f"({selects[use]} | {encoder})" for use, encoder in encoders.items() if use in selects]
    branches += [
        f"(Select({name!r}) | {_words(name, pairs=pairs)} | Prefixer({name + ' '!r}))" for name in uses.get("text", ())
    ]
    if len(branches) == 1:
        return (branches[0], f"| {last}")
    inner = [f" + {branch}" for branch in branches[1:]]
    return (f"({branches[0]}", *inner[:-1], f"{inner[-1]})", f"| {last}")


def rules_for(found: Profile, past: Proposal) -> list[Rule]:
    """The baselines that a model for this table has to beat."""
    task = task_of(found.target.task)
    if not task.supervised:
        return []
    if task.labels.textual:
        return [Rule("majority"), Rule("last")]
    keys = [(key,) for key in past.context[:1]]
    if not task.labels.numeric:
        return [Rule("majority"), Rule("last"), *(Rule("mean_of", key) for key in keys)]
    group = past.groups[0] if past.groups else next(iter(keys), ())
    rules = [Rule("mean"), Rule("median"), Rule("last")]
    rules += [Rule("last_of", group), Rule("mean_of", group)] if group else []
    return [*rules, *(Rule("seasonal", group, period_ms) for period_ms in past.seasons)]


def deciding_metric(found: Profile) -> str:
    """The metric by which a trial chooses, of those that the task's backtests show.

    Where most labels are 0, a model that always says 0 has the least absolute error; squared errors reward the mean.
    """
    task = task_of(found.target.task)
    if task.labels.numeric:
        return "RMSE" if found.target.mostly_zero else "MAE"
    return "AveragePrecision" if 0 < found.target.rare < _UNEVEN else "Accuracy"
