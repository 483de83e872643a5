"""The demo's one change of the fraud pattern, on two shards: how many messages people get of it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from driftline.cli.card_fraud import PIPELINE, STEP_MS, payments
from driftline.codec.encode import Encoder
from driftline.config import read_pipeline
from driftline.core.output import Alert
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, Label, Source
from driftline.core.shard.state import Shard
from driftline.operate.incident import Gathering, Incidents, Message
from tests.support.folding import step

COUNT, CHANGED_AT, LABEL_DELAY_MS = 24_000, 12_000, 900_000
START_MS = 1_700_000_000_000
GATHERED_S = 30.0


def _pipeline(reaction: str) -> Pipeline:
    text = PIPELINE.format(name="card-fraud", delivery="at_least_once")
    detector = f"{{detector: ADWIN(delta=0.002), reaction: {reaction}}}"
    return read_pipeline(text.replace("ADWIN(delta=0.002)", detector) + "shards: 2\n")


def _alerts(chosen: Pipeline) -> Iterator[dict[str, Any]]:
    """Those of both shards, as the event time reaches them: a worker that keeps up posts them then."""
    shards = [Shard(chosen, number) for number in (0, 1)]
    encode = [Encoder(chosen, number).encode for number in (0, 1)]
    waiting: list[tuple[int, int, Any]] = []
    country = list(chosen.event.features).index("country")
    for number, sample in enumerate(payments(COUNT, CHANGED_AT, START_MS)):
        shard = number % 2
        fields = {**sample.event, "country": sample.event["card"]["country"]}
        values = [fields[name] for name in chosen.event.features]
        values[country] = str(values[country])
        numbers = [
            float(value) if isinstance(value, int) and value is not True and value is not False else value
            for value in values
        ]
        source = Source(chosen.topics.events, shard, number, sample.time_ms, None, b"")
        records: list[tuple[int, Any]] = []
        while waiting and waiting[0][0] <= sample.time_ms:
            _, index, truth = heapq.heappop(waiting)
            at_ms = START_MS + index * STEP_MS + LABEL_DELAY_MS
            about = Source(str(chosen.topics.labels), index % 2, index, at_ms, None, b"")
            records.append((index % 2, Label(about, at_ms, at_ms, f"p{index:06d}", truth)))
        heapq.heappush(waiting, (sample.time_ms + LABEL_DELAY_MS, number, sample.label))
        records.append((shard, Event(source, sample.time_ms, sample.time_ms, f"p{number:06d}", tuple(numbers))))
        for place, record in records:
            for made in step(shards[place], record):
                if isinstance(made, Alert):
                    yield orjson.loads(encode[place](made).value or b"")


def _posted(alerts: Iterator[dict[str, Any]], span_s: float) -> list[Message]:
    """What a webhook posts, if it gathers for so long of the time that the alerts are of."""
    incidents, messages, gathered = Incidents(), list[Message](), list[dict[str, Any]]()
    gathering = Gathering(0.0, span_s)
    for alert in alerts:
        now_s = alert["time_ms"] / 1000
        if gathered and now_s >= gathering.until_s:
            messages += incidents.take(gathered)
            gathered = []
        if not gathered:
            gathering = Gathering(now_s, span_s)
        gathering.add(alert, now_s)
        gathered.append(alert)
    return messages + incidents.take(gathered)


@pytest.mark.slow
@pytest.mark.parametrize("reaction", ["alert", "reset", "swap", "boost"])
def test_one_change_on_two_shards_is_at_most_three_messages(reaction: str) -> None:
    found = list(_alerts(_pipeline(reaction)))
    kinds = {alert["kind"] for alert in found}
    assert {"concept_drift", "quarantine"} <= kinds
    assert ("model_change" in kinds) == (reaction != "alert")
    assert len(found) >= 8
    for span_s in (1.0, GATHERED_S, 120.0):
        messages = _posted(iter(found), span_s)
        states = [message.state for message in messages]
        assert len(messages) <= 3, (span_s, states)
        assert (states[0], states[-1]) == ("opened", "resolved"), (span_s, states)
        assert "recovered" in " ".join(part["sentence"] for part in messages[-1].parts)
        assert {alert["episode"] for alert in found} == {part["episode"] for part in messages[-1].parts}
