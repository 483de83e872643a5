"""Why labels find no events: what their ids, keys and times show.

A few dozen labels that found no event are compared with as many of the latest events. Each of these causes shows in
the records themselves, and hardly any label that merely comes early, or whose event came before the pipeline began,
shows one:

    ids        written differently, the id is that of a known event; or it has a form that no event's id has
    partition  by the partitioner that places the events, the label's key does not belong here (`partitioner`)
    key        events have their id as key and labels do not, or the other way round
    behind     the label's time lies so far behind the watermark that its event's wait is over
    leap       the same, and one record far ahead of the others moved the watermark
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from string import digits, punctuation
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from driftline.core.duration import spoken
from driftline.core.label.partitioner import PARTITIONERS, partitioner_of, places
from driftline.core.record import EventId

CauseName: TypeAlias = Literal["ids", "partition", "key", "behind", "leap", "wait", "unknown", "silence"]

STRAYS_MIN: Final = 20  # labels without an event, before a cause is looked for
EVENTS_MIN: Final = 20  # event ids that say which form is usual
ID_MAX: Final = 200  # characters; other forms of longer ids are not tried
_EXACT: Final = 1 << 53  # whole numbers from here on are rounded by programs that keep numbers as floats
_AROUND: Final = " \t\r\n'\"`{}()<>[]"


class Probe(Struct, frozen=True, gc=False, array_like=True):
    """A label that found no event when it came.

    Args:
        held_ms: the watermark at that moment.
    """

    event_id: EventId
    key: bytes | None
    time_ms: int
    held_ms: int


class Known(Struct, frozen=True, gc=False):
    """An event that is known; its key as long as it waits."""

    event_id: EventId
    key: bytes | None
    waits: bool


class Leap(Struct, frozen=True, gc=False, array_like=True):
    """The watermark moved far at once.

    Args:
        place: of the record that moved it, as `topic-partition-offset`.
    """

    from_ms: int
    to_ms: int
    place: str


class Cause(Struct, frozen=True, gc=False):
    """What is likely wrong.

    Args:
        count: labels that show it.
        sentence: what is wrong, and what to do.
        evidence: JSON-able.
        sure: nothing else explains it.
    """

    name: CauseName
    count: int
    sentence: str
    evidence: dict[str, object]
    sure: bool = True


class Timing(Struct, frozen=True, gc=False):
    """What is known of times.

    Args:
        wait_ms: of the pipeline.
        delay_ms: that 90% of the label delays so far do not exceed; None before the first.
        leap: the watermark's greatest.
    """

    wait_ms: int
    delay_ms: float | None
    leap: Leap | None


def shown_cause(
    probes: Sequence[Probe],
    events: Sequence[Known],
    knows: Callable[[EventId], bool],
    partition: int,
    timing: Timing,
) -> Cause | None:
    """The cause that most of the labels show; None where none is shown by half of them.

    Args:
        events: the latest ones.
        knows: whether an event of this id is known.
        partition: of both.
    """
    found = [
        cause
        for cause in (
            _other_form(probes, events, knows),
            _other_place(probes, events, partition),
            _behind([(probe.held_ms - probe.time_ms) for probe in probes], timing),
        )
        if cause is not None and cause.count >= max(STRAYS_MIN // 2, len(probes) / 2)
    ]
    return max(found, key=lambda cause: cause.count, default=None)


# -- ids


def _other_form(probes: Sequence[Probe], events: Sequence[Known], knows: Callable[[EventId], bool]) -> Cause | None:
    ids = [known.event_id for known in events]
    pairs = []
    for probe in probes:
        found = next((other for other in _written_otherwise(probe.event_id, ids) if knows(other)), None)
        if found is not None:
            pairs.append((probe.event_id, found))
    if pairs:
        label_id, event_id = pairs[-1]
        how = _difference(label_id, event_id)
        sentence = (
            f"their ids are those of known events in another form ({how}): a label has {_shown(label_id)}, its event "
            f"{_shown(event_id)}. Write ids the same way on both sides; {_path_hint(label_id, event_id)}"
        )
        return Cause("ids", len(pairs), sentence, {"label_id": _brief(label_id), "event_id": _brief(event_id)})
    return _foreign_form([probe.event_id for probe in probes], ids)


def _path_hint(label_id: EventId, event_id: EventId) -> str:
    if isinstance(label_id, str) == isinstance(event_id, str):
        return "`label.id` may name another field that does."
    return 'in JSON, `7` and `"7"` are different ids.'


def _written_otherwise(event_id: EventId, ids: Sequence[EventId]) -> Iterator[EventId]:
    """Other forms of an id, the likeliest first.

    Args:
        ids: of events, whose width and common beginning and end are tried.
    """
    text = event_id if isinstance(event_id, str) else _number_text(event_id)
    if len(text) > ID_MAX:
        return
    plain = text.strip(_AROUND)
    forms = [text, plain, plain.lower(), plain.upper(), plain.replace("-", "")]
    if plain.endswith(".0"):
        forms.append(plain[:-2])
    hexadecimal = plain.replace("-", "").lower()
    if len(hexadecimal) == 32:
        parts = (hexadecimal[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
        hyphened = "-".join(parts)
        forms += [hyphened, hyphened.upper(), hexadecimal]
    for mark in ":/#|_-":
        if mark in plain:
            forms.append(plain.rpartition(mark)[2])
    forms.append(plain.lstrip("0"))
    texts = [one for one in ids[-STRAYS_MIN:] if isinstance(one, str)]
    if texts:
        before = _beginning(texts).rstrip(digits)
        after = _beginning([one[::-1] for one in texts])[::-1].lstrip(digits)
        forms += [plain.zfill(width) for width in sorted({len(one) for one in texts}) if width > len(plain)]
        forms += [f"{before}{plain}{after}", f"{plain}.0"]
    tried: set[tuple[type, EventId]] = {(type(event_id), event_id)}
    if isinstance(event_id, int) and _EXACT <= abs(event_id) < 1 << 1000:
        yield int(float(event_id))
    for form in dict.fromkeys(forms):
        for candidate in (form, _number(form)):
            if candidate is None or candidate == "" or (type(candidate), candidate) in tried:
                continue
            tried.add((type(candidate), candidate))
            yield candidate
            if type(candidate) is int and _EXACT <= abs(candidate) < 1 << 1000:
                yield int(float(candidate))


def _beginning(texts: Sequence[str]) -> str:
    """What all of them begin with."""
    least, most = min(texts), max(texts)
    same = next((place for place, one in enumerate(least) if one != most[place]), len(least))
    return least[:same]


def _number(text: str) -> EventId | None:
    """The id that a JSON number of this text would be."""
    if not text.isascii() or not 0 < len(text) <= 40 or "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    if number != number or number in (float("inf"), float("-inf")):
        return None
    return int(number) if number.is_integer() else number


def _number_text(number: int | float) -> str:
    return str(number) if isinstance(number, float) or abs(number) < 10**40 else "0"


def _difference(label_id: EventId, event_id: EventId) -> str:
    if isinstance(label_id, str) and not isinstance(event_id, str):
        return "strings instead of numbers"
    if isinstance(event_id, str) and not isinstance(label_id, str):
        return "numbers instead of strings"
    label, event = str(label_id), str(event_id)
    if label.strip() == event:
        return "with spaces around them"
    if label.strip(_AROUND) == event:
        return "with quotes or brackets around them"
    if label.lower() == event.lower():
        return "in upper or lower case"
    if label.strip("0") == event.strip("0"):
        return "with or without leading zeros"
    if label.replace("-", "").lower() == event.replace("-", "").lower():
        return "with or without hyphens"
    if label.removesuffix(".0") == event.removesuffix(".0"):
        return "with or without .0 at the end"
    if label.endswith(event) or event.endswith(label):
        return "with or without something before them"
    return (
        "rounded by a program that keeps numbers as floats" if not isinstance(label_id, str) else "written differently"
    )


def _foreign_form(labels: Sequence[EventId], events: Sequence[EventId]) -> Cause | None:
    """Ids that look like none of the events'; which of them is meant cannot be known."""
    if len(events) < EVENTS_MIN:
        return None
    kinds = [_kind(one) for one in events]
    every, usual = frozenset.union(*kinds), frozenset.intersection(*kinds)
    lengths = [len(str(one)) for one in events]
    least, most = min(lengths) - 2, max(lengths) + 2
    texts = all(isinstance(one, str) for one in events)
    foreign = [
        one for one in labels if not usual <= _kind(one) <= every or (texts and not least <= len(str(one)) <= most)
    ]
    if not foreign and (rounded := _rounded(labels)) and not _rounded(events):
        foreign = rounded
    if not foreign:
        return None
    label_id, event_id = foreign[-1], events[-1]
    sentence = (
        f"their ids do not look like event ids: a label has {_shown(label_id)}, an event {_shown(event_id)}. "
        "Check that `label.id` and `event.id` name the same thing, and that both sides write it the same way."
    )
    return Cause("ids", len(foreign), sentence, {"label_id": _brief(label_id), "event_id": _brief(event_id)})


