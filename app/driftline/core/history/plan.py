"""Which parts each key keeps, and how features read them: made from the pipeline, no state.

A key's past is a list: the time of its newest event (None before the first), then its parts. Parts are shared: count
and mean over the same window read the same buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from msgspec import Struct

from driftline.core.history.part import (
    BUCKETS,
    CLASSES_MAX,
    DISTINCT_MAX,
    EXTREMES,
    Column,
    Kind,
    Part,
    Window,
    decayed_add,
    decayed_fits,
    decayed_mean,
    distinct_add,
    distinct_count,
    distinct_fits,
    is_time,
    label_classes,
    label_least,
    label_most,
    latest_add,
    latest_at,
    latest_fits,
    latest_take_back,
    window_count,
    window_least,
    window_mean,
    window_most,
    window_std,
    window_sum,
)
from driftline.core.pipeline import CalendarFeature, Feature, HistoryFeature, Pipeline
from driftline.core.pipeline.feature import Past as PastFunction
from driftline.core.record import FeatureValue

Past: TypeAlias = list[Any]
Read: TypeAlias = Callable[[Past, int, int], float | None]
"""From a key's past, the reference time of its events and that of labels, to a feature's value."""

Numbers: TypeAlias = tuple[float | None, ...]
Fill: TypeAlias = Callable[[list[FeatureValue], Past, int, int], None]
"""Puts features to an event's values, from a key's past and both reference times."""
Add: TypeAlias = Callable[[Part, int, int, Numbers], bool]
_NUMBER_BYTES: Final = 9
_WIDTHS: Final[dict[Kind, int]] = {
    "count": 3,
    "least": 1 + EXTREMES * _NUMBER_BYTES,
    "most": 1 + EXTREMES * _NUMBER_BYTES,
    "classes": 3 + CLASSES_MAX * 7,
}
"""Bytes of a column's cell, where they are not those of a number."""
_KEY_BYTES: Final = 180  # in memory: its text, its place, its entry in the dict, the head of its bytes


class Reader(Struct, frozen=True, gc=False):
    """How one history feature is read from the past of its key.

    Args:
        place: of the feature, in declared order.
        read: its value; None while there is no past.
        fill: stands in then.
    """

    place: int
    read: Read
    fill: FeatureValue

    def fill_in(self, values: list[FeatureValue], past: Past, event_ms: int, label_ms: int) -> None:
        value = self.read(past, event_ms, label_ms)
        values[self.place] = self.fill if value is None else value


class WindowReader(Struct, frozen=True, gc=False):
    """How all features of one window are read: what is too old for it is looked for once.

    Args:
        place: of the part, in the past.
        of_label: the window ends at the reference time of labels, not of events.
        wanted: for each feature its place, how it is read, of which columns, and what stands in without a value.
    """

    place: int
    window: Window
    of_label: bool
    wanted: tuple[tuple[int, Callable[[Part, int, int], float | None], int, int, FeatureValue], ...]

    def fill_in(self, values: list[FeatureValue], past: Past, event_ms: int, label_ms: int) -> None:
        part = self.window.within(past[self.place], label_ms if self.of_label else event_ms)
        for place, read, column, counted, fill in self.wanted:
            value = read(part, column, counted) if part else None
            values[place] = fill if value is None else value


def window_filler(reader: WindowReader) -> Fill:
    """How a window's features are read: by a function made for counts, sums and means of what is always there, which
    are most, and one by one where there are others."""
    found: dict[Any, str] = {window_count: "count", window_sum: "sum", window_mean: "mean"}
    names = [found.get(read) if counted == 2 else None for _, read, _, counted, _ in reader.wanted]
    if None in names:
        return reader.fill_in
    named = list(zip(names, reader.wanted, strict=True))
    counts = [place for name, (place, *_) in named if name == "count"]
    totals = [(place, column, name == "mean") for name, (place, _, column, _, _) in named if name != "count"]
    fill_in = reader.window.filler(
        reader.place, counts, totals, [(place, fill) for place, _, _, _, fill in reader.wanted]
    )
    if reader.of_label:
        return lambda values, past, event_ms, label_ms: fill_in(values, past, label_ms)
    return lambda values, past, event_ms, label_ms: fill_in(values, past, event_ms)


