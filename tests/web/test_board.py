"""What the page makes of the records that it reads, whoever wrote them."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from driftline.web.board import EPISODES_MAX, REVIEWS_MAX, SCORES_MAX, Board, Episode
from driftline.web.curve import MARKS_MAX
from driftline.web.record import TEXT_MAX, Alert, Note, Review, Score, fit, plain, read
from driftline.web.verdict import Situation
from driftline.web.view import sections
from tests.support.boards import NOW_MS, alert, board, look, note
from tests.support.pipelines import pipeline

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


def test_a_shard_shows_its_second_model_beside_the_first() -> None:
    there = board(guard={"tripped": {}})
    (plain_one,) = cast("list[Any]", sections(there, pipeline(), Situation(NOW_MS))["shards"])
    assert plain_one["second"] is None
    second = {"version": "0.9", "served": 2, "failed": 1, "labels": 3, "error": 0.5, "first_error": 2.0, "known": 9}
    there.take_entry(0, NOW_MS, note(guard={"tripped": {}, "second_model": second}))
    (shown,) = cast("list[Any]", sections(there, pipeline(), Situation(NOW_MS))["shards"])
    assert shown["second"] == {name: value for name, value in second.items() if name != "known"}


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
