"""Conditions beside drift, as a shard meets them: each is told once when it begins and once when it is over."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import structs

from driftline.codec.encode import Encoder
from driftline.core.alert.watch import BLOCKS, RECORDS_MIN, SETTLED, WINDOWS_MIN
from driftline.core.digest import digest_of
from driftline.core.output import Alert, Output, Rejected
from driftline.core.record import CommandName, Control, Record, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import adopt
from driftline.core.state.freeze import dump, load
from tests.support.folding import step
from tests.support.schema import check
from tests.support.small import NOW_MS, event, kinds, label, malformed, small, source

ALONE = {"features": {"x": "number"}}
QUIET = {"quiet": "10s"}
STEP_MS = 100

HOUR_MS = 3_600_000


def shard(**sections: Any) -> Shard:
    return Shard(small(event=ALONE, **{"model": "NoChangeClassifier()", "drift": "none", **sections}), 0)


def told(outputs: Iterable[Output]) -> list[tuple[str, str, str]]:
    return [(one.kind, one.state, one.severity) for one in outputs if isinstance(one, Alert)]


def alerts(here: Shard, records: Iterable[Record]) -> list[Alert]:
    """The alerts of these records, each held against the schema of its topic."""
    made = [output for record in records for output in step(here, record) if isinstance(output, Alert)]
    encoder = Encoder(here.pipeline, here.number)
    for alert in made:
        check(encoder.encode(alert))
    return made


def pair(number: int, truth: bool = True, *, delay_ms: int = 0, labelled: bool = True) -> list[Record]:
    """An event and its label; time goes a step a pair."""
    now_ms = NOW_MS + number * STEP_MS
    made: list[Record] = [event(number, now_ms, offset=number, word=False)]
    if labelled:
        made.append(label(number, truth, now_ms + delay_ms, offset=number))
    return made


def stretch(here: Shard, first: int, last: int, **how: Any) -> list[Alert]:
    return alerts(here, [record for number in range(first, last) for record in pair(number, **how)])


def command(name: CommandName, episode: str, span_ms: int = 0) -> Control:
    return Control(source("p.control", 0), NOW_MS, name, episode, span_ms)


# -- performance


def test_an_episode_of_a_metric_that_has_no_value_any_more_says_so_once() -> None:
    here = shard(metrics=["ROCAUC"], metric_window=200, alerts={"performance": {"ROCAUC": {"min": 0.9}}, **QUIET})
    mixed = alerts(here, [one for n in range(400) for one in pair(n, n % 3 == 0)])
    assert told(mixed)[0][:2] == ("performance", "opened")
    only = stretch(here, 400, 1_200, truth=True)
    assert [(one.state, one.episode) for one in only] == [("ongoing", mixed[0].episode)]
    assert "has no value" in only[0].sentence
    assert "metric:ROCAUC" in here.episodes.open, "whether it is over cannot be seen"
    again = alerts(here, [one for n in range(1_200, 2_200) for one in pair(n, n % 3 == 0)])
    assert [one.state for one in again] == []
    assert here.episodes.open["metric:ROCAUC"].sign.evidence["limit"] == 0.9


def test_a_metric_below_its_limit_is_one_episode() -> None:
    here = shard(metrics=["Accuracy"], metric_window=200, alerts={"performance": {"Accuracy": {"min": 0.9}}, **QUIET})
    assert stretch(here, 0, 1_000) == []
    bad = alerts(here, [one for n in range(1_000, 2_000) for one in pair(n, n % 2 == 0)])
    (opened,) = bad
    assert told(bad) == [("performance", "opened", "critical")]
    assert opened.evidence["signal"] == "Accuracy"
    assert opened.evidence["limit"] == 0.9
    assert "below its limit of 0.9" in opened.sentence
    assert opened.runbook == "docs/runbook.md#performance"
    (over,) = stretch(here, 2_000, 3_000)
    assert (over.state, over.episode, over.update) == ("resolved", opened.episode, 2)
    assert over.sentence == (
        "Accuracy of p has been within its limit for 10 seconds: 1 now, 0.495 when it was last reported (limit: 0.9)."
    )
    assert over.evidence["now"] == 1


def test_a_metric_is_judged_over_a_whole_window_only() -> None:
    here = shard(metrics=["Accuracy"], metric_window=500, alerts={"performance": {"Accuracy": {"min": 0.9}}})
    assert alerts(here, [one for n in range(499) for one in pair(n, n % 2 == 0)]) == []
    assert alerts(here, [one for n in range(499, 600) for one in pair(n, n % 2 == 0)]) != []


def test_a_metric_that_began_late_has_a_window_of_its_own_to_fill() -> None:
    rules = {"performance": {"Accuracy": {"min": 0.9}}}
    given: dict[str, Any] = {"event": ALONE, "model": "StandardScaler() | LogisticRegression()", "metric_window": 500}
    old, new = small(**given, metrics=["LogLoss"]), small(**given, metrics=["Accuracy"], alerts=rules)
    here = Shard(old, 0)
    alerts(here, [one for n in range(1_000) for one in pair(n)])
    here = load(new, 0, dump(here))
    adopt(here, old)
    assert alerts(here, [one for n in range(1_000, 1_400) for one in pair(n, n % 2 == 0)]) == []
    (opened, *_) = alerts(here, [one for n in range(1_400, 1_700) for one in pair(n, n % 2 == 0)])
    assert "last 500 labels" in opened.sentence


def test_a_metric_that_trembles_at_its_limit_does_not_flap() -> None:
    rules = {"performance": {"Accuracy": {"min": 0.9}}, "quiet": "1s"}
    here = shard(metrics=["Accuracy"], metric_window=100, alerts=rules)
    records = []
    for n in range(20_000):  # blocks of a hundred with five, then six odd labels, each of which makes two errors
        place = n % 100
        records += pair(n, truth=place % 15 != 7 or place // 15 >= 5 + (n // 100) % 2)
    made = alerts(here, records)
    assert [one.state for one in made] == ["opened"]


def test_a_limit_waits_until_a_new_model_had_as_many_labels_as_the_value_is_of() -> None:
    rules = {"performance": {"Accuracy": {"min": 0.9}}, **QUIET}
    here = shard(metrics=["Accuracy"], metric_window=500, alerts=rules)
    assert stretch(here, 0, 1_000) == []
    alerts(here, [Control(source("p.control", 0), NOW_MS, "reset")])
    bad = [one for n in range(1_000, 1_499) for one in pair(n, n % 2 == 0)]
    assert alerts(here, bad) == [], "half of it is wrong, of which the model before it is to blame for some"
    again = load(here.pipeline, 0, dump(here))
    (opened, *_) = alerts(again, [one for n in range(1_499, 1_700) for one in pair(n, n % 2 == 0)])
    assert opened.kind == "performance"


def test_a_limit_does_not_count_the_labels_of_the_model_before() -> None:
    rules = {"performance": {"Accuracy": {"min": 0.9}}, **QUIET}
    here = shard(metrics=["Accuracy"], metric_window=200, alerts=rules, label={"wait": "1d"})
    waiting = [pair(n) for n in range(400)]
    for one, _ in waiting:
        step(here, one)
    alerts(here, [Control(source("p.control", 0), NOW_MS, "reset")])
    late = [label(n, n % 2 == 0, NOW_MS + n * STEP_MS, offset=n) for n in range(400)]
    assert alerts(here, late) == [], "all of them are of predictions that the model before made"


# -- labels


def test_few_labels_are_told_of() -> None:
    here = shard(label={"wait": "5s"}, alerts={"label_coverage_min": 0.8, "unmatched_max": 1, **QUIET})
    assert SETTLED * BLOCKS == 1_000
    assert stretch(here, 0, 2_000) == []
    (opened, worse) = stretch(here, 2_000, 4_000, labelled=False)
    assert (opened.kind, opened.severity, worse.severity) == ("label_coverage", "warning", "critical")
    assert "of the last 1,000 events of p received their label in time" in opened.sentence
    (over,) = stretch(here, 4_000, 6_000)
    assert (over.state, over.episode) == ("resolved", opened.episode)


@pytest.mark.parametrize(("share", "lacking"), [(0.95, False), (0.6, True)])
def test_coverage_is_of_events_whose_wait_is_over(share: float, lacking: bool) -> None:
    """Labels come within the hour, and that there is none is known after a week: a batch must not look like a lack."""
    here = shard(label={"wait": "7d"}, alerts={"label_coverage_min": 0.9}, drift={"label_rate": "ADWIN()"})
    chance = random.Random(1)
    batch: list[Record] = [event(n, NOW_MS + 100 * n, chance.random(), offset=n) for n in range(3_000)]
    known = sorted((NOW_MS + 100 * n + chance.randrange(HOUR_MS), n) for n in range(3_000) if chance.random() < share)
    batch += [label(n, n % 2 == 0, at_ms, offset=place) for place, (at_ms, n) in enumerate(known)]
    assert alerts(here, batch) == []
    made = alerts(here, [Tick(0, day, NOW_MS + 24 * HOUR_MS * day) for day in range(1, 9)])
    assert told(made)[:1] == ([("label_coverage", "opened", made[0].severity)] if lacking else [])
    assert not here.drifts


def test_late_labels_are_told_of() -> None:
    here = shard(label={"wait": "1h"}, alerts={"label_delay_max": "1s", **QUIET})
    assert stretch(here, 0, 2_000, delay_ms=1_000) == []
    (opened,) = stretch(here, 2_000, 4_000, delay_ms=1_001)
    assert (opened.kind, opened.severity) == ("label_delay", "warning")
    assert "more than 1 second after" in opened.sentence
    (over,) = stretch(here, 4_000, 6_000)
    assert over.state == "resolved"


# -- data quality


def rubbish(first: int, last: int, every: int) -> list[Record]:
    made: list[Record] = []
    for number in range(first, last):
        made += [malformed("not_json", offset=number)] if number % every == 0 else pair(number)
    return made


def test_many_rejected_events_are_one_episode() -> None:
    here = shard(alerts=QUIET)
    assert alerts(here, rubbish(0, 3_000, 20)) == []
    (opened,) = alerts(here, rubbish(3_000, 6_000, 4))
    assert (opened.kind, opened.severity) == ("data_quality", "warning")
    assert "were rejected (limit: 10.0%), most recently as not_json" in opened.sentence
    (over,) = alerts(here, rubbish(6_000, 9_000, 20))
    assert (over.state, over.episode) == ("resolved", opened.episode)
    assert stretch(here, 9_000, 9_500) == []
    assert here.watch.shares is None, "nothing is looked at any more"


def test_rubbish_alone_is_told_of_although_no_time_passes() -> None:
    here = shard()
    (opened,) = alerts(here, [malformed("empty", offset=number) for number in range(1_000)])
    assert (opened.kind, opened.severity, opened.time_ms) == ("data_quality", "critical", None)
    assert opened.evidence["count"] == RECORDS_MIN


def test_a_feature_that_stays_away_is_told_of() -> None:
    features = {"features": {"x": {"type": "number", "missing": 0}}}
    rules = {"missing_max": {"x": 0.2}, "unmatched_max": 1, **QUIET}
    here = Shard(small(event=features, model="NoChangeClassifier()", alerts=rules), 0)

    def events(first: int, last: int, every: int) -> list[Record]:
        return [structs.replace(pair(n)[0], missing=int(n % every == 0)) for n in range(first, last)]

    assert alerts(here, events(0, 3_000, 6)) == []
    (opened,) = alerts(here, events(3_000, 6_000, 3))
    assert (opened.kind, opened.evidence["signal"]) == ("data_quality", "missing x")
    (over,) = alerts(here, events(6_000, 9_000, 10))
    assert over.state == "resolved"


# -- throughput

WINDOW_MS = 60_000


def arrivals(first_window: int, windows: int, each: int) -> list[Record]:
    return [
        event(f"{window}/{number}", NOW_MS + window * WINDOW_MS + number * WINDOW_MS // each, word=False)
        for window in range(first_window, first_window + windows)
        for number in range(each)
    ]


def lively() -> Shard:
    return shard(label=None, task="anomaly", model="HalfSpaceTrees(n_trees=3, height=3, window_size=10)", metrics=None,
                 alerts={"throughput": {"window": "1m"}, "quiet": "5m"})  # fmt: skip


def deadline(here: Shard) -> int | None:
    return here.next_deadline_ms


def test_events_that_stop_are_told_of_by_time_alone() -> None:
    here = lively()
    assert deadline(here) is None
    assert alerts(here, arrivals(0, WINDOWS_MIN + 2, 30)) == []
    deadline_ms = deadline(here)
    assert deadline_ms is not None
    assert alerts(here, [Tick(0, 1, deadline_ms + 1)]) == []  # the window that had events ends
    deadline_ms = deadline(here)
    assert deadline_ms is not None
    (opened,) = alerts(here, [Tick(0, 2, deadline_ms + 1)])
    assert (opened.kind, opened.severity, opened.episode) == ("throughput", "critical", "p-0-throughput-t2")
    assert opened.sentence == "No events of p arrived within 1 minute (usual: about 28)."  # the last were not whole
    assert deadline(here) is None, "an idle pipeline writes nothing more"
    (over,) = alerts(here, arrivals(30, 10, 30))
    assert over.state == "resolved"


def test_twice_as_many_events_are_told_of_until_they_are_usual() -> None:
    here = lively()
    assert alerts(here, arrivals(0, 20, 30)) == []
    made = alerts(here, arrivals(20, 40, 70))
    assert [(one.kind, one.state, one.severity) for one in made] == [
        ("throughput", "opened", "warning"),
        ("throughput", "resolved", "warning"),
    ]
    assert alerts(here, arrivals(60, 1, 30)) == []


def test_few_events_say_nothing_about_throughput() -> None:
    here = lively()
    made = alerts(here, [*arrivals(0, 20, 5), *arrivals(25, 20, 9), *arrivals(60, 10, 5)])
    assert made == []


# -- operators


def opened_one(here: Shard) -> Alert:
    return alerts(here, [malformed("empty", offset=number) for number in range(RECORDS_MIN)])[0]


def test_an_episode_is_acknowledged_and_silenced_by_its_name() -> None:
    here = shard()
    name = opened_one(here).episode
    (known,) = alerts(here, [command("acknowledge", name)])
    assert (known.state, known.acknowledged, known.silenced) == ("ongoing", True, False)
    assert alerts(here, [command("acknowledge", name)]) == []
    (silent,) = alerts(here, [command("silence", name, 60_000)])
    assert (silent.state, silent.silenced, silent.announced) == ("ongoing", True, True)
    assert here.counts["control_silence"] == 1


def test_a_command_for_another_shard_is_passed_over_and_an_unknown_episode_rejected() -> None:
    here = shard()
    assert step(here, command("acknowledge", "p-1-error-l3")) == []
    (made,) = step(here, command("silence", "p-0-error-l3", 5))
    assert isinstance(made, Rejected)
    assert kinds([made]) == ["episode_unknown"]
    assert told(alerts(here, [command("silence", "p-0-error-l3", 5)] * 1_000)) == [], "commands are no data"


# -- state


def test_the_state_survives_a_snapshot_in_the_middle_of_an_episode() -> None:
    sections = {"alerts": {"throughput": {"window": "1m"}, "label_coverage_min": 0.5, **QUIET}}
    records = [*rubbish(0, 2_000, 3), *rubbish(2_000, 3_000, 100)]
    whole, first = shard(**sections), shard(**sections)
    made = [output for record in records for output in step(whole, record)]
    assert {one.state for one in made if isinstance(one, Alert)} == {"opened", "resolved"}
    for middle in (700, 1_999, 2_500):
        first = shard(**sections)
        again = [output for record in records[:middle] for output in step(first, record)]
        second = load(first.pipeline, 0, dump(first))
        again += [output for record in records[middle:] for output in step(second, record)]
        assert again == made
        assert digest_of(second.episodes) == digest_of(whole.episodes)
        assert digest_of(second.watch) == digest_of(whole.watch)


def test_rules_may_change_while_the_state_goes_on() -> None:
    here = shard(metrics=["Accuracy"], metric_window=100, alerts={"performance": {"Accuracy": {"min": 0.9}}, **QUIET})
    (opened,) = alerts(here, [one for n in range(300) for one in pair(n, n % 2 == 0)])[:1]
    other = small(event=ALONE, model="NoChangeClassifier()", drift="none", metrics=["Accuracy"], metric_window=100,
                  alerts=QUIET)  # fmt: skip
    kept = load(other, 0, dump(here))
    adopt(kept, here.pipeline)
    (over,) = stretch(kept, 300, 600)
    assert (over.state, over.episode) == ("resolved", opened.episode)
    back = load(here.pipeline, 0, dump(kept))
    adopt(back, other)
    assert told(alerts(back, [one for n in range(600, 900) for one in pair(n, n % 2 == 0)]))[0][1] == "opened"


@pytest.mark.parametrize("count", [1, 5_000])
def test_a_quiet_shard_has_nothing_to_look_at(count: int) -> None:
    here = shard()
    assert stretch(here, 0, count) == []
    assert here.watch.time_due_ms == here.watch.settled_due == 1 << 62


def test_an_episode_ends_on_idle_inputs_by_a_tick() -> None:
    here = shard(label=None, task="anomaly", model="HalfSpaceTrees(n_trees=3, height=3, window_size=10)", metrics=None,
                 alerts=QUIET)  # fmt: skip
    records = [malformed("empty", offset=number) if number % 2 else pair(number)[0] for number in range(500)]
    (opened,) = alerts(here, records)
    assert deadline(here) is None, "it holds"
    assert alerts(here, [pair(number)[0] for number in range(500, 1_150)]) == []
    due_ms = deadline(here)
    assert due_ms is not None
    assert here.watermark_ms is not None
    assert here.watermark_ms < due_ms <= here.watermark_ms + 10_000
    (over,) = alerts(here, [Tick(0, 7, due_ms + 1)])
    assert (over.state, over.episode, over.output_id) == ("resolved", opened.episode, "tick-0-7-2")
    assert deadline(here) is None
