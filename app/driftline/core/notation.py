"""The small languages of a pipeline file: durations, paths, scalars, topic names.

Each is a pydantic type that reads what a person writes (`7d`, `card.country`) and keeps what the code needs
(milliseconds, a checked string). Errors say what is allowed, since the reader may never have seen the format.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from driftline.core.duration import format_duration, parse_duration
from driftline.core.timestamp import parse_time

Scalar: TypeAlias = bool | int | float | str
PathPart: TypeAlias = str | int
Path: TypeAlias = tuple[PathPart, ...]

_INTEGER_MAX = 2**63 - 1
_PATH_MAX = 1_000
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")

# A record is one document: its value's keys, and under keys that stand for the rest of it, what `$key` and such name.
# A JSON key that begins with a NUL is overwritten where one of these is requested, so none can pass for the other.
KEY, HEADERS, ENVELOPE = "\0key", "\0headers", "\0envelope"
ROOTS = {"$key": KEY, "$headers": HEADERS, "$envelope": ENVELOPE}
_NAME_OF_ROOT = {root: name for name, root in ROOTS.items()}
_NEAR_ROOTS = {"$header": "$headers", "$keys": "$key", "$envelopes": "$envelope"}


def parse_path(text: str) -> Path:
    r"""The keys that lead to a value in a user's JSON.

    Keys are separated by dots; a part of digits only is an index where it meets an array (where it meets an
    object, its text is the key); a backslash takes the next character as it is, so `a\.b` is the one key
    `a.b`. What begins with `$key`, `$headers` or `$envelope` leads into the record's key, its headers, or the
    envelope around the value (`\$key` is a key of that name in the value).

    Raises:
        ValueError: a part is empty, a backslash ends the path, it is too long, or names no header.
    """
    if not text or len(text) > _PATH_MAX:
        raise ValueError(f"a path has 1 to {_PATH_MAX} characters")
    parts: list[PathPart] = []
    part: list[str] = []
    escaped = plain = False
    for character in text + ".":
        if escaped:
            part.append(character)
            escaped = False
        elif character == "\\":
            escaped = plain = True
        elif character == ".":
            if not part:
                raise ValueError("a key between two dots is empty; write keys separated by dots, as in card.country")
            key = "".join(part)
            parts.append(int(key) if not plain and _INDEX.fullmatch(key) else key)
            part, plain = [], False
        else:
            part.append(character)
    if escaped or part:
        raise ValueError("ends in a backslash; write two for a literal backslash")
    return _rooted(text, tuple(parts))


def _rooted(text: str, parts: Path) -> Path:
    """The path with the root that its first part names, if it names one."""
    name = str(parts[0])
    if not text.startswith("$") or "\\" in text[: len(name)]:
        return parts
    lowered = name.lower()
    near = _NEAR_ROOTS.get(lowered, lowered)
    if name not in ROOTS:
        if near in ROOTS:
            raise ValueError(f"did you mean {near}? (write \\{name} for a key of that name in the value)")
        return parts
    root = ROOTS[name]
    if root == HEADERS and len(parts) != 2:
        raise ValueError("write $headers.NAME, with a backslash before each dot in the header's name")
    if root == ENVELOPE and len(parts) == 1:
        raise ValueError("name a field of the envelope, as in $envelope.op or $envelope.time")
    return (root, *parts[1:])


def is_rooted(parts: Path) -> bool:
    """Whether a path leads elsewhere than into the record's value."""
    return parts[0] in _NAME_OF_ROOT


def format_path(parts: Path) -> str:
    """The text that `parse_path` reads as these parts."""
    texts = []
    for place, part in enumerate(parts):
        text = str(part).replace("\\", "\\\\").replace(".", "\\.")
        if not place and part in _NAME_OF_ROOT:
            text = _NAME_OF_ROOT[str(part)]
        elif (isinstance(part, str) and _INDEX.fullmatch(part)) or (not place and text.startswith("$")):
            text = "\\" + text
        texts.append(text)
    return ".".join(texts)


def _check_path(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string: keys separated by dots, as in card.country (quote a key that is a number)")
    parse_path(value)
    return value


def check_scalar(value: object) -> Scalar:
    """A value that JSON can hold and that is not an array or object: true or false, a finite number, text."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > _INTEGER_MAX:
            raise ValueError("is beyond 64 bits")
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("must be a single value: true, false, a finite number or a string")


def is_topic(name: str) -> bool:
    """Whether Kafka takes a topic of this name."""
    return _TOPIC.fullmatch(name) is not None and name not in {".", ".."}


def _check_topic(value: object) -> str:
    if not isinstance(value, str) or not is_topic(value):
        raise ValueError("is not a valid topic name: 1 to 249 letters, digits, '.', '_' or '-'")
    return value


def is_factory(model: str) -> bool:
    """Whether the text of a model is `package.module:function` and not an expression."""
    return FACTORY.fullmatch(model.strip()) is not None


def _strip(value: object) -> object:
    """An expression without the line break that a YAML block ends in."""
    return value.strip() if isinstance(value, str) else value


def _check_start(value: object) -> str:
    """`earliest`, `latest`, or a time as ISO 8601 in UTC."""
    if value in ("earliest", "latest"):
        return str(value)
    try:
        time_ms = parse_time(value)
        if time_ms < 0:
            raise ValueError("it is before 1970, which a Kafka record's time cannot be")
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"write earliest, latest, or a time as in 2026-01-31T00:00:00Z; {error}") from None
    return moment.isoformat(timespec="milliseconds" if time_ms % 1_000 else "seconds").replace("+00:00", "Z")


_SCALAR_SCHEMA: dict[str, Any] = {"type": ["boolean", "number", "string"]}

Duration = Annotated[
    int,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(0|[0-9]{1,15}(\.[0-9]{1,9})?(ms|s|m|h|d))$"},
                {"const": 0},
            ],
            "examples": ["500ms", "30s", "15m", "12h", "7d"],
        }
    ),
]
PathText = Annotated[str, BeforeValidator(_check_path), WithJsonSchema({"type": "string", "minLength": 1})]
ScalarValue = Annotated[Scalar, BeforeValidator(check_scalar), WithJsonSchema(_SCALAR_SCHEMA)]
TopicName = Annotated[
    str,
    BeforeValidator(_check_topic),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,249}$"}),
]
StartPlace = Annotated[
    str,
    BeforeValidator(_check_start),
    WithJsonSchema({"type": ["string", "number"], "examples": ["earliest", "latest", "2026-01-31T00:00:00Z"]}),
]
Expression = Annotated[str, BeforeValidator(_strip), Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
