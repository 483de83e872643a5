"""Lost labels are told of within minutes, by their cause; labels that are merely late, early or missing are not."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp
from typing import Any

import pytest
from msgspec import structs

from driftline.codec.encode import Encoder
from driftline.core.digest import digest_of
from driftline.core.label.unmatched import GONE, PROBES, Strays
from driftline.core.pickle.writer import pickled
from driftline.core.record import Event, Record, Tick
from driftline.core.state.freeze import KEPT, dump, load
from driftline.core.state.migration import migrate
from tests.support.feedback import DAY_MS, HOUR_MS, Traffic, alerts, causes, shard
from tests.support.folding import step
from tests.support.schema import check
from tests.support.small import NOW_MS, event, label

MINUTE_MS = 60_000


def uid(number: int) -> str:
    return str(uuid.UUID(int=random.Random(number).getrandbits(128)))


@dataclass(frozen=True)
class Fault:
    """How labels get lost.

    Args:
        cause: what the alert must name; `words` are in its sentence.
    """

    cause: str
    words: tuple[str, ...]
    traffic: Callable[[], Traffic]
    wait: str = "2d"
    count: int = 2_000


def big(number: int) -> int:
    return 1_234_567_890_123_456_789 + number * 7_919


FAULTS = {
    "another partitioner": Fault(
        "partition", ("murmur2", "CRC32", "over 4 partitions", "partitioner=murmur2_random"),
        lambda: Traffic(events_by="murmur2", labels_by="crc32"),
    ),
    "another partitioner, on the last shard": Fault(
        "partition", ("FNV-1a", "over 3 partitions"),
        lambda: Traffic(events_by="murmur2", labels_by="fnv1a", partitions=3, partition=2),
    ),
    "events by librdkafka": Fault(
        "partition", ("Events are partitioned by CRC32", "labels by murmur2"),
        lambda: Traffic(events_by="crc32", labels_by="murmur2", ids=uid, keys=lambda n: uid(n).encode()),
    ),
    "labels without a key": Fault(
        "partition", ("labels have no key",),
        lambda: Traffic(events_by="murmur2", labels_by="none", label_keys=lambda n: None),
    ),
    "events without a key": Fault(
        "partition", ("events have no key",),
        lambda: Traffic(events_by="none", labels_by="murmur2", keys=lambda n: None, label_keys=lambda n: b"%d" % n),
    ),
    "labels under another field": Fault(
        "key", ("labels use their id as key, events something else",),
        lambda: Traffic(events_by="murmur2", keys=lambda n: b"c%d" % (n % 400), label_keys=lambda n: b"%d" % n),
    ),
    "text for numbers": Fault("ids", ("strings instead of numbers",), lambda: Traffic(label_ids=str)),
    "numbers for text": Fault("ids", ("numbers instead of strings",), lambda: Traffic(ids=str, label_ids=int)),
    "upper case": Fault("ids", ("case",), lambda: Traffic(ids=uid, label_ids=lambda n: uid(n).upper())),
    "no hyphens": Fault("ids", ("hyphens",), lambda: Traffic(ids=uid, label_ids=lambda n: uid(n).replace("-", ""))),
    "leading zeros": Fault("ids", ("zeros",), lambda: Traffic(ids=lambda n: f"{n:09d}", label_ids=str)),
    "no zeros": Fault("ids", ("zeros",), lambda: Traffic(ids=str, label_ids=lambda n: f"{n:09d}")),
    "floats in text": Fault("ids", (".0",), lambda: Traffic(ids=str, label_ids=lambda n: f"{n}.0")),
    "floats for numbers": Fault("ids", ("strings instead",), lambda: Traffic(label_ids=lambda n: f"{n}.0")),
    "quotes": Fault("ids", ("quotes",), lambda: Traffic(ids=uid, label_ids=lambda n: f'"{uid(n)}"')),
    "spaces": Fault("ids", ("spaces",), lambda: Traffic(ids=str, label_ids=lambda n: f" {n}")),
    "a prefix": Fault("ids", ("something before",), lambda: Traffic(ids=lambda n: f"pay-{n}", label_ids=str)),
    "a prefix too many": Fault("ids", ("something before",), lambda: Traffic(ids=str, label_ids=lambda n: f"P:{n}")),
    "rounded": Fault(
        "ids", ("do not look like",), lambda: Traffic(ids=big, label_ids=lambda n: int(float(big(n)))),
    ),
    "rounded events": Fault(
        "ids", ("rounded",), lambda: Traffic(ids=lambda n: int(float(big(n))), label_ids=big),
    ),
    "another field": Fault(
        "ids", ("do not look like", '"cust-'), lambda: Traffic(ids=uid, label_ids=lambda n: f"cust-{n}"),
    ),
    "a tenth in another form": Fault(
        "ids", ("upper or lower",),
        lambda: Traffic(ids=uid, label_ids=lambda n: uid(n) if n % 8 else uid(n).upper()),
    ),
    "a wait too short": Fault(
        "wait", ("`label.wait` is 10 seconds", "20 seconds after"),
        lambda: Traffic(delay_ms=lambda n: 20_000), "10s", 9_000,
    ),
    "labels read late": Fault(
        "behind", ("behind events that were read", "wait of 2 minutes was over"),
        lambda: Traffic(20, delay_ms=lambda n: 1_000, read_ms=lambda ms: ms + (ms - NOW_MS)), "2m", 7_000,
    ),
    "half of them unknown": Fault(
        "unknown", ("Neither ids nor keys show why", "1024 milliseconds"),
        lambda: Traffic(ids=uid, label_ids=lambda n: uid(n if n % 2 else n + 10**6)), count=9_500,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_lost_labels_are_told_of_with_their_cause(name: str) -> None:
    """At 100 events a second (one case has 20), within two minutes after they began to be lost."""
    fault = FAULTS[name]
    traffic = fault.traffic()
    here = shard(traffic.partition, label={"wait": fault.wait})
    late_ms = 4 * MINUTE_MS if fault.cause == "behind" else 0
    made = alerts(here, traffic.records(0, fault.count))
    opened = [one for one in made if one.evidence["cause"] == fault.cause]
    assert opened, causes(made)
    first = made[0]
    assert causes([first]) == [("opened", fault.cause)]
    assert first.time_ms is not None
    assert first.time_ms - NOW_MS < 2 * MINUTE_MS + late_ms
    for words in fault.words:
        assert words in first.sentence
    assert len(made) <= 3, causes(made)
    for alert in made:
        check(Encoder(here.pipeline, here.number).encode(alert))


def test_one_date_far_ahead_is_told_of_as_such() -> None:
    traffic = Traffic(delay_ms=lambda n: MINUTE_MS)
    records = traffic.records(0, 18_000)
    place = next(i for i, one in enumerate(records) if isinstance(one, Event) and one.event_id == 4_000)
    records[place] = structs.replace(records[place], time_ms=NOW_MS + 70 * 365 * DAY_MS)
    here = shard(label={"wait": "2d"})
    (opened,) = alerts(here, records)
    assert opened.evidence["cause"] == "leap"
    assert "one record, p.events-0-4000, moved time ahead by 70 years," in opened.sentence
    at = next(i for i, one in enumerate(records) if one.source.offset == opened.positions["p.events"])  # type: ignore[union-attr]
    assert at < place + 2 * 12_000


def test_a_date_less_than_an_hour_ahead_is_one_as_well_where_waits_are_shorter() -> None:
    """Such a time is trusted: `limits.time_ahead_max` is an hour."""
    records = Traffic(delay_ms=lambda n: 3_000).records(0, 6_000)
    place = next(i for i, one in enumerate(records) if isinstance(one, Event) and one.event_id == 1_000)
    records[place] = structs.replace(records[place], time_ms=NOW_MS + 50 * MINUTE_MS)
    (opened,) = alerts(shard(label={"wait": "10m"}), records)
    assert opened.evidence["cause"] == "leap"
    assert "one record, p.events-0-1000, moved time ahead by 50 minutes," in opened.sentence


# -- healthy


def lognormal(number: int) -> int:
    return min(int(10 * MINUTE_MS * exp(2 * random.Random(number).gauss(0, 1))), 6 * DAY_MS)


def uniform(longest_ms: int) -> Callable[[int], int]:
    return lambda number: random.Random(number).randrange(longest_ms)


def at_midnight(time_ms: int) -> int:
    return time_ms // DAY_MS * DAY_MS + DAY_MS


def batch(number: int, rate: float) -> int:
    at_ms = NOW_MS + round(number * 1_000 / rate)
    return at_midnight(at_ms) - at_ms


def bursts(number: int) -> int:
    return NOW_MS + number // 500 * 6 * HOUR_MS + number % 500 * 10


def days_only(number: int) -> int:
    return NOW_MS + number // 1_000 * DAY_MS + number % 1_000 * 28_800


@dataclass(frozen=True)
class Healthy:
    """Traffic in which nothing is wrong.

    Args:
        begin: the first event whose label comes; `Traffic.first` is the first event that does.
    """

    traffic: Callable[[], Traffic]
    count: int = 8_000
    sections: dict[str, Any] = field(default_factory=dict)
    offset: int = 0


HALF = {"label": {"wait": "1h"}}
SLOW = 1 / 60
HEALTHY = {
    "at once": Healthy(lambda: Traffic(delay_ms=lambda n: 0)),
    "after a second": Healthy(Traffic),
    "after a second, half of them": Healthy(lambda: Traffic(delay_ms=lambda n: 1_000 if n % 2 else None), 12_000, HALF),
    "one in fifty": Healthy(
        lambda: Traffic(delay_ms=lambda n: None if n % 50 else 5_000), 12_000, {"label": {"wait": "30s"}}
    ),
    "after an hour": Healthy(lambda: Traffic(1, delay_ms=lambda n: HOUR_MS)),
    "after three days": Healthy(lambda: Traffic(SLOW, delay_ms=lambda n: 3 * DAY_MS)),
    "within two days": Healthy(lambda: Traffic(SLOW, delay_ms=uniform(2 * DAY_MS))),
    "with a long tail": Healthy(lambda: Traffic(SLOW, delay_ms=lognormal), 10_000),
    "with a long tail, fast": Healthy(lambda: Traffic(5, delay_ms=lognormal), 10_000),
    "once a day": Healthy(lambda: Traffic(SLOW, delay_ms=lambda n: batch(n, SLOW))),
    "once a day, half of them": Healthy(lambda: Traffic(SLOW, delay_ms=lambda n: batch(n, SLOW) if n % 2 else None)),
    "read once a day": Healthy(lambda: Traffic(SLOW, read_ms=at_midnight)),
    "first by a second": Healthy(lambda: Traffic(delay_ms=lambda n: -1_000)),
    "first by a minute": Healthy(lambda: Traffic(delay_ms=lambda n: -MINUTE_MS), 12_000),
    "first by an hour": Healthy(lambda: Traffic(1, delay_ms=lambda n: -HOUR_MS)),
    "first or after": Healthy(lambda: Traffic(delay_ms=lambda n: (n % 60 - 30) * 1_000)),
    "bursts": Healthy(lambda: Traffic(time_ms=bursts, delay_ms=uniform(2 * HOUR_MS))),
    "bursts, labels at once": Healthy(lambda: Traffic(time_ms=bursts)),
    "a third of the day": Healthy(lambda: Traffic(time_ms=days_only, delay_ms=lambda n: 20 * HOUR_MS)),
    "one an hour": Healthy(lambda: Traffic(1 / 3_600, delay_ms=uniform(3 * DAY_MS)), 6_000),
    "begun amid": Healthy(lambda: Traffic(first=6_000, delay_ms=lambda n: MINUTE_MS), 12_000),
    "begun amid, long delays": Healthy(lambda: Traffic(SLOW, first=6_000, delay_ms=uniform(3 * DAY_MS)), 11_000),
    "begun amid, a long tail": Healthy(lambda: Traffic(SLOW, first=6_000, delay_ms=lognormal), 11_000),
    "begun amid, at once or after three days": Healthy(
        lambda: Traffic(SLOW, first=6_000, delay_ms=lambda n: 0 if n % 2 else 3 * DAY_MS), 11_000, offset=6_000
    ),
    "begun amid, keys": Healthy(
        lambda: Traffic(40, first=6_000, delay_ms=lambda n: MINUTE_MS, keys=lambda n: b"k%d" % n, events_by="murmur2"),
        12_000,
    ),
    "one in twenty of events elsewhere": Healthy(
        lambda: Traffic(ids=uid, label_ids=lambda n: uid(n if n % 20 else n + 10**6)), 12_000
    ),
    "no keys": Healthy(lambda: Traffic(keys=lambda n: None)),
    "keys of customers": Healthy(lambda: Traffic(events_by="murmur2", keys=lambda n: b"c%d" % (n % 997)), 12_000),
    "only the positives": Healthy(
        lambda: Traffic(delay_ms=lambda n: None if n % 400 else 10_000), 24_000,
        {"label": {"wait": "1m", "missing": {"assume": 0}}},
    ),
    "anomalies, one in a thousand": Healthy(
        lambda: Traffic(delay_ms=lambda n: None if n % 1_000 else HOUR_MS), 12_000,
        {"task": "anomaly", "model": "HalfSpaceTrees(n_trees=1, height=1)", "label": {"wait": "1m"}},
    ),
    "anomalies without labels": Healthy(
        lambda: Traffic(delay_ms=lambda n: None), 12_000,
        {"task": "anomaly", "model": "HalfSpaceTrees(n_trees=1, height=1)", "label": {"wait": "1m"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_labels_are_not_told_of(name: str) -> None:
    healthy = HEALTHY[name]
    traffic = healthy.traffic()
    here = shard(**healthy.sections)
    for _ in range(healthy.offset):
        next(traffic.offsets["e"])
    made = alerts(here, traffic.records(0, healthy.count))
    assert made == [], [(one.time_ms, one.sentence) for one in made]
    assert here.counts["scored"] >= 1_500, "nothing was tried"


# -- labels that do not come


def test_labels_that_never_come_are_told_of_after_the_wait() -> None:
    here = shard(label={"wait": "2m"})
    made = alerts(here, Traffic(delay_ms=lambda n: None).records(0, 14_000))
    assert causes(made) == [("opened", "silence")]
    assert "p has never received a label, in 12,201 events and the whole wait of 2 minutes" in made[0].sentence


def test_labels_that_stop_are_told_of_by_what_was_usual() -> None:
    here = shard(label={"wait": "10m"}, alerts={"quiet": "1s"})
    made = alerts(here, Traffic(20, delay_ms=lambda n: 1_000 if n < 2_000 or n >= 20_000 else None).records(0, 21_000))
    assert causes(made) == [("opened", "silence"), ("resolved", "silence")]
    assert made[0].time_ms is not None
    assert 10 * MINUTE_MS < made[0].time_ms - NOW_MS - 100_000 < 12 * MINUTE_MS


# -- episodes


def test_the_episode_is_over_once_labels_find_their_events() -> None:
    here = shard(label={"wait": "2d"}, alerts={"quiet": "10s"})
    made = alerts(here, Traffic(label_ids=lambda n: str(n) if n < 2_000 else n).records(0, 12_000))
    assert causes(made) == [("opened", "ids"), ("resolved", "ids")]
    assert made[1].sentence == "Labels of p have found their events for 10 seconds."


def test_after_one_cause_the_next_is_told_of() -> None:
    traffic = Traffic(
        delay_ms=lambda n: 1_000 if n < 3_000 else 150_000,
        label_ids=lambda n: str(n) if n < 3_000 else n,
    )
    here = shard(label={"wait": "1m"}, alerts={"quiet": "10s"})
    made = alerts(here, traffic.records(0, 24_000))
    assert [one for one in causes(made) if one[0] == "opened"] == [("opened", "ids"), ("opened", "wait")]
    assert ("resolved", "ids") in causes(made)


def test_whoever_wants_none_of_it_gets_none() -> None:
    here = shard(alerts={"unmatched_max": 1})
    assert alerts(here, Traffic(label_ids=str).records(0, 2_000)) == []
    assert here.next_deadline_ms is not None, "what is held ends all the same"


def test_after_a_burst_time_alone_calls_for_a_look_once() -> None:
    """Labels first, then their events at once: what is wrong is seen when nothing comes any more."""
    traffic = Traffic(delay_ms=lambda n: 0, label_ids=str)
    records = traffic.records(0, 300)
    records.sort(key=lambda one: isinstance(one, Event))
    here = shard(label={"wait": "2d"})
    assert alerts(here, records) == []
    for slice_number in range(5):
        deadline_ms = here.next_deadline_ms
        assert deadline_ms is not None
        if deadline_ms > NOW_MS + HOUR_MS:
            break
        made = alerts(here, [Tick(0, slice_number, deadline_ms + 1)])
        if made:
            assert causes(made) == [("opened", "ids")]
            assert made[0].time_ms is not None
            assert made[0].time_ms - NOW_MS < 2 * MINUTE_MS
            break
    else:
        pytest.fail("an idle pipeline looks for ever")
    assert here.episodes.open.keys() == {"label_match:ids"}
    after_ms = here.next_deadline_ms
    assert after_ms is not None
    assert after_ms > NOW_MS + HOUR_MS, "an idle pipeline writes nothing more"


# -- state


@pytest.mark.parametrize("name", ["another partitioner", "labels read late", "half of them unknown", "after a second"])
def test_a_snapshot_at_any_place_changes_nothing(name: str) -> None:
    fault = FAULTS.get(name)
    traffic = fault.traffic() if fault else Traffic()
    records = traffic.records(0, 9_500 if name == "half of them unknown" else 4_000)
    whole = shard(label={"wait": "2m"}, alerts={"quiet": "5s"})
    cut = shard(label={"wait": "2m"}, alerts={"quiet": "5s"})
    every = random.Random(3)
    for record in records:
        if every.random() < 0.001:
            cut = load(cut.pipeline, 0, dump(cut))
        assert step(cut, record) == step(whole, record)
    # Both go through bytes once: what pickle makes of a shared object is then alike.
    states = [load(one.pipeline, 0, dump(one)).strays for one in (cut, whole)]
    assert digest_of(states[0]) == digest_of(states[1])


def test_an_older_state_goes_on_and_takes_nothing_for_lost_that_it_did_not_see() -> None:
    traffic = Traffic()
    records = traffic.records(0, 6_000)
    old = shard()
    assert alerts(old, records[:4_000]) == []
    state = {name: getattr(old, name) for name in KEPT if name not in ("strays", "history")}
    migrate(state, 8, shard())
    here = load(old.pipeline, 0, pickled(state))
    assert here.strays == Strays()
    assert alerts(here, records[4_000:]) == []
    assert here.strays.first_offset == 2_050
    assert causes(alerts(here, Traffic(label_ids=str).records(6_000, 7_000))) == [("opened", "ids")]


def test_what_is_kept_is_bounded() -> None:
    traffic = Traffic(ids=uid, label_ids=lambda n: uid(n + 10**6))
    here = shard(label={"wait": "5s", "early_max": 500})
    alerts(here, traffic.records(0, 4_000))
    strays = here.strays
    assert strays.held == 4_000
    assert len(strays.fresh) == PROBES
    assert 0 < len(strays.gone) <= GONE
    assert len(strays.aged) <= PROBES
    assert len(dump(here)) < 300_000


def test_labels_that_are_read_ahead_of_their_events_are_not_told_of() -> None:
    """A batch of both, of which the labels are fetched first: they move time, and their events have not come yet."""
    here = shard(label={"wait": "1h"})

    def events(first: int, last: int) -> list[Record]:
        return [event(n, NOW_MS + n * 1_000, offset=n, word=False) for n in range(first, last)]

    def labels(first: int, last: int, ids: str = "{}") -> list[Record]:
        texts = (ids.format(n) for n in range(first, last))
        return [
            label(text if ids != "{}" else int(text), True, NOW_MS + (first + n) * 1_000, offset=first + n)
            for n, text in enumerate(texts)
        ]

    def in_turn(one: list[Record], other: list[Record]) -> list[Record]:
        return [record for pair in zip(one, other, strict=True) for record in pair]

    healthy = [*in_turn(events(0, 1_000), labels(0, 1_000)), *labels(1_000, 1_400), *events(1_000, 1_400)]
    assert [one.sentence for one in alerts(here, healthy)] == []
    assert here.counts["joined"] == 1_400
    lost = alerts(here, in_turn(events(1_400, 2_400), labels(1_400, 2_400, "unheard-of {}")))
    assert lost, "where events go on, such labels are told of"
