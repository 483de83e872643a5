"""Bytes to records. Total: whatever the bytes, a record comes out, if only a malformed one with its reason.

What is refused here could do harm further on: a number beyond `limits.number_max` makes a scaler NaN for ever, a text
without bound fills the memory, a missing feature breaks a model. Decoding is a pure function of the pipeline and the
bytes, because recovery decodes the same bytes again and must get the same record.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import orjson

from app.codec.usual import EXACT_MAX, MOMENT, SCALAR, Kind, Read, name_of, number_of, text_of, usual
from app.core.loading import CHUNK_MAX, CHUNKS_MAX, SIZE_MAX
from app.core.pipeline import Feature, Pipeline
from app.core.pipeline.field import Path, PathPart, parse_path
from app.core.record import Chunk, Control, Event, EventId, FeatureValue, InputRecord, Label, Malformed, Source
from app.core.target import Target, TargetError, shown

REASONS: Mapping[str, str] = {
    "tombstone": "the record has no value",
    "empty": "the value has no bytes",
    "too_large": "the value is longer than limits.record_bytes_max",
    "not_json": "the value is no JSON document in UTF-8 (NaN, Infinity and 1e999 are none either)",
    "not_object": "the value is JSON, but no object",
    "id_missing": "there is no id at the pipeline's path",
    "id_type": "the id is neither text nor a number that is exact",
    "id_too_long": "the id has more than limits.string_max characters",
    "time_missing": "there is no time at the pipeline's path",
    "time_unreadable": "the time is neither ISO 8601 nor an epoch in seconds or milliseconds",
    "feature_missing": "a feature that the model needs is not there",
    "feature_type": "a feature is of another type than declared",
    "number_too_large": "a number is beyond limits.number_max",
    "string_too_long": "a text is longer than limits.string_max",
    "label_missing": "there is no label at the pipeline's path",
    "label_type": "the label does not fit the task",
    "control_unknown": "the command is none of freeze, unfreeze, reset, load, snapshot, acknowledge, silence",
    "control_invalid": "the command lacks an episode, or how long to be silent; or is no part of a model file",
    "load_too_large": "the model file is larger than 64 MiB",
    "duplicate_event": "an event with this id was scored before",
    "unexpected_label": "the pipeline declares no label",
    "too_many_classes": "the label would be one class more than limits.classes_max",
    "model_error": "the model raised an exception on this event",
    "episode_unknown": "no episode of that name is open",
    "load_over": "this load was superseded by a later one, or has come to its end",
    "load_mixed": "the part is of another file than the load's other parts",
    "load_damaged": "the parts do not make the model file that they name",
    "load_refused": "the model file cannot be put to work here",
}
"""Every reason that a rejected record can carry; the last nine are the core's."""

COMMANDS = ("freeze", "unfreeze", "reset", "load", "snapshot", "acknowledge", "silence")
ABOUT_EPISODE = ("acknowledge", "silence")
SILENCE_MAX_MS = 365 * 86_400_000
CONTROL_BYTES_MAX = 1_000_000  # whatever limits.record_bytes_max says: a part of a model file must fit

_LOAD_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{8}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_SECONDS_BELOW = 1e11  # an epoch number below it is in seconds (until the year 5138), from it on in milliseconds
_TIME_MAX_MS = 253_402_300_799_999  # the end of the year 9999

MISSING = object()  # what `find` gives where there is nothing
_NUMBERS = frozenset((float, int))


