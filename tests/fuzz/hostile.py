"""Inputs that nobody should send, made from a seed: broken bytes, and JSON whose every value may be absurd.

Most fields are good, so that there is a state worth harming: ids come from a small pool, so that events repeat and
labels meet them, early, late and twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import orjson

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Headers, Source, Tick
from tests.support.small import MODELS, NOW_MS

TASKS = ("binary", "multiclass", "regression", "anomaly")
KINDS = (*TASKS, "forecast", "series", "recommend", "reco", "guarded", "held back", "priced")
IDS = 300

_NUMBERS = (
    b"0",
    b"-0.0",
    b"1e308",
    b"-1e308",
    b"1e-320",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e15",
    b"1.0000000001e15",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1" * 400,
    b"0." + b"3" * 400,
    b"01",
    b"1.",
    b".5",
    b"0x10",
    b"+1",
    b"1_000",
    b"true",
    b"false",
    b"null",
)
_STRINGS = (
    b'""',
    b'"a"',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xe2\x80\xae\xe2\x80\xa8"',
    b'"' + b"x" * 3_000 + b'"',
    b'"' + b"\\u0001" * 40 + b'"',
    b'"' + b"\\u0001" * 12_000 + b'"',
    b'"\xc3\xa9\xcc\x81\xe2\x80\xae\xf0\x9d\x94\x98"',
    b'"__proto__"',
    b'"\\"; DROP"',
    b'"\'"',
    b'"\n"',
    b'"1"',
    b'"NaN"',
    b'"reset"',
)
_TIMES = (
    b'"2026-01-01T00:00:00Z"',
    b'"2026-02-30T00:00:00Z"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"9999-12-31T23:59:59.999999999Z"',
    b'"2026-W01-1"',
    b'"20260101T000000"',
    b'"2026-01-01"',
    b'"24:00"',
    b'"P1D"',
    b'""',
    b'"2016-12-31T23:59:60Z"',
    b"253402300799999",
    b"253402300800000",
    b"-62135596800000",
    b"-1",
    b"99999999999",
    b"100000000000",
    b"1e11",
    b"1e300",
    b"-1e300",
    b"1.7e9",
    b"1700000000.123456789",
    b"true",
    b"null",
    b"[]",
    b'"\xd9\xa1\xd9\xa2"',
)
_SHAPES = (
    b"[]",
    b"{}",
    b"[[[[[[[[1]]]]]]]]",
    b'{"a":{"a":{"a":null}}}',
    b"[" * 1_020 + b"]" * 1_020,
    b"[" * 3_000,
    b'{"a":' * 900 + b"1" + b"}" * 900,
)
_WHOLE = (
    b"",
    b" ",
    b"{",
    b"}",
    b"null",
    b"[]",
    b'""',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b"\xff" * 50,
    b'{"id":1}{"id":2}',
    b'{"id":1,}',
)
_COMMANDS = (
    b'"freeze"', b'"unfreeze"', b'"reset"', b'"review"', b'"review"', b'"review"', b'"release"', b'"drop"',
    b'"acknowledge"', b'"silence"', b'"snapshot"', b'"load"',
)  # fmt: skip
_OF_COMMANDS = {
    b'"decision"': (b'"approve"', b'"edit"', b'"refuse"'),
    b'"rung"': (b'"untrained"', b'"range"', b'"step"', b'"unfamiliar"', b'"width"'),
    b'"value"': (b"0.5", b"1", b"true", b'"a"', b"1e308"),
    b'"why"': (b'"since"', b'"\\u001b[2J"'),
    b'"by"': (b'"ann"', b'"\\u202ebob"', b'"' + b"x" * 200 + b'"'),
    b'"episode"': (b'"p-0-score-e1"', b'"p-0-x-drift-e9"'),
    b'"for_ms"': (b"0", b"1", b"31536000000"),
    b'"nonce"': (b'"' + b"a" * 32 + b'"', b'"' + b"b" * 32 + b'"'),
    b'"sent_ms"': (b"%d" % NOW_MS, b"%d" % (NOW_MS + 10**9), b"%d" % (2**53 - 1)),
    b'"pipeline"': (b'"p"', b'"q"'),
    b'"load"': (b'"1700000000000-aaaaaaaa"', b'"9999999999999-aaaaaaaa"'),
    b'"number"': (b"0", b"1"),
    b'"count"': (b"1", b"2"),
    b'"digest"': (b'"' + b"0" * 32 + b'"',),
    b'"content"': (b'"AAAA"', b'""'),
}
_RECORD_TIMES = (-1, 0, 1, NOW_MS, 2**31, 2**41, 2**53, 2**63 - 1)


def pipeline(task: str, **sections: object) -> Pipeline:
    """A pipeline whose every bound is small, so that hostile input meets all of them.

    Args:
        sections: in place of those of this function.
    """
    features: dict[str, object] = {
        "x": {"path": "deep.x", "type": "number"},
        "flag": {"type": "boolean", "missing": "omit"},
    }
    model = MODELS.get(task, "")
    if task != "anomaly":
        features["word"] = {"type": "string", "missing": "none"}
        model = model.replace("Select('x')", "Select('x', 'flag')")
    return parse_pipeline(
        {
            "pipeline": "p",
            "task": task,
            "event": {"id": "id", "time": "at", "features": features},
            "label": {
                "id": "id",
                "value": "y",
                "time": "at",
                "wait": "60s",
                "early": "30s",
                "pending_max": 40,
                "early_max": 15,
            },
            "model": model,
            "decision": {"threshold": 0.5} if task in ("binary", "anomaly") else None,
            "drift": {
                "score": "ADWIN()",
                "features": {"x": "PageHinkley()"},
                "warmup_labels": 50,
                "reference_size": 50,
            },
            "dedupe": {"horizon": "5m", "max": 100},
            "limits": {"record_bytes_max": 20_000, "output_bytes_max": 1_500, "string_max": 60, "classes_max": 6},
            **sections,
        }
    )


def varied(number: int) -> Pipeline:
    """One pipeline of many: every kind, with tight and with generous limits, with times of its own and the record's,
    with and without features of the past."""
    turn, place = divmod(number, len(KINDS))
    kind = KINDS[place]
    if turn % 4 == 3 and kind in TASKS:
        return remembering(kind)
    limits = {"limits": {"string_max": 100_000, "output_bytes_max": 900}} if turn % 2 else {}
    timed = pipeline(kind, **limits) if kind in TASKS else newer(kind, **limits)
    if turn % 3 != 2:
        return timed
    document = timed.resolved()
    for section in ("event", "label"):
        if document[section]:
            document[section]["time"] = None
    return parse_pipeline(document)


_Y: dict[str, object] = {"path": "deep.y", "type": "number", "missing": "omit"}
_HELD = {"untrained": {"labels_min": 10, "action": "hold"}, "hold": {"wait": "30s", "then": "last_good", "max": 10}}
_NEWER: dict[str, dict[str, object]] = {
    "forecast": {
        "task": "forecast", "model": "StandardScaler() | LinearRegression()", "metric_by": {"segment": "word"},
        "forecast": {
            "by": "who", "target": "y", "step": "1s", "horizons": 3, "season": 3, "window": 50, "series_max": 5,
        },
        "guard": {
            "range": {"min": -9, "max": 9, "action": "hold"}, "step": {"difference_max": 5, "action": "fallback"},
            "width": {"max": 9, "action": "withhold"}, "fallback": ["seasonal"],
            "hold": {"wait": "30s", "then": "withhold", "max": 5},
        },
    },
    "series": {
        "task": "forecast", "model": "time_series.HoltWinters(alpha=0.3, beta=0.1, gamma=0.2, seasonality=3)",
        "forecast": {
            "by": ["who", "place"], "target": "y", "step": "1s", "horizons": 3, "season": 3, "window": 50,
            "transform": "sqrt", "series_max": 5,
        },
    },
    "recommend": {
        "task": "recommend", "model": "LinearItems(items_max=5, columns_max=6)",
        "recommend": {"candidates": "items", "slate": 2, "policy": "linucb"},
    },
    "reco": {
        "task": "recommend", "model": "OneHotEncoder() | LinearRegression()",
        "recommend": {"catalogue": ["a", "b", "c", "d"], "slate": 2, "policy": "softmax", "items_max": 4},
    },
    "guarded": {
        "task": "regression", "model": "Select('x') | StandardScaler() | LinearRegression()",
        "guard": {
            **_HELD, "unfamiliar": {"score_max": 0.9, "action": "hold"},
            "range": {"min": -20, "max": 20, "action": "hold"}, "by": "place", "keys_max": 5,
            "step": {"ratio_max": 3, "difference_max": 4, "action": "fallback"},
            "fallback": [{"seasonal": "1h"}, "last_value", {"value": 0}],
        },
    },
    "held back": {
        "task": "binary", "model": "Select('x') | StandardScaler() | LogisticRegression()",
        "learning": {"quarantine": {"action": "hold", "wait": "30s", "max": 20}, "freeze_on": ["data_drift"]},
        "guard": {
            **_HELD, "share": {"positive_max": 0.3, "window": "2s", "action": "fallback"}, "fallback": ["last_good"],
        },
        "metric_span": "10s",
    },
    "priced": {
        "task": "regression", "model": "Select('x') | StandardScaler() | LinearRegression()",
        "metric_by": {"segment": "word"},
        "kpi": {"waste": {"unit": "EUR", "costs": {"over": 2, "under": "y"}, "by": "word", "span": "1m", "limit": 9}},
    },
}  # fmt: skip


def newer(kind: str, **sections: object) -> Pipeline:
    """A pipeline of one of the newer tasks, or with what guards, holds and prices; every bound is small."""
    features: dict[str, object] = {"x": {"path": "deep.x", "type": "number", "missing": 0}}
    word: dict[str, object] = {"type": "string", "missing": "none"}
    place: dict[str, object] = {"path": "word", "type": "key", "missing": "none"}
    more: dict[str, dict[str, object]] = {
        "forecast": {"y": _Y, "word": word}, "series": {"y": _Y}, "recommend": {"items": {"type": "items"}},
        "reco": {"word": word}, "priced": {"word": word},
    }  # fmt: skip
    contexts: dict[str, dict[str, object]] = {
        "forecast": {"who": "key"}, "series": {"who": "key", "place": place}, "guarded": {"place": place},
        "priced": {"y": _Y},
    }  # fmt: skip
    features = {**({} if kind == "series" else features), **more.get(kind, {})}
    event = {"id": "id", "time": "at", "features": features, "context": contexts.get(kind, {})}
    changes: dict[str, object] = {"event": event}
    document = {**_NEWER[kind], **changes, "decision": None, "drift": "none", **sections}
    task = str(document.pop("task"))
    if task == "forecast":
        document["label"] = None
    if task == "recommend":
        document["label"] = {"id": "id", "value": "y", "time": "at", "item": "item", "wait": "20s", "pending_max": 40}
    if kind == "held back":
        document |= {"decision": {"threshold": 0.5}}
        document["drift"] = {"error": "ADWIN(delta=0.5)", "features": {"x": "PageHinkley()"}, "warmup_labels": 20}
    return pipeline(task, **document)


def remembering(task: str) -> Pipeline:
    """A pipeline with features of the past, of the event's time and of text, whose every bound is small."""
    past: dict[str, object] = {
        "x": {"path": "deep.x", "type": "number", "missing": "omit"},
        "flag": {"type": "boolean", "missing": "omit"},
        "count": {"history": "count", "by": "who", "over": "10s"},
        "sum": {"history": "sum(y)", "by": "who", "over": "1m"},
        "std": {"history": "std(x)", "by": ["who", "place"], "over": "1m"},
        "least": {"history": "min(x)", "by": "who", "over": "1h"},
        "last": {"history": "last(y)", "by": []},
        "lag": {"history": "lag(y, 3)", "by": "place"},
        "mean": {"history": "decayed_mean(y)", "by": "who", "half_life": "10s"},
        "places": {"history": "distinct(place)", "by": "who", "over": "1m"},
        "since": {"history": "since_last", "by": "who"},
        "hour": {"calendar": "hour", "cyclic": "sin"},
        "month": {"calendar": "month"},
    }
    if task != "multiclass":
        past["rate"] = {"history": "label_mean", "by": "who", "over": "1m"}
        past["lowest"] = {"history": "label_min", "by": "who", "over": "1m"}
    past["answers"] = {"history": "label_distinct", "by": "who", "over": "1m"}
    model = "StandardScaler() | " + MODELS[task].split(" | ")[-1]
    if task == "anomaly":
        model = MODELS[task]
    else:
        past["word"] = {"type": "text", "missing": "none", "chars_max": 200}
        numbers = ", ".join(repr(name) for name in past if name != "word")
        scaled = f"(Select({numbers}) | StandardScaler())"
        model = f"{scaled} + BagOfWords(on='word') | {MODELS[task].split(' | ')[-1]}"
    return pipeline(
        task,
        event={
            "id": "id",
            "time": "at",
            "context": {
                "who": "key",
                "place": {"path": "word", "type": "key", "missing": "none"},
                "y": {"path": "deep.y", "type": "number", "missing": "omit"},
            },
            "features": past,
            "keys_max": 7,
        },
        model=model,
        drift={"score": "ADWIN()", "features": {"count": "PageHinkley()"}, "warmup_labels": 50, "reference_size": 50},
    )


