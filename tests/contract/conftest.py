"""The brokers that keep the contract, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.embedded import start as start_embedded
from tests.contract.lab import Lab, MemoryLab, embedded_lab, kafka_lab


@pytest.fixture(scope="session")
def embedded_shared() -> Iterator[EmbeddedNode]:
    """One embedded broker for all contract tests: each takes topics of its own."""
    with start_embedded() as node:
        yield node


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.integration)])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """Each broker in turn."""
    match request.param:
        case "memory":
            made: Lab = MemoryLab()
        case "embedded":
            made = embedded_lab(request.getfixturevalue("embedded_shared"))
        case _:
            made = kafka_lab(request.getfixturevalue("kafka"))
    yield made
    await made.close()
