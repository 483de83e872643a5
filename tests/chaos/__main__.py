"""`python -m tests.chaos`; see the package."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from tests.chaos.case import CASES
from tests.chaos.run import Plan, run


@click.command()
@click.option("--faults", type=click.IntRange(1), default=100, show_default=True)
@click.option("--events", type=click.IntRange(100), default=200_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--gap", "gap_s", type=click.FloatRange(0.5), default=4.0, show_default=True, help="Mean s between faults."
)
@click.option("--workers", type=click.IntRange(1), default=3, show_default=True)
@click.option("--partitions", type=click.IntRange(1), default=6, show_default=True)
@click.option("--shards", type=click.IntRange(1), help="Of the pipeline.  [default: as many as partitions]")
@click.option("--task", type=click.Choice(list(CASES)), default="binary", show_default=True)
@click.option("--logs", type=click.Path(path_type=Path), metavar="FILE", help="Keep what the workers said there.")
def main(
    faults: int,
    events: int,
    seed: int,
    gap_s: float,
    workers: int,
    partitions: int,
    shards: int | None,
    task: str,
    logs: Path | None,
) -> None:
    """Kill, stop and start workers and broker under load on a real Kafka; exit code 1: the promise did not hold."""
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # that the broker is away is known
    logging.getLogger("aiokafka").propagate = False
    plan = Plan(seed, faults, events, gap_s, workers, partitions, shards or partitions, task=task)
    result = asyncio.run(run(plan, lambda text: click.echo(text, err=True)))
    click.echo(result.summary())
    if logs is not None:
        logs.write_text(result.logs)
    for line in result.complaints:
        click.echo(f"the workers' logs say: {line}", err=True)
    sys.exit(1 if result.wrong else 0)


if __name__ == "__main__":
    main()
