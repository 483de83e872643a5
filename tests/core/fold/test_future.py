"""Times far ahead: told from a pause by what follows them, and merged where they stand."""

from __future__ import annotations

import random

import pytest

from driftline.core.fold.future import FOLLOWERS, Judge, in_time, slips
from driftline.core.fold.merge import Merge
from driftline.core.record import Event, InputRecord, Label, Source
from tests.support.small import NOW_MS, event, label

HOUR_MS, DAY_MS, YEAR_MS = 3_600_000, 86_400_000, 365 * 86_400_000
FAR_MS = 4_102_358_400_000  # 2099-12-31
MINUTES = [NOW_MS + 60_000 * number for number in range(30)]


def placed(times: list[int]) -> list[tuple[int, bool]]:
    return [(time_ms, is_ahead) for _, time_ms, is_ahead in in_time(times, lambda one: one, HOUR_MS)]


@pytest.mark.parametrize("far", [FAR_MS, NOW_MS + 2 * DAY_MS], ids=["2099", "two days"])
@pytest.mark.parametrize("place", [1, 12, 25])
def test_a_row_far_ahead_stands_at_the_row_before(place: int, far: int) -> None:
    found = placed([*MINUTES[:place], far, *MINUTES[place:]])
    assert [number for number, (_, is_ahead) in enumerate(found) if is_ahead] == [place]
    assert found[place][0] == MINUTES[place - 1]
    assert [time_ms for time_ms, is_ahead in found if not is_ahead] == MINUTES


def test_the_first_row_may_be_far_ahead() -> None:
    found = placed([FAR_MS, *MINUTES])
    assert found[0] == (MINUTES[0], True)
    assert found[1:] == [(time_ms, False) for time_ms in MINUTES]


def test_a_few_of_them_in_a_row_are_all_far_ahead() -> None:
    found = placed([*MINUTES[:10], FAR_MS, FAR_MS + 1, *MINUTES[10:]])
    assert [number for number, (_, is_ahead) in enumerate(found) if is_ahead] == [10, 11]


@pytest.mark.parametrize(
    "times",
    [
        [*MINUTES, *(time_ms + 30 * DAY_MS for time_ms in MINUTES)],  # a month without records
        [NOW_MS + number * DAY_MS for number in range(40)],  # daily
        [NOW_MS + number * YEAR_MS for number in range(40)],  # yearly
        [*MINUTES, NOW_MS + 30 * DAY_MS],  # a pause before the last one
        [*MINUTES[:20], *(time_ms + DAY_MS for time_ms in MINUTES[:2]), MINUTES[20],
         *(time_ms + DAY_MS for time_ms in MINUTES[2:])],  # a straggler from before the pause
    ],
    ids=["pause", "daily", "yearly", "last", "straggler"],
)  # fmt: skip
def test_a_pause_is_no_slip(times: list[int]) -> None:
    assert not any(is_ahead for _, is_ahead in placed(times))


def test_rows_in_no_order_are_left_alone() -> None:
    times = [NOW_MS + number * DAY_MS for number in range(365)]
    random.Random(7).shuffle(times)
    assert sum(is_ahead for _, is_ahead in placed(times)) < 4


def test_too_few_rows_behind_say_nothing() -> None:
    assert not slips(FAR_MS, MINUTES[:3], HOUR_MS)
    assert slips(FAR_MS, MINUTES[:4], HOUR_MS)


# -- in the merge


def merged(times: dict[int, list[int]], judge: Judge) -> Merge[InputRecord]:
    made: Merge[InputRecord] = Merge([lambda one: one] * 3, judge)
    for rank, ones in times.items():
        made.push(rank, records_of(rank, ones))
    return made


def records_of(rank: int, times: list[int]) -> list[InputRecord]:
    return [
        label(f"e{number}", 1, time_ms, offset=number) if rank == 1 else event(f"e{number}", time_ms, offset=number)
        for number, time_ms in enumerate(times)
    ]


def taken(made: Merge[InputRecord], at_end: bool = True) -> list[tuple[int, int, bool]]:
    """Rank, offset, and whether it lies far ahead."""
    found = []
    for rank, record in made.take(1_000, [True, at_end, at_end]):
        assert isinstance(record, Event | Label)
        found.append((rank, record.source.offset, record.time_ahead))
    return found


