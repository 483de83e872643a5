"""The merge, for any inputs: recovery rests on a slice being the same however it was cut and whatever came after it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from driftline.core.fold.merge import Merge
from driftline.core.record import InputRecord, Malformed
from tests.support.small import source

RANKS = 3

Inputs = list[list[int]]  # times by rank, in order of offset


def inputs(max_size: int = 12) -> st.SearchStrategy[Inputs]:
    times = st.lists(st.integers(0, 9), max_size=max_size)
    return st.tuples(st.lists(st.integers(0, 9), max_size=3), times, times).map(list)


def record(rank: int, offset: int, order_ms: int) -> InputRecord:
    return Malformed(source(f"t{rank}", offset, b""), order_ms, "empty", "")


def fill(
    merge: Merge[InputRecord], given_inputs: Inputs, starts: list[int] | None = None, stops: list[int] | None = None
) -> None:
    for rank, times in enumerate(given_inputs):
        first = starts[rank] if starts else 0
        last = stops[rank] if stops else len(times)
        for offset in range(first, last):
            merge.push(rank, [record(rank, offset, times[offset])])


def drain(
    merge: Merge[InputRecord], count: int = 10**6, at_end: tuple[bool, ...] = (True,) * RANKS
) -> list[tuple[int, int]]:
    """One slice: rank and offset of at most `count` records."""
    found: list[tuple[int, int]] = []
    while len(found) < count and (one := merge.pop(at_end)) is not None:
        found.append((one[0], one[1].source.offset))
    return found


def stops_of(order: list[tuple[int, int]], starts: list[int]) -> list[int]:
    """Next offset by rank after these records."""
    return [max([start, *(at + 1 for rank, at in order if rank == here)]) for here, start in enumerate(starts)]


@given(inputs())
def test_everything_comes_out_once_and_in_the_order_of_its_offsets(given_inputs: Inputs) -> None:
    merge: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    fill(merge, given_inputs)
    order = drain(merge)
    for rank, times in enumerate(given_inputs):
        assert [offset for here, offset in order if here == rank] == list(range(len(times)))


@given(inputs(), st.integers(0, 30))
def test_a_slice_cut_anywhere_is_the_same_when_its_ranges_are_merged_alone(given_inputs: Inputs, count: int) -> None:
    """The journal keeps ranges, not orders: what was behind the cut must not have mattered."""
    merge: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    fill(merge, given_inputs)
    order = drain(merge, count)
    again: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    fill(again, given_inputs, stops=stops_of(order, [0] * RANKS))
    assert drain(again) == order


@given(inputs(), st.lists(st.integers(0, 9), max_size=6))
def test_every_slice_of_a_run_is_the_same_when_merged_alone(given_inputs: Inputs, counts: list[int]) -> None:
    merge: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    fill(merge, given_inputs)
    starts = [0] * RANKS
    for count in [*counts, 10**6]:
        order = drain(merge, count)
        stops = stops_of(order, starts)
        again: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
        fill(again, given_inputs, starts, stops)
        assert drain(again) == order
        starts = stops
    assert starts == [len(times) for times in given_inputs]


@given(inputs(), st.data())
def test_arrivals_in_pieces_give_ranges_that_replay(given_inputs: Inputs, data: st.DataObject) -> None:
    """As it is live: records arrive while slices are folded, and an input that is not at its end holds the others."""
    merge: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    pushed, starts = [0] * RANKS, [0] * RANKS
    for _ in range(40):
        rank = data.draw(st.integers(0, RANKS - 1))
        more = data.draw(st.integers(0, 4))
        stop = min(len(given_inputs[rank]), pushed[rank] + more)
        fill(
            merge,
            [times if here == rank else [] for here, times in enumerate(given_inputs)],
            pushed,
            [stop if here == rank else pushed[here] for here in range(RANKS)],
        )
        pushed[rank] = stop
        at_end = tuple(
            pushed[here] == len(times) or data.draw(st.booleans()) for here, times in enumerate(given_inputs)
        )
        order = drain(merge, data.draw(st.integers(0, 5)), at_end)
        stops = stops_of(order, starts)
        again: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
        fill(again, given_inputs, starts, stops)
        assert drain(again) == order
        starts = stops


@given(inputs())
def test_times_in_order_give_the_sorted_order(given_inputs: Inputs) -> None:
    """Where no time goes back, the merge is a plain sort by time, rank and offset, behind control."""
    ordered = [sorted(times) for times in given_inputs]
    merge: Merge[InputRecord] = Merge([lambda record: record] * RANKS)
    fill(merge, ordered)
    wanted = sorted(
        (times[offset], rank, offset) for rank, times in enumerate(ordered) if rank for offset in range(len(times))
    )
    control = [(0, offset) for offset in range(len(ordered[0]))]
    assert drain(merge) == control + [(rank, offset) for _, rank, offset in wanted]
