"""Record formats by name, as `envelope` in a pipeline file gives them, and what the file's rules need to know of each.

To add one: name it here, in both places, and write `codec/format/NAME`, which reads and writes its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

FormatName: TypeAlias = Literal["none", "registry_json", "debezium", "cloudevents"]


class Outline(NamedTuple):
    """A format as the pipeline file sees it.

    Args:
        gist: what it is, or what paths lead into, in a few words; empty where the name says it.
        envelope: there is something around the row that paths may begin at, with `$envelope`.
    """

    gist: str
    envelope: bool


FORMATS: Mapping[FormatName, Outline] = {
    "none": Outline("", envelope=False),
    "registry_json": Outline("a schema registry's five-byte prefix", envelope=False),
    "debezium": Outline("the row in payload.after", envelope=True),
    "cloudevents": Outline("data", envelope=True),
}


def listing() -> str:
    """All formats, each with its gist."""
    return ", ".join(f"{name} ({outline.gist})" if outline.gist else name for name, outline in FORMATS.items())