def _rounded(ids: Sequence[EventId]) -> list[EventId]:
    """The ids, if all of them are whole numbers beyond 2 ** 53 that a float has exactly: one in two is by chance."""
    large = [one for one in ids if isinstance(one, int) and _EXACT * 16 <= abs(one) < 1 << 1000]
    return list(large) if len(large) == len(ids) and all(int(float(one)) == one for one in large) else []


def _kind(event_id: EventId) -> frozenset[str]:
    """Whether it is text or a number, and which classes of characters a text has."""
    if not isinstance(event_id, str):
        return frozenset(["number"])
    classes = {"text"}
    for one in event_id[:ID_MAX]:
        if one in punctuation or one.isspace():
            classes.add(one)
        elif one.isdigit():
            classes.add("digit")
        else:
            classes.add("lower" if one.islower() else "upper" if one.isupper() else "letter")
    return frozenset(classes)


def _shown(event_id: EventId) -> str:
    return f'"{_brief(event_id)}" (a string)' if isinstance(event_id, str) else f"{_brief(event_id)} (a number)"


def _brief(event_id: EventId) -> str:
    text = event_id if isinstance(event_id, str) else _number_text(event_id)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- keys


def _other_place(probes: Sequence[Probe], events: Sequence[Known], partition: int) -> Cause | None:
    waiting = [known for known in events if known.waits]
    event_keys = {known.key for known in waiting if known.key is not None}
    label_keys = {probe.key for probe in probes if probe.key is not None}
    of_events, of_labels = partitioner_of(event_keys, partition), partitioner_of(label_keys, partition)
    if of_events is not None:
        name, count = of_events
        placed = f"Events are partitioned by {PARTITIONERS[name][1]}, over {count} partitions"
        bare = sum(probe.key is None for probe in probes)
        if bare >= len(probes) / 2:
            sentence = f"labels have no key and go to any partition. {placed}: send each label with its event's key."
            return Cause("partition", bare, sentence, {"partitions": count, "events_by": name, "labels_by": "none"})
        wrong = sum(probe.key is not None and places(name, count, probe.key) != partition for probe in probes)
        if wrong >= len(probes) / 2:
            by = of_labels[0] if of_labels is not None else "none"
            how = f"labels by {PARTITIONERS[by][1]}" if by in PARTITIONERS else "labels in another way"
            sentence = (
                f"their keys belong to other partitions. {placed}; {how}. Use the events' partitioner for labels too "
                f"(librdkafka: `partitioner={_SETTING[name]}`)."
            )
            return Cause("partition", wrong, sentence, {"partitions": count, "events_by": name, "labels_by": by})
    elif of_labels is not None and len(waiting) >= EVENTS_MIN:
        name, count = of_labels
        bare = sum(known.key is None for known in waiting)
        what = "have no key and go to any partition" if bare >= len(waiting) / 2 else "are not partitioned by their key"
        sentence = (
            f"events {what}. Labels are partitioned by {PARTITIONERS[name][1]}, over {count} partitions: send each "
            "event with a key, and its label with the same key."
        )
        return Cause("partition", len(probes), sentence, {"partitions": count, "events_by": "none", "labels_by": name})
    return _other_key(probes, waiting) if of_events is not None or partition else None


