"""What the page makes of the records that it reads, whoever wrote them."""

from __future__ import annotations

import re
from typing import Any, cast, get_args

import orjson
import pytest

from driftline.core.pipeline import AlertKind
from driftline.web.board import EPISODES_MAX, REVIEWS_MAX, SCORES_MAX, Board, Episode
from driftline.web.curve import MARKS_MAX, Curve, Point, rows_of
from driftline.web.record import TEXT_MAX, Alert, Note, Review, Score, fit, plain, read
from driftline.web.runbook import runbook_page
from driftline.web.verdict import QUIET_MS, STALLED_MS, Situation, Verdict, _findings, verdict_of
from driftline.web.view import sections
from tests.support.pipelines import pipeline

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


# -- the sentence


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


def test_a_shard_with_records_to_read_that_does_not_move_is_trouble() -> None:
    there = board()
    there.take_ends({0: {"events": 9}})
    assert look(there, now_ms=NOW_MS + STALLED_MS - 2_000).level == "good"
    assert look(there, now_ms=NOW_MS + STALLED_MS).text == "Shard 0 is stuck, with 4 records to read."


def test_no_new_records_is_well_and_says_so() -> None:
    there = board()
    there.take_ends({0: {"events": 5}})
    found = look(there, now_ms=NOW_MS + QUIET_MS)
    assert found.level == "good"
    assert found.also[0].text == "No new records."


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


# -- bounds, and records of others


def test_all_that_is_kept_is_bounded() -> None:
    there = board()
    for number in range(EPISODES_MAX + 50):
        there.take_alert(0, NOW_MS, alert(f"cards-0-{number}", state="resolved" if number % 2 else "opened"))
    for number in range(REVIEWS_MAX + 50):
        there.take_review(Review(output_id=f"e-0-{number}-5", event_id=number, state="held"))
    for number in range(SCORES_MAX + 50):
        there.take_score(Score(f"e-0-{number}-0", number, NOW_MS, "served"))
    assert len(there.episodes) == EPISODES_MAX
    assert sum(one.is_open for one in there.episodes.values()) == EPISODES_MAX // 2 + 25, "those that are over go first"
    assert len(there.reviews) == REVIEWS_MAX
    assert len(there.scores) == SCORES_MAX
    assert len(there.marks) == MARKS_MAX
    made = sections(there, pipeline(), Situation(NOW_MS))
    assert len(orjson.dumps(made)) < 300_000


def test_a_curve_keeps_its_whole_span_and_is_finest_at_its_end() -> None:
    curve = Curve(100)
    for time_ms in range(10_000):
        curve.add(Point(0, time_ms, time_ms, {"a": float(time_ms)}, {}))
    times = [point.time_ms for point in curve.points]
    assert len(times) <= 100
    assert times[0] == 0
    assert times[-25:] == list(range(9_975, 10_000))
    assert times == sorted(times)


def test_time_that_goes_back_makes_no_point() -> None:
    curve = Curve(100)
    assert curve.add(Point(0, 10, 1, {"a": 1.0}, {}))
    assert not curve.add(Point(0, 9, 2, {"a": 2.0}, {}))
    assert not curve.add(Point(0, 10, 3, {"a": 1.0}, {}))
    assert curve.add(Point(0, 10, 4, {"a": 2.0}, {})), "the same time with other numbers"
    assert [point.window for point in curve.points] == [{"a": 2.0}]


def test_points_name_their_metrics_once() -> None:
    points = [Point(0, 1, 1, {"a": 1 / 3}, {}, {"full": 0.5}), Point(0, 2, 2, {}, {"b": None})]
    packed = rows_of(points)
    assert packed == {
        "names": ["a", "b"],
        "more": ["full"],
        "rows": [[0, 1, 1, [0.333333, None], [None, None], [0.5]], [0, 2, 2, [None, None], [None, None], [None]]],
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"episode": 7}',
        b'{"episode": "a", "state": [], "kind": "b", "severity": "c", "sentence": "d"}',
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
    ],
)
def test_what_is_no_alert_is_passed_over(value: bytes | None) -> None:
    assert read(value, Alert) is None


def test_long_and_odd_texts_are_cut_and_stay_text() -> None:
    hostile = "<img src=x onerror=alert(1)>" * 50
    there = board()
    there.take_alert(
        0, NOW_MS, alert(hostile, sentence=hostile, runbook="javascript:alert(1)", evidence={"a": hostile})
    )
    there.take_review(Review(output_id=hostile, event_id=hostile, state="held", features={hostile: hostile}))
    there.take_score(Score(hostile, hostile, NOW_MS, hostile, prediction=[[[hostile]]]))
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    names = {hostile}  # commands need an episode's whole name
    assert max(len(text) for text in _texts(made) if text not in names) <= TEXT_MAX
    assert plain(float("nan")) == "nan"
    assert plain(2**60) == str(2**60), "a page's numbers have 53 bits"


