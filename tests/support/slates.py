"""A pipeline of slates, folded together with readers who answer what it shows: `driftline.cli.news`."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from driftline.cli.news import PIPELINE, NewsPage
from driftline.codec.decode import Decoder
from driftline.config import read_pipeline
from driftline.core.output import Output, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Record, Source
from driftline.core.shard.state import Shard
from tests.support.folding import step

START_MS = 1_700_000_000_000


def news(**recommend: Any) -> Pipeline:
    """The demo's pipeline, with other settings in its section `recommend`; `model` is the expression."""
    document = read_pipeline(PIPELINE.format(name="news", delivery="at_least_once")).resolved()
    document["model"] = recommend.pop("model", document["model"])
    document["recommend"] = {**document["recommend"], **recommend}
    return read_pipeline(orjson.dumps(document).decode())


class Played:
    """What came of it.

    Attributes:
        records: as they were folded; `outputs` of them.
        shown: of each request, the slate with its propensities; `earned` and `best`, the clicks to be expected of it
            and of the best one.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.shard = Shard(pipeline, 0)
        self.records: list[Record] = []
        self.outputs: list[Output] = []
        self.shown: list[dict[str, float]] = []
        self.earned: list[float] = []
        self.best: list[float] = []

    def share(self, begin: float, end: float) -> float:
        """Of the best reward, in a part of the stream."""
        part = slice(int(begin * len(self.best)), int(end * len(self.best)))
        return sum(self.earned[part]) / sum(self.best[part])

    def fold(self, record: Record) -> list[Output]:
        self.records.append(record)
        made = list(step(self.shard, record))
        self.outputs += made
        return made


def play(
    pipeline: Pipeline,
    page: NewsPage,
    count: int,
    *,
    shown: Callable[[int], Mapping[str, float]] | None = None,
    look: Callable[[Played, dict[str, Any]], None] | None = None,
) -> Played:
    """Requests, one a second, and the clicks on what is shown.

    Args:
        shown: what another policy showed of each request; readers then answer that.
        look: called before each request is folded.
    """
    here, decoder = Played(pipeline), Decoder(pipeline)
    clicks: list[tuple[int, int, dict[str, Any]]] = []
    number = 0
    for index in range(count):
        request = page.request(index, START_MS)
        if shown is not None:
            request["shown"] = [{"item": item, "propensity": share} for item, share in shown(index).items()]
        while clicks and clicks[0][0] <= request["at"]:
            at_ms, _, click = heapq.heappop(clicks)
            source = Source(pipeline.topics.labels or "", 0, number, at_ms, None, orjson.dumps(click))
            here.fold(decoder.label(source))
            number += 1
        if look is not None:
            look(here, request)
        source = Source(pipeline.topics.events, 0, index, request["at"], None, orjson.dumps(request))
        (score,) = (made for made in here.fold(decoder.event(source)) if isinstance(made, Score))
        slate = {str(item): share for item, share in (score.prediction.probabilities or {}).items()}
        here.shown.append(slate)
        here.earned.append(page.expected(request, slate))
        here.best.append(page.best(request))
        for place, click in enumerate(page.clicks(request, slate)):
            heapq.heappush(clicks, (click["at"], index * 100 + place, click))
    return here
