"""Labels of which hardly any has ever met its event, and events that stop while labels go on."""

from __future__ import annotations

import random
import uuid

import pytest

from driftline.core.output import Alert
from driftline.core.record import Record, Tick
from driftline.core.shard.state import Shard
from tests.support.feedback import DAY_MS, HOUR_MS, Traffic, alerts, causes, shard
from tests.support.folding import step
from tests.support.small import NOW_MS, label

pytestmark = pytest.mark.slow

MINUTE_MS = 60_000


def uid(number: int) -> str:
    return str(uuid.UUID(int=random.Random(number).getrandbits(128)))


def told_ms(made: list[Alert]) -> int:
    assert made, "nothing was told"
    assert causes(made[:1]) == [("opened", "unknown")]
    assert made[0].time_ms is not None
    return made[0].time_ms - NOW_MS


# -- nothing meets


@pytest.mark.parametrize("delay_ms", [0, 1_000, 20_000])
def test_ids_among_those_of_events_that_meet_none_are_told_of_within_two_minutes(delay_ms: int) -> None:
    """The customer's number in place of the payment's, say: both have one form."""
    traffic = Traffic(delay_ms=lambda n: delay_ms, ids=lambda n: 2 * n, label_ids=lambda n: 2 * n + 1)
    made = alerts(shard(label={"wait": "7d"}), traffic.records(0, 12_000))
    assert told_ms(made) < 2 * MINUTE_MS
    assert "hardly any label has found its event since the first one arrived" in made[0].sentence
    assert "although their ids lie within the range of the events': a label has" in made[0].sentence
    assert "Check that `label.id` and `event.id` name the same thing" in made[0].sentence
    assert made[0].severity == "critical"


@pytest.mark.parametrize("text", ["pay-{}", "{:012d}"])
def test_texts_of_a_counter_are_compared_as_well(text: str) -> None:
    traffic = Traffic(ids=lambda n: text.format(2 * n), label_ids=lambda n: text.format(2 * n + 1))
    assert told_ms(alerts(shard(), traffic.records(0, 12_000))) < 2 * MINUTE_MS


def test_ids_amid_their_topic_are_told_of_as_well() -> None:
    """With `start: latest` labels of earlier events come: their ids lie before."""
    here, traffic = shard(), Traffic(ids=lambda n: 2 * n, label_ids=lambda n: 2 * n + 1)
    for _ in range(50_000):
        next(traffic.offsets["e"])
    assert told_ms(alerts(here, traffic.records(0, 12_000))) < 2 * MINUTE_MS


@pytest.mark.parametrize(("wait", "delay_ms", "minutes"), [("2d", 0, 7), ("7d", 10_000, 11)])
def test_ids_without_an_order_that_meet_none_are_told_of_within_minutes(wait: str, delay_ms: int, minutes: int) -> None:
    """What was seen explains it less and less; that labels are of events from before is said."""
    traffic = Traffic(50, delay_ms=lambda n: delay_ms, ids=uid, label_ids=lambda n: uid(n + 10**6))
    here = shard(label={"wait": wait}, dedupe={"horizon": "7d"})
    made = alerts(here, traffic.records(0, minutes * 3_000))
    assert told_ms(made) > 2 * MINUTE_MS
    assert "If the labels belong to events from before p started, this resolves itself." in made[0].sentence
    assert made[0].severity == "warning"
    assert made[0].evidence["expected"] >= 16  # type: ignore[operator]  # evidence is of any kind


def test_a_few_that_meet_by_chance_change_nothing() -> None:
    traffic = Traffic(ids=lambda n: 2 * n, label_ids=lambda n: 2 * n + (n % 200 != 0))
    assert told_ms(alerts(shard(), traffic.records(0, 12_000))) < 2 * MINUTE_MS


# -- nothing meets yet


