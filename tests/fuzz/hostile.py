"""Inputs that nobody should send, made from a seed: broken bytes, and JSON whose every value may be absurd.

Most fields are good, so that there is a state worth harming: ids come from a small pool, so that events repeat and
labels meet them, early, late and twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import orjson

from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import Headers, Source, Tick
from tests.support.small import MODELS, NOW_MS

TASKS = ("binary", "multiclass", "regression", "anomaly")
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
    model = MODELS[task]
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
    """One pipeline of many: every task, with tight and with generous limits, with times of its own and the record's,
    with and without features of the past."""
    turn, place = divmod(number, len(TASKS))
    if turn % 4 == 3:
        return remembering(TASKS[place])
    limits = {"limits": {"string_max": 100_000, "output_bytes_max": 900}} if turn % 2 else {}
    timed = pipeline(TASKS[place], **limits)
    if turn % 3 != 2:
        return timed
    document = timed.resolved()
    document["event"]["time"] = document["label"]["time"] = None
    return parse_pipeline(document)


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
            return b'{"command":%s}' % self._mostly(
                lambda: random.choice((b'"freeze"', b'"unfreeze"', b'"reset"')), _STRINGS
            )
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
        if random.random() < 0.05:
            fields.append(random.choice(fields))
        if random.random() < 0.05:
            random.shuffle(fields)
        if random.random() < 0.03:
            del fields[random.randrange(len(fields))]
        return b"{" + b",".join(name + b":" + value for name, value in fields) + b"}"

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
