"""The page's first sentence, what was done about it, and what to do."""

from __future__ import annotations

import re
from typing import Any, cast, get_args

import pytest

from driftline.core.pipeline import AlertKind
from driftline.web.backlog import First
from driftline.web.board import Board
from driftline.web.record import Review
from driftline.web.runbook import runbook_page
from driftline.web.verdict import LATE_MS, QUIET_MS, STALLED_MS, Situation, _findings, verdict_of
from driftline.web.view import sections
from tests.support.boards import NOW_MS, alert, board, look, note
from tests.support.pipelines import pipeline


def test_a_pipeline_at_work_without_alerts_is_well() -> None:
    assert look(board()).level == "good"


def test_kafka_that_is_away_comes_first_and_since_when() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(severity="critical"))
    found = look(there, away_ms=NOW_MS - 5_000)
    assert (found.level, found.since_ms) == ("bad", NOW_MS - 5_000)
    assert found.text.startswith("Kafka does not answer")
    assert "worse" in found.also[0].text


def test_without_any_record_there_is_no_data() -> None:
    there = Board()
    there.begin(1)
    assert look(there).text.startswith("No data")
    assert look(there, loaded=False).text == "Reading the topics."


def test_the_worst_open_alert_is_the_sentence_with_its_beginning() -> None:
    there = board()
    there.take_alert(0, NOW_MS - 9_000, alert("cards-0-a"))
    there.take_alert(0, NOW_MS - 8_000, alert("cards-0-b", severity="critical", sentence="It is much worse."))
    there.take_alert(0, NOW_MS - 7_000, alert("cards-0-c"))
    found = look(there)
    assert (found.level, found.text, found.since_ms) == ("bad", "It is much worse.", NOW_MS - 8_000)
    assert "And 1 more alert." in found.also[0].text


def test_an_alert_that_goes_on_keeps_its_sentence_and_says_how_it_is_now() -> None:
    there = board()
    there.take_alert(0, NOW_MS - 9_000, alert(sentence="Since about 50 events ago, amounts are higher."))
    there.take_alert(0, NOW_MS - 3_000, alert(state="ongoing", update=2, sentence="It has stayed at its new level."))
    found = look(there)
    assert (found.text, found.since_ms) == ("Since about 50 events ago, amounts are higher.", NOW_MS - 9_000)
    assert [one.text for one in found.also] == ["Now: It has stayed at its new level."]


def test_the_same_alert_on_other_shards_is_named_with_them() -> None:
    there = Board()
    there.begin(3)
    for number in range(3):
        there.take_entry(number, NOW_MS - 10_000, note(episodes=[f"cards-{number}-a"]))
        there.take_alert(number, NOW_MS - 9_000 + number, alert(f"cards-{number}-a"))
    there.take_alert(0, NOW_MS - 9_500, alert("cards-0-b", kind="guard"))
    assert look(there).text == "The model is worse than it was. The same on shards 0, 1. And 1 more alert."


def test_an_alert_that_is_over_is_not_in_the_sentence() -> None:
    there = board()
    there.take_alert(0, NOW_MS - 9_000, alert())
    there.take_alert(0, NOW_MS - 3_000, alert(state="resolved", update=2))
    assert (look(there).level, look(there).since_ms) == ("good", NOW_MS - 3_000)


def test_an_acknowledged_alert_says_by_whom() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(acknowledged=True, acknowledged_by="ana"))
    assert look(there).text.endswith("Acknowledged by ana.")


def test_a_worker_that_is_gone_leaves_its_shard_alone() -> None:
    there = board()
    there.take_members([], NOW_MS - 2_000)
    assert (look(there).level, look(there).text) == ("bad", "No worker is running: nothing is scored.")
    assert look(there).since_ms == NOW_MS - 2_000
    there.take_members([("worker-b", "10.0.0.2", (0,))], NOW_MS)
    assert look(there).level == "good"
    assert [mark.text for mark in there.marks] == ["A worker left (10.0.0.1)", "A worker joined (10.0.0.2)"]


