"""A record's bytes as the document that the pipeline's paths lead into.

    value ─ schema registry's frame ─ JSON ─ envelope ─ key, headers, envelope under their roots ─ select

Each stage is there only where the pipeline asks for it; of most pipelines only JSON is.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from driftline.codec.reason import PassedOverError, RefusedError
from driftline.core.notation import ENVELOPE, HEADERS, KEY, Path, PathPart, parse_path
from driftline.core.pipeline.form import EventForm, InputForm, LabelForm, Wanted
from driftline.core.record import Headers, Source

Document = dict[str, Any]

MISSING = object()  # what `find` gives where there is nothing

_STRING_OR_BARE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[-+]?\b(?:nan|inf|infinity)\b', re.IGNORECASE | re.DOTALL)
_BARE = re.compile(rb"nan|inf", re.IGNORECASE)
_BARE_MAX = 10_000  # words of a record, those within its texts included
_MARK = "\0bare "  # a text that stands for a bare word until the document is read
_CE_HEADER = re.compile(r"ce[_-](.+)")


class NotFinite(float):
    """A bare NaN or Infinity of a document that is otherwise JSON: no value, but one that can be named."""

    def __new__(cls, word: str) -> NotFinite:
        made = super().__new__(cls, word)
        made.word = word
        return made

    word: str

    def __repr__(self) -> str:
        return self.word


def parse_json(value: bytes) -> Any:
    """JSON; bare NaN and Infinity, as many programs write them, become `NotFinite`.

    No more than `_BARE_MAX`: each costs some microseconds, of which a record of a megabyte could ask for a second.

    Raises:
        orjson.JSONDecodeError: it is not JSON; without such words or with them.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        if not 0 < len(_BARE.findall(value)) <= _BARE_MAX:
            raise
        marked = _STRING_OR_BARE.sub(_mark, value)
        if marked == value:
            raise
        return _unmarked(orjson.loads(marked))


def _mark(match: re.Match[bytes]) -> bytes:
    word = match[0]
    return word if word.startswith(b'"') else b'"\\u0000bare %s"' % word


def _unmarked(document: Any) -> Any:
    """The document with `NotFinite` where a bare word stood. Not by recursion: nesting may be deep."""
    whole = [document]
    todo: list[Any] = [whole]
    while todo:
        inner = todo.pop()
        for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
            if isinstance(value, dict | list):
                todo.append(value)
            elif isinstance(value, str) and value.startswith(_MARK):
                inner[key] = _not_finite(value)
    return whole[0]


def _not_finite(marked: str) -> object:
    try:
        return NotFinite(marked.removeprefix(_MARK))
    except ValueError:  # the text itself came so
        return marked


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