@pytest.mark.parametrize("address", ["https://elsewhere/", "https://elsewhere/#drift", "//elsewhere", "/elsewhere"])
def test_the_page_links_to_no_runbook_but_the_pipelines(address: str) -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(runbook=address))
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    assert made["episodes"]["first"][0]["runbook"] in ("docs/runbook.md", "docs/runbook.md#drift")


def test_records_that_are_too_large_to_show_are_passed_over() -> None:
    assert read(b'{"output_id":"a","event_id":1,"event_time_ms":1,"guard":"%s"}' % (b"a" * 100), Score) is not None
    assert read(b'{"output_id":"a","event_id":1,"event_time_ms":1,"guard":"%s"}' % (b"a" * 70_000), Score) is None
    there = board()
    there.take_alert(0, NOW_MS, alert("a" * 5_000))
    there.take_review(Review(output_id="e-0-1-5", event_id="a" * 5_000, state="held"))
    assert not there.episodes
    assert not there.reviews


def _texts(document: Any) -> list[str]:
    if isinstance(document, str):
        return [document]
    if isinstance(document, dict):
        return [text for pair in document.items() for part in pair for text in _texts(part)]
    return [text for part in document for text in _texts(part)] if isinstance(document, list | tuple) else []


# -- what happens to what is known


def test_repeats_and_late_messages_change_nothing() -> None:
    there = board()
    there.take_alert(0, NOW_MS, alert(state="resolved", update=3))
    there.take_alert(0, NOW_MS + 1, alert(update=1))
    (episode,) = there.episodes.values()
    assert (episode.state, episode.alert.update) == ("resolved", 3)


def test_an_episode_that_its_shard_forgot_is_over() -> None:
    """A shard that started over has no episode any more, and no message will end it."""
    there = board()
    there.take_alert(0, NOW_MS, alert())
    there.take_entry(0, NOW_MS + 1_000, note(episodes=[]))
    assert _only(there).is_open, "the journal may be read before the alert that was written with it"
    there.take_entry(0, NOW_MS + 60_000, note(episodes=["cards-0-loss-e7"]))
    assert _only(there).is_open
    there.take_entry(0, NOW_MS + 61_000, note(episodes=[]))
    assert _only(there).state == "ended"


def test_history_is_dated_by_the_journal_and_ends_no_episode_before_all_is_read() -> None:
    there = Board()
    there.begin(1)
    there.reading = True
    for hour in range(5):
        opened = ["cards-0-loss-e7"] if hour > 2 else []
        there.take_entry(0, NOW_MS + hour, note(watermark_ms=hour * 3_600_000, episodes=opened))
    there.take_alert(0, 2 * 3_600_000, alert(opened_ms=2 * 3_600_000, time_ms=2 * 3_600_000 + 5))
    there.take_alert(0, 2 * 3_600_000, alert("cards-0-lost", opened_ms=3_600_000, time_ms=3_600_000))
    there.take_entry(0, NOW_MS + 60_000, note(watermark_ms=5 * 3_600_000, episodes=["cards-0-loss-e7"]))
    there.settle()
    open_one, lost = there.episodes.values()
    assert (open_one.state, open_one.opened_wall_ms, open_one.wall_ms) == ("opened", NOW_MS + 2, NOW_MS + 3)
    assert (lost.state, lost.wall_ms) == ("ended", NOW_MS + 1)
    assert [mark.wall_ms for mark in there.marks] == [NOW_MS + 2, NOW_MS + 1]


def _only(there: Board) -> Episode:
    (episode,) = there.episodes.values()
    return episode


def test_open_episodes_that_were_not_read_are_named() -> None:
    made: Any = sections(board(episodes=["cards-0-old"]), pipeline(), Situation(NOW_MS))
    assert made["episodes"]["open"] == 1
    assert made["episodes"]["unread"] == ["cards-0-old"]


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


