"""A real node: answers, comes back after a restart, a kill and a pause, and leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from driftline.core.error import BrokerError
from driftline.devbroker import kafka as module
from driftline.devbroker.kafka import KafkaNode, answers
from driftline.devbroker.node import HOST, free_port, wait_for
from driftline.kafka.client import admin, consumer, partition_counts, producer
from tests.devbroker.test_guard import runs

START = """
import sys
from driftline.devbroker import kafka
node = kafka.start()
print(node.pid, node.log.parent, flush=True)
sys.stdin.read()
"""


async def counts(node: KafkaNode) -> dict[str, int]:
    async with admin({"bootstrap_servers": node.bootstrap}) as client:
        return await partition_counts(client)


async def test_a_transaction_is_seen_whole(kafka: KafkaNode) -> None:
    """The node has what exactly_once needs: transactions on a single broker, isolated."""
    kafka.create_topics({"whole": 1})
    options = {"bootstrap_servers": kafka.bootstrap}
    async with producer(options, transactional_id="whole") as sender:
        async with sender.transaction():
            await sender.send("whole", b"kept")
        await sender.begin_transaction()
        await sender.send("whole", b"aborted")
        await sender.abort_transaction()
    async with consumer(
        options, isolation_level="read_committed", auto_offset_reset="earliest", enable_auto_commit=False
    ) as reader:
        reader.subscribe(["whole"])
        assert (await reader.getone()).value == b"kept"
        assert await reader.getmany(timeout_ms=300) == {}


async def test_topics_do_not_appear_by_themselves(kafka: KafkaNode) -> None:
    async with producer({"bootstrap_servers": kafka.bootstrap}, request_timeout_ms=1_000) as sender:
        with pytest.raises(Exception, match="UnknownTopicOrPartition|Timeout"):
            await sender.send_and_wait("typo", b"1")
    assert "typo" not in await counts(kafka)


async def test_faults_leave_the_topics(kafka_needs: None) -> None:
    async with module.start(partitions=2) as node:
        folder, first = node.log.parent, node.pid
        node.create_topics({"kept": 3})
        node.restart()
        assert node.pid != first
        assert (await counts(node))["kept"] == 3
        node.kill()
        assert not node.alive()
        assert not answers(node.port)
        node.start()
        assert (await counts(node))["kept"] == 3
        node.pause()
        assert not answers(node.port)
        node.resume()
        assert wait_for(lambda: answers(node.port), 10)
        node.pause()
        last = node.pid
    assert not runs(last)
    assert not folder.exists()


def test_a_kept_folder_comes_up_on_another_port(kafka_needs: None, tmp_path: Path) -> None:
    for port in (free_port(), free_port()):
        with module.start(port=port, data=tmp_path / "data") as node:
            assert node.bootstrap == f"{HOST}:{port}"
            assert answers(port)
    assert (tmp_path / "data" / "log" / "meta.properties").exists()


def test_a_port_that_is_taken_is_a_clear_error(kafka_needs: None, tmp_path: Path) -> None:
    with (
        socket.create_server((HOST, 0)) as server,
        pytest.raises(BrokerError, match=r"port \d+ on 127.0.0.1 is in use; give another --port"),
    ):
        module.start(port=server.getsockname()[1], data=tmp_path)


def test_what_java_complains_of_is_shown(kafka_needs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAP", "1m")
    with pytest.raises(BrokerError, match=r"(?s)Kafka ended.*(heap|Error).*broker.log"):
        module.start(data=tmp_path / "data")


def test_a_folder_of_something_else_is_a_clear_error(kafka_needs: None, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("not a folder")
    with pytest.raises(BrokerError, match="could not format.*\n(?s:.*)use an empty folder"):
        module.start(data=tmp_path)


def test_it_goes_when_its_parent_is_killed(kafka_needs: None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert runs(int(pid))
        parent.kill()
        assert wait_for(lambda: not runs(int(pid)), 25)
        assert wait_for(lambda: not Path(folder).exists(), 10)


def test_no_answer_from_what_is_no_broker() -> None:
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(0.1)
        assert not answers(free_port())
