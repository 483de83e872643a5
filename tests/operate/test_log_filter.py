"""What the log leaves out: what others tell again and again, or somebody has told already."""

from __future__ import annotations

import logging
import sys
import time
from types import ModuleType, TracebackType
from typing import TypeAlias

import pytest

from driftline.engine import recovery
from driftline.operate import log_filter, notify
from driftline.operate.log_filter import Chatter, Once, Seldom
from driftline.operate.stray import REPEAT_S, STRAYS_MAX, Strays

Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


def record(text: str, *arguments: object, raised: Raised | None = None) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.any", logging.ERROR, __file__, 1, text, arguments, raised)


def raised(error: Exception) -> Raised:
    try:
        raise error
    except Exception:  # noqa: BLE001 - as a logger would find it
        kind, value, traceback = sys.exc_info()
        assert kind is not None
        assert value is not None
        return kind, value, traceback


class KafkaConnectionError(Exception):
    """Named as aiokafka's."""


def test_that_somebody_does_not_answer_is_told_by_the_outage_alone() -> None:
    seldom = Seldom()
    for text in ("Unable connect to node with id %s: %s", "Heartbeat send request failed: %s. Will retry."):
        assert not seldom.filter(record(text, 1, "refused"))
    assert not seldom.filter(record("Unexpected error in sender routine", raised=raised(KafkaConnectionError("gone"))))


def test_other_errors_are_told_now_and_then_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seldom = Seldom()
    first = record("Unexpected error in %s", "sender routine", raised=raised(ValueError("odd")))
    assert seldom.filter(first)
    assert first.getMessage() == "Unexpected error in sender routine: ValueError('odd')"
    assert first.exc_info is None
    assert not seldom.filter(record("Unexpected error in %s", "sender routine"))
    monkeypatch.setattr(log_filter, "REPEAT_S", 0.0)
    again = record("Unexpected error in %s", "sender routine")
    assert seldom.filter(again)
    assert again.getMessage() == "Unexpected error in sender routine (and 1 more like it)"


def test_an_error_that_ends_the_worker_is_left_to_the_command() -> None:
    once = Once()
    assert not once.filter(record("[^--%s]: Crashed reason=%r", "Hosted", ValueError()))
    assert not once.filter(record("[^Worker]: We experienced a crash! Reraising original exception..."))
    assert once.filter(record("shard %d: recovered", 0))


def test_services_of_faust_are_left_out_and_their_faults_are_not() -> None:
    def of(level: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("driftline.main", level, __file__, 1, text, ("Hosted",), None)

    chatter = Chatter()
    assert not chatter.filter(of(logging.INFO, "[^--%s]: Starting..."))
    assert chatter.filter(of(logging.WARNING, "[^--%s]: is slow"))
    assert chatter.filter(of(logging.INFO, "pipeline %s"))


@pytest.mark.parametrize("module", [recovery, notify])
@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_a_flood_of_records_that_are_ignored_fills_no_log(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, level: int
) -> None:
    """Whoever may write to the journal could have a line logged for each record, at each recovery."""
    now_s = [1.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    for one in module.log.filters[:]:
        module.log.removeFilter(one)
    log_filter.quieten()
    (strays,) = [one for one in module.log.filters if isinstance(one, Strays)]
    module.log.removeFilter(strays)

    def told(count: int, shard: int = 0) -> list[str]:
        made = [
            logging.LogRecord("x", level, __file__, 1, "shard %d: %d is ignored", (shard, number), None)
            for number in range(count)
        ]
        return [one.getMessage() for one in made if strays.filter(one)]

    assert len(told(1_000)) == STRAYS_MAX
    assert told(1_000) == []
    (*_, last) = told(1_000, shard=1)
    assert last == "shard 1: 9 is ignored (more like it are not logged for 10 minutes)"
    now_s[0] += REPEAT_S
    assert told(2) == ["shard 0: 0 is ignored (after 1990 more like it)", "shard 0: 1 is ignored"]
    assert strays.filter(logging.LogRecord("x", logging.INFO, __file__, 1, "shard %d: recovered", (0,), None))