_SETTING = {"murmur2": "murmur2_random", "crc32": "consistent_random", "fnv1a": "fnv1a_random"}


def _other_key(probes: Sequence[Probe], events: Sequence[Known]) -> Cause | None:
    """One side has the id as key, and the other has not."""
    if len(events) < EVENTS_MIN:
        return None
    by_id = [_is_key(known.event_id, known.key) for known in events]
    labels_by_id = [_is_key(probe.event_id, probe.key) for probe in probes]
    of_events, of_labels = sum(by_id) / len(by_id), sum(labels_by_id) / len(labels_by_id)
    if min(of_events, of_labels) > 0.1 or max(of_events, of_labels) < 0.9:
        return None
    one, other = ("events", "labels") if of_events > of_labels else ("labels", "events")
    known, probe = events[-1], probes[-1]
    sentence = (
        f"{one} use their id as key, {other} something else: a label with id {_brief(probe.event_id)} has key "
        f"{_key(probe.key)}, an event with id {_brief(known.event_id)} has {_key(known.key)}. A label reaches its "
        "event's partition only with the event's key."
    )
    count = len(labels_by_id) - sum(labels_by_id) if one == "events" else sum(labels_by_id)
    return Cause("key", count, sentence, {"label_key": _key(probe.key), "event_key": _key(known.key)})


