"""`driftline worker`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does


@click.command()
@click.option("-p", "--pipeline", type=click.Path(path_type=Path), help="The pipeline file (DRIFTLINE_PIPELINE).")
@click.option("--bootstrap", help="Kafka's address, host:port,... (DRIFTLINE_BOOTSTRAP).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value of the pipeline file, as in params.lr=0.1; repeatable.",
)
@click.option("--web-host", help="Address of the page, /metrics and /health (DRIFTLINE_WEB_HOST).")
@click.option("--web-port", type=int, help="Port for the same (DRIFTLINE_WEB_PORT).")
@click.option(
    "--notify", type=click.Path(path_type=Path), help="File that lists webhooks for alerts (DRIFTLINE_NOTIFY)."
)
@click.option(
    "--reset-state", is_flag=True, help="Start with an untrained model; inputs continue from their current positions."
)
@click.option(
    "--on-gap",
    type=click.Choice(["stop", "continue"]),
    default="stop",
    show_default=True,
    help="What to do if input was deleted before it was read.",
)
@click.option(
    "--unsigned-state",
    "unsigned",
    type=click.Choice(["refuse", "trust", "ignore"]),
    default="refuse",
    show_default=True,
    help="For one start, if the state is not signed with a key of this worker: trust it, or ignore its unsigned end.",
)
@click.option(
    "--accept-unsigned-models/--no-accept-unsigned-models",
    "unsigned_models",
    default=None,
    help="If there is no key, still accept models from the control topic (DRIFTLINE_ACCEPT_UNSIGNED_MODELS).",
)
@click.option("--log-level", help="DEBUG, INFO, WARNING or ERROR (DRIFTLINE_LOG_LEVEL).")
@does("driftline.cli.worker:worker")
def worker() -> None:
    """Run a worker until SIGTERM or Ctrl-C: score events, learn from labels, detect drift.

    When stopped, it finishes the current slice and takes a snapshot. Workers of one pipeline share its
    shards; one that holds no shard is a standby.
    """
