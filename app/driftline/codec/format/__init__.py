"""Record formats: how a value becomes a document, and a row a value. One file each, which has the name that the
pipeline file uses; nothing outside this package compares their names.

To add one: name it in `core/format`, and write its file here, with a `FORMAT` (`base` lists what it consists of). It is
imported when a pipeline uses it, so it may need a library of its own.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from driftline.core.format import FORMATS, FormatName

if TYPE_CHECKING:
    from driftline.codec.format.base import Document, Format


@cache
def format_of(name: FormatName) -> Format:
    """The format of this name."""
    found: Format = import_module(f"{__name__}.{name}").FORMAT
    return found


def hint_of(document: Document) -> str:
    """What to declare for a document that looks like an envelope which the pipeline does not name."""
    for name in FORMATS:
        if found := format_of(name).looks_like(document):
            return f"; this looks like {found}: declare `envelope: {name}`"
    return ""
