"""Candidates learn from the slates that were served, read from the scores topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import structs

from driftline.backtest.served import Served, Shown
from driftline.codec.encode import Encoder
from driftline.core.output import Prediction, Score
from driftline.core.place import Layout
from driftline.core.record import Event, Source
from driftline.core.shard.state import Shard
from driftline.core.slate import shown_text
from driftline.transport.port import Place
from tests.support.small import NOW_MS, chosen, event, fold, small


class Scores:
    """A reader of one partition that holds these values."""

    def __init__(self, values: list[bytes]) -> None:
        self._values = values

    async def open(self, starts: Mapping[Place, int]) -> None:
        pass

    async def read(self, place: Place, count_max: int, stop: int | None = None) -> list[Source]:
        taken, self._values = self._values[:2], self._values[2:]
        return [Source(place.topic, 0, number, NOW_MS, None, value) for number, value in enumerate(taken)]

    async def close(self) -> None:
        pass


def request(number: int, shown: str | None = None) -> Event:
    made = event(number, NOW_MS + number, offset=number)
    return structs.replace(made, features=(*made.features, shown))


async def test_a_candidate_sees_what_was_shown_and_nothing_where_no_score_is() -> None:
    pipeline = small("recommend", recommend={"catalogue": ["a", "b", "c"], "slate": 2, "policy": "uniform"})
    shard, encode = Shard(pipeline, 0), Encoder(pipeline, 0).encode
    requests = [request(number) for number in range(5)]
    scores = [chosen(fold(shard, one), Score)[0] for one in requests]
    values = [encode(score).value or b"" for number, score in enumerate(scores) if number != 2]
    values[-1] = orjson.dumps({**orjson.loads(values[-1]), "slate": [{"item": 1.5}]})  # another program wrote it
    reader: Any = Scores(values)
    served = Served(reader, pipeline, Layout(1), 0)
    shown = Shown(served, {pipeline.topics.events: 0})
    await shown.reach({pipeline.topics.events: [one.source for one in requests], "other": [requests[0].source]})
    put = shown.into(pipeline)
    place = pipeline.event.names.index("shown")
    found = [put(one).features[place] for one in requests]
    slates = [{str(item): share for item, share in (score.prediction.probabilities or {}).items()} for score in scores]
    wanted = [shown_text(slate, 9, 9) for slate in slates]
    assert found == [*wanted[:2], "{}", wanted[3], "{}"]
    own = shown_text(["c"], 9, 9)
    assert put(request(1, own)).features[place] == own


async def test_a_request_without_a_score_is_not_learned_from() -> None:
    pipeline = small("recommend", recommend={"catalogue": ["a", "b", "c"]})
    shard = Shard(pipeline, 0)
    (score,) = chosen(fold(shard, request(1, "{}")), Score)
    assert score.prediction == Prediction(None, {}, 0.0)
