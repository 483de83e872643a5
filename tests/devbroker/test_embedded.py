"""The embedded broker: up with its topics, makes more on order, gone with its parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable

from driftline.devbroker import embedded as module
from driftline.devbroker.embedded import EmbeddedNode, read_order
from driftline.devbroker.node import wait_for
from driftline.kafka.client import admin, partition_counts, producer
from driftline.transport.port import EMBEDDED_TOPIC
from tests.devbroker.test_guard import runs

START = """
import sys
from driftline.devbroker import embedded
node = embedded.start()
print(node.pid, flush=True)
sys.stdin.read()
"""


async def counts(node: EmbeddedNode) -> dict[str, int]:
    async with admin({"bootstrap_servers": node.bootstrap}) as client:
        return await partition_counts(client)


async def test_named_topics_are_there_at_once() -> None:
    async with module.start({"a": 1, "b": 1}) as node:
        assert await counts(node) == {"a": 1, "b": 1, EMBEDDED_TOPIC: 1}


async def test_topics_are_made_on_order(embedded: EmbeddedNode) -> None:
    embedded.create_topics({"one": 1, "seven": 7})
    embedded.create_topics({"one": 3, "two": 2})
    found = await counts(embedded)
    assert (found["one"], found["two"], found["seven"]) == (1, 2, 7)


def test_orders_that_are_none_are_ignored() -> None:
    assert read_order(b'{"a": 2}') == {"a": 2}
    for value in (None, b"", b"\xff", b"[1]", b'{"a": 0}', b'{"a": "4"}', b'{"a": 100000}', b'{"a": true}'):
        assert read_order(value) == {}


def test_no_order_ends_the_broker(embedded: EmbeddedNode) -> None:
    """Anyone on this machine can write one."""
    hostile = (
        b'{"\\ud800": 1}',
        b'{"": 1}',
        b'{"a b": 1}',
        b'{"a\\u0000b": 1}',
        b'{"%s": 1}' % (b"a" * 250),
        b"[" * 100_000,
    )
    for value in hostile:
        assert read_order(value) == {}
    asyncio.run(_send(embedded, hostile))
    embedded.create_topics({"after": 1})
    assert embedded.alive()


async def _send(node: EmbeddedNode, orders: Iterable[bytes]) -> None:
    async with producer({"bootstrap_servers": node.bootstrap}) as sender:
        for order in orders:
            await sender.send_and_wait(EMBEDDED_TOPIC, order, partition=0)


def test_stop_ends_the_child_and_may_be_repeated() -> None:
    node = module.start()
    pid = node.pid
    assert node.alive()
    node.stop()
    node.stop()
    assert not node.alive()
    assert not runs(pid)


def test_a_signal_of_the_terminal_does_not_reach_it(embedded: EmbeddedNode) -> None:
    """It must outlive the worker that a Ctrl-C stops."""
    assert os.getsid(embedded.pid) != os.getsid(0)


def test_it_goes_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    assert runs(pid)
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    assert wait_for(lambda: not runs(pid), 10)
