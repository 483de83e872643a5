"""`driftline worker`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does


@click.command()
@click.option("-p", "--pipeline", type=click.Path(path_type=Path), help="The pipeline file (DRIFTLINE_PIPELINE).")
@click.option("--bootstrap", help="Brokers to ask first, host:port (DRIFTLINE_BOOTSTRAP).")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="In place of what the file says.")
@click.option("--web-host", help="Where /metrics and /health are served (DRIFTLINE_WEB_HOST).")
@click.option("--web-port", type=int, help="Port of /metrics and /health (DRIFTLINE_WEB_PORT).")
@click.option("--notify", type=click.Path(path_type=Path), help="File of webhooks for alerts (DRIFTLINE_NOTIFY).")
@click.option("--reset-state", is_flag=True, help="Start with an untrained model; inputs go on where they stand.")
@click.option(
    "--on-gap",
    type=click.Choice(["stop", "continue"]),
    default="stop",
    show_default=True,
    help="When input was deleted before it was read.",
)
@click.option(
    "--unsigned-state",
    "unsigned",
    type=click.Choice(["refuse", "trust", "ignore"]),
    default="refuse",
    show_default=True,
    help="Once, where no key of this worker signed what is there: take it as it is, or pass over its last entries.",
)
@click.option(
    "--accept-unsigned-models/--no-accept-unsigned-models",
    "unsigned_models",
    default=None,
    help="Without a key, take models from the control topic (DRIFTLINE_ACCEPT_UNSIGNED_MODELS).",
)
@click.option("--log-level", help="DEBUG, INFO, WARNING or ERROR (DRIFTLINE_LOG_LEVEL).")
@does("driftline.cli.worker:worker")
def worker() -> None:
    """Score, learn and watch until stopped (SIGTERM or Ctrl-C: finishes what is under way, leaves a snapshot).

    Start as many as there are partitions, at most; they share them.
    """
