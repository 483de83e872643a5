"""Bytes to records. Total: whatever the bytes, a record comes out, if only a malformed one with its reason.

What is refused here could do harm further on: a number beyond `limits.number_max` makes a scaler NaN forever, a text
without bound fills the memory, a missing feature breaks a model. Decoding is a pure function of the pipeline and the
bytes, because recovery decodes the same bytes again and must get the same record.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias, get_args

from driftline.codec.command import has_signature, sender_of
from driftline.codec.declared import (
    EXACT_MAX,
    MOMENT,
    SCALAR,
    Declared,
    Kind,
    Read,
    form_of,
    key_of,
    name_of,
    number_of,
    reader,
    text_of,
    usual,
)
from driftline.codec.document import MISSING, Documents, find, sized
from driftline.codec.feature import CHARS_MAX, Check, Checks, from_text, is_number_text
from driftline.codec.format import hint_of
from driftline.codec.format.frame import plain_object
from driftline.codec.reason import REASONS, PassedOverError, RefusedError
from driftline.core.notation import Path, parse_path
from driftline.core.output import Rung
from driftline.core.pipeline import Feature, Pipeline
from driftline.core.pipeline.target import Target, TargetError, shown
from driftline.core.record import (
    Chunk,
    CommandName,
    Control,
    Decision,
    Event,
    EventId,
    FeatureValue,
    InputRecord,
    Label,
    Malformed,
    Passed,
    Ruling,
    Source,
)
from driftline.core.shard.command import SILENCE_MAX_MS
from driftline.core.shard.upload import CHUNK_MAX, CHUNKS_MAX, SIZE_MAX
from driftline.core.task import task_of
from driftline.core.timestamp import parse_time

__all__ = ["MISSING", "REASONS", "Decoder", "find", "hour_ms_of"]

COMMANDS = get_args(CommandName)
ABOUT_EPISODE = ("acknowledge", "silence")
DECISIONS = get_args(Decision)
WHY_MAX = 500  # characters
CONTROL_BYTES_MAX = 1_000_000  # whatever limits.record_bytes_max says: a part of a model file must fit

PASSED_ORDER_MS = -(1 << 60)  # before all times

Decode: TypeAlias = Callable[[Source], InputRecord]

_HOUR_MS = 3_600_000
_MILLIS = (10**12, 10**13)  # times from 2001 to 2286; no date in digits has as many of them
_LOAD_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_NUMBERS = frozenset((float, int))


class Decoder:
    """Decodes the inputs of one pipeline.

    Attributes:
        read_event, read_label: `event` and `label`, compiled where they can be.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        limits = pipeline.limits
        self._bytes_max = limits.record_bytes_max
        self._string_max = limits.string_max
        self._number_max = limits.number_max
        self._ahead_max_ms = limits.time_ahead_max_ms
        form = pipeline.event
        self._events = Documents(form, self._bytes_max)
        self._event_id = parse_path(form.id)
        self._event_key = _plain_key(self._event_id)
        self._event_time = parse_path(form.time) if form.time else None
        self._event_hour = parse_path(form.hour) if form.hour else None
        checks = Checks(limits, pipeline.recommend.candidates_max if pipeline.recommend is not None else 0)
        self._features: list[tuple[str, Any, Feature, Path, Check, bool]] = [
            # Most paths are one key: it is looked up without a walk.
            (name, _plain_key(feature.keys), feature, feature.keys, checks.of(feature, form), feature.type == "number")
            for name, feature in form.read.items()
        ]
        self._arrange = form.arranger() if form.computed else None
        self._missing_bits = [1 << form.names.index(name) for name in form.plain] + [0] * len(form.context)
        # Of numbers at keys of their own, which most events are made of, all at once.
        keys = [key for _, key, _, _, _, plain in self._features if plain and key is not None]
        self._at_once = itemgetter(*keys) if 1 < len(keys) == len(self._features) else None
        self._usual_event: Read = _unusual
        self.read_event: Decode = self.event
        self.read_label: Decode = self.label
        if pipeline.recommend is None and self._event_hour is None:
            places = [(feature.keys, self._kind(feature)) for feature in form.read.values()]
            begin = self._begin(self._event_id, self._event_time)
            if self._events.plain:
                self._usual_event = usual([*begin, *places], self._bytes_max)
                self.read_event = self._compiled([*begin, *places], self.event, self._event_time, arrange=self._arrange)
        label = pipeline.label
        if label is not None:
            self._labels = Documents(label, self._bytes_max)
            self._label_id = parse_path(label.id)
            self._label_key = _plain_key(self._label_id)
            self._label_value = parse_path(label.value)
            self._label_item = parse_path(label.item) if label.item is not None else None
            self._value_key = _plain_key(self._label_value)
            self._label_time = parse_path(label.time) if label.time else None
            self._target = Target(label, pipeline)
            self._retracts = label.retract
            self._from_text = from_text(label, task_of(pipeline.task).labels)
            self._usual_label: Read = _unusual
            if self._labels.plain and label.item is None:
                places = [*self._begin(self._label_id, self._label_time), (self._label_value, SCALAR)]
                self._usual_label = usual(places, self._bytes_max)
                means: dict[str, Any] = {"target": self._target.read, "from_text": self._from_text is not None}
                self.read_label = self._compiled(places, self.label, self._label_time, **means)

    def _begin(self, id_path: Path, time_path: Path | None) -> list[tuple[Path, Kind]]:
        """The id, and the time if there is one."""
        return [(id_path, name_of(self._string_max)), *([(time_path, MOMENT)] if time_path else [])]

    def _compiled(
        self, places: Sequence[tuple[Path, Kind]], plain: Decode, time_path: Path | None, **means: Any
    ) -> Decode:
        """What does the same as `plain`, compiled where it can be."""
        form = form_of(places)
        if reader is None or form is None:
            return plain
        made = reader(Declared(form, self._bytes_max, time_path is not None, self._ahead_max_ms), plain, **means)
        read: Decode = made.label if "target" in means else made.event
        return read

    def _kind(self, feature: Feature) -> Kind:
        match feature.type:
            case "number":
                return number_of(self._number_max)
            case "boolean":
                return bool
            case "text":
                return text_of(feature.chars_max or CHARS_MAX)
            case "string":
                return text_of(self._string_max)
            case "key":
                return key_of(self._string_max)
            case "items" | "slate":
                return None

    def event(self, source: Source) -> InputRecord:
        """An event, or why it is none."""
        try:
            return self._read_event(source)
        except RefusedError as refusal:
            return _malformed(source, refusal)
        except PassedOverError as passed:
            return Passed(source, PASSED_ORDER_MS, passed.kind)

    def label(self, source: Source) -> InputRecord:
        """A label, or why it is none."""
        try:
            return self._read_label(source)
        except RefusedError as refusal:
            return _malformed(source, refusal)
        except PassedOverError as passed:
            return Passed(source, PASSED_ORDER_MS, passed.kind)

    def control(self, source: Source) -> InputRecord:
        """A command, or why it is none."""
        try:
            value = sized(source.value, max(self._bytes_max, CONTROL_BYTES_MAX))
            return self._read_control(source, plain_object(value))
        except RefusedError as refusal:
            return _malformed(source, refusal)

    def _read_event(self, source: Source) -> Event:
        found = self._usual_event(source.value)
        if found is None:
            document, missing = self._events.read(source), 0
            event_id = document.get(self._event_key)
            if type(event_id) is not int:  # here and for labels: most ids, without a call
                event_id = self._id(document, self._event_id)
            time_ms, ahead = self._time(document, self._event_time, source)
            if self._event_hour is not None:
                time_ms += hour_ms_of(find(document, self._event_hour))
                ahead = 0 <= source.record_time_ms < time_ms - self._ahead_max_ms
            values = self._numbers(document)
            if values is None:
                values, missing = self._values(document)
        elif self._event_time is None:
            event_id, values, missing = found[0], found[1:], 0
            time_ms, ahead = source.record_time_ms, False
            if time_ms < 0:  # here and for labels: nearly never, so without a call
                raise _no_time()
        else:
            event_id, values, missing = found[0], found[2:], 0
            time_ms, ahead = self._trusted_time(found[1], source)
        order_ms = source.record_time_ms if ahead else time_ms
        if self._arrange is None:
            return Event(source, order_ms, time_ms, event_id, values, ahead, missing)
        features, context = self._arrange(values)
        return Event(source, order_ms, time_ms, event_id, features, ahead, missing, context)

    def _numbers(self, document: dict[str, Any]) -> tuple[FeatureValue, ...] | None:
        """The features of an event that has a good number for each; None where each has to be looked at."""
        if self._at_once is None:
            return None
        try:
            values = self._at_once(document)
        except KeyError:
            return None
        if not _NUMBERS.issuperset(map(type, values)):
            return None
        most = self._number_max
        return values if min(values) >= -most and max(values) <= most else None

    def _values(self, document: dict[str, Any]) -> tuple[tuple[FeatureValue, ...], int]:
        """The features of any event, and a bit for each that is not there."""
        values: list[FeatureValue] = []
        missing = 0
        number_max = self._number_max
        for name, key, feature, keys, check, plain in self._features:
            value = document.get(key) if key is not None else find(document, keys)
            if plain and type(value) is float and -number_max <= value <= number_max:
                values.append(value)  # nearly all of them: without a call each
                continue
            found: Any = MISSING if value is MISSING or value is None else check(name, value)
            if found is MISSING:
                missing |= self._missing_bits[len(values)]
                found = _absent(name, feature, value)
            values.append(found)
        return tuple(values), missing

    def _read_label(self, source: Source) -> Label:
        found = self._usual_label(source.value)
        if found is None:
            document = self._labels.read(source)
            event_id = document.get(self._label_key)
            if type(event_id) is not int:
                event_id = self._id(document, self._label_id)
            time_ms, ahead = self._time(document, self._label_time, source)
            value = document.get(self._value_key)
            if value is None:
                value = find(document, self._label_value)
            if value is MISSING or (value is None and not self._retracts):
                raise RefusedError("label_missing")
            if self._label_item is not None:
                item = find(document, self._label_item)
                if item is MISSING or item is None:
                    raise RefusedError("label_missing", "the reward names no item")
                value = (item, value)
        elif self._label_time is None:
            event_id, value = found
            time_ms, ahead = source.record_time_ms, False
            if time_ms < 0:
                raise _no_time()
        else:
            event_id, found_time, value = found
            time_ms, ahead = self._trusted_time(found_time, source)
        if type(value) is str and self._from_text is not None:
            value = self._from_text(value)
        try:
            target = None if value is None else self._target.read(value)
        except TargetError as error:
            hint = "; to read numbers written as strings, declare label.text" if is_number_text(value) else ""
            raise RefusedError("label_type", f"{error}{hint}") from None
        return Label(source, source.record_time_ms if ahead else time_ms, time_ms, event_id, target, ahead)

    def _read_control(self, source: Source, document: dict[str, Any]) -> Control:
        given: Any = document.get("command")
        if given not in COMMANDS:
            raise RefusedError("control_unknown", f"{shown(given)} is not one of {', '.join(COMMANDS)}")
        command: CommandName = given
        order_ms, sender = max(source.record_time_ms, 0), sender_of(document)
        sent = (sender.pipeline, sender.by, sender.sent_ms, sender.nonce, has_signature(source.value))
        if command == "load":
            return Control(source, order_ms, command, "", 0, _chunk(document), *sent)
        if command == "review":
            return Control(source, order_ms, command, "", 0, None, *sent, self._ruling(document))
        if command in ("release", "drop"):
            return Control(source, order_ms, command, "", 0, None, *sent, why=_why(document))
        if command not in ABOUT_EPISODE:
            return Control(source, order_ms, command, "", 0, None, *sent)
        episode, span_ms = document.get("episode"), document.get("for_ms", 0)
        if not isinstance(episode, str) or not 0 < len(episode) <= self._string_max:
            raise RefusedError("control_invalid", f"{command} needs an episode's name, not {shown(episode)}")
        if type(span_ms) is not int or not (command == "silence") <= span_ms <= SILENCE_MAX_MS:
            raise RefusedError(
                "control_invalid", f"for_ms is {shown(span_ms)}; silence takes milliseconds, up to a year"
            )
        return Control(source, order_ms, command, episode, span_ms, None, *sent)

    def _ruling(self, document: dict[str, Any]) -> Ruling:
        """What a person decides about predictions that are held."""
        decision: Any = document.get("decision")
        event_id, rung, value = (document.get(key) for key in ("event_id", "rung", "value"))
        if decision not in DECISIONS:
            raise RefusedError("control_invalid", f"decision is {shown(decision)}, not {', '.join(DECISIONS)}")
        if (event_id is None) == (rung is None):
            raise RefusedError("control_invalid", "review needs either an event_id or a rung")
        if rung is not None and rung not in get_args(Rung):
            raise RefusedError("control_invalid", f"{shown(rung)} is not one of {', '.join(get_args(Rung))}")
        if event_id is not None:
            event_id = self._id({"event_id": event_id}, ("event_id",))
        if (decision == "edit") != (value is not None):
            raise RefusedError("control_invalid", "a value belongs to the decision edit, and to no other")
        long = isinstance(value, str) and len(value) > self._string_max
        if long or not isinstance(value, bool | int | float | str | None):
            raise RefusedError("control_invalid", f"the value is {shown(value)}")
        return Ruling(decision, event_id, rung or "", value, _why(document))

    def _id(self, document: dict[str, Any], keys: Path) -> EventId:
        found = find(document, keys)
        if type(found) is str:
            if len(found) > self._string_max:
                raise RefusedError("id_too_long", f"{len(found)} characters (limit: {self._string_max})")
            return found
        if type(found) is int:
            return found
        if found is MISSING or found is None:
            raise RefusedError("id_missing", REASONS["id_missing"] + hint_of(document))
        if type(found) is float:
            # Beyond, and for whole numbers of more than 64 bits, different ids would be one float.
            if abs(found) > EXACT_MAX:
                raise RefusedError("id_type", f"{found!r} is too large to be exact; write such ids as strings")
            return int(found) if found.is_integer() else found
        if type(found) is bool:
            raise RefusedError("id_type", "the id is a boolean, which can distinguish only two events")
        raise RefusedError("id_type", f"the id is {shown(found)}")

    def _time(self, document: dict[str, Any], path: Path | None, source: Source) -> tuple[int, bool]:
        if path is None:
            if source.record_time_ms < 0:
                raise _no_time()
            return source.record_time_ms, False
        found = find(document, path)
        if found is MISSING or found is None:
            raise RefusedError("time_missing")
        return self._trusted_time(found, source)

    def _trusted_time(self, found: object, source: Source) -> tuple[int, bool]:
        """Event time, and whether it lies too far ahead of the record's own time to be trusted."""
        if type(found) is int and _MILLIS[0] <= found < _MILLIS[1]:  # most times: read without a call
            record_time_ms = source.record_time_ms
            return found, record_time_ms >= 0 and found > record_time_ms + self._ahead_max_ms
        if type(found) is not str and type(found) is not int and type(found) is not float:
            raise RefusedError("time_unreadable", f"{shown(found)} is neither a string nor a number")
        try:
            time_ms, record_time_ms = parse_time(found), source.record_time_ms
        except ValueError as error:
            raise RefusedError("time_unreadable", str(error)) from None
        return time_ms, record_time_ms >= 0 and time_ms > record_time_ms + self._ahead_max_ms