def silent(there: Board, since_ms: int, now_ms: int) -> None:
    """A record waits for shard 0 from a time on, and by another the page has read nothing of it."""
    there.read_ms = since_ms
    there.take_ends({0: {"events": 9}})
    there.take_firsts({0: {"events": First(5, 5, since_ms)}})
    there.read_ms = now_ms


def test_a_shard_with_records_to_read_that_does_not_move_is_trouble() -> None:
    there = board()
    silent(there, NOW_MS, NOW_MS + STALLED_MS)
    assert look(there, now_ms=NOW_MS + STALLED_MS).level == "warning", "Kafka misses a dead worker before that"
    found = look(there, now_ms=NOW_MS + STALLED_MS + 1)
    assert (found.level, found.since_ms) == ("bad", NOW_MS - 1_000)
    assert "Shard 0 is stuck, with 4 records" in found.text


def test_a_shard_that_is_not_heard_from_is_not_well_long_before() -> None:
    there = board()
    silent(there, NOW_MS, NOW_MS + 4_900)
    assert look(there, now_ms=NOW_MS + 4_900).level == "good"
    there.read_ms = NOW_MS + 6_000
    found = look(there, now_ms=NOW_MS + 7_000)
    assert (found.level, found.place) == ("warning", "workers")
    assert found.text.startswith("Shard 0 has written nothing for 6 s, with 4 records to read: slow, or without")
    (shown,) = cast("list[Any]", sections(there, pipeline(), Situation(NOW_MS))["shards"])
    assert shown["silent_s"] == 6
    there.round_ms = NOW_MS + 8_000
    there.take_entry(0, NOW_MS, note(positions={"events": 9}))
    assert look(there, now_ms=NOW_MS + 8_000).level == "good", "by the page's clock, whatever the worker's says"


def test_a_page_that_reads_late_says_so_and_nothing_of_others() -> None:
    there = board()
    silent(there, NOW_MS, NOW_MS + 1_000)
    assert look(there, now_ms=NOW_MS + LATE_MS).level == "good"
    found = look(there, now_ms=NOW_MS + 601_000)
    assert found.text.startswith("This page is 600 s late")
    assert not [one for one in found.also if "written nothing" in one.text]


def test_no_new_records_is_well_and_says_so() -> None:
    there = board()
    there.take_ends({0: {"events": 5}})
    found = look(there, now_ms=NOW_MS + QUIET_MS)
    assert found.level == "good"
    assert found.also[0].text.startswith("No new records. Idle workers write nothing")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"full": 0.93}, "93.0% full"),
        ({"frozen": True}, "is frozen"),
        ({"learning": {"held": 1_204, "deadline_ms": NOW_MS}}, "1,204 labels of shard 0 are held back"),
        ({"learning": {"stopped": True}}, "does not learn while an alert is open"),
        ({"known": 0, "counts": {"scored": 5}}, "untrained"),
    ],
)
def test_what_a_shard_says_of_itself_is_a_warning(changes: dict[str, Any], text: str) -> None:
    found = look(board(**changes))
    assert found.level == "warning"
    assert text in found.text


def test_what_is_wrong_comes_with_what_was_done_and_what_to_do() -> None:
    there = board(version="1.5", known=5)
    there.take_alert(0, NOW_MS, alert())
    assert look(there).done == ["The model was not changed."]
    changed = {"version": "2.5", "counts": {"reaction_reset": 1}, "drifts": {"loss drift rise": 1}, "frozen": True}
    there.take_entry(0, NOW_MS + 1, note(episodes=["cards-0-loss-e7"], **changed))
    found = look(there)
    assert found.done == [
        "New model on shard 0: an untrained model, after drift (loss rose).",
        "Learning is frozen on shard 0.",
    ]
    assert [step.section for step in found.steps] == ["learning-frozen", "concept-drift"]


