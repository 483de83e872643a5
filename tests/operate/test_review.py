"""The reviews that wait, from a topic that anyone may have written to, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from driftline.cli.review import lines, listed
from driftline.core.error import InputFileError, TopicError
from driftline.core.record import EventId, Source
from driftline.kafka.topic_rule import judge
from driftline.operate import review as reviews
from driftline.operate.review import open_reviews, read_held, value_of
from driftline.transport.port import Place
from tests.support.pipelines import settings
from tests.support.small import small

HELD = {
    "event_id": "e1",
    "state": "held",
    "deadline_ms": 1_700_000_000_000,
    "prediction": 425.2007842394666,
    "tripped": [{"rung": "range", "action": "hold", "limit": 400.0, "excess": 25.2007842394666}],
    "features": {"price": 0.10638299999999999, "item": "pear", "promo": True, "size": None},
    "last_value": 31.25,
    "at_deadline": {"prediction": 31.25, "instead": "last_value"},
}


class Topic:
    """One partition with these records."""

    def __init__(self, *values: bytes) -> None:
        self.left = [
            [Source("demand.review", 0, offset, 0, None, value) for offset, value in enumerate(values)],
            [],
        ]

    async def read(self, place: Place, count: int) -> list[Source]:
        return self.left.pop(0)


async def waiting(*values: object) -> dict[EventId, dict[str, Any]]:
    found: dict[EventId, dict[str, Any]] = {}
    topic = Topic(*[value if isinstance(value, bytes) else orjson.dumps(value) for value in values])
    await read_held(topic, Place("demand.review", 0), found)
    return found


async def test_a_review_waits_until_it_is_decided() -> None:
    other = {**HELD, "event_id": 2}
    assert await waiting(HELD, other) == {"e1": HELD, 2: other}
    assert await waiting(HELD, other, {"event_id": "e1", "state": "edited"}) == {2: other}


@pytest.mark.parametrize(
    "change",
    [
        {"deadline_ms": "soon"},
        {"event_id": ["e1"]},
        {"state": 1},
        {"tripped": {"rung": "range"}},
        {"tripped": ["range"]},
        {"forecast": [1]},
        {"forecast": {"series": [1]}},
        {"forecast": {"values": 3}},
        {"at_deadline": {"forecast": 7}},
        {"tripped": [{"rung": "range", "limit": "400", "excess": 1}]},
        {"features": [1]},
        {"at_deadline": 3},
    ],
)
async def test_what_is_no_review_is_passed_over(change: dict[str, Any]) -> None:
    assert await waiting({**HELD, **change}, b"{", b"[]", b"", {"event_id": "e3", "state": "held"}) == {
        "e3": {"event_id": "e3", "state": "held"}
    }


async def test_a_review_topic_that_is_missing_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def admin(_: object) -> AsyncIterator[None]:
        yield None

    async def none_there(_: object) -> dict[str, int]:
        return {"p.events": 1}

    monkeypatch.setattr(reviews, "admin", admin)
    monkeypatch.setattr(reviews, "partition_counts", none_there)
    holding = small("regression", guard={"range": {"max": 5, "action": "hold"}, "hold": {"wait": "1h"}})
    broker: Any = None
    with pytest.raises(TopicError, match=r"topic p\.review does not exist; create it with `driftline topics create"):
        await open_reviews(broker, holding, settings("localhost:1"))
    with pytest.raises(InputFileError, match="no rung of `guard` has the action hold"):
        await open_reviews(broker, small("regression"), settings("localhost:1"))
    (problem,) = [one for one in judge(holding, {}) if one.topic == "p.review"]
    assert problem.fatal
    assert "driftline topics create" in str(problem)


def test_a_terminal_shows_six_digits() -> None:
    assert lines(HELD) == [
        "e1: the model predicts 425.201, held by range, +25.2008 beyond 400; last value of its series 31.25",
        "  price=0.106383, item='pear', promo=True, size=nothing",
        "  at 2023-11-14 22:13:20 (event time) 31.25 is served (last_value)",
    ]
    assert lines({"event_id": "e3", "state": "held"})[2] == "  at - (event time) nothing is served"


def test_a_list_fits_eighty_columns_and_says_how_many_wait_and_what_to_do() -> None:
    long = {**HELD, "event_id": 7, "features": {f"a_feature_{number}": 1234.5678 for number in range(9)}}
    other = {**HELD, "event_id": "e9", "tripped": [{"rung": "step", "limit": 1e9, "excess": -123456.789}]}
    shown = list(listed([HELD, long, other]))
    assert shown[0] == "3 wait: 2 held by range, 1 held by step"
    assert "driftline review" in shown[-1]
    assert max(map(len, shown)) <= 80
    assert [line.split(":")[0] for line in shown if not line.startswith(" ")][1:-1] == ["e1", "7", "e9"]
    assert list(listed([])) == ["nothing waits for a review"]


@pytest.mark.parametrize(
    ("text", "predicted", "value"),
    [
        ("2", 1, 2), ("2", "1", "2"), ("two", 1, "two"), ("false", True, False), ("2", True, "2"),
        ("true", "a", "true"), ("2", None, "2"), ("-3", 0, -3),
    ],
)  # fmt: skip
def test_a_class_that_a_person_writes_is_of_the_type_that_classes_have(
    text: str, predicted: object, value: object
) -> None:
    found = value_of(text, small("multiclass"), predicted)
    assert (found, type(found)) == (value, type(value))
