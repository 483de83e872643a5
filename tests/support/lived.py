"""Shards of every kind of pipeline that have lived a while, and how their life goes on."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import orjson

from driftline.codec.encode import Encoder, Message
from driftline.codec.inputs import Inputs
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Record, Source, Tick
from driftline.core.shard.state import Shard

NOW_MS: Final = 1_700_000_000_000
_LABEL: Final = {"id": "id", "value": "y", "time": "at", "wait": "10m", "early": "1m"}
_DRIFT: Final = {"score": "ADWIN()", "warmup_labels": 20, "reference_size": 20}
_WORDS: Final = "(Select('x') | StandardScaler()) + (Select('word') | OneHotEncoder())"
_RUNGS: Final = {
    "untrained": {"labels_min": 10, "action": "hold"},
    "unfamiliar": {"score_max": 0.9, "action": "hold"},
    "hold": {"wait": "1h", "then": "last_good", "max": 10},
}
_OBSERVED: Final = {"demand": "number", "promo": "number", "shop": "string"}
_FORECAST: Final = {"by": "item", "target": "demand", "step": "1d", "horizons": 4, "season": 3, "window": 50}
_ASKED: Final = {"user": "string", "hour": "number"}
_SLATE: Final = {"slate": 2, "catalogue": list("abcdef")}
_PLAIN: Final = {"x": "number", "word": {"type": "string", "missing": "none"}}


def _event(features: dict[str, Any], **context: str) -> dict[str, Any]:
    return {"id": "id", "time": "at", "features": features, "context": context}


def _sections() -> dict[str, dict[str, Any]]:
    observed = _event(_OBSERVED, item="key")
    clicks = {**_LABEL, "item": "item", "wait": "20s"}
    placed = _event(_PLAIN, place="key")
    linear = f"{_WORDS} | LinearRegression()"
    regressors = "Discard('shop') | StandardScaler() | LinearRegression()"
    forecast = {"task": "forecast", "event": observed, "forecast": _FORECAST}
    asked = {"task": "recommend", "event": _event(_ASKED), "label": clicks}
    return {
        "forecast": {
            **forecast, "model": regressors, "metric_by": {"segment": "shop"},
            "guard": {
                "range": {"min": 9, "action": "fallback"},
                "fallback": [{"model": "SeasonalRegression()"}, "seasonal"],
            },
        },
        "regression ahead": {**forecast, "model": "SeasonalRegression(half_life=90)"},
        "series": {
            "task": "forecast", "event": _event({"demand": "number"}, item="key"),
            "model": "time_series.HoltWinters(alpha=0.3, beta=0.1, gamma=0.2, seasonality=3)",
            "forecast": {**_FORECAST, "transform": "sqrt", "series_max": 4},
            "guard": {
                "range": {"min": 8, "max": 14, "action": "hold"}, "step": {"difference_max": 2, "action": "withhold"},
                "hold": {"wait": "9d", "then": "withhold"},
            },
        },
        "slates": {
            **asked, "model": "LinearItems(items_max=5, columns_max=6)", "recommend": _SLATE,
            "drift": {"error": "ADWIN()", "warmup_labels": 20},
        },
        "popular": {
            **asked, "model": "OneHotEncoder() | LinearRegression()",
            "recommend": {**_SLATE, "policy": "softmax", "items_max": 4},
        },
        "guarded number": {
            "task": "regression", "event": placed, "model": linear, "label": _LABEL, "drift": _DRIFT,
            "guard": {
                **_RUNGS, "range": {"min": -20, "max": 20, "action": "hold"},
                "step": {"ratio_max": 3, "difference_max": 4, "action": "fallback"}, "by": "place", "keys_max": 5,
                "fallback": [{"model": "Select('x') | PARegressor()"}, {"seasonal": "1h"}, "last_value", {"value": 0}],
            },
        },
        "guarded class": {
            "task": "binary", "event": placed, "model": f"{_WORDS} | LogisticRegression()", "drift": _DRIFT,
            "label": {**_LABEL, "correct_for": "10m"}, "decision": {"threshold": 0.5}, "metrics": ["ROCAUC()", "F1()"],
            "kpi": {"loss": {"unit": "EUR", "costs": {"false_negative": 9.5, "false_positive": 5}, "by": "word"}},
            "guard": {
                **_RUNGS, "step": {"difference_max": 0.3, "action": "clip"}, "by": "place",
                "share": {"positive_max": 0.3, "window": "2s", "action": "fallback"}, "fallback": ["last_value"],
            },
        },
        "held back": {
            "task": "binary", "label": {**_LABEL, "retract": True},
            "model": (
                "(Select('x', 'mean_1h', 'known', 'since') | StandardScaler()) + (Select('word') | OneHotEncoder()) "
                "| LogisticRegression()"
            ),
            "event": {
                **placed, "features": {
                    **_PLAIN, "mean_1h": {"history": "mean(x)", "by": "place", "over": "1h"},
                    "known": {"history": "label_mean", "by": "place", "over": "1h"},
                    "since": {"history": "since_last", "by": "place"},
                },
            },
            "learning": {"quarantine": {"action": "hold", "wait": "1h"}, "freeze_on": ["label_delay"]},
            "guard": {
                "untrained": {"labels_min": 30, "action": "fallback"},
                "fallback": [{"model": "Select('x') | GaussianNB()"}],
            },
            "drift": {
                **_DRIFT, "error": {"detector": "ADWIN(delta=0.1)", "warning": "ADWIN(delta=0.5)", "reaction": "swap"},
            }, "metric_span": "10m",
        },
        "priced": {
            "task": "regression", "event": _event(_PLAIN), "model": linear, "label": _LABEL,
            "kpi": {"waste": {"unit": "EUR", "costs": {"over": 2, "under": "x"}, "span": "1m"}},
            "drift": {**_DRIFT, "error": {"detector": "ADWIN(delta=0.1)", "reaction": "reset"}},
        },
        "texts": {
            "task": "multiclass", "event": _event({"body": {"type": "text"}}), "label": _LABEL,
            "model": "TFIDF(on='body') | MultinomialNB()", "drift": {**_DRIFT, "features": {"body": "ADWIN()"}},
        },
    }  # fmt: skip


def pipelines() -> dict[str, Pipeline]:
    """One of each kind."""
    return {name: parse_pipeline({"pipeline": "p", **document}) for name, document in _sections().items()}


class Life:
    """Feeds a shard, from a course that depends on nothing but how far it is.

    Args:
        at: how far.
    """

    def __init__(self, pipeline: Pipeline, shard: Shard | None = None, at: int = 0) -> None:
        self.pipeline = pipeline
        self.shard = Shard(pipeline, 0) if shard is None else shard
        self._inputs, self._encode = Inputs(pipeline), Encoder(pipeline, 0).encode
        self._at, self._offset, self._random = at, 10 * at, Random(at)
        self._every_ms = 43_200_000 if pipeline.forecast is not None else 1_000

    def run(self, count: int) -> None:
        for _ in range(count):
            self._one()

    def end(self) -> None:
        """All waits end."""
        for hour in range(1, 6):
            now_ms = NOW_MS + self._at * self._every_ms + hour * 3_600_000
            self._fold(Tick(0, 10_000 + self._at + hour, now_ms))
        self._at += 5 * 3_600_000 // self._every_ms + 1

    def _fold(self, record: Record) -> list[Message]:
        return [self._encode(one) for one in step(self.shard, record, Oracle()).outputs]

    def _give(self, topic: str | None, now_ms: int, **document: Any) -> None:
        source = Source(topic or "", 0, self._offset, now_ms, b"k", orjson.dumps(document))
        self._offset += 1
        self._fold(self._inputs.decoders[self._inputs.rank[source.topic]](source))

    def _one(self) -> None:
        random, number, topics = self._random, self._at, self.pipeline.topics
        now_ms = NOW_MS + number * self._every_ms
        self._at += 1
        x = random.gauss(0, 3)
        self._give(
            topics.events, now_ms, id=f"e{number}", at=now_ms - (0 if number % 17 else 5 * self._every_ms),
            item=random.choice("abc") if number % 9 else f"i{number % 27}", demand=10 + number % 6 + random.random(),
            promo=random.random(), shop=random.choice("st"), user=random.choice("uvw"), hour=random.random(),
            x=x if number % 13 else 50 * x, word=random.choice("abc") if number % 19 else f"w{number}",
            place=random.choice("pq"), body=" ".join(random.choice(["red", "blue", f"w{number}"]) for _ in range(5)),
        )  # fmt: skip
        if self.pipeline.label is not None and number > 5:
            for back in (5,) if number % 7 else (5, 2, -1):
                truth = _TRUTHS[self.pipeline.task](random, x)
                item = random.choice("abcdef")
                self._give(topics.labels, now_ms, id=f"e{number - back}", at=now_ms, y=truth, item=item)
        if self.pipeline.guard is not None and number % 11 == 4:
            self._decide(number, now_ms)
        if number % 40 == 39:
            self._give(topics.control, now_ms, command=random.choice(["freeze", "unfreeze", "reset"]))

    def _decide(self, number: int, now_ms: int) -> None:
        held = list(self.shard.kept.held)
        about = {"event_id": self._random.choice(held)} if held and number != 48 else {"rung": "untrained"}
        decision = self._random.choice(["approve", "edit", "refuse"])
        value = {"value": 0.5} if decision == "edit" else {}
        self._give(
            self.pipeline.topics.control, now_ms, command="review", by="ann", decision=decision, **about, **value
        )


_TRUTHS: Final[dict[str, Callable[[Random, float], Any]]] = {
    "binary": lambda random, x: x > 0,
    "regression": lambda random, x: 2 * x,
    "multiclass": lambda random, x: random.choice("abc"),
    "recommend": lambda random, x: random.choice([0, 1, 1.5]),
}
