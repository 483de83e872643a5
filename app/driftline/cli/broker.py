"""`driftline broker`: run a local broker."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from types import FrameType

import click

from driftline.cli.command.broker import Wanted
from driftline.cli.echo import echo, show
from driftline.cli.setting import settings_of
from driftline.config import load_pipeline
from driftline.devbroker import embedded, kafka
from driftline.devbroker.node import Node
from driftline.kafka.topic import create
from driftline.kafka.topic_rule import plan

EXITED = 3


class Stopped(BaseException):
    """A signal asked for the end; no error, so no `Exception`."""


def broker(wanted: Wanted, as_json: bool) -> None:
    """What `driftline broker` does."""
    _refuse_unfit(wanted)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with _start(wanted) as node:
            _announce(node, as_json)
            _stay(node)
    except Stopped:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        return
    echo("the broker stopped unexpectedly; check the machine's memory and disk, then start it again", err=True)
    sys.exit(EXITED)


def _refuse_unfit(wanted: Wanted) -> None:
    """Options that the embedded broker cannot follow."""
    if wanted.kind != "embedded":
        return
    if wanted.port is not None or wanted.data is not None:
        raise click.UsageError(
            "--port and --data need --kind kafka: the embedded broker picks its own port and stores nothing on disk"
        )
    if wanted.partitions != embedded.AUTO_PARTITIONS and wanted.pipeline_file is None:
        raise click.UsageError(
            f"the embedded broker creates topics on first use, with {embedded.AUTO_PARTITIONS} partitions. For another "
            "number, name the pipeline with -p FILE, or run `driftline topics create -p FILE --partitions N`"
        )


def _start(wanted: Wanted) -> Node:
    """Start the broker and make the topics of the pipeline, if one is given."""
    file, partitions = wanted.pipeline_file, wanted.partitions
    pipeline = None if file is None else load_pipeline(file, wanted.overrides)
    if wanted.kind == "embedded":
        plans = [] if pipeline is None else plan(pipeline, max(partitions, pipeline.shards or 1))
        return embedded.start({topic.name: topic.partitions for topic in plans})
    echo("starting Apache Kafka (the first time, Maven downloads 43 MB)", err=True)
    node = kafka.start(port=wanted.port, partitions=partitions, data=wanted.data)
    try:
        if pipeline is not None:
            asyncio.run(create(pipeline, settings_of(bootstrap=node.bootstrap), partitions=partitions))
    except BaseException:
        node.stop()
        raise
    return node


def _announce(node: Node, as_json: bool) -> None:
    """Print what to know on stderr, then the address on stdout, for programs: it is the last line."""
    if isinstance(node, embedded.EmbeddedNode):
        echo(embedded.LIMITS, err=True)
    echo(f"running until Ctrl-C; for other commands: DRIFTLINE_BOOTSTRAP={node.bootstrap}", err=True)
    show({"bootstrap": node.bootstrap, "kind": node.kind}, lambda: [node.bootstrap], as_json=as_json, indent=-1)


def _stay(node: Node) -> None:
    """Return only if the broker ends by itself."""
    while node.alive():
        time.sleep(0.2)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
