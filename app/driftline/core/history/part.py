"""Parts of one key's past: windows in buckets, totals, latest values, decayed sums, distinct values.

A part is a list of numbers and lists, so that a key's whole past is one string of bytes at rest (msgpack); an empty one
is `[]`. Every operation takes the part first and changes it in place.

**Windows** have `BUCKETS` buckets of a 32nd of the window, at multiples of it since 1970. The newest bucket is the one
of the reference time, so a window holds nothing older than `over`, and all that is younger than 31/32 of it. Only
buckets with something in them are kept.

**Late**: what is older than the oldest bucket of its window is left out of that window.

**Take back**: a label that is corrected or retracted is subtracted where it was added. A part of labels therefore keeps
the `EXTREMES` least or greatest values of a bucket, not one: they are exact until so many of a bucket were taken back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias
from zlib import crc32

BUCKETS: Final = 32
DISTINCT_MAX: Final = 256
EXTREMES: Final = 8
CLASSES_MAX: Final = 32  # different labels of one bucket
_OFFSET_MAX: Final = 120  # beyond 127 msgpack needs more than a byte
_WEIGHT_MIN: Final = 1e-280

Part: TypeAlias = list[Any]
Kind: TypeAlias = Literal["count", "sum", "m2", "min", "max", "least", "most", "classes"]
Column: TypeAlias = tuple[Kind, int | None]
"""What a bucket keeps, and of which source, by its number among those of the plan; None: of the events themselves.