def test_who_acknowledged_an_alert_is_said_and_it_asks_for_nothing_more() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(acknowledged=True, acknowledged_by="ana"))
    assert look(there).done[-1] == "ana acknowledged it."
    assert not look(there).steps


def test_someone_who_cannot_do_a_step_is_asked_for_what_they_can() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(kind="concept_drift"))
    (step,) = look(there).steps
    assert step.text.startswith("Ask a domain expert")
    assert step.own["domain_expert"].startswith("Say what changed around then")
    (outage,) = verdict_of(board(), Situation(NOW_MS, away_ms=NOW_MS)).steps
    assert outage.own["domain_expert"].startswith("Tell the operator")
    assert "operations" not in outage.own


def test_every_kind_of_alert_and_every_fault_has_a_section_of_the_runbook() -> None:
    anchors = set(re.findall(r' id="([^"]+)"', runbook_page()))
    for kind in get_args(AlertKind):
        there = board()
        there.take_alert(0, NOW_MS, alert(kind=kind))
        (step,) = look(there).steps
        assert step.section in anchors, kind
    there = board(frozen=True, full=0.9)
    there.take_members([], NOW_MS)
    there.take_ends({0: {"events": 20_000}})
    there.take_firsts({0: {"events": First(5, 5, NOW_MS)}})
    there.read_ms = NOW_MS + STALLED_MS
    there.take_review(Review(output_id="e-0-1-5", event_id=1, state="held"))
    asked = [one.step for one in _findings(there, Situation(NOW_MS + STALLED_MS, away_ms=None))]
    asked += [one.step for one in _findings(there, Situation(NOW_MS, away_ms=NOW_MS))]
    assert {step.section for step in asked if step is not None} == {
        "no-worker", "worker-not-ready", "shard-full", "learning-frozen", "lag-grows", "reviews-wait",
        "kafka-unavailable",
    }  # fmt: skip
    assert {step.section for step in asked if step is not None} <= anchors


def test_a_worker_that_left_is_named_for_a_while_though_all_is_well() -> None:
    there = board()
    there.take_members([("a", "host", (0,)), ("b", "host", ())], NOW_MS)
    there.take_members([("a", "host", (0,))], NOW_MS + 1)
    found = verdict_of(there, Situation(NOW_MS + 2))
    assert (found.level, [one.text for one in found.also][:1]) == (
        "good",
        ["A worker left; the others have its shards."],
    )
    later = verdict_of(there, Situation(NOW_MS + 700_000))
    assert not [one for one in later.also if "left" in one.text]


def test_events_without_labels_are_worth_a_word() -> None:
    there = Board()
    there.begin(1)
    for second in range(90):
        labels = {"joined": min(second, 20)}
        there.take_entry(0, NOW_MS + second * 1_000, note(counts={"scored": 100 * second}, labels=labels))
    found = look(there, now_ms=NOW_MS + 90_000)
    assert [(one.text, one.since_ms) for one in found.also] == [("Events arrive, but no labels.", NOW_MS + 20_000)]


def test_what_the_guard_did_is_counted_since_the_alert_began() -> None:
    """Its marks are by half minutes: the last one alone would say that 4 predictions of 468 were held."""
    there = board(guard={"tripped": {"range hold": 10}})
    there.take_alert(0, NOW_MS, alert(kind="guard"))
    for at_ms, count in ((0, 400), (1_000, 474), (60_000, 478)):
        made = note(guard={"tripped": {"range hold": count}}, episodes=["cards-0-loss-e7"])
        there.take_entry(0, NOW_MS + at_ms, made)
    assert [mark.count for mark in there.marks if mark.kind == "guard"] == [464, 4]
    assert look(there).done[0] == "The guard acted on 468 predictions: 468 held (out of range)."
    there.take_alert(0, NOW_MS + 70_000, alert(kind="guard", state="resolved", update=2))
    there.take_alert(0, NOW_MS + 200_000, alert("cards-0-later"))
    assert not [text for text in look(there).done if "guard" in text], "before that"
