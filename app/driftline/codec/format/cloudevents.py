"""CloudEvents: attributes around the value (structured mode), or in headers beside it (binary mode).

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from driftline.codec.format.base import Document, Format
from driftline.codec.format.frame import framed_object
from driftline.codec.header import header_text
from driftline.codec.json import parse_json, write_json
from driftline.codec.reason import RefusedError
from driftline.core.notation import ENVELOPE
from driftline.core.record import Headers

_HEADER = re.compile(r"ce[_-](.+)")


def read(value: bytes, headers: Headers) -> Document:
    """The event's data: in binary mode the value itself."""
    document = framed_object(value)
    named = ((_HEADER.fullmatch(name), content) for name, content in headers)
    attributes: Document = {name[1]: header_text(content) for name, content in named if name and content is not None}
    if "specversion" in attributes:
        return {**document, ENVELOPE: attributes}
    if "specversion" not in document:
        text = "not a CloudEvent: neither a header ce_specversion nor specversion in the value"
        raise RefusedError("envelope", text)
    attributes = {name: one for name, one in document.items() if name not in ("data", "data_base64")}
    return {**_data(document), ENVELOPE: attributes}


def _data(event: Document) -> Document:
    """What is in an event of structured mode."""
    data = event.get("data", {})
    if "data_base64" in event:
        try:
            data = parse_json(b64decode(event["data_base64"], validate=True))
        except (TypeError, ValueError) as error:
            raise RefusedError("envelope", f"data_base64 is not JSON in base64: {error}") from None
    if not isinstance(data, dict):
        raise RefusedError("envelope", f"the CloudEvent's data is a JSON {type(data).__name__}, not an object")
    return data


def write(row: Mapping[str, Any], around: Mapping[str, Any], event_id: str | int, time_ms: int) -> bytes:
    """An event of structured mode, with the row as its data."""
    at = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    attributes = {"specversion": "1.0", "id": str(event_id), "source": "driftline", "type": "row", "time": at}
    return write_json({**attributes, **around, "data": row})


def looks_like(document: Document) -> str | None:
    found = "specversion" in document and ("data" in document or "data_base64" in document)
    return "a CloudEvent" if found else None


FORMAT = Format(read, write, textual=True, looks_like=looks_like)
