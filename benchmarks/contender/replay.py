"""Pairs a second of a recovery that replays a whole journal, or of a backtest over the same rows.

python -m benchmarks.contender.replay '{"who": "recovery", "model": "numbers", ...}'
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.model import MODELS
from driftline.backtest.candidate import Spec
from driftline.backtest.run import Options, run
from driftline.codec.keyring import NO_KEYS
from driftline.config import load_settings
from driftline.core.pipeline import Pipeline
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from driftline.kafka.broker import KafkaBroker
from tests.support.state import FromTheBeginning


async def recover(asked: dict[str, Any], pipeline: Pipeline) -> int:
    """Replay the journal from its beginning, comparing the digest of each slice; returns how many pairs."""
    broker = KafkaBroker(pipeline, load_settings({}, {"bootstrap": asked["bootstrap"]}))
    recovered = await FromTheBeginning(broker, pipeline, 0, NO_KEYS).run()
    if recovered.folder is None:
        raise RuntimeError("the journal is empty")
    return recovered.folder.shard.counts["learned"]


def backtest(asked: dict[str, Any], pipeline: Pipeline) -> int:
    source = TableSource(Path(asked["path"]), Fields("label", event_id="id", time="at"), asked["delay_ms"])
    spec = Spec("replay", pipeline.resolved(), "benchmark")
    outcome = run([spec], source, Options(), processes=1, scores=None, moved=lambda done, total: None)
    return outcome.facts.rows


def main() -> None:
    asked = json.loads(sys.argv[1])
    machine.pin(asked.get("core"))
    pipeline = MODELS[asked["model"]].pipeline(asked["name"], (asked["events"], asked["labels"]))
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    count = asyncio.run(recover(asked, pipeline)) if asked["who"] == "recovery" else backtest(asked, pipeline)
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    print(json.dumps({"count": count, "seconds": seconds, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