class _RefusedError(Exception):
    """Carries the reason out of a reader; never leaves this module."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail


class Decoder:
    """Decodes the inputs of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        limits = pipeline.limits
        self._bytes_max = limits.record_bytes_max
        self._string_max = limits.string_max
        self._number_max = limits.number_max
        self._ahead_max_ms = limits.time_ahead_max_ms
        form = pipeline.event
        self._event_id = parse_path(form.id)
        self._event_key = _plain_key(self._event_id)
        self._event_time = parse_path(form.time) if form.time else None
        self._features = [
            # Most paths are one key: it is looked up without a walk.
            (
                name,
                _plain_key(feature.keys),
                feature,
                self._checks[feature.type],
                feature.type == "number",
            )
            for name, feature in form.features.items()
        ]
        # Of numbers at keys of their own, which most events are made of, all at once.
        keys = [key for _, key, _, _, plain in self._features if plain and key is not None]
        self._at_once = itemgetter(*keys) if 1 < len(keys) == len(self._features) else None
        places = [(feature.keys, self._kind(feature)) for feature in form.features.values()]
        self._usual_event = self._usual(self._event_id, self._event_time, places)
        label = pipeline.label
        if label is not None:
            self._label_id = parse_path(label.id)
            self._label_key = _plain_key(self._label_id)
            self._label_value = parse_path(label.value)
            self._value_key = _plain_key(self._label_value)
            self._label_time = parse_path(label.time) if label.time else None
            self._target = Target(label, pipeline)
            self._retracts = label.retract
            self._usual_label = self._usual(self._label_id, self._label_time, [(self._label_value, SCALAR)])

    def _usual(self, id_path: Path, time_path: Path | None, places: Sequence[tuple[Path, Kind]]) -> Read:
        """Reads the id, the time if there is one, and what is at the places."""
        begin = [(id_path, name_of(self._string_max)), *([(time_path, MOMENT)] if time_path else [])]
        return usual([*begin, *places], self._bytes_max)

    def _kind(self, feature: Feature) -> Kind:
        kinds = {"number": number_of(self._number_max), "string": text_of(self._string_max), "boolean": bool}
        return kinds[feature.type]

    def event(self, source: Source) -> InputRecord:
        """An event, or why it is none."""
        try:
            return self._read_event(source)
        except _RefusedError as refusal:
            return _malformed(source, refusal)

    def label(self, source: Source) -> InputRecord:
        """A label, or why it is none."""
        try:
            return self._read_label(source)
        except _RefusedError as refusal:
            return _malformed(source, refusal)

    def control(self, source: Source) -> InputRecord:
        """A command, or why it is none."""
        try:
            return self._read_control(source, self._document(source.value, max(self._bytes_max, CONTROL_BYTES_MAX)))
        except _RefusedError as refusal:
            return _malformed(source, refusal)

    def _document(self, value: bytes | None, bytes_max: int) -> dict[str, Any]:
        if value is None:
            raise _RefusedError("tombstone", REASONS["tombstone"])
        if not value:
            raise _RefusedError("empty", REASONS["empty"])
        if len(value) > bytes_max:
            raise _RefusedError("too_large", f"{len(value)} bytes; {bytes_max} are allowed")
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise _RefusedError("not_json", str(error)) from None
        if not isinstance(document, dict):
            raise _RefusedError("not_object", f"the value is a JSON {type(document).__name__}")
        return document

    def _read_event(self, source: Source) -> Event:
        found = self._usual_event(source.value)
        if found is None:
            document, missing = self._document(source.value, self._bytes_max), 0
            event_id = document.get(self._event_key)
            if type(event_id) is not int:  # here and for labels: most ids, without a call
                event_id = self._id(document, self._event_id)
            time_ms, ahead = self._time(document, self._event_time, source)
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
            time_ms, ahead = self._told_time(found[1], source)
        order_ms = source.record_time_ms if ahead else time_ms
        return Event(source, order_ms, time_ms, event_id, values, ahead, missing)

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
        for name, key, feature, check, plain in self._features:
            value = document.get(key) if key is not None else find(document, feature.keys)
            if plain and type(value) is float and -number_max <= value <= number_max:
                values.append(value)  # nearly all of them: without a call each
            elif value is MISSING or value is None:
                missing |= 1 << len(values)
                values.append(_absent(name, feature))
            else:
                values.append(check(self, name, value))
        return tuple(values), missing

    def _read_label(self, source: Source) -> Label:
        found = self._usual_label(source.value)
        if found is None:
            document = self._document(source.value, self._bytes_max)
            event_id = document.get(self._label_key)
            if type(event_id) is not int:
                event_id = self._id(document, self._label_id)
            time_ms, ahead = self._time(document, self._label_time, source)
            value = document.get(self._value_key)
            if value is None:
                value = find(document, self._label_value)
            if value is MISSING or (value is None and not self._retracts):
                raise _RefusedError("label_missing", REASONS["label_missing"])
        elif self._label_time is None:
            event_id, value = found
            time_ms, ahead = source.record_time_ms, False
            if time_ms < 0:
                raise _no_time()
        else:
            event_id, told, value = found
            time_ms, ahead = self._told_time(told, source)
        try:
            target = None if value is None else self._target.read(value)
        except TargetError as error:
            raise _RefusedError("label_type", str(error)) from None
        return Label(source, source.record_time_ms if ahead else time_ms, time_ms, event_id, target, ahead)

    def _read_control(self, source: Source, document: dict[str, Any]) -> Control:
        command = document.get("command")
        if command not in COMMANDS:
            raise _RefusedError("control_unknown", f"{shown(command)} is none of {', '.join(COMMANDS)}")
        order_ms = max(source.record_time_ms, 0)
        if command == "load":
            return Control(source, order_ms, command, chunk=_chunk(document))
        if command not in ABOUT_EPISODE:
            return Control(source, order_ms, command)
        episode, span_ms = document.get("episode"), document.get("for_ms", 0)
        if not isinstance(episode, str) or not 0 < len(episode) <= self._string_max:
            raise _RefusedError("control_invalid", f"{command} needs the name of an episode, not {shown(episode)}")
        if type(span_ms) is not int or not (command == "silence") <= span_ms <= SILENCE_MAX_MS:
            raise _RefusedError("control_invalid", f"for_ms is {shown(span_ms)}; silence takes ms, up to a year")
        return Control(source, order_ms, command, episode, span_ms)

    def _id(self, document: dict[str, Any], keys: Path) -> EventId:
        found = find(document, keys)
        if type(found) is str:
            if len(found) > self._string_max:
                raise _RefusedError("id_too_long", f"{len(found)} characters; {self._string_max} are allowed")
            return found
        if type(found) is int:
            return found
        if found is MISSING or found is None:
            raise _RefusedError("id_missing", REASONS["id_missing"])
        if type(found) is float:
            # Beyond, and for whole numbers of more than 64 bits, different ids would be one float.
            if abs(found) > EXACT_MAX:
                raise _RefusedError("id_type", f"{found!r} is too large to be exact; write such ids as text")
            return int(found) if found.is_integer() else found
        if type(found) is bool:
            raise _RefusedError("id_type", "the id is a truth value, which tells two events apart at most")
        raise _RefusedError("id_type", f"the id is {shown(found)}")

    def _time(self, document: dict[str, Any], path: Path | None, source: Source) -> tuple[int, bool]:
        if path is None:
            if source.record_time_ms < 0:
                raise _no_time()
            return source.record_time_ms, False
        found = find(document, path)
        if found is MISSING or found is None:
            raise _RefusedError("time_missing", REASONS["time_missing"])
        return self._told_time(found, source)

    def _told_time(self, found: object, source: Source) -> tuple[int, bool]:
        """Event time, and whether it lies too far ahead of the record's own time to be trusted."""
        time_ms, record_time_ms = _milliseconds(found), source.record_time_ms
        return time_ms, record_time_ms >= 0 and time_ms > record_time_ms + self._ahead_max_ms

    def _number(self, name: str, value: object) -> FeatureValue:
        if type(value) is not float and type(value) is not int:
            raise _RefusedError("feature_type", f"{name} must be a number, not {shown(value)}")
        if not -self._number_max <= value <= self._number_max:
            raise _RefusedError("number_too_large", f"{name} is {value!r}; at most {self._number_max:g} is allowed")
        return value

    def _string(self, name: str, value: object) -> FeatureValue:
        if type(value) is not str:
            raise _RefusedError("feature_type", f"{name} must be text, not {shown(value)}")
        if len(value) > self._string_max:
            detail = f"{name} has {len(value)} characters; {self._string_max} are allowed"
            raise _RefusedError("string_too_long", detail)
        return value

    def _boolean(self, name: str, value: object) -> FeatureValue:
        if type(value) is not bool:
            raise _RefusedError("feature_type", f"{name} must be true or false, not {shown(value)}")
        return value

    _checks: Mapping[str, Callable[[Decoder, str, object], FeatureValue]] = {
        "number": _number,
        "string": _string,
        "boolean": _boolean,
    }