def test_an_event_far_ahead_does_not_hold_back_those_behind_it() -> None:
    """Else all labels would go first, and those of later events would wait in vain."""
    events = [*MINUTES[:10], FAR_MS, *MINUTES[10:]]
    labels = [time_ms + 1 for time_ms in MINUTES]
    judge = Judge(HOUR_MS)
    order = taken(merged({1: labels, 2: events}, judge))
    without = taken(merged({1: labels, 2: MINUTES}, Judge(HOUR_MS)))
    assert [one for one in order if not one[2]] == [
        (rank, offset + (rank == 2 and offset >= 10), False) for rank, offset, _ in without
    ]
    assert order.index((2, 10, True)) == order.index((2, 9, False)) + 1
    assert judge.found == {2: [10]}
    assert judge.latest_ms == max(*MINUTES, *labels)
    assert "2099-12-31" in judge.named[0]


def test_a_replay_of_what_was_found_gives_the_same_order() -> None:
    """Whatever follows: it has only what was journaled."""
    events = [*MINUTES[:10], FAR_MS, *MINUTES[10:]]
    labels = [*(time_ms + 1 for time_ms in MINUTES[:5]), FAR_MS, *(time_ms + 1 for time_ms in MINUTES[5:])]
    judge = Judge(HOUR_MS)
    whole = merged({1: labels, 2: events}, judge)
    for count in (3, 15, 7, 100):
        before = judge.latest_ms
        judge.begin(None if before < 0 else int(before))
        first = [(rank, one) for rank, one in whole.take(count, [True] * 3)]
        again = Judge(HOUR_MS)
        again.begin(
            None if before < 0 else int(before), marks={at: frozenset(ones) for at, ones in judge.found.items()}
        )
        replay: Merge[InputRecord] = Merge([lambda one: one] * 3, again)
        for at, topic in ((1, labels), (2, events)):
            offsets = [one.source.offset for rank, one in first if rank == at]
            if offsets:
                replay.push(at, records_of(at, topic)[offsets[0] : offsets[-1] + 1])
        assert replay.take(1_000, [True] * 3) == first
        assert again.found == judge.found


def test_what_lies_beyond_now_is_far_ahead_whatever_follows() -> None:
    judge = Judge(HOUR_MS)
    made = merged({2: [*MINUTES[:3], FAR_MS]}, judge)
    judge.begin(None, NOW_MS + 10 * HOUR_MS)
    assert [one[2] for one in taken(made)] == [False, False, False, True]
    judge.begin(int(judge.latest_ms), NOW_MS + 10 * HOUR_MS)
    made.push(2, [event(f"f{number}", FAR_MS + number, offset=4 + number) for number in range(20)])
    assert all(one[2] for one in taken(made))
    assert judge.latest_ms == MINUTES[2]


def test_the_outputs_of_a_record_beyond_now_get_a_time_that_a_broker_takes() -> None:
    judge = Judge(HOUR_MS)
    made = merged({2: [MINUTES[0]]}, judge)
    judge.begin(None, NOW_MS + HOUR_MS)
    far = event("far", FAR_MS, offset=1)
    made.push(2, [Event(_stamped(far, FAR_MS), FAR_MS, FAR_MS, "far", ())])
    *_, (_, record) = made.take(10, [True] * 3)
    assert record.source.record_time_ms == MINUTES[0]
    assert record.order_ms == MINUTES[0]


def _stamped(one: Event, time_ms: int) -> Source:
    source = one.source
    return Source(source.topic, source.partition, source.offset, time_ms, source.key, source.value)


def test_nothing_is_taken_while_what_follows_is_still_to_come() -> None:
    judge = Judge(HOUR_MS)
    made = merged({2: [*MINUTES[:3], MINUTES[3] + DAY_MS]}, judge)
    assert [one[1] for one in taken(made, at_end=False)] == []  # labels hold them back
    made.push(1, [label("x", 1, FAR_MS - 1, offset=0)])
    judge.begin(MINUTES[0])
    made = merged({1: [FAR_MS], 2: [*MINUTES[:3], MINUTES[3] + DAY_MS, *MINUTES[4:7]]}, judge)
    at_end = [True, True, False]
    assert [one.source.offset for _, one in made.take(100, at_end) if isinstance(one, Event)] == [0, 1, 2]
    assert not made.ready(at_end)
    made.push(2, [event(f"g{number}", MINUTES[7 + number], offset=7 + number) for number in range(FOLLOWERS)])
    assert made.ready(at_end)
    assert next(one[1] for one in taken(made) if one[0] == 2) == 3
    assert judge.found[2] == [3]
