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


@click.command(short_help="Check a pipeline file: settings, resources, determinism.")
@pipeline_option
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Events per second, over all shards."
)
@click.option("--no-proof", is_flag=True, help="Skip the determinism check, which takes a few seconds.")
@click.option("--all", "everything", is_flag=True, help="Print every setting, defaults included, as a pipeline file.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of pipeline files, for editors, and exit.")
@click.option(
    "--against-live",
    "live",
    is_flag=True,
    help="Instead, report what deploying this file would do to the existing state.",
)
@history_options
@bootstrap_option
@json_option
@does("driftline.cli.check:check", check=_check)
def check() -> None:
    """Check a pipeline file.

    Builds the model within limits of memory and time, checks that the pipeline gives identical results in any
    process, and estimates the resources it needs. All problems are listed at once, on stderr.

    With --input (or --events and --labels) it also reads the data as `backtest` would, and reports unusable rows and
    labels that do not match the pipeline file.

    With --against-live it reads Kafka instead, and reports for every shard whether a worker with this file and these
    versions would keep the existing state.

    Exit codes: 0 valid; 1 some rows are unusable; 2 invalid; 4 not deterministic. With --against-live: 0 the state is
    kept; 1 parts of it are reset; 4 a worker would stop.
    """