def test_a_metric_ends_with_the_last_label_and_begins_with_some() -> None:
    """A flat curve would say that the model is as good as ever, when no one knows."""
    there = Board()
    there.begin(1)
    for minute, labels in enumerate([5, 30, 40, 40, 40, 45]):
        metrics = {"Accuracy": 0.9, "label_count": labels}
        there.take_entry(
            0, NOW_MS + minute, note(watermark_ms=NOW_MS + minute, metrics=metrics, window_metrics=metrics)
        )
    assert [point.window.get("Accuracy") for point in there.fresh] == [None, 0.9, 0.9, None, None, 0.9]


def test_a_note_of_the_same_time_without_new_labels_keeps_the_metric() -> None:
    there = Board()
    there.begin(1)
    for labels, pending in ((30, 1), (40, 1), (40, 2)):
        metrics = {"Accuracy": labels / 100, "label_count": labels}
        there.take_entry(0, NOW_MS, note(metrics=metrics, window_metrics=metrics, pending=pending))
    (point,) = there.shards[0].curve.points
    assert (point.window, point.total, point.more["waiting"]) == ({"Accuracy": 0.4}, {"Accuracy": 0.4}, 2)


def test_a_shard_shows_its_second_model_beside_the_first() -> None:
    there = board(guard={"tripped": {}})
    (plain_one,) = cast("list[Any]", sections(there, pipeline(), Situation(NOW_MS))["shards"])
    assert plain_one["second"] is None
    second = {"version": "0.9", "served": 2, "failed": 1, "labels": 3, "error": 0.5, "first_error": 2.0, "known": 9}
    there.take_entry(0, NOW_MS, note(guard={"tripped": {}, "second_model": second}))
    (shown,) = cast("list[Any]", sections(there, pipeline(), Situation(NOW_MS))["shards"])
    assert shown["second"] == {name: value for name, value in second.items() if name != "known"}


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


def kpi(known: tuple[int, float], waiting: tuple[int, float | None]) -> dict[str, Any]:
    def part(events: int, total: float | None) -> dict[str, Any]:
        return {"events": events, "total": total}

    figures = {"known": part(*known), "assumed": part(0, 0), "waiting": part(*waiting), "expired": part(0, 0)}
    spans = [{"start_ms": 0, "ended": True, **figures}]
    form = {"unit": "EUR", "better": "lower", "span_ms": 1, "target": None, "limit": 9}
    return {"loss": {**form, "total": figures, "spans": spans, "by": "country", "by_segment": {"FR": figures}}}


def test_what_is_known_of_a_kpi_and_what_is_estimated_stay_apart() -> None:
    there = Board()
    there.begin(2)
    for number in range(2):
        there.take_entry(number, NOW_MS, note(kpi=kpi((3, 10.0), (2, 4.0))))
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    (shown,) = made["kpis"]
    for figures in (shown["total"], shown["spans"][0], shown["segments"][0]):
        assert (figures["known"], figures["waiting"], figures["expired"]) == ([6, 20.0], [4, 8.0], [0, 0.0])
    assert (shown["bounds"]["limit"], shown["judged"]) == (9, False)
    assert there.fresh[0].more["known loss"] == 10.0
    assert there.fresh[0].more["waiting loss"] == 4.0
    assert "expired loss" not in there.fresh[0].more, "no event, no curve"


def test_where_no_one_can_estimate_there_is_no_estimate() -> None:
    there = Board()
    there.begin(2)
    there.take_entry(0, NOW_MS, note(kpi=kpi((3, 10.0), (2, 4.0))))
    there.take_entry(1, NOW_MS, note(kpi=kpi((3, 10.0), (2, None))))
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    assert made["kpis"][0]["total"]["waiting"] == [4, None]


# -- what was done, and what to do


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


def test_a_broker_that_names_no_members_leaves_the_worker_of_the_page() -> None:
    there = Board()
    there.begin(2)
    there.take_entry(0, NOW_MS, note())
    there.take_members([("process 7", "here", (0,))], NOW_MS, whole=False)
    assert look(there).level == "good", "who has the other shard is not known"
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    assert (made["workers"]["whole"], made["workers"]["first"][0]["shards"]) == (False, (0,))
    there.take_members([("worker-a", "10.0.0.1", (0, 1))], NOW_MS)
    made = sections(there, pipeline(), Situation(NOW_MS))
    assert [one["name"] for one in made["workers"]["first"]] == ["worker-a"]
    assert not there.marks, "no one came or left"


def test_events_without_labels_are_worth_a_word() -> None:
    there = Board()
    there.begin(1)
    for second in range(90):
        labels = {"joined": min(second, 20)}
        there.take_entry(0, NOW_MS + second * 1_000, note(counts={"scored": 100 * second}, labels=labels))
    found = look(there, now_ms=NOW_MS + 90_000)
    assert [(one.text, one.since_ms) for one in found.also] == [("Events arrive, but no labels.", NOW_MS + 20_000)]


