"""A record's headers."""

from __future__ import annotations

from collections.abc import Set

from driftline.core.record import Headers


def header_text(content: bytes) -> str | bytes:
    """A header's text; its bytes where they are none, for the reader to refuse."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def read_headers(headers: Headers, wanted: Set[str]) -> dict[str, str | bytes]:
    """The headers of these names; of several that share a name, the last with a value."""
    return {name: header_text(content) for name, content in headers if content is not None and name in wanted}
