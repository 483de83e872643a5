"""`driftline check`: its options and its help."""

from __future__ import annotations

import click

from driftline.cli.command.history import Files, history_options
from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option


def _check(history: Files, schema: bool, live: bool, **_: object) -> None:
    if schema or live:
        return
    if history.given:
        history.check()
    else:
        history.check_none()


@click.command(short_help="Check a pipeline file: resolved settings, needs, determinism.")
@pipeline_option
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Events per second, all partitions."
)
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), help="Partitions of the events topic (DRIFTLINE_PARTITIONS)."
)
@click.option("--no-proof", is_flag=True, help="Leave out the proof of determinism, which takes some seconds.")
@click.option("--all", "everything", is_flag=True, help="Print every setting with its default too, as a pipeline file.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors, and end.")
@click.option(
    "--against-live",
    "live",
    is_flag=True,
    help="Say instead what a deploy of this file, with these versions, would do to the state that is there.",
)
@history_options
@bootstrap_option
@json_option
@does("driftline.cli.check:check", check=_check)
def check() -> None:
    """Check a pipeline file.

    Builds the model within bounds of memory and time, proves that the pipeline gives the same bits in any process,
    and reports what it will need, the verdict first; or lists every problem at once, on stderr.

    With --input (or --events and --labels) it then reads the data as `backtest` would: which rows cannot be used,
    and whether the labels are those that the file names.

    With --against-live it reads Kafka instead, and reports for every shard whether a worker with this file and these
    versions would keep the existing state.

    Exit codes: 0 the file is right, 2 it is wrong, 4 it gives different bits in different processes, 1 rows of the
    data cannot be used. Of --against-live: 0 the state is kept, 1 parts of it start anew, 4 a worker would stop.
    """
