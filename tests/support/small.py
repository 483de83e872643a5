"""Small pipelines and records for tests of the core and the codec.

An event is `{"id", "x", "word"}`, its label `{"id", "y"}`.
Times are milliseconds; record time and event time are the same unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from driftline.core.oracle import Oracle
from driftline.core.output import Output
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.record import (
    CommandName,
    Control,
    Event,
    EventId,
    FeatureValue,
    Label,
    LabelValue,
    Malformed,
    Record,
    Source,
    Tick,
)
from driftline.core.shard.state import Shard
from tests.support.folding import step

NOW_MS = 1_700_000_000_000
MODEL = "(Select('x') | StandardScaler()) + (Select('word') | OneHotEncoder()) | LogisticRegression()"
MODELS = {
    "binary": MODEL,
    "multiclass": MODEL.replace("LogisticRegression()", "GaussianNB()"),
    "regression": MODEL.replace("LogisticRegression()", "LinearRegression()"),
    "anomaly": "HalfSpaceTrees(n_trees=3, height=3, window_size=10)",
    "recommend": "LinearItems()",
}


def small(task: str = "binary", **sections: Any) -> Pipeline:
    """A pipeline; `sections` are merged into its document, `label=None` takes a section out."""
    features: dict[str, Any] = {"x": "number", "word": {"type": "string", "missing": "none"}}
    if task == "anomaly":
        del features["word"]
    document: dict[str, Any] = {
        "pipeline": "p",
        "task": task,
        "event": {"id": "id", "features": features},
        "label": {"id": "id", "value": "y", "wait": "100s"},
        "model": MODELS[task],
    }
    if task == "recommend":
        document["label"]["item"] = "item"
        document["recommend"] = {"catalogue": ["a", "b", "c"], "slate": 2, "policy": "epsilon_greedy"}
    for name, section in sections.items():
        if section is None:
            document.pop(name, None)
        elif isinstance(section, dict) and isinstance(document.get(name), dict):
            document[name] = {**document[name], **section}
        else:
            document[name] = section
    return parse_pipeline(document)


def shard(task: str = "binary", **sections: Any) -> Shard:
    """A fresh shard of such a pipeline."""
    return Shard(small(task, **sections), 0)


def source(
    topic: str, offset: int, value: bytes | None = None, time_ms: int = NOW_MS, key: bytes | None = None
) -> Source:
    return Source(topic, 0, offset, time_ms, key, value)


def event(
    event_id: EventId,
    time_ms: int = NOW_MS,
    x: FeatureValue = 1.0,
    *,
    offset: int = 0,
    ahead: bool = False,
    word: bool = True,
) -> Event:
    """An event; without `word`, for a pipeline that declares `x` alone."""
    features: tuple[FeatureValue, ...] = (x, "a") if word else (x,)
    origin = source("p.events", offset, time_ms=time_ms, key=str(event_id).encode())
    return Event(origin, time_ms, time_ms, event_id, features, ahead)


def label(
    event_id: EventId, value: LabelValue | None, time_ms: int = NOW_MS, *, offset: int = 0, ahead: bool = False
) -> Label:
    origin = source("p.labels", offset, time_ms=time_ms, key=str(event_id).encode())
    return Label(origin, time_ms, time_ms, event_id, value, ahead)


def control(command: CommandName, time_ms: int = NOW_MS, *, offset: int = 0) -> Control:
    return Control(source("p.control", offset, time_ms=time_ms), time_ms, command)


def malformed(reason: str, *, offset: int = 0) -> Malformed:
    return Malformed(source("p.events", offset, b"?"), NOW_MS, reason, "why")


def tick(time_ms: int, number: int = 9) -> Tick:
    return Tick(0, number, time_ms)


def fold(shard: Shard, *records: Record, oracle: Oracle | None = None) -> list[Output]:
    """Everything that these records make, one after the other."""
    return [output for record in records for output in step(shard, record, oracle)]


def kinds(outputs: Iterable[Output]) -> list[str]:
    """What each output is, in a word: an outcome's kind, a rejected record's reason, else its class."""
    return [str(getattr(one, "kind", None) or getattr(one, "reason", None) or type(one).__name__) for one in outputs]


def event_bytes(event_id: object, x: object = 1.0, **more: object) -> bytes:
    return orjson.dumps({"id": event_id, "x": x, "word": "a", **more})


def label_bytes(event_id: object, y: object = 1, **more: object) -> bytes:
    return orjson.dumps({"id": event_id, "y": y, **more})


def chosen(outputs: Sequence[Output], kind: type) -> list[Any]:
    return [one for one in outputs if isinstance(one, kind)]


def only(outputs: Sequence[Output], kind: type) -> Any:
    """The one output that there is, which must be of this kind."""
    assert len(outputs) == 1, outputs
    assert isinstance(outputs[0], kind)
    return outputs[0]
