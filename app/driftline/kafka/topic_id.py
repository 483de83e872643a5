"""Topic ids (KIP-516), which aiokafka's metadata requests are too old to ask for: one request of our own.

A topic that was deleted and recreated has the same name and other records: offsets of the old one mean nothing in it.
Its id shows it. Brokers before Kafka 2.8, and the embedded one, give none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from driftline.codec.journal import TopicIdentity

_NONE = UUID(int=0)


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka ships no types for its base classes
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> UUID:
        return UUID(bytes=data.read(16))


class _Response(Response):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _Struct(RequestStruct):  # type: ignore[misc]  # as above
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Metadata(Request[_Struct]):  # type: ignore[misc]  # as above
    """Of some topics, none of which it makes."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)

    def build(self, request_struct_class: type[_Struct]) -> _Struct:
        return request_struct_class([(_NONE, topic, {}) for topic in self._topics], False, False, False, {})


async def identities(client: Any, topics: Iterable[str]) -> Mapping[str, TopicIdentity]:
    """The topics that are there, each with its id (None where the broker gives none) and number of partitions.

    Args:
        client: an `AIOKafkaClient` that was started.

    Raises:
        KafkaError: no broker answers.
    """
    topics = list(topics)
    error: KafkaError | None = None
    for broker in client.cluster.brokers():
        try:
            answer = await client.send(broker.nodeId, _Metadata(topics))
        except (IncompatibleBrokerVersion, NotImplementedError):
            return {
                topic: TopicIdentity(None, len(partitions))
                for topic in topics
                if (partitions := client.cluster.partitions_for_topic(topic))
            }
        except KafkaError as refused:
            error = refused
            continue
        return {
            topic: TopicIdentity(None if topic_id == _NONE else str(topic_id), len(partitions))
            for code, topic, topic_id, _, partitions, *_ in answer.topics
            if not code and partitions
        }
    raise error or KafkaError("no broker is known")
