"""What the page says of changes: model versions and what made them, drift, trips of the guard."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.web.verdict import Situation
from driftline.web.view import sections
from tests.support.boards import NOW_MS, alert, board, note
from tests.support.pipelines import pipeline


def test_what_changes_between_notes_is_marked() -> None:
    there = board()
    guard = {"tripped": {"range clip": 2}}
    there.take_entry(0, NOW_MS, note(version="2.5", drifts={"loss drift rise": 1}, guard=guard, frozen=True))
    there.take_entry(0, NOW_MS + 1, note(version="2.6", drifts={"loss drift rise": 1}, guard=guard, frozen=True))
    assert [(mark.kind, mark.text) for mark in there.marks] == [
        ("model", "Generation 2 of the model follows 1: its last good copy, because the model had no finite answer"),
        ("drift", "Loss rose"),
        ("model", "Learning was frozen"),
        ("guard", "The guard acted on 2 predictions: 2 clipped (out of range)"),
    ]


def test_a_model_that_improves_is_no_drift_on_the_curve() -> None:
    there = board()
    there.take_entry(0, NOW_MS, note(drifts={"error drift fall": 1}))
    there.take_entry(0, NOW_MS + 1, note(drifts={"error drift fall": 1, "error drift rise": 1}))
    assert [mark.kind for mark in there.marks] == ["better", "drift"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("error warning rise", "Errors rose (a warning)"),
        ("feature:amount drift fall", "Amount fell"),
        ("rate:country=FR drift rise", "The share of FR in country rose"),
        ("label_rate drift fall", "The share of its labels that arrive in time fell"),
        ("none of ours", "None of ours"),
        ("", ""),
    ],
)
def test_a_drift_is_marked_in_words(name: str, text: str) -> None:
    there = board()
    there.take_entry(0, NOW_MS, note(drifts={name: 1}))
    assert [mark.text for mark in there.marks] == [text]


def test_trips_in_a_row_are_one_mark() -> None:
    there = board(guard={"tripped": {}})
    for count in range(1, 4):
        guard = {"tripped": {"range clip": count}, "instead": {"last_good": count - 1}}
        there.take_entry(0, NOW_MS + count, note(guard=guard))
    (mark,) = there.marks
    assert mark.text == "The guard acted on 3 predictions: 3 clipped (out of range); 2 served last good instead"


@pytest.mark.parametrize(
    ("version", "changes", "cause", "text"),
    [
        ("2.5", {"counts": {"control_reset": 1}, "commands": ["reset", "ana", 5]}, "reset", "reset by command"),
        ("2.5", {"counts": {"control_load": 1}, "commands": ["load", "ana", 5]}, "load", "loaded by command (ana)"),
        (
            "2.5",
            {"counts": {"reaction_swap": 1}, "drifts": {"loss drift rise": 1}},
            "drift",
            "beside it, after drift (loss rose)",
        ),
        (
            "2.5",
            {"counts": {"reaction_reset": 1}, "drifts": {"error drift fall": 1, "error drift rise": 1}},
            "drift",
            "an untrained model, after drift (errors rose)",
        ),
        ("2.5", {"counts": {"quarantine_undone": 90}}, "undone", "a copy from before suspect labels"),
        ("2.5", {}, "fallback", "its last good copy"),
        ("0.0", {}, "restart", "began anew"),
        (
            "3.5",
            {"counts": {"control_reset": 1}},
            "fallback",
            "an untrained model: reset by command; its last good copy",
        ),
    ],
)
def test_each_model_says_what_made_it(version: str, changes: dict[str, Any], cause: str, text: str) -> None:
    there = board(version="1.5")
    made = {"counts": {}, "drifts": {}, **changes}
    if "commands" in made:
        command, by, time_ms = made["commands"]
        made["commands"] = [{"command": command, "by": by, "time_ms": time_ms}]
    there.take_entry(0, NOW_MS, note(version=version, **made))
    first, second = there.versions
    assert (first.cause, first.generation) == ("unread", "1")
    assert (second.cause, second.generation) == (cause, version[0])
    assert text in second.text
    shown: Any = sections(there, pipeline(), Situation(NOW_MS))["versions"]
    assert [one["generation"] for one in shown] == [version[0], "1"], "the latest first"


def test_a_change_of_the_model_is_no_good_news() -> None:
    """It is reported as resolved, since nothing is to end; that says nothing of how well the model does."""
    there = board()
    there.take_alert(0, NOW_MS, alert("cards-0-changed", kind="model_change", state="resolved"))
    assert [mark.kind for mark in there.marks] == ["alert"]
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    assert made["episodes"]["first"][0]["state"] == "reported"


def test_a_drift_between_two_notes_is_dated_by_its_alert() -> None:
    """In a replay there may be hours of event time between two notes of a second each."""
    there = board()
    later = NOW_MS + 3_600_000
    there.take_entry(0, NOW_MS, note(version="2.0", watermark_ms=later, drifts={"loss drift rise": 1}))
    assert [(mark.kind, mark.from_ms, mark.time_ms) for mark in there.marks] == [
        ("model", NOW_MS, later),
        ("drift", NOW_MS, later),
    ]
    assert [one.from_ms for one in there.versions] == [None, NOW_MS]
    there.take_alert(0, NOW_MS, alert("cards-0-guard", kind="guard", opened_ms=NOW_MS + 9))
    there.take_alert(0, NOW_MS, alert("cards-0-before", opened_ms=NOW_MS - 9))
    assert there.marks[1].from_ms == NOW_MS, "neither is about the drift"
    there.take_alert(0, NOW_MS, alert(opened_ms=NOW_MS + 60_000))
    there.take_alert(0, NOW_MS, alert("cards-0-changed", kind="model_change", opened_ms=NOW_MS + 70_000))
    dated = {mark.kind: mark for mark in there.marks if mark.kind != "alert"}
    assert (dated["drift"].from_ms, dated["drift"].time_ms) == (None, NOW_MS + 60_000)
    assert (dated["model"].from_ms, dated["model"].time_ms) == (None, NOW_MS + 70_000)
    assert [(one.from_ms, one.time_ms) for one in there.versions] == [(None, NOW_MS), (None, NOW_MS + 70_000)]


def test_a_drift_is_dated_by_an_alert_that_came_first_and_by_no_two_of_them() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert("cards-0-a", opened_ms=NOW_MS + 60_000))
    there.take_entry(0, NOW_MS, note(watermark_ms=NOW_MS + 100_000, drifts={"loss drift rise": 1}))
    assert (there.marks[-1].from_ms, there.marks[-1].time_ms) == (None, NOW_MS + 60_000)
    there.take_alert(0, NOW_MS, alert("cards-0-b", opened_ms=NOW_MS + 150_000))
    there.take_alert(0, NOW_MS, alert("cards-0-c", opened_ms=NOW_MS + 160_000))
    there.take_entry(0, NOW_MS, note(watermark_ms=NOW_MS + 200_000, drifts={"loss drift rise": 2}))
    assert (there.marks[-1].from_ms, there.marks[-1].time_ms) == (NOW_MS + 100_000, NOW_MS + 200_000)


def test_what_changes_within_a_minute_of_event_time_needs_no_date() -> None:
    there = board()
    there.take_entry(0, NOW_MS, note(watermark_ms=NOW_MS + 60_000, drifts={"loss drift rise": 1}))
    assert there.marks[-1].from_ms is None


def test_trips_of_a_replay_stand_where_they_were_or_where_their_alert_began() -> None:
    """Half a minute of the wall may be hours of event time: a first trip is no mark of all those that follow."""
    there = board(guard={"tripped": {"range hold": 0}})
    hour_ms = 3_600_000
    for hours, count in ((1, 2), (2, 466), (3, 470)):
        made = note(watermark_ms=NOW_MS + hours * hour_ms, guard={"tripped": {"range hold": count}})
        there.take_entry(0, NOW_MS + hours, made)
    there.take_alert(0, NOW_MS + 10, alert(kind="guard", opened_ms=NOW_MS + hour_ms + 600_000))
    assert [(one.from_ms, one.time_ms, one.count) for one in there.marks if one.kind == "guard"] == [
        (NOW_MS, NOW_MS + hour_ms, 2),
        (None, NOW_MS + hour_ms + 600_000, 464),
        (NOW_MS + 2 * hour_ms, NOW_MS + 3 * hour_ms, 4),
    ]
    made = note(watermark_ms=NOW_MS + 3 * hour_ms + 1_000, guard={"tripped": {"range hold": 471}})
    there.take_entry(0, NOW_MS + 11, made)
    (*_, last) = [one for one in there.marks if one.kind == "guard"]
    assert (last.from_ms, last.time_ms, last.count) == (NOW_MS + 2 * hour_ms, NOW_MS + 3 * hour_ms, 5)
