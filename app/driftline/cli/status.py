"""`driftline status`: show every shard, as Kafka has it, whether or not a worker runs.

In an outage a person wants the answer soon, so what reads the topics and draws tables is imported once Kafka has
answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.cli.echo import show
from driftline.cli.setting import outline_of, settings_of
from driftline.config import Settings
from driftline.core.pipeline import Pipeline
from driftline.kafka.client import admin, client_options, leaderless, partition_counts, unreachable

if TYPE_CHECKING:
    from driftline.operate.status import ShardStatus

TICK_S = 0.05


def status(
    pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None, as_json: bool, patience_s: float
) -> None:
    """What `driftline status` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = outline_of(settings, pipeline_file, overrides)
    shards = asyncio.run(_read(pipeline, settings, patience_s))
    if as_json:
        show(shards, tuple, as_json=True)
        return
    from rich.console import Console

    from driftline.cli.shards import draw

    draw(Console(), pipeline, shards)


async def _read(pipeline: Pipeline, settings: Settings, patience_s: float) -> Sequence[ShardStatus]:
    options = client_options(settings)
    asking = asyncio.create_task(_ask(options, pipeline))
    for _ in range(round(patience_s / TICK_S)):  # so a machine that has no time for us makes it longer
        if asking.done():
            break
        await asyncio.wait({asking}, timeout=TICK_S)
    if asking.done():
        there, away = asking.result()
    else:
        asking.cancel()
        await asyncio.wait({asking}, timeout=TICK_S)
        late = TimeoutError(f"no answer within {patience_s:g} s")
        raise unreachable(options["bootstrap_servers"], late)
    from driftline.cli.shards import read

    return await read(pipeline, settings, there, away, patience_s)


async def _ask(options: Mapping[str, Any], pipeline: Pipeline) -> tuple[dict[str, int], set[tuple[str, int]]]:
    """Partitions by topic, and those of the pipeline that no broker answers for."""
    async with admin(options) as client:
        counts = await partition_counts(client)
        from driftline.kafka.topic_rule import names

        return counts, await leaderless(client, set(names(pipeline).values()))
