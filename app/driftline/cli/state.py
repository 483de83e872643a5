"""`driftline state`: save the state of every shard to a file and restore it, here or on another cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from driftline.cli.echo import show
from driftline.cli.option import MOMENT
from driftline.cli.setting import pipeline_of, settings_of
from driftline.codec.inputs import Inputs, layout_of
from driftline.config import Settings
from driftline.core.error import RecoveryError, TopicError
from driftline.core.fingerprint import readers
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.kafka import topic, topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, group_members, partition_counts
from driftline.operate.restoring import Restoration, Restored, StateReader
from driftline.operate.saving import Saved
from driftline.operate.saving import save as save_states
from driftline.transport.port import Place


def save(
    pipeline_file: Path | None, overrides: tuple[str, ...], bootstrap: str | None, output: Path, as_json: bool
) -> None:
    """What `driftline state save` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    layout = asyncio.run(_layout(pipeline, settings))
    broker = KafkaBroker(pipeline, settings)
    found = asyncio.run(save_states(broker, pipeline, layout.shards, settings.ring, output))
    signed = ", signed" if settings.ring else ""
    lines = [*_saved_lines(found), f"{output}: {output.stat().st_size:,} bytes{signed}"]
    show({"state": str(output), "shards": [_saved(one) for one in found]}, lambda: lines, as_json=as_json)


def restore(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    state: Path,
    replace: bool,
    start: str,
    as_json: bool,
) -> None:
    """What `driftline state restore` does."""
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    restored = asyncio.run(_restore(pipeline, settings, state, start, replace=replace))
    show({"pipeline": pipeline.name, "shards": restored}, lambda: _restored_lines(restored), as_json=as_json)


async def _restore(
    pipeline: Pipeline, settings: Settings, path: Path, start: str, *, replace: bool
) -> Sequence[Restored]:
    await topic.verify(pipeline, settings)
    pipeline = await topic.deliverable(pipeline, settings)  # written as a worker would write it
    layout = await _layout(pipeline, settings)
    group = f"driftline-{pipeline.name}"
    async with admin(client_options(settings)) as client:
        if running := await group_members(client, group):
            raise RecoveryError(
                f"workers of {pipeline.name} are running ({running} in group {group}): stop them, restore, and start "
                "them again"
            )
    broker = KafkaBroker(pipeline, settings)
    reader = StateReader(path, settings.ring)
    try:
        starts = await _starts(broker, pipeline, layout, start)
        return await Restoration(broker, pipeline, layout, settings.ring, reader, starts, replace=replace).run()
    finally:
        reader.close()


async def _starts(broker: KafkaBroker, pipeline: Pipeline, layout: Layout, start: str) -> Mapping[Place, int]:
    places = [place for shard in range(layout.shards) for place in layout.places(Inputs(pipeline).topics, shard)]
    if start == "earliest":
        return await broker.beginnings(places)
    if start == "latest":
        return await broker.ends(places)
    time_ms: int = MOMENT.convert(start, None, None)
    return await broker.offsets_at(places, time_ms)


async def _layout(pipeline: Pipeline, settings: Settings) -> Layout:
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if missing := sorted(set(topic_rule.names(pipeline).values()) - set(there)):
        raise TopicError(f"missing topics: {', '.join(missing)}; create them with `driftline topics create -p FILE`")
    return layout_of(pipeline, there)


# -- for people and programs


def _saved(one: Saved) -> dict[str, Any]:
    if one.shard is None:
        return {"partition": one.partition, "saved": False}
    manifest, summary = one.shard.manifest, one.shard.summary
    return {
        "partition": one.partition,
        "saved": True,
        "slice": manifest.slice_number,
        "positions": manifest.positions,
        "versions": manifest.versions,
        "taken_ms": manifest.taken_ms,
        "bytes": one.shard.bytes,
        "pending": summary.get("pending"),
        "metrics": summary.get("metrics"),
        "unread": one.unread or None,
    }


def _saved_lines(found: Sequence[Saved]) -> Iterator[str]:
    for one in found:
        if one.shard is None:
            yield f"shard {one.partition}: no state: it has never run"
            continue
        manifest, summary = one.shard.manifest, one.shard.summary
        positions = ", ".join(f"{name} {offset:,}" for name, offset in manifest.positions.items())
        if one.unread:
            source = f"the snapshot after slice {manifest.slice_number:,} ({manifest.taken_at}), copied unchanged"
            yield f"shard {one.partition}: {source}"
            yield f"  inputs continue at {positions}"
            yield f"  the journal could not be replayed: {one.unread}"
            yield f"  restore it under {readers(manifest.versions)}"
        else:
            yield (
                f"shard {one.partition}: up to slice {manifest.slice_number:,}, the end of the journal ({positions}): "
                f"{_counted(summary)}"
            )


def _counted(summary: Mapping[str, Any]) -> str:
    return f"{summary['counts'].get('learned', 0):,} learned, {summary['pending']:,} pending"


def _restored_lines(restored: Sequence[Restored]) -> Iterator[str]:
    for one in restored:
        positions = ", ".join(f"{name} {offset:,}" for name, offset in one.positions.items())
        if one.source is None:
            yield f"shard {one.partition}: {'; '.join(one.notes)}"
            continue
        source = "" if one.source == one.partition else f" from shard {one.source}"
        yield f"shard {one.partition}: restored{source}, {one.learned:,} labels learned, {one.waiting:,} pending events"
        yield f"  inputs continue at {positions}"
        for note in one.notes:
            yield f"  {note}"
    yield "now start the workers: they continue from the restored state"