def hour_ms_of(found: object) -> int:
    """What an hour of the day adds to its date.

    Raises:
        RefusedError: it is none.
    """
    try:
        hour = float(found) if type(found) in (str, int, float) else -1.0  # type: ignore[arg-type]  # just seen
    except ValueError:
        hour = -1.0
    if not 0 <= hour < 24:
        text = "there is none" if found is MISSING or found is None else f"{shown(found)} is not from 0 to below 24"
        raise RefusedError("time_unreadable", f"event.hour: {text}")
    return round(hour * _HOUR_MS)


def _unusual(_: bytes | None) -> None:
    """No record is read in one go."""


def _no_time() -> RefusedError:
    return RefusedError("time_missing", "the record has no timestamp, and the pipeline declares no time")


def _malformed(source: Source, refusal: RefusedError) -> Malformed:
    return Malformed(source, max(source.record_time_ms, 0), refusal.reason, refusal.detail)


def _why(document: dict[str, Any]) -> str:
    """The reason that a command gives, in a person's words."""
    why = document.get("why")
    if why is not None and not isinstance(why, str):
        raise RefusedError("control_invalid", f"why is {shown(why)}, not a text")
    return (why or "")[:WHY_MAX]


def _chunk(document: dict[str, Any]) -> Chunk:
    """A part of a model file, as `codec.parts` writes it."""
    load, sha256, content = (document.get(key) for key in ("load", "sha256", "content"))
    number, count, size = (document.get(key) for key in ("part", "parts", "size_bytes"))
    if type(number) is not int or type(count) is not int or type(size) is not int:
        raise RefusedError("control_invalid", "load: part, parts and size_bytes must be whole numbers")
    if size > SIZE_MAX:
        raise RefusedError("load_too_large", f"the model file has {size} bytes (limit: {SIZE_MAX})")
    if not (0 <= number < count <= min(CHUNKS_MAX, size)):
        raise RefusedError("control_invalid", f"load: part {number} of {count} is impossible for {size} bytes")
    if not isinstance(load, str) or not _LOAD_NAME.fullmatch(load):
        raise RefusedError("control_invalid", f"load: {shown(load)} is not the name of a load")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise RefusedError("control_invalid", f"load: {shown(sha256)} is not a SHA-256")
    try:
        part = b64decode(content, validate=True) if isinstance(content, str) else b""
    except ValueError as error:
        raise RefusedError("control_invalid", f"load: the content is not base64 ({error})") from None
    if not 0 < len(part) <= CHUNK_MAX:
        raise RefusedError("control_invalid", f"load: a part has 1 to {CHUNK_MAX} bytes of content, not {len(part)}")
    return Chunk(load, number, count, size, sha256, part)


def _absent(name: str, feature: Feature, value: object) -> FeatureValue:
    if feature.missing == "reject":
        what = "missing" if value is MISSING or value is None else f"{shown(value)}, which counts as missing"
        raise RefusedError("feature_missing", f"{name} is {what}, and its rule is reject")
    return feature.fill


def _plain_key(keys: Path) -> Any:
    """The key of a path that has one only; None, which no object has, for any other."""
    return str(keys[0]) if len(keys) == 1 else None