class Documents:
    """Reads the documents of one input.

    Args:
        form: how its records are read.
        bytes_max: of a value.

    Attributes:
        plain: the document is the value's JSON and nothing else, and each one is meant.
    """

    def __init__(self, form: EventForm | LabelForm, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._envelope = form.envelope
        paths = [parse_path(path) for path in form.paths]
        self._key = _key_reader(form, paths)
        self._headers = {str(path[1]).encode() for path in paths if path[0] == HEADERS}
        self._select = [_wanted(parse_path(path), wanted) for path, wanted in form.select.items()]
        self.plain = self._envelope == "none" and not self._key and not self._headers and not self._select

    def read(self, source: Source) -> Document:
        """The document of a record.

        Raises:
            RefusedError: it has none.
            PassedOverError: it is not meant.
        """
        value = source.value
        if self.plain and value and len(value) <= self._bytes_max:
            try:
                document = orjson.loads(value)
            except orjson.JSONDecodeError:
                pass
            else:
                if type(document) is dict:
                    return document
        return self._whole(source)

    def _whole(self, source: Source) -> Document:
        """What `read` gives, stage by stage."""
        value = source.value
        if value is None:
            raise PassedOverError("tombstone")
        document = object_of(value, self._bytes_max, framed=self._envelope != "none")
        if self.plain:
            return document
        if self._envelope == "debezium":
            document = _debezium(document)
        elif self._envelope == "cloudevents":
            document = _cloudevents(document, source.headers)
        if self._headers:
            document[HEADERS] = {
                name: _header_text(content)
                for name, content in source.headers
                if content is not None and name.encode() in self._headers
            }
        if self._key is not None:
            document.pop(KEY, None)  # of the value itself
            if source.key is not None:
                document[KEY] = self._key(source.key)
        for path, wants in self._select:
            if not wants(find(document, path)):
                raise PassedOverError("unselected")
        return document


def object_of(value: bytes | None, bytes_max: int, *, framed: bool = False) -> Document:
    """The JSON object of a value.

    Args:
        framed: a schema registry's frame may be around it.

    Raises:
        RefusedError: there is none.
    """
    if value is None:
        raise RefusedError("tombstone")
    if not value:
        raise RefusedError("empty")
    if len(value) > bytes_max:
        raise RefusedError("too_large", f"{len(value)} bytes; {bytes_max} are allowed")
    if value[0] in _FRAMES and (frame := _frame(value)) is not None:
        what, content = frame
        if not framed:
            raise RefusedError("registry_frame", f"{what}; {_remedy(content)}")
        if not _looks_like_json(content):
            raise RefusedError("registry_frame", f"{what}; {_remedy(content)}")
        value = content
    try:
        document = parse_json(value)
    except orjson.JSONDecodeError as error:
        raise RefusedError("not_json", str(error)) from None
    if not isinstance(document, dict):
        raise RefusedError("not_object", f"the value is a JSON {type(document).__name__}")
    return document


# -- schema registries

_FRAMES = frozenset({0, 3})  # no JSON begins so


def _frame(value: bytes) -> tuple[str, bytes] | None:
    """What frame a value seems to be in, and what follows it.

    Confluent's is a zero byte and the schema's id in four bytes (Apicurio also writes eight), before Protobuf followed
    by indexes; AWS Glue's is a three, the compression, and the schema version's UUID.
    """
    if value[0] == 3 and len(value) > 18 and value[1] in (0, 5):
        return f"the bytes look like AWS Glue's frame (schema version {value[2:18].hex()})", value[18:]
    if value[0] != 0 or len(value) < 6:
        return None
    content = value[5:]
    if not _looks_like_json(content) and _looks_like_json(value[9:]):
        return f"the bytes look like a schema registry's frame (schema id {int.from_bytes(value[1:9])})", value[9:]
    return f"the bytes look like a schema registry's frame (schema id {int.from_bytes(value[1:5])})", content


def _looks_like_json(content: bytes) -> bool:
    return content.lstrip()[:1] == b"{"


def _remedy(content: bytes) -> str:
    if _looks_like_json(content):
        return "what follows is JSON: declare `envelope: registry_json` to read it"
    return "what follows is not JSON but Avro or Protobuf: have it converted to JSON before it comes here"


# -- envelopes


def _debezium(document: Document) -> Document:
    """The row of a change event, with or without its schema beside it."""
    change = document.get("payload", document)
    if change is None:  # a tombstone, as Connect writes it beside a schema
        raise PassedOverError("tombstone")
    operation = change.get("op") if isinstance(change, dict) else None
    if operation == "d":
        raise PassedOverError("deleted")
    if operation in ("t", "m"):  # the table was emptied; a message of the database's log
        raise PassedOverError("unselected")
    if operation not in ("c", "u", "r"):
        raise RefusedError(
            "envelope", "not a Debezium change event: op, in payload or at the top, is none of c, u, r, d"
        )
    row = change.get("after")
    if isinstance(row, str):  # as of MongoDB
        try:
            row = parse_json(row.encode())
        except ValueError as error:
            raise RefusedError("envelope", f"`after` is text and not JSON: {error}") from None
    if not isinstance(row, dict):
        raise RefusedError("envelope", f"a change event of op {operation} has no row in `after`")
    return {**row, ENVELOPE: change}


def _cloudevents(document: Document, headers: Headers) -> Document:
    """The data of a CloudEvent: in binary mode the value itself, its attributes in headers."""
    named = ((_CE_HEADER.fullmatch(name), content) for name, content in headers)
    attributes: Document = {name[1]: _header_text(content) for name, content in named if name and content is not None}
    if "specversion" in attributes:
        return {**document, ENVELOPE: attributes}
    if "specversion" not in document:
        text = "there is no CloudEvent: no header ce_specversion, and no specversion in the value"
        raise RefusedError("envelope", text)
    data = document.get("data", {})
    if "data_base64" in document:
        try:
            data = parse_json(b64decode(document["data_base64"], validate=True))
        except (TypeError, ValueError) as error:
            raise RefusedError("envelope", f"data_base64 is no JSON in base64: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError("envelope", f"the CloudEvent's data is a JSON {type(data).__name__}, and no object")
    return {**data, ENVELOPE: {name: value for name, value in document.items() if name not in ("data", "data_base64")}}


def hint_of(document: Document) -> str:
    """What to declare for a document that looks like an envelope which the pipeline does not name."""
    change = document.get("payload", document)
    if isinstance(change, dict) and "op" in change and "after" in change:
        return "; this looks like a Debezium change event: declare `envelope: debezium`"
    if "specversion" in document and ("data" in document or "data_base64" in document):
        return "; this looks like a CloudEvent: declare `envelope: cloudevents`"
    return ""


# -- the record's key and headers


def _header_text(content: bytes | None) -> str | bytes | None:
    """A header's text; its bytes where they are none, for the reader to refuse."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _key_reader(form: InputForm, paths: Sequence[Path]) -> Callable[[bytes], Any] | None:
    """How the key is read; None where no path leads to it."""
    asked = [path for path in paths if path[0] == KEY]
    if not asked:
        return None
    if form.key == "json" or any(len(path) > 1 for path in asked):
        return _debezium_key if form.envelope == "debezium" else _json_key
    return {"text": _text_key, "integer": _integer_key, "binary": _binary_key}[form.key]


def _text_key(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        remedy = "; declare `key: binary`" if len(key) in (4, 8) else ""
        raise RefusedError("key_unreadable", f"the key is not UTF-8 text ({len(key)} bytes){remedy}") from None


def _integer_key(key: bytes) -> int:
    text = key.decode("latin-1")
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 20:
        return int(text)
    remedy = "; declare `key: binary`" if len(key) in (4, 8) else ""
    raise RefusedError("key_unreadable", f"the key is not a whole number in digits ({len(key)} bytes){remedy}")


def _binary_key(key: bytes) -> int:
    """The big-endian bytes of Kafka's IntegerSerializer and LongSerializer."""
    if len(key) in (2, 4, 8):
        return int.from_bytes(key, signed=True)
    raise RefusedError("key_unreadable", f"the key has {len(key)} bytes; a binary whole number has 2, 4 or 8")


def _json_key(key: bytes) -> Any:
    frame = _frame(key) if key[:1] and key[0] in _FRAMES else None
    try:
        return parse_json(frame[1] if frame else key)
    except orjson.JSONDecodeError as error:
        raise RefusedError("key_unreadable", f"the key is no JSON: {error}") from None


def _debezium_key(key: bytes) -> Any:
    """The key's row, without the schema that may stand beside it."""
    found = _json_key(key)
    return found["payload"] if isinstance(found, dict) and found.keys() == {"schema", "payload"} else found


# -- select


def _wanted(path: Path, wanted: Sequence[Wanted]) -> tuple[Path, Callable[[object], bool]]:
    """Whether what is found at a path is one of these: of JSON by type as well, of a header by its text."""
    if path[0] == HEADERS:
        texts = {_as_text(value) for value in wanted}
        return path, lambda found: (None if found is MISSING else found) in texts
    exact = {(isinstance(value, bool), value) for value in wanted}

    def wants(found: object) -> bool:
        if found is MISSING:
            found = None
        if found is not None and not isinstance(found, bool | int | float | str):
            return False
        return (isinstance(found, bool), found) in exact

    return path, wants


def _as_text(value: Wanted) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
