"""A broker from pip alone: librdkafka's mock cluster, in a child process.

It is up at once and needs neither Java nor a download. It is not Kafka: see `LIMITS`, which is printed where
it starts. Its C interface is called directly, since the Python package has no way to reach the cluster it
makes.

The mock has no CreateTopics request: topics appear on first use with four partitions. So the child listens on
a topic of its own, `EMBEDDED_TOPIC`: a record {"topic": partitions, ...} there makes topics (`topic.create`
writes it). A client knows an embedded broker by this topic, and by its lack of CreateTopics.

    with embedded.start() as broker:
        print(broker.bootstrap)
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from driftline.core.error import BrokerError
from driftline.core.notation import is_topic
from driftline.devbroker.node import Node, read_line, start_module, stop_process
from driftline.transport.port import EMBEDDED_TOPIC

AUTO_PARTITIONS = 4  # what the mock gives to a topic that appears on first use
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.1
LIMITS = (
    "the embedded broker is for a first look, the demo and quick tests. It keeps topics in memory, about "
    "5 MB per partition; allows one member per consumer group; does not isolate transactions, so a worker "
    "delivers at least once; and has no lookup by time. For full Kafka: driftline broker --kind kafka"
)
_PRODUCER = 0  # RD_KAFKA_PRODUCER


class EmbeddedNode(Node):
    """See the module. Made by `start`."""

    kind = "embedded"

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._child = start_module("driftline.devbroker.embedded", ["--topics", json.dumps(dict(topics))])
        try:
            self.bootstrap = str(read_line(self._child, START_TIMEOUT_S)["bootstrap"])
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid if self._child is not None else 0

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        if self._child is not None:
            stop_process(self._child, STOP_TIMEOUT_S)
            self._child = None

    def create_topics(self, topics: Mapping[str, int]) -> None:
        from driftline.kafka.topic import create_plain

        create_plain(self.bootstrap, topics)


def start(topics: Mapping[str, int] | None = None) -> EmbeddedNode:
    """Start a cluster and return when it answers.

    Args:
        topics: to make at once, name to number of partitions. Others appear on first use with four.

    Raises:
        BrokerError: the child did not come up.
    """
    return EmbeddedNode(topics or {})


class MockCluster:
    """librdkafka's mock cluster of one broker, by ctypes. Lives as long as the process.

    Source: rdkafka_mock.h of librdkafka 2.
    """

    def __init__(self) -> None:
        self._library = _library()
        reason = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", reason, len(reason))
        client = self._library.rd_kafka_new(_PRODUCER, configuration, reason, len(reason))
        if not client:
            raise BrokerError(f"librdkafka failed to start: {reason.value.decode()}; reinstall confluent-kafka")
        self._cluster = self._library.rd_kafka_mock_cluster_new(client, 1)
        if not self._cluster:
            raise BrokerError("librdkafka could not create a mock cluster; is 127.0.0.1 reachable?")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 100)

    @property
    def bootstrap(self) -> str:
        """`host:port` of the one broker."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; one that exists is left as it is."""
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)


def _library() -> Any:
    """librdkafka as confluent-kafka brings it: symbols are looked up through its extension module."""
    try:
        from confluent_kafka import cimpl
    except ImportError as error:
        raise BrokerError(
            f"the embedded broker needs confluent-kafka ({error}); pip install confluent-kafka"
        ) from error
    library = ctypes.CDLL(cimpl.__file__)
    pointer = ctypes.c_void_p
    try:
        for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            (
                "rd_kafka_conf_set",
                ctypes.c_int,
                [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t],
            ),
            ("rd_kafka_new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
            ("rd_kafka_mock_cluster_new", pointer, [pointer, ctypes.c_int]),
            ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, [pointer]),
            (
                "rd_kafka_mock_topic_create",
                ctypes.c_int,
                [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int],
            ),
            ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise BrokerError(f"this confluent-kafka has no mock cluster ({error}); install the wheel from PyPI") from error
    return library


def serve(topics: Mapping[str, int]) -> None:
    """Run a cluster in this process until the parent goes (end of input), making topics as they are asked
    for.

    Args:
        topics: made at the start, name to number of partitions.
    """
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    parent = os.getppid()
    cluster = MockCluster()
    for topic, partitions in {EMBEDDED_TOPIC: 1, **topics}.items():
        cluster.create(topic, partitions)
    orders = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": EMBEDDED_TOPIC,
            "log_level": 0,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
        }
    )
    orders.assign([TopicPartition(EMBEDDED_TOPIC, 0, OFFSET_BEGINNING)])
    print(json.dumps({"bootstrap": cluster.bootstrap}), flush=True)
    while os.getppid() == parent:
        if select.select([0], [], [], 0)[0] and not os.read(0, 4_096):
            return
        record = orders.poll(POLL_S)
        if record is not None and record.error() is None:
            for topic, partitions in read_order(record.value()).items():
                cluster.create(topic, partitions)


def read_order(value: bytes | None) -> dict[str, int]:
    """The topics that a record on the control topic asks for; none where it is another record."""
    try:
        order = json.loads(value or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(order, dict):
        return {}
    return {
        topic: partitions
        for topic, partitions in order.items()
        if is_topic(topic) and type(partitions) is int and 1 <= partitions <= 1_000
    }


def main(arguments: Sequence[str]) -> None:
    """`python -m driftline.devbroker.embedded [--topics JSON]`."""
    parser = argparse.ArgumentParser(prog="driftline.devbroker.embedded")
    parser.add_argument(
        "--topics", type=json.loads, default={}, help="topics to create, as JSON: name to number of partitions"
    )
    serve(parser.parse_args(arguments).topics)
    # librdkafka's threads hold the interpreter's own way out for seconds; nothing here needs closing.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
