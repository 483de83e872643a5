"""What others write into a pipeline's topics, in nearly the form of ours, stops no command that reads them."""

from __future__ import annotations

import io
from random import Random
from typing import Any, cast

import orjson
import pytest
from rich.console import Console

from driftline.backtest.card_page import render as render_card
from driftline.cli import card, digest
from driftline.cli.review import lines
from driftline.cli.shards import draw
from driftline.codec.keyring import NO_KEYS
from driftline.core.place import Layout
from driftline.core.record import EventId
from driftline.kafka.broker import KafkaBroker
from driftline.operate.digest_page import page_of, render
from driftline.operate.review import read_held
from driftline.operate.status import look
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, pipeline, worked
from tests.support.memory import MemoryBroker
from tests.support.pipelines import settings

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 2**64 - 1, -(2**63), 1e308, -1e308, "", "x", "\x1b[2J<script>", "a" * 3_000, [], {}, [1],
    {"a": 1}, [[[]]], 0.5, "0.1", "9" * 5_000, "p-\u00b2-x", "\u0663",
)  # fmt: skip
SECTIONS: dict[str, Any] = {
    "kpi": {"loss": {"unit": "EUR", "costs": {"false_negative": 9.5, "false_positive": "z"}, "by": "word", "limit": 4}},
    "metric_by": {"segment": "word"},
    "guard": {"untrained": {"labels_min": 50, "action": "hold"}, "hold": {"wait": "1h", "then": "last_good"}},
}
WEEK_MS = 7 * 86_400_000


def mutated(value: bytes, random: Random) -> dict[str, Any]:
    """A record with something else in one place, or a few, at any depth."""
    document: dict[str, Any] = orjson.loads(value)
    for _ in range(random.choice((1, 1, 2, 4))):
        place = document
        while (inner := [one for one in place.values() if isinstance(one, dict) and one]) and random.random() < 0.5:
            place = random.choice(inner)
        place[random.choice(list(place))] = random.choice(VALUES)
    return document


@pytest.mark.parametrize("seed", range(3))
async def test_no_record_of_others_stops_a_command_that_reads(seed: int) -> None:
    random, chosen = Random(seed), pipeline(**SECTIONS)
    topics, layout = chosen.topics, Layout(1, dict.fromkeys(filter(None, vars(chosen.topics).values()), 1))
    cluster = await worked(chosen, 200)
    written = {
        topic: [one.value for one in cluster.records(topic, 0) if one.value]
        for topic in filter(None, (topics.scores, topics.outcomes, topics.alerts, topics.review, topics.journal))
    }
    for topic, values in written.items():
        for _ in range(400 if values else 0):
            try:
                cluster.produce(topic, 0, orjson.dumps(mutated(random.choice(values), random)), NOW_MS)
            except TypeError:  # of more than 64 bits
                continue
    broker = cast("KafkaBroker", MemoryBroker(cluster, chosen, client="asks"))
    broker.ring, at = NO_KEYS, settings("127.0.0.1:1")

    console = Console(file=io.StringIO(), width=100)
    draw(console, chosen, await look(broker, chosen, layout, (), 20))
    found = await digest.gather(broker, chosen, at, layout.counts, WEEK_MS, NOW_MS + 3_600_000)
    assert found.served > 100
    pages = [render(page_of(found, "FILE", None), form) for form in ("html", "markdown", "slack")]
    cards = await card.gather(broker, chosen, at, layout, "word")
    pages += [render_card(cards.card(generation, "FILE"), chosen) for generation in list(cards.generations)[:20]]
    held: dict[EventId, dict[str, Any]] = {}
    place, reader = Place(topics.review or "", 0), broker.reader()
    await reader.open({place: 0})
    await read_held(reader, place, held)
    assert len([line for review in held.values() for line in lines(review)]) > 20
    assert not [page for page in pages if "<script>" in page or "\x1b" in page]