@pytest.mark.parametrize("delay_ms", [-3 * HOUR_MS, -HOUR_MS, HOUR_MS, 3 * DAY_MS])
def test_labels_of_events_before_the_first_or_behind_the_last_are_not_told_of(delay_ms: int) -> None:
    """Where ids rise, that shows. The earlier events never were in this topic."""
    rate, count = 2, 6_000  # as many as would be told of if ids had no order
    first = max(0, rate * delay_ms // 1_000)
    traffic = Traffic(rate, first=first, delay_ms=lambda n: delay_ms if n < first or delay_ms < 0 else None)
    here = shard(label={"wait": "2d" if delay_ms < 2 * DAY_MS else "4d"})
    records = [*(traffic.records(0, count) if first else ()), *traffic.records(first, first + count)]
    before = -rate * min(delay_ms, 0) // 1_000  # whose label comes before the first event
    records += traffic.records(before, before + count) if before else []
    records.sort(key=lambda one: 0 if isinstance(one, Tick) else one.order_ms)
    assert alerts(here, records[: 2 * count]) == []
    assert len(here.early) > count / 2, "nothing was tried"


def test_labels_that_meet_none_where_reading_began_amid_the_topic_are_told_of_after_a_wait() -> None:
    """Without an order of ids nothing speaks against their being of earlier events."""
    here, traffic = shard(label={"wait": "10m"}), Traffic(20, ids=uid, label_ids=lambda n: uid(n + 10**6))
    for _ in range(50_000):
        next(traffic.offsets["e"])
    assert 10 * MINUTE_MS < told_ms(alerts(here, traffic.records(0, 16_000))) < 13 * MINUTE_MS


def test_a_first_batch_that_begins_with_older_events_is_not_told_of() -> None:
    """Half a day after the beginning, labels of a whole day come within minutes, in the order of their events."""
    rate, day = 0.1, 8_640

    def delay_ms(number: int) -> int:
        at_ms = round(number * 1_000 / rate)
        return (number // day + 1) * DAY_MS - at_ms + number % day * 100

    traffic = Traffic(rate, first=day // 2, ids=uid, delay_ms=delay_ms)
    here = shard(label={"wait": "2d"})
    assert alerts(here, traffic.records(0, day + 2_000)) == []
    assert here.strays.held >= day // 2 - 1
    assert here.counts["joined"] >= day // 2


# -- events that stop


def joined(here: Shard, traffic: Traffic, count: int) -> None:
    assert alerts(here, traffic.records(0, count)) == []


def labels_alone(count: int, *, ticks: bool) -> list[Record]:
    """100 a second of events that nobody sent; ticks as a worker makes them while no event is left unread."""
    made: list[Record] = []
    for number in range(count):
        at_ms = NOW_MS + 60_000 + number * 10
        made.append(label(uid(number + 10**7), True, at_ms, offset=10_000 + number))
        if ticks and number % 6_000 == 5_999:
            made.append(Tick(0, number, at_ms + 1))
    return made


def test_events_that_stop_while_labels_find_none_are_named() -> None:
    here, traffic = shard(label={"wait": "2d"}), Traffic(ids=uid)
    joined(here, traffic, 6_000)
    made = alerts(here, labels_alone(24_000, ticks=True))
    assert told_ms(made) < MINUTE_MS + 3 * MINUTE_MS
    assert "No event has arrived for" in made[0].sentence
    assert "Check that events are written to p.events, partition 0 included." in made[0].sentence


def test_without_a_tick_events_may_be_unread() -> None:
    here, traffic = shard(label={"wait": "2d"}), Traffic(ids=uid)
    joined(here, traffic, 6_000)
    assert alerts(here, labels_alone(24_000, ticks=False)) == []
    assert here.awaits_events


def test_labels_of_a_pipeline_that_never_had_an_event_are_told_of() -> None:
    here = shard(label={"wait": "2d"})
    made = alerts(here, labels_alone(24_000, ticks=True))
    assert told_ms(made) < MINUTE_MS + 4 * MINUTE_MS
    assert "no event has been scored. Check that events are written to p.events" in made[0].sentence


def test_a_worker_is_asked_for_a_tick_only_where_labels_find_no_event_and_events_stopped() -> None:
    here, traffic = shard(label={"wait": "2d"}), Traffic(ids=uid)
    joined(here, traffic, 6_000)
    asked = [here.awaits_events]
    for record in [*labels_alone(3_100, ticks=False), Tick(0, 1, NOW_MS + 200_000)]:
        step(here, record)
        asked.append(here.awaits_events)
    first = asked.index(True)
    assert 2_990 <= first <= 3_010, "30 s of time, in which no event came"
    assert all(asked[first:-1])
    assert not asked[-1], "a tick says it for a while"
