"""Episodes: when something is told of a trouble, and when it is over."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from msgspec import structs

from driftline.core.alert import episode
from driftline.core.alert.episode import Episode, Episodes, Moment, Notice, Sign, Standing
from driftline.core.digest import digest_of
from driftline.core.duration import spoken
from driftline.core.pipeline import Alerts
from driftline.core.shard.state import Shard
from tests.support.folding import step
from tests.support.small import NOW_MS, event, small

QUIET_MS, ONGOING_MS, WITHIN_MS = 3_600_000, 86_400_000, 86_400_000
DAY_MS = 86_400_000
WARNING = Sign("concept_drift", "warning", "It is wrong more often.", "It has been right again", {"before": 1})
CRITICAL = Sign("concept_drift", "critical", "It is always wrong.", "It has been right again", {"before": 2})


def rules(**settings: Any) -> Alerts:
    return small(alerts=settings).alerts


def over(episode: Episode) -> Standing:
    return Standing(True, f"{episode.sign.calm} for {spoken(episode.quiet_ms)}.")


class Line:
    """One signal's way through time; values of it come all the time unless a test says otherwise."""

    def __init__(self, **settings: Any) -> None:
        self.rules = rules(**settings)
        self.episodes = Episodes("p-0-")
        self.observed = 0

    def moment(self, now_ms: int, observe: int = 1) -> Moment:
        self.observed += observe
        return Moment(now_ms, self.observed, self.observed, f"l{now_ms}", {"p.labels": now_ms})

    def sign(self, now_ms: int, sign: Sign = WARNING, *, holds: bool = False) -> list[str]:
        return states([self.episodes.sign(self.rules, "error", sign, self.moment(now_ms), holds=holds)])

    def advance(self, now_ms: int, observe: int = 1) -> list[str]:
        return states(self.episodes.advance(self.moment(now_ms, observe), self.rules, over))


def states(told: list[Any]) -> list[str]:
    return [one.state for one in told if isinstance(one, Notice)]