def _is_key(event_id: EventId, key: bytes | None) -> bool:
    if key is None:
        return False
    text = event_id if isinstance(event_id, str) else _number_text(event_id)
    return key.strip(b'"') == text.encode("utf-8", "surrogatepass")


def _key(key: bytes | None) -> str:
    return "none" if key is None else _brief(key.decode("utf-8", "replace"))


# -- times


def late_cause(late: Sequence[tuple[int, int]], timing: Timing) -> Cause:
    """Why labels come after their event's wait.

    Args:
        late: of each label, the time from its event's arrival to the label's own time, and how far that lies behind
            the watermark.
    """
    behind = _behind([behind_ms for _, behind_ms in late], timing)
    slow = sorted(delay_ms for delay_ms, _ in late if delay_ms >= timing.wait_ms)
    if behind is not None and behind.count > len(slow):
        return behind
    spans = slow or sorted(delay_ms for delay_ms, _ in late)
    most_ms = max(spans[len(spans) * 9 // 10], 0)
    leap = timing.leap
    if leap is not None and leap.to_ms - leap.from_ms > timing.wait_ms:
        return _leap_cause(leap, len(late))
    sentence = (
        f"they arrive up to {span_text(most_ms)} after their event, and `label.wait` is {span_text(timing.wait_ms)}. "
        "Raise it above the longest delay."
    )
    return Cause("wait", len(late), sentence, {"delay_ms": most_ms, "wait_ms": timing.wait_ms})


def _behind(behind_ms: Sequence[int], timing: Timing) -> Cause | None:
    wait_ms, leap = timing.wait_ms, timing.leap
    least_ms = max(60_000, wait_ms // 20)
    over = sorted(one for one in behind_ms if one >= least_ms and one + (timing.delay_ms or 0) >= 0.9 * wait_ms)
    if not over:
        return None
    usual_ms = over[len(over) // 2]
    evidence: dict[str, object] = {"behind_ms": usual_ms, "wait_ms": wait_ms}
    if leap is not None and leap.to_ms - leap.from_ms >= max(0.8 * usual_ms, least_ms):
        return _leap_cause(leap, len(over))
    delay = "" if timing.delay_ms is None else f" (with a usual label delay of up to {span_text(int(timing.delay_ms))})"
    sentence = (
        f"they lag {span_text(usual_ms)} behind events that were read before them{delay}, so the wait of "
        f"{span_text(wait_ms)} was over. Send labels and events in time order, or raise `label.wait`."
    )
    return Cause("behind", len(over), sentence, evidence)


def _leap_cause(leap: Leap, count: int) -> Cause:
    leap_ms = leap.to_ms - leap.from_ms
    sentence = (
        f"one record, {leap.place}, moved time ahead by {span_text(leap_ms)}, which ended every wait in progress. "
        "Correct its source; check that `event.time` and `label.time` follow the same clock."
    )
    return Cause("leap", count, sentence, {"leap_ms": leap_ms, "place": leap.place})


def span_text(span_ms: int) -> str:
    """About how long, in the greatest unit that has two."""
    for size_ms in (365 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000):
        if span_ms >= 2 * size_ms:
            count = round(span_ms / size_ms)
            return f"{count:,} years" if size_ms > 86_400_000 else spoken(count * size_ms)
    return spoken(span_ms) if span_ms else "0 seconds"
