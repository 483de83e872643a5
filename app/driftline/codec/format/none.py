"""Plain JSON: the value is the document."""

from __future__ import annotations

from driftline.codec.format.base import Format
from driftline.codec.format.frame import plain_object

FORMAT = Format(read=plain_object, write=None, plain=True)