def _no_time() -> _RefusedError:
    return _RefusedError("time_missing", "the record has no timestamp, and the pipeline names no time")


def _malformed(source: Source, refusal: _RefusedError) -> Malformed:
    return Malformed(source, max(source.record_time_ms, 0), refusal.reason, refusal.detail)


def _chunk(document: dict[str, Any]) -> Chunk:
    """A part of a model file, as `codec.parts` writes it."""
    load, sha256, content = (document.get(key) for key in ("load", "sha256", "content"))
    number, count, size = (document.get(key) for key in ("part", "parts", "size_bytes"))
    if type(number) is not int or type(count) is not int or type(size) is not int:
        raise _RefusedError("control_invalid", "load: part, parts and size_bytes must be whole numbers")
    if size > SIZE_MAX:
        raise _RefusedError("load_too_large", f"the model file has {size} bytes; {SIZE_MAX} are allowed")
    if not (0 <= number < count <= min(CHUNKS_MAX, size)):
        raise _RefusedError("control_invalid", f"load: part {number} of {count} of {size} bytes cannot be")
    if not isinstance(load, str) or not _LOAD_NAME.fullmatch(load):
        raise _RefusedError("control_invalid", f"load: {shown(load)} is no name of a load")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _RefusedError("control_invalid", f"load: {shown(sha256)} is no SHA-256")
    try:
        part = b64decode(content, validate=True) if isinstance(content, str) else b""
    except ValueError as error:
        raise _RefusedError("control_invalid", f"load: the content is no base64 ({error})") from None
    if not 0 < len(part) <= CHUNK_MAX:
        raise _RefusedError("control_invalid", f"load: a part has 1 to {CHUNK_MAX} bytes of content, not {len(part)}")
    return Chunk(load, number, count, size, sha256, part)