def test_signs_without_end_are_one_episode() -> None:
    line = Line()
    told = [state for now_ms in range(0, 10 * QUIET_MS, QUIET_MS // 4) for state in line.sign(now_ms)]
    assert told == ["opened"]
    last_ms = 10 * QUIET_MS - QUIET_MS // 4
    assert line.advance(last_ms + QUIET_MS - 1) == []
    assert line.advance(last_ms + QUIET_MS) == ["resolved"]
    assert line.advance(last_ms + 2 * QUIET_MS) == []
    assert line.episodes.open == {}


def test_the_next_trouble_is_another_episode() -> None:
    line = Line()
    line.sign(0)
    first = line.episodes.open["error"].name
    line.advance(QUIET_MS)
    assert line.sign(QUIET_MS + 1) == ["opened"]
    assert line.episodes.open["error"].name != first


def test_one_that_lasts_is_told_now_and_then() -> None:
    line = Line()
    told = [(now_ms, state) for now_ms in range(0, 3 * ONGOING_MS + 1, 600_000) for state in line.sign(now_ms)]
    assert told == [(0, "opened"), (ONGOING_MS, "ongoing"), (2 * ONGOING_MS, "ongoing"), (3 * ONGOING_MS, "ongoing")]


def test_what_becomes_critical_is_told_at_once_and_once() -> None:
    line = Line()
    assert [line.sign(now_ms, sign) for now_ms, sign in enumerate([WARNING, CRITICAL, WARNING, CRITICAL])] == [
        ["opened"], ["ongoing"], [], [],
    ]  # fmt: skip
    assert line.episodes.open["error"].severity == "critical"


def test_while_a_condition_holds_nothing_is_quiet() -> None:
    line = Line()
    line.sign(0, holds=True)
    assert line.episodes.deadline_ms(line.moment(1)) is None
    assert line.advance(100 * QUIET_MS) == []
    line.episodes.calm("error", line.moment(100 * QUIET_MS))
    line.episodes.calm("error", line.moment(100 * QUIET_MS + 5))  # once
    assert line.episodes.deadline_ms(line.moment(1)) == 101 * QUIET_MS
    assert line.advance(101 * QUIET_MS - 1) == []
    assert line.advance(101 * QUIET_MS, observe=0) == ["resolved"]


@pytest.mark.parametrize(
    ("gap_ms", "settings", "quiet_ms", "ongoing_ms"),
    [
        (10, {}, QUIET_MS, ONGOING_MS),
        (DAY_MS, {}, 4 * DAY_MS, 7 * DAY_MS),
        (DAY_MS, {"quiet": "1h", "ongoing": "1d"}, QUIET_MS, ONGOING_MS),
    ],
)
def test_quiet_and_reminders_follow_the_rhythm_of_the_data(
    gap_ms: int, settings: dict[str, Any], quiet_ms: int, ongoing_ms: int
) -> None:
    here = Shard(small(drift="none", alerts=settings), 0)
    for number in range(50):
        step(here, event(number, NOW_MS + number * gap_ms, offset=number))
    last_ms = here.now_ms
    moment = here.moment("l1")
    told = here.episodes.sign(here.pipeline.alerts, "error", WARNING, moment, holds=False)
    assert told is not None
    assert told.episode.quiet_ms == pytest.approx(quiet_ms, rel=0.03)
    later = structs.replace(moment, now_ms=last_ms + ongoing_ms)
    assert here.episodes.reminds(here.pipeline.alerts, "error", later)
    sooner = structs.replace(moment, now_ms=last_ms + int(ongoing_ms * 0.95))
    assert not here.episodes.reminds(here.pipeline.alerts, "error", sooner)


def test_silence_is_not_quiet() -> None:
    line = Line()
    line.sign(0)
    assert line.episodes.deadline_ms(line.moment(0, 0)) is None, "time alone does not end it"
    assert line.advance(QUIET_MS, observe=0) == []
    assert line.advance(2 * QUIET_MS - 1, observe=1) == []
    assert line.episodes.deadline_ms(line.moment(0, 0)) == 2 * QUIET_MS
    assert line.advance(2 * QUIET_MS, observe=0) == ["resolved"]


def test_flapping_is_bounded() -> None:
    line = Line(episodes_max=3)
    openings = []
    for now_ms in range(0, 5 * WITHIN_MS, QUIET_MS + 1_000):  # as often as can be
        line.advance(now_ms)
        openings += [now_ms for state in line.sign(now_ms) if state == "opened"]
    assert openings == [0, QUIET_MS + 1_000, 2 * (QUIET_MS + 1_000)]
    last = line.episodes.open["error"]
    assert last.flapping
    assert line.advance(last.signed_ms + WITHIN_MS - 1) == []
    assert line.advance(last.signed_ms + WITHIN_MS) == ["resolved"]
    assert max(len(recent) for recent in line.episodes.openings.values()) == 3


def test_rare_episodes_are_no_flapping() -> None:
    line = Line(episodes_max=3)
    for number in range(10):
        line.advance(number * WITHIN_MS)
        assert line.sign(number * WITHIN_MS) == ["opened"]
        assert not line.episodes.open["error"].flapping


def test_what_is_acknowledged_is_told_when_it_becomes_critical_and_when_it_is_over() -> None:
    line = Line()
    line.sign(0)
    episode = line.episodes.open["error"]
    told = line.episodes.acknowledge(episode, 1)
    assert told is not None
    assert (told.state, told.episode.acknowledged) == ("ongoing", True)
    assert line.episodes.acknowledge(episode, 2) is None
    assert [line.sign(now_ms) for now_ms in range(0, 3 * ONGOING_MS, QUIET_MS // 2)] == [[]] * (6 * 24)
    assert line.sign(3 * ONGOING_MS, CRITICAL) == ["ongoing"]
    assert line.advance(3 * ONGOING_MS + QUIET_MS) == ["resolved"]


def test_a_silenced_signal_is_published_and_says_so() -> None:
    line = Line()
    first = line.episodes.sign(line.rules, "error", WARNING, line.moment(0), holds=False)
    assert first is not None
    assert (first.silenced, first.announced) == (False, True)
    told = line.episodes.silence(first.episode, 0, 3 * QUIET_MS)
    assert told is not None
    assert told.silenced
    (resolved,) = line.episodes.advance(line.moment(QUIET_MS), line.rules, over)
    assert (resolved.silenced, resolved.announced) == (True, True), "who was told that it opened hears that it is over"
    second = line.episodes.sign(line.rules, "error", WARNING, line.moment(QUIET_MS + 1), holds=False)
    assert second is not None
    assert (second.state, second.silenced, second.announced) == ("opened", True, False)
    (resolved,) = line.episodes.advance(line.moment(3 * QUIET_MS - 1), line.rules, over)
    assert (resolved.silenced, resolved.announced) == (True, False)
    third = line.episodes.sign(line.rules, "error", WARNING, line.moment(3 * QUIET_MS), holds=False)
    assert third is not None
    assert (third.silenced, third.announced) == (False, True)
    line.episodes.advance(line.moment(4 * QUIET_MS), line.rules, over)
    assert line.episodes.silences == {}


def test_silences_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "SILENCES_MAX", 50)
    episodes = Episodes("p-0-")
    for number in range(60):
        told = episodes.sign(rules(), f"s{number}", WARNING, Moment(0, 0, 0, "l1", {}), holds=False)
        assert told is not None
        episodes.silence(told.episode, 0, 10)
    assert len(episodes.silences) == 50


def test_a_condition_that_is_not_watched_any_more_ends() -> None:
    line = Line()
    line.sign(0, holds=True)
    line.episodes.forget(frozenset({"error"}), line.moment(5))
    assert line.episodes.open["error"].holds
    line.episodes.forget(frozenset(), line.moment(5))
    told = line.episodes.advance(line.moment(5 + QUIET_MS), line.rules, over)
    assert [one.state for one in told] == ["resolved"]
    assert told[0].sentence.startswith("The pipeline file has not included this check for ")


def test_updates_count_the_messages_and_the_state_survives_pickling() -> None:
    line = Line()
    line.sign(0)
    line.sign(1, CRITICAL)
    again = pickle.loads(pickle.dumps(line.episodes, protocol=5))
    assert digest_of(again) == digest_of(line.episodes)
    (told,) = again.advance(line.moment(2 * QUIET_MS), line.rules, over)
    assert (told.update, told.sentence) == (3, "It has been right again for 1 hour.")


@pytest.mark.parametrize(
    ("span_ms", "said"),
    [(3_600_000, "1 hour"), (5_400_000, "90 minutes"), (172_800_000, "2 days"), (1_500, "1500 milliseconds"),
     (1_000, "1 second"), (0, "0 seconds"), (15_055_841, "about 4 hours"), (100_001, "about 100 seconds"),
     (9_000_000_000, "about 104 days"), (3_660 * 86_400_000, "3660 days")],
)  # fmt: skip
def test_spans_are_spoken(span_ms: int, said: str) -> None:
    assert spoken(span_ms) == said