class Stream:
    """An endless course of inputs of one shard.

    Args:
        seed: the same seed and pipeline give the same course.
    """

    def __init__(self, seed: int, made_for: Pipeline) -> None:
        self._random = Random(seed)
        self._topics = made_for.topics
        self._remembers = bool(made_for.event.context)
        self._slates = made_for.recommend is not None
        self._offsets: dict[str, int] = {}
        self._ticks = 0
        self._now_ms = NOW_MS

    def __iter__(self) -> Iterator[tuple[str, Source | Tick]]:
        while True:
            yield self.next()

    def next(self) -> tuple[str, Source | Tick]:
        """The topic's kind (`tick` without one), and the input."""
        random = self._random
        choice = random.random()
        self._now_ms += random.choice((0, 1, 50, 1_000))
        if choice < 0.03:
            self._ticks += 1
            return "tick", Tick(0, self._ticks, self._now_ms + random.choice((0, 0, 1_000, 100_000, -5_000)))
        kind = "events" if choice < 0.58 else "labels" if choice < 0.96 else "control"
        if kind == "labels" and self._topics.labels is None:
            kind = "events"
        topic = str(getattr(self._topics, kind))
        offset = self._offsets.get(topic, 0) + random.choice((1, 1, 1, 2, 1_000))
        self._offsets[topic] = offset
        stamp_ms = random.choice(_RECORD_TIMES) if random.random() < 0.03 else self._now_ms
        return kind, Source(topic, 0, offset, stamp_ms, self._key(), self._value(kind), self._headers())

    def _key(self) -> bytes | None:
        random = self._random
        return random.choice((None, b"", b"k", b"\xff\x00", b"k" * 5_000)) if random.random() < 0.1 else b"key"

    def _headers(self) -> Headers:
        random = self._random
        if random.random() < 0.95:
            return ()
        return random.choice(
            (
                (("", b""),),
                (("driftline.reason", b"forged"), ("driftline.reason", None)),
                tuple((f"h{number}", None) for number in range(300)),
                (("", None),) * 40_000,
                (("\U0001f600" * 400, b"\xff"),),
                (("large", b"x" * 15_000),),
            )
        )

    def _value(self, kind: str) -> bytes | None:
        random = self._random
        chance = random.random()
        if chance < 0.04:
            return None if chance < 0.01 else random.choice(_WHOLE)
        if chance < 0.06:
            return random.randbytes(random.choice((1, 10, 100, 1_000)))
        if chance < 0.065:
            return b'{"id":1,"pad":"' + b"x" * random.choice((19_000, 21_000, 60_000)) + b'"}'
        document = self._document(kind)
        return self._broken(document) if chance < 0.2 else document

    def _document(self, kind: str) -> bytes:
        """A document whose fields are good, mostly."""
        random = self._random
        if kind == "control":
            return self._command()
        fields = [
            (b'"id"', self._mostly(self._id, _NUMBERS + _STRINGS)),
            (b'"at"', self._mostly(self._time, _TIMES)),
        ]
        if kind == "events" and self._remembers:
            who = self._mostly(lambda: b'"%s"' % random.choice((b"a", b"b", b"c%d" % random.randrange(9))), _STRINGS)
            fields.append((b'"who"', who))
        if kind == "events":
            fields += [
                (
                    b'"deep"',
                    b'{"x":%s,"y":%s}' % (self._mostly(self._number, _NUMBERS), self._number())
                    if random.random() < 0.97
                    else self._absurd(),
                ),
                (b'"flag"', self._mostly(lambda: random.choice((b"true", b"false", b"null")), _NUMBERS)),
                (b'"word"', self._mostly(lambda: random.choice((b'"a"', b'"b"', b'"c"')), _STRINGS)),
            ]
        else:
            fields.append((b'"y"', self._mostly(self._label, _NUMBERS + _STRINGS)))
        if self._slates:
            name, good = (b'"items"', self._items) if kind == "events" else (b'"item"', self._item)
            fields.append((name, self._mostly(good, _STRINGS + _SHAPES)))
        if random.random() < 0.05:
            fields.append(random.choice(fields))
        if random.random() < 0.05:
            random.shuffle(fields)
        if random.random() < 0.03:
            del fields[random.randrange(len(fields))]
        return b"{" + b",".join(name + b":" + value for name, value in fields) + b"}"

    def _command(self) -> bytes:
        """A command, with some of what any of them may carry."""
        random = self._random
        fields = [(b'"command"', self._mostly(lambda: random.choice(_COMMANDS), _STRINGS))]
        for name, good in _OF_COMMANDS.items():
            if random.random() < 0.5:
                fields.append((name, self._mostly(partial(random.choice, good), _NUMBERS + _STRINGS + _SHAPES)))
        if random.random() < 0.5:
            fields.append((b'"event_id"', self._mostly(self._id, _NUMBERS + _STRINGS)))
        return b"{" + b",".join(name + b":" + value for name, value in fields) + b"}"

    def _item(self) -> bytes:
        return self._random.choice((b'"a"', b'"b"', b'"c"', b'"d"', b'"e"', b"7"))

    def _items(self) -> bytes:
        chosen = [self._item() for _ in range(self._random.choice((0, 1, 2, 3, 3, 3, 5, 40)))]
        return b"[" + b",".join(chosen) + b"]"

    def _mostly(self, good: Callable[[], bytes], absurd: tuple[bytes, ...]) -> bytes:
        chance = self._random.random()
        if chance < 0.94:
            return good()
        return self._random.choice(absurd) if chance < 0.985 else self._absurd()

    def _absurd(self) -> bytes:
        return self._random.choice(self._random.choice((_NUMBERS, _STRINGS, _TIMES, _SHAPES)))

    def _id(self) -> bytes:
        random = self._random
        number = (self._now_ms // 500 + random.randrange(IDS)) % 1_000_000
        return b"%d" % number if random.random() < 0.9 else b'"%d"' % number

    def _time(self) -> bytes:
        random = self._random
        moved = random.choice((0, 0, 0, 0, -20_000, 70_000, 10**10)) if random.random() < 0.2 else 0
        return b"%d" % (self._now_ms + moved)

    def _number(self) -> bytes:
        return orjson.dumps(self._random.gauss(0, 3))

    def _label(self) -> bytes:
        return self._random.choice((b"1", b"0", b"true", b"false", b"1", b"0"))

    def _broken(self, document: bytes) -> bytes:
        """A document that something happened to on its way."""
        random = self._random
        spoilt = bytearray(document)
        for _ in range(random.choice((1, 1, 1, 3, 20))):
            at = random.randrange(len(spoilt) or 1)
            match random.randrange(5):
                case 0:
                    del spoilt[at:]
                case 1 if spoilt:
                    spoilt[at] ^= 1 << random.randrange(8)
                case 2:
                    spoilt[at:at] = random.randbytes(random.randrange(1, 6))
                case 3:
                    spoilt[at:at] = spoilt[at : at + 30]
                case _:
                    spoilt[at : at + 3] = self._absurd()
        return bytes(spoilt)