class Keeper(Struct, frozen=True, gc=False):
    """One part of each key's past.

    Args:
        place: in the past.
        add: one more event or label, at a time, the newest time being another; False where it is too old.
        take_back: remove a label; None where labels are never removed.
        bytes_max: of it, when it is full.
        fits: whether a list is such a part.
    """

    place: int
    add: Callable[[Part, int, int, Numbers], bool]
    take_back: Callable[[Part, int, int, Numbers], None] | None
    bytes_max: int
    fits: Callable[[Part], bool]


class Scheme(Struct, frozen=True, gc=False):
    """All that is kept by the same fields.

    Args:
        by: the fields' names.
        key_places: where the fields are among the features (from 0) and the context (from -1 down).
        fillers: of its features.
        fills: for each feature its place, and what stands in while there is no past.
        of_events, of_labels: its parts.
        adds_events, adds_labels: of these, their places, and how one more is put to them.
        size: of a key's past, in entries of its list.
    """

    by: tuple[str, ...]
    key_places: tuple[int, ...]
    fillers: tuple[Fill, ...]
    fills: tuple[tuple[int, FeatureValue], ...]
    of_events: tuple[Keeper, ...]
    of_labels: tuple[Keeper, ...]
    adds_events: tuple[tuple[int, Add], ...]
    adds_labels: tuple[tuple[int, Add], ...]
    size: int

    @property
    def name(self) -> str:
        """For people: the fields, joined."""
        return "+".join(self.by) or "(all)"

    @property
    def key_bytes_max(self) -> int:
        """Memory of a key whose past is full."""
        return _KEY_BYTES + _NUMBER_BYTES + sum(keeper.bytes_max for keeper in (*self.of_events, *self.of_labels))

    def fits(self, past: Past) -> bool:
        """Whether a list is the past of a key: of others' bytes it may be anything."""
        if len(past) != self.size or not (past[0] is None or is_time(past[0])):
            return False
        return all(
            type(part := past[keeper.place]) is list and (not part or keeper.fits(part))
            for keeper in (*self.of_events, *self.of_labels)
        )


class Plan(Struct, frozen=True):
    """What a pipeline computes of an event.

    Args:
        calendar: features of the event's time, by place.
        schemes: one for each `by`.
        sources: for each source of a number, where it is; texts are sources of `distinct` alone.
    """

    calendar: tuple[tuple[int, CalendarFeature], ...]
    schemes: tuple[Scheme, ...]
    sources: tuple[int, ...]
    learns: bool

    @classmethod
    def of(cls, pipeline: Pipeline) -> Plan:
        features = pipeline.event.features
        calendar = [(place, one) for place, one in enumerate(features.values()) if isinstance(one, CalendarFeature)]
        asked: dict[tuple[str, ...], list[tuple[int, HistoryFeature]]] = {}
        for place, feature in enumerate(features.values()):
            if isinstance(feature, HistoryFeature):
                asked.setdefault(feature.by, []).append((place, feature))
        fields = _Fields(pipeline)
        schemes = tuple(_Drawing(by, fields).scheme(found) for by, found in asked.items())
        return cls(tuple(calendar), schemes, tuple(fields.sources), any(one.of_labels for one in schemes))


class _Fields:
    """Where declared fields are, and the sources that history features take from them."""

    def __init__(self, pipeline: Pipeline) -> None:
        form = pipeline.event
        self._places = {name: place for place, name in enumerate(form.features)}
        self._places |= {name: -1 - place for place, name in enumerate(form.context)}
        self._declared = {**form.features, **form.context}
        self.sources: list[int] = []

    def place(self, name: str) -> int:
        return self._places[name]

    def source(self, name: str) -> int:
        """The number of a source."""
        place = self._places[name]
        if place not in self.sources:
            self.sources.append(place)
        return self.sources.index(place)

    def always(self, name: str) -> bool:
        """Whether every event has it."""
        feature = self._declared[name]
        return isinstance(feature, Feature) and feature.missing != "omit"


_OF_WINDOW: Final[dict[str, Kind]] = {
    "count": "count", "sum": "sum", "mean": "sum", "std": "m2", "min": "min", "max": "max",
}  # fmt: skip
"""Functions that read a window, and the column that each needs."""

_OF_LABEL_WINDOW: Final[dict[str, Kind]] = {**_OF_WINDOW, "min": "least", "max": "most", "distinct": "classes"}
"""The same of labels, which may be taken back."""


def _column_of(past: PastFunction) -> Kind | None:
    """The column of a window that a function reads; None if it reads none."""
    return (_OF_LABEL_WINDOW if past.of_label else _OF_WINDOW).get(past.name)


