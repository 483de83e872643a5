"""The worker's log: a line for each alert, and never more than its bound."""

from __future__ import annotations

import logging

import pytest

from driftline.core.output import Alert
from driftline.engine.alert_log import LINES_MAX, SPAN_S, AlertLog
from driftline.transport.clock import Clock


def alert(state: str, severity: str = "warning") -> Alert:
    return Alert(
        "t-0-1-2", 0, 0, "p-0-error-l7", state, "concept_drift", severity, ("operations",),  # type: ignore[arg-type]  # a state
        "p has been wrong more often.", {}, {}, 1, 0, {}, "docs/runbook.md#concept-drift",
    )  # fmt: skip


def test_an_alert_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    AlertLog().committed([alert("opened", "critical"), alert("resolved", "critical")])
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("WARNING", "alert opened (critical): p has been wrong more often. [p-0-error-l7]"),
        ("INFO", "alert resolved (critical): p has been wrong more often. [p-0-error-l7]"),
    ]


def test_a_storm_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now_s = 0.0
    written = AlertLog(Clock(lambda: now_s))
    for _ in range(LINES_MAX + 12):
        written.committed([alert("opened")])
    assert len(caplog.records) == LINES_MAX
    now_s = SPAN_S
    written.committed([alert("resolved")])
    assert [one.getMessage()[:7] for one in caplog.records[LINES_MAX:]] == ["12 more", "alert r"]
