"""Brokers for tests. `embedded` is fresh for each test that asks; `kafka` is one real node for the whole session.

A test that uses `kafka` is an integration test: it needs Java 17 and, once, Maven. Without them it is skipped on a
user's machine, saying what to install, and fails where CI is set.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.embedded import start as start_embedded
from driftline.devbroker.java import JavaError
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.kafka import start as start_kafka

# How long an example takes is the machine's, not the code's; where CI is set, Hypothesis has such a profile of its own.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("CI"):
    settings.load_profile("any machine")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores it for them, and so for every command that they interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW = frozenset({"fuzz", "integration", "parity", "property", "simulation"})  # folders; single files mark themselves


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests are never garbage; looking for it among them, again and again, takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a real Kafka, and what `make check` leaves to `make test`."""
    for item in items:
        if SLOW & {*item.path.relative_to(item.config.rootpath).parts}:
            item.add_marker(pytest.mark.slow)
        if {"kafka", "kafka_needs"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


def in_ci() -> bool:
    """Whether a missing tool must fail the tests instead of skipping them."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def missing(error: JavaError) -> NoReturn:
    """Skip, or fail in CI."""
    if in_ci():
        pytest.fail(f"CI must run the tests on a real Kafka: {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka_needs() -> None:
    """Java and Kafka's jars are there, for tests that start nodes of their own."""
    from driftline.devbroker.java import fetch_jars, find_java

    try:
        find_java()
        fetch_jars()
    except JavaError as error:
        missing(error)


@pytest.fixture(scope="session")
def kafka(kafka_needs: None) -> Iterator[KafkaNode]:
    """A real Kafka node, shared: use topic names of your own."""
    with start_kafka() as node:
        yield node


@pytest.fixture
def embedded() -> Iterator[EmbeddedNode]:
    """An embedded broker of the test's own."""
    with start_embedded() as node:
        yield node
