"""Produce requests have the bytes that aiokafka gives them."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.producer import sender
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.struct import Struct

import driftline.kafka.publisher  # noqa: F401 - it installs ours
from driftline.kafka import request

BATCH = bytearray(b"\x00\xffbatch" * 100)
TOPICS: tuple[Any, ...] = (
    [],
    [("p.scores", [])],
    [("p.scores", [(0, BATCH), (3, bytearray())]), ("p.journal", [(0, b"entry")])],
    [("p.größe", [(2**31 - 1, None)])],
)


@pytest.mark.parametrize("topics", TOPICS, ids=range(len(TOPICS)))
@pytest.mark.parametrize("identity", ["p-0", None])
def test_a_request_has_the_bytes_of_its_schema(identity: str | None, topics: Any) -> None:
    """In each version that aiokafka may agree on with a broker."""
    for version in range(3, 8):
        made = ProduceRequest(identity, -1, 10_000, topics).prepare({0: (0, version)})
        assert version == made.API_VERSION
        assert made.encode() == Struct.encode(made)


def test_what_a_publisher_sends_is_put_together_in_one_go() -> None:
    """In all versions that the sender may use: another aiokafka may encode elsewhere."""
    assert sender.ProduceRequest is ProduceRequest
    assert {kind.encode for kind in ProduceRequest._CLASSES} == {request.joined}
