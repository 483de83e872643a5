"""Rows to send, the pipelines that read them, and what the topics hold afterwards.

Topics are read by a plain consumer without a group, read_committed unless a test asks otherwise: what any user of the
scores would see.
"""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from math import exp
from pathlib import Path
from random import Random
from typing import Any

import orjson
from aiokafka import TopicPartition

from driftline.config import Settings, load_settings, read_pipeline
from driftline.core.pipeline import Pipeline
from driftline.kafka.client import Arrival, admin, client_options, consumer, partition_counts, subscribe

LOGISTIC = "StandardScaler() | LogisticRegression()"
LABEL = "label"


@dataclass(frozen=True)
class Rows:
    """A CSV file of numbers with one column that is the label.

    Args:
        features: the other columns, in their order.
    """

    path: Path
    features: tuple[str, ...]
    label: str
    count: int


def weather(folder: Path, count: int, seed: int = 7) -> Rows:
    """Made up, in the shape of noaa_weather: eight numbers, rain or not, and a concept that turns half way."""
    random = Random(seed)
    features = tuple(f"feat_{number}" for number in range(1, 9))
    path = folder / f"weather-{count}-{seed}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*features, LABEL])
        for index in range(count):
            row = [round(random.gauss(number, 1 + number / 2), 2) for number in range(8)]
            turn = 1 if index < count // 2 else -1
            odds = turn * (1.5 * row[0] + 0.8 * (row[3] - 3)) + 0.5 * (row[6] - 6)
            writer.writerow([*row, int(random.random() < 1 / (1 + exp(-odds)))])
    return Rows(path, features, LABEL, count)


def pipeline_file(folder: Path, name: str, rows: Rows, model: str = LOGISTIC, **sections: Any) -> Path:
    """A pipeline over the rows' columns; `sections` are put in place of, or beside, those of this function."""
    document = {
        "pipeline": name,
        "task": "binary",
        "event": {"id": "id", "features": dict.fromkeys(rows.features, "number")},
        "label": {"id": "id", "value": rows.label, "wait": "7d"},
        "model": model,
        "metrics": ["Accuracy", "LogLoss"],
        **sections,
    }
    path = folder / f"{name}.yaml"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))  # JSON is YAML
    return path


def pipeline_of(file: Path) -> Pipeline:
    return read_pipeline(file.read_text())


def settings_of(bootstrap: str) -> Settings:
    """Settings of a broker, whatever the environment says."""
    return load_settings({"HOME": "/nonexistent"}, {"bootstrap": bootstrap})


# -- what the topics hold


async def read(bootstrap: str, topic: str, *, committed: bool = True) -> list[Arrival]:
    """Everything that can be read of a topic now, partition by partition."""
    isolation = "read_committed" if committed else "read_uncommitted"
    options = client_options(settings_of(bootstrap))
    async with consumer(
        options, isolation_level=isolation, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=50
    ) as client:
        count = len(client.partitions_for_topic(topic) or ()) or await _partitions(options, topic)
        places = [TopicPartition(topic, partition) for partition in range(count)]
        client.assign(places)
        ends = await client.end_offsets(places)  # the last stable ones for read_committed
        await client.seek_to_beginning()
        found: dict[TopicPartition, list[Any]] = {place: [] for place in places}
        left = {place for place in places if ends[place]}
        while left:
            for place, records in (await client.getmany(*left, timeout_ms=200)).items():
                found[place] += records
            left = {place for place in left if await client.position(place) < ends[place]}
    return [
        Arrival(one.partition, one.offset, one.timestamp, one.key, one.value, one.headers)
        for place in places
        for one in found[place]
    ]


async def _partitions(options: Mapping[str, Any], topic: str) -> int:
    async with admin(options) as client:
        return (await partition_counts(client))[topic]


async def until_written(bootstrap: str, topic: str, count: int, timeout_s: float) -> None:
    """Return as soon as a subscriber can read so many outputs of a topic, each repeat counted once."""
    seen: set[str] = set()
    options = client_options(settings_of(bootstrap))
    try:
        async with (
            asyncio.timeout(timeout_s),
            aclosing(subscribe(options, topic, from_beginning=True, committed=True)) as arrivals,
        ):
            async for batch in arrivals:
                seen |= {orjson.loads(arrival.value or b"{}").get("output_id", "") for arrival in batch}
                if len(seen) >= count:
                    return
    except TimeoutError:
        raise AssertionError(f"{topic} holds {len(seen)} of {count} outputs after {timeout_s:g} s") from None


async def documents(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """The JSON values of a topic."""
    return [orjson.loads(arrival.value or b"null") for arrival in await read(bootstrap, topic)]


async def check_exact(bootstrap: str, pipeline: Pipeline, ids: Sequence[object] | None = None) -> None:
    """Every event has one score, every label of an event is joined once, and nothing else was published of either.

    Args:
        ids: of the events, each with a label; None takes what is in the topics.
    """
    labelled: Sequence[object]
    ids, labelled = (ids, ids) if ids is not None else await sent(bootstrap, pipeline)
    scores = Counter(one["event_id"] for one in await documents(bootstrap, pipeline.topics.scores))
    outcomes = Counter((one["event_id"], one["kind"]) for one in await documents(bootstrap, pipeline.topics.outcomes))
    wanted = Counter(ids)
    assert scores == wanted, _told("scores", scores, wanted)
    joined = Counter((one, "joined") for one in labelled)
    assert outcomes == joined, _told("outcomes", outcomes, joined)


async def sent(bootstrap: str, pipeline: Pipeline) -> tuple[list[Any], list[Any]]:
    """Ids of the events in the topics, and of those whose label is there too."""
    topics = pipeline.topics
    events = [one["id"] for one in await documents(bootstrap, topics.events)]
    labels = {one["id"] for one in await documents(bootstrap, topics.labels or "")}
    return events, [one for one in events if one in labels]


def _told(what: str, found: Counter[Any], wanted: Counter[Any]) -> str:
    missing, extra = wanted - found, found - wanted
    return (
        f"{what}: {missing.total()} missing {sorted(missing, key=str)[:10]}, "
        f"{extra.total()} too many {sorted(extra.items(), key=str)[:10]}"
    )
