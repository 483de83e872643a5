"""Boards of the page, and the records that they are made of."""

from __future__ import annotations

from typing import Any

from driftline.web.board import Board
from driftline.web.record import Alert, Note, fit
from driftline.web.verdict import Situation, Verdict, verdict_of

NOW_MS = 1_700_000_000_000


def note(**changes: Any) -> Note:
    made = {
        "positions": {"events": 5},
        "watermark_ms": NOW_MS,
        "version": "1.5",
        "metrics": {"Accuracy": 0.9},
        **changes,
    }
    found = fit(made, Note)
    assert found is not None
    return found


def alert(episode: str = "cards-0-loss-e7", **changes: Any) -> Alert:
    made = {
        "episode": episode,
        "state": "opened",
        "kind": "concept_drift",
        "severity": "warning",
        "sentence": "The model is worse than it was.",
        "opened_ms": NOW_MS,
        "time_ms": NOW_MS,
        **changes,
    }
    found = fit(made, Alert)
    assert found is not None
    return found


def board(**changes: Any) -> Board:
    """A pipeline of one shard, at work."""
    made = Board()
    made.begin(1)
    made.take_entry(0, NOW_MS - 1_000, note(**changes))
    made.take_members([("worker-a", "10.0.0.1", (0,))], NOW_MS - 60_000)
    return made


def look(there: Board, **situation: Any) -> Verdict:
    return verdict_of(there, Situation(**{"now_ms": NOW_MS, **situation}))