def _read_of(past: PastFunction, window: Window, source: int) -> Callable[[Part, int, int], float | None]:
    match past.name:
        case "sum":
            return window_sum
        case "mean":
            return window_mean
        case "std":
            return partial(window_std, window.place_of["sum", source])
        case "min":
            return label_least if past.of_label else window_least
        case "max":
            return label_most if past.of_label else window_most
    return label_classes


class _Drawing:
    """Draws up the scheme of one `by`."""

    def __init__(self, by: tuple[str, ...], fields: _Fields) -> None:
        self._by = by
        self._fields = fields
        self._count = 1  # of entries in the past
        self._keepers: dict[bool, list[Keeper]] = {False: [], True: []}
        self._known: dict[tuple[Any, ...], int] = {}
        self._lags: dict[tuple[bool, int], int] = {}

    def scheme(self, found: Sequence[tuple[int, HistoryFeature]]) -> Scheme:
        windows = self._windows([feature for _, feature in found])
        for _, feature in found:
            self._lags[self._latest_of(feature)] = max(self._lags.get(self._latest_of(feature), 1), feature.past.lag)
        fillers: list[Fill] = [
            Reader(place, self._reader(one), _fill(one)).fill_in for place, one in found if _column_of(one.past) is None
        ]
        for kind, (part, window) in windows.items():
            of_it = [pair for pair in found if (pair[1].past.of_label, pair[1].over_ms) == kind]
            wanted = [self._wanted(place, one, window) for place, one in of_it if _column_of(one.past)]
            fillers.append(window_filler(WindowReader(part, window, kind[0], tuple(wanted))))
        places = tuple(self._fields.place(name) for name in self._by)
        fills = tuple((place, _fill(one)) for place, one in found)
        of_events, of_labels = (tuple(self._keepers[of_label]) for of_label in (False, True))
        adds_events, adds_labels = (tuple((one.place, one.add) for one in parts) for parts in (of_events, of_labels))
        return Scheme(
            self._by, places, tuple(fillers), fills, of_events, of_labels, adds_events, adds_labels, self._count
        )

    def _windows(self, features: Sequence[HistoryFeature]) -> dict[tuple[bool, int | None], tuple[int, Window]]:
        """The windows that are asked for, by whether they are of labels and how long they are."""
        wanted: dict[tuple[bool, int | None], list[Column]] = {}
        counted: dict[tuple[bool, int | None], dict[int, int]] = {}
        for feature in features:
            past, kind = feature.past, (feature.past.of_label, feature.over_ms)
            if (column := _column_of(past)) is None:
                continue
            columns = wanted.setdefault(kind, [("count", None)])
            if past.name == "count":
                continue
            source, always = self._source(feature)
            counts = counted.setdefault(kind, {})
            needed: list[Column] = [] if always or source in counts else [("count", source)]
            counts.setdefault(source, 0 if always else len(columns))
            match past.name:
                case "sum" | "mean":
                    needed.append(("sum", source))
                case "std":
                    needed += [("sum", source), ("m2", source)]
                case _:
                    needed.append((column, source))
            columns += [one for one in needed if one not in columns]
        return {kind: self._window(kind, tuple(columns), counted.get(kind, {})) for kind, columns in wanted.items()}

    def _window(
        self, kind: tuple[bool, int | None], columns: tuple[Column, ...], counted: dict[int, int]
    ) -> tuple[int, Window]:
        of_label, over_ms = kind
        window = Window(over_ms, columns, counted)
        widths = [_WIDTHS.get(name, _NUMBER_BYTES) for name, _ in columns]
        size = 12 + (BUCKETS if over_ms is not None else 1) * (1 + sum(widths))
        return self._keep(of_label, window.adder(), window.take_back, size, window.fits), window

    def _source(self, feature: HistoryFeature) -> tuple[int, bool]:
        """The number of what it is of, and whether that is always there."""
        name = feature.past.source
        if name is None and feature.past.name == "distinct":
            return 1, True  # the label itself, which may be a text
        return (0, True) if name is None else (self._fields.source(name), self._fields.always(name))

    def _keep(self, of_label: bool, add: Any, take_back: Any, size: int, fits: Callable[[Part], bool]) -> int:
        place = self._count
        self._keepers[of_label].append(Keeper(place, add, take_back if of_label else None, size, fits))
        self._count += 1
        return place

    def _reader(self, feature: HistoryFeature) -> Read:
        past = feature.past
        match past.name:
            case "since_last":
                return partial(_since_last, feature.over_ms)
            case "last" | "lag":
                return _latest_reader(self._latest(feature), past.lag)
            case "decayed_mean":
                place = self._decayed(feature)
                return lambda past, event_ms, label_ms: decayed_mean(past[place])
        return self._distinct(feature)

    def _wanted(
        self, place: int, feature: HistoryFeature, window: Window
    ) -> tuple[int, Callable[[Part, int, int], float | None], int, int, FeatureValue]:
        """How a feature is read from its window."""
        past, kind = feature.past, _column_of(feature.past)
        if kind is None or kind == "count":
            return place, window_count, 2, 2, _fill(feature)
        source, always = self._source(feature)
        counted = window.place_of["count", None if always else source]
        column = window.place_of[kind, source]
        return place, _read_of(past, window, source), column, counted, _fill(feature)

    def _shared(self, key: tuple[Any, ...], make: Callable[[], int]) -> int:
        """The place of a part that several features read."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _latest_of(self, feature: HistoryFeature) -> tuple[bool, int]:
        """Whose latest values a feature reads, if it does."""
        return feature.past.of_label, self._source(feature)[0]

    def _latest(self, feature: HistoryFeature) -> int:
        """Latest values: one part a source, as long as the longest lag asks."""
        past, (_, source) = feature.past, self._latest_of(feature)
        size = self._lags[self._latest_of(feature)]

        def add(part: Part, time_ms: int, newest_ms: int, values: Numbers) -> bool:
            value = values[source]
            if value is not None:
                latest_add(part, size, time_ms, value)
            return True

        def take_back(part: Part, time_ms: int, newest_ms: int, values: Numbers) -> None:
            value = values[source]
            if value is not None:
                latest_take_back(part, time_ms, value)

        key, bytes_max = ("latest", past.of_label, source), 6 + 2 * _NUMBER_BYTES * size
        return self._shared(
            key, lambda: self._keep(past.of_label, add, take_back, bytes_max, partial(latest_fits, size))
        )

    def _decayed(self, feature: HistoryFeature) -> int:
        past, (source, _), half_life_ms = feature.past, self._source(feature), feature.half_life_ms or 1

        def add(part: Part, time_ms: int, newest_ms: int, values: Numbers) -> bool:
            value = values[source]
            if value is not None:
                decayed_add(part, half_life_ms, time_ms, value)
            return True

        def take_back(part: Part, time_ms: int, newest_ms: int, values: Numbers) -> None:
            value = values[source]
            if value is not None and part:
                decayed_add(part, half_life_ms, time_ms, value, -1.0)

        key = ("decayed", past.of_label, source, half_life_ms)
        return self._shared(key, lambda: self._keep(past.of_label, add, take_back, 1 + 3 * _NUMBER_BYTES, decayed_fits))

    def _distinct(self, feature: HistoryFeature) -> Read:
        source, _ = self._source(feature)
        window = Window(feature.over_ms, (), {})

        def add(part: Part, time_ms: int, newest_ms: int, values: tuple[Any, ...]) -> bool:
            value = values[source]
            return value is None or distinct_add(part, window, time_ms, newest_ms, str(value))

        key = ("distinct", source, feature.over_ms)
        place = self._shared(key, lambda: self._keep(False, add, None, 6 + 10 * DISTINCT_MAX, distinct_fits))
        return lambda past, event_ms, label_ms: distinct_count(past[place], window, event_ms)


def _fill(feature: HistoryFeature) -> FeatureValue:
    """What stands in while there is no past: of `since_last` over some time that time, where the file is silent."""
    if feature.past.name == "since_last" and feature.over_ms is not None and feature.fill == 0:
        return feature.over_ms / 1000
    return feature.fill


def _latest_reader(place: int, back: int) -> Read:
    return lambda past, event_ms, label_ms: latest_at(past[place], back)


def _since_last(over_ms: int | None, past: Past, event_ms: int, label_ms: int) -> float | None:
    """Seconds since the newest event; of one that is older than the window, and of none, the window's seconds."""
    newest_ms: int | None = past[0]
    if newest_ms is None:
        return None
    since_ms = event_ms - newest_ms
    return (since_ms if over_ms is None else min(since_ms, over_ms)) / 1000
