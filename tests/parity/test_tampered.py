"""Without a key, anyone who may write to the journal can put any entry behind the last: the worker goes on from there,
or stops with a sentence that says what to do. It never ends otherwise, and it never waits for what cannot come."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from driftline.codec.journal import CHAIN_START, Entry, chain_of, chained
from driftline.codec.write import Write
from driftline.core.error import DriftlineError
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.operate.verify import Span, audit_shards
from driftline.transport.port import Place
from tests.parity.rig import Life, pipeline, produce, worked
from tests.support.absurd import changed
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker

COUNT = 60
VALUES: tuple[Any, ...] = (None, 2**53 - 1, {}, {"parity.events:1": {"start": 0, "stop": 1, "count": 1}})


def chosen() -> Pipeline:
    return pipeline("parity", limits={"slice_records_max": 20}, snapshot={"every_records": 10**6}, drift=None)


def written(document: dict[str, Any], previous: str) -> bytes:
    """An entry with the chain that anyone can compute for it."""
    try:
        chain = chain_of(previous, chained(msgspec.convert(document, Entry)))
    except (TypeError, ValueError):
        chain = CHAIN_START
    return orjson.dumps({**document, "chain": chain})


def bare(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("chain", "note")}


async def check(pipeline_now: Pipeline, inputs: MemoryCluster, entries: list[bytes], what: str) -> None:
    """A worker that finds these entries either works, and again after a restart, or says what to do."""
    cluster = MemoryCluster()
    cluster.create_for(pipeline_now, 1)
    for topic in (pipeline_now.topics.events, pipeline_now.topics.labels or ""):
        for source in inputs.records(topic, 0):
            cluster.produce(topic, 0, source.value, source.record_time_ms)
    place = Place(pipeline_now.topics.journal, 0)
    cluster.append(place, [Write(*place, b"0", value) for value in entries])
    try:
        for first in (500, 505):
            async with Life(cluster, pipeline_now, client=str(first)) as life:
                await life.until_done()
                produce(cluster, pipeline_now, 5, first=first, labels=False)
                await life.until_done()
                await life.stop()
    except DriftlineError:
        pass
    except BaseException as error:
        raise AssertionError(what) from error
    try:
        await audit_shards(MemoryBroker(cluster, pipeline_now, client="audit"), pipeline_now, Layout(1), Span())
    except DriftlineError:
        pass
    except Exception as error:
        raise AssertionError(f"verify: {what}") from error


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["the first", "a slice", "a fresh state", "a state that is kept"])
async def test_an_absurd_entry_ends_in_a_sentence(kind: str) -> None:
    now = chosen()
    inputs = await worked(now, COUNT)
    values = [source.value or b"" for source in inputs.records(now.topics.journal, 0)]
    documents = [orjson.loads(value) for value in values]
    first, last = documents[0], documents[-1]
    stops = {name: part["stop"] for one in documents for name, part in one.get("inputs", {}).items()}
    epoch = {**bare(first), "number": 2, "slice_number": last["number"], "positions": {**first["positions"], **stops}}
    entry, before = {
        "the first": (bare(first), []),
        "a slice": ({**bare(last), "raised": {}, "ahead": {now.topics.events: [1]}}, values[:-1]),
        "a fresh state": ({**epoch, "reason": "reset", "state": "fresh", "begun_ms": 1}, values),
        "a state that is kept": ({**epoch, "reason": "pipeline", "outputs": {now.topics.scores: 1}}, values),
    }[kind]
    previous = orjson.loads(before[-1])["chain"] if before else CHAIN_START
    depth = {**entry, "pipeline": {}} if kind != "the first" else entry  # what stands there is tried in one place
    for what, document in changed(depth, depth=3 if kind == "a slice" else 2, values=VALUES):
        document["pipeline"] = document.get("pipeline") or entry.get("pipeline")
        if kind == "a slice":
            del document["pipeline"]
        await check(now, inputs, [*before, written(document, previous)], what)
