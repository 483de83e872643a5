"""`driftline tail`: what the worker publishes, one JSON document a line, as it comes."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from app.broker.topic import names
from app.cli.option import bootstrap_option, pipeline_of, pipeline_option, settings_of
from app.config import Settings
from app.core.pipeline import Pipeline
from app.engine.client import Arrival, client_options, exists, subscribe

KINDS = ("scores", "outcomes", "alerts", "rejected")
OWN_HEADERS = "driftline."
PART = 1  # exit code: fewer records came than asked for


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@pipeline_option
@bootstrap_option
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record, not with the next one.")
@click.option("--limit", type=click.IntRange(1), help="Stop after so many records.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Stop when nothing has come for so many seconds.",
)
def tail(
    kind: str,
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    bootstrap: str | None,
    from_beginning: bool,
    limit: int | None,
    timeout_s: float | None,
) -> None:
    """Print records of KIND as JSON lines: scores, outcomes, alerts or rejected.

    Only committed records are shown where the pipeline's delivery is exactly_once. Exit code 1: --timeout
    came before --limit.
    """
    settings = settings_of(bootstrap=bootstrap)
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    count = asyncio.run(_print(kind, pipeline, settings, from_beginning, limit, timeout_s))
    if limit is not None and count < limit:
        raise click.exceptions.Exit(PART)


async def _print(
    kind: str, pipeline: Pipeline, settings: Settings, from_beginning: bool, limit: int | None, timeout_s: float | None
) -> int:
    """Print until the limit, the time-out or an interrupt.

    Returns:
        How many records were printed.
    """
    topic = next(name for one, name in names(pipeline).items() if one == kind)
    shape = rejected_line if kind == "rejected" else plain_line
    committed = pipeline.delivery == "exactly_once"
    count = 0
    heard = time.monotonic()
    options = client_options(settings)
    if not await exists(options, topic):
        click.echo(f"topic {topic} is not there yet; waiting for it", err=True)
        from_beginning = True  # all that it will hold is new to us
    arrivals = subscribe(options, topic, from_beginning=from_beginning, committed=committed)
    async with aclosing(arrivals):
        async for batch in arrivals:
            for arrival in batch:
                click.echo(shape(arrival))  # flushes: whoever reads a pipe gets each line at once
                count += 1
                if count == limit:
                    return count
            now = time.monotonic()
            if batch:
                heard = now
            elif timeout_s is not None and now - heard >= timeout_s:
                return count
    return count


def plain_line(arrival: Arrival) -> str:
    """The value as it is: what we publish is one line of JSON."""
    return "null" if arrival.value is None else arrival.value.decode("utf-8", "replace")


def rejected_line(arrival: Arrival) -> str:
    """Why a record was rejected, where it was, and what it held (text, or base64 where it is none)."""
    shown: dict[str, Any] = {}
    received: dict[str, Any] = {}
    for name, content in arrival.headers:
        if name.startswith(OWN_HEADERS):
            shown[name.removeprefix(OWN_HEADERS)] = (content or b"").decode("utf-8", "replace")
        else:
            received.update(_readable(name, content))
    for name in ("partition", "offset", "truncated_bytes"):
        if name in shown:
            shown[name] = int(shown[name])
    return json.dumps(
        {
            **shown,
            "record_time_ms": arrival.time_ms,
            **_readable("key", arrival.key),
            **_readable("value", arrival.value),
            **({"headers": received} if received else {}),
        },
        ensure_ascii=False,
    )


def _readable(name: str, content: bytes | None) -> dict[str, str | None]:
    """Bytes under a name as text, or under `<name>_base64` where they are no UTF-8."""
    if content is None:
        return {name: None}
    try:
        return {name: content.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
