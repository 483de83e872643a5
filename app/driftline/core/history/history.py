"""All that the past knows, by key: what an event's computed features are, and how events and labels become past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from driftline.core.error import InvariantError
from driftline.core.history.calendar import calendar_value
from driftline.core.history.keys import Keys, KeyState, KeyView
from driftline.core.history.plan import Add, Numbers, Past, Plan, Scheme
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, FeatureValue, LabelValue

HistoryKeys = tuple[bytes | None, ...]
"""Of one event: its key in each `by` that labels are counted by; None where a field is missing."""


class History:
    """The past of a shard's events, and of their labels.

    `complete` an event with what the past knows, then, if it was scored, `take` it: from then on it is past. A label is
    taken under the keys that its event had.

    Args:
        pipeline: says which features there are.

    Attributes:
        keys: the keys of each `by`, in the order of the plan.
        series: what `core.forecast` keeps of each series; the last of the keys.
        label_keys: of the event that was completed last.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.plan = Plan.of(pipeline)
        keys_max = pipeline.event.keys_max
        self.keys = [Keys(place, one.by, keys_max) for place, one in enumerate(self.plan.schemes, 1)]
        self._kept = list(zip(self.plan.schemes, self.keys, strict=True))
        self.series: Keys | None = None
        if (form := pipeline.forecast) is not None:
            self.series = Keys(len(self.keys) + 1, form.by, form.series_max)
            self.keys.append(self.series)
        self._of_labels = [(scheme, keys) for scheme, keys in self._kept if scheme.of_labels]
        self._asked: list[tuple[Scheme, Keys, bytes | None, Past | None]] = []
        self.label_keys: HistoryKeys = ()

    @property
    def label_schemes(self) -> int:
        """By how many `by` labels are counted: so many keys an event has that waits."""
        return len(self._of_labels)

    def complete(self, event: Event, now_ms: int) -> Event:
        """The event with its computed features.

        Args:
            now_ms: the watermark; labels that came by then are known.
        """
        plan, context = self.plan, event.context
        values = list(event.features)
        event_ms = _time_of(event)
        for place, feature in plan.calendar:
            values[place] = calendar_value(feature, event_ms)
        self._asked = asked = []
        label_keys: list[bytes | None] = []
        for scheme, keys in self._kept:
            key = key_of(scheme.key_places, values, context)
            past = None if key is None else keys.find(key)
            asked.append((scheme, keys, key, past))
            if scheme.of_labels:
                label_keys.append(key)
            if past is None:
                for place, fill in scheme.fills:
                    values[place] = fill
                continue
            newest_ms = past[0]
            at_ms = event_ms if newest_ms is None or newest_ms < event_ms else newest_ms
            for fill_in in scheme.fillers:
                fill_in(values, past, at_ms, now_ms)
        self.label_keys = tuple(label_keys)
        source, order_ms, ahead = event.source, event.order_ms, event.time_ahead
        return Event(source, order_ms, event.time_ms, event.event_id, tuple(values), ahead, event.missing, context)

    def take(self, event: Event) -> None:
        """The event that was completed last has been scored: it is past now."""
        event_ms = _time_of(event)
        sources = self._sources(event)
        for scheme, keys, key, found in self._asked:
            if key is None:
                keys.keyless += 1
                continue
            past = _nothing(scheme) if found is None else found
            newest_ms = past[0]
            if newest_ms is None or newest_ms < event_ms:
                past[0] = newest_ms = event_ms
            keys.late += _add(scheme.adds_events, past, event_ms, newest_ms, sources)
            keys.keep(key, past)
        self._asked = []

    def _sources(self, event: Event) -> tuple[Any, ...]:
        """The values that history features are of; numbers as floats."""
        features, context = event.features, event.context
        found = [features[place] if place >= 0 else context[-1 - place] for place in self.plan.sources]
        return tuple([value if value is None or type(value) is str else float(value) for value in found])

    def label(self, label_keys: HistoryKeys, label: LabelValue, at_ms: int, now_ms: int) -> None:
        """A label has come, or is assumed.

        Args:
            label_keys: that its event had.
            at_ms: when it came, or the one that it corrects.
            now_ms: the watermark.
        """
        number = _number(label)
        for (scheme, keys), key in zip(self._of_labels, label_keys, strict=True):
            if key is None:
                continue
            past = keys.find(key) or _nothing(scheme)
            keys.late += _add(scheme.adds_labels, past, at_ms, now_ms, number)
            keys.keep(key, past)

    def take_back(self, label_keys: HistoryKeys, label: LabelValue, at_ms: int, now_ms: int) -> None:
        """A label that came at some time was corrected or retracted; of a key that was let go nothing is left to do."""
        for (scheme, keys), key in zip(self._of_labels, label_keys, strict=True):
            if key is None or (past := keys.find(key)) is None:
                continue
            for keeper in scheme.of_labels:
                if keeper.take_back is not None:
                    keeper.take_back(past[keeper.place], at_ms, now_ms, _number(label))
            keys.keep(key, past)

    def bound(self, keys_max: int) -> None:
        """Keep at most so many keys of each `by`, from the next one on."""
        for _, keys in self._kept:
            keys.keys_max = keys_max

    def summary(self) -> dict[str, dict[str, int]]:
        """A few numbers for people, by the fields that the past is kept by."""
        return {
            scheme.name: {
                "keys": len(keys),
                "keys_max": keys.keys_max,
                "evicted": keys.evicted,
                "late": keys.late,
                "without_key": keys.keyless,
            }
            for scheme, keys in self._kept
        }

    # -- as state

    def views(self) -> list[KeyView]:
        """All of it as it is now; see `Keys.view`."""
        return [keys.view() for keys in self.keys]

    def dumped(self) -> list[dict[str, Any]]:
        """All of it, in plain lists and dicts."""
        return [keys.__getstate__() for keys in self.keys]

    def begin(self, numbers: Sequence[dict[str, Any]]) -> None:
        """Begin to take over a state, whose segments follow."""
        for keys, own in zip(self.keys, numbers, strict=True):
            keys.begin(own)

    def take_up(self, state: KeyState) -> None:
        """One of its segments.

        Raises:
            InvariantError: it is of none of these keys, or is not whole.
        """
        if not 0 < state.store <= len(self.keys):
            raise InvariantError(f"segment {state.number} of the history is of no key that the pipeline declares")
        self.keys[state.store - 1].take_up(state)

    def whole(self) -> None:
        """All segments were taken up."""
        for keys in self.keys:
            keys.whole()

    def load(self, dumped: Sequence[dict[str, Any]]) -> None:
        """Take over what `dumped` gave."""
        self.begin([one["numbers"] for one in dumped])
        for one in dumped:
            for number, keys, pasts, full in one["segments"]:
                self.take_up(KeyState(number, keys, pasts, full))
        self.whole()

    def __getstate__(self) -> dict[str, Any]:
        return {"keys": self.dumped()}


