"""The order in which inputs are folded: by time, then rank, then offset; and who waits for whom."""

from __future__ import annotations

from driftline.core.fold.merge import TOGETHER, Merge
from driftline.core.record import InputRecord, Malformed
from tests.support.small import source

CONTROL, LABELS, EVENTS = 0, 1, 2
ENDS = (True, True, True)
MORE = (False, False, False)


def record(rank: int, offset: int, order_ms: int) -> InputRecord:
    """A record with nothing but its place and its time."""
    return Malformed(source(f"t{rank}", offset, b""), order_ms, "empty", "")


def _as_it_is(record: InputRecord) -> InputRecord:
    return record


def merge(
    *, control: list[int] | None = None, labels: list[int] | None = None, events: list[int] | None = None
) -> Merge[InputRecord]:
    """Records by their times, offsets counted from 0."""
    made = Merge([_as_it_is] * 3)
    for rank, times in enumerate((control or [], labels or [], events or [])):
        made.push(rank, [record(rank, offset, order_ms) for offset, order_ms in enumerate(times)])
    return made


def popped(made: Merge[InputRecord], at_end: tuple[bool, ...] = ENDS) -> list[tuple[int, int]]:
    """Rank and offset of everything that comes out."""
    found = []
    while (one := made.pop(at_end)) is not None:
        found.append((one[0], one[1].source.offset))
    return found


def test_earlier_first() -> None:
    assert popped(merge(labels=[2, 4], events=[1, 3, 5])) == [(2, 0), (1, 0), (2, 1), (1, 1), (2, 2)]


def test_a_label_goes_before_an_event_of_the_same_time() -> None:
    assert popped(merge(labels=[5, 5], events=[5, 5])) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_offsets_rule_within_an_input() -> None:
    """A time that goes back counts as the latest before it, so it draws nothing forward and holds nothing back."""
    assert popped(merge(labels=[7], events=[10, 1, 6, 11])) == [(1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert popped(merge(labels=[3, 9], events=[8, 2, 10])) == [(1, 0), (2, 0), (2, 1), (1, 1), (2, 2)]


def test_control_goes_first_whatever_its_time_and_waits_for_nobody() -> None:
    assert popped(merge(control=[99, 98], events=[1])) == [(0, 0), (0, 1), (2, 0)]
    made = merge(control=[99], events=[1])
    assert popped(made, MORE) == [(0, 0)]


def test_an_input_with_more_to_come_holds_the_others_back() -> None:
    made = merge(events=[1, 2])
    assert not made.ready((True, False, True))
    assert made.pop((True, False, True)) is None
    assert made.ready((False, True, True))  # control holds nobody back
    assert popped(made, (False, True, False)) == [(2, 0), (2, 1)]


def test_an_input_with_records_in_hand_holds_nobody_back_until_it_runs_out() -> None:
    made = merge(labels=[2], events=[1, 2, 3])
    assert popped(made, (True, False, True)) == [(2, 0), (1, 0)]
    assert popped(made, ENDS) == [(2, 1), (2, 2)]


def test_nothing_is_ready_when_nothing_is_there() -> None:
    made = merge()
    assert not made.ready(ENDS)
    assert made.pop(ENDS) is None


def test_ready_says_what_pop_would_do() -> None:
    for labels in ([], [1]):
        for events in ([], [1]):
            for control in ([], [1]):
                for bits in range(8):
                    at_end = (bool(bits & 1), bool(bits & 2), bool(bits & 4))
                    made = merge(control=control, labels=labels, events=events)
                    assert made.ready(at_end) is (made.pop(at_end) is not None)


def test_what_comes_later_takes_its_place_by_its_own_time() -> None:
    made = merge(labels=[20, 30], events=[10, 5, 40])
    assert made.pop(ENDS) is not None  # the event at 10
    assert popped(made) == [(2, 1), (1, 0), (1, 1), (2, 2)]
    held = merge(labels=[7], events=[10, 5])
    held.push(LABELS, [record(LABELS, 1, 8)])
    assert popped(held) == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_what_waits_is_decoded_when_its_turn_is_near() -> None:
    decoded = []

    def decode(order_ms: int) -> InputRecord:
        decoded.append(order_ms)
        return record(1, order_ms, order_ms)

    made: Merge[int] = Merge([decode] * 3)
    made.push(LABELS, range(2 * TOGETHER))
    assert decoded == []
    assert made.waiting(LABELS) == 2 * TOGETHER
    assert made.pop(ENDS) is not None
    assert decoded == list(range(TOGETHER))
    assert made.waiting(LABELS) == 2 * TOGETHER - 1


def test_clearing_takes_everything_out() -> None:
    made = merge(control=[1], labels=[1], events=[1])
    made.clear()
    assert popped(made) == []


def test_two_inputs_without_labels() -> None:
    made = Merge([_as_it_is] * 2)
    made.push(1, [record(1, 0, 5)])
    assert made.pop((False, False)) is not None
    assert made.pop((False, False)) is None
