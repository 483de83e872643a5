"""The models that are measured: a pipeline, records for it, the same work in plain River, and how good its scores are.

Everything is made from a seed. A label comes `LATE` events after its event; what a pair costs does not depend on the
numbers. `quality` says how good scores are over the second half, as they were served.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from statistics import fmean
from typing import Any, Final, NamedTuple

from river.compose import Select, TransformerUnion
from river.feature_extraction import BagOfWords
from river.forest import ARFClassifier
from river.linear_model import LogisticRegression
from river.naive_bayes import MultinomialNB
from river.optim import AdaGrad
from river.preprocessing import FeatureHasher, OneHotEncoder, StandardScaler
from river.time_series import HoltWinters
from river.tree import HoeffdingTreeClassifier

from benchmarks import case
from benchmarks.contender.past import Past
from benchmarks.work import Pairs, Series, Slates, Work, gain
from driftline.core.pipeline import Pipeline, parse_pipeline

LATE: Final = 200
SEASON, HORIZONS, SERIES = 24, 24, 16
KNOWN: Final = SEASON + 5  # observations of a series before it is forecast
ITEMS: Final = tuple(f"article-{number}" for number in range(10))
READERS: Final = ("student", "commuter", "parent", "retired")
DEVICES: Final = ("phone", "tablet", "desktop")
WAIT_MS: Final = 10_000
CLOSING_MS: Final = 60_000
_GUARD: Final = {**case.RUNGS, "range": {"min": 0, "max": 1}, "step": {"difference_max": 1}, "fallback": "last_value"}
"""Five rungs on which nothing trips once the model has learned: a sure model goes from 0 to 1 and back."""
_VOCABULARY, _WORDS, _HASHED = 2_000, 20, 4_096
_HOUR_MS: Final = 3_600_000


class Made(NamedTuple):
    """A record for the events' or the labels' topic."""

    is_label: bool
    number: int
    time_ms: int
    document: dict[str, Any]

    @property
    def partition(self) -> int:
        return self.number % case.PARTITIONS


Scores = Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Model:
    """One row of the table.

    Args:
        share: of the pairs that are asked for: dear models get fewer.
        document: what its pipeline file says beyond names and topics.
        records: so many events and their labels, in order of time.
        work: the same without Driftline.
        quality: of scores, by event id.
        within: how far another contender's quality may be from River's: they learn in another order.
        closing: events beyond those that are asked for, which end the wait of the last ones.
        least: pairs that say something about its quality.
    """

    title: str
    share: float
    document: dict[str, Any]
    records: Callable[[int], Iterator[Made]]
    work: Callable[[], Work]
    quality: Callable[[Scores, Sequence[Made]], float]
    within: float
    closing: int = 0
    least: int = 3 * LATE

    def pipeline(
        self,
        name: str,
        topics: tuple[str, str | None] | None = None,
        delivery: str = "exactly_once",
        *,
        guarded: bool = False,
    ) -> Pipeline:
        """What Driftline runs; its own topics are called after its name.

        Args:
            guarded: with five rungs of a guard.
        """
        events, labels = topics or (f"{name}.events", f"{name}.labels" if "label" in self.document else None)
        read = {"events": events} if labels is None else {"events": events, "labels": labels}
        guard = {"guard": _GUARD} if guarded else {}
        return parse_pipeline({"pipeline": name, "topics": read, "delivery": delivery, **self.document, **guard})

    @property
    def guardable(self) -> bool:
        """Whether the five rungs fit its task."""
        return bool(self.document["task"] == "binary")

    def pairs(self, asked: int) -> int:
        return max(int(asked * self.share), self.least)


# -- records


def _start_ms(span_ms: int) -> int:
    """So that the last record lies in the recent past."""
    return int(time.time() * 1000) - span_ms - CLOSING_MS - 120_000


def _paired(rows: Iterator[tuple[dict[str, Any], bool]], count: int) -> Iterator[Made]:
    begin_ms = _start_ms((count + LATE) * case.STEP_MS)
    truths: list[bool] = []
    for number in range(count + LATE):
        at_ms = begin_ms + number * case.STEP_MS
        if number >= LATE:
            late = number - LATE
            yield Made(True, late, at_ms, {"id": late, "label": int(truths[late])})
        if number < count:
            row, truth = next(rows)
            truths.append(truth)
            yield Made(False, number, at_ms, {"id": number, **row})


def _of_case(kind: case.Kind) -> Callable[[int], Iterator[Made]]:
    def rows(count: int) -> Iterator[tuple[dict[str, Any], bool]]:
        for sample in case.samples(count, kind=kind):
            yield {name: value for name, value in sample.event.items() if name != "id"}, bool(sample.label)

    return lambda count: _paired(rows(count), count)


def _texts(count: int) -> Iterator[Made]:
    """Words by Zipf's law; each speaks a little for one label."""
    source = random.Random(7)
    weights = list(accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
    speaks = [source.gauss(0, 1) for _ in range(_VOCABULARY)]

    def rows() -> Iterator[tuple[dict[str, Any], bool]]:
        while True:
            words = source.choices(range(_VOCABULARY), cum_weights=weights, k=_WORDS)
            truth = sum(speaks[word] for word in words) + source.gauss(0, 1) > 0
            yield {"text": " ".join([f"w{_letters(word)}" for word in words])}, truth

    return _paired(rows(), count)


def _letters(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def _loads(count: int) -> Iterator[Made]:
    """Hourly loads of some buildings, with a day's season."""
    source = random.Random(7)
    sizes = [source.lognormvariate(4, 0.3) for _ in range(SERIES)]
    begin_ms = (_start_ms(count // SERIES * _HOUR_MS) // _HOUR_MS) * _HOUR_MS
    for number in range(count):
        hour, series = divmod(number, SERIES)
        load = sizes[series] * (1 + 0.4 * math.sin(2 * math.pi * hour / SEASON + series)) * exp(source.gauss(0, 0.05))
        row = {"id": number, "series": f"b{series}", "load": round(load, 3)}
        yield Made(False, number, begin_ms + hour * _HOUR_MS + series, row)


def _requests(count: int) -> Iterator[Made]:
    """Requests, and clicks a few seconds later; whether an article is clicked depends on it and on the reader."""
    source = random.Random(7)
    appeal = {(reader, item): source.gauss(-1, 1) for reader in READERS for item in ITEMS}
    begin_ms = _start_ms(count * 10 * case.STEP_MS)
    made: list[Made] = []
    for number in range(count + case.PARTITIONS):
        closing_ms = CLOSING_MS if number >= count else 0
        at_ms = begin_ms + number * 10 * case.STEP_MS + closing_ms
        reader = source.choice(READERS)
        request = {"reader": reader, "device": source.choice(DEVICES), "evening": source.random() < 0.4}
        made.append(Made(False, number, at_ms, {"id": number, **request}))
        items = [item for item in ITEMS if closing_ms or source.random() < 1 / (1 + exp(-appeal[reader, item]))]
        for item in items[: 1 if closing_ms else None]:
            click_ms = at_ms + source.randrange(500, 5_000)
            made.append(Made(True, number, click_ms, {"id": number, "item": item, "clicked": 1}))
    return iter(sorted(made, key=lambda one: (one.time_ms, not one.is_label)))


# -- how good scores are


def _accuracy(scores: Scores, made: Sequence[Made]) -> float:
    """Share of the right ones."""
    truths = {one.number: bool(one.document["label"]) for one in made if one.is_label}
    late = [number for number in truths if number >= len(truths) // 2]
    return fmean((scores[number]["probability"] > 0.5) == truths[number] for number in late)


def _error(scores: Scores, made: Sequence[Made]) -> float:
    """Mean absolute error over all horizons, as a share of the mean load."""
    loads = {one.number: one.document["load"] for one in made}
    errors, count = [], len(loads)
    for number in range(count // 2, count - HORIZONS * SERIES):
        document = scores[number]
        values = document["forecast"]["values"] if "forecast" in document else document["values"]
        errors += [abs(value - loads[number + (ahead + 1) * SERIES]) for ahead, value in enumerate(values)]
    return fmean(errors) / fmean(loads.values())


def _gain(scores: Scores, made: Sequence[Made]) -> float:
    """Clicks, each worth less the further down it is, a request."""
    clicks: dict[int, set[str]] = {}
    for one in made:
        clicks.setdefault(one.number, set())
        if one.is_label:
            clicks[one.number].add(one.document["item"])
    late = range(len(clicks) // 2, len(clicks) - case.PARTITIONS)
    return fmean(gain([one["item"] for one in scores[number]["slate"]], clicks[number]) for number in late)


# -- the same models, as River writes them


def _mixed() -> Any:
    numbers, columns = Select(*case.NUMBERS) | StandardScaler(), Select(*case.COLUMNS) | OneHotEncoder(drop_zeros=True)
    hashed = Select("merchant") | FeatureHasher(n_features=1024, seed=1)
    return TransformerUnion(numbers, columns, hashed) | LogisticRegression(optimizer=AdaGrad(0.1))


def _mixed_past() -> Any:
    numbers = Select(*case.NUMBERS, *case.HISTORY) | StandardScaler()
    columns = Select(*case.COLUMNS) | OneHotEncoder(drop_zeros=True)
    hashed = Select("merchant") | FeatureHasher(n_features=1024, seed=1)
    return TransformerUnion(numbers, columns, hashed) | LogisticRegression(optimizer=AdaGrad(0.1))


def _clicked() -> Any:
    return OneHotEncoder(drop_zeros=True) | LogisticRegression(optimizer=AdaGrad(0.1))


def _smoothing() -> HoltWinters:
    return HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality=SEASON)


_STRINGS: Final = dict.fromkeys((*case.COLUMNS, "merchant"), "string")
_NUMBERS: Final = dict.fromkeys(case.FEATURES, "number")
_MIXED: Final = dict.fromkeys(case.NUMBERS, "number") | _STRINGS
_SIX: Final = ", ".join(map(repr, case.NUMBERS))
_MIXED_PAST: Final = case.MIXED_MODEL.replace(_SIX, f"{_SIX}, {', '.join(map(repr, case.HISTORY))}")


def _binary(features: dict[str, Any], model: str, **event: Any) -> dict[str, Any]:
    return {
        "task": "binary",
        "event": {"id": "id", "features": features, **event},
        "label": {"id": "id", "value": "label", "wait": "1d"},
        "model": model,
        "metrics": list(case.METRICS),
    }


def _numbers(title: str, share: float, text: str, model: Callable[[], Any]) -> Model:
    return Model(
        title,
        share,
        _binary(_NUMBERS, text),
        _of_case("numbers"),
        lambda: Pairs(model(), case.FEATURES),
        _accuracy,
        within=0.04,
    )


def _words(title: str, share: float, text: str, model: Callable[[], Any]) -> Model:
    document = _binary({"text": "text"}, text)
    return Model(title, share, document, _texts, lambda: Pairs(model(), ("text",)), _accuracy, within=0.04)


MODELS: Final[dict[str, Model]] = {
    "numbers": _numbers(
        "nine numbers, StandardScaler, LogisticRegression",
        1.0,
        case.MODEL,
        lambda: StandardScaler() | LogisticRegression(),
    ),
    "mixed": Model(
        "mixed data, as `init` writes it",
        1.0,
        _binary(_MIXED, case.MIXED_MODEL),
        _of_case("mixed"),
        lambda: Pairs(_mixed(), tuple(_MIXED)),
        _accuracy,
        within=0.04,
    ),
    "history": Model(
        "the same with six history features",
        0.6,
        _binary(_MIXED | case.HISTORY, _MIXED_PAST, context={"card": "key"}),
        _of_case("mixed history"),
        lambda: Pairs(_mixed_past(), tuple(_MIXED), Past()),
        _accuracy,
        within=0.04,
    ),
    "tree": _numbers(
        "nine numbers, HoeffdingTreeClassifier", 0.8, "HoeffdingTreeClassifier()", HoeffdingTreeClassifier
    ),
    "forest": _numbers(
        "nine numbers, ARFClassifier of 10 trees",
        0.1,
        "ARFClassifier(n_models=10)",
        lambda: ARFClassifier(n_models=10, seed=42),
    ),
    "words": _words(
        "texts of 20 words, hashed, LogisticRegression (AdaGrad)",
        0.5,
        f"BagOfWords(on='text') | FeatureHasher(n_features={_HASHED}) | LogisticRegression(optimizer=AdaGrad(0.1))",
        lambda: (
            BagOfWords(on="text")
            | FeatureHasher(n_features=_HASHED, seed=1)
            | LogisticRegression(optimizer=AdaGrad(0.1))
        ),
    ),
    "bayes": _words(
        "texts of 20 words, hashed, MultinomialNB",
        0.3,
        f"BagOfWords(on='text') | FeatureHasher(n_features={_HASHED}, alternate_sign=False) | MultinomialNB()",
        lambda: (
            BagOfWords(on="text") | FeatureHasher(n_features=_HASHED, seed=1, alternate_sign=False) | MultinomialNB()
        ),
    ),
    "forecast": Model(
        f"{HORIZONS} horizons of {SERIES} series, HoltWinters for each",
        0.5,
        {
            "task": "forecast",
            "event": {"id": "id", "features": {"load": "number"}, "context": {"series": "key"}},
            "forecast": {"by": "series", "target": "load", "step": "1h", "horizons": HORIZONS, "season": SEASON},
            "model": f"HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality={SEASON})",
        },
        _loads,
        lambda: Series(_smoothing, HORIZONS, KNOWN),
        _error,
        within=0.005,
        least=100 * SERIES,
    ),
    "slate": Model(
        "a slate of ten items, LogisticRegression (AdaGrad) of clicks",
        0.15,
        {
            "task": "recommend",
            "event": {"id": "id", "features": {"reader": "string", "device": "string", "evening": "boolean"}},
            "label": {"id": "id", "item": "item", "value": "clicked", "wait": f"{WAIT_MS // 1000}s"},
            "recommend": {"catalogue": list(ITEMS), "slate": len(ITEMS), "policy": "epsilon_greedy"},
            "model": "OneHotEncoder(drop_zeros=True) | LogisticRegression(optimizer=AdaGrad(0.1))",
        },
        _requests,
        lambda: Slates(_clicked(), ITEMS, WAIT_MS, case.PARTITIONS),
        _gain,
        within=0.15,
        closing=case.PARTITIONS,
    ),
}