def _add(adds: Sequence[tuple[int, Add]], past: Past, time_ms: int, newest_ms: int, values: Numbers) -> bool:
    """Put values to what is kept of a key; whether they were too late for some of it."""
    late = False
    for place, add in adds:
        if not add(past[place], time_ms, newest_ms, values):
            late = True
    return late


def _nothing(scheme: Scheme) -> Past:
    """The past of a key before its first event."""
    return [None, *([] for _ in range(scheme.size - 1))]


def _time_of(event: Event) -> int:
    """When the event happened; of a time that is not to be trusted, when the record came."""
    return event.order_ms if event.time_ahead else event.time_ms


def _number(label: LabelValue) -> tuple[Any, ...]:
    """The sources that history features of labels are of: the number, and the label itself."""
    return (0.0 if isinstance(label, str) else float(label), label)


def key_of(places: Sequence[int], features: Sequence[FeatureValue], context: Sequence[FeatureValue]) -> bytes | None:
    """What an event's past is found by; None where a field is missing.

    A number is taken as its digits, so 7, 7.0 and "7" are the same key.

    Args:
        places: of the fields: in the features, or below 0 in the context (-1 is its first).
    """
    if len(places) == 1:
        place = places[0]
        value = features[place] if place >= 0 else context[-1 - place]
        if type(value) is str or value is None:
            return value if value is None else value.encode("utf-8", "surrogatepass")
        return b"%d" % value if type(value) is int else _text(value).encode()
    parts: list[bytes] = []
    for place in places:
        value = features[place] if place >= 0 else context[-1 - place]
        if value is None:
            return None
        parts.append(_text(value).encode("utf-8", "surrogatepass"))
    return b"".join([b"%d:%s" % (len(part), part) for part in parts])


def _text(value: FeatureValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
