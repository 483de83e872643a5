"""`driftline export`: write outcomes to a table, to train elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from driftline.backtest.export import columns_of, export
from driftline.backtest.score import check_format, put_together, working_folder
from driftline.cli.echo import echo, show
from driftline.cli.setting import pipeline_of, settings_of
from driftline.config import Settings
from driftline.core.error import InputFileError, TopicError
from driftline.core.pipeline import Pipeline
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.transport.port import Place

LEARNED = ("joined", "assumed")


def export_command(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    from_ms: int | None,
    to_ms: int | None,
    kinds: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """What `driftline export` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    check_format(out)
    rows = asyncio.run(_export(pipeline, settings, from_ms, to_ms, kinds or LEARNED, out))
    show({"file": str(out), "outcomes": rows}, lambda: [f"{rows:,} outcomes in {out}"], as_json=as_json)


async def _export(
    pipeline: Pipeline, settings: Settings, from_ms: int | None, to_ms: int | None, kinds: tuple[str, ...], out: Path
) -> int:
    topic = pipeline.topics.outcomes
    async with admin(client_options(settings)) as client:
        count = (await partition_counts(client)).get(topic, 0)
    if not count:
        raise TopicError(f"topic {topic} does not exist; check the pipeline file and the broker's address")
    broker = KafkaBroker(pipeline, settings)
    places = [Place(topic, number) for number in range(count)]
    for place, first in (await broker.beginnings(places)).items():
        if first:
            text = f"{topic}-{place.partition} starts at offset {first:,}: earlier records have been deleted"
            echo(f"note: {text}", err=True)
    with working_folder(out) as folder:
        parts = [folder / f"{number}.csv" for number in range(count)]
        rows = 0
        for number, part in enumerate(parts):
            rows += await export(
                broker, pipeline, number, part, from_ms=from_ms, to_ms=to_ms, kinds=kinds, moved=lambda read: None
            )
        if not rows:
            raise InputFileError(f"{topic} has no such outcomes in that range; no file was written")
        return put_together(parts, out, columns_of(pipeline))