def test_a_change_of_the_model_is_no_good_news() -> None:
    """It is reported as resolved, since nothing is to end; that says nothing of how well the model does."""
    there = board()
    there.take_alert(0, NOW_MS, alert("cards-0-changed", kind="model_change", state="resolved"))
    assert [mark.kind for mark in there.marks] == ["alert"]
    made: Any = sections(there, pipeline(), Situation(NOW_MS))
    assert made["episodes"]["first"][0]["state"] == "reported"


def test_a_decision_takes_its_review_away() -> None:
    there = board()
    for state in ("held", "approved", "approved"):
        there.take_review(Review(output_id="e-0-1-5", event_id="p1", state=state))
    there.take_review(Review(output_id="e-0-2-5", event_id=1, state="held"))
    there.take_review(Review(output_id="e-0-3-5", event_id="1", state="refused"))
    assert (list(there.reviews), there.decided) == (["1"], 1)


def test_rates_are_of_the_latest_seconds() -> None:
    there = Board()
    there.begin(1)
    for second in range(60):
        counts = {"scored": 100 * second}
        there.take_entry(0, NOW_MS + second * 1_000, note(counts=counts, labels={"joined": 10 * second}))
    shard = there.shards[0]
    assert shard.rates(NOW_MS + 59_000) == (100.0, 10.0)
    assert shard.rates(NOW_MS + 200_000) == (0.0, 0.0)


def test_lag_is_what_lies_between_positions_and_ends() -> None:
    there = board(positions={"events": 5, "events:2": 7, "labels": 3})
    there.take_ends({0: {"events": 9, "events:2": 8, "labels": 3, "unknown": 5}})
    assert there.shards[0].behind == {"events": 5, "labels": 0, "unknown": 0}


# -- numbers and names that no pipeline of ours writes


LARGE = 2**63


@pytest.mark.parametrize(
    "absurd",
    [
        {"counts": {"scored": 2**64 - 1}},
        {"pending": LARGE},
        {"early": -LARGE},
        {"labels": {"joined": LARGE, "late": LARGE}},
        {"guard": {"tripped": {"step": LARGE, "range": LARGE}}},
        {"guard": {"tripped": {f"rung{number}": 2**53 for number in range(2_000)}}},
        {"positions": {"events": -LARGE}},
        {"watermark_ms": 2**64 - 1},
        {"loading": [LARGE, 1]},
        {"commands": [{"command": "reset", "time_ms": LARGE}]},
    ],
)
def test_a_note_with_numbers_beyond_all_counting_is_passed_over(absurd: dict[str, Any]) -> None:
    assert fit({"positions": {}, **absurd}, Note) is None


def test_the_largest_numbers_that_are_taken_can_be_sent() -> None:
    there, most = Board(), 2**53
    there.begin(3)
    for shard in range(3):
        for time_ms in range(1, 30):
            tripped = {f"rung{number}": most * (time_ms % 2) for number in range(100)}
            made = note(watermark_ms=time_ms, pending=most, counts={"scored": most}, guard={"tripped": tripped})
            there.take_entry(shard, NOW_MS, made)
    there.take_ends({shard: {"events": 2**62} for shard in range(3)})
    assert orjson.dumps(sections(there, pipeline(), Situation(NOW_MS)))


@pytest.mark.parametrize("levels", [1, 19, 20, 200, 245, 250, 251, 252])
def test_evidence_however_deep_can_be_sent(levels: int) -> None:
    inner = b"[" * (levels - 1) + b"]" * (levels - 1) if levels > 1 else b"1"
    found = read(
        b'{"episode":"e","state":"opened","kind":"k","severity":"s","sentence":"x","evidence":{"a":%s}}' % inner, Alert
    )
    assert found is not None
    there = board()
    there.take_alert(0, NOW_MS, found)
    made = sections(there, pipeline(), Situation(NOW_MS))
    assert orjson.dumps(made)
    assert bool(made["episodes"]["first"][0]["evidence"]) is (levels < 21)  # type: ignore[call-overload]


def test_points_that_each_name_other_metrics_stay_few() -> None:
    points = [Point(0, time, time, {f"w{time}-{name}": 1.0 for name in range(40)}, {}) for time in range(500)]
    rows = rows_of(points)
    assert rows["names"] == [f"w499-{name}" for name in range(40)]
    assert len(orjson.dumps(rows)) < 500_000
