"""Every family that a worker can expose, from lives of small pipelines that use all there is to be counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import orjson
from prometheus_client import Metric

from driftline.core.pipeline import Pipeline
from driftline.operate.exposition import Exposition
from driftline.operate.metric import NotifyCollector, WorkerCollector
from driftline.operate.notify import Notifier
from driftline.operate.schedule import Sender
from tests.parity.rig import NOW_MS, Life, pipeline, produce
from tests.support import series
from tests.support.cluster import MemoryCluster


class Exposed(NamedTuple):
    """What was exposed.

    Args:
        families: by name, without `_total`.
        labels: of each, those of every family included.
        pages: as they are scraped, one a pipeline.
    """

    families: dict[str, Metric]
    labels: dict[str, set[str]]
    pages: list[bytes]


_known: list[Exposed] = []


async def exposed() -> Exposed:
    """All families; the lives are lived once."""
    if not _known:
        found = Exposed({}, {}, [])
        for chosen, cluster in (_guarded(), _forecasting()):
            async with Life(cluster, chosen) as life:
                await life.until_done()
                _add(found, life)
        _known.append(found)
    return _known[0]


def all_families() -> Exposed:
    """`exposed`, for tests without a loop."""
    return asyncio.run(exposed())


def _add(found: Exposed, life: Life) -> None:
    notifier = cast("Notifier", SimpleNamespace(name="on-call", results=Counter(), failed_attempts=0, running=True))
    sender = cast("Sender", SimpleNamespace(name="weekly", results=Counter(), running=True, sent_s=1.0))
    told = NotifyCollector(lambda: [notifier], lambda: [sender])
    collectors = [WorkerCollector(lambda: life.worker, lambda: life.worker.outage), told]
    exposition = Exposition(life.worker.pipeline.name, collectors)
    found.pages.append(exposition.page())
    for family in exposition.collect():
        found.families.setdefault(family.name, family)
        labels = found.labels.setdefault(family.name, {"pipeline"})
        labels |= {*getattr(family, "_labelnames", ())}  # also of a family without a sample
        labels |= {name for sample in family.samples for name in sample.labels}


def _guarded() -> tuple[Pipeline, MemoryCluster]:
    """Guard, history, metrics by segment, labels of every fate."""
    features: dict[str, Any] = {"seen": {"history": "count", "by": "who", "over": "1d"}}
    chosen = pipeline(
        event={"features": {"x": "number", "z": "number", "word": "string", **features}, "context": {"who": "key"}},
        model="Select('x', 'z', 'seen') | StandardScaler() | LogisticRegression()",
        drift={"features": {"x": "PageHinkley()"}},
        metric_by={"segment": "word", "ages": ["1s", "1h"]},
        kpi={"loss": {"unit": "EUR", "costs": {"false_negative": "z", "false_positive": 5}, "by": "word", "limit": 9}},
        guard={
            "untrained": {"labels_min": 50, "action": "flag"},
            "range": {"max": 0.9, "action": "hold"},
            "fallback": {"value": 0.5},
            "hold": {"wait": "30m", "then": "fallback"},
        },
    )
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 300)
    cluster.produce(chosen.topics.events, 0, b"{", NOW_MS)
    return chosen, cluster


def _forecasting() -> tuple[Pipeline, MemoryCluster]:
    chosen = series.pipeline(horizons=2)
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    for day in range(30):
        time_ms = NOW_MS + day * series.DAY_MS
        seen = {"id": f"e{day}", "time": time_ms, "item": "pear", "demand": 10.0 + day % 7, "promo": 0}
        cluster.produce(chosen.topics.events, 0, orjson.dumps(seen), time_ms)
    return chosen, cluster