For each source that may be missing there is a `count` of its own; `sum` and `m2` (the sum of squared distances from the
mean) come after the count that they need. Of labels, `least` and `most` are the least and greatest values, and
`classes` how often each hash of a label was there.
"""


class Window:
    """Sums over the buckets of one span of time.

    Args:
        over_ms: the span; None for all of the past, which is then one bucket.
        columns: what each bucket keeps, the count of events first.
        counted_by: for each source, the column that counts its values.

    A part is `[number of the first bucket, offsets of the buckets from it, one list a column]`.
    """

    def __init__(self, over_ms: int | None, columns: tuple[Column, ...], counted_by: dict[int, int]) -> None:
        self.over_ms = over_ms
        self.columns = columns
        self._span_ms = over_ms or 0
        self._counted_by = counted_by
        self._steps = [(place + 2, kind, source) for place, (kind, source) in enumerate(columns)]
        self._sum_of = {source: place + 2 for place, (kind, source) in enumerate(columns) if kind == "sum"}
        self._sums = [(place, source) for source, place in self._sum_of.items() if source is not None]
        self._plain = len(self._sums) + 1 == len(columns)  # a count, and sums of sources that are always there
        self._empty = [_EMPTY[kind] for kind, _ in columns]
        self.place_of = {column: place + 2 for place, column in enumerate(columns)}

    def bucket(self, time_ms: int) -> int:
        return time_ms * BUCKETS // self._span_ms if self._span_ms else 0

    def add(self, part: Part, time_ms: int, newest_ms: int, values: tuple[float | None, ...]) -> bool:
        """One more event or label; False where it is older than the window.

        Args:
            newest_ms: the latest time so far, this one included.
            values: of each source.
        """
        bucket = time_ms * BUCKETS // self._span_ms if self._span_ms else 0
        if part and part[0] + part[1][-1] == bucket:  # mostly: the newest bucket, without a call
            slot = -1
        elif (slot := self._slot(part, bucket, bucket if time_ms == newest_ms else self.bucket(newest_ms))) < 0:
            return False
        part[2][slot] += 1
        if self._plain:
            for place, source in self._sums:
                part[place][slot] += values[source]
        else:
            self._add(part, slot, values)
        return True

    def adder(self) -> Callable[[Part, int, int, tuple[Any, ...]], bool]:
        """`add`, made for what the window keeps: of a count and sums alone, the commonest cases without a call."""
        span_ms, sums, add = self._span_ms, self._sums, self.add
        if not (self._plain and span_ms):
            return add

        def add_newest(part: Part, time_ms: int, newest_ms: int, values: tuple[Any, ...]) -> bool:
            if not part or time_ms != newest_ms:
                return add(part, time_ms, newest_ms, values)
            offsets = part[1]
            offset = time_ms * BUCKETS // span_ms - part[0]
            last = offsets[-1]
            if offset == last:
                part[2][-1] += 1
                for place, source in sums:
                    part[place][-1] += values[source]
                return True
            if not last < offset <= _OFFSET_MAX:
                return add(part, time_ms, newest_ms, values)
            if offsets[0] <= offset - BUCKETS:
                over = bisect_right(offsets, offset - BUCKETS)
                for column in part[1:]:
                    del column[:over]
            offsets.append(offset)
            part[2].append(1)
            for place, source in sums:
                part[place].append(0.0 + values[source])
            return True

        return add_newest

    def _add(self, part: Part, slot: int, values: tuple[float | None, ...]) -> None:
        """Put the values to whatever the bucket keeps of them."""
        for place, kind, source in self._steps:
            value = None if source is None else values[source]
            if value is None or source is None:
                continue
            column = part[place]
            if kind == "sum":
                column[slot] += value
            elif kind == "count":
                column[slot] += 1
            elif kind == "m2":  # by Welford, from the sums as they are now, this value in them
                count = part[self._counted_by[source] + 2][slot]
                if count > 1:
                    distance = value - (part[self._sum_of[source]][slot] - value) / (count - 1)
                    column[slot] += distance * distance * (count - 1) / count
            elif kind in _OF_LABELS:
                count = part[self._counted_by[source] + 2][slot]
                column[slot] = _with_label(kind, column[slot] or [], value, count - 1)
            elif column[slot] is None or (value < column[slot] if kind == "min" else value > column[slot]):
                column[slot] = value

    def take_back(self, part: Part, time_ms: int, newest_ms: int, values: tuple[float | None, ...]) -> None:
        """Remove what was added at this time."""
        bucket = self.bucket(time_ms)
        if not part or (self._span_ms and bucket <= self.bucket(newest_ms) - BUCKETS):
            return
        offset, offsets = bucket - part[0], part[1]
        slot = bisect_left(offsets, offset)
        if slot == len(offsets) or offsets[slot] != offset or not part[2][slot]:
            return
        if part[2][slot] == 1:  # the last of its bucket: what is left is exactly nothing
            for column in part[1:]:
                del column[slot]
            if not offsets:
                part.clear()
            return
        for place, kind, source in reversed(self._steps):  # m2 before the sum and the count that it needs
            value = None if source is None else values[source]
            column = part[place]
            if kind == "m2" and source is not None and value is not None:
                count = part[self._counted_by[source] + 2][slot]
                distance = value - (part[self._sum_of[source]][slot] - value) / (count - 1)
                column[slot] = max(column[slot] - distance * distance * (count - 1) / count, 0.0)
            elif kind == "sum" and value is not None:
                column[slot] -= value
            elif kind == "count":
                column[slot] -= 1
            elif kind in _OF_LABELS and value is not None:
                column[slot] = _without_label(kind, column[slot] or [], value)

    def _slot(self, part: Part, bucket: int, newest: int) -> int:
        """Where a bucket is in the columns, made if it is not there; -1 where it is older than the window."""
        least = newest - BUCKETS
        if bucket <= least and self._span_ms:
            return -1
        if not part:
            part += [bucket, [0], *[[empty] for empty in self._empty]]
            return 0
        offsets, offset = part[1], bucket - part[0]
        if offset == offsets[-1]:
            return len(offsets) - 1
        if offset < offsets[-1]:
            slot = bisect_left(offsets, offset)
            if offsets[slot] != offset:
                self._insert(part, slot, offset)
            return slot
        if offsets[0] <= least - part[0]:
            over = bisect_right(offsets, least - part[0])
            for column in part[1:]:
                del column[:over]
        if offset > _OFFSET_MAX:
            self._rebase(part, bucket)
            offset = bucket - part[0]
        part[1].append(offset)
        for column, empty in zip(part[2:], self._empty, strict=True):
            column.append(empty)
        return len(part[1]) - 1

    def fits(self, part: Part) -> bool:
        """Whether a list that is not empty is such a part."""
        if len(part) != len(self.columns) + 2 or not is_time(part[0]) or not _are(part[1], _INTEGERS):
            return False
        offsets, columns = part[1], part[2:]
        if not offsets or offsets[0] < -BUCKETS or any(one >= other for one, other in pairwise(offsets)):
            return False
        if offsets[-1] > _OFFSET_MAX + BUCKETS or (not self._span_ms and (part[0] or offsets[-1])):
            return False
        for (kind, _), column in zip(self.columns, columns, strict=True):
            if not _are(column, _OF_KIND[kind]) or len(column) != len(offsets):
                return False
            if kind in ("count", "m2") and any(one < 0 for one in column):
                return False
            if kind in _OF_LABELS and not all(one is None or _kept_of_labels(kind, one) for one in column):
                return False
        return True

    def _insert(self, part: Part, slot: int, offset: int) -> None:
        part[1].insert(slot, offset)
        for place, empty in enumerate(self._empty, 2):
            part[place].insert(slot, empty)

    def _rebase(self, part: Part, bucket: int) -> None:
        """Count offsets from the oldest bucket that is left."""
        offsets = part[1]
        shift = offsets[0] if offsets else bucket - part[0]
        part[0] += shift
        part[1] = [offset - shift for offset in offsets]

    def filler(
        self,
        place: int,
        counts: Sequence[int],
        totals: Sequence[tuple[int, int, bool]],
        fills: Sequence[tuple[int, Any]],
    ) -> Callable[[list[Any], Part, int], None]:
        """How counts, sums and means of sources that are always there are read from a past, in one go.

        Args:
            place: of the part in the past.
            counts: places of the features that are counts.
            totals: of the others their places, their columns, and whether they are means.
            fills: of all of them, what stands in while the window is empty.
        """
        span_ms, within = self._span_ms, self.within

        def fill_in(values: list[Any], past: Part, now_ms: int) -> None:
            part = past[place]
            if part and span_ms and part[1][0] <= now_ms * BUCKETS // span_ms - BUCKETS - part[0]:
                part = within(part, now_ms)
            count = sum(part[2]) if part else 0
            if not count:
                for feature, fill in fills:
                    values[feature] = fill
                return
            for feature in counts:
                values[feature] = count
            for feature, column, is_mean in totals:
                total = sum(part[column])
                values[feature] = total / count if is_mean else total

        return fill_in

    def within(self, part: Part, now_ms: int) -> Part:
        """The part without buckets that are older than the window; empty if none is left."""
        if not part or not self._span_ms:
            return part
        least, offsets = now_ms * BUCKETS // self._span_ms - BUCKETS - part[0], part[1]
        if offsets[0] > least:
            return part
        over = bisect_right(offsets, least)
        return [part[0], *[column[over:] for column in part[1:]]] if over < len(offsets) else []


_EMPTY: Final[dict[Kind, float | None]] = {
    "count": 0, "sum": 0.0, "m2": 0.0, "min": None, "max": None, "least": None, "most": None, "classes": None,
}  # fmt: skip
_OF_LABELS: Final = ("least", "most", "classes")


def _with_label(kind: Kind, kept: list[Any], value: Any, before: int) -> list[Any]:
    """What a bucket keeps of its labels, with one more: sorted values (of `most`, their negatives), or hashes with
    counts.

    Args:
        before: labels of the bucket so far; with more than are kept, one that lies beyond those says nothing.
    """
    if kind == "classes":
        name = _hash(value)
        for pair in kept:
            if pair[0] == name:
                pair[1] += 1
                return kept
        return [*kept, [name, 1]] if len(kept) < CLASSES_MAX else kept
    value = -value if kind == "most" else value
    if not kept or before <= len(kept) or value <= kept[-1]:
        insort(kept, value)
        del kept[EXTREMES:]
    return kept


def _without_label(kind: Kind, kept: list[Any], value: Any) -> list[Any]:
    if kind == "classes":
        name = _hash(value)
        left = [[one, count - (one == name)] for one, count in kept]
        return [pair for pair in left if pair[1]]
    value = -value if kind == "most" else value
    if value in kept:
        kept.remove(value)
    return kept


def _hash(value: Any) -> int:
    """Of a label; 1, 1.0 and true are the same."""
    text = value if isinstance(value, str) else repr(float(value))
    return crc32(text.encode("utf-8", "surrogatepass"))


_INTEGERS: Final = frozenset({int})
_NUMBERS: Final = frozenset({int, float})
_OF_KIND: Final[dict[Kind, frozenset[type]]] = {
    "count": _INTEGERS,
    "sum": _NUMBERS,
    "m2": _NUMBERS,
    "min": _NUMBERS | {type(None)},
    "max": _NUMBERS | {type(None)},
    "least": frozenset({list, type(None)}),
    "most": frozenset({list, type(None)}),
    "classes": frozenset({list, type(None)}),
}


def is_time(value: object) -> bool:
    """Whether a time, or the number of a bucket, can be so."""
    return type(value) is int and -(2**63) < value < 2**63


def _are(values: object, kinds: frozenset[type]) -> bool:
    return type(values) is list and kinds.issuperset(map(type, values))


def _kept_of_labels(kind: Kind, kept: list[Any]) -> bool:
    """Whether a list is what a bucket keeps of its labels."""
    if kind != "classes":
        return len(kept) <= EXTREMES and _are(kept, _NUMBERS)
    return len(kept) <= CLASSES_MAX and all(_are(pair, _INTEGERS) and len(pair) == 2 and pair[1] > 0 for pair in kept)


# What a window says of a source, from the part `within` the window; None where it has no value of it. `place` is that
# of the column that is asked for, `counted` that of its count.


def window_count(part: Part, place: int, counted: int) -> float | None:
    count: int = sum(part[counted])
    return count


def window_sum(part: Part, place: int, counted: int) -> float | None:
    return sum(part[place]) if sum(part[counted]) else None


def window_mean(part: Part, place: int, counted: int) -> float | None:
    count = sum(part[counted])
    return sum(part[place]) / count if count else None


def window_std(sums: int, part: Part, place: int, counted: int) -> float | None:
    """The standard deviation (of n - 1, as River's and pandas'), 0 of one value.

    Args:
        sums: place of the column of sums.

    Source: T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm for computing sample
    variances, 1979.
    """
    count, mean, spread = 0, 0.0, 0.0
    for number, total, own in zip(part[counted], part[sums], part[place], strict=True):
        if number:
            distance = total / number - mean
            together = count + number
            spread += own + distance * distance * count * number / together
            mean += distance * number / together
            count = together
    if not count:
        return None
    return (spread / (count - 1)) ** 0.5 if count > 1 else 0.0


def window_least(part: Part, place: int, counted: int) -> float | None:
    return min((value for value in part[place] if value is not None), default=None)


def window_most(part: Part, place: int, counted: int) -> float | None:
    return max((value for value in part[place] if value is not None), default=None)


def label_least(part: Part, place: int, counted: int) -> float | None:
    return min((kept[0] for kept in part[place] if kept), default=None)


def label_most(part: Part, place: int, counted: int) -> float | None:
    negative = min((kept[0] for kept in part[place] if kept), default=None)
    return None if negative is None else -negative


def label_classes(part: Part, place: int, counted: int) -> float | None:
    return len({name for kept in part[place] for name, _ in kept or ()}) or None


# -- latest values: `[times, values]`, the newest last, in the order in which they were folded


def latest_add(part: Part, size: int, time_ms: int, value: float) -> None:
    if not part:
        part += [[], []]
    times, values = part
    times.append(time_ms)
    values.append(value)
    if len(values) > size:
        del times[0], values[0]


def latest_take_back(part: Part, time_ms: int, value: float) -> None:
    """Remove the newest one of this time and value."""
    if not part:
        return
    times, values = part
    for place in range(len(values) - 1, -1, -1):
        if times[place] == time_ms and values[place] == value:
            del times[place], values[place]
            return


def latest_fits(size: int, part: Part) -> bool:
    """Whether a list that is not empty is such a part of at most so many values."""
    if len(part) != 2 or not _are(part[0], _INTEGERS) or not _are(part[1], _NUMBERS):
        return False
    return len(part[0]) == len(part[1]) <= size and all(map(is_time, part[0]))


def latest_at(part: Part, back: int) -> float | None:
    """The value so many back, the newest being 1; None where there are not as many."""
    return part[1][-back] if part and len(part[1]) >= back else None


# -- decayed: `[weighted sum, sum of weights, time up to which they have decayed]`


def decayed_add(part: Part, half_life_ms: int, time_ms: int, value: float, sign: float = 1.0) -> None:
    """One more value, or with a sign of -1 one less, that weighs half after each half-life."""
    if not part:
        part += [0.0, 0.0, time_ms]
    total, weight, at_ms = part
    if time_ms >= at_ms:
        decay, share = 2.0 ** (-(time_ms - at_ms) / half_life_ms), 1.0
        at_ms = time_ms
    else:
        decay, share = 1.0, 2.0 ** (-(at_ms - time_ms) / half_life_ms)
    part[:] = total * decay + sign * share * value, weight * decay + sign * share, at_ms
    if part[1] <= (_WEIGHT_MIN if sign > 0 else 1e-9 * share):
        part.clear()


def decayed_fits(part: Part) -> bool:
    """Whether a list that is not empty is such a part."""
    return len(part) == 3 and _are(part, _NUMBERS) and part[1] > 0 and is_time(part[2])


def decayed_mean(part: Part) -> float | None:
    return part[0] / part[1] if part else None


# -- distinct: `[hashes of values, the bucket in which each was seen last]`, the latest seen last


def distinct_add(part: Part, window: Window, time_ms: int, newest_ms: int, text: str) -> bool:
    """One more value; False where it is older than the window. Of more than `DISTINCT_MAX` the longest unseen goes."""
    bucket = window.bucket(time_ms)
    if window.over_ms is not None and bucket <= window.bucket(newest_ms) - BUCKETS:
        return False
    if not part:
        part += [[], []]
    hashes, buckets = part
    name = crc32(text.encode("utf-8", "surrogatepass"))
    if name in hashes:
        place = hashes.index(name)
        bucket = max(bucket, buckets[place])
        del hashes[place], buckets[place]
    place = bisect_right(buckets, bucket)
    hashes.insert(place, name)
    buckets.insert(place, bucket)
    if len(hashes) > DISTINCT_MAX:
        del hashes[0], buckets[0]
    return True


def distinct_count(part: Part, window: Window, now_ms: int) -> int:
    if not part:
        return 0
    if window.over_ms is None:
        return len(part[1])
    return len(part[1]) - bisect_right(part[1], window.bucket(now_ms) - BUCKETS)


def distinct_fits(part: Part) -> bool:
    """Whether a list that is not empty is such a part."""
    if len(part) != 2 or not _are(part[0], _INTEGERS) or not _are(part[1], _INTEGERS):
        return False
    return len(part[0]) == len(part[1]) <= DISTINCT_MAX and all(map(is_time, part[1]))