def _absent(name: str, feature: Feature) -> FeatureValue:
    if feature.missing == "reject":
        raise _RefusedError("feature_missing", f"{name} is not there, and its rule is reject")
    return feature.fill


def _plain_key(keys: Path) -> Any:
    """The key of a path that has one only; None, which no object has, for any other."""
    return str(keys[0]) if len(keys) == 1 else None


def find(document: object, keys: Sequence[PathPart]) -> Any:
    """The value at a path, or `MISSING`."""
    if len(keys) == 1 and isinstance(document, dict):
        (key,) = keys
        return document.get(key if type(key) is str else str(key), MISSING)
    found = document
    for key in keys:
        if isinstance(found, dict):
            found = found.get(str(key), MISSING)
        elif isinstance(found, list) and isinstance(key, int) and key < len(found):
            found = found[key]
        else:
            return MISSING
    return found


def _milliseconds(found: object) -> int:
    """Epoch milliseconds of a time as users write it: ISO 8601 (UTC where no zone is given), epoch seconds or ms."""
    if isinstance(found, str):
        try:
            moment = datetime.fromisoformat(found)
        except ValueError:
            raise _RefusedError("time_unreadable", f"{shown(found)} is not ISO 8601") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _RefusedError("time_unreadable", f"{shown(found)} is neither text nor a number")
    time_ms = round(found * 1000 if abs(found) < _SECONDS_BELOW else found)
    if abs(time_ms) > _TIME_MAX_MS:
        raise _RefusedError("time_unreadable", f"{shown(found)} lies beyond the year 9999")
    return time_ms
