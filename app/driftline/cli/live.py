"""`driftline check --against-live`: what a deploy would do to the existing state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import click

from driftline.cli.echo import show
from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.error import TopicError
from driftline.core.pipeline import Pipeline
from driftline.kafka import topic_rule
from driftline.kafka.broker import KafkaBroker
from driftline.kafka.client import admin, client_options, partition_counts
from driftline.operate.outlook import Fate, Outlook, outlook

EXIT_CODES: dict[Fate, int] = {"none": 0, "kept": 0, "anew": 1, "refused": 4, "lost": 4}

SAYS: dict[Fate, str] = {
    "none": "there is no state yet",
    "kept": "the state is kept",
    "anew": "the state is kept, parts of it are reset",
    "refused": "REFUSED: a worker would stop",
    "lost": "LOST: a worker would stop",
}


def against_live(pipeline: Pipeline, settings: Settings, *, as_json: bool) -> None:
    """Print it, and exit by it: 0 all is kept, 1 parts start over, 4 a worker would stop."""
    found = asyncio.run(_look(pipeline, settings))
    code = max(EXIT_CODES[one.fate] for one in found)
    show({"pipeline": pipeline.name, "shards": found}, lambda: lines(found), as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


async def _look(pipeline: Pipeline, settings: Settings) -> Sequence[Outlook]:
    async with admin(client_options(settings)) as client:
        there = await partition_counts(client)
    if missing := sorted(set(topic_rule.names(pipeline).values()) - set(there)):
        raise TopicError(
            f"missing topics: {', '.join(missing)}. Either the pipeline was never started, or its topics have other "
            "names. `driftline topics create -p FILE` creates them"
        )
    return await outlook(KafkaBroker(pipeline, settings), pipeline, layout_of(pipeline, there), settings.ring)


def lines(found: Sequence[Outlook]) -> Iterator[str]:
    """For people: the worst first, shards of the same fate together."""
    shown: set[int] = set()
    for first in sorted(found, key=lambda one: -EXIT_CODES[one.fate]):
        if first.partition in shown:
            continue
        alike = [one for one in found if (one.fate, one.changed) == (first.fate, first.changed)]
        shown |= {one.partition for one in alike}
        shards = ", ".join(str(one.partition) for one in alike)
        yield f"shard{'s' if alike[1:] else ''} {shards}: {SAYS[first.fate]}"
        if first.changed:
            yield f"  the file differs in {', '.join(first.changed)}"
        if first.begins:
            yield f"  reset: {', '.join(first.begins)}"
        if first.versions:
            yield f"  versions: {', '.join(first.versions)}"
        for one in alike:
            yield f"  {f'shard {one.partition}: ' if alike[1:] else ''}{one.source}"
