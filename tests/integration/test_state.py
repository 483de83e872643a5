"""`driftline state` and `check --against-live` on a real Kafka and on the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from tests.integration.test_verify import COUNT, DRAINED_S, PARTITIONS, Audited
from tests.support.command import Worker, driftline, succeed
from tests.support.stream import until_written


def at(site: Audited, *words: str | Path) -> tuple[str | Path, ...]:
    """A command on a site's pipeline."""
    return (*words, "-p", site.file, "--bootstrap", site.bootstrap)


def document(*words: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(succeed(*words, "--json"))
    return found


def learned(document: dict[str, Any]) -> int:
    return sum(int(shard["learned"]) for shard in document["shards"])


def test_what_was_learned_goes_to_other_topics(kafka: KafkaNode, tmp_path: Path) -> None:
    here = Audited(kafka.bootstrap, tmp_path, "state-here")
    here.create()
    file = tmp_path / "state"
    with here.worker() as worker:
        worker.until_ready(PARTITIONS)
        succeed(*here.sending())
        asyncio.run(until_written(kafka.bootstrap, here.pipeline.topics.outcomes, COUNT, DRAINED_S))
        beside = document(*at(here, "state", "save"), "-o", file)
        assert [shard["unread"] for shard in beside["shards"]] == [None] * PARTITIONS
        refused = driftline(*at(here, "state", "restore"), file, "--replace")
        assert refused.returncode == 4
        assert "workers of state-here are running" in refused.stderr
        assert worker.stop() == 0
    (tmp_path / "there").mkdir()
    there = Audited(kafka.bootstrap, tmp_path / "there", "state-there")
    there.create()
    put = document(*at(there, "state", "restore"), file)
    assert learned(put) == COUNT
    with there.worker() as worker:
        worker.until_ready(PARTITIONS)
        succeed(*there.sending())
        repeats = "events that the state remembers are rejected as repeats"
        worker.until(lambda: _repeats(worker) >= COUNT, DRAINED_S, repeats)
        assert worker.metric("driftline_scores_total") == 0, "ids that the state remembers are not learned again"
        assert worker.stop() == 0
    verdict = there.verify("--outputs")
    assert (verdict["verdict"], verdict["unverifiable"]) == ("PASS", 0)
    assert verdict["records"] >= COUNT
    assert all(shard["start"] == "the beginning" for shard in verdict["shards"])


def _repeats(worker: Worker) -> float:
    return worker.metric("driftline_rejected_total", reason="duplicate_event")


@pytest.mark.parametrize(
    ("start", "delivery"), [("earliest", "exactly_once"), ("2100-01-01T00:00:00Z", "at_least_once")]
)
def test_on_the_embedded_broker(embedded: EmbeddedNode, tmp_path: Path, start: str, delivery: str) -> None:
    name = f"state-{start[:4]}"
    here = Audited(embedded.bootstrap, tmp_path, f"{name}-here", delivery=delivery)
    here.create(1)
    with here.worker() as worker:
        worker.until_ready(1)
        succeed(*here.sending())
        worker.until(lambda: worker.metric("driftline_labels_joined_total") >= COUNT, DRAINED_S, "all is learned")
        assert worker.stop() == 0
    succeed(*at(here, "state", "save"), "-o", tmp_path / "state")
    (tmp_path / "there").mkdir()
    there = Audited(embedded.bootstrap, tmp_path / "there", f"{name}-there", delivery=delivery)
    there.create(1)
    put = document(*at(there, "state", "restore"), tmp_path / "state", "--start", start)
    assert learned(put) == COUNT
    with there.worker() as worker:
        worker.until_ready(1)
        assert worker.stop() == 0
    assert there.verify("--outputs")["verdict"] == "PASS"
    changed = driftline(*at(there, "check"), "--against-live", "--set", "seed=99")
    assert changed.returncode == 4
    assert "the file differs in seed" in changed.stdout
