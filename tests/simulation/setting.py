"""What surrounds a simulation: the engine's bounds and pauses, made small; no log; pipelines parsed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import ModuleType
from unittest.mock import patch

import orjson

from driftline.codec import manifest
from driftline.core import fingerprint
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.shard import upload
from driftline.engine import epoch, fold, gap, live, recovered, recovery, snapshot, turn, worker
from tests.simulation.lessons import SMALL
from tests.simulation.scenario import Scenario
from tests.support import memory

POLL_WAIT_S = 0.25
NOTE_EVERY_S = 0.5


@contextmanager
def surroundings(scenario: Scenario, versions: Callable[[], dict[str, str]]) -> Iterator[None]:
    """No log, which would fill screens; polls that take their time; pipelines that were parsed before; bounds met.

    Args:
        versions: of the process that asks.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    replaced: list[tuple[ModuleType, str, object]] = [
        (memory, "POLL_WAIT_S", POLL_WAIT_S),
        (worker, "NOTE_EVERY_S", NOTE_EVERY_S),
        (live, "LOOK_EVERY_S", POLL_WAIT_S),
        (epoch, "parse_foreign", _parsed_foreign),  # a pure function, and half of the time
        (recovery, "parse_foreign", _parsed_foreign),
        *((module, "versions", versions) for module in (epoch, gap, recovered, snapshot, fingerprint)),
        *(NARROW if scenario.narrow else ()),
    ]
    with ExitStack() as stack:
        stack.enter_context(state_bounds(scenario))
        for module, name, value in replaced:
            stack.enter_context(patch.object(module, name, value))
        try:
            yield
        finally:
            logging.disable(level)


NARROW: tuple[tuple[ModuleType, str, object], ...] = (
    (manifest, "CHUNK_BYTES", 1_500),
    (live, "QUEUE_MAX", 6),
    (live, "SLICE_BYTES_MAX", 1_500),
    (turn, "TURN_S", -1.0),
    *((module, "TOGETHER", 3) for module in (fold, live)),
    (memory, "POLL_RECORDS_MAX", 4),
    (memory, "BATCH_BYTES_MAX", 2_000),
    (recovery, "READ_RECORDS_MAX", 3),
    (snapshot, "READ_RECORDS_MAX", 2),
    (snapshot, "BYTES_A_COMMIT", 3_000),
    (snapshot, "RECORDS_A_COMMIT", 3),
    (snapshot, "REWRITE_BYTES", 0),
    (snapshot, "REFRESH_SNAPSHOTS", 5),
)


@contextmanager
def state_bounds(scenario: Scenario) -> Iterator[None]:
    """Bounds that the state depends on: whoever folds needs the same."""
    bounds = [*SMALL, (upload, "WITHIN_MS", 900 if scenario.narrow else upload.WITHIN_MS)]
    with ExitStack() as stack:
        for module, name, value in bounds:
            stack.enter_context(patch.object(module, name, value))
        yield


@lru_cache(maxsize=64)
def parsed(document: bytes) -> Pipeline:
    return parse_pipeline(orjson.loads(document))


def _parsed_foreign(document: object, own: Pipeline) -> Pipeline:
    """As `parse_foreign`, for documents that one pipeline after the other wrote itself."""
    return parsed(orjson.dumps(document))
